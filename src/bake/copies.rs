//! Two copies of one image, booted with different seeds, must be two machines: what one makes up, the other must not have
//! as well. The classics are a machine id, host keys or a random seed that were baked in.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::{Failure, FailureKind, Result};
use crate::guest::Guest;

/// The host name of the second copy; the first one has another.
pub const HOSTNAME: &str = "ovenbird-copy";
/// The second copy's disk is larger by so many bytes: its root filesystem has to follow.
pub const LARGER: u64 = 1 << 30;
/// Of that, what metadata and alignment may take.
const LEAST_GROWTH: u64 = LARGER / 10 * 9;

/// Prints `name value` lines. Growing runs beside the login in some guests, so it is waited for as long as cloud-init is.
const LOOK: &str = r#"
if command -v cloud-init >/dev/null 2>&1; then cloud-init status --wait >/dev/null 2>&1; fi
echo "machine-id $(cat /etc/machine-id 2>/dev/null)"
echo "hostname $(cat /proc/sys/kernel/hostname)"
echo "root-bytes $(df -P -B1 / | awk 'NR == 2 {print $2}')"
echo "random $(od -An -tx1 -N32 /dev/urandom | tr -d ' \n')"
echo "boot-id $(cat /proc/sys/kernel/random/boot_id)"
for f in /var/lib/systemd/random-seed /var/lib/urandom/random-seed; do
  [ -s "$f" ] && echo "random-seed $(sha256sum < "$f" | cut -d' ' -f1)"
done
for f in /etc/ssh/ssh_host_*_key; do
  [ -s "$f" ] && echo "host-key $(sha256sum < "$f" | cut -d' ' -f1)"
done
exit 0
"#;

/// What one copy says of itself: values by their names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Traits(BTreeMap<String, BTreeSet<String>>);

/// Asks a guest.
///
/// # Errors
/// [`FailureKind::Guest`] if it does not answer.
pub async fn look(guest: &Guest) -> Result<Traits> {
    let output = guest.root("looking at a copy of the image", LOOK).await?;
    Ok(read(&output.text()))
}

fn read(text: &str) -> Traits {
    let mut traits = BTreeMap::<String, BTreeSet<String>>::new();
    for (name, value) in text.lines().filter_map(|line| line.split_once(' ')) {
        let values = traits.entry(name.to_owned()).or_default();
        values.insert(value.trim().to_owned());
    }
    Traits(traits)
}

/// What must not be shared, with what it means if it is.
const OWN: [(&str, &str); 5] = [
    (
        "machine-id",
        "DHCP, D-Bus and the journal take both for one machine",
    ),
    ("host-key", "whoever has one machine can pose as the other"),
    ("random-seed", "both begin with the same randomness"),
    ("random", "both draw the same random numbers"),
    ("boot-id", "both draw the same random numbers"),
];

impl Traits {
    fn one(&self, name: &str) -> &str {
        let values = self.0.get(name);
        values.and_then(BTreeSet::first).map_or("", String::as_str)
    }

    fn shared<'a>(&'a self, other: &'a Self, name: &str) -> Vec<&'a str> {
        let empty = BTreeSet::new();
        let of = |traits: &'a Self| traits.0.get(name);
        of(self)
            .into_iter()
            .flatten()
            .filter(|value| of(other).unwrap_or(&empty).contains(*value))
            .map(String::as_str)
            .collect()
    }
}

/// Compares the first copy with the second, whose name and disk are others; returns the names of what differs.
///
/// # Errors
/// [`FailureKind::Test`] with everything that the two share, or that does not follow the seed.
pub fn compare(first: &Traits, second: &Traits) -> Result<Vec<String>> {
    let mut faults = Vec::new();
    let mut differs = Vec::new();
    for (name, meaning) in OWN {
        match first.shared(second, name).as_slice() {
            [] if first.one(name).is_empty() && second.one(name).is_empty() => {}
            [] => differs.push(name.to_owned()),
            [value, ..] => {
                // Of a key's digest or an id a few letters tell which; of randomness all would be printed for nothing.
                let short: String = value.chars().take(12).collect();
                faults.push(format!("{name}: both have {short}…: {meaning}"));
            }
        }
    }
    for (traits, which) in [(first, "first"), (second, "second")] {
        let id = traits.one("machine-id");
        if id.len() != 32 || !id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            faults.push(format!("machine-id: the {which} copy has none (`{id}`)"));
        }
    }
    if second.one("hostname") == HOSTNAME {
        differs.push("hostname".into());
    } else {
        faults.push(format!(
            "hostname: the second copy is called `{}`, its seed says `{HOSTNAME}`",
            second.one("hostname")
        ));
    }
    let bytes = |traits: &Traits| traits.one("root-bytes").parse::<u64>().unwrap_or(0);
    let (small, large) = (bytes(first), bytes(second));
    if large.saturating_sub(small) >= LEAST_GROWTH {
        differs.push("root-bytes".into());
    } else {
        faults.push(format!(
            "root-bytes: the second copy's disk is 1 GiB larger, but its root filesystem has {large} bytes, the first one's {small}"
        ));
    }
    if faults.is_empty() {
        return Ok(differs);
    }
    Err(Failure::new(
        FailureKind::Test,
        "two copies of the image are not two machines",
    )
    .with_details(faults.join("\n"))
    .with_hint("`sanitise` in the recipe may skip the rule that takes this away; docs/trust.md tells what each rule does"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn copy(id: char, key: &str, name: &str, bytes: u64) -> Traits {
        let id: String = std::iter::repeat_n(id, 32).collect();
        read(&format!(
            "machine-id {id}\nhostname {name}\nroot-bytes {bytes}\nrandom {key}00\nboot-id {key}-1\nhost-key {key}\nhost-key {name}key\n"
        ))
    }

    #[test]
    fn two_machines_differ_in_all() {
        let first = copy('a', "k1", "ovenbird-test", 2 << 30);
        let second = copy('b', "k2", HOSTNAME, 3 << 30);
        assert_eq!(
            compare(&first, &second).unwrap(),
            [
                "machine-id",
                "host-key",
                "random",
                "boot-id",
                "hostname",
                "root-bytes"
            ]
        );
    }

    #[test]
    fn each_thing_shared_is_named() {
        let first = copy('a', "k1", "baked-name", 2 << 30);
        let failure = compare(&first, &first).unwrap_err();
        let text = format!(
            "{} {}",
            failure.chain(),
            failure.details().unwrap_or_default()
        );
        for name in [
            "machine-id",
            "host-key",
            "random",
            "boot-id",
            "hostname",
            "root-bytes",
        ] {
            assert!(text.contains(&format!("{name}: ")), "{name} in {text}");
        }
        let nameless =
            read("machine-id uninitialized\nhostname ovenbird-copy\nroot-bytes 4294967296\n");
        let failure = compare(&copy('a', "k", "x", 2 << 30), &nameless).unwrap_err();
        assert!(
            failure
                .details()
                .unwrap_or_default()
                .contains("the second copy has none")
        );
    }
}
