#!/usr/bin/env bash
# Trains the demo model on the bundled pictures and shows what it learnt. Arguments go to `mmae demo` (try --help).
set -euo pipefail
cd "$(dirname "$0")/.."
if [ -f "$HOME/.cargo/env" ]; then . "$HOME/.cargo/env"; fi
scripts/setup.sh
exec cargo run --release --quiet -- demo "$@"
