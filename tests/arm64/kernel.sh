#!/usr/bin/env bash
# Prints the path of the raw image of this distribution's arm64 kernel, in which its BTF lies; fetched and unpacked (never installed) once.
set -euo pipefail
. "$(dirname "$0")/../debian/packages.sh"

readonly META=linux-image-cloud-arm64
readonly CACHE="${XDG_CACHE_HOME:-$HOME/.cache}/palisade/kernels"

main() {
    local package version image
    read_lists "$(. /etc/os-release && printf '%s' "$VERSION_CODENAME")"
    package=$(ask apt-cache depends "$META:arm64" | sed -nE 's/^ *Depends: (linux-image-[^:]*).*$/\1/p' | sed -n 1p)
    [ -n "$package" ] || die "no package $META"
    version=$(ask apt-cache show "$package:arm64" | sed -nE 's/^Version: //p' | sed -n 1p)
    image="$CACHE/${package#linux-image-}_$version.image"
    [ -f "$image" ] || fetch "$package:arm64" "$image"
    printf '%s\n' "$image"
}

fetch() {
    (cd "$state" && ask apt-get download -qq "$1" >&2) || die "$1 cannot be downloaded"
    dpkg-deb -x "$state"/*.deb "$state/unpacked"
    mkdir -p "$CACHE"
    # Debian compresses the arm64 image as a whole; an image that is not compressed is taken as it is.
    gzip --decompress --stdout "$state"/unpacked/boot/vmlinuz-* >"$state/image" 2>/dev/null || cp "$state"/unpacked/boot/vmlinuz-* "$state/image"
    mv "$state/image" "$2"
}

main
