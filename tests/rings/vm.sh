# Ring vm: enforcement on distribution kernels in emulated machines (tests/vm), a boot for each line of BOOTS that is not of those made only when
# asked for. Needs no root once its packages are there, but for what reads the distribution's module store (DISTRIBUTIONS).
#
#   PALISADE_VM_BOOTS=6.12 tests/run.sh vm        the boots whose names match the pattern, also of those; `.`: all of them
#   PALISADE_VM_WRITE=1 tests/run.sh vm           writes deploy/kernels.md anew from what the boots said
#
# Lines of a guest that begin with `case ` are cells separated by ` | `; the ring prints those of all boots as one table, with the name of the
# boot before each. So it does with `tier ` (tests/vm/src/suite/ground.rs), and its rows must stand in deploy/kernels.md, word by word.
. tests/rings/common.sh

readonly PACKAGES=(qemu-system-x86 busybox-static containerd runc cpio jq xz-utils secilc)
readonly IMAGE_NAME=localhost/palisade-vm:1
readonly KERNELS=deploy/kernels.md
readonly ALL_LSMS=landlock,lockdown,yama,apparmor,bpf
readonly NO_BPF=landlock,lockdown,yama,apparmor
readonly SELINUX=landlock,lockdown,yama,selinux
readonly FEWEST_LSMS=landlock,lockdown,yama

# name, kernel (tests/vm/kernel.sh), active LSMs, preemption, program, and what it is told of its tests: those whose names contain a word, or
# all. fmod_ret is what decides where bpf is no active LSM and the kernel does not preempt its own code; scripts are noted on a hook of BPF LSM.
# Those that take longest come first, so that no lane has one of them left at the end.
readonly BOOTS=(
    "lsm-6.1        6.1     $ALL_LSMS     full       vm_suite  --skip vm_lsm_attacks"
    "selinux-6.1    6.1     $SELINUX      full       vm_selinux"
    "attacks-6.1    6.1     $ALL_LSMS     full       vm_suite  vm_lsm_attacks"
    "lsm-newest     newest  $ALL_LSMS     full       vm_suite  tier"
    "lsm-6.12       6.12    $ALL_LSMS     full       vm_suite  tier"
    "apparmor-6.1   6.1     $NO_BPF       full       vm_apparmor"
    "fmod-ret-6.1   6.1     $FEWEST_LSMS  voluntary  vm_suite  tier"
    "fmod-ret-6.12  6.12    $NO_BPF       voluntary  vm_suite  tier"
    "whole-lsm-6.12      6.12  $ALL_LSMS     full       vm_suite  --skip vm_lsm_attacks"
    "attacks-6.12        6.12  $ALL_LSMS     full       vm_suite  vm_lsm_attacks"
    "whole-fmod-ret-6.1  6.1   $FEWEST_LSMS  voluntary  vm_suite  --skip vm_probes_tell_the_file_of_a_script --skip vm_lsm_attacks"
    "attacks-fmod-ret-6.1  6.1  $FEWEST_LSMS  voluntary  vm_suite  vm_lsm_attacks"
    "usb-6.1               generic  $ALL_LSMS  full      vm_suite  usb"
    "selinux-store-6.1     6.1   $SELINUX      full       vm_selinux  vm_selinux_store"
)
# Made only when asked for. Nearly all of a boot's time is the verifier's, in emulation, each time that a node or the suite loads its
# programs. In the last one it is semodule's, which makes a distribution's whole policy anew at each load: 80 s in emulation, seven times; 1083 s with
# another guest beside.
readonly WHEN_ASKED=(fmod-ret-6.12 whole-lsm-6.12 whole-fmod-ret-6.1 attacks-6.12 attacks-fmod-ret-6.1 usb-6.1 selinux-store-6.1)
# The boots whose SELinux has the installed distribution's policy, and what it is installed by.
readonly DISTRIBUTIONS=(selinux-store-6.1)
readonly POLICY_PACKAGES=(selinux-policy-default policycoreutils)
# Of one boot; far above what it takes on a machine that does something else, too.
readonly BOOT_SECONDS=1500
# Guests at a time: each has two processors, of which its tests mostly use one.
readonly LANES=2

main() {
    local packages=("${BUILD_PACKAGES[@]}" "${PACKAGES[@]}")
    ! is_made "${DISTRIBUTIONS[0]}" || packages+=("${POLICY_PACKAGES[@]}")
    install_packages "${packages[@]}" || skip "$install_error"
    [ "$(uname -m)" = x86_64 ] || skip "the guest is an x86-64 machine"
    cargo build --locked --workspace --bin vm_suite --bin vm_apparmor --bin vm_selinux --bin vm_actor --bin palisade --example map_code
    local status=0
    root=$(mktemp -d)
    trap conclude_lanes EXIT
    stage "$root/guest"
    mkdir "$root/logs"
    boot_all || status=$?
    print_table "$root/logs"
    check vm_table_of_tiers_says_what_each_kernel_does tiers_are_told "$root/logs"
    [ "$status" -eq 0 ] && [ "$check_failed" -eq 0 ]
}

# Every boot of the list, a few at a time; each is shown when it has ended.
boot_all() {
    local line booting=0 status=0 boots=()
    for line in "${BOOTS[@]}"; do
        is_made "${line%% *}" || continue
        boots+=("$line")
        # One after another: two would fetch the same.
        read -r _ line _ <<<"$line"
        tests/vm/kernel.sh "$line" >/dev/null || return
    done
    for line in "${boots[@]}"; do
        if [ "$booting" -ge "$LANES" ]; then
            wait -n || status=$?
            booting=$((booting - 1))
        fi
        # shellcheck disable=SC2086 # words of the list
        boot "$root" $line &
        booting=$((booting + 1))
    done
    while [ "$booting" -gt 0 ]; do
        wait -n || status=$?
        booting=$((booting - 1))
    done
    return "$status"
}

is_made() {
    if [ -n "${PALISADE_VM_BOOTS:-}" ]; then [[ $1 =~ $PALISADE_VM_BOOTS ]]; else [[ " ${WHEN_ASKED[*]} " != *" $1 "* ]]; fi
}

# boot FOLDER NAME KERNEL LSMS PREEMPTION PROGRAM [WORD...]: one machine, which must have run a test: a filter that matches none passes, too.
boot() {
    local name=$2 status=0 began=$SECONDS log more=()
    [ "$3" != generic ] || more=(--usb)
    [[ " ${DISTRIBUTIONS[*]} " != *" $2 "* ]] || more+=(--distribution)
    log=$1/logs/$name
    # What the ring does at its own end is not a lane's.
    trap - EXIT
    tests/vm/boot.sh "${more[@]}" --kernel "$3" --lsm "$4" --preempt "$5" --timeout "$BOOT_SECONDS" "$1/guest" "/bin/$6" --color never "${@:7}" 2>&1 | timed >"$log" || status=$?
    [ "$status" -ne 0 ] || grep -Eq '^test result: .*[^0-9][1-9][0-9]* (passed|failed);' "$log" || {
        printf 'boot %s: ran no test\n' "$name" >>"$log"
        status=1
    }
    printf 'boot %s: %d s\n' "$name" $((SECONDS - began)) >>"$log"
    flock "$1" cat "$log"
    : >"$1/logs/.shown-$name"
    return "$status"
}

# What has not been shown yet, where the ring's time was over.
conclude_lanes() {
    local log
    for log in "$root"/logs/*; do
        [ -f "$log" ] && [ ! -e "$root/logs/.shown-$(basename "$log")" ] || continue
        printf 'boot %s has not ended:\n' "$(basename "$log")"
        cat "$log"
    done
    rm -rf "$root"
}

# told WORD LOGS: `BOOT | CELL | CELL...` of all lines that begin with the word. The first line that a test prints has its own name before it.
# A whole boot is of the same machine as the one without that word.
told() {
    local log name
    for log in "$2"/*; do
        name=$(basename "$log")
        sed -nE "s/^(test .* \.\.\. )?$1 (.*[^ ]) *$/${name#whole-} | \2/p" "$log"
    done
}

print_table() {
    printf '\n'
    told case "$1" | column -t -s '|' -o '|'
    printf '\n'
    tiers "$1" | column -t -s '|' -o '|'
}

# The rows of the table of tiers, the names of the families first: they are the same in every boot.
tiers() {
    told families "$1" | sed -E 's/^[^|]*/| boot /; s/$/ |/' | sort -u
    told tier "$1" | sed -E 's/^.*$/| & |/'
}

# The table has no kernel's patch level: the newest is another one next week.
tiers_are_told() {
    local missing
    [ "$(tiers "$1" | wc -l)" -ge 2 ] || { echo "no boot told its tiers"; return 1; }
    if [ -n "${PALISADE_VM_WRITE:-}" ]; then write_kernels "$(tiers "$1")"; fi
    missing=$(comm -13 <(sort "$KERNELS") <(tiers "$1" | sort))
    [ -z "$missing" ] || {
        printf '%s does not say (PALISADE_VM_WRITE=1 tests/run.sh vm writes it anew):\n%s\n' "$KERNELS" "$missing"
        return 1
    }
}

# Rows of boots that were not made now are kept.
write_kernels() {
    local kept name
    kept=$(sed '1,/^|---/d' "$KERNELS")
    while read -r name; do kept=$(grep -v "^| $name |" <<<"$kept" || true); done < <(sed -E '1d; s/^\| ([^ ]*) .*/\1/' <<<"$1")
    {
        sed '/^| boot /,$d' "$KERNELS"
        head -n 1 <<<"$1"
        head -n 1 <<<"$1" | sed 's/[^|][^|]*/---/g'
        { tail -n +2 <<<"$1"; printf '%s\n' "$kept"; } | grep . | sort
    } >"$KERNELS.new"
    mv "$KERNELS.new" "$KERNELS"
}

# The guest's files: the suites, the node with its hook, a container runtime, and the image.
stage() {
    local guest=$1 program
    mkdir -p "$guest"
    for program in vm_suite vm_apparmor vm_selinux vm_actor palisade; do tests/vm/install-program.sh "$guest" "$target_dir/debug/$program" "/bin/$program"; done
    for program in containerd containerd-shim-runc-v2 ctr runc jq secilc; do
        tests/vm/install-program.sh "$guest" "$(PATH=$PATH:/usr/sbin:/sbin command -v "$program")" "/bin/$program"
    done
    install -D deploy/hooks/runc-with-hook "$guest/hooks/runc-with-hook"
    install -D -m 644 tests/vm/selinux/base.cil "$guest/selinux/base.cil"
    secilc -c 33 --output="$guest/selinux/base.policy" --filecontext=/dev/null "$guest/selinux/base.cil"
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
