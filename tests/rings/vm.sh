# Ring vm: enforcement on a distribution kernel with BPF LSM and real containers, in an emulated machine. Needs no root once its
# packages are there.
. tests/rings/common.sh

readonly PACKAGES=(qemu-system-x86 busybox-static containerd runc cpio)
readonly IMAGE_NAME=localhost/palisade-vm:1

main() {
    install_packages "${BUILD_PACKAGES[@]}" "${PACKAGES[@]}" || skip "$install_error"
    [ "$(uname -m)" = x86_64 ] || skip "the guest is an x86-64 machine"
    cargo build -p palisade-vm
    local root
    root=$(mktemp -d)
    trap "rm -rf '$root'" EXIT
    stage "$root/guest"
    tests/vm/boot.sh "$root/guest" /bin/vm_suite --color never
}

# The guest's files: the suite, a container runtime, and the image.
stage() {
    local guest=$1 program
    mkdir -p "$guest"
    for program in vm_suite vm_actor; do install_program "$guest" "$target_dir/debug/$program" "/bin/$program"; done
    for program in containerd containerd-shim-runc-v2 ctr runc; do
        install_program "$guest" "$(PATH=$PATH:/usr/sbin:/sbin command -v "$program")" "/bin/$program"
    done
    image "$guest/../image" "$guest/image.tar"
}

# The containers' image: the actor under two names, and files that policies of the suite speak of.
image() {
    local folder=$1 archive=$2 copy file
    mkdir -p "$folder"/{etc/bin/deeper,tmp,proc,sys,dev,run}
    install_program "$folder" "$target_dir/debug/vm_actor" /bin/vm_actor
    for copy in forbidden permitted; do cp "$folder/bin/vm_actor" "$folder/bin/$copy"; done
    for file in secret public binary private.key bin/tool bin/deeper/tool; do printf '%s\n' "$file" >"$folder/etc/$file"; done
    printf 'root:x:0:0:root:/:/bin/sh\n' >"$folder/etc/passwd"
    tests/vm/image.sh "$folder" "$IMAGE_NAME" "$archive"
}

# install_program ROOT SOURCE PLACE: a program without its debug information, and the libraries that it needs.
install_program() {
    local root=$1 source=$2 place=$3 library
    mkdir -p "$root$(dirname "$place")"
    strip --strip-debug -o "$root$place" "$source"
    { ldd "$source" 2>/dev/null || true; } | grep -oE '/[^ ]+' | while read -r library; do
        [ -e "$root$library" ] || cp -L --parents "$library" "$root"
    done
}

main
