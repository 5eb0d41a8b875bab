//! The twin of `bpf/include/record.h`, as offsets and sizes.
//!
//! The structures are never made from bytes by a cast: they only lend `offset_of!` and `size_of` to the checked decoder and to
//! the BTF comparison. Names are those of the header, without the `pal_record_` prefix in the Rust type names.

use std::mem::{offset_of, size_of};

/// `PAL_RECORD_VERSION`: what is written.
pub const VERSION: u16 = 2;
/// The oldest version that is read: traces keep records for years. It differs in execs alone ([`EXEC_SIZE_BEFORE_SCRIPTS`]).
pub const OLDEST_VERSION: u16 = 1;
/// Bytes of an exec's body in version 1, which ends before `script`.
pub(super) const EXEC_SIZE_BEFORE_SCRIPTS: usize = offset_of!(RawExec, script);
/// `PAL_RECORD_ALIGN`, bytes.
pub const ALIGN: usize = 8;
/// `PAL_RECORD_MAX`, bytes.
pub const MAX_LEN: usize = 16384;
/// `PAL_STRING_MAX`, bytes.
pub const STRING_MAX: usize = 4096;
/// `PAL_PRODUCER_USER`: producers below are CPUs.
pub const PRODUCER_USER: u32 = 0x8000_0000;
/// `PAL_HAS_DECISION`.
pub(super) const HAS_DECISION: u8 = 1;
/// `PAL_SPAN_CUT`.
pub(super) const SPAN_CUT: u16 = 1;
/// `PAL_SPAN_USER`.
pub(super) const SPAN_USER: u16 = 2;
/// `PAL_SPAN_UNREADABLE`.
pub(super) const SPAN_UNREADABLE: u16 = 4;
/// `PAL_NETWORK_USER`.
pub(super) const NETWORK_USER: u8 = 1;
/// `PAL_CREDENTIALS_BEFORE`.
pub(super) const CREDENTIALS_BEFORE: u8 = 1;
/// `PAL_BPF_USER`.
pub(super) const BPF_USER: u32 = 1;
/// `PAL_DNS_TRUNCATED`.
pub(super) const DNS_TRUNCATED: u8 = 1;
/// `PAL_DNS_INCOMPLETE`.
pub(super) const DNS_INCOMPLETE: u8 = 2;
/// `PAL_DNS_NO_TASK`.
pub(super) const DNS_NO_TASK: u8 = 4;
/// `PAL_SYSCALL_COMPAT`.
pub(super) const SYSCALL_COMPAT: u32 = 1;
/// `PAL_SYSCALL_X32`.
pub(super) const SYSCALL_X32: u32 = 2;

/// One field of a structure of the header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FieldLayout {
    /// Its C name.
    pub name: &'static str,
    /// From the structure's first byte.
    pub offset: usize,
}

/// One structure of the header, to be compared with the objects' BTF.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StructLayout {
    /// Its C name, without `struct`.
    pub name: &'static str,
    /// `sizeof`.
    pub size: usize,
    /// In order of declaration, every field.
    pub fields: &'static [FieldLayout],
}

/// Declares a `repr(C)` twin and its [`StructLayout`], so that a field cannot be in one and not in the other.
macro_rules! twin {
    ($rust:ident, $c:literal, $size:literal, { $($field:ident : $type:ty),+ $(,)? }) => {
        #[repr(C)]
        pub(super) struct $rust { $(pub(super) $field: $type),+ }
        const _: () = assert!(size_of::<$rust>() == $size);
        impl $rust {
            pub(super) const LAYOUT: StructLayout = StructLayout {
                name: $c,
                size: size_of::<$rust>(),
                fields: &[$(FieldLayout { name: stringify!($field), offset: offset_of!($rust, $field) }),+],
            };
        }
    };
}

twin!(RawDecision, "pal_record_decision", 16, {
    policy: u32, generation: u32, word: u32, tier: u8, outcome: u8, fail_reason: u8, family: u8,
});
twin!(RawHead, "pal_record_head", 128, {
    kind: u16, version: u16, len: u32, sequence: u64, producer: u32, slot: u32, boot_ns: u64, cgroup_id: u64,
    task_start_ns: u64, parent_start_ns: u64, tgid: u32, tid: u32, parent_tgid: u32, uid: u32, euid: u32, fsuid: u32,
    gid: u32, mnt_ns: u32, pid_ns: u32, phase: u8, parts: u8, call: u16, comm: [u8; 16], decision: RawDecision,
});
twin!(RawSpan, "pal_span", 8, { offset: u32, len: u16, flags: u16 });
twin!(RawExec, "pal_record_exec", 48, {
    path: RawSpan, cwd: RawSpan, arguments: RawSpan, argument_count: u32, tty: u32, script: RawSpan, scripts: u32,
    reserved: u32,
});
twin!(RawFork, "pal_record_fork", 24, {
    child_tgid: u32, child_tid: u32, child_start_ns: u64, child_own_tgid: u32, child_pid_ns: u32,
});
twin!(RawExit, "pal_record_exit", 8, { status: i32, reserved: u32 });
twin!(RawOpen, "pal_record_open", 16, { path: RawSpan, flags: u32, result: i32 });
twin!(RawNetwork, "pal_record_network", 32, {
    operation: u8, endpoint_len: u8, flags: u8, reserved: u8, result: i32, endpoint: [u8; 24],
});
twin!(RawPtrace, "pal_record_ptrace", 32, {
    target_exe: RawSpan, request: u32, target_tgid: u32, target_tid: u32, target_slot: u32, target_start_ns: u64,
});
twin!(RawFileChange, "pal_record_file_change", 64, {
    path: RawSpan, base: RawSpan, new_path: RawSpan, new_base: RawSpan, size: u64, mode: u32, uid: u32, gid: u32,
    flags: u32, result: i32, operation: u8, reserved: [u8; 3],
});
twin!(RawMount, "pal_record_mount", 48, {
    source: RawSpan, target: RawSpan, filesystem: RawSpan, base: RawSpan, flags: u64, result: i32, operation: u8,
    reserved: [u8; 3],
});
twin!(RawCredentialSet, "pal_credentials", 56, {
    uid: u32, euid: u32, suid: u32, fsuid: u32, gid: u32, egid: u32, sgid: u32, fsgid: u32, effective: u64,
    permitted: u64, inheritable: u64,
});
twin!(RawCredentials, "pal_record_credentials", 120, {
    before: RawCredentialSet, after: RawCredentialSet, result: i32, operation: u8, flags: u8, reserved: u16,
});
twin!(RawSignal, "pal_record_signal", 32, {
    signal: u32, result: i32, asked: i32, target_tgid: u32, target_tid: u32, target_slot: u32, target_start_ns: u64,
});
twin!(RawModule, "pal_record_module", 32, {
    name: RawSpan, path: RawSpan, flags: u32, result: i32, operation: u8, reserved: [u8; 7],
});
twin!(RawBpf, "pal_record_bpf", 32, {
    name: RawSpan, command: u32, object_type: u32, object_id: u32, flags: u32, result: i32, reserved: u32,
});
twin!(RawNamespace, "pal_record_namespace", 48, {
    flags: u64, result: i32, operation: u8, reserved: [u8; 3], mnt: u32, pid_for_children: u32, net: u32, user: u32,
    uts: u32, ipc: u32, cgroup: u32, time: u32,
});
twin!(RawMemfd, "pal_record_memfd", 16, { name: RawSpan, flags: u32, result: i32 });
twin!(RawIoUring, "pal_record_io_uring", 32, {
    path: RawSpan, file: RawSpan, flags: u32, result: i32, descriptor: i32, operation: u8, opcode: u8, reserved: u16,
});
twin!(RawProcessAccess, "pal_record_process_access", 40, {
    target_exe: RawSpan, result: i64, target_start_ns: u64, target_tgid: u32, target_tid: u32, target_slot: u32,
    operation: u8, reserved: [u8; 3],
});
twin!(RawDns, "pal_record_dns", 56, {
    name: RawSpan, addresses: RawSpan, operation: u8, transport: u8, rcode: u8, endpoint_len: u8, query_type: u16,
    id: u16, answers: u16, flags: u8, reserved: [u8; 5], endpoint: [u8; 24],
});
twin!(RawCapability, "pal_record_capability", 8, { capability: u32, result: i32 });
twin!(RawSyscall, "pal_record_syscall", 64, { result: i64, arguments: [u64; 6], number: u32, flags: u32 });
twin!(RawFolded, "pal_record_folded", 24, {
    of_boot_ns: u64, last_ns: u64, repeats: u32, of_kind: u16, reserved: u16,
});

/// Bytes of the head that every record starts with.
pub const HEAD_SIZE: usize = size_of::<RawHead>();

/// Every structure of the header, for the test that compares them with the objects' BTF.
pub const LAYOUTS: &[StructLayout] = &[
    RawDecision::LAYOUT,
    RawHead::LAYOUT,
    RawSpan::LAYOUT,
    RawExec::LAYOUT,
    RawFork::LAYOUT,
    RawExit::LAYOUT,
    RawOpen::LAYOUT,
    RawNetwork::LAYOUT,
    RawPtrace::LAYOUT,
    RawFileChange::LAYOUT,
    RawMount::LAYOUT,
    RawCredentialSet::LAYOUT,
    RawCredentials::LAYOUT,
    RawSignal::LAYOUT,
    RawModule::LAYOUT,
    RawBpf::LAYOUT,
    RawNamespace::LAYOUT,
    RawMemfd::LAYOUT,
    RawIoUring::LAYOUT,
    RawProcessAccess::LAYOUT,
    RawDns::LAYOUT,
    RawCapability::LAYOUT,
    RawSyscall::LAYOUT,
    RawFolded::LAYOUT,
];
