//! Builds the guest agent as a static program and hands its path to the crate, which embeds it.
//!
//! The agent must not depend on the guest's C library, so it is linked statically: with the gnu target and
//! `crt-static`, since that needs nothing beyond the host's own toolchain. It gets a target folder of its own: the
//! outer cargo holds the lock of the usual one.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    for path in [
        "guest-agent/src",
        "guest-agent/Cargo.toml",
        "component/src",
        "component/Cargo.toml",
        "Cargo.lock",
    ] {
        println!("cargo:rerun-if-changed={path}");
    }
    println!("cargo:rerun-if-env-changed=OVENBIRD_AGENT_BIN");
    let agent = match env::var_os("OVENBIRD_AGENT_BIN") {
        // Packagers build it themselves, for a libc of their choice.
        Some(path) => PathBuf::from(path),
        None => build_agent(),
    };
    let size = std::fs::metadata(&agent).map_or(0, |data| data.len());
    assert!(
        size > 0,
        "the guest agent {} does not exist or is empty",
        agent.display()
    );
    println!("cargo:rustc-env=OVENBIRD_AGENT_BIN={}", agent.display());
}

fn build_agent() -> PathBuf {
    let root = PathBuf::from(variable("CARGO_MANIFEST_DIR"));
    let target = format!("{}-unknown-linux-gnu", variable("CARGO_CFG_TARGET_ARCH"));
    // OUT_DIR is <target folder>/<profile>/build/<package>/out; one agent serves every profile.
    let out = PathBuf::from(variable("OUT_DIR"));
    let folder = out
        .ancestors()
        .nth(4)
        .unwrap_or(Path::new("target"))
        .join("agent");
    let mut command = Command::new(variable("CARGO"));
    command
        .current_dir(&root)
        .args([
            "build",
            "--package",
            "ovenbird-agent",
            "--profile",
            "agent",
            "--locked",
        ])
        .args(["--target", &target])
        .arg("--target-dir")
        .arg(&folder)
        .env("RUSTFLAGS", "-C target-feature=+crt-static")
        // Flags and wrappers of the outer build (clippy, coverage, an encoded RUSTFLAGS) are not meant for the agent.
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("RUSTC_WORKSPACE_WRAPPER")
        .env_remove("RUSTC_WRAPPER")
        .env_remove("RUSTC")
        .env_remove("CARGO_BUILD_TARGET");
    let status = command.status().expect("cargo can be started");
    assert!(
        status.success(),
        "building the guest agent failed: {status}"
    );
    folder.join(target).join("agent/ovenbird-agent")
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| panic!("cargo sets {name}"))
}
