//! The families beside files, executables, networks and tracing, on real containers: what is denied has no effect, and the record
//! says by what means.

use std::{
    cmp::Reverse,
    io,
    net::{SocketAddr, UdpSocket},
    path::Path,
    sync::OnceLock,
    thread,
};

use libtest_mimic::{Failed, Trial};
use palisade_kernel::{objects, observation::Limits, probes::Probes};
use palisade_kernel_abi::record::{Family, Outcome as Became, Tier};
use palisade_protocol::CompiledPolicy;

use super::{
    Checked, ensure,
    fixture::{self, PIN_ROOT, by_hooks, ensure_outcomes, kernel, policy, subject, told},
};
use crate::{
    act::{Act, Change, Outcome},
    greeter::Greeter,
};

pub fn trials() -> Vec<Trial> {
    vec![
        Trial::test("vm_lsm_denies_a_capability_and_leaves_the_kernels_own_use_of_others_alone", capabilities),
        Trial::test("vm_lsm_denies_programs_without_a_file", fileless),
        Trial::test("vm_lsm_denies_memory_that_becomes_executable", executable_memory),
        Trial::test("vm_lsm_denies_memory_that_is_mapped_executable_and_leaves_loaders_alone", mapped_code),
        Trial::test("vm_lsm_denies_sessions_with_a_terminal_that_come_into_a_container", sessions),
        Trial::test("vm_lsm_protects_the_environment_of_other_processes", environments),
        Trial::test("vm_lsm_protects_the_directories_of_other_processes_and_no_other_file_of_proc", directories),
        Trial::test("vm_lsm_blocks_from_a_terminal_what_it_permits_without_one", terminals),
        Trial::test("vm_lsm_blocks_what_a_session_that_entered_executes_from_a_terminal", executions_of_sessions),
        Trial::test("vm_arguments_that_no_rule_allows_are_killed_for", arguments),
        Trial::test("vm_cgroup_refuses_questions_for_a_blocked_name", names),
        Trial::test("vm_network_audited_connections_are_told_once_by_whichever_program_sees_them", connections),
        Trial::test("vm_syscalls_that_a_rule_names_are_observed", syscalls),
        Trial::test("vm_matrix_has_the_tier_of_every_family_of_this_kernel", matrix),
        Trial::test("vm_lsm_denies_an_act_of_each_family_by_its_tier", each_family),
        Trial::test("vm_verifier_takes_each_program_within_its_bound_whatever_the_tier", bound),
    ]
}

fn open(path: &str) -> Act {
    Act::Open(path.into())
}

type Decided = (Family, Tier, Became);

/// What the kernel's records have said since the last question.
fn decided() -> Result<Vec<Decided>, Failed> {
    told(|record| record.decision.map(|decision| (decision.family, decision.tier, decision.outcome)))
}

/// The first acts are denied, the others go on, and of each denial there is one record, of this kind.
fn ensure_denied(policy: &CompiledPolicy, denied: &[Act], permitted: &[Act], by: Decided) -> Checked {
    decided()?;
    subject()?.ensure(policy, denied, permitted)?;
    let all = decided()?;
    ensure(all.len() >= denied.len() && all.iter().all(|one| *one == by), || format!("wanted {by:?}: {all:?}"))
}

const DENIED: Became = Became::Denied;

/// A denial by a program on a hook.
fn by_hook(family: Family) -> Result<Decided, Failed> {
    Ok((family, by_hooks()?, DENIED))
}

fn capabilities() -> Checked {
    let by = by_hook(Family::Capability)?;
    let one = policy("capabilities:\n  matchCapabilities: [ { capability: net_bind_service } ]\naction: Block")?;
    let low = |port: u16| Act::Bind(SocketAddr::from(([127, 0, 0, 1], port)));
    ensure_denied(&one, &[low(81)], &[low(8081), Act::Create("/etc/made-without".into())], by)?;
    // Without the rule it works at all.
    ensure_outcomes(&[low(82)], &subject()?.container.exec(&[low(82)])?, 0)?;
    // overlayfs gives the new file its owner, and marks its directory, as who mounted it: not with the container's capabilities.
    let many = policy(
        "capabilities:\n  matchCapabilities: [ { capability: chown }, { capability: sys_admin }, { capability: fowner } ]\naction: Block",
    )?;
    ensure_denied(&many, &[Act::Chown("/etc/public".into())], &[Act::Create("/etc/bin/made".into())], by)
}

fn fileless() -> Checked {
    let policy = policy("presets: [ { name: filelessExec, action: Block } ]")?;
    // /dev/shm of a container is mounted so that nothing executes there, by whatever policy.
    let denied = [Act::ExecMemory("/bin/permitted".into())];
    ensure_outcomes(&denied, &subject()?.container.exec(&denied)?, 0)?;
    ensure_denied(&policy, &denied, &[Act::Exec("/bin/permitted".into())], by_hook(Family::Preset)?)
}

fn executable_memory() -> Checked {
    let policy = policy("presets: [ { name: anonMapExec, action: Block } ]")?;
    ensure_outcomes(&[Act::ExecCode], &subject()?.container.exec(&[Act::ExecCode])?, 0)?;
    let by = by_hook(Family::Preset)?;
    ensure_denied(&policy, &[Act::ExecCode], &[Act::Exec("/bin/permitted".into()), open("/etc/public")], by)
}

/// Pages of a file are memory where they may be written and executed at once, and are not as a loader maps them.
fn mapped_code() -> Checked {
    let policy = policy("presets: [ { name: anonMapExec, action: Block } ]")?;
    let denied = ["anonymous", "shared", "private", "later"].map(|way| Act::MapCode(way.into()));
    ensure_outcomes(&denied, &subject()?.container.exec(&denied)?, 0)?;
    ensure_denied(&policy, &denied, &[Act::MapCode("file".into())], by_hook(Family::Preset)?)
}

/// A session comes into the container from outside, as `kubectl exec` does, with a terminal or without.
fn sessions() -> Checked {
    let subject = subject()?;
    let policy = policy("presets: [ { name: exec, action: Block } ]")?;
    let comes = |terminal| -> Result<bool, Failed> { Ok(subject.container.enter(terminal, "/tmp/session")?) };
    ensure(comes(true)?, || "a session with a terminal does not work at all".to_owned())?;
    decided()?;
    let mut came = (Ok(true), Ok(false));
    subject.meanwhile(&policy, || came = (comes(true), comes(false)))?;
    let came = (came.0?, came.1?);
    ensure(came == (false, true), || format!("(with a terminal, without): {came:?}"))?;
    let all = decided()?;
    ensure(all == [by_hook(Family::Preset)?], || format!("{all:?}"))
}

fn environments() -> Checked {
    let policy = policy("presets: [ { name: protectEnv, action: Block } ]")?;
    let denied = [open("/proc/1/environ"), open("/proc/1/task/1/environ")];
    let permitted = [open("/proc/self/environ"), open("/proc/thread-self/environ"), open("/proc/1/status")];
    ensure_denied(&policy, &denied, &permitted, by_hook(Family::Preset)?)
}

fn directories() -> Checked {
    let policy = policy("presets: [ { name: protectProc, action: Block } ]")?;
    let denied = [open("/proc/1/environ"), open("/proc/1/status"), open("/proc/1/task/1/maps")];
    let permitted =
        ["/proc/self/status", "/proc/meminfo", "/proc/cpuinfo", "/proc/sys/kernel/osrelease", "/proc/mounts"];
    ensure_denied(&policy, &denied, &permitted.map(open), by_hook(Family::Preset)?)
}

fn terminals() -> Checked {
    let policy = policy(
        "file:\n  matchPaths: [ { path: /etc/secret, pts: false } ]\nprocess:\n  matchPaths: [ { path: /bin/forbidden, pts: false } ]\naction: Block",
    )?;
    let acts = [open("/etc/secret"), Act::Exec("/bin/forbidden".into())];
    let denied = acts.clone().map(|act| Act::AtTerminal(Box::new(act)));
    subject()?.ensure(&policy, &denied, &acts)
}

/// The actor comes into the running container, as `kubectl exec` does; a terminal it takes there.
fn executions_of_sessions() -> Checked {
    let policy = policy("presets: [ { name: exec, action: Block } ]")?;
    let act = Act::Exec("/bin/permitted".into());
    let denied = [Act::AtTerminal(Box::new(act.clone()))];
    ensure_outcomes(&denied, &subject()?.container.exec(&denied)?, 0)?;
    ensure_denied(&policy, &denied, &[act, open("/etc/public")], by_hook(Family::Preset)?)
}

fn arguments() -> Checked {
    let rule = |allowed: &str| {
        policy(&format!(
            "process:\n  matchPaths: [ {{ path: /bin/forbidden, allowedArgs: [ {allowed} ] }} ]\naction: Block"
        ))
    };
    let acts = [Act::Exec("/bin/forbidden".into()), Act::Exec("/bin/permitted".into())];
    decided()?;
    // The marker's name is an argument too, and of no set.
    let outcomes = subject()?.under(&rule("\"--mark\"")?, &acts)?;
    let dead = Outcome { errno: 0, effect: false };
    ensure(outcomes[0] == dead && outcomes[1].is_permitted(), || format!("{outcomes:?}"))?;
    let all = decided()?;
    ensure(all == [(Family::Process, Tier::Kill, Became::Killed)], || format!("{all:?}"))
}

/// A server that sends back what it gets, once for all.
fn echo() -> Result<SocketAddr, Failed> {
    static SERVER: OnceLock<Result<SocketAddr, String>> = OnceLock::new();
    SERVER.get_or_init(|| start_echo().map_err(|error| error.to_string())).clone().map_err(Failed::from)
}

fn start_echo() -> io::Result<SocketAddr> {
    let socket = UdpSocket::bind("127.0.0.1:53")?;
    let address = socket.local_addr()?;
    thread::spawn(move || {
        let mut buffer = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            // Who has gone is not answered.
            socket.send_to(&buffer[..length], from).ok();
        }
    });
    Ok(address)
}

fn names() -> Checked {
    let server = echo()?;
    let ask = |name: &str| Act::Ask(server, name.to_owned());
    let policy = policy("network:\n  matchDNSQueries: [ { domain: blocked.example } ]\naction: Block")?;
    let denied = [ask("blocked.example"), ask("www.Blocked.example")];
    let permitted = [ask("example"), ask("notblocked.example")];
    ensure_denied(&policy, &denied, &permitted, (Family::Dns, Tier::CgroupBpf, DENIED))
}

/// Of some sockets programs on cgroups are not asked.
fn connections() -> Checked {
    let policy = policy("network:\n  destinations: [ { cidr: 127.0.0.0/8 } ]\naction: Audit")?;
    for (kind, tier) in [("inet-dgram-connected", Tier::CgroupBpf), ("raw-connected", by_hooks()?)] {
        decided()?;
        subject()?.ensure(&policy, &[], &[Act::Socket(kind.to_owned())])?;
        let all = decided()?;
        ensure(all == [(Family::Connect, tier, Became::Observed)], || format!("{kind}: {all:?}"))?;
    }
    Ok(())
}

fn syscalls() -> Checked {
    let policy = policy("syscalls:\n  matchSyscalls: [ { syscall: [ memfd_create ] } ]\naction: Audit")?;
    decided()?;
    subject()?.ensure(&policy, &[], &[Act::ExecMemory("/bin/permitted".into())])?;
    let all = decided()?;
    ensure(all == [(Family::Syscall, Tier::Audit, Became::Observed)], || format!("{all:?}"))?;
    let pin = Path::new(PIN_ROOT).join("syscalls/audit_call");
    ensure(!pin.exists(), || "it stays attached without a policy that needs it".to_owned())
}

/// All in one policy: what is run on a kernel that the ring does not stay at for long.
fn each_family() -> Checked {
    let (forbidden, permitted, server) = (Greeter::start()?, Greeter::start()?, echo()?);
    let policy = policy(&format!(
        "file:\n  matchPaths: [ {{ path: /etc/secret }} ]\nprocess:\n  matchPaths: [ {{ path: /bin/forbidden }} ]\n\
         network:\n  destinations: [ {{ cidr: 127.0.0.0/8, ports: [{}], protocol: TCP }} ]\n  \
         matchDNSQueries: [ {{ domain: blocked.example }} ]\nptrace:\n  match: [ {{ target: /bin/vm_actor }} ]\n\
         capabilities:\n  matchCapabilities: [ {{ capability: net_bind_service }} ]\n\
         presets: [ {{ name: anonMapExec, action: Block }} ]\naction: Block",
        forbidden.address().port()
    ))?;
    let all = [
        (open("/etc/secret"), by_hook(Family::File)?),
        (Act::Change(Change::Unlink, "/etc/secret".into(), "".into()), by_hook(Family::File)?),
        (Act::Exec("/bin/forbidden".into()), by_hook(Family::Process)?),
        (Act::Connect(forbidden.address()), by_hook(Family::Connect)?),
        (Act::PtraceChild, by_hook(Family::Ptrace)?),
        (Act::Bind(SocketAddr::from(([127, 0, 0, 1], 83))), by_hook(Family::Capability)?),
        (Act::ExecCode, by_hook(Family::Preset)?),
        (Act::Ask(server, "blocked.example".to_owned()), (Family::Dns, Tier::CgroupBpf, DENIED)),
    ];
    let permitted = [
        open("/etc/public"),
        Act::Exec("/bin/permitted".into()),
        Act::Connect(permitted.address()),
        Act::Ask(server, "example".to_owned()),
    ];
    let (denied, mut wanted): (Vec<Act>, Vec<Decided>) = all.into_iter().unzip();
    decided()?;
    subject()?.ensure(&policy, &denied, &permitted)?;
    let mut told = decided()?;
    // Each CPU's records come by themselves: in whatever order.
    for decided in [&mut told, &mut wanted] {
        decided.sort_by_key(|(family, tier, _)| (family.code(), tier.code()));
    }
    ensure(told == wanted, || format!("{told:?}, wanted {wanted:?}"))
}

/// Half of what the verifier processes at most, on every kernel.
const BOUND: u32 = 500_000;
/// Programs that there are on every kernel of the ring, at least.
const FEWEST: usize = 75;
/// Programs that are printed: those for which it processes most.
const PRINTED: usize = 5;

/// What the suite has loaded, and what a node would load for other policies and on other kernels; observation is loaded for the test.
fn bound() -> Checked {
    kernel()?;
    let probes = Probes::attach(Path::new(PIN_ROOT), Limits::NONE)?;
    let loaded = objects::loaded()?;
    let pins = Path::new("/sys/fs/bpf/suite-bound");
    let others = objects::verify(pins, &loaded)?;
    palisade_kernel::unload(pins)?;
    drop(probes);
    let refused: Vec<_> = others.iter().filter(|(_, verified)| verified.is_err()).collect();
    ensure(refused.is_empty(), || format!("{refused:?}"))?;
    let others = others.iter().filter_map(|(name, verified)| Some(((*name).to_owned(), *verified.as_ref().ok()?)));
    let mut counts: Vec<_> = loaded.into_iter().map(|program| (program.name, program.verified)).chain(others).collect();
    counts.sort_by_key(|(_, count)| Reverse(*count));
    println!("{} programs", counts.len());
    for (name, count) in counts.iter().take(PRINTED) {
        println!("{name:24} {count:>7} instructions verified");
    }
    ensure(counts.len() > FEWEST && counts.iter().all(|(_, count)| (1..=BOUND).contains(count)), || {
        format!("{counts:?}")
    })
}

fn matrix() -> Checked {
    use palisade_domain::{Family, Tier};
    use palisade_world::{CapabilityState, Enforcement as _};

    let tiers: Vec<(Family, Tier)> =
        kernel()?.matrix().families.iter().map(|(family, held)| (*family, held.tier)).collect();
    let hooks = fixture::hooks()?;
    let wanted = [
        (Family::Process, hooks),
        (Family::File, hooks),
        (Family::Network, hooks),
        (Family::Ptrace, hooks),
        (Family::Capabilities, hooks),
        (Family::Syscalls, Tier::Audit),
        (Family::Dns, Tier::CgroupBpf),
        (Family::Presets, hooks),
        (Family::Device, Tier::Audit),
    ];
    let refused = kernel()?.refused();
    let missing: Vec<_> =
        kernel()?.matrix().capabilities.iter().filter(|(_, state)| **state != CapabilityState::Available).collect();
    ensure(tiers == wanted && refused.is_empty(), || format!("{tiers:?}; refused: {refused:?}; missing: {missing:?}"))
}
