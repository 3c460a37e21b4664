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

/// What AWS wants encoded in names, queries and forms: everything but RFC 3986's unreserved characters.
const RESERVED: &percent_encoding::AsciiSet = &percent_encoding::NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// A text for a path, a query or a form.
fn percent_encoded(text: &str) -> percent_encoding::PercentEncode<'_> {
    percent_encoding::utf8_percent_encode(text, RESERVED)
}
