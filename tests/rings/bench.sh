# Ring bench: the benchmarks, as one table. Runs only when it is named: tests/run.sh bench. Needs root for the kernel's part.
. tests/rings/common.sh

main() {
    [ "$(id -u)" -eq 0 ] || skip "not root: loading kernel programs needs it"
    install_packages "${BUILD_PACKAGES[@]}" qemu-system-x86 busybox-static cpio || skip "$install_error"
    cargo build --locked --release -p palisade-bench
    check bench_measures_every_subject "$target_dir/release/palisade-bench"
    return "$check_failed"
}

main
