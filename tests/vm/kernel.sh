#!/usr/bin/env bash
# Prints the folder of a distribution kernel for the guest, fetched and unpacked (never installed) the first time.
#
#   tests/vm/kernel.sh [6.1 | 6.12]
#
# Debian's cloud kernel: the smallest packaged one with BPF LSM, BTF, AppArmor and SELinux compiled in. The folder is keyed by the
# package's exact version, so a new kernel of the distribution is fetched beside the old one.
set -euo pipefail

# The oldest that is supported, and the newest that Debian 12 itself offers.
declare -rA META=([6.1]=linux-image-cloud-amd64 [6.12]=linux-image-6.12-cloud-amd64)
readonly CACHE="${XDG_CACHE_HOME:-$HOME/.cache}/palisade/kernels"

main() {
    local meta=${META[${1:-6.1}]:-} package version folder
    [ -n "$meta" ] || { echo "no kernel $1 here; there are: ${!META[*]}" >&2; exit 2; }
    package=$(apt-cache depends "$meta" 2>/dev/null | sed -nE 's/^ *Depends: (linux-image-.*)$/\1/p' | head -n 1)
    [ -n "$package" ] || { echo "no package $meta in the package lists (apt-get update?)" >&2; exit 1; }
    version=$(apt-cache show "$package" | sed -nE 's/^Version: //p' | head -n 1)
    folder="$CACHE/${package#linux-image-}_$version"
    [ -d "$folder" ] || fetch "$package=$version" "$folder"
    printf '%s\n' "$folder"
}

# Into a folder of its own first, then renamed: two runs at once, or one that was stopped, leave nothing half done.
fetch() {
    mkdir -p "$CACHE"
    scratch=$(mktemp -d "$CACHE/fetch.XXXXXX")
    trap 'rm -rf "$scratch"' EXIT
    echo "fetching $1 for the guest" >&2
    (cd "$scratch" && apt-get download -qq -o APT::Sandbox::User=root "$1" >&2)
    dpkg-deb -x "$scratch"/*.deb "$scratch/unpacked"
    mkdir "$scratch/kernel"
    mv "$scratch"/unpacked/boot/vmlinuz-* "$scratch/kernel/vmlinuz"
    mv "$scratch"/unpacked/boot/config-* "$scratch/kernel/config"
    mv "$scratch"/unpacked/lib/modules/* "$scratch/kernel/modules"
    chmod 755 "$scratch/kernel"
    mv -T "$scratch/kernel" "$2" 2>/dev/null || [ -d "$2" ]
}

main "$@"
