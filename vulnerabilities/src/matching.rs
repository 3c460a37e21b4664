//! An inventory held against a database.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use ovenbird_inventory::{Ecosystem, Inventory, Package};

use crate::advisory::{Advisory, Affected, Kind, Status, preference};
use crate::database::{Database, DatabaseError};
use crate::ecosystem::Release;
use crate::finding::{Finding, Findings, Installed};
use crate::severity::{Score, Severity};
use crate::version::compare;

/// Addresses of a finding.
const MOST_REFERENCES: usize = 10;

/// What is installed and what is said of it: the source package's ecosystem, name and version.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Subject {
    release: Release,
    name: String,
    version: String,
}

/// What one record says of one subject, or of one package that was built from it.
#[derive(Debug, Clone)]
struct Statement {
    advisory: i64,
    affected: Affected,
    /// What was held against it: the version of whatever it names.
    version: String,
    status: Status,
}

/// Looks up everything that is installed.
///
/// # Errors
/// If the database can't be read.
pub fn find(inventory: &Inventory, database: &Database) -> Result<Findings, DatabaseError> {
    let mut lookup = Lookup {
        inventory,
        database,
        releases: HashMap::new(),
        advisories: HashMap::new(),
        remarks: BTreeSet::new(),
    };
    let (subjects, checked) = lookup.subjects()?;
    let mut findings = Vec::new();
    for (subject, packages) in &subjects {
        lookup.findings_of(subject, packages, &mut findings)?;
    }
    findings.sort_by(Finding::order);
    let mut remarks: Vec<String> = inventory.notes.clone();
    remarks.extend(lookup.remarks);
    Ok(Findings {
        findings,
        remarks,
        checked,
    })
}

struct Lookup<'a> {
    inventory: &'a Inventory,
    database: &'a Database,
    releases: HashMap<Release, Option<i64>>,
    advisories: HashMap<i64, Option<Advisory>>,
    remarks: BTreeSet<String>,
}

type Subjects<'a> = BTreeMap<Subject, Vec<&'a Package>>;

impl<'a> Lookup<'a> {
    /// What is looked up, and how many packages that are.
    fn subjects(&mut self) -> Result<(Subjects<'a>, usize), DatabaseError> {
        let inventory = self.inventory;
        let mut subjects = Subjects::new();
        let mut unknown: BTreeMap<String, usize> = BTreeMap::new();
        let (mut brought, mut checked) = (0_usize, 0_usize);
        for package in &inventory.packages {
            if is_of_the_distribution(package, inventory) {
                brought += 1;
                continue;
            }
            let Some(release) = Release::of_package(package, &inventory.distro) else {
                let distro = inventory.distro.qualifier().unwrap_or_default();
                *unknown.entry(distro).or_default() += 1;
                continue;
            };
            if self.release(&release)?.is_none() {
                *unknown.entry(release.to_string()).or_default() += 1;
                continue;
            }
            checked += 1;
            let (name, version) = sources_of(package, &release);
            let subject = Subject {
                name: release.package_name(&name),
                version,
                release,
            };
            subjects.entry(subject).or_default().push(package);
        }
        for (name, count) in unknown {
            let of = if name.is_empty() {
                "an unknown distribution"
            } else {
                &name
            };
            self.remarks.insert(format!(
                "the database has nothing about {of}: {count} {} not looked up",
                plural(count, "package is", "packages are")
            ));
        }
        if brought > 0 {
            self.remarks.insert(format!(
                "{brought} {} with packages of the distribution: its advisories count for them",
                plural(
                    brought,
                    "package of a language came",
                    "packages of languages came"
                )
            ));
        }
        Ok((with_epochs(subjects), checked))
    }

    fn release(&mut self, release: &Release) -> Result<Option<i64>, DatabaseError> {
        if let Some(known) = self.releases.get(release) {
            return Ok(*known);
        }
        let number = self.database.release(release)?;
        self.releases.insert(release.clone(), number);
        Ok(number)
    }

    fn advisory(&mut self, number: i64) -> Result<Option<Advisory>, DatabaseError> {
        if let Some(known) = self.advisories.get(&number) {
            return Ok(known.clone());
        }
        let advisory = self.database.advisory(number)?;
        self.advisories.insert(number, advisory.clone());
        Ok(advisory)
    }

    fn findings_of(
        &mut self,
        subject: &Subject,
        packages: &[&Package],
        findings: &mut Vec<Finding>,
    ) -> Result<(), DatabaseError> {
        let Some(number) = self.release(&subject.release)? else {
            return Ok(());
        };
        let mut told = Vec::new();
        let release = (number, &subject.release);
        self.statements(release, &subject.name, &subject.version, &mut told)?;
        // Advisories of some distributions name what is installed instead of what it was built from, with its own version:
        // bpftool 7.3.0 is built from kernel 5.14.0.
        let own: BTreeSet<(String, &str)> = packages
            .iter()
            .filter(|package| package.ecosystem != Ecosystem::Deb)
            .map(|package| {
                let name = subject.release.package_name(&package.name);
                (name, package.version.as_str())
            })
            .filter(|(name, _)| *name != subject.name)
            .collect();
        for (name, version) in own {
            self.statements(release, &name, version, &mut told)?;
        }
        for (id, statements) in self.by_vulnerability(subject, told)? {
            let packages: Vec<&Package> = packages
                .iter()
                .copied()
                .filter(|package| {
                    let name = subject.release.package_name(&package.name);
                    statements.iter().any(|(statement, _)| {
                        statement.affected.package == subject.name
                            || statement.affected.package == name
                                && statement.version == package.version
                    })
                })
                .collect();
            findings.push(self.finding(id, subject, &packages, &statements)?);
        }
        Ok(())
    }

    fn statements(
        &mut self,
        release: (i64, &Release),
        name: &str,
        version: &str,
        told: &mut Vec<Statement>,
    ) -> Result<(), DatabaseError> {
        for (advisory, affected) in self.database.statements(release, name)? {
            let status = affected.status(version);
            if status == Status::Unknown {
                self.remarks.insert(format!(
                    "{name} {version} can't be compared with what is said of it"
                ));
            }
            told.push(Statement {
                advisory,
                affected,
                version: version.to_owned(),
                status,
            });
        }
        Ok(())
    }

    /// What affects the subject, by the vulnerability.
    fn by_vulnerability(
        &mut self,
        subject: &Subject,
        told: Vec<Statement>,
    ) -> Result<BTreeMap<String, Vec<(Statement, Advisory)>>, DatabaseError> {
        let mut known = Vec::new();
        for statement in told {
            if let Some(advisory) = self.advisory(statement.advisory)? {
                known.push((statement, advisory));
            }
        }
        // A record that names no CVE can be of one that another record gives the same name.
        let mut better: HashMap<String, String> = HashMap::new();
        for (_, advisory) in &known {
            if let [only] = advisory.about.as_slice() {
                for name in std::iter::once(&advisory.id).chain(&advisory.aliases) {
                    let best = better.entry(name.clone()).or_insert_with(|| only.clone());
                    if preference(only) < preference(best) {
                        best.clone_from(only);
                    }
                }
            }
        }
        let mut found: BTreeMap<String, Vec<(Statement, Advisory)>> = BTreeMap::new();
        let mut tracked: BTreeMap<String, bool> = BTreeMap::new();
        for (statement, advisory) in known {
            for id in &advisory.about {
                let id = better
                    .get(id)
                    .filter(|best| preference(best) < preference(id))
                    .unwrap_or(id);
                let affected = matches!(statement.status, Status::Affected { .. });
                if advisory.kind == Kind::DebianTracker {
                    let before = tracked.entry(id.clone()).or_default();
                    *before |= affected;
                }
                if affected {
                    found
                        .entry(id.clone())
                        .or_default()
                        .push((statement.clone(), advisory.clone()));
                }
            }
        }
        if subject.release.is_debian() {
            // The records of OSV are made of the tracker, and can be older.
            found.retain(|id, _| tracked.get(id).copied().unwrap_or(true));
            for statements in found.values_mut() {
                let said = statements
                    .iter()
                    .find(|(_, advisory)| advisory.kind == Kind::DebianTracker)
                    .map(|(statement, _)| statement.status.clone());
                if let Some(said) = said {
                    for (statement, _) in statements {
                        statement.status.clone_from(&said);
                    }
                }
            }
        }
        Ok(found)
    }

    fn finding(
        &self,
        id: String,
        subject: &Subject,
        packages: &[&Package],
        statements: &[(Statement, Advisory)],
    ) -> Result<Finding, DatabaseError> {
        // What OSV says of the vulnerability itself, whoever is affected.
        let own = self.database.record(&id)?;
        let records = || statements.iter().map(|(_, advisory)| advisory).chain(&own);
        let alone = |advisory: &&Advisory| advisory.about.len() == 1;
        let scheme = subject.release.scheme();
        let mut fixed: Vec<String> = statements
            .iter()
            .filter_map(|(statement, _)| match &statement.status {
                Status::Affected { fixed } => fixed.clone(),
                _ => None,
            })
            .collect();
        fixed.sort_by(|one, other| {
            compare(scheme, one, other)
                .unwrap_or(Ordering::Equal)
                .then_with(|| one.cmp(other))
        });
        fixed.dedup();
        // The vectors of an advisory about many can be those of any of them.
        let of_this = scores(records().filter(alone));
        let scores = if of_this.is_empty() {
            scores(records())
        } else {
            of_this
        };
        let severity = severity(&scores, statements, &own);
        let best = scores.first().filter(|score| score.severity() == severity);
        let mut aliases: BTreeSet<String> = records()
            // An advisory about many is not another name of one, but people look for it.
            .flat_map(|advisory| {
                let names: &[String] = if alone(&advisory) {
                    &advisory.aliases
                } else {
                    &[]
                };
                std::iter::once(&advisory.id).chain(names)
            })
            .cloned()
            .collect();
        aliases.remove(&id);
        let summary = records()
            .filter(alone)
            .chain(records())
            .map(|advisory| &advisory.summary)
            .find(|summary| !summary.is_empty())
            .cloned()
            .unwrap_or_default();
        let mut references: Vec<String> = Vec::new();
        for reference in records().flat_map(|advisory| &advisory.references) {
            if references.len() < MOST_REFERENCES && !references.contains(reference) {
                references.push(reference.clone());
            }
        }
        let mut installed: Vec<Installed> = packages
            .iter()
            .map(|package| Installed {
                name: package.name.clone(),
                version: package.version.clone(),
                architecture: package.architecture.clone(),
                purl: package.purl(&self.inventory.distro).to_string(),
                kind: package.ecosystem.purl_type().to_owned(),
                paths: package.paths.iter().cloned().collect(),
            })
            .collect();
        installed.sort();
        let mut sources: Vec<String> = statements
            .iter()
            .map(|(_, advisory)| match advisory.kind {
                Kind::Osv => format!("OSV {}", advisory.id),
                Kind::DebianTracker => "Debian security tracker".to_owned(),
            })
            .collect();
        sources.sort();
        sources.dedup();
        // A version that is comparable with those that correct it: of what is installed, if nothing is said of its sources.
        let compared: BTreeSet<&str> = statements
            .iter()
            .map(|(statement, _)| statement.version.as_str())
            .collect();
        let compared = match compared.first() {
            Some(only) if compared.len() == 1 => (*only).to_owned(),
            _ => subject.version.clone(),
        };
        let own_first = own
            .iter()
            .chain(statements.iter().map(|(_, advisory)| advisory));
        Ok(Finding {
            aliases: aliases.into_iter().collect(),
            summary,
            severity,
            score: best.map(|score| score.score),
            vector: best.map(|score| score.vector.clone()),
            scores,
            ecosystem: subject.release.to_string(),
            package: subject.name.clone(),
            installed: compared,
            fixed,
            packages: installed,
            sources,
            references,
            published: own_first
                .filter_map(|advisory| advisory.published.clone())
                .next(),
            modified: records()
                .filter_map(|advisory| advisory.modified.clone())
                .max(),
            note: statements
                .iter()
                .find_map(|(statement, _)| statement.affected.note.clone()),
            exception: None,
            id,
        })
    }
}

/// Vectors, newest version of CVSS first, then the highest; each once.
fn scores<'a>(records: impl Iterator<Item = &'a Advisory>) -> Vec<Score> {
    let mut scores: Vec<Score> = Vec::new();
    for score in records.flat_map(|advisory| &advisory.scores) {
        if !scores.iter().any(|known| known.vector == score.vector) {
            scores.push(score.clone());
        }
    }
    scores.sort_by(|one, other| {
        other
            .version
            .cmp(&one.version)
            .then_with(|| other.score.total_cmp(&one.score))
            .then_with(|| one.vector.cmp(&other.vector))
    });
    scores
}

/// How bad it is: without effect if its distribution says so, else by its best score, else by its vendors' words.
fn severity(
    scores: &[Score],
    statements: &[(Statement, Advisory)],
    own: &Option<Advisory>,
) -> Severity {
    let without_effect = statements.iter().any(|(statement, advisory)| {
        advisory.kind == Kind::DebianTracker
            && statement.affected.severity == Some(Severity::Informational)
    });
    if without_effect {
        return Severity::Informational;
    }
    if let Some(score) = scores.first() {
        return score.severity();
    }
    let said = statements
        .iter()
        .filter_map(|(statement, advisory)| statement.affected.severity.or(advisory.severity));
    said.chain(own.iter().filter_map(|record| record.severity))
        .max()
        .unwrap_or_default()
}

/// Name and version of the sources, as advisories have them; those of rpm yet without epoch.
fn sources_of(package: &Package, release: &Release) -> (String, String) {
    let (name, version) = (package.source_name(), package.source_version());
    match package.ecosystem {
        // The sources of signatures have versions of their own: `6.1.192+2`, which is after the `6.1.192-2` that was signed.
        Ecosystem::Deb => match release.unsigned_kernel(name) {
            Some(kernel) => (kernel, package.version.clone()),
            None => (name.to_owned(), version.to_owned()),
        },
        Ecosystem::Rpm => {
            let bare = version.split_once(':').map_or(version, |(_, bare)| bare);
            (name.to_owned(), bare.to_owned())
        }
        _ => (name.to_owned(), version.to_owned()),
    }
}

/// Gives sources of rpm their epoch, which the names of their files lack: that of the package named like them, else the highest
/// of what was built from them. Packages with a version of their own can have none: perl-Errno 1.30 is built from perl 4:5.32.1.
fn with_epochs<'a>(subjects: Subjects<'a>) -> Subjects<'a> {
    let epoch = |package: &Package| -> Option<u32> {
        let (epoch, _) = package.version.split_once(':')?;
        (package.ecosystem == Ecosystem::Rpm)
            .then(|| epoch.parse().ok())
            .flatten()
    };
    let complete = |(mut subject, packages): (Subject, Vec<&'a Package>)| {
        let named = packages.iter().find(|package| package.name == subject.name);
        let epoch = match named {
            Some(package) => epoch(package),
            None => packages.iter().filter_map(|package| epoch(package)).max(),
        };
        if let Some(epoch) = epoch {
            subject.version = format!("{epoch}:{}", subject.version);
        }
        (subject, packages)
    };
    subjects.into_iter().map(complete).collect()
}

/// Whether a package of a language was brought by one of the distribution, which corrects it with versions of its own.
fn is_of_the_distribution(package: &Package, inventory: &Inventory) -> bool {
    if package.ecosystem.is_of_a_distribution() {
        return false;
    }
    if package.owner.is_some() {
        return true;
    }
    let has = |ecosystem: Ecosystem| inventory.of(ecosystem).next().is_some();
    // What pip itself installs lies below /usr/local: <https://wiki.debian.org/Python>, and the same at Fedora. Alpine's pip
    // shares /usr/lib with its packages.
    let system = |path: &str| match package.ecosystem {
        Ecosystem::PyPi => {
            (has(Ecosystem::Deb) && path.starts_with("/usr/lib/python3/dist-packages/"))
                || has(Ecosystem::Rpm)
                    && ["/usr/lib/python3", "/usr/lib64/python3"]
                        .iter()
                        .any(|start| path.starts_with(start))
        }
        Ecosystem::Npm => has(Ecosystem::Deb) && path.starts_with("/usr/share/nodejs/"),
        _ => false,
    };
    !package.paths.is_empty() && package.paths.iter().all(|path| system(path))
}

fn plural<'a>(count: usize, one: &'a str, many: &'a str) -> &'a str {
    if count == 1 { one } else { many }
}

#[cfg(test)]
pub(crate) mod tests;
