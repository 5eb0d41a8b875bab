# Ring vm: enforcement on distribution kernels in an emulated machine: by BPF LSM and with real containers on the oldest, what BPF LSM
# decides on the newest of Debian 12 too, by AppArmor in a boot of its own, and by fmod_ret in two where `bpf` is no active LSM. Needs no root once its packages are there.
#
#   PALISADE_VM_NEWEST= tests/run.sh vm     the whole suite on the newest kernel too (minutes more)
. tests/rings/common.sh

readonly PACKAGES=(qemu-system-x86 busybox-static containerd runc cpio jq xz-utils)
readonly IMAGE_NAME=localhost/palisade-vm:1
# Which tests of the suite the newest kernel sees.
readonly NEWEST="${PALISADE_VM_NEWEST-vm_lsm}"

main() {
    install_packages "${BUILD_PACKAGES[@]}" "${PACKAGES[@]}" || skip "$install_error"
    [ "$(uname -m)" = x86_64 ] || skip "the guest is an x86-64 machine"
    cargo build --locked --workspace --bin vm_suite --bin vm_apparmor --bin vm_actor --bin palisade --example map_code
    local root
    root=$(mktemp -d)
    trap "rm -rf '$root'" EXIT
    stage "$root/guest"
    local status=0
    boot "$root" --timeout 1200 "$root/guest" /bin/vm_suite --color never || status=$?
    boot "$root" --kernel 6.12 --timeout 1200 "$root/guest" /bin/vm_suite --color never $NEWEST || status=$?
    boot "$root" --timeout 1200 --lsm landlock,lockdown,yama,apparmor "$root/guest" /bin/vm_apparmor --color never || status=$?
    # fmod_ret: without bpf among the LSMs, and without preemption in the kernel. Scripts are noted on a hook of the oldest kernel alone.
    boot "$root" --timeout 1200 --lsm landlock,lockdown,yama --preempt voluntary "$root/guest" /bin/vm_suite --color never \
        --skip vm_probes_tell_the_file_of_a_script || status=$?
    boot "$root" --kernel 6.12 --timeout 1200 --lsm landlock,lockdown,yama,apparmor --preempt voluntary "$root/guest" \
        /bin/vm_suite --color never $NEWEST || status=$?
    return "$status"
}

# boot FOLDER ARGUMENTS...: one machine, which must have run a test: a filter that matches none passes, too.
boot() {
    local log=$1/boot.log status=0
    shift
    tests/vm/boot.sh "$@" 2>&1 | tee "$log" || status=$?
    [ "$status" -ne 0 ] || grep -Eq '^test result: .*[^0-9][1-9][0-9]* (passed|failed);' "$log" || {
        printf 'tests/vm/boot.sh %s: ran no test\n' "$*"
        status=1
    }
    return "$status"
}

# The guest's files: the suite, the node with its hook, a container runtime, and the image.
stage() {
    local guest=$1 program
    mkdir -p "$guest"
    for program in vm_suite vm_apparmor vm_actor palisade; do tests/vm/install-program.sh "$guest" "$target_dir/debug/$program" "/bin/$program"; done
    for program in containerd containerd-shim-runc-v2 ctr runc jq; do
        tests/vm/install-program.sh "$guest" "$(PATH=$PATH:/usr/sbin:/sbin command -v "$program")" "/bin/$program"
    done
    install -D deploy/hooks/runc-with-hook "$guest/hooks/runc-with-hook"
    image "$guest/../image" "$guest/image.tar"
}

# The containers' image: the actor under two names, and files that policies of the suite speak of.
image() {
    local folder=$1 archive=$2 copy file
    mkdir -p "$folder"/{etc/bin/deeper,tmp,proc,sys,dev,run}
    tests/vm/install-program.sh "$folder" "$target_dir/debug/vm_actor" /bin/vm_actor
    tests/vm/install-program.sh "$folder" "$target_dir/debug/examples/map_code" /bin/mapper
    for copy in forbidden permitted; do cp "$folder/bin/vm_actor" "$folder/bin/$copy"; done
    for file in secret public binary private.key bin/tool bin/deeper/tool; do printf '%s\n' "$file" >"$folder/etc/$file"; done
    printf 'root:x:0:0:root:/:/bin/sh\n' >"$folder/etc/passwd"
    tests/vm/image.sh "$folder" "$IMAGE_NAME" "$archive"
}

main
