//! apk's database: lines of a letter, a colon and a value, see <https://wiki.alpinelinux.org/wiki/Apk_spec>.

use ovenbird_disk::fs::FileSystem;

use super::{Found, LARGEST_DATABASE};
use crate::{Ecosystem, Package, Source};

const PLACES: [&str; 2] = ["/lib/apk/db/installed", "/usr/lib/apk/db/installed"];

pub(super) fn read(root: &dyn FileSystem, found: &mut Found) {
    // Where /lib leads to /usr/lib both are one file.
    for path in PLACES {
        let Some(text) = found.file(root, path, LARGEST_DATABASE) else {
            continue;
        };
        for stanza in text.split("\n\n") {
            let field = |letter: &str| {
                let mut lines = stanza.lines();
                lines.find_map(|line| line.strip_prefix(letter)?.strip_prefix(':'))
            };
            let (Some(name), Some(version)) = (field("P"), field("V")) else {
                continue;
            };
            let mut package = Package::new(Ecosystem::Apk, name, version);
            package.architecture = field("A").map(str::to_owned);
            package.supplier = field("m").map(str::to_owned);
            package.licenses = field("L").map(str::to_owned).into_iter().collect();
            package.source = field("o")
                .filter(|origin| *origin != name)
                .map(|origin| Source {
                    name: origin.to_owned(),
                    version: None,
                });
            package.paths.insert(path.to_owned());
            found.add(package);
        }
        return;
    }
}
