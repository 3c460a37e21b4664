//! Registries: a real one on loopback, and a proxy before it that counts, and breaks what it is told to break.

mod aws;
mod faults;
mod guest;
mod logins;
mod proxy;
mod pushes;
pub mod server;
mod signatures;
mod tokens;

use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use ovenbird::registry::{
    Credentials, Descriptor, ImageReference, Options, Patience, Registry, Source,
};

use crate::setup::{Ran, Setup, tool};

const MIB: usize = 1 << 20;

/// Bytes that do not compress, different for each seed.
fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// A bootable-looking raw disk of 8 MiB: data in pieces 0, 1, 3 and 6 of 1 MiB, zeros elsewhere.
fn raw_disk(setup: &Setup) -> Utf8PathBuf {
    let mut bytes = vec![0; 8 * MIB];
    for piece in [0usize, 1, 3, 6] {
        bytes[piece * MIB..][..MIB - 512].copy_from_slice(&noise(MIB - 512, piece as u64 + 1));
    }
    bytes[..4].copy_from_slice(&[0xeb, 0x63, 0x90, 0x10]);
    bytes[446..510].fill(0);
    bytes[510..512].copy_from_slice(&[0x55, 0xaa]);
    let path = setup.path().join("disk.raw");
    std::fs::write(&path, bytes).unwrap();
    path
}

/// Quick to try again, and never with this machine's logins.
fn options() -> Options {
    Options {
        patience: Patience {
            first_pause: Duration::from_millis(10),
            longest_pause: Duration::from_secs(2),
            attempts: 4,
            deadline: Duration::from_secs(60),
            stall: Duration::from_secs(1),
        },
        credentials: Credentials::None,
        ..Options::default()
    }
}

fn registry(host: &str, name: &str, options: Options) -> Registry {
    let reference: ImageReference = format!("{host}/{name}").parse().unwrap();
    Registry::new(&reference, options).unwrap()
}

/// A blob in a file with its descriptor.
fn blob(setup: &Setup, length: usize, seed: u64) -> (Descriptor, Source) {
    let bytes = noise(length, seed);
    let path = setup.path().join(format!("blob-{seed}"));
    std::fs::write(&path, &bytes).unwrap();
    let descriptor = Descriptor::of("application/octet-stream", &bytes);
    (descriptor, Source::File(path))
}

fn same_content(one: &Utf8Path, other: &Utf8Path) {
    tool("qemu-img", &["compare", one.as_str(), other.as_str()]);
}

/// The disk digest of a disk in whatever file.
fn digest(setup: &Setup, disk: &Utf8Path) -> String {
    let printed = setup.run(&["disk", "digest", disk.as_str()]).expect(0);
    let digest = printed.stdout.split_whitespace().next().unwrap();
    assert!(digest.len() > 32, "{digest}");
    digest.to_owned()
}

/// The program, with these logins alone.
fn run_with(setup: &Setup, auth: &str, arguments: &[&str]) -> Ran {
    let file = setup.file("auth.json", auth);
    let path = format!("{}:{}", setup.path(), std::env::var("PATH").unwrap());
    let mut command = setup.ovenbird(arguments);
    command.env("REGISTRY_AUTH_FILE", file).env("PATH", path);
    Ran::of(command.output().unwrap())
}

/// What a push with `--json` says.
fn pushed(ran: Ran) -> serde_json::Value {
    serde_json::from_str(&ran.expect(0).stdout).unwrap()
}
