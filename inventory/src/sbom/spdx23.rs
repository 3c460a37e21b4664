//! SPDX 2.3: <https://spdx.github.io/spdx-spec/v2.3/>.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Subject, remark, uuid};
use crate::{Inventory, Licence, Package, licence};

const NO_ASSERTION: &str = "NOASSERTION";
const IMAGE: &str = "SPDXRef-Image";

/// Licences that no list knows, by their words: each gets a reference of the document's own.
#[derive(Default)]
struct Named(BTreeMap<String, String>);

impl Named {
    fn reference(&mut self, words: &str) -> String {
        let next = format!("LicenseRef-{}", self.0.len() + 1);
        self.0.entry(words.to_owned()).or_insert(next).clone()
    }

    /// All licences of a package in one expression.
    fn expression(&mut self, package: &Package) -> String {
        let parts: Vec<String> = package
            .licenses
            .iter()
            .filter_map(|words| licence(words))
            .map(|licence| match licence {
                Licence::Expression(expression) => expression,
                Licence::Named(words) => self.reference(&words),
            })
            .collect();
        match parts.as_slice() {
            [] => NO_ASSERTION.into(),
            [one] => one.clone(),
            many => {
                let alone = |part: &String| match part.contains(' ') {
                    true => format!("({part})"),
                    false => part.clone(),
                };
                many.iter().map(alone).collect::<Vec<_>>().join(" AND ")
            }
        }
    }
}

/// The bill of an image.
#[must_use]
pub fn spdx(inventory: &Inventory, subject: &Subject<'_>) -> Value {
    let mut named = Named::default();
    let image = json!({
        "SPDXID": IMAGE, "name": subject.name, "versionInfo": subject.version, "downloadLocation": NO_ASSERTION,
        "filesAnalyzed": false, "primaryPackagePurpose": "OPERATING-SYSTEM", "licenseConcluded": NO_ASSERTION,
        "licenseDeclared": NO_ASSERTION, "copyrightText": NO_ASSERTION,
        "comment": inventory.distro.pretty_name,
    });
    let mut packages = vec![image];
    let mut relationships = vec![json!({
        "spdxElementId": "SPDXRef-DOCUMENT", "relationshipType": "DESCRIBES", "relatedSpdxElement": IMAGE,
    })];
    for (index, package) in inventory.packages.iter().enumerate() {
        let id = format!("SPDXRef-Package-{}", index + 1);
        relationships.push(json!({
            "spdxElementId": IMAGE, "relationshipType": "CONTAINS", "relatedSpdxElement": id,
        }));
        let purl = package.purl(&inventory.distro).to_string();
        let mut entry = json!({
            "SPDXID": id, "name": package.name, "versionInfo": package.version, "downloadLocation": NO_ASSERTION,
            "filesAnalyzed": false, "licenseConcluded": NO_ASSERTION, "licenseDeclared": named.expression(package),
            "copyrightText": NO_ASSERTION,
            "externalRefs": [{
                "referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": purl,
            }],
        });
        if let Some(supplier) = &package.supplier {
            entry["supplier"] = format!("Organization: {}", organisation(supplier)).into();
        }
        if let Some(source) = &package.source {
            let version = source.version.as_deref().unwrap_or(&package.version);
            entry["sourceInfo"] = format!("built from {} {version}", source.name).into();
        }
        // Made of the checksums of a module's files: none of the algorithms that SPDX has a field for.
        if let Some(checksum) = &package.checksum {
            entry["comment"] = format!("checksum {checksum}").into();
        }
        packages.push(entry);
    }
    let mut document = json!({
        "spdxVersion": "SPDX-2.3", "dataLicense": "CC0-1.0", "SPDXID": "SPDXRef-DOCUMENT",
        "name": format!("{}-{}", subject.name, subject.version),
        "documentNamespace": format!("urn:uuid:{}", uuid(subject, "spdx")),
        "creationInfo": {"created": subject.created, "creators": [format!("Tool: {}-{}", subject.tool.0, subject.tool.1)]},
        "documentDescribes": [IMAGE], "packages": packages, "relationships": relationships,
    });
    if let Some(remark) = remark(inventory) {
        document["comment"] = remark.into();
    }
    if !named.0.is_empty() {
        let infos = named.0.iter().map(|(words, reference)| {
            json!({"licenseId": reference, "extractedText": words, "name": words})
        });
        document["hasExtractedLicensingInfos"] = infos.collect();
    }
    document
}

/// `Name <mail>` without the mail, which SPDX would want in parentheses.
fn organisation(text: &str) -> &str {
    let name = text.split('<').next().unwrap_or(text).trim();
    if name.is_empty() { text } else { name }
}
