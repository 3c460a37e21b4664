//! Component documents: the declarative language that says what to do inside a guest.
