#!/usr/bin/env bash
# Compares every kernel with its CPU twin, plants every fault, and tries the self-test of cooperative matrices, on several
# software Vulkan drivers:
#   system        the driver that the system has, or a GPU
#   lvp26         a newer lavapipe: cooperative matrices  (unpacked into ./drivers by scripts/drivers.sh)
#   swiftshader   SwiftShader: no native f16  (the same)
#
# Usage: scripts/parity.sh [--quick] [DRIVER...]
#   all three drivers unless some are named; --quick compares every kernel in f32 and packed halves and leaves out the rest;
#   MMAE_KERNEL=a,b restricts it to some kernels
set -euo pipefail
cd "$(dirname "$0")/.."
tests=(--test kernels --test faults --test cooperative)
names=()
if [ "${1:-}" = --quick ]; then
    tests=(--test kernels)
    names=(kernels_match_their_twins_in_f32_and_packed_halves)
    shift
fi
[ $# -gt 0 ] || set -- system lvp26 swiftshader

export MMAE_REQUIRE_DEVICE=1 XDG_RUNTIME_DIR="${XDG_RUNTIME_DIR:-${TMPDIR:-/tmp}}"
failed=()
# One test at a time: these drivers compile on one thread, and some take gigabytes for a large kernel.
for driver in "$@"; do
    case $driver in
    system) runner="env" ;;
    lvp26 | swiftshader)
        [ -x "drivers/$driver/run" ] || scripts/drivers.sh
        runner="$PWD/drivers/$driver/run"
        ;;
    *) echo "parity.sh: no driver named $driver; there are: system lvp26 swiftshader" >&2; exit 2 ;;
    esac
    echo "== $driver" >&2
    CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER=$runner \
        cargo test --release --no-fail-fast "${tests[@]}" -- --nocapture --test-threads 1 ${names[@]+"${names[@]}"} || failed+=("$driver")
done
if [ ${#failed[@]} -gt 0 ]; then
    echo "parity.sh: failed on ${failed[*]}" >&2
    exit 1
fi
