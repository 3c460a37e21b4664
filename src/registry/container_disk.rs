//! The disk in a container image, as KubeVirt carries it.

use std::fs::File;
use std::io::{BufReader, Read, Write as _};

use camino::Utf8Path;

use super::{RegistryError, Result};

/// Takes the one file below `disk/` out of a layer.
///
/// Returns false if the layer has none.
///
/// # Errors
/// [`RegistryError::BadContent`] if there are several, or [`RegistryError::Io`].
pub fn extract_disk(layer: &Utf8Path, media_type: &str, target: &Utf8Path) -> Result<bool> {
    let bad = |action| RegistryError::io(action, layer);
    let file = BufReader::new(File::open(layer).map_err(bad("open"))?);
    let stream: Box<dyn Read> = if media_type.ends_with("gzip") {
        Box::new(flate2::bufread::MultiGzDecoder::new(file))
    } else if media_type.ends_with("zstd") {
        Box::new(zstd::Decoder::with_buffer(file).map_err(bad("read"))?)
    } else {
        Box::new(file)
    };
    let mut archive = tar::Archive::new(stream);
    let mut found = false;
    for entry in archive.entries().map_err(bad("read"))? {
        let mut entry = entry.map_err(bad("read"))?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let name = name.trim_start_matches("./").trim_start_matches('/');
        if !name.starts_with("disk/") || !entry.header().entry_type().is_file() {
            continue;
        }
        if found {
            return Err(RegistryError::content(
                layer.as_str(),
                "has several files below disk/",
            ));
        }
        found = true;
        copy_sparse(&mut entry, target)?;
    }
    Ok(found)
}

/// Copies a stream to a file, leaving holes for zeros.
pub(super) fn copy_sparse(from: &mut impl Read, target: &Utf8Path) -> Result<()> {
    use std::io::{Seek as _, SeekFrom};
    let mut file = File::create(target).map_err(RegistryError::io("create", target))?;
    let mut buffer = vec![0; 1 << 16];
    let mut length = 0u64;
    loop {
        let mut filled = 0;
        while filled < buffer.len() {
            match from
                .read(&mut buffer[filled..])
                .map_err(RegistryError::io("read the layer for", target))?
            {
                0 => break,
                count => filled += count,
            }
        }
        if filled == 0 {
            break;
        }
        let bad = RegistryError::io("write", target);
        if ovenbird_disk::bytes::is_zero(&buffer[..filled]) {
            file.seek(SeekFrom::Current(filled as i64)).map(drop)
        } else {
            file.write_all(&buffer[..filled])
        }
        .map_err(bad)?;
        length += filled as u64;
    }
    file.set_len(length)
        .map_err(RegistryError::io("write", target))
}
