# Ring arm64: the whole workspace, kernel programs included, is checked for aarch64-unknown-linux-gnu. Nothing of it is run.
. tests/rings/common.sh

readonly TARGET=aarch64-unknown-linux-gnu

main() {
    [ "$(uname -m)" = x86_64 ] || skip "this ring checks for another machine than its own: it is for x86-64"
    install_packages "${BUILD_PACKAGES[@]}" gcc-aarch64-linux-gnu libc6-dev-arm64-cross || skip "$install_error"
    local compiler
    compiler=$(tests/arm64/toolchain.sh) || skip "no compiler with the standard library of $TARGET (above: why)"
    export RUSTC="$compiler" CARGO_TARGET_DIR="$target_dir/arm64" CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
    check arm64_workspace_checks cargo check --locked --workspace --target "$TARGET"
    return "$check_failed"
}

main
