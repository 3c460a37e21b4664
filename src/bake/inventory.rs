//! What is in the guest: operating system and packages, asked from the guest's own tools.

use crate::error::Result;
use crate::guest::Guest;
use crate::output::manifest::{OsRelease, Package};

/// One line a package: name, version, architecture, separated by tabs. The first package manager that is there counts.
const PACKAGES: &str = r#"
if command -v dpkg-query >/dev/null 2>&1; then
  dpkg-query -W -f='${db:Status-Status}\t${Package}\t${Version}\t${Architecture}\n' | sed -E -n 's/^(installed|unpacked|half-configured|triggers-awaited|triggers-pending)\t//p'
elif command -v rpm >/dev/null 2>&1; then
  rpm -qa --qf '%{NAME}\t%|EPOCH?{%{EPOCH}:}|%{VERSION}-%{RELEASE}\t%{ARCH}\n' | sed '/^gpg-pubkey\t/d'
elif command -v apk >/dev/null 2>&1; then
  apk list --installed 2>/dev/null | sed -n 's/^\(.*\)-\([0-9][^ ]*\) \([^ ]*\) .*/\1\t\2\t\3/p'
fi"#;

/// Asks for the operating system and its packages.
///
/// # Errors
/// A guest failure if a command fails.
pub async fn collect(guest: &Guest) -> Result<(OsRelease, Vec<Package>)> {
    let release = guest
        .root(
            "reading /etc/os-release",
            "cat /etc/os-release 2>/dev/null || true",
        )
        .await?;
    let packages = guest.root("listing packages", PACKAGES).await?;
    Ok((
        parse_os_release(&release.text()),
        parse_packages(&packages.text()),
    ))
}

fn parse_os_release(text: &str) -> OsRelease {
    let mut release = OsRelease::default();
    for line in text.lines() {
        let Some((key, value)) = line.split_once('=') else {
            continue;
        };
        let value = value.trim().trim_matches(['"', '\'']).to_owned();
        match key.trim() {
            "ID" => release.id = value,
            "VERSION_ID" => release.version = value,
            "PRETTY_NAME" => release.pretty_name = value,
            _ => {}
        }
    }
    release
}

fn parse_packages(text: &str) -> Vec<Package> {
    let mut packages: Vec<Package> = text
        .lines()
        .filter_map(|line| {
            let mut fields = line.split('\t');
            Some(Package {
                name: fields.next().filter(|name| !name.is_empty())?.to_owned(),
                version: fields.next()?.to_owned(),
                architecture: fields.next()?.to_owned(),
            })
        })
        .collect();
    packages.sort();
    packages.dedup();
    packages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn os_release_with_and_without_quotes() {
        let release = parse_os_release(
            "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nID=debian\nVERSION_ID='12'\nX\n",
        );
        assert_eq!(release.id, "debian");
        assert_eq!(release.version, "12");
        assert_eq!(release.pretty_name, "Debian GNU/Linux 12 (bookworm)");
    }

    #[test]
    fn packages_are_sorted_and_broken_lines_dropped() {
        let packages = parse_packages("zsh\t5.9-4\tamd64\nbash\t5.2\tamd64\nbroken\n\t\t\n");
        let names: Vec<_> = packages
            .iter()
            .map(|package| package.name.as_str())
            .collect();
        assert_eq!(names, ["bash", "zsh"]);
    }
}
