#!/usr/bin/env bash
# Boots a guest on a distribution kernel in software emulation, runs one program in it and exits with that program's status.
#
#   tests/vm/boot.sh [--counted] [--usb] [--distribution] [--kernel VERSION] [--lsm LIST] [--preempt MODE] [--timeout SECONDS] FOLDER PROGRAM [ARGUMENT...]
#
# FOLDER becomes the guest's root file system (beside what the guest needs itself: busybox, init, kernel modules).
# What PROGRAM prints is all that is printed; the kernel's console is shown only if it failed.
# --kernel: one of those that kernel.sh knows; 6.1 if none is named.
# --lsm: the active LSMs, in their order.
# --preempt: full unless another is named.
# --usb: a USB controller with a keyboard and a disk, and their drivers; the kernel must have them (generic).
# --distribution: SELinux has the policy of the distribution that is installed here, in the place of the guest's own, with the store that it was made
# of and the tools that make it anew; all files are labelled, and PROGRAM runs as a service of such a host does.
# --counted: one CPU whose clock is the number of instructions executed, so that nanoseconds in the guest are instructions.
# No hardware acceleration: results must not depend on the machine, and counting needs emulation anyway.
set -euo pipefail

readonly HERE="$(cd "$(dirname "$0")" && pwd)"
# Modules that the guest loads, in this order.
# What containers need, and one that nobody does: a test takes it away and loads it again.
MODULES=(fs/overlayfs/overlay.ko lib/ts_fsm.ko)
readonly USB_MODULES=(drivers/usb/common/usb-common.ko drivers/usb/core/usbcore.ko drivers/usb/host/xhci-hcd.ko drivers/usb/host/xhci-pci.ko
    drivers/hid/hid.ko drivers/hid/hid-generic.ko drivers/hid/usbhid/usbhid.ko drivers/scsi/scsi_common.ko drivers/scsi/scsi_mod.ko
    drivers/usb/storage/usb-storage.ko)
# The policy's name, and what semodule executes, where it looks for them.
readonly POLICY=default
readonly POLICY_TOOLS=(semodule setfiles sefcontext_compile load_policy)
readonly DISK_BYTES=1048576
readonly MEMORY_MIB=2048
readonly CONSOLE_LINES=80

# Page tables of five levels, which no test needs, would make a guest a tenth slower: each miss of what is translated walks them.
processors=(-accel tcg,thread=multi -smp 2 -cpu max,la57=off)
# Of the guest's time. Counted, the TSC is exact; else the kernel would measure its rate against a timer while it starts, and on a busy
# machine have minutes pass in seconds from then on: whatever waits in the guest gives up.
clock=hpet
devices=()
# Tasks may be preempted anywhere, BPF programs included: the hardest setting that distributions offer.
preemption=full
lsm=landlock,lockdown,yama,apparmor,bpf
version=6.1
seconds=300

main() {
    while [ $# -gt 0 ]; do
        case $1 in
            --counted) processors=(-accel tcg,thread=single -smp 1 -icount shift=0,sleep=off -cpu max) preemption=voluntary clock=tsc && shift ;;
            --usb) usb=1 && shift ;;
            --distribution) distribution=1 && shift ;;
            --kernel) version=$2 && shift 2 ;;
            --lsm) lsm=$2 && shift 2 ;;
            --preempt) preemption=$2 && shift 2 ;;
            --timeout) seconds=$2 && shift 2 ;;
            *) break ;;
        esac
    done
    [ $# -ge 2 ] || { sed -n '2,15s/^# \{0,1\}//p' "$0" >&2; exit 2; }
    scratch=$(mktemp -d "${TMPDIR:-/tmp}/palisade-vm.XXXXXX")
    trap 'rm -rf "$scratch"' EXIT
    kernel=$("$HERE/kernel.sh" "$version")
    # Newer kernels change their own code more often, and where two processors are emulated at once one that executes it meanwhile may
    # die of an int3 that nobody expects. By turns they are two processors all the same.
    [ "$version" = 6.1 ] || [ "$version" = generic ] || processors=("${processors[@]/thread=multi/thread=single}")
    [ -z "${usb:-}" ] || plug
    initramfs "$@"
    guest
    [ "${verdict:-1}" -ne 0 ] || return 0
    explain "$status" "$verdict"
    exit "${verdict:-1}"
}

# An archive of FOLDER followed by one of our own parts: the kernel unpacks both over each other.
initramfs() {
    local folder=$1 own="$scratch/own" module
    shift
    mkdir -p "$own"/{bin,proc,sys,dev,tmp,modules}
    cp "$(command -v busybox)" "$own/bin/busybox"
    cp "$HERE/init" "$own/init"
    printf '%s\n' "$@" >"$own/program"
    for module in "${MODULES[@]}"; do
        module_of "$module" >"$own/modules/$(basename "$module")"
        basename "$module" >>"$own/modules/order"
    done
    [ -z "${distribution:-}" ] || policy "$own"
    archive "$folder" >"$scratch/initramfs"
    archive "$own" >>"$scratch/initramfs"
}

# A copy: what the guest does with its store, it does to that. An administrator has given services what a node needs, and labelled what containers
# are made of (`semanage fcontext -a`), as deploy/selinux.md says.
policy() {
    local tool
    for tool in "${POLICY_TOOLS[@]}"; do
        "$HERE/install-program.sh" "$1" "$(PATH=$PATH:/usr/sbin:/sbin command -v "$tool")" "/usr/sbin/$tool"
    done
    tar --directory / --create "etc/selinux/$POLICY" etc/selinux/semanage.conf "var/lib/selinux/$POLICY" | tar --directory "$1" --extract
    PATH=$PATH:/usr/sbin semodule --noreload --path="$1" --store="$POLICY" --install="$HERE/../../deploy/selinux/palisade-node.cil"
    printf '/var/lib/containerd(/.*)?\tsystem_u:object_r:bin_t:s0\n' >"$1/etc/selinux/$POLICY/contexts/files/file_contexts.local"
    printf 'SELINUX=enforcing\nSELINUXTYPE=%s\n' "$POLICY" >"$1/etc/selinux/config"
}

# Ports 1 and 2 of one controller.
plug() {
    MODULES+=("${USB_MODULES[@]}")
    truncate -s "$DISK_BYTES" "$scratch/disk"
    devices=(-device qemu-xhci,id=usb -device usb-kbd,bus=usb.0,port=1
        -drive "if=none,id=disk,format=raw,file=$scratch/disk" -device usb-storage,bus=usb.0,port=2,drive=disk)
}

# A module's bytes: later kernels' packages have them compressed.
module_of() {
    local path="$kernel/modules/kernel/$1"
    if [ -f "$path" ]; then cat "$path"; else xz --decompress --stdout "$path.xz"; fi
}

archive() { (cd "$1" && find . -mindepth 1 | cpio --quiet -o -H newc -R 0:0); }

# The first serial line is the kernel's console, the second carries the program's output and, last, "guest exit STATUS". Sets `status`, which
# is QEMU's, and `verdict`, the program's; empty where it did not end.
guest() {
    status=0
    timeout --kill-after=5 "$seconds" qemu-system-x86_64 "${processors[@]}" -m "$MEMORY_MIB" -display none -nodefaults \
        "${devices[@]}" \
        -no-reboot -serial "file:$scratch/console" -serial stdio -kernel "$kernel/vmlinuz" -initrd "$scratch/initramfs" \
        -append "console=ttyS0 panic=-1 quiet lsm=$lsm mitigations=off nokaslr preempt=$preemption tsc=reliable clocksource=$clock rootfstype=tmpfs no_timer_check random.trust_cpu=on$(settings)" \
        </dev/null 2>"$scratch/qemu" | tee "$scratch/output" | sed -u '/^guest exit /d' || status=$?
    verdict=$(sed -nE 's/^guest exit ([0-9]+)$/\1/p' "$scratch/output")
}

# What the guest's programs find in their environment: words of the command line that the kernel does not know are init's. SELinux, where it
# is active, denies nothing unless it is told to.
settings() {
    local name
    [[ ",$lsm," != *,selinux,* ]] || printf ' enforcing=1'
    [ -z "${distribution:-}" ] || printf ' PALISADE_POLICY=%s' "$POLICY"
    for name in PALISADE_RACE PALISADE_ATTACKS; do [ -z "${!name:-}" ] || printf ' %s=%s' "$name" "${!name}"; done
}

explain() {
    [ -n "$2" ] || printf 'the guest did not finish (qemu %s; 124: its %s s were over)\n' "$1" "$seconds"
    cat "$scratch/qemu"
    printf -- '---- the last %d lines of the kernel console\n' "$CONSOLE_LINES"
    tail -n "$CONSOLE_LINES" "$scratch/console" 2>/dev/null || true
} >&2

main "$@"
