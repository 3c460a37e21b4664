//! Times one operation on one disk and prints seconds and bytes: the inner loop of the benchmarks.

use std::path::Path;
use std::time::Instant;

use ovenbird_disk::oci::{self, ExportOptions, LayerCompression};
use ovenbird_disk::{NoProgress, open};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [operation, input, output] = args.as_slice() else {
        return Err("usage: measure oci-gzip|oci-zstd DISK OUT".into());
    };
    let disk = open(Path::new(input))?;
    let begin = Instant::now();
    let compression = match operation.as_str() {
        "oci-gzip" => LayerCompression::Gzip(6),
        "oci-zstd" => LayerCompression::Zstd(3),
        other => return Err(format!("unknown operation {other}").into()),
    };
    let options = ExportOptions {
        compression,
        ..ExportOptions::default()
    };
    let summary = oci::export(disk, &options, Path::new(output), &NoProgress)?;
    println!(
        "{:.2} s, {} bytes from {}, {} entries",
        begin.elapsed().as_secs_f64(),
        summary.layer.size,
        summary.uncompressed,
        summary.entries
    );
    Ok(())
}
