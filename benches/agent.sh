#!/bin/sh
# The guest agent by itself: its size, how quickly it starts, how long validation takes, and the memory that a step with a
# lot of output costs.
#
#   benches/agent.sh
#
# Builds the agent as it goes into guests. Needs GNU time.
set -eu
root=$(dirname "$(dirname "$(readlink -f "$0")")")
target=$(uname -m)-unknown-linux-gnu
folder=${CARGO_TARGET_DIR:-$root/target}/agent
RUSTFLAGS='-C target-feature=+crt-static' cargo build --quiet --locked --manifest-path "$root/Cargo.toml" \
    -p ovenbird-agent --profile agent --target "$target" --target-dir "$folder"
agent=$folder/$target/agent/ovenbird-agent
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT INT TERM

printf '%-44s %s bytes\n' 'size of the agent' "$(stat -c %s "$agent")"

# The same loop with `true` is what starting any program costs here.
starts=500
loop() {
    begin=$(date +%s%N)
    i=0
    while [ "$i" -lt "$starts" ]; do
        "$@" >/dev/null
        i=$((i + 1))
    done
    end=$(date +%s%N)
    awk -v ns=$((end - begin)) -v n="$starts" 'BEGIN { printf "%.2f", ns / n / 1e6 }'
}
printf '%-44s %s ms (/bin/true: %s ms)\n' "start and end, mean of $starts" "$(loop "$agent" --version)" "$(loop /bin/true)"

mkdir "$work/documents"
i=0
while [ "$i" -lt 1000 ]; do
    awk -v i="$i" 'BEGIN {
        text = "name: document " i "\nschemaVersion: 1.0\nparameters:\n  - Word: {type: string, default: w" i "}\nphases:\n  - name: build\n    steps:\n"
        for (step = 0; length(text) < 10240; step++)
            text = text "      - name: Step" step "\n        action: ExecuteBash\n        onFailure: Continue\n        inputs:\n          commands:\n            - set -e\n            - echo \"{{ Word }} " step "\" >> /tmp/log" i "\n"
        printf "%s", text
    }' >"$work/documents/$i.yml"
    i=$((i + 1))
done
list=$(find "$work/documents" -name '*.yml' | paste -s -d ,)
bytes=$(cat "$work"/documents/*.yml | wc -c)
round=0
while [ "$round" -lt 3 ]; do
    /usr/bin/time -a -o "$work/validate" -f '%e %U %S %M' "$agent" validate --documents "$list" >/dev/null
    round=$((round + 1))
done
sort -n "$work/validate" | head -n 1 | awk -v bytes="$bytes" '{
    printf "%-44s %.2f s (%.2f s of processor, %d MB), best of 3\n", "validation of 1000 documents, " int(bytes / 1000) " bytes each", $1, $2 + $3, $4 / 1024 }'

# output NAME COMMAND: two gigabytes through a step.
output() {
    cat >"$work/output.yml" <<END
schemaVersion: 1.0
phases:
  - name: build
    steps:
      - name: Print
        action: ExecuteBash
        inputs:
          commands:
            - $2
END
    /usr/bin/time -o "$work/time" -f '%e %M' "$agent" run --documents "$work/output.yml" --log-directory "$work/logs" >/dev/null
    awk -v name="$1" '{ printf "%-44s %.1f s, agent and step at most %.1f MB\n", name, $1, $2 / 1024 }' "$work/time"
    rm -rf "$work/logs"
}
output '2 GiB of lines' 'yes "a line of output, as builds print them" | head -c 2147483648'
output '2 GiB of zero bytes' 'head -c 2147483648 /dev/zero'
