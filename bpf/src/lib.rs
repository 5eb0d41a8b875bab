//! The kernel programs, compiled by clang and carried as bytes: one ELF object with BTF for each `*.bpf.c`.
//!
//! Invariant: the bytes are 8-byte aligned, for the ELF parser reads them in place.
#![forbid(unsafe_code)]

/// Gives the bytes of an object the alignment of a word.
#[repr(C, align(8))]
struct Aligned<B: ?Sized>(B);

macro_rules! object {
    ($(#[$doc:meta])* $name:ident, $file:literal) => {
        $(#[$doc])*
        pub static $name: &[u8] = {
            const ALIGNED: &Aligned<[u8]> = &Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/", $file, ".bpf.o")));
            &ALIGNED.0
        };
    };
}

object!(
    /// Keeps identity up to date: cgroups, forks, moves, execs (`identity.bpf.c`).
    IDENTITY,
    "identity"
);
object!(
    /// Executables on LSM hooks (`lsm_process.bpf.c`).
    LSM_PROCESS,
    "lsm_process"
);
object!(
    /// Opens, and the making of files, on LSM hooks (`lsm_file.bpf.c`).
    LSM_FILE,
    "lsm_file"
);
object!(
    /// Code that is mapped from files, on LSM hooks (`lsm_code.bpf.c`).
    LSM_CODE,
    "lsm_code"
);
object!(
    /// Changes of names and inodes on LSM hooks (`lsm_change.bpf.c`).
    LSM_CHANGE,
    "lsm_change"
);
object!(
    /// Mounts on LSM hooks (`lsm_mount.bpf.c`).
    LSM_MOUNT,
    "lsm_mount"
);
object!(
    /// Writes that no open was judged for, on LSM hooks (`lsm_write.bpf.c`).
    LSM_WRITE,
    "lsm_write"
);
object!(
    /// Sockets and destinations on LSM hooks (`lsm_network.bpf.c`).
    LSM_NETWORK,
    "lsm_network"
);
object!(
    /// Tracing and the use of capabilities on LSM hooks (`lsm_task.bpf.c`).
    LSM_TASK,
    "lsm_task"
);
object!(
    /// Protections by name on LSM hooks (`lsm_preset.bpf.c`).
    LSM_PRESET,
    "lsm_preset"
);
object!(
    /// Palisade's protection of itself, on LSM hooks (`lsm_guard.bpf.c`).
    LSM_GUARD,
    "lsm_guard"
);
object!(
    /// Learns mount tables (`learn.bpf.c`).
    LEARN,
    "learn"
);
object!(
    /// Tries a denial, so that LSM programs that attach but never run are found out (`selftest.bpf.c`).
    SELFTEST,
    "selftest"
);
object!(
    /// The hooks' own functions for tests (`check.bpf.c`).
    CHECK,
    "check"
);
object!(
    /// Tries what tiers stand on (`capability.bpf.c`).
    CAPABILITY,
    "capability"
);
object!(
    /// Observation: chains of processes, and the way to the other probes (`probes.bpf.c`).
    PROBES,
    "probes"
);
object!(
    /// Observation of files (`probes_file.bpf.c`).
    PROBES_FILE,
    "probes_file"
);
object!(
    /// Observation of sockets (`probes_network.bpf.c`).
    PROBES_NETWORK,
    "probes_network"
);
object!(
    /// Observation of what processes do to each other and to their standing (`probes_process.bpf.c`).
    PROBES_PROCESS,
    "probes_process"
);
object!(
    /// Observation of what changes the kernel (`probes_kernel.bpf.c`).
    PROBES_KERNEL,
    "probes_kernel"
);
object!(
    /// The decisions on all cgroups: sockets, destinations and DNS questions (`cgroup.bpf.c`).
    CGROUP,
    "cgroup"
);
object!(
    /// What no other tier holds: killed, or reported as unenforceable (`kill.bpf.c`).
    KILL,
    "kill"
);
object!(
    /// Executions by their arguments (`arguments.bpf.c`).
    ARGUMENTS,
    "arguments"
);
object!(
    /// System calls that rules name (`syscalls.bpf.c`).
    SYSCALLS,
    "syscalls"
);
object!(
    /// Observation of DNS messages (`dns.bpf.c`).
    DNS,
    "dns"
);
object!(
    /// A program that does nothing, for the benchmark (`idle.bpf.c`).
    IDLE,
    "idle"
);
