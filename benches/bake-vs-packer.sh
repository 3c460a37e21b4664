#!/usr/bin/env bash
# Bakes the same image with Packer's qemu builder and with Ovenbird, on the same base, in one run, and prints the ratio.
#
# Both: direct kernel boot with the same arguments, cache=unsafe, the same CPU count and memory, two shell steps that write
# 16 MiB of random data, tests off, qcow2 output. Packer gets its best settings: `disk_image`, no VNC, a seed on a virtio
# disk, an uncompressed compaction. Alternating rounds, the median of each counts.
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
cmdline="$(jq -r .kernel.cmdline "$work/base.json") mitigations=off loglevel=4 systemd.show_status=true"
for unit in $(sed -n 's/^    "\(.*\.\(timer\|service\)\)",$/\1/p' src/bake/kernel.rs); do
  cmdline="$cmdline systemd.mask=$unit"
done
accelerator=$("$ovenbird" doctor --json | jq -r '.accelerator.accelerator')

cat > "$work/steps.yml" <<'E2'
name: two-steps
schemaVersion: 1.0
phases:
  - name: build
    steps:
      - name: First
        action: ExecuteBash
        inputs: {commands: ["dd if=/dev/urandom of=/opt/one bs=1M count=8 status=none"]}
      - name: Second
        action: ExecuteBash
        inputs: {commands: ["dd if=/dev/urandom of=/opt/two bs=1M count=8 status=none", "sync"]}
E2
cat > "$work/recipe.yml" <<E2
kind: ImageRecipe
name: bench
semanticVersion: 1.0.0
parentImage: $base
components: [{path: steps.yml}]
local: {cpus: 2, memory: 2GiB, outputs: [qcow2], tests: false, destination: $work/out}
E2

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
  {"type": "shell", "inline": ["sudo dd if=/dev/urandom of=/opt/one bs=1M count=8 status=none"]},
  {"type": "shell", "inline": ["sudo dd if=/dev/urandom of=/opt/two bs=1M count=8 status=none", "sync"]}
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

for round in $(seq "$rounds"); do
  rm -rf "$work/packer-out" "$work/out"
  p=$(seconds env PACKER_LOG=0 PACKER_CACHE_DIR="$work/cache" CHECKPOINT_DISABLE=1 packer build "$work/packer.json")
  o=$(seconds "$ovenbird" build "$work/recipe.yml")
  echo "round $round: packer $p s, ovenbird $o s"
  echo "$p" >> "$work/packer.times"
  echo "$o" >> "$work/ovenbird.times"
done
p=$(median < "$work/packer.times")
o=$(median < "$work/ovenbird.times")
echo "cold bake, two shell steps, no tests, $accelerator: packer $(packer version | sed -n '1s/.* v//p') $p s, ovenbird $o s, ratio $(echo "scale=2; $o / $p" | bc)"
