#!/bin/sh
# A disk into an EBS snapshot: ours and coldsnap, with the same disk and the same server, in turns.
#
#   benches/ebs.sh [ROUNDS] [MILLISECONDS]
#
# MILLISECONDS is how long the server takes for a block: 0 (if nothing is said) shows the clients, 100 is about the service.
# Prints how fast the disk is read for it, and, for each, the least wall time of ROUNDS, its processor seconds and peak memory, and the blocks that it sent; then the
# time and the blocks of a second build with a parent. coldsnap runs with --omit-zero-blocks. Needs coldsnap, GNU time and
# `cargo build --release`.
set -eu
rounds=${1:-3}
pause=${2:-0}
root=$(dirname "$(dirname "$(readlink -f "$0")")")
cargo build --quiet --release --manifest-path "$root/Cargo.toml" --bin ovenbird --example ebs-server --example ebs-read
target=${CARGO_TARGET_DIR:-$root/target}
ovenbird=${OVENBIRD:-$target/release/ovenbird}
PATH=$root/target/ovenbird-test/tools/quick/bin:$PATH
command -v coldsnap > /dev/null || {
    echo "coldsnap is missing: .ci/setup bench installs it" >&2
    exit 1
}
work=$(mktemp -d)
mkfifo "$work/ask" "$work/told"
"$target/release/examples/ebs-server" "$pause" < "$work/ask" > "$work/told" &
server=$!
trap 'kill $server 2> /dev/null || true; rm -rf "$work"' EXIT INT TERM
exec 3> "$work/ask" 4< "$work/told"
read -r endpoint <&4
blocks() {
    echo >&3
    read -r count <&4
    echo "$count"
}

export AWS_ENDPOINT_URL="$endpoint" AWS_REGION=eu-central-1 AWS_ACCESS_KEY_ID=bench AWS_SECRET_ACCESS_KEY=bench
export AWS_EC2_METADATA_DISABLED=true AWS_CONFIG_FILE=/dev/null AWS_SHARED_CREDENTIALS_FILE=/dev/null

# An image of 2 GiB: 1 GiB of data in pieces of 64 MiB, with holes between them.
image() {
    mkdir "$work/$1"
    if [ -f "$work/one/web.raw" ]; then
        cp --sparse=always "$work/one/web.raw" "$work/$1/web.raw"
    else
        truncate -s 2G "$work/$1/web.raw"
        piece=0
        while [ "$piece" -lt 16 ]; do
            dd if=/dev/urandom of="$work/$1/web.raw" bs=1M count=64 seek=$((piece * 128)) conv=notrunc status=none
            piece=$((piece + 1))
        done
    fi
    cat > "$work/$1/manifest.json" << JSON
{"manifestVersion": 1, "name": "web", "version": "1.0.0", "build": $2, "arn": "a", "run": "run-$1",
 "created": "2026-01-01T00:00:0$2Z", "generator": "bench", "architecture": "x86_64", "firmware": ["bios"],
 "parent": {"name": "p", "version": "1", "sha256": ""}, "components": [], "os": {"id": "debian", "version": "12", "prettyName": "Debian"},
 "packages": [], "sanitised": [], "virtualSize": 2147483648, "diskDigest": "d", "boots": [],
 "files": [{"path": "web.raw", "format": "raw", "size": 2147483648, "sha256": "0"}]}
JSON
}
image one 1
image two 2
# The second build changes three blocks.
for at in 1 70 300; do
    dd if=/dev/urandom of="$work/two/web.raw" bs=512K count=1 seek=$at conv=notrunc status=none
done
printf 'kind: DistributionConfiguration\nname: bench\ndistributions: [{region: eu-central-1}]\n' > "$work/to.yaml"

timed() {
    who=$1
    shift
    /usr/bin/time -f '%e %U %S %M' -a -o "$work/$who.times" "$@" > /dev/null 2> "$work/$who.err" || {
        cat "$work/$who.err" >&2
        exit 1
    }
}
best() {
    sort -n "$work/$1.times" | head -n 1 | awk '{ printf "%.2f s, %.2f s of processor, %d MiB", $1, $2 + $3, $4 / 1024 }'
}

cat "$work/one/web.raw" > /dev/null
round=0
while [ "$round" -lt "$rounds" ]; do
    # Another home knows nothing of the AMI that is there, and its name comes from the image's time.
    rm -rf "${work:?}/home"
    sed -i "s/T00:0.:01Z/T00:0$round:01Z/" "$work/one/manifest.json"
    timed ours "$ovenbird" --home "$work/home" distribute "$work/one" --to "$work/to.yaml"
    ours=$(blocks)
    timed coldsnap coldsnap --endpoint "$endpoint" --region eu-central-1 upload --omit-zero-blocks --no-progress "$work/one/web.raw"
    theirs=$(blocks)
    round=$((round + 1))
done
echo "reading and digests alone: $("$target/release/examples/ebs-read" "$work/one/web.raw")"
echo "ovenbird:                  $(best ours), $ours blocks"
echo "coldsnap:                  $(best coldsnap), $theirs blocks"
timed delta "$ovenbird" --home "$work/home" distribute "$work/two" --to "$work/to.yaml"
echo "ovenbird, second build:    $(best delta), $(blocks) blocks"
