# Shared by the rings: packages, checks that print like tests, and skipping. To be sourced.
set -euo pipefail

# Set for every ring alike: a different flag would build everything again. For the same reason rings that build programs select the whole
# workspace and name the programs: `-p CRATE` would turn on fewer features of what all of them depend on, which is then built once more.
export CARGO_TERM_COLOR="${CARGO_TERM_COLOR:-never}"
# What incremental builds keep is of no use to a clone that is built once.
[ -z "${CI:-}" ] || export CARGO_INCREMENTAL=0
target_dir="${CARGO_TARGET_DIR:-$PWD/target}"
# What is dear to fetch or build and does not depend on the checkout: kernels, images. Keyed by version or content, written by rename.
cache_dir="${XDG_CACHE_HOME:-$HOME/.cache}/palisade"

# What the kernel programs (bpf/) and the containerd client need to compile, and a linker.
readonly BUILD_PACKAGES=(gcc libc6-dev clang-19 llvm-19 libbpf-dev protobuf-compiler)

# skip WHY: ends the ring; the machine cannot run it.
skip() {
    printf '%s\n' "$*"
    exit 77
}

# check NAME COMMAND...: one command as one test.
check() {
    local name=$1 status=0
    shift
    "$@" || status=$?
    if [ "$status" -eq 0 ]; then
        printf 'test %s ... ok\ntest result: ok. 1 passed; 0 failed; 0 ignored;\n' "$name"
    else
        printf 'test %s ... FAILED\ntest result: FAILED. 0 passed; 1 failed; 0 ignored;\n' "$name"
        check_failed=1
    fi
}
check_failed=0

# timed: passes on what a test harness prints, and says at its end which ten tests took longest. What a test's own processes print may
# stand between its name and its result.
timed() {
    local line name= began=$EPOCHREALTIME now took=()
    while IFS= read -r line || [ -n "$line" ]; do
        printf '%s\n' "$line"
        [[ ! $line =~ ^test\ .*\.\.\.\ ignored ]] || continue
        if [[ $line =~ ^\ +Running ]]; then name=; fi
        if [[ -z $name && $line =~ ^running ]]; then began=$EPOCHREALTIME; fi
        if [[ -z $name && $line =~ ^test\ ([^ ]+)\ +\.\.\. ]]; then name=${BASH_REMATCH[1]}; fi
        [[ -n $name && $line =~ (ok|FAILED)$ ]] || continue
        now=$EPOCHREALTIME
        took+=("$(((${now/[.,]/} - ${began/[.,]/}) / 100000)) $name")
        name= began=$now
    done
    [ "${#took[@]}" -eq 0 ] || printf '%s\n' "${took[@]}" | sort -rn |
        awk 'NR <= 10 { printf "%7.1f s %s\n", $1 / 10, $2 }'
}

# Prints those of the packages that are not installed.
missing_packages() {
    local package
    for package in "$@"; do
        [ "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || printf '%s\n' "$package"
    done
}

# install_packages PACKAGE...: installs what is missing and says so; 1 with the reason in $install_error where it cannot.
install_packages() {
    local missing
    if ! command -v dpkg-query >/dev/null; then
        install_error="not a Debian system: install the equivalents of $*"
        return 1
    fi
    mapfile -t missing < <(missing_packages "$@")
    [ "${#missing[@]}" -gt 0 ] || return 0
    if [ "$(id -u)" -ne 0 ]; then
        install_error="needs the packages ${missing[*]} and root to install them"
        return 1
    fi
    printf 'installing %s\n' "${missing[*]}"
    if ! apt_install "${missing[@]}"; then
        install_error="apt-get could not install ${missing[*]}"
        return 1
    fi
}
install_error=

# A fresh machine has no package lists, so a failure is tried once more after an update. Services that packages bring
# (containerd) are not started: rings start their own instances.
apt_install() {
    local options=(-y -qq --no-install-recommends -o DPkg::Lock::Timeout=120)
    export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1
    # Rings run beside each other, and apt's own lock on the lists does not wait. What a package starts does not hold ours.
    mkdir -p "$cache_dir"
    (
        flock 9
        apt-get install "${options[@]}" "$@" >/dev/null 2>&1 9>&- && exit
        apt-get update -qq 9>&- && apt-get install "${options[@]}" "$@" 9>&-
    ) 9>"$cache_dir/apt.lock"
}

# Names of the workspace's integration test targets, one a line, a file or a folder each: Cargo has no "all but host_*".
integration_tests() {
    local roots=(actors bpf messages runtime simulation tests)
    {
        find "${roots[@]}" -path '*/tests/*.rs' -not -path '*/src/*' -not -path '*/tests/*/*'
        find "${roots[@]}" -path '*/tests/*/main.rs' -not -path '*/src/*' -not -path '*/tests/*/*/*' -printf '%h\n'
    } | xargs -n 1 basename -s .rs | sort -u
}
