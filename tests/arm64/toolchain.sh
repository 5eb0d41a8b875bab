#!/usr/bin/env bash
# Prints the path of a rustc that has the standard library of aarch64-unknown-linux-gnu; 1 with the reason on standard error.
#
# That is the installed one where it has it (`rustup target add aarch64-unknown-linux-gnu`). Otherwise Debian's own compiler of its
# development suite, unpacked into the cache and never installed: it is newer than the one that builds Palisade, so what it accepts
# is no promise for the older one, but what it refuses for aarch64 is found. It brings its own C library and is started by it.
set -euo pipefail
. "$(dirname "$0")/../debian/packages.sh"

readonly TARGET=aarch64-unknown-linux-gnu
readonly SUITE=sid
cache="${XDG_CACHE_HOME:-$HOME/.cache}/palisade"

main() {
    local installed
    installed=$(rustc --print target-libdir --target "$TARGET" 2>/dev/null || true)
    if [ -n "$installed" ] && [ -d "$installed" ]; then
        command -v rustc
        return
    fi
    read_lists "$SUITE"
    local version folder
    version=$(ask apt-cache show rustc | sed -n 's/^Version: //p' | sed -n 1p)
    [ -n "$version" ] || die "Debian's $SUITE has no rustc"
    folder="$cache/rustc-$version-$TARGET"
    [ -x "$folder/rustc" ] || unpack "$folder"
    printf '%s\n' "$folder/rustc"
}

# The compiler, all libraries that it needs, and both standard libraries, in a folder that appears whole.
unpack() {
    local folder=$1 runtime packages package
    runtime=$(ask apt-cache depends libstd-rust-dev:amd64 | sed -n 's/^ *Depends: \(libstd-rust-[0-9].*\)/\1/p' | sed -n 1p)
    mapfile -t packages < <(ask apt-cache depends --recurse --no-recommends --no-suggests --no-conflicts --no-breaks --no-replaces \
        --no-enhances "$runtime:amd64" | grep -E '^[a-z0-9]' | grep -v '[:<]' | sort -u)
    [ "${#packages[@]}" -gt 3 ] || die "the libraries of $runtime are not known"
    mkdir -p "$state/debs" "$state/root"
    (cd "$state/debs" && ask apt-get download -qq rustc:amd64 libstd-rust-dev:amd64 libstd-rust-dev:arm64 "${packages[@]/%/:amd64}" >&2) ||
        die "the compiler's packages cannot be downloaded"
    for package in "$state"/debs/*.deb; do dpkg -x "$package" "$state/root"; done
    # Moves with its folder: asks for its own place.
    cat >"$state/root/rustc" <<'WRAPPER'
#!/usr/bin/env bash
root=$(dirname "$(readlink -f "$0")")
exec "$root/usr/lib64/ld-linux-x86-64.so.2" --library-path "$root/usr/lib/x86_64-linux-gnu" --argv0 "$root/usr/bin/rustc" \
    "$root/usr/bin/rustc" --sysroot "$root/usr" "$@"
WRAPPER
    chmod +x "$state/root/rustc"
    "$state/root/rustc" --version >&2 || die "the unpacked compiler does not run"
    mkdir -p "$cache"
    rm -rf "$folder"
    mv "$state/root" "$folder"
}

main
