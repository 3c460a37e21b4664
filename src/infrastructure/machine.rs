//! Which machine an infrastructure configuration means here.

use super::HostSize;
use super::instance_types::{self, UnknownType};
use crate::documents::InfrastructureConfiguration;
use crate::error::{Failure, Result};
use crate::machine::Arch;

/// CPUs and memory of a guest, as far as the configuration says something.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Chosen {
    /// Virtual CPUs.
    pub cpus: Option<u32>,
    /// Memory in MiB.
    pub memory_mib: Option<u32>,
    /// The instance type that was taken.
    pub instance_type: Option<String>,
    /// What the person should know about the choice.
    pub warnings: Vec<String>,
}

/// Chooses the machine: `local` says it, or else the first instance type of the guest's architecture that this host has the
/// CPUs and the memory for. If all are too large, the guest gets what the host has: a configuration that was made for
/// the cloud is not wrong because it is read on a laptop.
///
/// # Errors
/// A type whose size doesn't exist, or types that are all of another architecture than the image.
pub fn choose(
    configuration: &InfrastructureConfiguration,
    arch: Arch,
    host: HostSize,
) -> Result<Chosen> {
    let mut chosen = from_types(&configuration.instance_types, arch, host)
        .map_err(|failure| failure.context(format!("infrastructure {}", configuration.name)))?;
    let local = &configuration.local;
    if local.cpus.is_some() {
        chosen.cpus = local.cpus;
    }
    if local.memory_mib.is_some() {
        chosen.memory_mib = local.memory_mib;
    }
    Ok(chosen)
}

fn from_types(names: &[String], arch: Arch, host: HostSize) -> Result<Chosen> {
    let mut chosen = Chosen::default();
    let mut known = Vec::new();
    for name in names {
        match instance_types::find(name) {
            Ok(found) => known.push((name, found)),
            Err(unknown @ UnknownType::Family(_)) => {
                chosen
                    .warnings
                    .push(format!("{unknown}; it is passed over"));
            }
            Err(wrong) => return Err(Failure::config(wrong.to_string())),
        }
    }
    if known.is_empty() {
        return Ok(chosen);
    }
    let others: Vec<&str> = known
        .iter()
        .filter(|(_, found)| found.arch != arch)
        .map(|(name, _)| name.as_str())
        .collect();
    if others.len() == known.len() {
        return Err(Failure::config(format!(
            "the image is one of {arch}, and {} is not",
            others.join(", ")
        ))
        .with_hint(match arch {
            Arch::X86_64 => "types whose family has a `g` after its number are arm64; name one such as t3.medium",
            Arch::Aarch64 => "name a type whose family has a `g` after its number, such as t4g.medium",
        }));
    }
    known.retain(|(_, found)| found.arch == arch);
    let fitting = known
        .iter()
        .find(|(_, found)| found.cpus <= host.cpus && found.memory_mib <= host.guest_memory_mib())
        .copied();
    let (name, cpus, memory_mib) = match fitting {
        Some((name, found)) => (name, found.cpus, found.memory_mib),
        None => {
            let Some((name, found)) = known.first().copied() else {
                return Ok(chosen);
            };
            let cpus = found.cpus.min(host.cpus);
            let memory_mib = found.memory_mib.min(host.guest_memory_mib());
            chosen.warnings.push(format!(
                "none of the instance types fits this host; {name} has {} CPUs and {} MiB here instead of {} and {}",
                cpus, memory_mib, found.cpus, found.memory_mib
            ));
            (name, cpus, memory_mib)
        }
    };
    chosen.cpus = Some(cpus);
    chosen.memory_mib = Some(memory_mib);
    chosen.instance_type = Some(name.clone());
    Ok(chosen)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: HostSize = HostSize {
        cpus: 4,
        memory_mib: 16384,
    };

    fn choose_of(types: &[&str], arch: Arch) -> Result<Chosen> {
        let names: Vec<String> = types.iter().map(|name| (*name).to_owned()).collect();
        from_types(&names, arch, HOST)
    }

    fn taken(types: &[&str], arch: Arch) -> (Option<String>, Option<u32>, Option<u32>) {
        let chosen = choose_of(types, arch).unwrap();
        (chosen.instance_type, chosen.cpus, chosen.memory_mib)
    }

    fn of(name: &str, cpus: u32, memory_mib: u32) -> (Option<String>, Option<u32>, Option<u32>) {
        (Some(name.to_owned()), Some(cpus), Some(memory_mib))
    }

    #[test]
    fn the_first_that_fits_is_taken() {
        let x86 = Arch::X86_64;
        assert_eq!(taken(&[], x86), (None, None, None));
        assert_eq!(
            taken(&["t3.medium", "m5.large"], x86),
            of("t3.medium", 2, 4096)
        );
        // Too many CPUs, then too much memory (all of the host's), then one that fits.
        assert_eq!(
            taken(&["m5.4xlarge", "m5.xlarge", "c5.xlarge", "t3.nano"], x86),
            of("c5.xlarge", 4, 8192)
        );
        // Other architectures are passed over.
        assert_eq!(
            taken(&["t4g.small", "t3.small"], x86),
            of("t3.small", 2, 2048)
        );
        assert_eq!(
            taken(&["t4g.small", "t3.small"], Arch::Aarch64),
            of("t4g.small", 2, 2048)
        );
    }

    #[test]
    fn too_large_ones_get_what_the_host_has() {
        let chosen = choose_of(&["m5.8xlarge", "r5.4xlarge"], Arch::X86_64).unwrap();
        assert_eq!((chosen.cpus, chosen.memory_mib), (Some(4), Some(15872)));
        insta::assert_snapshot!(chosen.warnings.join("\n"), @"none of the instance types fits this host; m5.8xlarge has 4 CPUs and 15872 MiB here instead of 32 and 131072");
    }

    #[test]
    fn messages() {
        let unknown = choose_of(&["u-6tb1.metal", "t3.small"], Arch::X86_64).unwrap();
        assert_eq!(unknown.instance_type.as_deref(), Some("t3.small"));
        let misspelt = choose_of(&["t3.mediun"], Arch::X86_64).unwrap_err();
        let other = choose_of(&["t4g.small", "m7g.large"], Arch::X86_64).unwrap_err();
        insta::assert_snapshot!(
            format!("{}\n{misspelt}\n{other}\nhint: {}", unknown.warnings.join("\n"), other.hint().unwrap()),
            @"
        the family of `u-6tb1.metal` is not in the table of instance types; it is passed over
        `t3.mediun` is not an instance type: t3 has 2xlarge, large, medium, micro, nano, small, xlarge
        the image is one of x86_64, and t4g.small, m7g.large is not
        hint: types whose family has a `g` after its number are arm64; name one such as t3.medium
        ");
    }

    #[test]
    fn what_local_says_counts() {
        let value = serde_json::json!({
            "name": "small",
            "instanceTypes": ["m5.large"],
            "local": { "cpus": 1 },
        });
        let configuration: InfrastructureConfiguration = serde_json::from_value(value).unwrap();
        let chosen = choose(&configuration, Arch::X86_64, HOST).unwrap();
        assert_eq!((chosen.cpus, chosen.memory_mib), (Some(1), Some(8192)));
    }
}
