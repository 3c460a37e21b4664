//! OCI registries: what is pushed to them and pulled from them.
//!
//! [`Registry`] speaks the distribution protocol with one host: log in, look whether a blob is there, mount or send it,
//! put manifests, fetch. On it stand [`push`] (an image layout, or content of one's own), [`disk`] (a disk in pieces, there
//! and back) and [`referrers`](Registry::referrers); on these [`deliver()`], the whole way of an image into a repository. [`ecr`] has what is Amazon's own. Nothing here knows of a terminal:
//! long work reports to a [`Progress`](crate::catalog::progress::Progress).

mod archive;
mod auth;
mod blocking;
mod client;
mod container_disk;
mod credentials;
pub mod deliver;
pub mod disk;
mod download;
pub mod ecr;
mod error;
mod export;
mod manifests;
mod model;
pub mod push;
mod reference;
mod retry;
pub mod signatures;
mod tags;
mod upload;

pub use archive::open_layout;
pub use client::{Options, Registry};
pub use container_disk::extract_disk;
pub use credentials::{Credential, Credentials};
pub use deliver::{Delivered, ImageFolder, Item, Shape, Target, deliver};
pub use download::MAX_SMALL;
pub use error::{RegistryError, Result};
pub use manifests::Fetched;
pub use model::{Descriptor, Index, Manifest, Platform, media, sha256_of_bytes};
pub use push::{Content, Pushed, Source, Tally};
pub use reference::{ImageReference, is_tag};
pub use retry::Patience;
pub use tags::{TagValues, expand_tag};
pub use upload::Sent;
