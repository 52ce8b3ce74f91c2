#!/usr/bin/env bash
# Measures this machine's device: checks it, then its ceilings, the kernels, the ladder and training steps. Reports go to a folder as
# text and JSON (docs/bench.md says what is in them; `mmae bench --compare` sets two of them side by side), a summary to stdout.
#
# Usage: scripts/measure.sh OUT [DEVICE]
#   OUT     folder for the reports; made if it is not there
#   DEVICE  part of an adapter's name; the best one when not given
#   MMAE    a binary to take instead of building one; SIZES, BATCH, VIT_BATCH, TUNE instead of what fits the device: shapes of the
#           kernels (tiny, m2ae, large), samples of a step of m2ae and of m2ae-vit (0: none), whether `mmae tune` looks for variants
#           that are faster than what the rules choose (1; 0 on a processor)
# Some 5 minutes on a GPU, 15 on a processor that plays GPU. A step that fails is named, the others run all the same.
set -euo pipefail
[ $# -ge 1 ] || { sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0" >&2; exit 2; }
out=$1 device=${2:-auto}
mkdir -p "$out"
out=$(cd "$out" && pwd)
cd "$(dirname "$0")/.."
if [ -z "${MMAE:-}" ]; then
    scripts/setup.sh
    MMAE=$PWD/target/release/mmae
fi

failed=()
# Runs one step, its text kept in the folder; says how long it took.
step() {
    local name=$1 begun=$SECONDS
    shift
    if "$MMAE" "$@" --device "$device" >"$out/$name.txt" 2>"$out/$name.err"; then
        echo "$name: $((SECONDS - begun)) s"
    else
        failed+=("$name")
        echo "$name: failed after $((SECONDS - begun)) s: $(tail -n 1 "$out/$name.err")"
    fi
}

step info info
# Without a device nothing else can be said.
[ ${#failed[@]} -eq 0 ] || exit 1
if grep -q 'software driver' "$out/info.err"; then sizes=m2ae batch=8 vit=0 tune=0; else sizes=large batch=64 vit=32 tune=1; fi
sizes=${SIZES:-$sizes} batch=${BATCH:-$batch} vit=${VIT_BATCH:-$vit} tune=${TUNE:-$tune}

step doctor doctor
step kernels bench kernels --sizes "$sizes" --storage both --json "$out/kernels.json" --svg "$out/roofline.svg"
step ladder bench ladder --sizes "$sizes" --json "$out/ladder.json"
for precision in f32 f16; do
    step "m2ae-$precision" bench step --model m2ae --batch "$batch" --set "train.precision=$precision" \
        --set model.predictor_depth=0 --profile --json "$out/m2ae-$precision.json"
done
[ "$vit" = 0 ] || step m2ae-vit-f16 bench step --model m2ae-vit --batch "$vit" --set train.precision=f16 --json "$out/m2ae-vit-f16.json"
# What the rules chose above against every other variant.
[ "$tune" = 0 ] || step tune tune --dry --sizes "$sizes" --storage both --rounds 3

echo
sed '/^kernel, case/q' "$out/kernels.txt"
grep -E '^(matmul ([0-9]+)x\2x\2 |matmul .*NT bias|layernorm|softmax|attention|adamw|ema|cross_entropy|masked_mse)' "$out/kernels.txt" || true
for report in m2ae-f32 m2ae-f16 m2ae-vit-f16; do
    if [ -s "$out/$report.txt" ]; then echo; echo "== $report"; sed -n '/^model/,$p' "$out/$report.txt" | head -n 24; fi
done
if [ -s "$out/tune.txt" ]; then echo; echo "== variants faster than the rules'"; grep -E 'kept|classes have' "$out/tune.txt" || true; fi
[ ${#failed[@]} -eq 0 ] || { echo "measure.sh: failed: ${failed[*]}; see $out" >&2; exit 1; }
