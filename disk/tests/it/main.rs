//! Integration tests: real tools make the fixtures and judge the results.

mod containers;
mod corpus;
mod fixtures;
mod formats;
mod guest;
mod hostile;
mod oci;
mod preflight;
mod tree;
