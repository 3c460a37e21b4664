#!/bin/sh
# Our conversions and their rivals, side by side on one disk, in one run.
#
#   benches/disk.sh DISK [ROUNDS]
#
# Prints, for each operation, the least of ROUNDS wall times, the processor seconds, the peak memory and the size, and
# the ratio of ours to the rival's. The rival runs with its best settings; neither syncs, hashes files or reads back,
# but ours computes the disk digest. Needs qemu-img, GNU time, tar and gzip, and `cargo build --release`.
set -eu
disk=${1:?usage: benches/disk.sh DISK [ROUNDS]}
rounds=${2:-3}
root=$(dirname "$(dirname "$(readlink -f "$0")")")
cargo build --quiet --release --manifest-path "$root/Cargo.toml" -p ovenbird-disk --example measure
measure=${CARGO_TARGET_DIR:-$root/target}/release/examples/measure
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT INT TERM

# best OUT COMMAND...: runs it, prints "seconds cpu megabytes-of-memory bytes" of the quickest round.
best() {
    out=$1
    shift
    i=0
    : >"$work/times"
    while [ "$i" -lt "$rounds" ]; do
        rm -rf "$out"
        /usr/bin/time -f '%e %U %S %M' -o "$work/time" "$@" >/dev/null
        cat "$work/time" >>"$work/times"
        i=$((i + 1))
    done
    if [ -d "$out" ]; then
        size=$(find "$out" -type f -size +1M -exec stat -c %s {} + | head -n 1)
    else
        size=$(stat -c %s "$out")
    fi
    sort -n "$work/times" | head -n 1 | awk -v size="$size" '{ printf "%.2f %.2f %d %s", $1, $2 + $3, $4 / 1024, size }'
}

printf '%-14s %9s %9s %6s %9s %9s %6s   %6s %6s\n' \
    operation 'ours s' 'cpu s' 'MB' 'rival s' 'cpu s' 'MB' time size
row() {
    name=$1 ours=$2 rival=$3
    # shellcheck disable=SC2086
    set -- $ours $rival
    awk -v n="$name" -v a="$1" -v ac="$2" -v am="$3" -v as="$4" -v b="$5" -v bc="$6" -v bm="$7" -v bs="$8" 'BEGIN {
        printf "%-14s %9.2f %9.2f %6d %9.2f %9.2f %6d   %6.2f %6.3f\n", n, a, ac, am, b, bc, bm, a / b, as / bs }'
}

ours() { best "$work/ours" "$measure" "$1" "$disk" "$work/ours"; }
qemu() { best "$work/rival" qemu-img convert "$@" "$disk" "$work/rival"; }

row vmdk "$(ours vmdk)" "$(qemu -O vmdk -o subformat=streamOptimized,adapter_type=lsilogic,compat6)"
row raw "$(ours raw)" "$(qemu -m 16 -W -O raw)"
row vhd "$(ours vhd)" "$(qemu -m 16 -W -O vpc -o force_size=on)"
row vhdx "$(ours vhdx)" "$(qemu -m 16 -W -O vhdx -o subformat=dynamic)"
row qcow2 "$(ours qcow2)" "$(qemu -m 16 -W -O qcow2)"
row qcow2-zstd "$(ours qcow2-zstd)" "$(qemu -c -m 16 -W -O qcow2 -o compression_type=zstd)"
row qcow2-zlib "$(ours qcow2-zlib)" "$(qemu -c -m 16 -W -O qcow2 -o compression_type=zlib)"

# The rival of a layer is tar and gzip over the unpacked tree.
"$measure" oci-gzip "$disk" "$work/tree.oci" >/dev/null
layer=$(find "$work/tree.oci/blobs" -type f -size +1M | head -n 1)
mkdir "$work/tree"
tar -xzf "$layer" -C "$work/tree" --no-same-owner
rm -rf "$work/tree.oci"
row oci-gzip "$(ours oci-gzip)" "$(best "$work/rival" sh -c "tar -C '$work/tree' -cf - . | gzip -6 > '$work/rival'")"
row oci-zstd "$(ours oci-zstd)" "$(best "$work/rival" sh -c "tar -C '$work/tree' -cf - . | zstd -q -3 -T0 -o '$work/rival'")"
