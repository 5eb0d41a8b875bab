//! What is held to `tests/bench/budget.txt`: acts in every state of Palisade, and beside each the programs that do nothing on the same
//! hooks. Few calls for each count, for a run has a minute.

use std::{collections::BTreeSet, fs::File, net::Ipv4Addr, sync::Arc};

use palisade_bench::{
    costs::{ATTACHED, BY_THE_MEDIAN, IDLE},
    rules::{Random, path_matches, workload_rules},
};
use palisade_domain::Generation;
use palisade_kernel::{KernelAdapter, KernelConfig, idle, unload};
use palisade_kernel_abi::blob::Blob;
use palisade_policy::ir::{DestinationMatch, Matcher, PathMatch, PathRule, Rule, Transport};
use palisade_policy_compiler::{automaton::AutomatonLimits, compile};
use palisade_world::Enforcement as _;

use super::{CGROUP, Counter, Done, FORBIDDEN, SEED, SLOT, acts, make_bed, membership};

const RULES: [usize; 3] = [1, 70, 1_000];
/// What acts, in the rules with a source.
const SOURCE: &str = "/bin/guest_costs";

/// Where a socket's programs go, ours and those that do nothing.
const CGROUPS: &str = "/sys/fs/cgroup";
/// Below the pin root: there while ours is attached.
const CONNECT_PIN: &str = "cgroup/judge_connect4";

pub fn direct() -> Done {
    make_bed()?;
    println!("kernel: {}", std::fs::read_to_string("/proc/sys/kernel/osrelease")?.trim());
    let mut counter = Counter::start()?;
    count(&mut counter, "bare")?;
    count_idle(&mut counter)?;
    let pid = counter.process.id();
    let adapter = KernelAdapter::open(KernelConfig { responder: None, ..KernelConfig::default() })?;
    if let Some(refusal) = adapter.refused().first() {
        return Err(refusal.to_string().into());
    }
    adapter.admit(&membership(SLOT, CGROUP)?)?;
    adapter.learn_mounts(SLOT, pid)?;
    count(&mut counter, "without policy")?;
    let other = [Matcher::Ptrace(PathMatch::Exact("/bin/other".to_owned()))];
    adapter.install(SLOT, Generation(1), Some(&policy(other, false)?))?;
    count(&mut counter, "rules of another family")?;
    let states = [false, true].into_iter().flat_map(|source| RULES.map(|rules| (rules, source)));
    for ((rules, source), generation) in states.zip(2..) {
        adapter.install(SLOT, Generation(generation), Some(&policy(matchers(rules), source)?))?;
        let state = format!("{rules} rules{}", if source { " with a source" } else { "" });
        // What decides nothing costs nothing.
        let denied = counter.ask("all are denied")?;
        if denied != "yes" {
            return Err(format!("under {state}: {denied}").into());
        }
        count(&mut counter, &state)?;
    }
    drop(adapter);
    unload(&KernelConfig::default().pin_root)?;
    Ok(())
}

/// All acts in one state. Ours on the root cgroup is attached only while somebody decides connections: then the baseline has one there, too.
fn count(counter: &mut Counter, state: &str) -> Done {
    let is_attached = KernelConfig::default().pin_root.join(CONNECT_PIN).exists();
    acts::ALL.iter().try_for_each(|act| {
        let beside = if *act == "connect" && is_attached { ATTACHED } else { "" };
        let (least, middle) = counter.counts(&format!("{act} briefly"))?;
        println!("{act}, {state}{beside}: {least}");
        middle.iter().for_each(|middle| println!("{act}{BY_THE_MEDIAN}, {state}{beside}: {middle}"));
        Ok(())
    })
}

/// The two baselines of [`palisade_bench::costs`].
fn count_idle(counter: &mut Counter) -> Done {
    let hooks = idle::attach()?;
    count(counter, IDLE)?;
    let connections = idle::attach_to_connections(&File::open(CGROUPS)?)?;
    counter.print(&format!("connect, {IDLE}{ATTACHED}"), "connect briefly")?;
    drop((hooks, connections));
    Ok(())
}

/// That many rules for files, executables and destinations each; the last of each forbids what [`acts::denied`] tries.
fn matchers(rules: usize) -> impl Iterator<Item = Matcher> {
    let paths = move |forbidden: &str| {
        let mut matches = path_matches(rules - 1, &mut Random::from_seed(SEED));
        matches.push(PathMatch::Exact(forbidden.to_owned()));
        matches.into_iter().map(PathRule::of)
    };
    let destination = |number: usize| {
        let [.., high, low] = u32::try_from(number).unwrap_or(0).to_be_bytes();
        Matcher::Destination(DestinationMatch {
            cidr: Some((Ipv4Addr::new(10, 20, high, low).into(), 32)),
            ports: Some((443, 443)),
            protocol: Some(Transport::Tcp),
        })
    };
    let forbidden = Matcher::Destination(DestinationMatch {
        cidr: Some(((*acts::FORBIDDEN_DESTINATION.ip()).into(), 8)),
        ports: Some((acts::FORBIDDEN_DESTINATION.port(), acts::FORBIDDEN_DESTINATION.port())),
        protocol: Some(Transport::Udp),
    });
    paths(FORBIDDEN)
        .map(Matcher::File)
        .chain(paths(acts::FORBIDDEN_PROGRAM).map(Matcher::Process))
        .chain((1..rules).map(destination))
        .chain([forbidden])
}

fn policy(matchers: impl IntoIterator<Item = Matcher>, source: bool) -> Result<Arc<Blob>, Box<dyn std::error::Error>> {
    let mut rules = workload_rules(&[PathMatch::Any]);
    let model = Rule::clone(rules.rules.first().ok_or("no rule")?);
    let sources: BTreeSet<String> = if source { BTreeSet::from([SOURCE.to_owned()]) } else { BTreeSet::new() };
    let rule = |matcher| Arc::new(Rule { matcher, sources: sources.clone(), ..model.clone() });
    rules.rules = matchers.into_iter().map(rule).collect();
    Ok(compile(&rules, &AutomatonLimits::default(), &mut || false)?.blob)
}
