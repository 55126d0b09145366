#!/bin/sh
# A failover to watch: builds Heirloom and runs its demo. Options are the demo's, such as --rounds 3.
set -eu
cd "$(dirname "$0")/.."
cargo build --release --locked --quiet --package heirloom-server --bin heirloom
exec "${CARGO_TARGET_DIR:-target}/release/heirloom" demo "$@"
