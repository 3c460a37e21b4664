//! CycloneDX 1.6: <https://cyclonedx.org/docs/1.6/json/>.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Subject, remark, uuid};
use crate::{Inventory, Licence, Package, licence};

const IMAGE: &str = "image";

/// The bill of an image.
#[must_use]
pub fn cyclonedx(inventory: &Inventory, subject: &Subject<'_>) -> Value {
    let mut seen = BTreeMap::<String, u32>::new();
    let mut references = Vec::new();
    let components: Vec<Value> = inventory
        .packages
        .iter()
        .map(|package| {
            let purl = package.purl(&inventory.distro).to_string();
            // One package can be at several places with several owners.
            let count = seen.entry(purl.clone()).or_default();
            *count += 1;
            let reference = match count {
                1 => purl.clone(),
                count => format!("{purl}#{count}"),
            };
            references.push(reference.clone());
            component(package, purl, reference)
        })
        .collect();
    let mut image = json!({
        "type": "operating-system", "bom-ref": IMAGE, "name": subject.name, "version": subject.version,
        "description": inventory.distro.pretty_name,
    });
    if let Some(remark) = remark(inventory) {
        image["properties"] = json!([{"name": "ovenbird:remark", "value": remark}]);
    }
    json!({
        "bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1,
        "serialNumber": format!("urn:uuid:{}", uuid(subject, "cyclonedx")),
        "metadata": {
            "timestamp": subject.created, "component": image,
            "tools": {"components": [{"type": "application", "name": subject.tool.0, "version": subject.tool.1}]},
        },
        "components": components,
        "dependencies": [{"ref": IMAGE, "dependsOn": references}],
    })
}

fn component(package: &Package, purl: String, reference: String) -> Value {
    let mut entry = json!({
        "type": "library", "bom-ref": reference, "name": package.name, "version": package.version, "purl": purl,
    });
    if let Some(supplier) = &package.supplier {
        entry["supplier"] = json!({"name": supplier});
    }
    let found: Vec<Licence> = package
        .licenses
        .iter()
        .filter_map(|words| licence(words))
        .collect();
    match found.as_slice() {
        [] => {}
        [Licence::Expression(expression)] => {
            entry["licenses"] = json!([{"expression": expression}])
        }
        // A list has no expressions in it: they stand there as names.
        many => {
            let licenses = many.iter().map(|one| match one {
                Licence::Expression(text) | Licence::Named(text) => {
                    json!({"license": {"name": text}})
                }
            });
            entry["licenses"] = licenses.collect();
        }
    }
    let properties = package
        .paths
        .iter()
        .map(|path| json!({"name": "ovenbird:path", "value": path}));
    let checksum = package
        .checksum
        .iter()
        .map(|sum| json!({"name": "ovenbird:checksum", "value": sum}));
    entry["properties"] = properties.chain(checksum).collect();
    entry
}
