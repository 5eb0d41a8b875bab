//! One machine: its kernel, disk, runtime and clocks, and the node's process that comes and goes on it.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::{Arc, OnceLock, Weak},
    time::Duration,
};

use palisade_alerts::{compose::NodeNames, state::Settings as AlertSettings};
use palisade_assembly::{Askers, Linked, Live, Outputs, Places, PolicyFiles, Ports, Recording, Settings, plant};
use palisade_domain::{ContainerId, NodeName, Workload, WorkloadKind};
use palisade_protocol::{
    AlertCountsOf, FollowNodes, LineClass, NodeSeen, NodesLine, NodesOf, Readiness, ReadinessOf, RecordAccountOf,
    RecordTrace, SetVisibility, SubscribeAlerts,
};
use palisade_recorder::state::{AroundAlerts, Settings as RecorderSettings};
use palisade_supervision::{ChildSpec, Kept, Place, State, Supervisor, Tree};
use palisade_wire::trace::Header;
use palisade_world::TraceStore;
use tokio::{
    sync::Notify,
    time::{Instant, sleep, timeout_at},
};

use super::{
    clock::SimClock,
    configuration::{self, Configuration, ConfigurationFile, Configured, OpenSink},
    containers::Runtime,
    kernel::{Kernel, SimEnforcement, SimRecords},
    links::{self, Wire},
    mutation::Mutation,
    place::SimPlace,
    policies::{Disk, digests},
    scheduler::Processes,
    sinks::{SimPasswd, SimSink},
    traces::TraceDirectory,
};
use crate::{
    event::{self, Event, FollowedLine, Look, Teller},
    random::Random,
};

/// A look asks for no longer.
const WITHIN: Duration = Duration::from_secs(2);
/// The service manager's wait before it starts a process again that gave up.
const RESTART_AFTER: Duration = Duration::from_secs(1);
/// Between two looks at the policy directory.
const POLICY_INTERVAL: Duration = Duration::from_secs(1);

/// Bytes of the recorder's ring, and how far it reaches back.
const RING_BYTES: u64 = 1 << 20;
const RING_NS: u64 = 60_000_000_000;

/// Of a trace that is kept around an alert.
const AROUND_ALERTS: AroundAlerts = AroundAlerts {
    before_ns: 3_000_000_000,
    after_ns: 2_000_000_000,
    pause_ns: 0,
    limit_bytes: 0,
    severity: 0,
    policies: Vec::new(),
};

/// What makes one machine unlike another.
#[derive(Debug, Clone)]
pub struct Traits {
    /// Slots.
    pub max_workloads: u32,
    /// What its configuration says at first.
    pub configured: Configured,
    /// Its sinks take lines while their disk is full.
    pub waits_for_disk: bool,
    /// Traces around alerts are kept.
    pub keeps_traces: bool,
    /// Bytes of a record ring.
    pub ring_bytes: usize,
    /// How far the wall clock is off.
    pub skew_seconds: i64,
    /// Turns that a ready task loses, in percent.
    pub put_back_percent: u64,
}

/// A machine's host, as policies select it.
#[must_use]
pub fn host(number: usize) -> Workload {
    let name = links::name(number).to_string();
    Workload {
        kind: WorkloadKind::Host,
        name: name.clone(),
        namespace: String::new(),
        container: String::new(),
        container_id: None,
        image: String::new(),
        labels: [("kubernetes.io/hostname".to_owned(), name)].into(),
    }
}

fn told(line: NodesLine) -> FollowedLine {
    match line {
        NodesLine::Mark { peer, lost, gap, ended } => {
            FollowedLine::Mark { of: peer.map(|peer| peer.name), lost, gap, ended }
        }
        NodesLine::Past(lines) => FollowedLine::Past(lines.iter().flat_map(|line| digests(line.as_bytes())).collect()),
        NodesLine::Alert(line) => FollowedLine::Alert(digests(line.as_bytes()).first().copied().unwrap_or(0)),
    }
}

/// The tree of a process, once it stands.
type Shown = Arc<OnceLock<Weak<Tree>>>;

/// What can be asked of a process that runs.
#[derive(Clone)]
struct Running {
    tree: Arc<Tree>,
    askers: Askers,
}

/// See the module.
#[derive(Clone)]
pub struct Machine {
    /// Which.
    pub number: usize,
    /// Its kernel.
    pub kernel: Kernel,
    /// Its disk.
    pub disk: Disk,
    /// Traces on its disk.
    pub traces: TraceDirectory,
    /// Its container runtime.
    pub runtime: Runtime,
    /// Its clocks.
    pub clock: SimClock,
    /// Its node's configuration.
    pub configuration: ConfigurationFile,
    /// To the ears.
    pub teller: Teller,
    traits: Rc<Traits>,
    mutation: Option<Mutation>,
    processes: Processes,
    places: Rc<RefCell<Vec<SimPlace>>>,
    running: Rc<RefCell<Option<Running>>>,
    /// Counts the machine's starts: what lived before one is over.
    boots: Rc<Cell<u32>>,
    /// Counts the process's starts.
    starts: Rc<Cell<u32>>,
    random: Rc<RefCell<Random>>,
    calm: Rc<Cell<bool>>,
    /// For who shows it once more, where that is asked for.
    shown_before: Rc<RefCell<Vec<NodeSeen>>>,
    gave_up: Rc<Notify>,
    /// Absent on a machine alone.
    wire: Option<Wire>,
}

impl Machine {
    /// A machine that is on, without a process.
    #[must_use]
    pub fn new(
        begun: Instant,
        teller: Teller,
        processes: &Processes,
        traits: Traits,
        mutation: Option<Mutation>,
        mut random: Random,
    ) -> Self {
        let clock = SimClock::new(begun, traits.skew_seconds);
        teller.tell(&Event::ClockSet { off_seconds: clock.off_seconds() });
        let disk = Disk::new(teller.clone(), random.child("disk"), mutation);
        Self {
            number: teller.node,
            kernel: Kernel::new(teller.clone(), clock.clone(), random.child("kernel"), traits.ring_bytes, mutation),
            traces: TraceDirectory::new(disk.clone(), teller.clone(), random.child("traces"), mutation),
            disk,
            runtime: Runtime::new(random.child("runtime"), mutation),
            clock,
            configuration: ConfigurationFile::new(teller.clone(), traits.configured),
            teller,
            traits: Rc::new(traits),
            mutation,
            processes: processes.clone(),
            places: Rc::default(),
            running: Rc::default(),
            boots: Rc::default(),
            starts: Rc::default(),
            random: Rc::new(RefCell::new(random)),
            calm: Rc::default(),
            shown_before: Rc::default(),
            gave_up: Rc::default(),
            wire: None,
        }
    }

    /// With links to other machines.
    #[must_use]
    pub fn wired(mut self, wire: Option<Wire>) -> Self {
        self.wire = wire;
        self
    }

    /// Its end of the links, where there are some.
    #[must_use]
    pub fn wire(&self) -> Option<&Wire> {
        self.wire.as_ref()
    }

    /// Counts the machine's starts.
    #[must_use]
    pub fn boots(&self) -> u32 {
        self.boots.get()
    }

    /// What makes it unlike others.
    #[must_use]
    pub fn traits(&self) -> &Traits {
        &self.traits
    }

    /// The node's process starts.
    pub fn start(&self) {
        let number = self.starts.get() + 1;
        self.starts.set(number);
        let machine = self.clone();
        self.processes.start(self.number, async move { machine.main(number).await });
    }

    async fn main(&self, number: u32) {
        let shown = Arc::new(OnceLock::new());
        let (supervisor, askers) = self.plant(&shown);
        let Ok(tree) = supervisor.start(|_| {}).await else {
            self.teller.tell(&Event::ProcessDown { why: "its tree did not start".to_owned(), gave_up: true });
            return self.gave_up.notify_one();
        };
        let tree = Arc::new(tree);
        // Once a process.
        let _ = shown.set(Arc::downgrade(&tree));
        *self.running.borrow_mut() = Some(Running { tree: Arc::clone(&tree), askers });
        self.teller.tell(&Event::ProcessUp);
        let gave_up = tree.gave_up().await;
        if self.starts.get() == number {
            self.running.borrow_mut().take();
            self.runtime.disconnect();
            self.teller.tell(&Event::ProcessDown { why: gave_up.to_string(), gave_up: true });
            self.gave_up.notify_one();
        }
    }

    /// Starts a process again that gave up, as a service manager does.
    pub async fn manage_service(self) {
        loop {
            self.gave_up.notified().await;
            let starts = self.starts.get();
            self.end_process();
            sleep(RESTART_AFTER).await;
            if self.starts.get() == starts {
                self.start();
            }
        }
    }

    /// The node's process is killed.
    pub fn kill(&self, why: &str) {
        // Nobody starts it but who killed it.
        self.starts.set(self.starts.get() + 1);
        let gone = self.running.borrow_mut().take();
        drop(gone);
        self.end_process();
        self.runtime.disconnect();
        self.teller.tell(&Event::ProcessDown { why: why.to_owned(), gave_up: false });
    }

    /// Nothing of the process goes on, its links included.
    fn end_process(&self) {
        if let Some(wire) = &self.wire {
            wire.drop_links();
        }
        self.processes.crash(self.number);
    }

    /// The machine loses its power, and is on again at once; its process is not.
    pub fn lose_power(&self) {
        self.kill("the power went");
        self.boots.set(self.boots.get() + 1);
        self.teller.tell(&Event::PowerLost);
        self.kernel.lose_power();
        self.disk.lose_power();
        self.traces.lose_power();
        self.runtime.lose_power();
        self.clock.reboot();
    }

    /// The wall clock is set.
    pub fn set_clock(&self, by_seconds: i64) {
        self.clock.jump(by_seconds);
        self.teller.tell(&Event::ClockSet { off_seconds: self.clock.off_seconds() });
    }

    /// Any of the threads that the last process has, the links' included, stalls.
    pub fn stall_any(&self, random: &mut Random, wait: Duration) {
        let places = self.places.borrow();
        if !places.is_empty() {
            random.pick(&places).stall(wait);
        }
    }

    /// The thread of this name stalls.
    pub fn stall(&self, thread: &str, wait: Duration) {
        self.places.borrow().iter().filter(|place| place.name() == thread).for_each(|place| place.stall(wait));
    }

    /// From now on nothing disturbs its threads.
    pub fn calm(&self) {
        self.calm.set(true);
        self.places.borrow().iter().for_each(SimPlace::calm);
    }

    fn plant(&self, shown: &Shown) -> (Supervisor, Askers) {
        self.places.borrow_mut().clear();
        let place = |name| {
            let random = self.random.borrow_mut().child(name);
            self.disturbed(SimPlace::new(name, random, self.put_back_percent()))
        };
        let places = Places {
            alerts: place("alerts"),
            compile: place("compile"),
            enforce: place("enforce"),
            policies: place("policies"),
            probe: place("probe"),
            record: place("record"),
        };
        let (settings, mutation) = (self.settings(), self.mutation);
        let (file, live, open_sink) = (self.configuration.clone(), settings.live.clone(), self.open_sink());
        let ports = Ports { links: self.link(shown), ..self.ports(&open_sink) };
        let planted = plant(&settings, &ports, &places, |outlets| {
            ChildSpec::new("configuration", move |_| Configuration {
                told: file.read(),
                file: file.clone(),
                live: live.clone(),
                outlets: outlets.clone(),
                open_sink: Arc::clone(&open_sink),
                mutation,
            })
        });
        (planted.supervisor, planted.askers)
    }

    fn put_back_percent(&self) -> u64 {
        if self.calm.get() { 0 } else { self.traits.put_back_percent }
    }

    /// A place among those that faults choose from: no thread of a node is made in another way.
    fn disturbed(&self, place: SimPlace) -> Arc<dyn Place> {
        let place = place.told_by(self.teller.clone());
        self.places.borrow_mut().push(place.clone());
        Arc::new(place)
    }

    /// Links as production begins them: before the tree, which they show to others once it stands.
    fn link(&self, shown: &Shown) -> Option<Linked> {
        let wire = self.wire.as_ref()?;
        let place = self.disturbed(wire.place(self.put_back_percent()));
        let shown = Arc::clone(shown);
        let tree = Arc::new(move || shown.get().and_then(Weak::upgrade).map(|tree| tree.read()));
        // Certificates of a simulation are sound.
        let link = wire.start(&self.clock, Arc::clone(&place)).ok()?;
        Some(Linked { link, tree, place, rng: wire.chance() })
    }

    fn settings(&self) -> Settings {
        let name = links::name(self.number).to_string();
        let Configured { postures, visibility, throttle, .. } = self.configuration.read();
        let live = Live {
            host: host(self.number),
            postures,
            policy_interval: POLICY_INTERVAL,
            seen: SetVisibility { visibility, host: visibility },
            alerts: AlertSettings { names: NodeNames { node: name, ..NodeNames::default() }, throttle, visibility },
        };
        Settings {
            live: Kept::new(live),
            holds_host: true,
            // Its kernel holds nobody whom it was not told of.
            unknown: None,
            max_workloads: self.traits.max_workloads,
            awaited: vec![configuration::CONDITION],
            jitter_seed: self.random.borrow_mut().draw(),
        }
    }

    fn open_sink(&self) -> OpenSink {
        let (teller, disk, mutation) = (self.teller.clone(), self.disk.clone(), self.mutation);
        let (seed, waits) = (self.random.borrow_mut().child("sinks").draw(), self.traits.waits_for_disk);
        Arc::new(move |number| {
            let random = Random::stream(seed, "sink");
            Box::new(SimSink::open(number, teller.clone(), disk.clone(), mutation, random, waits))
        })
    }

    fn ports(&self, open_sink: &OpenSink) -> Ports {
        let (kernel, disk, runtime) = (self.kernel.clone(), self.disk.clone(), self.runtime.clone());
        let (open_sink, file) = (Arc::clone(open_sink), self.configuration.clone());
        let (of_records, of_lists, policies) = (kernel.clone(), kernel.clone(), disk.clone());
        let of_recorded_lists = kernel.clone();
        let node = links::name(self.number).to_string();
        let configured = self.configuration.read();
        let header = Header {
            node,
            little_endian: cfg!(target_endian = "little"),
            record_version: palisade_kernel_abi::record::VERSION,
            visibility: configured.visibility,
            throttle: configured.throttle.map(|limit| (limit.per_second, limit.silence_seconds)),
            ..Header::default()
        };
        let (traces, around_alerts) = (self.traces.clone(), self.traits.keeps_traces.then_some(AROUND_ALERTS));
        Ports {
            clock: Arc::new(self.clock.clone()),
            enforcement: Arc::new(SimEnforcement::open(&kernel, configured.visibility)),
            devices: None,
            records: Arc::new(move || Ok(Box::new(SimRecords::open(&of_records)))),
            containers: Some(Arc::new(move || Ok(Box::new(runtime.connect())))),
            policies: Arc::new(move || {
                let (directory, last_good) = (Box::new(policies.directory()), Box::new(policies.last_good()));
                Ok(PolicyFiles { directory, last_good })
            }),
            outputs: Arc::new(move || {
                Ok(Outputs {
                    sinks: vec![open_sink(file.read().sink)],
                    log_sinks: Vec::new(),
                    passwd: Box::new(SimPasswd::new(of_lists.clone())),
                    processes: of_lists.listed(),
                })
            }),
            recording: Some(Arc::new(move || {
                let settings = RecorderSettings {
                    header: header.clone(),
                    ring_bytes: RING_BYTES,
                    ring_ns: RING_NS,
                    arguments: true,
                    around_alerts: around_alerts.clone(),
                    first_id: 0,
                };
                let store = around_alerts.as_ref().map(|_| Box::new(traces.store()) as Box<dyn TraceStore>);
                Ok(Recording { settings, store, processes: of_recorded_lists.listed() })
            })),
            links: None,
        }
    }

    fn running(&self) -> Option<Running> {
        self.running.borrow().clone()
    }

    /// Whether a process runs whose tree is up.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.running.borrow().is_some()
    }

    /// Looks at the tree and at what actors count, and says it.
    pub async fn look(&self) {
        let Some(running) = self.running() else { return };
        let starts = self.starts.get();
        let records = running.askers.records.ask(RecordAccountOf, WITHIN).await.ok();
        let alerts = running.askers.alert_counts.ask(AlertCountsOf, WITHIN).await.ok();
        // What another process answered is no answer of this one.
        if self.starts.get() == starts && self.is_up() {
            let look = Look { tree: running.tree.read(), records, alerts, waiting: self.kernel.waiting() };
            self.teller.tell(&Event::Looked(Box::new(look)));
        }
    }

    /// What is asked of its recorder, and the bytes of the trace; none where no process runs.
    pub async fn record(&self, asked: RecordTrace) -> Option<Vec<u8>> {
        let recorder = self.running()?.askers.recording?;
        let mut stream = recorder.ask(asked, WITHIN).await.ok()?.ok()?;
        let mut bytes = Vec::new();
        while let Some(more) = stream.bytes.recv().await {
            bytes.extend_from_slice(&more);
        }
        Some(bytes)
    }

    /// The last alerts, as they were said.
    pub async fn alerts(&self) -> Option<Vec<String>> {
        let asked = SubscribeAlerts { class: LineClass::Policy, recent: usize::MAX, follow: false };
        let mut stream = self.running()?.askers.alerts.ask(asked, WITHIN).await.ok()?;
        let mut lines = Vec::new();
        while let Some(line) = stream.lines.recv().await {
            lines.push(line.to_string());
        }
        Some(lines)
    }

    /// What the kernel shows of the containers that run and have a slot, and of the host.
    #[must_use]
    pub fn shown(&self) -> Vec<(ContainerId, u64)> {
        let running = self.runtime.running().into_iter();
        let of_containers = running.filter_map(|(id, cgroup)| Some((id, self.kernel.shown(cgroup)?)));
        of_containers.chain(self.kernel.shown_of_host().map(|kinds| (event::host(), kinds))).collect()
    }

    /// What it says of all nodes, as its admin endpoint would, and says it.
    pub async fn see_nodes(&self, fresh: bool) {
        let Some(Running { askers: Askers { nodes: Some(nodes), .. }, .. }) = self.running() else { return };
        let starts = self.starts.get();
        let seen = nodes.nodes.ask(NodesOf { fresh }, WITHIN).await.ok();
        if let Some(mut seen) = seen.filter(|_| self.starts.get() == starts && self.is_up()) {
            self.misshow(&mut seen.nodes);
            self.teller.tell(&Event::Saw(Box::new(seen)));
        }
    }

    /// Somebody follows the alerts of all nodes here for so long, and now and then does not read for a moment, as long as that may be; says
    /// what comes.
    pub async fn follow_nodes(&self, random: &mut Random, lasts: Duration, may_pause: impl Fn() -> bool) {
        let Some(Running { askers: Askers { nodes: Some(nodes), .. }, .. }) = self.running() else { return };
        let recent = usize::try_from(random.below(20)).unwrap_or(0);
        let Ok(mut asked) = nodes.follow.ask(FollowNodes { recent }, WITHIN).await else { return };
        if !asked.follows {
            return;
        }
        let (stream, end) = (random.draw(), Instant::now() + lasts);
        self.teller.tell(&Event::FollowBegun { stream, recent });
        while let Ok(Some(line)) = timeout_at(end, asked.lines.recv()).await {
            for line in self.misfollow(told(line), random) {
                self.teller.tell(&Event::Followed { stream, line });
            }
            if random.percent(2) && may_pause() {
                sleep(random.millis(10, 3000)).await;
            }
        }
        self.teller.tell(&Event::FollowOver(stream));
    }

    /// What who follows hears on a node that is broken on purpose.
    fn misfollow(&self, line: FollowedLine, random: &mut Random) -> Vec<FollowedLine> {
        match (self.mutation, line) {
            (Some(Mutation::LosesFollowedLines), FollowedLine::Alert(_)) if random.percent(10) => Vec::new(),
            (Some(Mutation::RepeatsFollowedLines), FollowedLine::Alert(line)) if random.percent(10) => {
                vec![FollowedLine::Alert(line); 2]
            }
            (Some(Mutation::HidesMarksOfLoss), FollowedLine::Mark { of, .. }) => {
                vec![FollowedLine::Mark { of, lost: 0, gap: false, ended: false }]
            }
            (_, line) => vec![line],
        }
    }

    /// What a node that is broken on purpose shows of the others.
    fn misshow(&self, nodes: &mut [NodeSeen]) {
        match self.mutation {
            Some(Mutation::ShowsAnothersWords) => {
                for at in 1..nodes.len() {
                    let (before, rest) = nodes.split_at_mut(at);
                    std::mem::swap(&mut before[at - 1].tree, &mut rest[0].tree);
                }
            }
            Some(Mutation::ShowsWhatWasBefore) => {
                let mut first = self.shown_before.borrow_mut();
                if first.is_empty() && nodes.iter().all(|seen| seen.tree.is_some()) {
                    *first = nodes.to_vec();
                }
                let before = first.clone();
                if self.random.borrow_mut().percent(50) {
                    nodes.iter_mut().zip(before).for_each(|(seen, before)| seen.tree = before.tree);
                }
            }
            Some(Mutation::SaysAllIsFresh) => {
                nodes.iter_mut().filter_map(|seen| seen.tree.as_mut()).for_each(|tree| tree.age_ms = 0);
            }
            _ => {}
        }
    }

    /// Nodes that it should be linked to and does not say to be.
    pub async fn not_linked(&self) -> Vec<String> {
        let Some(wire) = &self.wire else { return Vec::new() };
        let Some(Running { askers: Askers { nodes: Some(nodes), .. }, .. }) = self.running() else {
            return vec!["the process".to_owned()];
        };
        let seen =
            nodes.nodes.ask(NodesOf { fresh: false }, WITHIN).await.map(|answer| answer.nodes).unwrap_or_default();
        let linked = |name: &NodeName| seen.iter().any(|seen| seen.peer.name == *name && seen.peer.state.is_linked());
        wire.peers_wanted().into_iter().filter(|name| !linked(name)).map(|name| name.to_string()).collect()
    }

    /// Whether it says that it is ready.
    pub async fn readiness(&self) -> Option<Readiness> {
        self.running()?.askers.readiness.ask(ReadinessOf, WITHIN).await.ok()
    }

    /// Actors that do not run, by name.
    #[must_use]
    pub fn not_running(&self) -> Vec<String> {
        let mut found = Vec::new();
        match self.running() {
            Some(running) => running.tree.read().walk(&mut |_, node| {
                if node.state != State::Running {
                    found.push(format!("{} ({:?}: {:?})", node.name, node.state, node.last_error));
                }
            }),
            None => found.push("the process".to_owned()),
        }
        found
    }

    /// An ordered stop; who was left behind.
    pub async fn stop(&self) -> Vec<String> {
        let Some(running) = self.running() else { return Vec::new() };
        let report = running.tree.stop().await;
        if let Some(wire) = &self.wire {
            wire.close().await;
        }
        self.starts.set(self.starts.get() + 1);
        self.running.borrow_mut().take();
        self.processes.crash(self.number);
        report.abandoned
    }
}
