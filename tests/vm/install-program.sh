#!/usr/bin/env bash
# tests/vm/install-program.sh ROOT PROGRAM PLACE: copies a program without its debug information to PLACE below ROOT, and the
# shared libraries that it needs to where it looks for them.
set -euo pipefail

main() {
    local root=$1 program=$2 place=$3 library
    mkdir -p "$root$(dirname "$place")"
    strip --strip-debug -o "$root$place" "$program"
    # ldd fails on a static program, which needs nothing.
    { ldd "$program" 2>/dev/null || true; } | grep -oE '/[^ ]+' | while read -r library; do
        [ -e "$root$library" ] || cp -L --parents "$library" "$root"
    done
}

main "$@"
