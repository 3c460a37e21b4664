#!/bin/sh
# Our conversions and their rivals, side by side on one disk, in one run.
#
#   benches/disk.sh DISK [ROUNDS]
#
# Prints, for each operation, the least of ROUNDS wall times, the processor seconds and the peak memory of that round, and
# the ratios of ours to the rival's time and size. The two take turns, so that what the machine does besides hits both.
# The rival runs with its best settings; neither syncs, hashes files or reads back, but ours computes the disk digest.
# Last come our peaks on a disk of 2040 GiB. Needs qemu-img, GNU time, tar, gzip, zstd, and `cargo build --release`.
set -eu
disk=${1:?usage: benches/disk.sh DISK [ROUNDS]}
rounds=${2:-3}
root=$(dirname "$(dirname "$(readlink -f "$0")")")
cargo build --quiet --release --manifest-path "$root/Cargo.toml" -p ovenbird-disk --example measure
measure=${CARGO_TARGET_DIR:-$root/target}/release/examples/measure
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT INT TERM

# timed WHO COMMAND...: runs it once, with its output in $work/WHO, and notes its figures.
timed() {
    who=$1
    shift
    rm -rf "${work:?}/$who"
    /usr/bin/time -f '%e %U %S %M' -a -o "$work/$who.times" "$@" > /dev/null
}

# figures WHO: "seconds cpu megabytes-of-memory bytes" of the quickest round.
figures() {
    if [ -d "$work/$1" ]; then
        size=$(find "$work/$1" -type f -size +1M -exec stat -c %s {} + | head -n 1)
    else
        size=$(stat -c %s "$work/$1")
    fi
    sort -n "$work/$1.times" | head -n 1 | awk -v size="$size" '{ printf "%.2f %.2f %d %s", $1, $2 + $3, $4 / 1024, size }'
}

# duel OPERATION RIVAL...: both in turns, then a line.
duel() {
    name=$1
    shift
    rm -rf "$work"/*.times
    i=0
    while [ "$i" -lt "$rounds" ]; do
        timed rival "$@"
        timed ours "$measure" "$name" "$disk" "$work/ours"
        i=$((i + 1))
    done
    # shellcheck disable=SC2046
    set -- $(figures ours) $(figures rival)
    awk -v n="$name" -v a="$1" -v ac="$2" -v am="$3" -v as="$4" -v b="$5" -v bc="$6" -v bm="$7" -v bs="$8" 'BEGIN {
        printf "%-14s %9.2f %9.2f %6d %9.2f %9.2f %6d   %6.2f %6.3f\n", n, a, ac, am, b, bc, bm, a / b, as / bs }'
}

qemu() {
    name=$1
    shift
    duel "$name" qemu-img convert "$@" "$disk" "$work/rival"
}

printf '%-14s %9s %9s %6s %9s %9s %6s   %6s %6s\n' \
    operation 'ours s' 'cpu s' 'MB' 'rival s' 'cpu s' 'MB' time size
qemu vmdk -O vmdk -o subformat=streamOptimized,adapter_type=lsilogic,compat6
qemu raw -m 16 -W -O raw
qemu vhd -m 16 -W -O vpc -o force_size=on
qemu vhdx -m 16 -W -O vhdx -o subformat=dynamic
qemu qcow2 -m 16 -W -O qcow2
qemu qcow2-zstd -c -m 16 -W -O qcow2 -o compression_type=zstd
qemu qcow2-zlib -c -m 16 -W -O qcow2 -o compression_type=zlib

# The rival of a layer is tar and gzip over the unpacked tree.
"$measure" oci-gzip "$disk" "$work/tree.oci" > /dev/null
layer=$(find "$work/tree.oci/blobs" -type f -size +1M | head -n 1)
mkdir "$work/tree"
tar -xzf "$layer" -C "$work/tree" --no-same-owner
rm -rf "$work/tree.oci"
duel oci-gzip sh -c "tar -C '$work/tree' -cf - . | gzip -6 > '$work/rival'"
duel oci-zstd sh -c "tar -C '$work/tree' -cf - . | zstd -q -3 -T0 -o '$work/rival'"
rm -rf "$work/tree"

# The same data on the largest disk that a VHD can hold: memory must not grow with it.
cp "$disk" "$work/beneath"
qemu-img create -q -f qcow2 -b beneath -F "$(qemu-img info "$disk" | sed -n 's/^file format: //p')" "$work/large" 2040G
printf '\n%-14s %9s %9s %6s\n' '2040 GiB' 'ours s' 'cpu s' 'MB'
for name in vmdk raw vhd vhdx qcow2 qcow2-zstd; do
    rm -f "$work"/*.times
    timed ours "$measure" "$name" "$work/large" "$work/ours"
    # shellcheck disable=SC2046
    set -- $(figures ours)
    printf '%-14s %9.2f %9.2f %6d\n' "$name" "$1" "$2" "$3"
done
