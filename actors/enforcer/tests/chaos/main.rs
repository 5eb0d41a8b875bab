//! The enforcement group whole (enforcers, roster, workloads, keeper) against a kernel, a runtime and a directory that fail: whatever
//! happened, no container is let go without policy, no slot is two containers', and in the end each is held by the newest set.
//!
//! One seed is one history, on a paused clock; `PALISADE_CHAOS_SEED=n` runs that one alone.
#![forbid(unsafe_code)]

mod world;

use std::{num::NonZeroUsize, sync::Arc, time::Duration};

use actix::{Actor, Handler};
use palisade_enforcer::{Enforcer, Roster, actor::EnforcerStarted};
use palisade_health::Health;
use palisade_policy::ir::Postures;
use palisade_policy_compiler::{
    actor::PolicyCompiler,
    state::{Bounds, State as CompilerState},
};
use palisade_policy_keeper::PolicyKeeper;
use palisade_protocol::{
    Condition, ConditionReported, PolicyAnnounced, PolicySetChanged, PolicySetStatusOf, ReadinessOf, VisibilityChanged,
    WorkloadNamed,
};
use palisade_supervision::{
    ArbiterThread, Backoff, ChildSpec, Context, Here, Kept, MailboxOf, Overflow, Place, Strategy, Supervisor, Tree,
};
use palisade_workloads::{Workloads, state::State as Slots};
use palisade_world::ContainerChange;
use world::{Containerd, Dice, Faults, Kernel, Policies, Virtual};

const PATIENCE: Duration = Duration::from_secs(60);

/// Hears what nobody here needs.
struct Deaf;
impl Actor for Deaf {
    type Context = Context<Self>;
}
impl Handler<WorkloadNamed> for Deaf {
    type Result = ();
    fn handle(&mut self, _: WorkloadNamed, _: &mut Self::Context) {}
}
impl Handler<VisibilityChanged> for Deaf {
    type Result = ();
    fn handle(&mut self, _: VisibilityChanged, _: &mut Self::Context) {}
}
impl Handler<PolicyAnnounced> for Deaf {
    type Result = ();
    fn handle(&mut self, _: PolicyAnnounced, _: &mut Self::Context) {}
}

struct Bed {
    tree: Tree,
    kernel: Arc<Kernel>,
    containerd: Containerd,
    policies: Policies,
    keeper: palisade_supervision::Address<PolicyKeeper>,
    health: palisade_supervision::Address<Health>,
}

/// No failure here is one too many.
fn patient(name: &str) -> Supervisor {
    Supervisor::new(name)
        .backoff(Backoff::fixed(Duration::from_millis(20)))
        .intensity(1_000_000, Duration::from_secs(1))
}

/// Where the actors run, and how fast it all goes.
struct Run {
    enforce: Arc<dyn Place>,
    policies: Arc<dyn Place>,
    /// Longest time between two happenings, in milliseconds.
    pace: u64,
    slots: u32,
    /// Until retries and resting slots are over.
    calm: Duration,
}

impl Run {
    /// All on one thread, on a clock that stands still while anybody works.
    fn paused() -> Self {
        Self { enforce: Here::place(), policies: Here::place(), pace: 1500, slots: 12, calm: Duration::from_secs(45) }
    }

    /// As in production. Slots rest for ten real seconds, so there are more.
    fn threaded() -> Self {
        let thread = |name| -> Arc<dyn Place> { ArbiterThread::start(name).expect("a thread") };
        Self {
            enforce: thread("enforce"),
            policies: thread("policies"),
            pace: 20,
            slots: 400,
            calm: Duration::from_secs(4),
        }
    }
}

async fn bed(seed: u64, run: &Run) -> Bed {
    let (kernel, containerd, policies) = (Kernel::new(seed), Containerd::default(), Policies::default());
    let clock = Arc::new(Virtual(tokio::time::Instant::now()));
    let mut node = patient("node");
    let conditions = Kept::new(palisade_health::state::State::awaiting(["policies", "containers"]));
    let port = Arc::<Kernel>::clone(&kernel);
    let health = node.add(ChildSpec::new("health", move |_| Health::new(conditions.clone(), port.clone())));
    let compile_clock = Arc::clone(&clock);
    let compiler = node.add(ChildSpec::new("policy-compiler", move |_| {
        PolicyCompiler::new(CompilerState::new(Bounds::default()), compile_clock.clone())
    }));
    let deaf = node.add(ChildSpec::new("deaf", |_| Deaf));
    let roster = MailboxOf::<Roster>::new("roster", 64);
    let wiring = palisade_enforcer::Wiring {
        enforcement: Arc::<Kernel>::clone(&kernel),
        compiler: compiler.asker(),
        announced: vec![deaf.outbox(Overflow::Refuse)],
        installed: vec![health.outbox(Overflow::Refuse)],
        released: vec![health.outbox(Overflow::Refuse)],
        conditions: health.outbox::<ConditionReported>(Overflow::Refuse),
        visibility: palisade_domain::Visibility::NONE,
        host_visibility: palisade_domain::Visibility::NONE,
        select_visibility: |_, _| None,
        visible: vec![deaf.outbox(Overflow::Refuse)],
        devices: None,
        judged: Vec::new(),
    };
    let workloads_wiring = palisade_workloads::Wiring {
        appeared: roster.address().outbox(Overflow::Block),
        started: roster.address().outbox(Overflow::Block),
        gone: roster.address().outbox(Overflow::Block),
        named: vec![deaf.outbox(Overflow::Refuse)],
        placed: Vec::new(),
        conditions: health.outbox(Overflow::Refuse),
        clock,
    };
    let keeper_wiring = palisade_policy_keeper::Wiring {
        sets: roster.address().outbox(Overflow::Coalesce(NonZeroUsize::MIN, |_: &PolicySetChanged| 0)),
        documents: Vec::new(),
        conditions: health.outbox(Overflow::Refuse),
        interval: Duration::from_millis(250),
    };
    let enforcers = patient("enforcers");
    let handle = enforcers.handle();
    let (slots, port) = (Kept::new(Slots::new(run.slots)), containerd.clone());
    let at = Arc::clone(&run.enforce);
    let (kept, directory) = (Kept::new(palisade_policy_keeper::state::State::default()), policies.clone());
    let roster = ChildSpec::with_mailbox(roster, move |_| Ok(Roster::new(handle.clone(), at.clone(), wiring.clone())));
    let workloads = ChildSpec::new("workloads", move |_| {
        Workloads::new(Box::new(port.port()), workloads_wiring.clone(), slots.clone())
    });
    let mut enforcement = patient("enforcement")
        .strategy(Strategy::OneForAll)
        .child(enforcers)
        .child(roster.place(run.enforce.clone()))
        .child(workloads.place(run.enforce.clone()));
    let keeper = ChildSpec::new("policy-keeper", move |_| {
        PolicyKeeper::new(Box::new(directory.clone()), keeper_wiring.clone(), kept.clone())
    });
    let keeper = enforcement.add(keeper.place(run.policies.clone()));
    let tree = node.child(enforcement).start(|gave_up| panic!("{gave_up}")).await.expect("it starts");
    Bed { tree, kernel, containerd, policies, keeper, health }
}

/// An id is used by one container at a time, and again once that one ended.
fn start(bed: &Bed, name: &str, number: u64) {
    let mut runtime = bed.containerd.runtime();
    if !runtime.running.contains_key(name) && runtime.starting.insert(name.to_owned()) {
        let (containerd, kernel) = (bed.containerd.clone(), Arc::clone(&bed.kernel));
        tokio::task::spawn_local(world::start(containerd, kernel, name.to_owned(), number));
    }
}

fn happen(bed: &Bed, dice: &mut Dice, number: u64) {
    match dice.below(12) {
        0..=3 => {
            let name = format!("c{}", dice.below(8));
            start(bed, &name, number);
        }
        4 | 5 => {
            let running: Vec<String> = bed.containerd.runtime().running.keys().cloned().collect();
            if let Some(name) = running.get(usize::try_from(dice.below(8)).expect("small")) {
                let ended = bed.containerd.runtime().running.remove(name).expect("it runs");
                bed.containerd.happens(ContainerChange::Stopped(ended.id));
            }
        }
        6 => bed.policies.0.lock().expect("whole").0 = number,
        7 => bed.containerd.runtime().cut = true,
        8 if dice.below(3) == 0 => bed.containerd.runtime().crash = true,
        8 => {
            let relabelled = bed.containerd.runtime().running.values_mut().next().map(|container| {
                container.labels.insert("version".into(), number.to_string());
                container.clone()
            });
            relabelled.into_iter().for_each(|container| bed.containerd.happens(ContainerChange::Started(container)));
        }
        9 if dice.below(3) == 0 => bed.policies.0.lock().expect("whole").1 = true,
        10 => bed.kernel.model().faults = Faults { refuse: dice.below(30), panic: dice.below(6) },
        11 => bed.kernel.model().faults = Faults::default(),
        _ => {}
    }
}

/// What a history was made of: a run in which nothing went wrong would prove nothing.
#[derive(Debug, Default)]
struct Tally {
    granted: u64,
    refused: u64,
    enforcer_crashes: u64,
    group_restarts: u64,
}

async fn history(seed: u64, run: Run, tally: &mut Tally) {
    let bed = bed(seed, &run).await;
    let mut dice = Dice(!seed);
    for number in 1..120 {
        happen(&bed, &mut dice, number);
        tokio::time::sleep(Duration::from_millis(dice.below(run.pace))).await;
        let crashed = |child: &palisade_supervision::TreeNode| child.restarts > 0;
        let enforcers = bed.tree.read().at(&["enforcement", "enforcers"]).expect("declared").children.clone();
        tally.enforcer_crashes += u64::from(enforcers.iter().any(crashed));
    }
    bed.kernel.model().faults = Faults::default();
    // What goes wrong when the port is next polled goes wrong now.
    bed.containerd.happens(ContainerChange::Synchronized);
    tokio::time::sleep(run.calm).await;
    // And now that nothing fails, whoever comes is held and let go.
    for number in 1000..1004 {
        start(&bed, &format!("last-{number}"), number);
    }
    converges(&bed, seed).await;
    tally.granted += bed.containerd.runtime().granted;
    tally.refused += bed.containerd.runtime().refused;
    tally.group_restarts += bed.tree.read().at(&["enforcement", "roster"]).expect("declared").restarts;
    bed.tree.stop().await;
}

/// Waits of starts and retries end within two minutes.
async fn converges(bed: &Bed, seed: u64) {
    let mut amiss = String::new();
    for _ in 0..240 {
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert_eq!(bed.kernel.model().violations, [""; 0], "seed {seed}");
        match amiss_now(bed).await {
            None => return,
            Some(found) => amiss = found,
        }
    }
    panic!("seed {seed}: {amiss}");
}

/// What is not as it should be when nothing fails any more.
async fn amiss_now(bed: &Bed) -> Option<String> {
    let status = bed.keeper.ask(PolicySetStatusOf, PATIENCE).await.ok()?;
    let readiness = bed.health.ask(ReadinessOf, PATIENCE).await.ok()?;
    let (running, starting) = {
        let runtime = bed.containerd.runtime();
        (runtime.running.clone(), runtime.starting.len())
    };
    let model = bed.kernel.model();
    let older = running.iter().find(|(_, container)| model.holds(container.cgroup) != Some(status.generation));
    let enforcers = bed.tree.read().at(&["enforcement", "enforcers"]).expect("declared").children.len();
    let said = readiness.conditions.iter().filter(|(name, _)| name.starts_with("slot "));
    let good = said.clone().filter(|(_, condition)| **condition == Condition::Good).count();
    let counts = [model.slots.len(), enforcers, said.count(), good];
    let refused = (1000..1004).any(|number| !running.contains_key(&format!("last-{number}")));
    if refused
        || starting > 0
        || older.is_some()
        || counts.iter().any(|count| *count != running.len())
        || !readiness.ready
    {
        return Some(format!(
            "{starting} still start; {older:?} is not held by {status:?}; of {} that run, slots, enforcers, conditions and good \
             ones are {counts:?}; {readiness:?}",
            running.len()
        ));
    }
    None
}

#[test]
fn unit_enforcement_converges_whatever_fails_and_lets_no_container_go_without_policy() {
    let only = std::env::var("PALISADE_CHAOS_SEED").ok().and_then(|seed| seed.parse::<u64>().ok());
    let mut tally = Tally::default();
    for seed in only.map_or(0..60, |seed| seed..seed + 1) {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().expect("made");
        tokio::task::LocalSet::new().block_on(&runtime, history(seed, Run::paused(), &mut tally));
    }
    let Tally { granted, refused, enforcer_crashes, group_restarts } = &tally;
    println!("{tally:?}");
    let enough = *granted > 10 && *refused > 10 && *enforcer_crashes > 10 && *group_restarts > 10;
    assert!(only.is_some() || enough, "{tally:?}");
}

#[test]
fn unit_enforcement_converges_on_threads_as_it_does_on_a_paused_clock() {
    let mut tally = Tally::default();
    for seed in 0..2 {
        actix_rt::System::new().block_on(history(seed, Run::threaded(), &mut tally));
    }
    println!("{tally:?}");
    assert!(tally.group_restarts > 0, "{tally:?}");
}

impl Handler<EnforcerStarted> for Deaf {
    type Result = ();
    fn handle(&mut self, _: EnforcerStarted, _: &mut Self::Context) {}
}

/// Installations that one enforcer tries in this long, after so many sets that the kernel refuses all.
async fn tries(sets: u32, within: Duration) -> u64 {
    let kernel = Kernel::new(1);
    let mut node = patient("node");
    let conditions = Kept::new(palisade_health::state::State::default());
    let port = Arc::<Kernel>::clone(&kernel);
    let health = node.add(ChildSpec::new("health", move |_| Health::new(conditions.clone(), port.clone())));
    let deaf = node.add(ChildSpec::new("deaf", |_| Deaf));
    let compiler = node.add(ChildSpec::new("policy-compiler", move |_| {
        let clock = Arc::new(Virtual(tokio::time::Instant::now()));
        PolicyCompiler::new(CompilerState::new(Bounds::default()), clock)
    }));
    let wiring = palisade_enforcer::Wiring {
        enforcement: Arc::<Kernel>::clone(&kernel),
        compiler: compiler.asker(),
        announced: vec![deaf.outbox(Overflow::Refuse)],
        installed: Vec::new(),
        released: vec![health.outbox(Overflow::Refuse)],
        conditions: health.outbox(Overflow::Refuse),
        visibility: palisade_domain::Visibility::NONE,
        host_visibility: palisade_domain::Visibility::NONE,
        select_visibility: |_, _| None,
        visible: vec![deaf.outbox(Overflow::Refuse)],
        devices: None,
        judged: Vec::new(),
    };
    let (workload, membership) = world::workload(1);
    let started = deaf.outbox(Overflow::Refuse);
    let enforcer = node.add(ChildSpec::new("enforcer", move |_| {
        Enforcer::new(Arc::clone(&workload), membership.clone(), wiring.clone(), started.clone())
    }));
    let tree = node.start(|gave_up| panic!("{gave_up}")).await.expect("it starts");
    kernel.model().faults = Faults { refuse: 100, panic: 0 };
    for generation in 1..=sets {
        let set = Arc::new(palisade_policy::PolicySet::default());
        let changed = PolicySetChanged {
            generation: palisade_domain::Generation(generation),
            set,
            postures: Postures::default(),
        };
        enforcer.try_tell(changed).expect("there is room");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    kernel.model().installs = 0;
    tokio::time::sleep(within).await;
    let installs = kernel.model().installs;
    tree.stop().await;
    installs
}

#[test]
fn unit_enforcer_retries_at_one_pace_however_many_sets_failed() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().expect("made");
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let within = Duration::from_secs(600);
        let (one, many) = (tries(1, within).await, tries(200, within).await);
        assert!((20..40).contains(&one), "{one} tries in ten minutes");
        assert!(many <= one + 2, "{many} tries after 200 sets, {one} after one");
    });
}
