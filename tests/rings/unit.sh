# Ring unit: what needs no root: the tests in every crate's sources, the integration tests that are not of ring host, doctests, and the workspace's
# own layers test. Where clang is not, and cannot be installed, those of the default members alone, as `cargo test` runs them.
. tests/rings/common.sh

main() {
    local status=0 selected=() name
    if ! install_packages "${BUILD_PACKAGES[@]}"; then
        printf 'only the default members: %s\n' "$install_error"
        cargo test --locked --no-fail-fast
        return
    fi
    # Tests that compile SELinux's policies leave that out without it.
    install_packages secilc || printf 'without a compiler of CIL: %s\n' "$install_error"
    while read -r name; do selected+=(--test "$name"); done < <(integration_tests | grep -v '^host_')
    # Fuzz targets are programs that do not end; ring fuzz runs them.
    cargo test --locked --workspace --exclude palisade-fuzz --no-fail-fast --lib --bins "${selected[@]}" || status=$?
    cargo test --locked --workspace --no-fail-fast --doc || status=$?
    return "$status"
}

main
