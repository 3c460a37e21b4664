//! What Go's linker writes into every program: its own version, and since modules the list of them. As
//! <https://pkg.go.dev/debug/buildinfo> reads it; the text of the list is that of `go version -m`.

use super::elf::{Elf, Layout};
use crate::{Ecosystem, Package};

/// The section that holds it, or leads to it.
pub(super) const SECTION: &str = ".go.buildinfo";
/// Its first bytes.
const MAGIC: &[u8] = b"\xff Go buildinf:";
/// Where the size of a pointer stands, and after it the flags.
const POINTER: usize = 14;
/// Numbers have the most significant byte first.
const BIG: u8 = 1;
/// The texts follow here, each after its length; pointers lead to them otherwise, as Go before 1.18 wrote it.
const INLINE: u8 = 2;
/// Where the first pointer stands.
const POINTERS: usize = 16;
/// Where the first text stands.
const TEXTS: usize = 32;
/// Bytes of a list of modules: a hundred a module, and the largest programs have some thousand.
const LONGEST: usize = 2 << 20;
/// Marks before and after the list, by which it can be found in a program that runs.
const MARK: usize = 16;
/// What Go calls the version of a module that was built from a working folder.
const NO_VERSION: &str = "(devel)";

/// The packages of a program; none if what the section holds is not as Go writes it.
pub(super) fn packages(program: &Elf<'_>, section: &[u8]) -> Option<Vec<Package>> {
    let (version, modules) = texts(program, section)?;
    let mut packages = Vec::new();
    // Of a development version: `devel go1.23-4d1d9bd Tue Jan 2 …`, of one with experiments: `go1.22.1 X:boringcrypto`.
    if let Some(version) = version.split(' ').find_map(|word| word.strip_prefix("go")) {
        packages.push(Package::new(Ecosystem::Go, "stdlib", version));
    }
    packages.extend(self::modules(&modules));
    Some(packages)
}

/// Go's version and the list of modules.
fn texts(program: &Elf<'_>, section: &[u8]) -> Option<(String, String)> {
    if !section.starts_with(MAGIC) {
        return None;
    }
    let (pointer, flags) = (*section.get(POINTER)?, *section.get(POINTER + 1)?);
    let (version, modules) = if flags & INLINE != 0 {
        let (version, rest) = inline(section.get(TEXTS..)?)?;
        (version.to_vec(), inline(rest)?.0.to_vec())
    } else {
        let layout = Layout {
            wide: match pointer {
                4 => false,
                8 => true,
                _ => return None,
            },
            big: flags & BIG != 0,
        };
        let text = |index: usize| {
            let at = POINTERS + index * layout.address();
            let header = layout.number(section, at, layout.address())?;
            pointed(program, layout, header)
        };
        (text(0)?, text(1)?)
    };
    let modules = match modules.len().checked_sub(2 * MARK) {
        Some(length) if modules[MARK..MARK + length].ends_with(b"\n") => {
            modules[MARK..MARK + length].to_vec()
        }
        _ => Vec::new(),
    };
    Some((
        String::from_utf8(version).ok()?,
        String::from_utf8(modules).ok()?,
    ))
}

/// A text after its length, and what follows.
fn inline(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = varint(bytes)?;
    rest.split_at_checked(usize::try_from(length).ok()?)
}

/// Seven bits a byte, the least significant first, and the eighth says that there are more.
fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0_u64;
    for (index, byte) in bytes.iter().enumerate().take(9) {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some((value, &bytes[index + 1..]));
        }
    }
    None
}

/// A string of Go's: its header, which has an address and a length, is at an address itself. Null is an empty one.
fn pointed(program: &Elf<'_>, layout: Layout, header: u64) -> Option<Vec<u8>> {
    if header == 0 {
        return Some(Vec::new());
    }
    let bytes = program.memory(header, 2 * layout.address())?;
    let address = layout.number(&bytes, 0, layout.address())?;
    let length = layout.number(&bytes, layout.address(), layout.address())?;
    let length = usize::try_from(length)
        .ok()
        .filter(|length| *length <= LONGEST)?;
    if length == 0 {
        return Some(Vec::new());
    }
    program.memory(address, length)
}

/// A module by its line: path, version and checksum after a word that says what it is.
fn modules(list: &str) -> Vec<Package> {
    let mut packages: Vec<Package> = Vec::new();
    // A line that replaces belongs to the one before it, if that was a module at all.
    let mut replaceable = false;
    for line in list.lines() {
        let mut fields = line.split('\t');
        let word = fields.next().unwrap_or_default();
        let (Some(path), version, sum) = (
            fields.next(),
            fields.next().unwrap_or_default(),
            fields.next().filter(|sum| !sum.is_empty()),
        ) else {
            continue;
        };
        let module = || Package {
            checksum: sum.map(str::to_owned),
            ..Package::new(
                Ecosystem::Go,
                path,
                if version.is_empty() {
                    NO_VERSION
                } else {
                    version
                },
            )
        };
        match word {
            "mod" | "dep" => {
                packages.push(module());
                replaceable = true;
            }
            "=>" if replaceable => {
                // A folder of whoever built it has no version: the module keeps the name and version that it replaces.
                if !version.is_empty() && version != NO_VERSION {
                    packages.pop();
                    packages.push(module());
                }
                replaceable = false;
            }
            _ => replaceable = false,
        }
    }
    packages
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(list: &str) -> Vec<String> {
        modules(list)
            .into_iter()
            .map(|package| {
                format!(
                    "{} {} {}",
                    package.name,
                    package.version,
                    package.checksum.unwrap_or_default()
                )
            })
            .collect()
    }

    #[test]
    fn each_module_by_what_was_linked() {
        let list = "path\texample.org/tool/cmd/tool\nmod\texample.org/tool\t(devel)\t\n\
                    dep\tgolang.org/x/text\tv0.3.7\th1:olpwvP2=\n\
                    dep\tgithub.com/old/fork\tv1.0.0\n=>\tgithub.com/new/fork\tv1.2.0-rc.1+incompatible\th1:abc=\n\
                    dep\texample.org/near\tv0.0.0\n=>\t../near\t(devel)\t\n\
                    =>\texample.org/nothing\tv9\nbuild\tCGO_ENABLED=0\nbuild\tdep\tv1\n";
        assert_eq!(
            shown(list),
            [
                "example.org/tool (devel) ",
                "golang.org/x/text v0.3.7 h1:olpwvP2=",
                "github.com/new/fork v1.2.0-rc.1+incompatible h1:abc=",
                "example.org/near v0.0.0 ",
            ]
        );
        for nothing in ["", "dep", "=>\tx\tv1", "mod\n\n\n", "\t\t\t"] {
            assert_eq!(shown(nothing), [""; 0], "{nothing:?}");
        }
    }

    #[test]
    fn lengths_are_read_as_they_are_written() {
        for (bytes, wanted) in [
            (&[0x05, 9][..], Some((5, &[9][..]))),
            (&[0xac, 0x02], Some((300, &[]))),
            (&[0x80], None),
            (&[0xff; 20], None),
            (&[], None),
        ] {
            assert_eq!(varint(bytes), wanted);
        }
    }
}
