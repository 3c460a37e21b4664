//! What is asked of AWS, or of servers that speak as it does.

mod config;
pub mod ebs;
pub mod ec2;
pub mod object_proxy;
pub mod signed;
pub mod stored_values;
mod xml;

pub use config::load;
