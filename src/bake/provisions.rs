//! What components need from outside of the guest, brought to them by the host: stored values and object storage.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::local_values::LocalSource;
use super::plan::PlannedComponent;
use crate::aws;
use crate::aws::object_proxy::ObjectProxy;
use crate::aws::stored_values::{self, StoredName, StoredValues};
use crate::error::Result;
use crate::guest::Guest;

/// Looked up before any guest is started, so that a name that does not exist costs no boot.
#[derive(Debug, Default)]
pub struct Provisions {
    stored: StoredValues,
    proxy: Option<ObjectProxy>,
}

impl Provisions {
    /// Gathers what these components need: from this machine what `local` names, else from AWS. AWS, or who stands in for it, is asked only if one of them needs it.
    ///
    /// # Errors
    /// What [`stored_values::look_up`] and [`ObjectProxy::start`] say.
    pub async fn gather(components: &[PlannedComponent], local: &[LocalSource]) -> Result<Self> {
        let mut names: BTreeSet<StoredName> = components
            .iter()
            .flat_map(|component| component.stored.iter().cloned())
            .collect();
        let mut values = StoredValues::default();
        for source in local {
            // What no component asks for is not even read.
            let (ours, others) = names.into_iter().partition::<BTreeSet<_>, _>(|name| {
                *name == StoredName::Direct(source.name.clone())
            });
            names = others;
            if !ours.is_empty() {
                values.insert(source.name.clone(), source.read().await?);
            }
        }
        let objects = components.iter().any(|component| component.object_storage);
        if names.is_empty() && !objects {
            return Ok(Self {
                stored: values,
                proxy: None,
            });
        }
        let config = aws::load().await;
        Ok(Self {
            stored: if names.is_empty() {
                values
            } else {
                values.and(stored_values::look_up(&config, &names).await?)
            },
            proxy: if objects {
                Some(ObjectProxy::start(config).await?)
            } else {
                None
            },
        })
    }

    /// Whether nothing was looked up.
    pub fn is_empty(&self) -> bool {
        self.stored.is_empty()
    }

    /// The value that a name stands for.
    pub fn value(&self, name: &StoredName) -> Option<&str> {
        self.stored.value(name)
    }

    /// Whether there are secrets among the stored values.
    pub fn has_secrets(&self) -> bool {
        self.stored.has_secrets()
    }

    /// The part of the agent's configuration that hands them over; opens the way to the object storage.
    ///
    /// # Errors
    /// A guest failure if the guest forwards no port.
    pub async fn settings(&self, guest: &mut Guest) -> Result<Value> {
        let mut settings = json!({
            "secrets": self.stored.of_kind(true),
            "storedValues": self.stored.of_kind(false),
        });
        if let Some(proxy) = &self.proxy {
            let port = guest.offer(proxy.address()).await?;
            settings["objectStore"] = json!({ "endpoint": format!("http://127.0.0.1:{port}") });
        }
        Ok(settings)
    }
}
