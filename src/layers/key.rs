//! What a layer is made from, and the key that follows from it.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// Changes when the meaning of inputs changes: then nothing of before is found again.
const SCHEMA: &str = "ovenbird layer 1";
/// A value longer than this is named in an explanation, but not shown.
const SHOWN: usize = 60;

/// The digest of everything that makes a layer.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LayerKey(String);

impl LayerKey {
    /// 40 hexadecimal digits: 160 bits, and still a handy name for a folder.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for LayerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for LayerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LayerKey({})", &self.0[..12.min(self.0.len())])
    }
}

/// A layer that exists: its key, and how often it had to be made anew. What is made on top of it depends on both, since a
/// component that is run again after its time (`apt-get upgrade`) may do something else.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LayerId {
    /// The key.
    pub key: LayerKey,
    /// From 1.
    pub generation: u32,
}

impl fmt::Display for LayerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.key, self.generation)
    }
}

/// The inputs of a layer by name, in words that a person understands: they explain a miss.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Inputs(BTreeMap<String, String>);

impl Inputs {
    /// The name under which the layer beneath stands.
    pub const BENEATH: &'static str = "the layer beneath";

    /// Adds an input. The value is kept in the clear: digests, versions and settings, never secrets.
    pub fn set(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.0.insert(name.into(), value.into());
    }

    /// The key. Names and values are framed by their lengths, so that no two different sets give the same bytes.
    pub fn key(&self) -> LayerKey {
        let mut hasher = blake3::Hasher::new();
        let mut part = |text: &str| {
            hasher.update(&(text.len() as u64).to_le_bytes());
            hasher.update(text.as_bytes());
        };
        part(SCHEMA);
        for (name, value) in &self.0 {
            part(name);
            part(value);
        }
        LayerKey(hex::encode(&hasher.finalize().as_bytes()[..20]))
    }

    /// What differs from `before`, a phrase each; empty if nothing does.
    pub fn changes_since(&self, before: &Self) -> Vec<String> {
        let mut changes = Vec::new();
        for (name, value) in &self.0 {
            match before.0.get(name) {
                Some(old) if old == value => {}
                Some(old) if shown(name, old) && shown(name, value) => {
                    changes.push(format!("{name} changed from {old} to {value}"));
                }
                Some(_) => changes.push(format!("{name} changed")),
                None => changes.push(format!("{name} is new")),
            }
        }
        for name in before.0.keys() {
            if !self.0.contains_key(name) {
                changes.push(format!("{name} is gone"));
            }
        }
        changes
    }

    /// Whether only the layer beneath differs.
    pub fn differs_only_beneath(&self, before: &Self) -> bool {
        let mut other = before.clone();
        match self.0.get(Self::BENEATH) {
            Some(beneath) => other.set(Self::BENEATH, beneath.clone()),
            None => return false,
        }
        *self == other
    }
}

/// Digests tell a person nothing.
fn shown(name: &str, value: &str) -> bool {
    let digest = value.len() >= 40 && value.bytes().all(|byte| byte.is_ascii_hexdigit());
    value.len() <= SHOWN && !digest && name != Inputs::BENEATH && !value.contains('\n')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn inputs(pairs: &[(&str, &str)]) -> Inputs {
        let mut inputs = Inputs::default();
        for (name, value) in pairs {
            inputs.set(*name, *value);
        }
        inputs
    }

    #[test]
    fn changes_are_told_in_words() {
        let digest = "a".repeat(64);
        let before = inputs(&[
            ("parameter Version", "1.2"),
            ("component file", &digest),
            ("agent", "1"),
        ]);
        let after = inputs(&[
            ("parameter Version", "1.3"),
            ("component file", &"b".repeat(64)),
            ("file app.conf", "x"),
        ]);
        assert_eq!(
            after.changes_since(&before),
            [
                "component file changed",
                "file app.conf is new",
                "parameter Version changed from 1.2 to 1.3",
                "agent is gone"
            ]
        );
    }

    proptest! {
        #[test]
        fn any_change_of_any_input_changes_the_key(
            pairs in proptest::collection::btree_map(".{0,12}", ".{0,12}", 1..6),
            pick in any::<prop::sample::Index>(),
            other in ".{0,12}",
        ) {
            let base = Inputs(pairs.clone());
            let names: Vec<&String> = pairs.keys().collect();
            let name = names[pick.index(names.len())];
            let mut changed = pairs.clone();
            changed.insert(name.clone(), other.clone());
            prop_assert_eq!(Inputs(changed).key() == base.key(), other == pairs[name]);
            let mut without = pairs.clone();
            without.remove(name);
            prop_assert_ne!(Inputs(without).key(), base.key());
            let mut renamed = pairs.clone();
            let value = renamed.remove(name).unwrap();
            renamed.insert(format!("{name}+"), value);
            prop_assert_ne!(Inputs(renamed).key(), base.key());
        }

        #[test]
        fn what_moves_between_name_and_value_changes_the_key(name in "[a-z]{1,4}", value in "[a-z]{1,4}") {
            let one = inputs(&[(&name, &value)]);
            let joined = format!("{name}{value}");
            prop_assert_ne!(one.key(), inputs(&[(&joined, "")]).key());
        }
    }
}
