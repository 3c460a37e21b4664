//! The few calls of S3 that deliver files: to AWS and to servers that speak as it does, new and old.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use aws_config::SdkConfig;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use http::{Method, StatusCode};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::signed::{Answer, Call, RequestError, SignedClient, given_endpoint, refusal};
use super::{percent_encoded, xml};
use crate::error::Result;

/// A part has megabytes: on a slow link it takes minutes.
const PART_TIME: Duration = Duration::from_secs(600);

/// The checksum that goes with each part, so that what is stored is what was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Checksums {
    /// SHA-256 as S3 keeps it.
    #[default]
    Sha256,
    /// CRC-32C as S3 keeps it.
    Crc32c,
    /// `Content-MD5`, for servers from before 2022.
    Md5,
    /// Only the one that the request's signature has.
    None,
}

impl FromStr for Checksums {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        match word {
            "sha256" => Ok(Self::Sha256),
            "crc32c" => Ok(Self::Crc32c),
            "md5" => Ok(Self::Md5),
            "none" => Ok(Self::None),
            _ => Err(format!(
                "`{word}` is no kind of checksum: there are sha256, crc32c, md5 and none"
            )),
        }
    }
}

impl fmt::Display for Checksums {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sha256 => "sha256",
            Self::Crc32c => "crc32c",
            Self::Md5 => "md5",
            Self::None => "none",
        })
    }
}

impl Checksums {
    /// The checksum of a body in base64, and the header that it goes in.
    pub fn of(self, body: &[u8]) -> Option<(&'static str, String)> {
        match self {
            Self::Sha256 => Some(("x-amz-checksum-sha256", BASE64.encode(Sha256::digest(body)))),
            Self::Crc32c => Some((
                "x-amz-checksum-crc32c",
                BASE64.encode(crc32c::crc32c(body).to_be_bytes()),
            )),
            Self::Md5 => Some(("content-md5", BASE64.encode(md5::Md5::digest(body)))),
            Self::None => None,
        }
    }

    /// The name in CreateMultipartUpload, for those that S3 keeps.
    fn kept(self) -> Option<&'static str> {
        match self {
            Self::Sha256 => Some("SHA256"),
            Self::Crc32c => Some("CRC32C"),
            Self::Md5 | Self::None => None,
        }
    }
}

/// How often a body is sent again because another checksum than its own arrived.
const HARMED: u32 = 3;

/// A bucket.
#[derive(Debug, Clone)]
pub struct Bucket {
    client: SignedClient,
    /// Before each key: empty, or `/BUCKET`.
    base: String,
    name: String,
    checksums: Checksums,
}

/// Where a bucket is and how it is spoken to.
#[derive(Debug, Clone, Default)]
pub struct Place {
    /// The bucket's name.
    pub bucket: String,
    /// The server, if it is not AWS.
    pub endpoint: Option<String>,
    /// The region.
    pub region: String,
    /// Whether the bucket stands in the path.
    pub path_style: bool,
    /// The checksum of bodies.
    pub checksums: Checksums,
}

/// An object that is there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Object {
    /// Bytes.
    pub size: u64,
    /// SHA-256, if we put it there.
    pub sha256: Option<String>,
}

/// A part of a complete upload.
#[derive(Debug, Clone)]
pub struct Uploaded {
    /// From 1.
    pub number: u32,
    /// The server's tag.
    pub etag: String,
    /// The checksum that was sent.
    pub checksum: Option<String>,
}

impl Bucket {
    /// The client of a bucket; nothing is asked yet.
    ///
    /// # Errors
    /// As [`SignedClient::new`].
    pub fn new(config: &SdkConfig, place: &Place) -> Result<Self> {
        let given = place
            .endpoint
            .as_ref()
            .map(|endpoint| endpoint.trim_end_matches('/').to_owned())
            .or_else(|| given_endpoint(config, "s3"));
        let domain = if place.region.starts_with("cn-") {
            "amazonaws.com.cn"
        } else {
            "amazonaws.com"
        };
        let name = &place.bucket;
        // A name with dots does not fit the certificate, and a loopback address has no names below it.
        let in_path =
            place.path_style || name.contains('.') || given.as_deref().is_some_and(is_address);
        let server = given.unwrap_or_else(|| format!("https://s3.{}.{domain}", place.region));
        let (endpoint, base) = match server.split_once("://") {
            Some((scheme, host)) if !in_path => {
                (format!("{scheme}://{name}.{host}"), String::new())
            }
            _ => (server, format!("/{name}")),
        };
        Ok(Self {
            client: SignedClient::at(config, "s3", &place.region, endpoint)?,
            base,
            name: name.clone(),
            checksums: place.checksums,
        })
    }

    /// The bucket's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    fn path(&self, key: &str, query: &str) -> String {
        let mut path = format!("{}/", self.base);
        for byte in key.bytes() {
            if byte.is_ascii_alphanumeric() || b"-_.~/".contains(&byte) {
                path.push(char::from(byte));
            } else {
                path.push_str(&format!("%{byte:02X}"));
            }
        }
        path + query
    }

    async fn call(
        &self,
        method: Method,
        path: String,
        headers: Vec<(&'static str, String)>,
        body: Bytes,
    ) -> Result<Answer, RequestError> {
        let call = Call {
            method,
            path,
            headers,
            time: (!body.is_empty()).then_some(PART_TIME),
            body,
            ..Call::default()
        };
        let mut harmed = 0;
        let answer = loop {
            match self.client.send_patiently(&call).await {
                // It came to harm on its way.
                Err(error) if error.is_checksum() && harmed < HARMED => harmed += 1,
                answer => break answer?,
            }
        };
        // S3 begins an answer before it knows how the call ends: an error may come with a good status.
        if answer.body.windows(7).any(|window| window == b"<Error>") {
            let (code, message) = refusal(&answer.headers, &answer.body);
            return Err(RequestError::Refused {
                status: StatusCode::OK,
                code,
                message,
            });
        }
        Ok(answer)
    }

    /// What is known of an object; none if it is not there.
    ///
    /// # Errors
    /// What the server says.
    pub async fn head(&self, key: &str) -> Result<Option<Object>, RequestError> {
        let path = self.path(key, "");
        match self
            .call(Method::HEAD, path, Vec::new(), Bytes::new())
            .await
        {
            Ok(answer) => {
                let text = |name: &str| answer.headers.get(name)?.to_str().ok();
                Ok(Some(Object {
                    size: text("content-length")
                        .and_then(|length| length.parse().ok())
                        .unwrap_or(0),
                    sha256: text("x-amz-meta-sha256").map(str::to_owned),
                }))
            }
            Err(error) if error.code() == "NotFound" || error.code() == "NoSuchKey" => Ok(None),
            Err(error) if error.code() == "AccessDenied" => match self.why_denied().await {
                Some(why) => Err(why),
                // Who may not list a bucket is told this of objects that are not there.
                None => Ok(None),
            },
            Err(error) => Err(self.why_denied().await.unwrap_or(error)),
        }
    }

    /// The region that the bucket is in (GetBucketLocation).
    ///
    /// # Errors
    /// What the server says.
    pub async fn location(&self) -> Result<String, RequestError> {
        let path = self.path("", "?location=");
        let answer = self
            .call(Method::GET, path, Vec::new(), Bytes::new())
            .await?;
        let text = String::from_utf8_lossy(&answer.body);
        let said = super::xml::texts(&text, "LocationConstraint")
            .into_iter()
            .next();
        Ok(match said.as_deref() {
            // The oldest region has no name here, and the second has an old one.
            None | Some("") => "us-east-1".into(),
            Some("EU") => "eu-west-1".into(),
            Some(region) => region.to_owned(),
        })
    }

    /// A refused HEAD has no body that says why. Another question to the bucket has one: none if that is merely not permitted.
    async fn why_denied(&self) -> Option<RequestError> {
        let path = self.path("", "?location=");
        let answer = self.call(Method::GET, path, Vec::new(), Bytes::new()).await;
        answer.err().filter(|error| error.code() != "AccessDenied")
    }

    /// Puts a small object in one request.
    ///
    /// # Errors
    /// What the server says.
    pub async fn put(&self, key: &str, body: Bytes, sha256: &str) -> Result<(), RequestError> {
        let mut headers = vec![
            ("content-type", "application/octet-stream".to_owned()),
            ("x-amz-meta-sha256", sha256.to_owned()),
        ];
        headers.extend(self.checksums.of(&body));
        self.call(Method::PUT, self.path(key, ""), headers, body)
            .await
            .map(drop)
    }

    /// Begins an upload of several parts and gives its id.
    ///
    /// # Errors
    /// What the server says.
    pub async fn begin(&self, key: &str, sha256: &str) -> Result<String, RequestError> {
        let mut headers = vec![
            ("content-type", "application/octet-stream".to_owned()),
            ("x-amz-meta-sha256", sha256.to_owned()),
        ];
        if let Some(kind) = self.checksums.kept() {
            headers.push(("x-amz-checksum-algorithm", kind.to_owned()));
            headers.push(("x-amz-checksum-type", "COMPOSITE".to_owned()));
        }
        let path = self.path(key, "?uploads=");
        let answer = self.call(Method::POST, path, headers, Bytes::new()).await?;
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        xml::texts(&text, "UploadId")
            .into_iter()
            .next()
            .ok_or_else(|| {
                RequestError::Transport(
                    "the answer to CreateMultipartUpload has no UploadId".into(),
                )
            })
    }

    /// Puts a part and gives its tag and the checksum that went with it.
    ///
    /// # Errors
    /// What the server says.
    pub async fn part(
        &self,
        key: &str,
        upload: &str,
        number: u32,
        body: Bytes,
    ) -> Result<Uploaded, RequestError> {
        let query = format!("?partNumber={number}&uploadId={}", percent_encoded(upload));
        let checksum = self.checksums.of(&body);
        let headers = checksum.clone().into_iter().collect();
        let answer = self
            .call(Method::PUT, self.path(key, &query), headers, body)
            .await?;
        let etag = answer
            .headers
            .get("etag")
            .and_then(|etag| etag.to_str().ok())
            .ok_or_else(|| {
                RequestError::Transport("the answer to UploadPart has no ETag".into())
            })?;
        Ok(Uploaded {
            number,
            etag: etag.to_owned(),
            checksum: checksum.map(|(_, checksum)| checksum),
        })
    }

    /// Tags of the parts that the server has, by number; none if it does not know the upload.
    ///
    /// # Errors
    /// What the server says.
    pub async fn parts(
        &self,
        key: &str,
        upload: &str,
    ) -> Result<Option<Vec<(u32, String)>>, RequestError> {
        let mut parts = Vec::new();
        let mut after = String::new();
        loop {
            let query = format!("?uploadId={}{after}", percent_encoded(upload));
            let path = self.path(key, &query);
            let answer = match self.call(Method::GET, path, Vec::new(), Bytes::new()).await {
                Ok(answer) => answer,
                Err(error) if error.code() == "NoSuchUpload" || error.code() == "NotFound" => {
                    return Ok(None);
                }
                Err(error) => return Err(error),
            };
            let text = String::from_utf8_lossy(&answer.body).into_owned();
            let numbers = xml::texts(&text, "PartNumber");
            let page: Vec<(u32, String)> = numbers
                .iter()
                .filter_map(|number| number.parse().ok())
                .zip(xml::texts(&text, "ETag"))
                .collect();
            let last = page.last().map(|(number, _)| *number);
            parts.extend(page);
            match last {
                Some(last)
                    if xml::texts(&text, "IsTruncated")
                        .first()
                        .is_some_and(|more| more == "true") =>
                {
                    after = format!("&part-number-marker={last}");
                }
                _ => return Ok(Some(parts)),
            }
        }
    }

    /// Joins the parts of an upload, which must be in order.
    ///
    /// # Errors
    /// What the server says.
    pub async fn complete(
        &self,
        key: &str,
        upload: &str,
        parts: &[Uploaded],
    ) -> Result<(), RequestError> {
        use std::fmt::Write as _;
        let mut body = String::from(
            "<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">",
        );
        for part in parts {
            let _ = write!(
                body,
                "<Part><PartNumber>{}</PartNumber><ETag>{}</ETag>",
                part.number,
                part.etag.replace('"', "&quot;")
            );
            if let (Some(kind), Some(checksum)) = (self.checksums.kept(), &part.checksum) {
                let _ = write!(body, "<Checksum{kind}>{checksum}</Checksum{kind}>");
            }
            body.push_str("</Part>");
        }
        body.push_str("</CompleteMultipartUpload>");
        let headers = vec![("content-type", "application/xml".to_owned())];
        let path = self.path(key, &format!("?uploadId={}", percent_encoded(upload)));
        let answer = self.call(Method::POST, path, headers, body.into()).await?;
        let told = String::from_utf8_lossy(&answer.body).into_owned();
        // What the server made of the parts must be what we made of them.
        if let Some(kind) = self.checksums.kept()
            && let Some(told) = xml::texts(&told, &format!("Checksum{kind}")).first()
            && let Some(ours) = self.composite(parts)
            && told.split('-').next() != ours.split('-').next()
        {
            return Err(RequestError::Refused {
                status: StatusCode::OK,
                code: "BadDigest".into(),
                message: format!("the object's checksum is {told} and not {ours}"),
            });
        }
        Ok(())
    }

    /// The checksum of checksums that an object of several parts has.
    fn composite(&self, parts: &[Uploaded]) -> Option<String> {
        let mut joined = Vec::new();
        for part in parts {
            joined.extend(BASE64.decode(part.checksum.as_ref()?).ok()?);
        }
        let (_, checksum) = self.checksums.of(&joined)?;
        Some(format!("{checksum}-{}", parts.len()))
    }

    /// Gives an upload up; one that is not there any more is no error.
    ///
    /// # Errors
    /// What the server says.
    pub async fn abort(&self, key: &str, upload: &str) -> Result<(), RequestError> {
        let path = self.path(key, &format!("?uploadId={}", percent_encoded(upload)));
        match self
            .call(Method::DELETE, path, Vec::new(), Bytes::new())
            .await
        {
            Err(error) if error.code() != "NoSuchUpload" && error.code() != "NotFound" => {
                Err(error)
            }
            _ => Ok(()),
        }
    }

    /// Removes an object; one that is not there is no error.
    ///
    /// # Errors
    /// What the server says.
    pub async fn delete(&self, key: &str) -> Result<(), RequestError> {
        let path = self.path(key, "");
        match self
            .call(Method::DELETE, path, Vec::new(), Bytes::new())
            .await
        {
            Err(error) if error.code() != "NoSuchKey" && error.code() != "NotFound" => Err(error),
            _ => Ok(()),
        }
    }
}

/// Whether a server is given by its address or as localhost.
fn is_address(server: &str) -> bool {
    let host = server.split_once("://").map_or(server, |(_, host)| host);
    let host = host.split('/').next().unwrap_or_default();
    let name = host
        .rsplit_once(':')
        .filter(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()))
        .map_or(host, |(name, _)| name);
    let name = name.trim_matches(['[', ']']);
    name == "localhost" || name.parse::<std::net::IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_those_of_the_reference() {
        // The check value of CRC-32C (RFC 3720) and the MD5 of RFC 1321 for the same digits.
        assert_eq!(
            Checksums::Crc32c.of(b"123456789").unwrap().1,
            BASE64.encode(0xe306_9283_u32.to_be_bytes())
        );
        assert_eq!(
            Checksums::Md5.of(b"abc").unwrap().1,
            BASE64.encode(hex::decode("900150983cd24fb0d6963f7d28e17f72").unwrap())
        );
        assert_eq!(Checksums::None.of(b"x"), None);
        assert_eq!("md5".parse(), Ok(Checksums::Md5));
        assert!("sha1".parse::<Checksums>().is_err());
    }

    #[test]
    fn addresses_have_buckets_in_the_path() {
        for (server, address) in [
            ("http://127.0.0.1:9000", true),
            ("http://[::1]:9000", true),
            ("http://localhost", true),
            ("https://minio.example.org:9000", false),
            ("https://s3.eu-west-1.amazonaws.com", false),
        ] {
            assert_eq!(is_address(server), address, "{server}");
        }
    }
}
