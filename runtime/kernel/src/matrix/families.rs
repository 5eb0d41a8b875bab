//! What the capabilities of a kernel hold of each family, and what of it they do not.
//!
//! Invariant: a function of the capabilities alone, so that what is stated of another kernel is what a node says there.

use std::collections::BTreeMap;

use palisade_domain::{Family, Tier};
use palisade_world::{Capability, CapabilityState, Gap, HeldFamily, KernelMatrix};

use super::{has, kills};
use crate::{fanotify, usb};

pub(crate) fn gap(what: &str, reason: &str) -> Gap {
    Gap { what: what.to_owned(), reason: reason.to_owned() }
}

/// Which tier holds which family with these capabilities, and what it cannot hold.
#[must_use]
pub fn families(capabilities: &BTreeMap<Capability, CapabilityState>) -> BTreeMap<Family, HeldFamily> {
    let held = |tier, gaps| HeldFamily { tier, gaps };
    let hooks = hooks(capabilities);
    let events = has(capabilities, Capability::FanotifyPermission);
    let cgroup = has(capabilities, Capability::CgroupConnect) && has(capabilities, Capability::UnifiedCgroups);
    let process = match (hooks, events) {
        (Some(tier), _) => by_hooks(tier, lsm_gaps(Family::Process)),
        (None, true) => held(Tier::Fanotify, fanotify::gaps(Family::Process)),
        _ => held(Tier::Audit, vec![gap("process", "this kernel has neither a BPF LSM nor permission events")]),
    };
    let file = match (hooks, events) {
        (Some(tier), _) => by_hooks(tier, lsm_gaps(Family::File)),
        (None, true) => held(Tier::Fanotify, fanotify::gaps(Family::File)),
        _ => held(Tier::Audit, vec![gap("file", "this kernel has neither a BPF LSM nor permission events")]),
    };
    let network = match (hooks, cgroup) {
        (Some(tier), true) => by_hooks(tier, lsm_gaps(Family::Network)),
        (Some(tier), false) => by_hooks(tier, [vec![unconnected_gap()], lsm_gaps(Family::Network)].concat()),
        (None, true) => held(Tier::CgroupBpf, socket_gaps(capabilities)),
        _ if by_selinux(capabilities) => held(Tier::SeLinux, vec![unlabelled_gap()]),
        _ => unseen("network", &without_cgroups(capabilities, Capability::CgroupConnect)),
    };
    let process = with_arguments(process, capabilities, hooks.is_some());
    let ptrace = match (hooks, kills(capabilities)) {
        (Some(tier), _) => by_hooks(tier, vec![]),
        (None, true) => held(Tier::Kill, kill_gaps()),
        _ if by_selinux(capabilities) => held(Tier::SeLinux, vec![unlabelled_gap()]),
        _ => {
            let reason = format!("only an LSM hook can deny tracing, and {}", nothing_kills(capabilities));
            held(Tier::Audit, vec![gap("ptrace", &reason)])
        }
    };
    BTreeMap::from([
        (Family::Process, process),
        (Family::File, file),
        (Family::Network, network),
        (Family::Ptrace, ptrace),
        (Family::Capabilities, capabilities_held(capabilities, hooks)),
        (Family::Syscalls, syscalls_held(capabilities)),
        (Family::Dns, dns_held(capabilities)),
        (Family::Presets, presets_held(capabilities, hooks)),
        (Family::Device, usb::held(capabilities.get(&Capability::UsbAuthorization))),
    ])
}

/// By what means BPF programs judge where LSM hooks are; the same functions by either.
fn hooks(capabilities: &BTreeMap<Capability, CapabilityState>) -> Option<Tier> {
    let means = [(Capability::BpfLsm, Tier::BpfLsm), (Capability::ModifyReturn, Tier::FmodRet)];
    let there = means.into_iter().find(|(capability, _)| has(capabilities, *capability));
    there.filter(|_| has(capabilities, Capability::KernelBtf)).map(|(_, tier)| tier)
}

/// Why no program on cgroups judges: what the kernel or the host's hierarchies (cgroup v1 alone) refused.
fn without_cgroups(capabilities: &BTreeMap<Capability, CapabilityState>, program: Capability) -> String {
    let refused =
        [Capability::UnifiedCgroups, program].into_iter().find_map(|capability| match capabilities.get(&capability) {
            Some(CapabilityState::Missing(reason)) => Some(reason.as_str()),
            _ => None,
        });
    format!("programs cannot be attached to cgroups: {}", refused.unwrap_or("it was not tried"))
}

/// Why nobody can be killed for what is not denied.
fn nothing_kills(capabilities: &BTreeMap<Capability, CapabilityState>) -> String {
    let missing = [Capability::BtfTracepoints, Capability::SendSignal].into_iter().find_map(|capability| {
        match capabilities.get(&capability) {
            Some(CapabilityState::Missing(reason)) => Some(reason.as_str()),
            _ => None,
        }
    });
    format!("nothing kills for it: {}", missing.unwrap_or("it was not tried"))
}

pub(super) const BEFORE_OTHERS: &str = "what another LSM refuses";

fn by_hooks(tier: Tier, mut gaps: Vec<Gap>) -> HeldFamily {
    if tier == Tier::FmodRet {
        let reason = "acts are judged before the other LSMs: one that is told of, as audited too, may have been refused by them anyway";
        gaps.push(gap(BEFORE_OTHERS, reason));
    }
    HeldFamily { tier, gaps }
}

/// How the families are held of the host outside containers.
#[must_use]
pub fn families_of_host(matrix: &KernelMatrix) -> BTreeMap<Family, HeldFamily> {
    let of_host = |(family, held): (&Family, &HeldFamily)| (*family, of_host(*family, held, &matrix.capabilities));
    matrix.families.iter().map(of_host).collect()
}

/// How a family is held of the host, where it is held so of containers, and of containers that nobody admitted: fanotify never watches the
/// host's file systems. Its opens and executions are seen by tracepoints then.
pub(crate) fn of_host(
    family: Family,
    held: &HeldFamily,
    capabilities: &BTreeMap<Capability, CapabilityState>,
) -> HeldFamily {
    let by_fanotify = held.tier == Tier::Fanotify && kills(capabilities);
    match family {
        Family::File if by_fanotify => seen_of_host(vec![
            gap(Gap::CHANGES, "without a BPF LSM opens of the host are seen, and nothing else that is done to files"),
            gap("opens by io_uring, and those that fail", "they are no system calls, or nothing was opened"),
        ]),
        Family::Process if by_fanotify && has(capabilities, Capability::PrepareExec) => {
            let reason = "without a BPF LSM the host's executions are judged before their arguments can be read";
            let mut gaps = vec![gap("allowedArgs", reason)];
            if !has(capabilities, Capability::KernelSymbols) {
                let reason = "only interpreters are judged: scripts are found by the address of a function, which the kernel does not show here (kernel.kptr_restrict, CAP_SYSLOG)";
                gaps.push(gap("scripts", reason));
            }
            seen_of_host(gaps)
        }
        Family::Process if held.tier == Tier::Fanotify => {
            let reason = "without a BPF LSM the host's executions are seen in time by a tracepoint of Linux 6.10 alone (sched_prepare_exec)";
            match capabilities.get(&Capability::PrepareExec) {
                Some(CapabilityState::Missing(refusal)) => unseen("process", &format!("{reason}: {refusal}")),
                _ => unseen("process", reason),
            }
        }
        Family::File if held.tier == Tier::Fanotify => {
            unseen("file", "without a BPF LSM the host's opens are seen by tracepoints alone, which are not there")
        }
        // Profiles are of containers.
        Family::Capabilities if held.tier == Tier::AppArmor => capabilities_seen(capabilities),
        // So are users of the pool.
        _ if held.tier == Tier::SeLinux => beside_selinux(family, capabilities),
        Family::Network if held.tier == Tier::CgroupBpf => {
            // Nothing of the host is killed.
            let seen = held.gaps.iter().filter(|gap| gap.what != OTHER_SOCKETS).cloned();
            HeldFamily { tier: held.tier, gaps: std::iter::once(unseen_sockets_gap()).chain(seen).collect() }
        }
        _ => held.clone(),
    }
}

pub(super) fn seen_of_host(mut gaps: Vec<Gap>) -> HeldFamily {
    let reason = "without a BPF LSM the host's acts are seen, and not denied: fanotify never watches its file systems";
    gaps.insert(0, gap("denial", reason));
    HeldFamily { tier: Tier::Audit, gaps }
}

/// Nothing of this kernel holds it.
pub(crate) fn unseen(what: &str, reason: &str) -> HeldFamily {
    HeldFamily { tier: Tier::Audit, gaps: vec![gap(what, reason)] }
}

pub(super) const ARGUMENTS_OF_SCRIPTS: &str = "arguments of scripts";

/// Arguments are killed for, whatever denies the execution itself.
pub(super) fn with_arguments(
    mut process: HeldFamily,
    capabilities: &BTreeMap<Capability, CapabilityState>,
    lsm: bool,
) -> HeldFamily {
    if !kills(capabilities) {
        process.gaps.push(gap("allowedArgs", "arguments are read by a tracepoint, and who has others is killed"));
    } else if !lsm {
        process.gaps.push(gap(
            ARGUMENTS_OF_SCRIPTS,
            "without an LSM hook a script's own rule with allowedArgs is not asked for, its interpreter's is",
        ));
        if !has(capabilities, Capability::PrepareExec) {
            let reason = "with allowedArgs the source is what the task was last known by: the old image is gone";
            process.gaps.push(gap("who executes", reason));
        }
    }
    process
}

pub(super) fn capabilities_held(
    capabilities: &BTreeMap<Capability, CapabilityState>,
    hooks: Option<Tier>,
) -> HeldFamily {
    if let Some(tier) = hooks {
        let reason = "overlayfs works with who mounted it, access(2) with the real user: such uses are not the task's, but of whoever has \
                      a ring of io_uring, who may be refused to write a file of a lower layer where a rule blocks sys_admin";
        return by_hooks(tier, vec![gap("credentials that the kernel lends", reason)]);
    }
    if has(capabilities, Capability::AppArmor) {
        let reason = "a profile holds whom its runtime put under it: runc by deploy/hooks/runc-with-hook; the workload's status names others";
        let repeated = gap("repeated uses", "AppArmor tells a use that is denied again on the same CPU once");
        return HeldFamily {
            tier: Tier::AppArmor,
            gaps: vec![gap("containers without a profile of ours", reason), repeated],
        };
    }
    if by_selinux(capabilities) {
        let mut gaps = vec![unlabelled_gap()];
        if capabilities_seen(capabilities).gaps.iter().any(|gap| gap.what == "capabilities") {
            let reason =
                "SELinux tells of what it denies; what is permitted the tracepoint cap_capable would tell (Linux 6.14)";
            gaps.push(gap("uses that are only audited", reason));
        }
        return HeldFamily { tier: Tier::SeLinux, gaps };
    }
    capabilities_seen(capabilities)
}

/// One of the two, where a kernel has both: what both deny would be told by each.
fn by_selinux(capabilities: &BTreeMap<Capability, CapabilityState>) -> bool {
    has(capabilities, Capability::SeLinux) && !has(capabilities, Capability::AppArmor)
}

/// How the family is held of whom SELinux does not hold.
pub(crate) fn beside_selinux(family: Family, capabilities: &BTreeMap<Capability, CapabilityState>) -> HeldFamily {
    let mut without = capabilities.clone();
    without.remove(&Capability::SeLinux);
    families(&without).remove(&family).unwrap_or_else(|| unseen("family", "no tier of this kernel holds it"))
}

pub(crate) const UNLABELLED: &str = "containers without a user of ours";

/// Whom SELinux does not know as ours.
fn unlabelled_gap() -> Gap {
    let reason = "SELinux holds whose context has a user of the pool (a pod's seLinuxOptions.user: palisade_7_u), where a node is told its \
                  policy (--selinux) and SELinux enforces; the workload's status names others";
    gap(UNLABELLED, reason)
}

/// What neither an LSM program, a profile nor a constraint denies.
pub(crate) fn capabilities_seen(capabilities: &BTreeMap<Capability, CapabilityState>) -> HeldFamily {
    if has(capabilities, Capability::CapabilityUse) && has(capabilities, Capability::BtfTracepoints) {
        let reason = "only an LSM hook can deny: their use is observed, questions in passing among it; killing would come after it";
        return unseen("denial", reason);
    }
    unseen(
        "capabilities",
        "only an LSM hook can deny, and nothing sees their use here: that takes the tracepoint cap_capable (Linux 6.14)",
    )
}

/// The family only ever audits, so that being seen is all there is to hold.
pub(super) fn syscalls_held(capabilities: &BTreeMap<Capability, CapabilityState>) -> HeldFamily {
    if !has(capabilities, Capability::BtfTracepoints) {
        return unseen("syscalls", "no BTF tracepoints: nothing sees system calls");
    }
    let gaps = vec![gap("acts without a system call", "what io_uring does for a task, and the vDSO, are not seen")];
    HeldFamily { tier: Tier::Audit, gaps }
}

pub(super) fn dns_held(capabilities: &BTreeMap<Capability, CapabilityState>) -> HeldFamily {
    if !has(capabilities, Capability::CgroupPacket) || !has(capabilities, Capability::UnifiedCgroups) {
        return unseen("matchDNSQueries", &without_cgroups(capabilities, Capability::CgroupPacket));
    }
    let gaps = vec![
        gap("DNS on other ports than 53, over TLS, HTTPS or QUIC", "what is asked for cannot be read there"),
        gap("packet sockets", "what they send passes by: their creation is judged"),
        gap(
            "streams over sockets made elsewhere",
            "a TCP socket is held by the cgroup that it was made in, whoever has it now",
        ),
        gap(
            "sources of questions over TCP",
            "what the kernel sends in another task's turn is judged without fromSource",
        ),
        gap("names that were looked up before", "a question is judged, not the connection that follows"),
    ];
    HeldFamily { tier: Tier::CgroupBpf, gaps }
}

/// The preset that SELinux has permissions for.
pub(crate) const ANONYMOUS_CODE: &str = "preset:anonMapExec";
/// As policies name them.
pub(super) const PRESETS: [&str; 5] =
    ["preset:filelessExec", ANONYMOUS_CODE, "preset:protectEnv", "preset:protectProc", "preset:exec"];

pub(super) fn presets_held(capabilities: &BTreeMap<Capability, CapabilityState>, hooks: Option<Tier>) -> HeldFamily {
    let links =
        gap("magic links of /proc", "/proc/PID/root and /proc/PID/fd lead out of /proc: what is opened is not /proc's");
    let shared = gap("exec with a shared PID namespace", "a container's first process is told by its number 1");
    let earlier =
        gap("sessions from before the node", "exec: who was in a container already counts as the container's own");
    if let Some(tier) = hooks {
        let mut gaps = vec![links, shared, earlier];
        gaps.extend(memory_gaps());
        return by_hooks(tier, gaps);
    }
    if !kills(capabilities) && by_selinux(capabilities) {
        let reason = format!("no permission of SELinux is about it, and {}", nothing_kills(capabilities));
        let others = PRESETS.into_iter().filter(|what| *what != ANONYMOUS_CODE).map(|what| gap(what, &reason));
        return HeldFamily { tier: Tier::SeLinux, gaps: others.chain([unlabelled_gap()]).collect() };
    }
    if !kills(capabilities) {
        let reason = format!("only an LSM hook can deny it, and {}", nothing_kills(capabilities));
        let gaps = PRESETS.map(|what| gap(what, &reason));
        return HeldFamily { tier: Tier::Audit, gaps: gaps.into() };
    }
    let mut gaps = vec![
        gap(ANONYMOUS_CODE, "only an LSM hook sees memory become executable before it is"),
        gap("opens by io_uring", "they are no system calls: protectEnv and protectProc do not see them"),
        gap("scripts without a file", "the interpreter is what is executed in the end"),
        links,
        shared,
        earlier,
    ];
    if !has(capabilities, Capability::PrepareExec) {
        let reason = "this kernel does not tell of executions in time (sched_prepare_exec, Linux 6.10)";
        gaps.push(gap("preset:exec", reason));
    }
    HeldFamily { tier: Tier::Kill, gaps }
}

/// Ways to executable memory that pass no hook.
pub(super) fn memory_gaps() -> [Gap; 4] {
    [
        gap("executable stacks", "those that the executable itself asks for pass no hook"),
        gap(
            "a heap under READ_IMPLIES_EXEC",
            "personality(2) and brk(2) pass no hook: what the heap gains is executable",
        ),
        gap("code that is written in place", "/proc/self/mem and tracers write pages that are executable already"),
        gap("fileless code that another program loads", "an ELF interpreter and libraries are mapped, not executed"),
    ]
}

/// What the hooks of `bpf/lsm_*.bpf.c` do not see; their heads say the same.
pub(super) fn lsm_gaps(family: Family) -> Vec<Gap> {
    let links =
        gap("hard links of before the policy", "a file is judged by the name that it is opened by, not by its inode");
    let source = gap("sources that rename themselves", "prctl(PR_SET_MM_EXE_FILE) changes what a process is known by");
    match family {
        Family::Process => vec![
            gap(
                "code that another program loads",
                "a mapping is judged by Block rules alone: not by a posture, an Audit or allowedArgs, nor where it has no name",
            ),
            links,
            source,
        ],
        Family::File => vec![
            gap(
                "extended attributes elsewhere",
                "those of files on another file system than the task's root and working directory are not judged: their hooks know no mount",
            ),
            gap(
                "descriptors that are open already",
                "reads through them are not judged; writes are, under a policy that denies writing of what may be read",
            ),
            gap("mount_setattr(2)", "it passes no hook; mounts, moves, pivot_root(2) and umount(2) do"),
            links,
            source,
        ],
        Family::Network => {
            let mut gaps = unjudged_packets();
            gaps.push(open_connections_gap());
            gaps
        }
        _ => Vec::new(),
    }
}

pub(super) fn open_connections_gap() -> Gap {
    gap("connections that are open already", "a destination is judged when it is asked for, not with each byte")
}

pub(super) fn unconnected_gap() -> Gap {
    gap("datagrams that are sent without connect(2)", "only programs on cgroups see them, and those cannot be attached")
}

pub(super) fn kill_gaps() -> Vec<Gap> {
    vec![
        gap("denial", "only an LSM hook can deny tracing: the tracer is killed at its call"),
        gap(
            "process_vm_readv, process_vm_writev, /proc/PID/mem, pidfd_getfd",
            "they trace without ptrace(2), which is all that is seen here",
        ),
    ]
}

/// Destinations that neither a connect nor a datagram's send shows.
pub(super) fn unjudged_packets() -> Vec<Gap> {
    vec![
        gap(
            "sends over raw, ping, packet and SCTP sockets, and sctp_connectx",
            "name these sockets in a rule: their creation is judged",
        ),
        gap(
            "routes that the sender chooses (IPV6_RTHDR, IP_OPTIONS)",
            "the destination that is asked for is judged, a packet goes first to where its route says",
        ),
        gap("further subflows of MPTCP", "the kernel itself connects them, to addresses that the peer announces"),
    ]
}

/// Programs on cgroups cannot read here what tasks keep.
pub(super) fn cgroup_alone_gap() -> Gap {
    gap(
        "tasks that left their cgroup",
        "programs on cgroups know a task by its cgroup alone on this kernel (task storage, since Linux 6.2 or later)",
    )
}

/// Sockets that programs on cgroups are not asked about.
pub(super) const OTHER_SOCKETS: &str = "sockets that are neither IPv4 nor IPv6";

pub(super) fn unseen_sockets_gap() -> Gap {
    gap(OTHER_SOCKETS, "cgroup programs do not see unix, netlink, packet and other ones")
}

pub(super) fn killed_sockets_gap() -> Gap {
    gap(
        OTHER_SOCKETS,
        "cgroup programs do not see unix, netlink, packet and other ones: who makes one that a rule blocks is killed, one that \
         the posture blocks is reported as unenforceable; socketpair, io_uring and their connects are not seen",
    )
}

pub(super) fn socket_gaps(capabilities: &BTreeMap<Capability, CapabilityState>) -> Vec<Gap> {
    let mut gaps =
        vec![if kills(capabilities) { killed_sockets_gap() } else { unseen_sockets_gap() }, open_connections_gap()];
    gaps.extend(unjudged_packets());
    gaps.push(gap("connects of raw, SCTP and UDP-Lite sockets", "programs on cgroups are not asked about them"));
    if !has(capabilities, Capability::CgroupSocket) {
        gaps.push(gap("sockets", "the creation of sockets cannot be denied by a cgroup program"));
    }
    gaps
}
