//! Base images: what there is, what is on the shelf, and the ways onto it.
//!
//! The shelf is the folder `<home>/bases/<name>/<version>/`: a disk and a typed record, [`record::Record`]. Images come
//! onto it by [`pull`](fn@pull::pull) (a distribution's public cloud image), [`bootstrap::build`] (from the package mirror of
//! this machine) or [`import`](fn@import::import) (any local disk), and always by one rename, after their digest was
//! checked. [`resolve()`] turns what a recipe says into a disk whose digest holds *now*.
//!
//! Nothing here knows of a terminal: long work reports to a [`progress::Progress`].

pub mod bootstrap;
pub mod digest;
pub mod discover;
pub mod entry;
mod error;
pub(crate) mod fetch;
pub mod import;
pub mod inspect;
pub mod progress;
pub mod pull;
pub mod record;
pub mod reference;
pub mod registry;
pub mod remote;
mod resolve;
mod seal;
pub mod shelf;
#[cfg(test)]
mod test_server;
mod tool;
pub mod version;

pub use error::{CatalogError, Result};
pub use record::{DirectKernel, Origin};
pub use reference::Reference;
pub use resolve::{BaseImage, resolve};
pub use shelf::Shelf;
pub use version::{Version, VersionPattern};
