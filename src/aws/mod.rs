//! What is asked of AWS, or of servers that speak as it does.

mod config;
pub mod ebs;
pub mod ec2;
pub mod json;
pub mod object_proxy;
pub mod query;
pub mod s3;
pub mod secrets_manager;
pub mod signed;
pub mod stored_values;
pub mod xml;

pub use config::{Access, as_role, load, partition};
