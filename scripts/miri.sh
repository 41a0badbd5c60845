#!/usr/bin/env bash
# Runs the kernels' small tests under Miri, which finds undefined behaviour: accesses outside of memory, data races,
# memory that nobody wrote. It is a thousand times slower than a processor, so it gets the tests that are about
# memory: the pieces that threads write, strided views, turned blocks, sizes that nobody should give.
#
#   scripts/miri.sh [FILTER ...]     # needs a nightly Rust with its components miri and rust-src
#
# Products run in reference and blocked form only: the library's kernels choose instructions that Miri lacks.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! cargo +nightly miri --version >/dev/null 2>&1; then
    echo "*** SKIPPED: no Miri: rustup +nightly component add miri rust-src ***" >&2
    exit 0
fi
# By tree borrows: crossbeam-epoch, which rayon stands on, is refused by stacked borrows.
# Threads are not to outlive the test that started them, and sizes may be looked up on the machine.
export MIRIFLAGS="-Zmiri-tree-borrows -Zmiri-disable-isolation -Zmiri-ignore-leaks"
export RAYON_NUM_THREADS=2 PROPTEST_CASES=4
filters=("$@")
((${#filters[@]})) || filters=(
    parallel::tests::rows_are_visited_once
    sizes::tests simd::tests::rows_become_columns
    strided::tests::a_view_outside strided::tests::any_view
    index::tests::a_negative along::tests sort::tests
    gemm::tests::a_matrix_larger unfold::tests::a_window pooling::tests::nan
)
cargo +nightly miri test -p alcyon-kernels --no-default-features --lib -- "${filters[@]}"
