//! What is stated about an image: in-toto v1 with SLSA provenance v1, all of it from the manifest.

use std::collections::BTreeMap;

use camino::Utf8Path;
use ovenbird_provenance::folder::digest_of;
use ovenbird_provenance::statement::{
    BuildDefinition, Builder, DigestSet, Metadata, Provenance, Resource, RunDetails, SHA256,
    Statement,
};
use serde_json::json;

use crate::error::{FailureContext as _, FailureKind, Result};
use crate::output::Manifest;

/// Says how the parameters are to be read: docs/signing.md.
pub const BUILD_TYPE: &str = "urn:ovenbird:image:1";
/// The builder: this program, on whoever's machine; the key says whose.
const BUILDER: &str = "urn:ovenbird:builder";
/// The name of the disk digest among the digests of a disk (docs/formats.md).
pub const DISK_DIGEST: &str = "ovenbirdDisk";

fn sha256(digest: &str) -> DigestSet {
    DigestSet::from([(SHA256.to_owned(), digest.to_owned())])
}

/// The statement about the image in a folder.
///
/// # Errors
/// [`FailureKind::Output`] if the manifest can't be read.
pub fn of(manifest: &Manifest, folder: &Utf8Path) -> Result<Statement> {
    let mut subject: Vec<Resource> = manifest
        .files
        .iter()
        .map(|file| {
            let mut digest = sha256(&file.sha256);
            if file.format.qemu_driver().is_some() {
                digest.insert(DISK_DIGEST.into(), manifest.disk_digest.clone());
            }
            Resource {
                name: file.path.to_string(),
                digest,
                ..Resource::default()
            }
        })
        .collect();
    subject.extend(manifest.attachments.iter().map(|file| Resource {
        name: file.path.to_string(),
        digest: sha256(&file.sha256),
        ..Resource::default()
    }));
    let of_manifest = digest_of(&folder.join(Manifest::FILE))
        .or_failure(FailureKind::Output, || "cannot read the manifest".into())?;
    subject.push(Resource {
        name: Manifest::FILE.into(),
        digest: sha256(&of_manifest),
        ..Resource::default()
    });
    Ok(Statement::new(
        subject,
        Provenance {
            build_definition: definition(manifest),
            run_details: details(manifest),
        },
    ))
}

fn definition(manifest: &Manifest) -> BuildDefinition {
    let parent = &manifest.parent;
    let mut used = vec![Resource {
        name: format!("parent:{}/{}", parent.name, parent.version),
        digest: sha256(&parent.sha256),
        ..Resource::default()
    }];
    used.extend(manifest.components.iter().map(|component| Resource {
        name: match &component.version {
            Some(version) => format!("component:{}/{version}", component.name),
            None => format!("component:{}", component.name),
        },
        digest: sha256(&component.sha256),
        ..Resource::default()
    }));
    let parameters: Vec<_> = manifest
        .components
        .iter()
        .map(|component| json!({ "component": component.name, "parameters": component.parameters }))
        .collect();
    BuildDefinition {
        build_type: BUILD_TYPE.into(),
        external_parameters: json!({
            "name": manifest.name,
            "version": manifest.version,
            "build": manifest.build,
            "arn": manifest.arn,
            "components": parameters,
            "tags": manifest.tags,
        }),
        internal_parameters: json!({
            "architecture": manifest.architecture,
            "firmware": manifest.firmware,
            "virtualSize": manifest.virtual_size,
        }),
        resolved_dependencies: used,
    }
}

fn details(manifest: &Manifest) -> RunDetails {
    let mut version = BTreeMap::from([("ovenbird".to_owned(), manifest.generator.clone())]);
    if let Some(boot) = manifest.boots.first() {
        version.insert("qemu".into(), boot.qemu.clone());
    }
    // A resource descriptor has to have one of `uri`, `digest` and `content`.
    let evidence = |name: &str, what: serde_json::Value| Resource {
        name: name.into(),
        uri: Some(format!("urn:ovenbird:evidence:{name}")),
        annotations: BTreeMap::from([("evidence".to_owned(), what)]),
        ..Resource::default()
    };
    RunDetails {
        builder: Builder {
            id: BUILDER.into(),
            version,
        },
        metadata: Metadata {
            invocation_id: Some(manifest.run.clone()),
            started_on: None,
            finished_on: Some(manifest.created.clone()),
        },
        byproducts: vec![
            evidence("boots", json!(manifest.boots)),
            evidence("sanitised", json!(manifest.sanitised)),
            evidence("residue", json!(manifest.residue)),
        ],
    }
}
