#!/usr/bin/env bash
# Runs all tests, those on the device included. Arguments go to `cargo test`.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ -f "$HOME/.cargo/env" ]; then . "$HOME/.cargo/env"; fi
scripts/setup.sh
# Without a session, libraries of the driver complain that this is not set.
export XDG_RUNTIME_DIR="${XDG_RUNTIME_DIR:-${TMPDIR:-/tmp}}"
MMAE_REQUIRE_DEVICE=1 exec cargo test --release "$@"
