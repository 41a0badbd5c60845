#!/usr/bin/env bash
# Runs the emulated CUDA tests under AddressSanitizer: the kernel texts, the stand-ins for NVIDIA's
# libraries and the fibers are compiled with it, and an access outside an allocation or outside a block's
# shared memory, reads included, ends the run with a report.
#
#   scripts/emulator-asan.sh [FILTER ...]     # needs g++ with libasan; the next other build makes the emulator anew
set -euo pipefail
cd "$(dirname "$0")/.."

libasan=$(${CXX:-g++} -print-file-name=libasan.so)
[[ $libasan == /* ]] || { echo "${CXX:-g++} has no libasan" >&2; exit 2; }
# A name for the loader, not a linker script.
libasan=$(readlink -f "$libasan")

export ALCYON_EMULATOR_SANITIZE=1
# Rust's and the driver's memory that lives until the end is no leak.
options="detect_leaks=0:abort_on_error=0:detect_stack_use_after_return=0"
run() { # a package and a test of it
    local package=$1 name=$2
    shift 2
    local program
    program=$(cargo test -p "$package" --test "$name" --no-run --message-format=json 2>/dev/null |
        sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' | tail -1)
    echo "==> $package $name"
    ASAN_OPTIONS=$options LD_PRELOAD=$libasan "$program" "$@"
}
start=$SECONDS
run alcyon-kernels emulated "$@"
run alcyon-engine cuda "$@" --skip nvrtc --skip in_whatever_order
echo "clean under AddressSanitizer in $((SECONDS - start)) s"
