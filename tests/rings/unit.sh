# Ring unit: what needs nothing but a Rust toolchain, doctests and the workspace's own layers test included: the default members.
set -euo pipefail

# --locked: a lock file that has to be changed first would stop both commands of the README.
cargo test --locked --no-fail-fast
