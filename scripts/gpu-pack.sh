#!/usr/bin/env bash
# Builds the tests and benches with the GPU code, for a machine that has a GPU and no Rust toolchain:
#
#   scripts/gpu-pack.sh [-p PACKAGE ...]     # default: alcyon-kernels and alcyon-engine
#
# They go, stripped, to .gpu/bin/NAME-KIND (the kind keeps a library's tests apart from a test of its
# name); beside them kernel_bench, train_image, train_text and compare, and the program that
# benches/peers/run.py compares with PyTorch. There, run them through scripts/gpu-run.sh from the root of the repository. They need glibc
# of the version that is printed at the end, or newer, and load NVIDIA's libraries when they run.
set -euo pipefail
cd "$(dirname "$0")/.."

packages=("$@")
((${#packages[@]})) || packages=(-p alcyon-kernels -p alcyon-engine)
# Another processor will run this: nothing may be built for the one here.
case "${RUSTFLAGS:-}" in *target-cpu=native*) echo "unset target-cpu=native" >&2; exit 2 ;; esac

out=.gpu/bin
rm -rf "$out"
mkdir -p "$out"
features=()
for package in "${packages[@]}"; do
    [[ $package == -p ]] || features+=(--features "$package/cuda")
done
{
    cargo test --no-run --release --message-format=json "${packages[@]}" "${features[@]}" --tests --benches
    cargo build --release --message-format=json -p kernel_bench -p train_image -p train_text -p compare
    (cd benches/peers/alcyon && cargo build --release --message-format=json --target-dir ../../../target/peers/alcyon)
} |
    python3 -c '
import json, sys
for line in sys.stdin:
    message = json.loads(line)
    if message.get("reason") == "compiler-artifact" and message.get("executable"):
        target = message["target"]
        print(message["executable"], target["name"] + "-" + target["kind"][0])
' | while read -r executable name; do
    cp "$executable" "$out/$name"
    strip "$out/$name"
done

du -sh "$out"
ls "$out"
glibc=$(objdump -T "$out"/* 2>/dev/null | grep -o 'GLIBC_[0-9.]*' | sort -uV | tail -1)
echo "needs ${glibc:-no glibc symbol that objdump could find}"
