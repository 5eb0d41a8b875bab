#!/bin/sh
# Makes a small OCI image on the spot: busybox, the test tool act, and a directory /etc/bin with something in it worth protecting.
#
#   make.sh OUTPUT.tar [REFERENCE]      (reference: localhost/palisade-example:1)
#
# Needs a C compiler with a static libc (a Rust toolchain's linker is one), busybox-static, tar and sha256sum. An OCI layout in a tar
# file is written by hand because no image tool is on a fresh machine; `ctr images import` reads it. The same input makes the same bytes.
set -eu

output=${1:?usage: make.sh OUTPUT.tar [REFERENCE]}
reference=${2:-localhost/palisade-example:1}
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

case $(uname -m) in
x86_64) architecture=amd64 ;;
aarch64) architecture=arm64 ;;
*) architecture=$(uname -m) ;;
esac

make_root() {
	mkdir -p "$1/bin" "$1/etc/bin" "$1/tmp" "$1/proc" "$1/sys" "$1/dev" "$1/run" "$1/root"
	chmod 1777 "$1/tmp"
	cp "$(command -v busybox)" "$1/bin/busybox"
	for applet in sh cat echo ls sleep true false id mkdir rm touch ps nc grep unshare mount; do
		ln -s busybox "$1/bin/$applet"
	done
	"${CC:-cc}" -static -O2 -Wall -Wextra -Werror -o "$1/bin/act" "$here/act.c"
	cp "$1/bin/act" "$1/etc/bin/tool"
	echo 'root:x:0:0:root:/root:/bin/sh' >"$1/etc/passwd"
	echo 'palisade-example' >"$1/etc/hostname"
	echo 'nobody reads this' >"$1/etc/bin/secret"
}

# Puts a file among the blobs and prints its digest and size as JSON members.
add_blob() {
	digest=$(sha256sum "$1" | cut -d' ' -f1)
	mv "$1" "$work/layout/blobs/sha256/$digest"
	printf '"digest":"sha256:%s","size":%s' "$digest" "$(stat -c %s "$work/layout/blobs/sha256/$digest")"
}

pack() {
	tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -C "$1" -cf "$2" .
}

mkdir -p "$work/root" "$work/layout/blobs/sha256"
make_root "$work/root"
pack "$work/root" "$work/layer"
# An uncompressed layer: its digest is its diff id as well.
layer=$(add_blob "$work/layer")
diff_id=$(expr "$layer" : '"digest":"\([^"]*\)"')
printf '{"architecture":"%s","os":"linux","config":{"Env":["PATH=/bin"],"Cmd":["/bin/sleep","infinity"]},"rootfs":{"type":"layers","diff_ids":["%s"]}}' \
	"$architecture" "$diff_id" >"$work/config"
config=$(add_blob "$work/config")
printf '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json",%s},"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar",%s}]}' \
	"$config" "$layer" >"$work/manifest"
manifest=$(add_blob "$work/manifest")
printf '{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json",%s,"platform":{"os":"linux","architecture":"%s"},"annotations":{"io.containerd.image.name":"%s"}}]}' \
	"$manifest" "$architecture" "$reference" >"$work/layout/index.json"
echo '{"imageLayoutVersion":"1.0.0"}' >"$work/layout/oci-layout"
pack "$work/layout" "$output"
