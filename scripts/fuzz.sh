#!/usr/bin/env bash
# Runs every fuzz target for a while and prints what came of it. The corpus is read and not written to: what is new
# stays in target/fuzz/corpus/TARGET, and what breaks a promise in target/fuzz/artifacts/TARGET.
#
#   scripts/fuzz.sh [SECONDS [TARGET ...]]     # 60 s each; needs a nightly Rust, cargo-fuzz and a C++ compiler
#
# A file that is found goes, made small, into tests/fuzz/corpus/TARGET, where the gate reads it for good.
set -euo pipefail
cd "$(dirname "$0")/.."

for tool in "cargo +nightly --version" "cargo fuzz --version" "${CXX:-c++} --version"; do
    if ! $tool >/dev/null 2>&1; then
        echo "*** SKIPPED: no fuzzer: \`$tool\` fails (rustup toolchain add nightly; cargo install cargo-fuzz) ***" >&2
        exit 0
    fi
done
seconds=${1:-60}
shift $(($# > 0 ? 1 : 0))
targets=("$@")
((${#targets[@]})) || mapfile -t targets < <(cargo fuzz list --fuzz-dir tests/fuzz)

# Without AddressSanitizer: no reader has `unsafe` of its own, and Miri looks at the kernels (scripts/miri.sh).
options=(--fuzz-dir tests/fuzz --sanitizer none --target-dir "$PWD/target/fuzz")
cargo +nightly fuzz build "${options[@]}"

# Memory above the limits of data::limits, or ten seconds for one input, is a fault as a panic is one.
limits=(-timeout=10 -rss_limit_mb=1024 -max_len=20000)
export RAYON_NUM_THREADS=1
printf '\n%-14s %12s %10s %8s %8s\n' target executions "a second" corpus faults
status=0
for target in "${targets[@]}"; do
    found=target/fuzz/corpus/$target faults=target/fuzz/artifacts/$target log=target/fuzz/$target.log
    mkdir -p "$found" "$faults"
    cargo +nightly fuzz run "${options[@]}" "$target" "$found" "tests/fuzz/corpus/$target" -- \
        "${limits[@]}" -max_total_time="$seconds" -print_final_stats=1 -artifact_prefix="$faults/" >"$log" 2>&1 ||
        status=1
    stat() { sed -n "s/^stat::$1: *//p" "$log" | tail -1; }
    printf '%-14s %12s %10s %8s %8s\n' "$target" "$(stat number_of_executed_units)" "$(stat average_exec_per_sec)" \
        "$(find "$found" -type f | wc -l)" "$(find "$faults" -type f | wc -l)"
done
((status == 0)) || echo "faults are in target/fuzz/artifacts, what was said of them in target/fuzz/*.log" >&2
exit $status
