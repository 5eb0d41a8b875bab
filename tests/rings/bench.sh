# Ring bench: the benchmarks, as one table. Runs only when it is named: tests/run.sh bench. Needs root for the kernel's part.
. tests/rings/common.sh

main() {
    [ "$(id -u)" -eq 0 ] || skip "not root: loading kernel programs needs it"
    install_packages "${BUILD_PACKAGES[@]}" qemu-system-x86 busybox-static cpio || skip "$install_error"
    cargo build --locked --release -p palisade-bench
    check bench_measures_every_subject "$target_dir/release/palisade-bench"
    # The stated sizes of what the host ring does in small: 32,000 processes, 110 containers, 10,000 short ones.
    check bench_node_stays_within_its_memory env PALISADE_PROCESSES=32000 PALISADE_CONTAINERS=110 PALISADE_CHURN=10000 \
        cargo test --locked --release -p palisade-node --test host_node_scale -- --test-threads=1 --nocapture
    check bench_kernel_memory_of_each_of_110_containers env PALISADE_CONTAINERS=110 \
        cargo test --locked --release -p palisade-kernel --test host_memory -- --test-threads=1 --nocapture
    check bench_node_under_200_000_opens_a_second env PALISADE_STRESS_SECONDS=60 \
        cargo test --locked --release -p palisade-node --test host_node_stress -- --test-threads=1 --nocapture opens_a_second
    check bench_node_records_10_000_acts_a_second env PALISADE_STRESS_SECONDS=20 \
        cargo test --locked --release -p palisade-node --test host_node_stress -- --test-threads=1 --nocapture records_10_000
    return "$check_failed"
}

main
