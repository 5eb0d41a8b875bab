# Ring cost: instructions that Palisade adds to an open, an execution, a connection, an unlink and a write, counted in an emulated machine and
# held to tests/bench/budget.txt: a rise above 3 % fails. One boot, two minutes; how busy the machine is changes no count. Needs no root once
# its packages are there.
#
#   PALISADE_COST_WRITE=1 tests/run.sh cost     makes the file anew
. tests/rings/common.sh

main() {
    install_packages "${BUILD_PACKAGES[@]}" qemu-system-x86 busybox-static cpio xz-utils || skip "$install_error"
    [ "$(uname -m)" = x86_64 ] || skip "the guest is an x86-64 machine"
    cargo build --locked --workspace --bin guest_costs --bin cost
    check cost_of_no_act_rises_above_its_budget "$target_dir/debug/cost" ${PALISADE_COST_WRITE:+--write}
    return "$check_failed"
}

main
