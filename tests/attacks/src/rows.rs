//! The table: 34 classes of attacks, the variants of each, and what becomes of them by every means.
//!
//! Reasons say what a user reads in `palisade probe` of the same gap, or what a policy would have to say instead.

use crate::{
    policies::Policy::{self, *},
    table::{
        Attack, Elsewhere, Untried,
        Verdict::{self, Allowed, Denied, Dropped, Killed, Unenforceable},
    },
};

/// What attacks go for, by number.
pub const CLASSES: [(u8, &str); 34] = [
    (1, "symbolic links to a file or its directory"),
    (2, "a program under the name of a link"),
    (3, "hard links, and bind mounts of before"),
    (4, "copies and new names of a program, a file, a directory above"),
    (5, "names through /proc"),
    (6, "the ELF interpreter in place of execve"),
    (7, "scripts and their interpreters"),
    (8, "programs without a name"),
    (9, "overlayfs' copies, idmapped mounts"),
    (10, "mounts over a path, and detached ones"),
    (11, "namespaces and roots of one's own"),
    (12, "a false name, parent or executable"),
    (13, "arguments, long or in another order"),
    (14, "names of images"),
    (15, "long and deep paths"),
    (16, "io_uring"),
    (17, "sister system calls"),
    (18, "the 32-bit entry"),
    (19, "arguments that change while they are read"),
    (20, "writes that are no write, and descriptors of before"),
    (21, "sockets beside TCP and UDP"),
    (22, "tracing without ptrace"),
    (23, "a flood of events"),
    (24, "full tables, numbers that come again"),
    (25, "killing, stopping or unloading the runtime"),
    (26, "gaps: restarts, swaps of policy, first instructions"),
    (27, "the runtime's sockets and files"),
    (28, "another user after exec"),
    (29, "malformed input"),
    (30, "a hostile node"),
    (31, "leaving the cgroup"),
    (32, "preemption between a write and a read of scratch memory"),
    (33, "a volume by its place on the host"),
    (34, "advisories of container runtimes"),
];

const NO_HOOK: &str = "changes of files: without a BPF LSM opens and executions alone are denied";
const BY_NAME: &str = "a file is judged by the name that it is opened by: files of several links need a rule for each";
const BOUND_BEFORE: &str =
    "a mount of before the policy is a place of its own, by whose name its files go: rules name each place of a volume";
const OPEN_BEFORE: &str = "what was open before the policy may be read";
const OTHER_NAME: &str = "a Block names files: an allow-list of executables holds copies and new names";
const NO_WRITES: &str = "readOnly: permission events tell no open mode, and writes ask nobody";
const OTHER_SOURCE: &str =
    "sources that rename themselves: prctl(PR_SET_MM_EXE_FILE) changes what a process is known by";
const ABOVE: &str = "directories above a named file: a profile judges the renaming of one by its own name";
const NO_MOUNTS: &str = "mounts over a file: no profile of ours has rules for mounts";
const OPEN_FOR_WRITING: &str = "descriptors of before: AppArmor keeps what it permitted when a file was opened";
const LOWER_LAYERS: &str =
    "an overlay of one's own: on Linux 6.1 what an overlay opens of its layers asks nobody (on 6.18 it does)";
const NO_MAPPINGS: &str =
    "mmap(PROT_EXEC): without an LSM hook a loader's open of a program is an open, which a rule of files holds";
const LEFT: &str =
    "who leaves the cgroup: permission events name a thread, and it is known by the cgroup that it is in";
const NOT_PTRACE: &str = "it traces without ptrace(2), which is all that is seen";

/// Under a profile or constraints as without.
const fn row(number: (u8, u8), attack: &'static str, policy: Policy, hooks: Verdict, fanotify: Verdict) -> Attack {
    let (profile, selinux) = (fanotify, fanotify);
    Attack { number, attack, policy, hooks, profile, selinux, fanotify, is_moved: false, may_be_missing: false }
}

/// Otherwise under a profile than without.
const fn under_profile(profile: Verdict, attack: Attack) -> Attack {
    Attack { profile, ..attack }
}

/// A profile has nothing of mounts.
const fn mounts(number: (u8, u8), attack: &'static str, policy: Policy, without: &'static str) -> Attack {
    under_profile(Unenforceable(NO_MOUNTS), hooks(number, attack, policy, without))
}

/// Through what was opened for writing while it was permitted.
const fn opened(number: (u8, u8), attack: &'static str, policy: Policy, without: &'static str) -> Attack {
    under_profile(Unenforceable(OPEN_FOR_WRITING), hooks(number, attack, policy, without))
}

/// By hooks, and by a profile.
const fn profile(number: (u8, u8), attack: &'static str, policy: Policy, without: &'static str) -> Attack {
    under_profile(Denied, hooks(number, attack, policy, without))
}

/// Otherwise under constraints than without.
const fn under_constraint(selinux: Verdict, attack: Attack) -> Attack {
    Attack { selinux, ..attack }
}

/// The same by all means.
const fn held(number: (u8, u8), attack: &'static str, policy: Policy) -> Attack {
    row(number, attack, policy, Denied, Denied)
}

/// By hooks alone.
const fn hooks(number: (u8, u8), attack: &'static str, policy: Policy, without: &'static str) -> Attack {
    row(number, attack, policy, Denied, Unenforceable(without))
}

const fn allowed(number: (u8, u8), attack: &'static str, policy: Policy, reason: &'static str) -> Attack {
    row(number, attack, policy, Allowed(reason), Allowed(reason))
}

const fn killed(number: (u8, u8), attack: &'static str, policy: Policy) -> Attack {
    row(number, attack, policy, Denied, Killed)
}

/// Not on every kernel.
const fn maybe(attack: Attack) -> Attack {
    Attack { may_be_missing: true, ..attack }
}

/// All that are done here.
pub const ATTACKS: &[Attack] = &[
    held((1, 1), "symlink", Files),
    held((1, 2), "symlink-directory", Files),
    held((1, 3), "working-directory", Files),
    held((1, 4), "directory-descriptor", Files),
    held((2, 1), "applet", Programs),
    allowed((2, 2), "applet", Applet, "a link's name is none of the program: the file that it leads to is judged"),
    profile((3, 1), "link-after", Files, NO_HOOK),
    allowed((3, 2), "link-before", Files, BY_NAME),
    allowed((3, 3), "bind-before", Files, BOUND_BEFORE),
    allowed((3, 4), "chroot-bound-before", Files, BOUND_BEFORE),
    allowed((4, 1), "copy", Programs, OTHER_NAME),
    held((4, 2), "copy", AllowList),
    allowed((4, 3), "move-program", Programs, OTHER_NAME),
    held((4, 4), "move-program", AllowList),
    profile((4, 5), "rename-file", Files, NO_HOOK),
    profile((4, 6), "rename-directory", Files, NO_HOOK),
    under_profile(Unenforceable(ABOVE), hooks((4, 7), "rename-directory", Secret, NO_HOOK)),
    under_profile(Unenforceable(ABOVE), hooks((4, 8), "exchange-directory", Secret, NO_HOOK)),
    held((5, 1), "proc-root", Files),
    held((5, 2), "proc-thread-root", Files),
    held((5, 3), "proc-other-root", Files),
    held((5, 4), "proc-fd", Files),
    held((5, 5), "proc-cwd", Files),
    hooks((6, 1), "loader", Programs, NO_MAPPINGS),
    hooks((6, 2), "elf-interpreter", Programs, NO_MAPPINGS),
    hooks((6, 3), "map-code", Programs, NO_MAPPINGS),
    hooks((6, 4), "protect-code", Programs, NO_MAPPINGS),
    held((7, 1), "script", Programs),
    allowed((7, 2), "script-by-shell", Programs, "the shell is what runs: a rule of files holds scripts as well"),
    held((7, 3), "script-by-shell", Files),
    held((7, 4), "from-shell", Programs),
    held((7, 5), "script-interpreter", Programs),
    profile(
        (8, 1),
        "memfd",
        AllowList,
        "files outside watched file systems: the preset filelessExec holds programs in memory",
    ),
    killed((8, 2), "memfd", Fileless),
    killed((8, 3), "memfd-path", Fileless),
    held((8, 4), "execveat-descriptor", Programs),
    held((8, 5), "tmpfile", AllowList),
    held((8, 6), "unlinked", AllowList),
    held((8, 7), "unlinked-tool", Programs),
    held((8, 8), "memory-disk", AllowList),
    held((9, 1), "copy-up", Files),
    held((10, 1), "bind-after", Files),
    held((10, 2), "move-mount", Files),
    held((10, 3), "detached-tree", Files),
    mounts((10, 4), "fsmount-over", Files, NO_HOOK),
    mounts((10, 5), "tmpfs-over", Files, NO_HOOK),
    mounts((10, 6), "file-over", Files, NO_HOOK),
    held((10, 7), "pivot-root", Files),
    under_constraint(
        Unenforceable(LOWER_LAYERS),
        under_profile(Unenforceable(LOWER_LAYERS), held((10, 8), "overlay-of-it", Files)),
    ),
    held((11, 1), "unshare", Files),
    held((11, 2), "unshare-bind", Files),
    held((11, 3), "user-namespace", Files),
    held((11, 4), "pid-namespace", Files),
    held((11, 5), "chroot", Files),
    held((11, 6), "chroot-inside", Files),
    held((11, 7), "setns-host", Files),
    held((12, 1), "comm", Files),
    held((12, 2), "argv0", Programs),
    held((12, 3), "orphan", Files),
    maybe(hooks((12, 4), "executable-renamed", Source, OTHER_SOURCE)),
    held((15, 1), "deep-70", Files),
    held((15, 2), "deep-130", Files),
    held((15, 3), "long-255", Files),
    held((15, 4), "long-5000", Files),
    held((16, 1), "ring-open", Files),
    held((16, 2), "ring-openat2", Files),
    held((16, 3), "ring-polled-open", Files),
    profile((16, 4), "ring-unlink", Files, NO_HOOK),
    profile((16, 5), "ring-polled-unlink", Files, NO_HOOK),
    profile((16, 6), "ring-rename", Files, NO_HOOK),
    profile((16, 7), "ring-link", Files, NO_HOOK),
    profile((16, 8), "ring-symlink", Files, NO_HOOK),
    profile((16, 9), "ring-mkdir", Files, NO_HOOK),
    held((16, 10), "ring-connect", Destination),
    held((17, 1), "openat2", Files),
    held((17, 2), "openat2-in-root", Files),
    held((17, 3), "execveat-relative", Programs),
    profile((17, 4), "exchange", Files, NO_HOOK),
    held((17, 5), "handle", Files),
    held((17, 6), "clone3", Files),
    allowed((17, 7), "copy-range-out", Files, OPEN_BEFORE),
    maybe(held((18, 1), "ia32-open", Files)),
    maybe(profile((18, 2), "ia32-unlink", Files, NO_HOOK)),
    maybe(killed((18, 3), "ia32-ptrace", Tracing)),
    held((19, 1), "flipping-path", Files),
    held((19, 2), "exchanged-links", Files),
    held((19, 3), "userfault-path", Files),
    held((19, 4), "connect-flipping", Destination),
    opened((20, 1), "mmap-shared", ReadOnly, NO_WRITES),
    opened((20, 2), "mprotect-shared", ReadOnly, NO_WRITES),
    allowed(
        (20, 3),
        "mapped-before",
        ReadOnly,
        "what was mapped writable before the policy is written without asking the kernel",
    ),
    profile((20, 4), "open-truncating", ReadOnly, NO_WRITES),
    profile((20, 5), "truncate", ReadOnly, NO_WRITES),
    profile((20, 6), "ftruncate", ReadOnly, NO_WRITES),
    opened((20, 7), "inherited-write", ReadOnly, NO_WRITES),
    opened((20, 8), "pwritev2", ReadOnly, NO_WRITES),
    opened((20, 9), "sendfile-into", ReadOnly, NO_WRITES),
    opened((20, 10), "splice-into", ReadOnly, NO_WRITES),
    opened((20, 11), "copy-range-into", ReadOnly, NO_WRITES),
    opened((20, 12), "punch-hole", ReadOnly, NO_WRITES),
    opened((20, 13), "ring-write", ReadOnly, NO_WRITES),
    profile((20, 14), "reopen-for-writing", ReadOnly, NO_WRITES),
    allowed((20, 15), "inherited-read", Files, OPEN_BEFORE),
    hooks(
        (20, 16),
        "passed-descriptor",
        Files,
        "descriptors that come over a socket: without an LSM hook none is seen",
    ),
    held((21, 1), "connect", Destination),
    held((21, 2), "connect-mapped", Destination),
    held((21, 3), "connect-unspecified", Destination),
    held((21, 4), "fast-open", Destination),
    maybe(held((21, 5), "mptcp", Destination)),
    held((21, 6), "sendto", Destination),
    held((21, 7), "sendmmsg", Destination),
    killed((21, 8), "packet-socket", Raw),
    held((21, 9), "raw-socket", Raw),
    held((21, 10), "raw-socket-6", Raw),
    maybe(killed((21, 11), "vsock", Sockets)),
    killed((21, 12), "netlink", Sockets),
    row((21, 13), "dns-tcp", Names, Dropped, Dropped),
    allowed((21, 14), "dns-other-port", Names, "DNS on other ports than 53: a rule on destinations holds them"),
    killed((22, 1), "ptrace-attach", Tracing),
    killed((22, 2), "ptrace-seize", Tracing),
    killed((22, 3), "ptrace-traceme", Tracing),
    hooks((22, 4), "vm-readv", Tracing, NOT_PTRACE),
    hooks((22, 5), "vm-writev", Tracing, NOT_PTRACE),
    hooks((22, 6), "memory-read", Tracing, NOT_PTRACE),
    hooks((22, 7), "memory-write", Tracing, NOT_PTRACE),
    hooks((22, 8), "pidfd-getfd", Tracing, NOT_PTRACE),
    hooks((22, 9), "pidfd-getfd", Files, "descriptors that are taken from another: without an LSM hook none is seen"),
    held((28, 1), "fsuid", OwnerOnly),
    held((28, 2), "setresuid", OwnerOnly),
    profile((31, 1), "leave-cgroup", Files, LEFT),
    held((31, 2), "child-cgroup", Files),
    profile((31, 3), "clone-into-cgroup", Files, LEFT),
    Attack { is_moved: true, ..profile((31, 4), "look", Files, LEFT) },
    held((33, 1), "host-path", Files),
    held((34, 1), "leaked-directory", Files),
    under_constraint(
        Denied,
        profile(
            (34, 2),
            "mount-cgroups",
            Administration,
            "only an LSM hook, a profile or a constraint denies the use of a capability: it is seen",
        ),
    ),
];

/// What other tests do.
pub const ELSEWHERE: &[Elsewhere] = &[
    Elsewhere {
        class: 13,
        what: "arguments",
        tests: &[
            "host_arguments_that_no_rule_allows_are_killed_for_before_the_first_instruction",
            "vm_arguments_that_no_rule_allows_are_killed_for",
        ],
    },
    Elsewhere { class: 14, what: "names of images", tests: &["unit_identity_of_a_pod_is_not_chosen_by_its_image"] },
    Elsewhere {
        class: 23,
        what: "floods",
        tests: &[
            "host_probe_the_sum_holds_for_every_kind_under_load_with_folding_limits_and_full_rings",
            "host_node_under_200_000_opens_a_second_accounts_for_every_one",
        ],
    },
    Elsewhere {
        class: 24,
        what: "full tables",
        tests: &[
            "host_identity_no_workload_fills_the_table_of_cgroups",
            "host_unknown_churn_fills_no_table_and_a_full_table_makes_nobody_the_hosts",
            "unit_alerts_reused_process_id_inherits_no_chain",
        ],
    },
    Elsewhere {
        class: 25,
        what: "a runtime that is gone",
        tests: &[
            "vm_policy_stands_after_its_loader_was_killed_until_it_is_unloaded",
            "host_node_killed_at_random_points_leaves_what_is_pinned_in_force",
        ],
    },
    Elsewhere {
        class: 25,
        what: "a privileged container that kills, traces or freezes the node, opens or detaches what it attached, takes its pins or hides them",
        tests: &["vm_guard_keeps_a_privileged_container_from_the_node_and_from_what_it_left"],
    },
    Elsewhere {
        class: 26,
        what: "first instructions",
        tests: &[
            "host_containers_tell_a_start_before_its_first_instruction",
            "host_fanotify_holds_a_container_of_runc_from_its_first_exec",
        ],
    },
    Elsewhere {
        class: 27,
        what: "sockets and tokens",
        tests: &[
            "unit_admin_socket_is_private_and_replaces_only_a_dead_one",
            "unit_admin_token_is_made_once_private_and_never_weak",
        ],
    },
    Elsewhere {
        class: 29,
        what: "malformed records",
        tests: &["unit_alerts_malformed_records_are_counted_and_the_rest_is_read"],
    },
    Elsewhere {
        class: 30,
        what: "strangers on links",
        tests: &["unit_link_strangers_that_proved_where_they_are_are_not_displaced_by_forged_ones"],
    },
    Elsewhere {
        class: 31,
        what: "a workload without policy that moves itself, its children, or the host's processes into another container's cgroup",
        tests: &[
            "host_identity_a_workload_without_policy_stays_itself_in_another_containers_cgroup_and_back_in_its_own",
            "host_identity_who_a_workload_puts_into_another_containers_cgroup_is_that_workloads_and_no_runtime_there",
            "host_identity_a_process_of_the_host_that_a_workload_puts_into_a_cgroup_stays_the_hosts",
        ],
    },
    Elsewhere { class: 32, what: "preemption", tests: &["vm_lsm_lets_none_of_thousands_of_concurrent_opens_through"] },
    Elsewhere {
        class: 34,
        what: "the runtime's own executable (CVE-2019-5736)",
        tests: &["host_fanotify_is_not_evaded_by_executing_the_runtime_itself"],
    },
];

/// What nobody does.
pub const UNTRIED: &[Untried] = &[
    Untried { class: 9, what: "idmapped mounts", reason: "no file system of the guest can be mapped before Linux 6.3" },
    Untried { class: 18, what: "x32", reason: "no kernel of the ring has it" },
    Untried {
        class: 19,
        what: "FUSE",
        reason: "userfaultfd stretches the same reads, and the guest has no FUSE server",
    },
];
