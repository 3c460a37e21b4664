//! Headers of POSIX tar archives: ustar, with PAX records where ustar ends.
//!
//! Written for archives that are the same bytes whenever they are made: no name of the machine, its users or its
//! clock goes in.

use std::io::Write as _;

use crate::{Error, Result};

/// The unit of a tar archive.
pub(crate) const BLOCK: u64 = 512;

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    HardLink(Vec<u8>),
    Symlink(Vec<u8>),
    CharDevice(u32, u32),
    BlockDevice(u32, u32),
    Directory,
    Fifo,
}

/// One entry's attributes.
#[derive(Debug, Clone)]
pub(crate) struct Header<'a> {
    /// Path without a slash in front; folders end in one.
    pub(crate) path: &'a [u8],
    pub(crate) kind: Kind,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) size: u64,
    pub(crate) mtime: i64,
    /// Records such as `SCHILY.xattr.security.capability`, sorted.
    pub(crate) records: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Header<'_> {
    /// The header blocks, PAX blocks included.
    pub(crate) fn encode(&self) -> Result<Vec<u8>> {
        let mut records = Vec::new();
        let (prefix, name) = split_path(self.path).unwrap_or_else(|| {
            records.push((b"path".to_vec(), self.path.to_vec()));
            (&[][..], clip(self.path, 100))
        });
        let link: &[u8] = match &self.kind {
            Kind::HardLink(target) | Kind::Symlink(target) => target,
            _ => &[],
        };
        if link.len() > 100 {
            records.push((b"linkpath".to_vec(), link.to_vec()));
        }
        let mut number = |key: &str, value: u64, limit: u64| {
            if value > limit {
                records.push((key.as_bytes().to_vec(), value.to_string().into_bytes()));
                return 0;
            }
            value
        };
        let uid = number("uid", self.uid.into(), 0o777_7777);
        let gid = number("gid", self.gid.into(), 0o777_7777);
        let size = number("size", self.size, MAX_OCTAL_SIZE);
        let mtime = match u64::try_from(self.mtime) {
            Ok(seconds) if seconds <= 0o777_7777_7777 => seconds,
            _ => {
                records.push((b"mtime".to_vec(), self.mtime.to_string().into_bytes()));
                0
            }
        };
        records.extend(self.records.iter().cloned());

        let mut out = Vec::with_capacity(512);
        if !records.is_empty() {
            let body = pax(&records)?;
            let base = self.path.strip_suffix(b"/").unwrap_or(self.path);
            let base = base.rsplit(|&b| b == b'/').next().unwrap_or_default();
            let name = [b"PaxHeaders/", clip(base, 80)].concat();
            out.extend(ustar(&Fields {
                name: &name,
                size: body.len() as u64,
                flag: b'x',
                mode: 0o644,
                ..Fields::default()
            })?);
            out.extend_from_slice(&body);
            out.resize(out.len().next_multiple_of(512), 0);
        }
        let (flag, device) = match self.kind {
            Kind::File => (b'0', None),
            Kind::HardLink(_) => (b'1', None),
            Kind::Symlink(_) => (b'2', None),
            Kind::CharDevice(major, minor) => (b'3', Some((major, minor))),
            Kind::BlockDevice(major, minor) => (b'4', Some((major, minor))),
            Kind::Directory => (b'5', None),
            Kind::Fifo => (b'6', None),
        };
        out.extend(ustar(&Fields {
            name,
            prefix,
            link: clip(link, 100),
            mode: self.mode,
            uid,
            gid,
            size,
            mtime,
            flag,
            device,
        })?);
        Ok(out)
    }
}

/// Zeros that bring content of a size to whole blocks.
pub(crate) fn padding(size: u64) -> usize {
    crate::bytes::index(size.next_multiple_of(BLOCK) - size)
}

/// The two zero blocks that end an archive.
pub(crate) const END: [u8; 1024] = [0; 1024];

/// What the fixed fields of a ustar header say.
#[derive(Default)]
struct Fields<'a> {
    name: &'a [u8],
    prefix: &'a [u8],
    link: &'a [u8],
    mode: u32,
    uid: u64,
    gid: u64,
    size: u64,
    mtime: u64,
    flag: u8,
    device: Option<(u32, u32)>,
}

fn ustar(fields: &Fields<'_>) -> Result<[u8; 512]> {
    let mut block = [0u8; 512];
    let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, fields.name);
    put(100, &octal::<8>(fields.mode.into())?);
    put(108, &octal::<8>(fields.uid)?);
    put(116, &octal::<8>(fields.gid)?);
    put(124, &size_field(fields.size)?);
    put(136, &octal::<12>(fields.mtime)?);
    put(148, b"        ");
    put(156, &[fields.flag]);
    put(157, fields.link);
    put(257, b"ustar\x0000");
    let (major, minor) = fields.device.unwrap_or_default();
    put(329, &octal::<8>(major.into())?);
    put(337, &octal::<8>(minor.into())?);
    put(345, fields.prefix);
    let sum: u32 = block.iter().map(|&b| u32::from(b)).sum();
    let sum = format!("{sum:06o}\0 ");
    block[148..156].copy_from_slice(sum.as_bytes());
    Ok(block)
}

/// The header of one plain file, always one block: room can be left for it before the size is known.
pub(crate) fn file_header(path: &[u8], size: u64) -> Result<[u8; 512]> {
    if path.len() > 100 {
        return Err(Error::limit(format!("a name of {} bytes", path.len())));
    }
    ustar(&Fields {
        name: path,
        size,
        flag: b'0',
        mode: 0o644,
        ..Fields::default()
    })
}

/// A size: octal digits up to 8 GiB, and binary with the first bit set beyond, as GNU and Go write and read it.
fn size_field(size: u64) -> Result<[u8; 12]> {
    if size <= MAX_OCTAL_SIZE {
        return octal::<12>(size);
    }
    let mut field = [0; 12];
    field[0] = 0x80;
    field[4..].copy_from_slice(&size.to_be_bytes());
    Ok(field)
}

/// Eleven octal digits.
const MAX_OCTAL_SIZE: u64 = 0o777_7777_7777;

/// A number as octal digits and a NUL that fill a field.
fn octal<const N: usize>(value: u64) -> Result<[u8; N]> {
    let mut field = [0u8; N];
    let mut cursor = &mut field[..N - 1];
    let width = N - 1;
    write!(cursor, "{value:0width$o}")
        .map_err(|_| Error::limit(format!("{value} in a tar field of {width} digits")))?;
    Ok(field)
}

/// Splits a path over prefix (155 bytes) and name (100 bytes) at a slash; `None` when it does not fit.
fn split_path(path: &[u8]) -> Option<(&[u8], &[u8])> {
    if path.len() <= 100 {
        return Some((&[], path));
    }
    let least = path.len() - 101;
    (least..path.len().saturating_sub(1).min(156))
        .find(|&i| path[i] == b'/' && i > 0)
        .map(|i| (&path[..i], &path[i + 1..]))
}

fn clip(bytes: &[u8], most: usize) -> &[u8] {
    &bytes[..bytes.len().min(most)]
}

/// PAX records: each begins with its own length in decimal, the digits included.
fn pax(records: &[(Vec<u8>, Vec<u8>)]) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    for (key, value) in records {
        if key.contains(&b'=') || key.contains(&0) {
            return Err(Error::unsupported(format!(
                "attribute name {:?} in a tar archive",
                String::from_utf8_lossy(key)
            )));
        }
        let rest = key.len() + value.len() + 3;
        let mut total = rest + rest.to_string().len();
        if rest + total.to_string().len() != total {
            total = rest + total.to_string().len();
        }
        body.extend_from_slice(total.to_string().as_bytes());
        body.push(b' ');
        body.extend_from_slice(key);
        body.push(b'=');
        body.extend_from_slice(value);
        body.push(b'\n');
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pax_lengths_count_themselves() {
        for length in 0..1100 {
            let body = pax(&[(b"k".to_vec(), vec![b'v'; length])]).unwrap();
            let digits = body.iter().take_while(|b| b.is_ascii_digit()).count();
            let stated: usize = std::str::from_utf8(&body[..digits])
                .unwrap()
                .parse()
                .unwrap();
            assert_eq!(stated, body.len(), "value of {length} bytes");
        }
    }

    #[test]
    fn sizes_beyond_eight_gibibytes_are_binary() {
        let field = |size| file_header(b"blob", size).unwrap()[124..136].to_vec();
        assert_eq!(field(MAX_OCTAL_SIZE), b"77777777777\0");
        assert_eq!(field(1 << 33), [0x80, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0]);
        assert!(file_header(&[b'x'; 101], 1).is_err());
    }

    #[test]
    fn long_paths_split_at_a_slash_or_become_records() {
        let long = [vec![b'a'; 90], b"/".to_vec(), vec![b'b'; 90]].concat();
        assert_eq!(split_path(&long), Some((&long[..90], &long[91..])));
        let folder = [vec![b'a'; 120], b"/".to_vec()].concat();
        assert_eq!(split_path(&folder), None, "a name may not be empty");
        assert_eq!(split_path(&[b'x'; 101]), None);
    }
}
