#!/usr/bin/env bash
# Prints the folder of a containerd that has NRI (from 1.7 on): the installed one's where it has, else that of Debian's suite trixie, fetched and
# unpacked (never installed) once. 1 with the reason on standard error where there is none.
set -euo pipefail
. "$(dirname "$0")/../arm64/packages.sh"

readonly SUITE=trixie
readonly CACHE="${XDG_CACHE_HOME:-$HOME/.cache}/palisade"

main() {
    local installed version folder
    installed=$(command -v containerd || true)
    if [ -n "$installed" ] && has_nri "$installed"; then
        dirname "$installed"
        return
    fi
    # What was fetched before serves without a network; the newest of them.
    folder=$(printf '%s\n' "$CACHE"/containerd-*/ | sort -V | tail -n 1)
    if [ ! -x "$folder/containerd" ]; then
        read_lists "$SUITE"
        version=$(ask apt-cache show containerd:amd64 | sed -nE 's/^Version: //p' | sed -n 1p)
        [ -n "$version" ] || die "Debian's $SUITE has no containerd"
        folder="$CACHE/containerd-$version"
        unpack "$folder"
    fi
    has_nri "$folder/containerd" || die "$folder/containerd does not run here, or has no NRI"
    printf '%s\n' "${folder%/}"
}

has_nri() {
    [[ $("$1" config default 2>/dev/null) == *io.containerd.nri.v1.nri* ]]
}

# In a folder that appears whole.
unpack() {
    (cd "$state" && ask apt-get download -qq containerd:amd64 >&2) || die "containerd of $SUITE cannot be downloaded"
    dpkg-deb -x "$state"/containerd_*.deb "$state/unpacked"
    mkdir -p "$CACHE"
    local whole
    whole=$(mktemp -d "$CACHE/.containerd.XXXXXX")
    chmod 755 "$whole"
    cp "$state"/unpacked/usr/bin/* "$whole"
    mv -T "$whole" "$1" 2>/dev/null || rm -rf "$whole"
}

main
