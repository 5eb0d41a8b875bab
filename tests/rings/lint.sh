# Ring lint: the lock file, the format, clippy, shell syntax. Needs rustfmt and clippy.
. tests/rings/common.sh

main() {
    check lint_lock_file_is_current cargo metadata --locked --format-version 1 --quiet >/dev/null
    check lint_format_is_rustfmts cargo fmt --all --check
    check lint_shell_scripts_parse shell_scripts_parse
    check lint_shell_pipes_are_read_to_their_end shell_pipes_are_read_to_their_end
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
    while read -r script; do bash -n "$script" || status=1; done < <(shell_scripts)
    return "$status"
}

# A reader that ends early kills the writer with SIGPIPE if that was not done, which `pipefail` then takes for a failure: now and then, on a
# busy machine.
shell_pipes_are_read_to_their_end() {
    local scripts
    mapfile -t scripts < <(shell_scripts)
    ! grep -nE '[^|]\| *(head( |$)|grep -[A-Za-z]*[qm]|sed [^|]*[0-9/;]q[};'"'"' ]|awk [^|]*exit *\}'"'"')' "${scripts[@]}"
}

shell_scripts() { git ls-files '*.sh' .ci/run deploy/hooks; }

main
