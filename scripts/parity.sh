#!/usr/bin/env bash
# Compares every kernel with its CPU twin and the whole model with golden files, plants every fault, and tries the self-test of
# cooperative matrices, on several software Vulkan drivers:
#   system        the driver that the system has, or a GPU
#   lvp26         a newer lavapipe: cooperative matrices  (unpacked into ./drivers by scripts/drivers.sh)
#   swiftshader   SwiftShader: no native f16  (the same)
#   validation    the newer lavapipe under the Vulkan validation layer, synchronisation included: fails on any message of the
#                 layer; also trains a few steps in both precisions
#   radv          runs nothing: Mesa's compiler for AMD makes all pipelines of training steps for five generations of cards, and none
#                 may keep registers in memory
#
# Usage: scripts/parity.sh [--quick] [DRIVER...]
#   the first three unless some are named; --quick compares every kernel in f32 and packed halves, and the golden files on the
#   path of hardware, tries the self-test on lvp26, which alone has cooperative matrices, and leaves out the rest;
#   MMAE_KERNEL=a,b restricts it to some kernels
set -euo pipefail
cd "$(dirname "$0")/.."
tests=(--test kernels --test faults --test cooperative --test golden)
names=()
quick=false
if [ "${1:-}" = --quick ]; then
    quick=true
    tests=(--test kernels --test golden)
    names=(kernels_match_their_twins_in_f32_and_packed_halves golden_sets_on_the_path_of_hardware)
    shift
fi
[ $# -gt 0 ] || set -- system lvp26 swiftshader

export MMAE_REQUIRE_DEVICE=1 XDG_RUNTIME_DIR="${XDG_RUNTIME_DIR:-${TMPDIR:-/tmp}}"
failed=()

# The layer must object to the mistake that tests/validation.rs plants, then say nothing about kernels and training.
validate() {
    local log=drivers/validation/log run=$PWD/drivers/validation/run data=examples/data/emoji/held_out out precision
    rm -f "$log"/*
    CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER=$run \
        cargo test --release --quiet --test validation -- --ignored --test-threads 1 || return 1
    grep -q SYNC-HAZARD "$log"/* || { echo "parity.sh: the validation layer missed a planted hazard" >&2; return 1; }
    rm -f "$log"/*
    CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER=$run \
        cargo test --release --test kernels -- --nocapture --test-threads 1 ${names[@]+"${names[@]}"} || return 1
    cargo build --release --quiet || return 1
    out=$(mktemp -d)
    for precision in f32 f16; do
        MMAE_PIPELINE_CACHE=$out/pipelines "$run" target/release/mmae train --quiet --model m2ae-tiny --data "$data" --out "$out/$precision" --steps 3 \
            --set "train.precision=$precision" >/dev/null || { rm -rf "$out"; return 1; }
    done
    rm -rf "$out"
    [ "$(find "$log" -name '*.txt' | wc -l)" -ge 3 ] || { echo "parity.sh: the validation layer was not there" >&2; return 1; }
    if [ -n "$(cat "$log"/*.txt)" ]; then
        echo "parity.sh: the validation layer objects:" >&2
        cat "$log"/*.txt >&2
        return 1
    fi
    echo "parity.sh: the validation layer has no objection" >&2
}

# The self-test of cooperative matrices, on a driver that lists them: where it lists none any more that is a failure. The texts
# for a size that it does not list take this driver ten minutes and more to compile, and so do the mistakes in the ladder's step.
cooperative() {
    local log
    log=$(CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER=$1 \
        cargo test --release --test cooperative -- --nocapture --test-threads 1 \
        --skip matrices_that_the_driver_does_not_list --skip the_lesson_on_matrices) || { echo "$log"; return 1; }
    echo "$log"
    if grep -q "has no cooperative matrices" <<<"$log"; then
        echo "parity.sh: the driver listed no cooperative matrices, so nothing was tried" >&2
        return 1
    fi
}

# Registers that spill to memory cost more than any tile saves. The check must object to a limit that no kernel can meet.
compilers() {
    local run=$PWD/drivers/radv/run compiled=target/release/examples/05_compiled family model storage
    cargo build --release --quiet --example 05_compiled || return 1
    if "$run" "$compiled" --most VGPRs=8 >/dev/null 2>&1; then
        echo "parity.sh: kernels of more than 8 registers went unnoticed" >&2
        return 1
    fi
    for family in polaris10 vega10 navi10 navi31 gfx1201; do
        for model in m2ae m2ae-vit; do
            for storage in "" --f32; do
                RADV_FORCE_FAMILY=$family "$run" "$compiled" --model "$model" $storage \
                    --most "Spilled VGPRs=0" --most "Scratch size=0" 2>&1 >/dev/null | grep -v "pci bus info\|not a conformant" >&2
                [ "${PIPESTATUS[0]}" = 0 ] || { echo "parity.sh: spilled on $family: $model $storage" >&2; return 1; }
            done
        done
    done
    echo "parity.sh: no kernel of a training step spills registers on five generations of AMD's" >&2
}

# One test at a time: these drivers compile on one thread, and some take gigabytes for a large kernel.
for driver in "$@"; do
    case $driver in
    system) runner="env" ;;
    lvp26 | swiftshader)
        [ -x "drivers/$driver/run" ] || scripts/drivers.sh
        runner="$PWD/drivers/$driver/run"
        ;;
    validation) [ -x drivers/validation/run ] || scripts/drivers.sh --validation ;;
    radv) [ -x drivers/radv/run ] || scripts/drivers.sh --compilers ;;
    *) echo "parity.sh: no driver named $driver; there are: system lvp26 swiftshader validation radv" >&2; exit 2 ;;
    esac
    echo "== $driver" >&2
    case $driver in
    validation) validate || failed+=("$driver"); continue ;;
    radv) compilers || failed+=("$driver"); continue ;;
    esac
    CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER=$runner \
        cargo test --release --no-fail-fast "${tests[@]}" -- --nocapture --test-threads 1 ${names[@]+"${names[@]}"} || failed+=("$driver")
    if $quick && [ "$driver" = lvp26 ]; then
        cooperative "$runner" || failed+=("$driver: cooperative")
    fi
done
if [ ${#failed[@]} -gt 0 ]; then
    echo "parity.sh: failed on ${failed[*]}" >&2
    exit 1
fi
