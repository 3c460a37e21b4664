//! What EC2's instance types have: a table in a data file.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::Deserialize;

use crate::machine::Arch;

/// What an instance type has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InstanceType {
    /// Virtual CPUs.
    pub cpus: u32,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// Its processors.
    pub arch: Arch,
}

/// Why a type can't be looked up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnknownType {
    /// Not of the form FAMILY.SIZE.
    #[error("`{0}` is not an instance type such as m5.large")]
    Form(String),
    /// A family that the table lacks.
    #[error("the family of `{0}` is not in the table of instance types")]
    Family(String),
    /// A size that the family hasn't.
    #[error("`{name}` is not an instance type: {family} has {}", sizes.join(", "))]
    Size {
        /// The type.
        name: String,
        /// Its family.
        family: String,
        /// The sizes of the family.
        sizes: Vec<String>,
    },
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    families: Vec<Entry>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    names: Vec<String>,
    architecture: Arch,
    sizes: BTreeMap<String, (u32, f64)>,
}

type Families = BTreeMap<String, BTreeMap<String, InstanceType>>;

static FAMILIES: LazyLock<Families> = LazyLock::new(|| {
    // A table that can't be read knows no family; a test reads it.
    read(include_str!("instance-types.toml")).unwrap_or_default()
});

fn read(text: &str) -> Result<Families, toml::de::Error> {
    let table: Table = toml::from_str(text)?;
    Ok(table
        .families
        .into_iter()
        .flat_map(|entry| {
            let sizes: BTreeMap<String, InstanceType> = entry
                .sizes
                .iter()
                .map(|(size, (cpus, gib))| {
                    let memory_mib = mib(*gib);
                    (
                        size.clone(),
                        InstanceType {
                            cpus: *cpus,
                            memory_mib,
                            arch: entry.architecture,
                        },
                    )
                })
                .collect();
            entry
                .names
                .into_iter()
                .map(move |name| (name, sizes.clone()))
        })
        .collect())
}

/// GiB come in quarters.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "numbers of our own table, at most a few thousand and never negative"
)]
fn mib(gib: f64) -> u32 {
    (gib * 1024.0).round() as u32
}

/// Looks a type such as `m5.large` up.
///
/// # Errors
/// Which part of it is unknown.
pub fn find(name: &str) -> Result<InstanceType, UnknownType> {
    let (family, size) = name
        .split_once('.')
        .filter(|(family, size)| !family.is_empty() && !size.is_empty())
        .ok_or_else(|| UnknownType::Form(name.to_owned()))?;
    let sizes = FAMILIES
        .get(family)
        .ok_or_else(|| UnknownType::Family(name.to_owned()))?;
    sizes.get(size).copied().ok_or_else(|| UnknownType::Size {
        name: name.to_owned(),
        family: family.to_owned(),
        sizes: sizes.keys().cloned().collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_reads() {
        let table = read(include_str!("instance-types.toml")).unwrap();
        assert!(table.len() > 50, "{} families", table.len());
        for (family, sizes) in &table {
            for (size, found) in sizes {
                // The extremes of what EC2 has had: half a GiB to eight and a half for each CPU.
                let for_each = found.memory_mib / found.cpus;
                assert!((256..=8704).contains(&for_each), "{family}.{size}");
            }
        }
    }

    #[test]
    fn types_of_each_sort() {
        let known = [
            ("t3.micro", 2, 1024, Arch::X86_64),
            ("t2.nano", 1, 512, Arch::X86_64),
            ("t4g.small", 2, 2048, Arch::Aarch64),
            ("m5.large", 2, 8192, Arch::X86_64),
            ("m7i-flex.xlarge", 4, 16384, Arch::X86_64),
            ("m7g.medium", 1, 4096, Arch::Aarch64),
            ("c4.large", 2, 3840, Arch::X86_64),
            ("c5n.xlarge", 4, 10752, Arch::X86_64),
            ("r4.large", 2, 15616, Arch::X86_64),
            ("r6i.32xlarge", 128, 1024 * 1024, Arch::X86_64),
            ("g5g.xlarge", 4, 8192, Arch::Aarch64),
        ];
        for (name, cpus, memory_mib, arch) in known {
            assert_eq!(
                find(name),
                Ok(InstanceType {
                    cpus,
                    memory_mib,
                    arch
                }),
                "{name}"
            );
        }
    }

    #[test]
    fn messages() {
        let messages: Vec<String> = ["m5", "m5.", "x9.large", "c4.medium"]
            .iter()
            .map(|name| find(name).unwrap_err().to_string())
            .collect();
        insta::assert_snapshot!(messages.join("\n"), @"
        `m5` is not an instance type such as m5.large
        `m5.` is not an instance type such as m5.large
        the family of `x9.large` is not in the table of instance types
        `c4.medium` is not an instance type: c4 has 2xlarge, 4xlarge, 8xlarge, large, xlarge
        ");
    }
}
