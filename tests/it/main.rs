//! Integration tests of the binary. Names that begin with `guest_` boot a guest: the test runner runs them one by one.

mod bake;
mod base;
mod cli;
mod component;
mod distribute;
mod distribute_accounts;
mod distribute_ebs;
mod distribute_import;
mod distribute_models;
mod distribute_registry;
mod distribute_s3;
mod documents;
mod ebs_server;
mod failures;
mod layers;
mod moto;
mod outside;
mod pipelines;
mod registry;
mod sbom;
mod setup;
mod signing;
mod store;
mod store_crashes;
mod torture;
mod trial;
