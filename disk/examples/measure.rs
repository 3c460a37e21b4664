//! Times one operation on one disk and prints a line: the inner loop of the benchmarks.
//!
//! `measure OPERATION DISK OUT [LEVEL]`, with `verify` in `MEASURE` to read the result back as well.

use std::path::Path;
use std::time::Instant;

use ovenbird_disk::oci::{self, ExportOptions, LayerCompression};
use ovenbird_disk::{
    ConvertOptions, NoProgress, Profile, QcowCompression, Target, convert, disk_digest, open,
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (operation, input, output, level) = match args.as_slice() {
        [operation, input, output] => (operation, input, output, None),
        [operation, input, output, level] => (operation, input, output, Some(level.parse::<u8>()?)),
        _ => return Err("usage: measure oci-gzip|oci-zstd|digest|raw|qcow2|qcow2-zlib|qcow2-zstd|vmdk|vhd|vhdx DISK OUT [LEVEL]".into()),
    };
    let disk = open(Path::new(input))?;
    let begin = Instant::now();
    let out = Path::new(output);
    let layer = |compression| {
        let options = ExportOptions {
            compression,
            ..ExportOptions::default()
        };
        oci::export(disk.clone(), &options, out, &NoProgress).map(|s| s.layer.size)
    };
    let careful = std::env::var("MEASURE").is_ok_and(|v| v == "verify");
    let write = |target: Target| {
        // qemu-img neither syncs nor hashes nor reads back.
        let options = ConvertOptions {
            threads: 0,
            durable: careful,
            sha256: careful,
            verify: careful,
        };
        convert(&*disk, &target, &options, out, &NoProgress).map(|w| w.bytes)
    };
    let qcow2 = |compression| write(Target::Qcow2 { compression });
    let bytes = match operation.as_str() {
        "oci-gzip" => layer(LayerCompression::Gzip(level.unwrap_or(6)))?,
        "oci-zstd" => layer(LayerCompression::Zstd(level.unwrap_or(3)))?,
        "digest" => disk_digest(&*disk, &NoProgress).map(|_| disk.virtual_size())?,
        "raw" => write(Target::Raw)?,
        "qcow2" => qcow2(None)?,
        "qcow2-zlib" => qcow2(Some(QcowCompression::Zlib(level.unwrap_or(6))))?,
        "qcow2-zstd" => qcow2(Some(QcowCompression::Zstd(level.unwrap_or(3))))?,
        "vmdk" => write(Target::Vmdk {
            profile: Profile::Aws,
            level: level.unwrap_or(ovenbird_disk::DEFAULT_DEFLATE_LEVEL),
        })?,
        "vhd" => write(Target::VhdDynamic)?,
        "vhdx" => write(Target::Vhdx)?,
        other => return Err(format!("unknown operation {other}").into()),
    };
    println!(
        "{operation} {:.2} s {bytes} bytes",
        begin.elapsed().as_secs_f64()
    );
    Ok(())
}
