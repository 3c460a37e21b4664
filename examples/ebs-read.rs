//! How fast a disk is read for the road of blocks, for `benches/ebs.sh`: every stored block, with its SHA-256, sent nowhere.
//!
//!     ebs-read DISK
//!
//! Prints the blocks, their GiB and the GiB per second.

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use ovenbird::aws::ebs::{BLOCK, BlockReader, stored_blocks};

fn main() -> ExitCode {
    let Some(path) = std::env::args().nth(1) else {
        eprintln!("usage: ebs-read DISK");
        return ExitCode::from(2);
    };
    let disk = match ovenbird_disk::open(path.as_ref()) {
        Ok(disk) => BlockReader::new(disk),
        Err(error) => {
            eprintln!("cannot open {path}: {error}");
            return ExitCode::FAILURE;
        }
    };
    let began = Instant::now();
    let blocks = stored_blocks(disk.disk()).expect("the disk's map");
    let (next, sent) = (AtomicUsize::new(0), AtomicU64::new(0));
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some(index) = blocks.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if disk.read(*index).expect("a block").is_some() {
                        sent.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let seconds = began.elapsed().as_secs_f64();
    let blocks = sent.into_inner();
    let mib = blocks * (BLOCK >> 10) / 1024;
    // Exact below 2^53, which no disk reaches in MiB.
    let gib = f64::from(u32::try_from(mib).unwrap_or(u32::MAX)) / 1024.0;
    println!("{blocks} blocks, {gib:.2} GiB, {:.2} GiB/s", gib / seconds);
    ExitCode::SUCCESS
}
