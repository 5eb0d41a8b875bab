# Ring lint: the lock file, the format, clippy, shell syntax. Needs rustfmt and clippy.
. tests/rings/common.sh

main() {
    check lint_lock_file_is_current cargo metadata --locked --format-version 1 --quiet >/dev/null
    check lint_format_is_rustfmts cargo fmt --all --check
    check lint_shell_scripts_parse shell_scripts_parse
    if install_packages "${BUILD_PACKAGES[@]}"; then
        check lint_clippy_has_no_warnings cargo clippy --workspace --all-targets --quiet -- -D warnings
    else
        printf 'clippy only for the default members: %s\n' "$install_error"
        check lint_clippy_has_no_warnings cargo clippy --all-targets --quiet -- -D warnings
    fi
    return "$check_failed"
}

shell_scripts_parse() {
    local script status=0
    while read -r script; do bash -n "$script" || status=1; done < <(git ls-files '*.sh' .ci/run deploy/hooks)
    return "$status"
}

main
