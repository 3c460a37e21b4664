//! Component documents: the declarative language that says what to do inside a guest.
//!
//! The crate is shared by the host and by the agent in the guest. It knows the language and nothing else: no process is
//! started, no file is read and no network is touched here.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod action;
pub mod attend;
pub mod condition;
pub mod document;
pub mod errand;
pub mod event;
pub mod reference;
pub mod schema;
mod skeleton;
pub mod source;
mod validate;
pub mod value;

pub use skeleton::skeleton;
pub use validate::{Options, Validated, validate_bytes, validate_source};
