# Ring host: probes, cgroup BPF, fanotify and containers on this kernel. Needs root. Behind its tests come the ten that took longest.
. tests/rings/common.sh

main() {
    [ "$(id -u)" -eq 0 ] || skip "not root: loading kernel programs and marking file systems needs it"
    install_packages "${BUILD_PACKAGES[@]}" containerd runc podman busybox-static iproute2 jq zsh fish || skip "$install_error"
    local status=0
    if [[ $'\n'$(integration_tests) == *$'\n'host_* ]]; then
        # One at a time: cgroups, pins and attached programs are the machine's, not a test's.
        rm -f "$target_dir/tmp/attacks.table"
        cargo test --locked --workspace --no-fail-fast --test 'host_*' -- --test-threads=1 2>&1 | timed || status=$?
        # What became of each attack on this kernel (tests/attacks).
        [ ! -f "$target_dir/tmp/attacks.table" ] || sed -n 's/^case /host | /p' "$target_dir/tmp/attacks.table" | column -t -s '|' -o '|'
    fi
    # The binary that the tests above were built with.
    check host_quickstart_reaches_every_stated_verdict deploy/quickstart.sh --check --binary "$target_dir/debug/palisade"
    [ "$status" -eq 0 ] && [ "$check_failed" -eq 0 ]
}

main
