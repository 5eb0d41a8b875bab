#!/usr/bin/env bash
# Makes an OCI image archive of one folder: tests/vm/image.sh FOLDER NAME ARCHIVE
# By hand, for there is no registry and no image builder where the rings run; one uncompressed layer, because it is read once.
set -euo pipefail

main() {
    local folder=$1 name=$2 archive=$3 layer config manifest
    blobs=$(mktemp -d)
    trap 'rm -rf "$blobs"' EXIT
    mkdir -p "$blobs/blobs/sha256"
    layer=$(tar -C "$folder" --sort=name --owner=0 --group=0 --numeric-owner --mtime=@0 -cf - . | blob)
    config=$(printf '{"architecture":"amd64","os":"linux","config":{"Env":["PATH=/bin"]},"rootfs":{"type":"layers","diff_ids":["sha256:%s"]}}' \
        "$layer" | blob)
    manifest=$(printf '{"schemaVersion":2,"mediaType":"%s.manifest.v1+json","config":%s,"layers":[%s]}' application/vnd.oci.image \
        "$(descriptor config.v1+json "$config")" "$(descriptor layer.v1.tar "$layer")" | blob)
    printf '{"imageLayoutVersion":"1.0.0"}' >"$blobs/oci-layout"
    printf '{"schemaVersion":2,"manifests":[%s]}' "$(descriptor manifest.v1+json "$manifest" "$name")" >"$blobs/index.json"
    tar -C "$blobs" -cf "$archive" oci-layout index.json blobs
}

# Stores what it reads under its digest, which it prints.
blob() {
    local digest
    cat >"$blobs/incoming"
    digest=$(sha256sum "$blobs/incoming" | cut -d' ' -f1)
    mv "$blobs/incoming" "$blobs/blobs/sha256/$digest"
    printf '%s' "$digest"
}

# descriptor MEDIA_TYPE DIGEST [NAME]
descriptor() {
    local annotations=
    [ -z "${3:-}" ] || annotations=",\"annotations\":{\"io.containerd.image.name\":\"$3\"}"
    printf '{"mediaType":"application/vnd.oci.image.%s","digest":"sha256:%s","size":%d%s}' \
        "$1" "$2" "$(stat -c %s "$blobs/blobs/sha256/$2")" "$annotations"
}

main "$@"
