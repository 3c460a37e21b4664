//! AWS Signature Version 4 for S3 requests.

use std::collections::BTreeMap;
use std::time::SystemTime;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::clock;
use crate::digest::{hex, sha256};

/// A key and its secret.
#[derive(Clone)]
pub struct Credentials {
    /// Identity of the key.
    pub access_key_id: String,
    /// The secret.
    pub secret_access_key: String,
    /// Token of temporary credentials.
    pub session_token: Option<String>,
}

/// Signs requests for one region.
pub struct Signer<'a> {
    /// The key.
    pub credentials: &'a Credentials,
    /// The region.
    pub region: &'a str,
    /// The moment that the signature names.
    pub now: SystemTime,
}

/// The body is not part of the signature; TLS or the loopback protects it, and the ETag is not relied upon.
const UNSIGNED: &str = "UNSIGNED-PAYLOAD";

impl Signer<'_> {
    /// The headers that make a request authentic. `path` is encoded already, `query` is not.
    pub fn headers(
        &self,
        method: &str,
        host: &str,
        path: &str,
        query: &[(&str, &str)],
        extra: &[(&str, &str)],
    ) -> Vec<(String, String)> {
        let stamp = clock::compact(self.now);
        let day = &stamp[..8];
        let mut headers: BTreeMap<String, String> = extra
            .iter()
            .map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()))
            .collect();
        headers.insert("host".to_owned(), host.to_owned());
        headers.insert("x-amz-content-sha256".to_owned(), UNSIGNED.to_owned());
        headers.insert("x-amz-date".to_owned(), stamp.clone());
        if let Some(token) = &self.credentials.session_token {
            headers.insert("x-amz-security-token".to_owned(), token.clone());
        }
        let canonical_headers: String = headers
            .iter()
            .map(|(name, value)| format!("{name}:{value}\n"))
            .collect();
        let signed = headers
            .keys()
            .map(String::as_str)
            .collect::<Vec<_>>()
            .join(";");
        let request = format!(
            "{method}\n{path}\n{}\n{canonical_headers}\n{signed}\n{UNSIGNED}",
            encode_query(query)
        );
        let scope = format!("{day}/{}/s3/aws4_request", self.region);
        let text = format!(
            "AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{}",
            sha256(request.as_bytes())
        );
        let mut key = mac(
            format!("AWS4{}", self.credentials.secret_access_key).as_bytes(),
            day,
        );
        for part in [self.region, "s3", "aws4_request"] {
            key = mac(&key, part);
        }
        let signature = hex(&mac(&key, &text));
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={signed}, Signature={signature}",
            self.credentials.access_key_id
        );
        headers.remove("host");
        headers.insert("authorization".to_owned(), authorization);
        headers.into_iter().collect()
    }
}

fn mac(key: &[u8], text: &str) -> Vec<u8> {
    // HMAC takes keys of any length, so this cannot fail.
    Hmac::<Sha256>::new_from_slice(key).map_or_else(
        |_| Vec::new(),
        |mut mac| {
            mac.update(text.as_bytes());
            mac.finalize().into_bytes().to_vec()
        },
    )
}

/// Percent-encodes everything but the unreserved characters; `keep_slash` leaves separators of a path alone.
fn encode(text: &str, keep_slash: bool) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        let plain = byte.is_ascii_alphanumeric()
            || matches!(byte, b'-' | b'.' | b'_' | b'~')
            || (keep_slash && byte == b'/');
        if plain {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

/// An object key as the path of a request.
pub fn encode_path(path: &str) -> String {
    encode(path, true)
}

/// A query in the order that signatures want.
pub fn encode_query(query: &[(&str, &str)]) -> String {
    let mut pairs: Vec<String> = query
        .iter()
        .map(|(name, value)| format!("{}={}", encode(name, false), encode(value, false)))
        .collect();
    pairs.sort();
    pairs.join("&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_encoded_as_the_signature_wants() {
        assert_eq!(encode_path("a b/ü+~.txt"), "a%20b/%C3%BC%2B~.txt");
        assert_eq!(
            encode_query(&[("prefix", "a/b"), ("list-type", "2")]),
            "list-type=2&prefix=a%2Fb"
        );
    }

    #[test]
    fn the_key_derivation_matches_the_published_example() {
        // Example of the signature's documentation: secret, day, region, service.
        let mut key = mac(b"AWS4wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "20150830");
        for part in ["us-east-1", "iam", "aws4_request"] {
            key = mac(&key, part);
        }
        assert_eq!(
            hex(&key),
            "c4afb1cc5771d871763a393e44b703571b55cc28424d1a5e86da6ed3c154a4b9"
        );
    }
}
