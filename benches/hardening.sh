#!/usr/bin/env bash
# Bakes Debian 12 with both hardening components and assesses it with OpenSCAP before (as it comes from the base image) and after
# (on a fresh boot of the finished disk), by the profiles for CIS level 1 and the STIG; with LYNIS=1 by Lynis as well.
# All reports are kept; the components run a second time, in which they must not fix anything.
#
#   benches/hardening.sh [FOLDER]        reports, target/hardening by default
set -euo pipefail
cd "$(dirname "$0")/.."

ovenbird=${OVENBIRD:-target/release/ovenbird}
base=${BASE:-debian-12}
folder=${1:-target/hardening}
for tool in jq qemu-system-x86_64; do
  command -v "$tool" >/dev/null || { echo "missing: $tool (make setup-bench installs it)" >&2; exit 1; }
done
work=$(mktemp -d "${TMPDIR:-/tmp}/ovenbird-bench.XXXXXX")
trap 'rm -rf "$work"' EXIT

# assess NAME PROFILE
assess() {
  echo "  - componentArn: openscap-assess-linux/x.x.x"
  echo "    parameters: [{name: When, value: [both]}, {name: ReportName, value: [$1]}, {name: Profile, value: [$2]}, {name: ContentSuite, value: [trixie]}]"
}
harden() {
  echo "  - componentArn: cis-level-1-linux/x.x.x"
  echo "    parameters: [{name: InstallPackages, value: ['Yes']}]"
  echo "  - componentArn: stig-build-linux/x.x.x"
  echo "    parameters: [{name: InstallPackages, value: ['Yes']}, {name: SetDoDConsentBanner, value: ['Yes']}]"
}
{
  cat <<E2
kind: ImageRecipe
name: hardened
semanticVersion: 1.0.0
parentImage: $base
blockDeviceMappings: [{deviceName: /dev/sda1, ebs: {volumeSize: 4}}]
local: {cpus: 2, memory: 2GiB, outputs: [qcow2]}
components:
E2
  assess openscap-cis cis_level1_server
  assess openscap-stig stig
  if [ -n "${LYNIS-}" ]; then echo "  - {componentArn: lynis-audit-linux/x.x.x, parameters: [{name: When, value: [both]}]}"; fi
  harden
  harden
} > "$work/hardened.yml"

# A home of its own, so that the layers of other builds don't help.
home=$work/home
mkdir -p "$home/cache"
bases=$(dirname "$(dirname "$("$ovenbird" base show "$base" --json | jq -r .folder)")")
ln -s "$bases" "$home/bases"
rm -rf "$folder"
mkdir -p "$folder"
"$ovenbird" --home "$home" build "$work/hardened.yml" --destination "$work/out" --timings > "$folder/build.log" 2>&1 ||
  { tail -n 50 "$folder/build.log" >&2; exit 1; }
cp -r "$work/out/evidence/." "$folder/"

printf '%-48s %8s %8s %8s\n' "" score holds fails
for when in build bios-virtio; do
  for report in openscap-cis openscap-stig lynis; do
    [ -e "$folder/$when/$report/summary.json" ] || continue
    printf '%-48s %8s %8s %8s\n' "$([ $when = build ] && echo before || echo after): $(jq -r .title "$folder/$when/$report/summary.json")" \
      "$(jq .score "$folder/$when/$report/summary.json")" "$(jq '.passed // "-"' "$folder/$when/$report/summary.json")" \
      "$(jq '.failed // "-"' "$folder/$when/$report/summary.json")"
  done
done
for component in cis-level-1-linux stig-build-linux; do
  for run in build build-2 validate test; do
    for path in "$folder"/*/"$component-$run/summary.json"; do [ ! -e "$path" ] || jq -r .title "$path"; done
  done
  [ "$(jq .fixed "$folder/build/$component-build-2/summary.json")" = 0 ] || { echo "$component fixed something in its second run" >&2; exit 1; }
done
grep -E 'success (build|validate|test) |logged in$|AVAILABLE' "$folder/build.log"
echo "reports: $folder"
