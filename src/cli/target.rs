//! `KIND/NAME[/VERSION[/BUILD]]` and ARNs on the command line.

use crate::documents::arn::Arn;
use crate::documents::{Kind, ResourceReference};
use crate::error::{Failure, FailureKind, Result};
use crate::store::{ImageRecord, ResourceRecord, Store, reference_of};

/// What a text names.
#[derive(Debug)]
pub enum Target {
    /// A resource of the store.
    Resource(Box<ResourceRecord>),
    /// An image.
    Image(Box<ImageRecord>),
}

/// Reads a kind: `component`, `image-recipe`, `recipe`, `pipeline`, …
///
/// # Errors
/// What the kinds are.
pub fn kind(text: &str) -> Result<Kind, String> {
    let singular = text.strip_suffix('s').unwrap_or(text);
    // The short words are what people type; the long ones are the service's.
    let short = match singular.to_lowercase().as_str() {
        "recipe" => Some(Kind::ImageRecipe),
        "pipeline" => Some(Kind::ImagePipeline),
        "infrastructure" => Some(Kind::InfrastructureConfiguration),
        "distribution" => Some(Kind::DistributionConfiguration),
        "policy" | "policie" | "lifecycle" | "lifecyclepolicie" | "lifecycle-policie" => {
            Some(Kind::LifecyclePolicy)
        }
        _ => None,
    };
    short
        .or_else(|| Kind::from_word(text))
        .or_else(|| Kind::from_word(singular))
        .ok_or_else(|| {
            let words: Vec<&str> = Kind::ALL.iter().map(|kind| kind.arn_type()).collect();
            format!(
                "expected {} (or recipe, pipeline, infrastructure, distribution)",
                words.join(", ")
            )
        })
}

/// Reads a reference to a resource.
///
/// # Errors
/// [`FailureKind::Usage`] if it is none.
pub fn reference(text: &str) -> Result<ResourceReference> {
    if Arn::is_meant(text) {
        let word = text
            .rsplit(':')
            .next()
            .and_then(|rest| rest.split('/').next())
            .unwrap_or_default();
        let kind = kind(word).map_err(|expected| unknown_kind(word, &expected))?;
        return reference_of(kind, text);
    }
    let Some((word, rest)) = text.split_once('/') else {
        return Err(Failure::new(
            FailureKind::Usage,
            format!("`{text}` has no kind before it"),
        )
        .with_hint(format!(
            "expected KIND/NAME[/VERSION[/BUILD]], such as component/{text}"
        )));
    };
    let kind = kind(word).map_err(|expected| unknown_kind(word, &expected))?;
    reference_of(kind, rest)
}

fn unknown_kind(word: &str, expected: &str) -> Failure {
    Failure::new(
        FailureKind::Usage,
        format!("there is no kind of resource `{word}`"),
    )
    .with_hint(expected)
}

/// Finds the resource or image that a text names; the newest that fits.
///
/// # Errors
/// [`FailureKind::Config`] if there is none.
pub fn find(store: &Store, text: &str) -> Result<Target> {
    let image = text
        .strip_prefix("image/")
        .or_else(|| text.contains(":image/").then_some(text));
    match image {
        Some(image) => Ok(Target::Image(Box::new(store.find_image(image)?))),
        None => Ok(Target::Resource(Box::new(
            store.resource(&reference(text)?)?,
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_by_all_their_words() {
        for (word, wanted) in [
            ("component", Kind::Component),
            ("components", Kind::Component),
            ("ImageRecipe", Kind::ImageRecipe),
            ("image-recipes", Kind::ImageRecipe),
            ("recipe", Kind::ImageRecipe),
            ("pipelines", Kind::ImagePipeline),
            ("infrastructure", Kind::InfrastructureConfiguration),
            ("lifecycle-policies", Kind::LifecyclePolicy),
            ("workflow", Kind::Workflow),
        ] {
            assert_eq!(kind(word), Ok(wanted), "{word}");
        }
        assert!(kind("thing").is_err());
    }

    #[test]
    fn references_name_their_kind() {
        let found = reference("component/hello/1.x.x").unwrap();
        assert_eq!(found.to_string(), "component hello/1.x.x");
        let found = reference("local:image-recipe/web/1.0.0").unwrap();
        assert_eq!(found.to_string(), "image recipe web/1.0.0");
        let failure = reference("hello").unwrap_err();
        assert_eq!(
            failure.hint(),
            Some("expected KIND/NAME[/VERSION[/BUILD]], such as component/hello")
        );
        assert_eq!(
            reference("thing/hello").unwrap_err().to_string(),
            "there is no kind of resource `thing`"
        );
    }
}
