//! The names and ARNs of a template's resources, before any of them exists.

use ovenbird_component::source::{Mapping, Span};

use super::evaluate::{Evaluator, Reported};
use super::stand_in;
use crate::documents::Kind;
use crate::documents::arn::{self, Arn, Place, ResourceType, WorkflowType};
use crate::documents::version::VersionSpec;

impl Evaluator<'_, '_> {
    /// The local names of resources are made of their properties, which may refer to others.
    pub(super) fn property(
        &self,
        id: &str,
        properties: Option<&Mapping>,
        key: &str,
    ) -> Result<Option<String>, Reported> {
        let Some(entry) = properties.and_then(|properties| properties.entry(key)) else {
            return Ok(None);
        };
        let mark = format!("{id}.{key}");
        if self.visiting.borrow().contains(&mark) {
            let mut path = self.visiting.borrow().clone();
            path.push(mark);
            return self.fault(
                "cycle",
                entry.value.span,
                format!("a name depends on itself: {}", path.join(" → ")),
                "a name that can be known",
            );
        }
        self.visiting.borrow_mut().push(mark);
        let value = self.text(&entry.value, &format!("`{key}` of `{id}`"));
        self.visiting.borrow_mut().pop();
        value.map(Some)
    }

    pub(super) fn name_of(
        &self,
        id: &str,
        properties: Option<&Mapping>,
    ) -> Result<String, Reported> {
        Ok(self
            .property(id, properties, "Name")?
            .unwrap_or_else(|| id.to_owned()))
    }

    pub(super) fn stand_in_name(
        &self,
        id: &str,
        kind: &str,
        properties: Option<&Mapping>,
    ) -> Result<String, Reported> {
        let named = match stand_in::name_property(kind) {
            Some(key) => self.property(id, properties, key)?,
            None => None,
        };
        Ok(named.unwrap_or_else(|| id.to_owned()))
    }

    pub(super) fn arn(
        &self,
        kind: Kind,
        id: &str,
        properties: Option<&Mapping>,
        span: Span,
    ) -> Result<Arn, Reported> {
        let pseudo = &self.scope.pseudo;
        let version = match kind.is_versioned() {
            false => None,
            true => match self.property(id, properties, "Version")? {
                // A bad version is reported where it stands, when the resource is read.
                Some(text) => match text.parse::<VersionSpec>() {
                    Ok(version) => Some(version.pattern()),
                    Err(error) => {
                        return self.fault(
                            "bad-version",
                            span,
                            error.to_string(),
                            error.expected(),
                        );
                    }
                },
                None => None,
            },
        };
        let resource = match kind {
            Kind::Component => ResourceType::Component,
            Kind::ImageRecipe => ResourceType::ImageRecipe,
            Kind::ContainerRecipe => ResourceType::ContainerRecipe,
            Kind::InfrastructureConfiguration => ResourceType::InfrastructureConfiguration,
            Kind::DistributionConfiguration => ResourceType::DistributionConfiguration,
            Kind::ImagePipeline => ResourceType::ImagePipeline,
            Kind::LifecyclePolicy => ResourceType::LifecyclePolicy,
            Kind::Workflow => {
                let word = self.property(id, properties, "Type")?.unwrap_or_default();
                let workflow = WorkflowType::ALL
                    .into_iter()
                    .find(|workflow| workflow.as_str().eq_ignore_ascii_case(&word));
                ResourceType::Workflow(workflow.unwrap_or(WorkflowType::Build))
            }
        };
        Ok(Arn {
            place: Some(Place {
                partition: pseudo.partition.clone(),
                region: pseudo.region.clone(),
                account: pseudo.account.clone(),
            }),
            resource,
            name: arn::normalise_name(&self.name_of(id, properties)?),
            version,
        })
    }
}
