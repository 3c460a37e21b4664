//! What is asked of AWS, or of servers that speak as it does.

mod config;
pub mod object_proxy;
pub mod stored_values;

pub use config::load;
