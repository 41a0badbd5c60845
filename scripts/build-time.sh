#!/usr/bin/env bash
# What a first build costs, from nothing: processor time, wall clock, and the units that take longest.
#
#   scripts/build-time.sh             # the README's first command, from clone to table
#   scripts/build-time.sh crate       # a new crate that depends on Alcyon, with default features
#
# The machine should be idle. Needs Python to read cargo's own timings. Builds in target/first, which is removed.
set -euo pipefail
cd "$(dirname "$0")/.."

target=$PWD/target/first
rm -rf "$target"
mkdir -p "$target"
trap 'rm -rf "$target"' EXIT
export CARGO_TARGET_DIR=$target CARGO_INCREMENTAL=0
cargo fetch --quiet --locked

if [[ ${1:-} == crate ]]; then
    crate=$target/newcomer
    mkdir -p "$crate/src"
    printf '[package]\nname = "newcomer"\nversion = "0.1.0"\nedition = "2024"\n[workspace]\n[dependencies]\nalcyon = { path = "%s" }\n' \
        "$PWD" >"$crate/Cargo.toml"
    printf 'use alcyon::prelude::*;\n\nfn main() -> Result<()> {\n    println!("{}", Tensor::scalar(1.0, DType::F32).item()?);\n    Ok(())\n}\n' \
        >"$crate/src/main.rs"
    cp Cargo.lock "$crate"
    command=(cargo build --release --quiet --timings --manifest-path "$crate/Cargo.toml")
else
    command=(cargo run --release --quiet --timings -p compare -- --out "$target/figures")
fi
echo "${command[*]}"
TIMEFORMAT='%U s of processor time, %S s of the system, %R s of wall clock'
time "${command[@]}" >"$target/printed" 2>&1 || { cat "$target/printed" >&2; exit 1; }
python3 - "$target" <<'PYTHON'
import glob, json, re, sys

page = open(sorted(glob.glob(f"{sys.argv[1]}/cargo-timings/cargo-timing-*.html"))[-1]).read()
units = json.loads(re.search(r"const UNIT_DATA = (\[.*?\]);\n", page, re.S).group(1))
units.sort(key=lambda unit: -unit["duration"])
print(f"{len(units)} units; those that take longest, in seconds of one processor or, where a unit has several, of them:")
for unit in units[:16]:
    print(f"{unit['duration']:7.1f}  {unit['name']} {unit['version']}{unit.get('target') or ''}")
print(f"{sum(unit['duration'] for unit in units[16:]):7.1f}  all others")
PYTHON
