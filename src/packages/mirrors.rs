//! Which servers the package cache asks for a guest: mirrors, but neither this machine itself nor what tells a cloud's
//! machines who they are. The request is the host's own, so none of what holds the guest back would.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect::Policy;
use serde::Deserialize;

/// `[packages]` of a home's `config.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct PackageSettings {
    /// The only servers that are asked, by name or address; if none is named, all but this machine and its cloud.
    pub mirrors: Vec<String>,
}

/// So many refused servers are remembered; a guest must not fill memory with names.
const MOST_REFUSED: usize = 8;
/// So many servers may send on to each other.
const MOST_REDIRECTS: usize = 10;

/// Where clouds tell a machine who it is, beside the link-local addresses: AWS by IPv6, Azure's host, Alibaba.
const METADATA: [IpAddr; 3] = [
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
];

/// What decides.
#[derive(Debug, Clone)]
pub(super) struct Mirrors {
    /// From the settings.
    named: Arc<[String]>,
    /// Proxies by which this machine reaches others, wherever they are.
    proxies: Arc<[String]>,
    /// What was asked for in vain.
    refused: Arc<Mutex<BTreeSet<String>>>,
}

impl Mirrors {
    pub(super) fn new(settings: &PackageSettings) -> Self {
        let proxies = ["http_proxy", "https_proxy", "all_proxy"]
            .iter()
            .flat_map(|name| [(*name).to_owned(), name.to_uppercase()])
            .filter_map(|name| std::env::var(name).ok())
            .filter_map(|proxy| Some(Url::parse(&proxy).ok()?.host_str()?.to_owned()));
        Self {
            named: settings.mirrors.clone().into(),
            proxies: proxies.collect(),
            refused: Arc::default(),
        }
    }

    /// The servers that were asked for in vain, and why, for the person; `None` if there are none.
    pub(super) fn refused(&self) -> Option<String> {
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        if refused.is_empty() {
            return None;
        }
        let hosts: Vec<&str> = refused.iter().map(String::as_str).collect();
        let why = if self.named.is_empty() {
            "this machine's own or its cloud's; a mirror among them has to be named under `packages.mirrors` of config.toml"
        } else {
            "not among `packages.mirrors` of config.toml"
        };
        Some(format!("not asked: {} ({why})", hosts.join(", ")))
    }

    fn refuse(&self, host: &str) -> String {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        if refused.len() < MOST_REFUSED {
            refused.insert(host.to_owned());
        }
        if self.named.is_empty() {
            format!(
                "{host} is this machine or its cloud's; if it is a mirror, name it under `packages.mirrors` of config.toml"
            )
        } else {
            format!("{host} is not among `packages.mirrors` of config.toml")
        }
    }

    /// Whether an address may be asked, as far as that can be told before its name is looked up; if not, why.
    pub(super) fn check(&self, url: &Url) -> Result<(), String> {
        let host = url.host_str().unwrap_or_default();
        if !self.named.is_empty() {
            return match self.names(host) {
                true => Ok(()),
                false => Err(self.refuse(host)),
            };
        }
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        match bare.parse() {
            Ok(address) if is_near(address) => Err(self.refuse(host)),
            _ => Ok(()),
        }
    }

    fn names(&self, host: &str) -> bool {
        self.named
            .iter()
            .any(|name| name.eq_ignore_ascii_case(host))
    }

    /// Follows where a mirror sends on to, under the same conditions.
    pub(super) fn redirects(&self) -> Policy {
        let mirrors = self.clone();
        Policy::custom(move |attempt| match mirrors.check(attempt.url()) {
            Err(reason) => attempt.error(reason),
            Ok(()) if attempt.previous().len() > MOST_REDIRECTS => {
                attempt.error("too many redirects")
            }
            Ok(()) => attempt.follow(),
        })
    }
}

impl Resolve for Mirrors {
    fn resolve(&self, name: Name) -> Resolving {
        let mirrors = self.clone();
        Box::pin(async move {
            let name = name.as_str();
            let is_known = mirrors.names(name) || mirrors.proxies.iter().any(|proxy| proxy == name);
            let found: Vec<_> = tokio::net::lookup_host((name, 0))
                .await?
                .filter(|address| is_known || !is_near(address.ip()))
                .collect();
            if found.is_empty() {
                return Err(mirrors.refuse(name).into());
            }
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

/// Whether it is this machine, something on the same wire, or its cloud.
fn is_near(address: IpAddr) -> bool {
    let address = address.to_canonical();
    let near = match address {
        IpAddr::V4(address) => address.is_link_local() || address.is_broadcast(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    near || address.is_loopback()
        || address.is_unspecified()
        || address.is_multicast()
        || METADATA.contains(&address)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(mirrors: &[&str], url: &str) -> Result<(), String> {
        let settings = PackageSettings {
            mirrors: mirrors.iter().map(|name| (*name).to_owned()).collect(),
        };
        Mirrors::new(&settings).check(&Url::parse(url).unwrap())
    }

    #[test]
    fn this_machine_and_its_cloud_are_not_asked() {
        for near in [
            "http://127.0.0.1:2375/containers",
            "http://2130706433/",
            "http://[::1]/",
            "http://[::ffff:127.0.0.1]/",
            "http://0.0.0.0/",
            "http://169.254.169.254/latest/meta-data/",
            "http://[fe80::1]/",
            "http://[fd00:ec2::254]/",
            "http://168.63.129.16/",
        ] {
            check(&[], near).unwrap_err();
        }
        for mirror in [
            "http://deb.debian.org/debian",
            "http://10.0.0.5/debian",
            "http://[2001:db8::1]/",
        ] {
            check(&[], mirror).unwrap();
        }
    }

    #[test]
    fn with_named_mirrors_no_other_is_asked() {
        let named = ["mirror.example.org", "127.0.0.1"];
        check(&named, "http://Mirror.example.org/debian").unwrap();
        check(&named, "http://127.0.0.1:3142/").unwrap();
        let refused = check(&named, "http://deb.debian.org/").unwrap_err();
        insta::assert_snapshot!(refused, @"deb.debian.org is not among `packages.mirrors` of config.toml");
    }

    #[tokio::test]
    async fn a_name_that_leads_here_is_not_asked_unless_it_is_named() {
        let resolve = |mirrors: &[&str]| {
            let settings = PackageSettings {
                mirrors: mirrors.iter().map(|name| (*name).to_owned()).collect(),
            };
            let mirrors = Mirrors::new(&settings);
            async move { mirrors.resolve("localhost".parse().unwrap()).await }
        };
        let refused = resolve(&[]).await.err().unwrap();
        assert!(refused.to_string().starts_with("localhost is this machine"));
        assert!(resolve(&["localhost"]).await.unwrap().count() > 0);
    }
}
