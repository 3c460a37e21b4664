//! Ovenbird: EC2 Image Builder on your own machine.
//!
//! Arrows go one way: `cli → bake → {machine, guest, catalog, output, distribute, store} → {documents, component,
//! disk}`.

mod ami_name;
pub mod aws;
pub mod bake;
pub mod catalog;
pub mod cli;
pub mod distribute;
pub mod documents;
pub mod error;
pub mod events;
pub mod garbage;
pub mod guest;
pub mod infrastructure;
pub mod layers;
pub mod lifecycle;
pub mod loopback;
pub mod machine;
pub mod output;
pub mod packages;
pub mod pipeline;
pub mod registry;
pub mod report;
pub mod sbom;
pub mod schedule;
pub mod signing;
pub mod store;
pub mod timings;
pub mod vulnerabilities;
pub mod words;
