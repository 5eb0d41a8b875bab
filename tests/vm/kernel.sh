#!/usr/bin/env bash
# Prints the folder of a distribution kernel for the guest, fetched and unpacked (never installed) the first time.
#
#   tests/vm/kernel.sh [6.1 | 6.12 | newest | generic]
#
# Debian's cloud kernel: the smallest packaged one with BPF LSM, BTF, AppArmor and SELinux compiled in; `generic` is its 6.1 for real machines,
# which has USB. The folder is keyed by the
# package's exact version, so a new kernel of the distribution is fetched beside the old one.
#
# `newest` is what Debian's backports offer: asked for by a state of its own, not the machine's, and by the folder that is there already
# where nobody answers.
set -euo pipefail

# The oldest that is supported, the newest that Debian 12 itself offers, and the newest of all.
declare -rA META=([6.1]=linux-image-cloud-amd64 [6.12]=linux-image-6.12-cloud-amd64 [newest]=linux-image-cloud-amd64 [generic]=linux-image-amd64)
readonly SUITE=trixie-backports
readonly HERE="$(cd "$(dirname "$0")" && pwd)"
readonly CACHE="${XDG_CACHE_HOME:-$HOME/.cache}/palisade/kernels"
# Points to the newest that was fetched.
readonly NEWEST="$CACHE/newest"

main() {
    local name=${1:-6.1} meta package version folder
    meta=${META[$name]:-}
    [ -n "$meta" ] || { echo "no kernel $name here; there are: ${!META[*]}" >&2; exit 2; }
    ask() { "$@"; }
    if [ "$name" = newest ]; then
        . "$HERE/../debian/packages.sh"
        (read_lists "$SUITE") || { was_fetched && return; exit 1; }
        trap 'rm -rf "$state" "${scratch:-}"' EXIT
    fi
    package=$(depends "$meta" '^linux-image-' | sed -n 1p)
    [ -n "$package" ] || { echo "no package $meta in the package lists (apt-get update?)" >&2; exit 1; }
    version=$(ask apt-cache show "$package" | sed -nE 's/^Version: //p' | sed -n 1p)
    folder="$CACHE/${package#linux-image-}_$version"
    [ -d "$folder" ] || fetch "$folder" "$version" "$package" $(depends "$package" '^linux-(binary|modules)-')
    [ "$name" != newest ] || ln -sfn "$folder" "$NEWEST"
    printf '%s\n' "$folder"
}

was_fetched() {
    [ -d "$NEWEST/" ] || return 1
    printf 'taking the newest kernel that was fetched before\n' >&2
    realpath "$NEWEST"
}

# depends PACKAGE PATTERN: its dependencies that match; a kernel is one package, or in later suites one each for image and modules.
depends() { ask apt-cache depends "$1" 2>/dev/null | sed -nE 's/^ *Depends: ([^<].*)$/\1/p' | { grep -E "$2" || true; }; }

# fetch FOLDER VERSION PACKAGE...
# Into a folder of its own first, then renamed: two runs at once, or one that was stopped, leave nothing half done.
fetch() {
    local folder=$1 version=$2 archive
    shift 2
    mkdir -p "$CACHE"
    scratch=$(mktemp -d "$CACHE/fetch.XXXXXX")
    trap 'rm -rf "${state:-}" "$scratch"' EXIT
    echo "fetching $* ($version) for the guest" >&2
    (cd "$scratch" && ask apt-get download -qq -o APT::Sandbox::User=root "${@/%/=$version}" >&2)
    for archive in "$scratch"/*.deb; do dpkg-deb -x "$archive" "$scratch/unpacked"; done
    mkdir "$scratch/kernel"
    # Not by name but by place: later suites have all of it below usr/lib/modules.
    find "$scratch/unpacked" -name 'vmlinuz*' -type f -exec mv {} "$scratch/kernel/vmlinuz" \;
    mv "$(find "$scratch/unpacked" -path '*/lib/modules/*' -type d -name kernel -printf '%h\n' -quit)" "$scratch/kernel/modules"
    chmod 755 "$scratch/kernel"
    mv -T "$scratch/kernel" "$folder" 2>/dev/null || [ -d "$folder" ]
}

main "$@"
