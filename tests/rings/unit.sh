# Ring unit: every test that needs neither root nor a particular kernel, and the examples of the documentation.
. tests/rings/common.sh

main() {
    local selection=(--workspace --lib --bins) members=(--workspace) status=0 test
    if install_packages "${BUILD_PACKAGES[@]}"; then
        while read -r test; do
            case $test in host_*) ;; *) selection+=(--test "$test") ;; esac
        done < <(integration_tests)
    else
        printf 'only the default members, without the kernel programs: %s\n' "$install_error"
        selection=() members=()
    fi
    cargo test --no-fail-fast "${selection[@]}" || status=$?
    cargo test --no-fail-fast "${members[@]}" --doc || status=$?
    return "$status"
}

main
