//! Any bytes as an image: opening, mapping and reading it ends, within bounds, in an answer or an error.
#![no_main]

use std::io::Write;

use libfuzzer_sys::fuzz_target;
use ovenbird_disk::{Extents, OpenOptions, open_with};

fuzz_target!(|data: &[u8]| {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(data).expect("a written file");
    let Ok(disk) = open_with(file.path(), &OpenOptions::new().no_backing()) else {
        return;
    };
    let mut buffer = vec![0; 64 << 10];
    for extent in Extents::new(&*disk).take(64) {
        let Ok(extent) = extent else { return };
        let length = usize::try_from(extent.length)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let _ = disk.read_at(&mut buffer[..length], extent.offset);
    }
});
