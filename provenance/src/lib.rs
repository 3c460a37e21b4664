//! Provenance of machine images: what an image was made from, signed, and proven again by somebody who has only the files.
//!
//! A bake is described by an in-toto [statement](statement::Statement) with SLSA provenance, the statement is wrapped in a
//! DSSE [envelope](dsse::Envelope) and signed with one or more [keys](key::PrivateKey), and [`folder::verify`] compares a
//! folder with it. Nothing here needs a network, a store or a home.

pub mod dsse;
pub mod external;
pub mod folder;
pub mod key;
pub mod statement;
