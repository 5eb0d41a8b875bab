# Ring unit: what needs nothing but a Rust toolchain, doctests and the workspace's own layers test included: the default members.
set -euo pipefail

cargo test --no-fail-fast
