#!/usr/bin/env bash
# Bakes the same image with Packer's qemu builder and with Ovenbird, on the same base, in one run, and prints the ratio.
#
# Both: direct kernel boot with the same arguments, cache=unsafe, the same CPU count and memory, shell steps that write
# 10 MiB of random data in five steps, tests off, qcow2 output. Packer gets its best settings: `disk_image`, no VNC, a seed on
# a virtio disk, an uncompressed compaction. Alternating rounds, the median of each counts. Packer keeps nothing between
# runs, so its one figure is the rival of all of ours:
#
#   cold       nothing is kept from before
#   warm       the first of five components changed: the guest goes on from the memory after its boot
#   last       the last of five components changed
#   unchanged  nothing changed
#   tested     cold with the test boot, for information (Packer has none)
set -euo pipefail
cd "$(dirname "$0")/.."

ovenbird=${OVENBIRD:-target/release/ovenbird}
rounds=${ROUNDS:-3}
base=${BASE:-debian-12}
for tool in packer jq qemu-system-x86_64 mcopy mformat ssh-keygen; do
  command -v "$tool" >/dev/null || { echo "missing: $tool (make setup-bench installs it)" >&2; exit 1; }
done

work=$(mktemp -d "${TMPDIR:-/tmp}/ovenbird-bench.XXXXXX")
trap 'rm -rf "$work"' EXIT

"$ovenbird" base show "$base" --json > "$work/base.json"
folder=$(jq -r .folder "$work/base.json")
disk=$folder/$(jq -r .disk "$work/base.json")
kernel=$folder/$(jq -r .kernel.kernel "$work/base.json")
initrd=$folder/$(jq -r .kernel.initrd "$work/base.json")
# The base's arguments and what a bake adds to them (src/bake/kernel.rs): the rival gets the same.
cmdline="$(jq -r .kernel.cmdline "$work/base.json") mitigations=off loglevel=4 systemd.show_status=true no_timer_check"
# shellcheck disable=SC2013 # names of units are words
for unit in $(sed -n 's/^    "\(.*\.\(timer\|service\)\)",$/\1/p' src/bake/kernel.rs); do
  cmdline="$cmdline systemd.mask=$unit"
done
accelerator=$("$ovenbird" doctor --json | jq -r '.accelerator.accelerator')

# step NUMBER MARK: a component that writes 2 MiB.
step() {
  cat > "$work/step$1.yml" <<E2
name: step-$1
schemaVersion: 1.0
phases:
  - name: build
    steps:
      - name: Write
        action: ExecuteBash
        inputs: {commands: ["dd if=/dev/urandom of=/opt/$1 bs=1M count=2 status=none", "echo $2"]}
E2
}
for number in 1 2 3 4 5; do step "$number" first; done
# recipe NAME TESTS
recipe() {
  cat > "$work/$1.yml" <<E2
kind: ImageRecipe
name: $1
semanticVersion: 1.0.0
parentImage: $base
components: [{path: step1.yml}, {path: step2.yml}, {path: step3.yml}, {path: step4.yml}, {path: step5.yml}]
local: {cpus: 2, memory: 2GiB, outputs: [qcow2], tests: $2}
E2
}
recipe bench false
recipe tested true
# A home of its own, so that the layers of other builds don't help.
home=$work/home
mkdir -p "$home/cache"
bases=$(dirname "$(dirname "$folder")")
ln -s "$bases" "$home/bases"

ssh-keygen -q -t ed25519 -N '' -f "$work/key"
cat > "$work/user-data" <<E2
#cloud-config
users:
- name: packer
  shell: /bin/sh
  sudo: "ALL=(ALL) NOPASSWD:ALL"
  ssh_authorized_keys: ["$(cat "$work/key.pub")"]
E2
printf 'instance-id: packer\nlocal-hostname: packer\n' > "$work/meta-data"
truncate -s 2M "$work/seed.img"
mformat -i "$work/seed.img" -v CIDATA ::
mcopy -i "$work/seed.img" "$work/user-data" "$work/meta-data" ::

cat > "$work/packer.json" <<E2
{"builders": [{
  "type": "qemu", "accelerator": "$accelerator", "headless": true, "disk_image": true, "format": "qcow2",
  "iso_url": "$disk", "iso_checksum": "none", "output_directory": "$work/packer-out", "vm_name": "bench.qcow2",
  "ssh_username": "packer", "ssh_private_key_file": "$work/key", "ssh_timeout": "15m", "boot_wait": "0s",
  "shutdown_command": "sudo poweroff", "disk_cache": "unsafe", "disk_discard": "unmap",
  "skip_resize_disk": true, "memory": 2048, "cpus": 2, "net_device": "virtio-net", "disk_interface": "virtio", "use_default_display": false,
  "qemuargs": [
    ["-machine", "q35,accel=$accelerator"], ["-cpu", "max"], ["-display", "none"],
    ["-kernel", "$kernel"], ["-initrd", "$initrd"], ["-append", "$cmdline"],
    ["-drive", "file=$work/packer-out/bench.qcow2,if=virtio,cache=unsafe,discard=unmap,detect-zeroes=unmap,format=qcow2"],
    ["-drive", "file=$work/seed.img,if=virtio,format=raw,readonly=on"]
  ]}],
 "provisioners": [
  {"type": "shell", "inline": ["sudo dd if=/dev/urandom of=/opt/1 bs=1M count=2 status=none"]},
  {"type": "shell", "inline": ["sudo dd if=/dev/urandom of=/opt/2 bs=1M count=2 status=none"]},
  {"type": "shell", "inline": ["sudo dd if=/dev/urandom of=/opt/3 bs=1M count=2 status=none"]},
  {"type": "shell", "inline": ["sudo dd if=/dev/urandom of=/opt/4 bs=1M count=2 status=none"]},
  {"type": "shell", "inline": ["sudo dd if=/dev/urandom of=/opt/5 bs=1M count=2 status=none", "sync"]}
 ]}
E2

seconds() {
  local start end
  start=$(date +%s.%N)
  "$@" >"$work/log" 2>&1 || { tail -n 40 "$work/log" >&2; exit 1; }
  end=$(date +%s.%N)
  echo "$end - $start" | bc
}
median() { sort -n | awk '{a[NR]=$1} END {print (NR % 2) ? a[(NR+1)/2] : (a[NR/2]+a[NR/2+1])/2}'; }

bake() { "$ovenbird" --home "$home" build "$work/$1.yml" "${@:2}"; }
note() { echo "$2" >> "$work/$1.times"; echo "  $1 $2 s"; }
# The accelerator's probe is remembered; it is not what is measured here.
"$ovenbird" --home "$home" doctor > /dev/null 2>&1 || true

for round in $(seq "$rounds"); do
  echo "round $round"
  rm -rf "$work/packer-out" "$home/cache/layers" "$home/cache/images"
  note packer "$(seconds env PACKER_LOG=0 PACKER_CACHE_DIR="$work/cache" CHECKPOINT_DISABLE=1 packer build "$work/packer.json")"
  note cold "$(seconds bake bench)"
  step 1 "round $round"
  note warm "$(seconds bake bench)"
  step 5 "round $round"
  note last "$(seconds bake bench)"
  note unchanged "$(seconds bake bench)"
  [ "$round" -gt 1 ] || note tested "$(seconds bake tested --no-cache)"
done

p=$(median < "$work/packer.times")
echo "medians of $rounds rounds, $accelerator; packer $(packer version | sed -n '1s/.* v//p') $p s"
for what in cold warm last unchanged tested; do
  o=$(median < "$work/$what.times")
  echo "  $what $o s, ratio $(echo "scale=4; $o / $p" | bc)"
done
