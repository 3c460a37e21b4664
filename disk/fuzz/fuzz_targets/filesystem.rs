//! Any bytes as a raw disk: partition tables, filesystems, their trees and files.
#![no_main]

use std::io::Write;
use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use ovenbird_disk::fs::{self, Identity, NodeKind, Volume};
use ovenbird_disk::{DiskReader, Format, NoProgress, OpenOptions, Window, open_with};

fuzz_target!(|data: &[u8]| {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(data).expect("a written file");
    let Ok(disk) = open_with(file.path(), &OpenOptions::new().format(Format::Raw)) else {
        return;
    };
    let Ok(volumes) = Volume::list(&*disk) else {
        return;
    };
    for volume in volumes {
        if let Ok(window) = Window::new(&*disk as &dyn DiskReader, volume.start, volume.length) {
            let _ = Identity::read(&window, volume.kind);
        }
        let Ok(fs) = volume.open(Arc::clone(&disk)) else {
            continue;
        };
        let Ok(root) = fs.node(fs.root()) else {
            continue;
        };
        let mut left = 200;
        let _ = fs::walk(&*fs, &root, &mut |_, node| {
            let _ = fs.xattrs(node);
            if node.kind == NodeKind::File && node.size < 1 << 20 {
                let _ = fs::copy_to(&*fs, node, &mut std::io::sink(), &NoProgress);
            }
            left -= 1;
            if left == 0 {
                Err(ovenbird_disk::Error::cancelled())
            } else {
                Ok(true)
            }
        });
    }
});
