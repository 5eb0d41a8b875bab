//! One run: a seed, its nodes and its faults, from the first second to the last account.
//!
//! ```text
//! 0            3/4 length        length                   at rest, or a violation
//! ├─ workload ─┼─ workload ──────┼─ processes only wait ──┼─ each container's families once more ─ ordered stop ─ accounts
//! └─ faults ───┘ calm
//! ```

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use palisade_protocol::{Condition, Readiness};
use tokio::time::{Instant, sleep, sleep_until};

use crate::{
    checkers::{self, Violation},
    coverage::Coverage,
    event::{Ears, Event, Standing, Teller, lock},
    faults::{Fault, Faults},
    injector,
    journal::Journal,
    link_faults, panic_watch,
    random::Random,
    workload::{self, Until, containers::Fleet},
    world::{
        configuration::Configured,
        links::Cables,
        machine::{Machine, Traits},
        mutation::Mutation,
        scheduler::{self, Processes},
    },
};

/// Within this virtual time after the last fault and the end of the workload each node must be at rest: a slot that the kernel did not
/// let go is asked for again after 30 s, and a group of actors that failed may wait as long before its next start.
pub const SETTLE_WITHIN: Duration = Duration::from_secs(90);
/// At rest is who is found at rest so long.
const STANDS_FOR: Duration = Duration::from_secs(4);
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Between two questions of what a node says of all nodes; each fourth may be as the admin endpoint asks,
/// and brings the alerts of all nodes over the links.
const SEE_EVERY: Duration = Duration::from_secs(1);
/// On so many nodes somebody asks so each time; of more, so many at a time do. At most nodes of a large cluster nobody looks, and how they
/// keep what they know of others then is to be simulated as well.
pub const LOOKED_AT: usize = 8;
/// On so many nodes somebody follows the alerts of all.
const FOLLOWED_ON: usize = 3;

/// What to run.
#[derive(Debug, Clone)]
pub struct Request {
    /// Of all chance.
    pub seed: u64,
    /// How many.
    pub nodes: usize,
    /// Virtual time of workload.
    pub length: Duration,
    /// Its waits are so many times as long; none: as many as [`workload::pace`] says.
    pub pace: Option<u32>,
    /// What may go wrong.
    pub faults: Faults,
    /// The workload and the faults end here already: a prefix of the run.
    pub stop_at: Option<Duration>,
    /// Ports broken on purpose; for the checkers' tests.
    pub mutation: Option<Mutation>,
    /// Each event is printed as it comes.
    pub aloud: bool,
}

/// What came of it.
#[derive(Debug)]
pub struct Outcome {
    /// Of all events.
    pub journal: Journal,
    /// What is wrong; empty: nothing.
    pub violations: Vec<Violation>,
    /// Virtual time from start to end.
    pub lasted: Duration,
    /// Which states it reached.
    pub coverage: Coverage,
}

impl Outcome {
    /// What a run must have that tests anything, and this one had not; empty: it tested something.
    #[must_use]
    pub fn untested(&self, faults: &Faults) -> Vec<&'static str> {
        let reached = |word: &str| self.journal.counts().get(word).is_some_and(|count| *count > 0);
        let must = ["container runs", "policy installed", "act denied", "lines taken"].into_iter();
        let mut untested: Vec<&'static str> = must.filter(|word| !reached(word)).collect();
        if !faults.passing().is_empty() && !self.coverage.any_fault_took_effect() {
            untested.push("a fault that took effect");
        }
        untested
    }
}

/// Runs it.
#[must_use]
pub fn run(request: &Request) -> Outcome {
    injector::points::prepare(request.seed);
    let watch = panic_watch::Watch::begin();
    scheduler::run(request.seed, async |processes| simulate(request, &processes, &watch).await)
}

async fn simulate(request: &Request, processes: &Processes, watch: &panic_watch::Watch) -> Outcome {
    let begun = Instant::now();
    let mut random = Random::stream(request.seed, "machines");
    let traits: Vec<Traits> = (0..request.nodes).map(|_| any_traits(&mut random, &request.faults)).collect();
    let configured: Vec<Configured> = traits.iter().map(|traits| traits.configured).collect();
    let ears = Ears::new(begun, Journal::new(request.aloud), checkers::all(&configured));
    let ears = Arc::new(Mutex::new(ears));
    let whole = request.length;
    let end = begun + request.stop_at.unwrap_or(whole);
    let calm_at = (begun + whole * 3 / 4).min(end);
    let until = Until::new(end, request.pace.unwrap_or_else(|| workload::pace(request.nodes)));
    let mut machines = Vec::new();
    let mut cables = Cables::lay(request.seed, request.nodes, request.mutation);
    if let Some(cables) = &cables {
        lock(&ears).hold_to(checkers::of_links(cables));
    }
    for (number, traits) in traits.into_iter().enumerate() {
        let teller = Teller::new(number, &ears);
        let mut random = random.child("machine");
        let wire = cables.as_mut().map(|cables| cables.wire(teller.clone()));
        let machine = Machine::new(begun, teller, processes, traits, request.mutation, random.child("machine"));
        let machine = machine.wired(wire);
        workload::policies::begin(&machine, &mut random);
        machine.start();
        live(&machine, random, request, &until, calm_at);
        machines.push(machine);
    }
    let tellers: Vec<Teller> = machines.iter().map(|machine| machine.teller.clone()).collect();
    watch.tell_to(&tellers);
    if let Some(cables) = cables {
        if request.faults.has(Fault::Authority) {
            let random = Random::stream(request.seed, "authorities");
            let exchanging = link_faults::exchange_authorities(cables.registrar(&tellers), random, calm_at);
            tokio::task::spawn_local(exchanging);
        }
        connect(cables, processes, &tellers, &machines[0]);
    }
    sleep_until(end).await;
    until.stop();
    let settled = settle(&machines, &ears).await;
    if settled {
        conclude(&machines, &until).await;
    }
    let mut ears = lock(&ears);
    let violations = ears.conclude();
    Outcome { journal: ears.take_journal(), violations, lasted: begun.elapsed(), coverage: ears.take_coverage() }
}

/// The network carries from now on, and says what.
fn connect(mut cables: Cables, processes: &Processes, tellers: &[Teller], first: &Machine) {
    let network = cables.network().clone();
    tokio::task::spawn_local(network.clone().carry());
    cables.let_strangers_in(processes, tellers, &first.clock);
    let teller = first.teller.clone();
    tokio::task::spawn_local(async move {
        loop {
            sleep(Duration::from_secs(1)).await;
            let (traffic, hash) = network.traffic();
            teller.tell(&Event::Carried(format!("{traffic:?} {hash}")));
        }
    });
}

fn any_traits(random: &mut Random, faults: &Faults) -> Traits {
    Traits {
        max_workloads: if random.percent(15) { 5 } else { 256 },
        configured: workload::configuration::any(random),
        waits_for_disk: random.percent(50),
        keeps_traces: random.percent(30),
        ring_bytes: 1 << 20,
        skew_seconds: if faults.has(Fault::Clock) { i64::try_from(random.below(7200)).unwrap_or(0) - 3600 } else { 0 },
        put_back_percent: if faults.has(Fault::Order) { random.between(5, 60) } else { 0 },
    }
}

/// Everything that happens on one machine, each by a task of the world.
pub(crate) fn live(machine: &Machine, mut random: Random, request: &Request, until: &Until, calm_at: Instant) {
    let fleet = Fleet::new(random.between(3, 9));
    let spawn = tokio::task::spawn_local::<std::pin::Pin<Box<dyn Future<Output = ()>>>>;
    spawn(Box::pin(machine.clone().manage_service()));
    spawn(Box::pin(workload::policies::edit(machine.clone(), random.child("policies"), until.clone())));
    let configuration = workload::configuration::edit(machine.clone(), random.child("configuration"), until.clone());
    spawn(Box::pin(configuration));
    spawn(Box::pin(workload::host::acts(
        machine.clone(),
        Random::stream(request.seed, &format!("host {}", machine.number)),
        until.clone(),
    )));
    let containers =
        workload::containers::come_and_go(machine.clone(), random.child("containers"), until.clone(), fleet);
    spawn(Box::pin(containers));
    spawn(Box::pin(injector::inject(machine.clone(), request.faults.clone(), random.child("faults"), calm_at)));
    if let Some(wire) = machine.wire() {
        let random = Random::stream(request.seed, &format!("faults of links {}", machine.number));
        spawn(Box::pin(link_faults::inject(wire.clone(), request.faults.clone(), random, calm_at)));
        let asked = machine.clone();
        let mut random = Random::stream(request.seed, &format!("looks at all nodes {}", machine.number));
        let nodes = request.nodes as u64;
        spawn(Box::pin(async move {
            for turn in 0_u64.. {
                sleep(SEE_EVERY).await;
                asked.see_nodes(turn % 4 == 0 && random.below(nodes) < LOOKED_AT as u64).await;
            }
        }));
    }
    if machine.wire().is_some() && machine.number < FOLLOWED_ON {
        let random = Random::stream(request.seed, &format!("follows all nodes {}", machine.number));
        spawn(Box::pin(workload::follow_nodes(machine.clone(), random, until.clone())));
    }
    let looked_at = machine.clone();
    spawn(Box::pin(async move {
        loop {
            sleep(LOOK_EVERY).await;
            looked_at.look().await;
        }
    }));
}

/// Waits until each node is at rest; false where one does not come to it, or something is wrong already.
async fn settle(machines: &[Machine], ears: &Mutex<Ears>) -> bool {
    let deadline = Instant::now() + SETTLE_WITHIN;
    let mut since = None;
    loop {
        if lock(ears).first_violation().is_some() {
            return false;
        }
        let mut restless = None;
        for machine in machines {
            if let Some(why) = restless_for(machine).await {
                restless = Some((machine, why));
                break;
            }
        }
        match restless {
            None if since.get_or_insert_with(Instant::now).elapsed() >= STANDS_FOR => return true,
            None => {}
            Some((machine, why)) if Instant::now() > deadline => {
                machine.teller.tell(&Event::Restless(why));
                return false;
            }
            Some(_) => since = None,
        }
        sleep(Duration::from_millis(250)).await;
    }
}

/// Why a node is not at rest.
async fn restless_for(machine: &Machine) -> Option<String> {
    if let Some(actor) = machine.not_running().first() {
        return Some(format!("{actor} does not run"));
    }
    let Some(Readiness { ready, conditions }) = machine.readiness().await else {
        return Some("health does not answer".to_owned());
    };
    let good = |condition: &Condition| matches!(condition, Condition::Good | Condition::Degraded(_));
    if let Some((name, condition)) = conditions.iter().find(|(_, condition)| !good(condition)) {
        return Some(format!("{name} is {condition:?}"));
    }
    if !ready {
        return Some("it is not ready".to_owned());
    }
    if machine.kernel.waiting() > 0 {
        return Some(format!("{} records wait", machine.kernel.waiting()));
    }
    if let Some(peer) = machine.not_linked().await.first() {
        return Some(format!("{peer} is not linked"));
    }
    if !matches!(machine.kernel.standing_of_host(), Standing::InForce(..)) {
        return Some(format!("the kernel holds for the host: {:?}", machine.kernel.standing_of_host()));
    }
    let running = machine.runtime.running();
    let most = machine.traits().max_workloads as usize;
    let unheld =
        running.iter().filter(|(_, cgroup)| !matches!(machine.kernel.standing(*cgroup), Standing::InForce(..)));
    let held = running.len() - unheld.clone().count();
    if let Some((id, cgroup)) = unheld.clone().next().filter(|_| held < most) {
        return Some(format!("{id} runs, and the kernel holds for it: {:?}", machine.kernel.standing(*cgroup)));
    }
    let lives = |cgroup| running.iter().any(|(_, of)| *of == cgroup);
    let stale = machine.kernel.held().into_iter().find(|(_, cgroup)| !lives(*cgroup));
    stale.map(|(slot, cgroup)| format!("slot {slot} is still of cgroup {}, which is over", cgroup.0))
}

/// Every container acts once more, by the newest policies; then all stops in good order.
async fn conclude(machines: &[Machine], until: &Until) {
    for machine in machines {
        machine.teller.tell(&Event::Settled(Arc::new(machine.disk.reading())));
        machine.teller.tell(&Event::Shown(machine.shown()));
        machine.disk.tell_lines();
    }
    until.settle();
    sleep(Duration::from_secs(8)).await;
    // All at once: each says goodbye to its peers, which takes up to a second.
    let stops = machines.iter().cloned().map(|machine| tokio::task::spawn_local(stop(machine)));
    for stop in stops.collect::<Vec<_>>() {
        // It can only panic, which is heard.
        let _ = stop.await;
    }
}

async fn stop(machine: Machine) {
    machine.look().await;
    let abandoned = machine.stop().await;
    if !abandoned.is_empty() {
        machine.teller.tell(&Event::Restless(format!("left behind at the stop: {abandoned:?}")));
    }
}
