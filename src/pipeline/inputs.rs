//! What went into a build, and whether something newer is there: the start condition of schedules.

use serde::{Deserialize, Serialize};

use crate::bake::BakePlan;

/// Versions and digests of what a build is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Inputs {
    /// The recipe.
    pub recipe: Input,
    /// The parent image.
    pub parent: Input,
    /// The components, in the order of the recipe.
    pub components: Vec<Input>,
}

/// One input.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Input {
    /// Its name.
    pub name: String,
    /// Its version, with the build number where there is one.
    pub version: Option<String>,
    /// SHA-256 of its content; the recipe's version says it all, since recipes never change.
    pub digest: Option<String>,
}

impl Inputs {
    /// The inputs of a plan.
    pub fn of(plan: &BakePlan) -> Self {
        Self {
            recipe: Input {
                name: plan.name.clone(),
                version: Some(plan.version.clone()),
                digest: None,
            },
            parent: Input {
                name: plan.parent.name.clone(),
                version: Some(plan.parent.version.clone()),
                digest: Some(plan.parent.sha256.clone()),
            },
            components: plan
                .components
                .iter()
                .map(|component| Input {
                    name: component.name.clone(),
                    version: component.version.clone(),
                    digest: Some(component.sha256.clone()),
                })
                .collect(),
        }
    }

    /// What is other than it was in an earlier build, one line each; none if a build would find everything as it was.
    ///
    /// A version that went back counts too: whoever takes a bad component out of the store wants it out of the image.
    pub fn changes_since(&self, earlier: &Self) -> Vec<String> {
        let mut changes = Vec::new();
        self.recipe.change("recipe", &earlier.recipe, &mut changes);
        self.parent.change("parent", &earlier.parent, &mut changes);
        for (index, component) in self.components.iter().enumerate() {
            // The same component may stand in a recipe several times.
            let nth = self.components[..index]
                .iter()
                .filter(|other| other.name == component.name)
                .count();
            let before = earlier
                .components
                .iter()
                .filter(|other| other.name == component.name)
                .nth(nth);
            match before {
                Some(before) => component.change("component", before, &mut changes),
                None => changes.push(format!("component {} is new", component.label())),
            }
        }
        if changes.is_empty() && self.components.len() < earlier.components.len() {
            changes.push("components were taken out".into());
        }
        if changes.is_empty() && self.components != earlier.components {
            changes.push("the components' order is another".into());
        }
        changes
    }
}

impl Input {
    fn label(&self) -> String {
        match &self.version {
            Some(version) => format!("{}/{version}", self.name),
            None => self.name.clone(),
        }
    }

    fn change(&self, role: &str, before: &Self, changes: &mut Vec<String>) {
        if self == before {
            return;
        }
        let (label, was) = (self.label(), before.label());
        changes.push(if label == was {
            format!("{role} {label} has another content")
        } else {
            format!("{role} {label}, was {was}")
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(name: &str, version: &str, digest: &str) -> Input {
        Input {
            name: name.into(),
            version: (!version.is_empty()).then(|| version.into()),
            digest: (!digest.is_empty()).then(|| digest.into()),
        }
    }

    fn inputs(recipe: &str, parent: &str, components: &[(&str, &str, &str)]) -> Inputs {
        Inputs {
            recipe: input("web", recipe, ""),
            parent: input("debian-12", parent, parent),
            components: components
                .iter()
                .map(|(name, version, digest)| input(name, version, digest))
                .collect(),
        }
    }

    #[test]
    fn changes() {
        let before = inputs("1.0.0", "1.0.0", &[("a", "1.0.0/1", "aa"), ("b", "", "bb")]);
        assert_eq!(before.changes_since(&before), [""; 0]);
        let cases = [
            inputs("1.0.1", "1.0.0", &[("a", "1.0.0/1", "aa"), ("b", "", "bb")]),
            inputs("1.0.0", "1.1.0", &[("a", "1.0.0/1", "aa"), ("b", "", "bb")]),
            inputs("1.0.0", "1.0.0", &[("a", "1.0.0/2", "a2"), ("b", "", "bb")]),
            inputs(
                "1.0.0",
                "1.0.0",
                &[("a", "1.0.0/1", "aa"), ("b", "", "other")],
            ),
            inputs("1.0.0", "1.0.0", &[("b", "", "bb"), ("a", "1.0.0/1", "aa")]),
            inputs("1.0.0", "1.0.0", &[("a", "1.0.0/1", "aa")]),
            inputs(
                "1.0.0",
                "1.0.0",
                &[
                    ("a", "1.0.0/1", "aa"),
                    ("b", "", "bb"),
                    ("b", "", "bb"),
                    ("c", "2.0.0/1", "cc"),
                ],
            ),
        ];
        let lines: Vec<String> = cases
            .iter()
            .map(|after| after.changes_since(&before).join("; "))
            .collect();
        insta::assert_snapshot!(lines.join("\n"), @"
        recipe web/1.0.1, was web/1.0.0
        parent debian-12/1.1.0, was debian-12/1.0.0
        component a/1.0.0/2, was a/1.0.0/1
        component b has another content
        the components' order is another
        components were taken out
        component b is new; component c/2.0.0/1 is new
        ");
    }

    #[test]
    fn they_are_kept_as_json() {
        let inputs = inputs("1.0.0", "1.0.0", &[("a", "1.0.0/1", "aa")]);
        let text = serde_json::to_string(&inputs).unwrap();
        assert_eq!(serde_json::from_str::<Inputs>(&text).unwrap(), inputs);
    }
}
