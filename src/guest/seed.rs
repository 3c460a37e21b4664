//! The NoCloud seed: a small FAT disk labelled `CIDATA` that tells cloud-init who the guest is.
//!
//! It is attached as a virtio disk: Debian's cloud kernel has no CD-ROM driver and would not see an ISO.
//! Behind the volume lies the agent, so that the guest need not decrypt megabytes that come over SSH.
//! Format: <https://cloudinit.readthedocs.io/en/latest/reference/datasources/nocloud.html>.

use std::io::{Cursor, Write as _};

use camino::Utf8Path;
use fatfs::{FatType, FileSystem, FormatVolumeOptions, FsOptions};

use super::agent;
use super::keys::BakeKeys;
use crate::error::{Failure, FailureContext as _, FailureKind, Result};

/// The label by which cloud-init finds the seed, padded to FAT's eleven bytes.
const LABEL: [u8; 11] = *b"CIDATA     ";
/// Room for user data of a few hundred KiB; small enough that writing it costs nothing.
const SEED_SIZE: usize = 2 * 1024 * 1024;
const SECTOR: usize = 512;
/// Where the agent begins on the disk: right behind the volume, at a whole MiB.
pub const AGENT_AT: usize = SEED_SIZE;
/// The user that a bake logs in as; removed by sanitising.
pub const BAKE_USER: &str = "ovenbird";

/// The documents of a seed.
///
/// There is no network configuration: cloud-init's own default, DHCP on the first card, is what every renderer can do
/// (a `match` by name is ignored where the guest uses ifupdown).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seed {
    /// Instance id and host name.
    pub meta_data: String,
    /// `#cloud-config`.
    pub user_data: String,
}

/// What the seeded guest is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Only our components run: everything of cloud-init that they don't need is left out.
    Build,
    /// As its users will boot it: cloud-init runs in full.
    Test,
}

impl Seed {
    /// The seed of a guest that lets in `keys` as [`BAKE_USER`] and identifies itself with their host key.
    ///
    /// # Errors
    /// An internal failure if a key can't be encoded.
    pub fn for_guest(
        purpose: Purpose,
        instance_id: &str,
        hostname: &str,
        keys: &BakeKeys,
    ) -> Result<Self> {
        let authorized = keys.authorized_key()?;
        let host_public = keys.host_public()?;
        let host_private = indent(&keys.host_private()?, 4);
        let mut user_data = format!(
            "#cloud-config\n\
             users:\n\
             - name: {BAKE_USER}\n\
             \x20 gecos: image build\n\
             \x20 lock_passwd: true\n\
             \x20 shell: /bin/sh\n\
             \x20 sudo: \"ALL=(ALL) NOPASSWD:ALL\"\n\
             \x20 ssh_authorized_keys:\n\
             \x20 - {authorized}\n\
             ssh_keys:\n\
             \x20 ed25519_public: {host_public}\n\
             \x20 ed25519_private: |\n{host_private}"
        );
        if purpose == Purpose::Build {
            // These stages start an interpreter each and do nothing that a bake needs; under software emulation
            // every one costs seconds. What makes the guest reachable and grows its disk is in the first stage.
            user_data.push_str(
                "cloud_init_modules: [growpart, resizefs, set_hostname, users_groups, ssh]\n\
                 cloud_config_modules: []\n\
                 cloud_final_modules: []\n",
            );
        }
        Ok(Self {
            meta_data: format!("instance-id: {instance_id}\nlocal-hostname: {hostname}\n"),
            user_data,
        })
    }

    /// Writes the seed's disk.
    ///
    /// # Errors
    /// [`FailureKind::Environment`] if the file can't be written, [`FailureKind::Config`] if the documents don't fit.
    pub fn write(&self, path: &Utf8Path) -> Result<()> {
        let image = self.image().or_failure(FailureKind::Config, || {
            "the seed's documents do not fit on its disk".into()
        })?;
        // It holds the guest's private host key.
        use std::os::unix::fs::OpenOptionsExt as _;
        std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(path)
            .and_then(|mut file| {
                file.write_all(&image)?;
                file.write_all(agent::bytes())?;
                // A disk is a whole number of sectors.
                file.set_len((AGENT_AT + agent::bytes().len()).next_multiple_of(SECTOR) as u64)
            })
            .map_err(|error| {
                Failure::environment(format!("cannot write the seed {path}")).caused_by(error)
            })
    }

    fn image(&self) -> std::io::Result<Vec<u8>> {
        let mut image = Cursor::new(vec![0; SEED_SIZE]);
        fatfs::format_volume(
            &mut image,
            FormatVolumeOptions::new()
                .volume_label(LABEL)
                .fat_type(FatType::Fat12),
        )?;
        let volume = FileSystem::new(&mut image, FsOptions::new())?;
        {
            let root = volume.root_dir();
            for (name, text) in [
                ("meta-data", &self.meta_data),
                ("user-data", &self.user_data),
            ] {
                let mut file = root.create_file(name)?;
                file.truncate()?;
                file.write_all(text.as_bytes())?;
                file.flush()?;
            }
        }
        volume.unmount()?;
        Ok(image.into_inner())
    }
}

fn indent(text: &str, spaces: usize) -> String {
    let pad = " ".repeat(spaces);
    text.lines().fold(String::new(), |mut out, line| {
        out.push_str(&pad);
        out.push_str(line);
        out.push('\n');
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;

    #[test]
    fn image_reads_back() {
        let keys = BakeKeys::generate().unwrap();
        let seed = Seed::for_guest(Purpose::Build, "i-1", "web", &keys).unwrap();
        let image = seed.image().unwrap();
        let volume = FileSystem::new(Cursor::new(image), FsOptions::new()).unwrap();
        assert_eq!(volume.volume_label(), "CIDATA");
        let mut text = String::new();
        volume
            .root_dir()
            .open_file("user-data")
            .unwrap()
            .read_to_string(&mut text)
            .unwrap();
        assert_eq!(text, seed.user_data);
        assert!(text.starts_with("#cloud-config\n"));
        let mut names: Vec<String> = volume
            .root_dir()
            .iter()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        names.sort();
        assert_eq!(names, ["meta-data", "user-data"]);
    }

    #[test]
    fn a_test_guest_runs_cloud_init_in_full() {
        let keys = BakeKeys::generate().unwrap();
        let test = Seed::for_guest(Purpose::Test, "i-2", "web", &keys).unwrap();
        assert!(!test.user_data.contains("cloud_final_modules"));
    }
}
