# Ring arm64: the whole workspace is checked for aarch64-unknown-linux-gnu, and the kernel programs for it are relocated against the types of
# Debian's arm64 kernel, as loading them there would. Nothing of it is run.
. tests/rings/common.sh

readonly TARGET=aarch64-unknown-linux-gnu

main() {
    [ "$(uname -m)" = x86_64 ] || skip "this ring checks for another machine than its own: it is for x86-64"
    install_packages "${BUILD_PACKAGES[@]}" gcc-aarch64-linux-gnu libc6-dev-arm64-cross || skip "$install_error"
    local compiler image status=0
    compiler=$(tests/arm64/toolchain.sh) || skip "no compiler with the standard library of $TARGET (above: why)"
    image=$(tests/arm64/kernel.sh) || skip "no arm64 kernel (above: why)"
    # Not in the directory of other rings, which may be building or testing there.
    CARGO_TARGET_DIR="$target_dir/arm64" cargo build --locked -p palisade-arm64
    check arm64_workspace_checks workspace_checks "$compiler"
    "$target_dir/arm64/debug/palisade-arm64" "$image" "$target_dir/arm64/$TARGET"/debug/build/palisade-bpf-*/out/*.bpf.o || status=$?
    [ "$status" -eq 0 ] && [ "$check_failed" -eq 0 ]
}

# All but the fuzzer, which is C++ for this machine and runs only here.
workspace_checks() {
    RUSTC="$1" CARGO_TARGET_DIR="$target_dir/arm64" CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc \
        cargo check --locked --workspace --exclude palisade-fuzz --target "$TARGET"
}

main
