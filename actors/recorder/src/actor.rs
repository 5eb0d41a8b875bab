//! The shell: hands out chunks as their readers take them.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use actix::{Actor, ActorFutureExt as _, AsyncContext as _, Handler, MessageResult, WrapFuture as _};
use palisade_domain::{Slot, UnixNanos};
use palisade_protocol::{
    AlertSettingsChanged, CompiledPolicy, Condition, ConditionReported, EndRecording, PolicyAnnounced,
    PolicyDocumentsChanged, PolicyInstalled, ProcessListed, RecordAccountOf, RecordTrace, RecordingStream, RecordsRead,
    UserNamesRead, VisibilityChanged, WorkloadGone, WorkloadNamed, WorkloadPlaced,
};
use palisade_supervision::{Asker, Context, Kept, Outbox};
use palisade_wire::trace::{Held, Picture, Place, PolicyDocuments, PolicyOfSlot, Process, Users, What};
use palisade_world::{Clock, Installed, Membership, PasswdAnswer, PasswdOf, TraceStore};
use tokio::sync::mpsc;

use crate::{
    recording::Next,
    state::{Settings, State},
};

/// The condition's name.
pub const CONDITION: &str = "traces";
/// Batches that may wait here: an eighth of what the probe has on its way, so that it never waits for this one.
pub const MAILBOX: usize = 8;
/// Chunks on their way to one reader: a chunk is at most a block, mostly some dozens of kilobytes.
pub const CHUNKS: usize = 16;
/// Between two looks at what is to be sealed and handed out.
const TICK: Duration = Duration::from_millis(200);
/// Blocks handed out before others have a turn: one takes a few milliseconds where it is changed.
const BLOCKS_A_TURN: usize = 4;
/// Until more of a long past is handed out.
const SOON: Duration = Duration::from_millis(5);
/// How often the kernel's losses are asked for.
const LOSS_EVERY: Duration = Duration::from_secs(1);
const WITHIN: Duration = Duration::from_secs(2);

/// What the recorder needs of the world.
pub struct Wiring {
    /// Who accounts for records.
    pub account: Asker<RecordAccountOf>,
    /// Where traces around alerts are kept, if they are.
    pub store: Option<Box<dyn TraceStore>>,
    /// Who keeps conditions.
    pub conditions: Outbox<ConditionReported>,
    /// Time.
    pub clock: Arc<dyn Clock>,
}

/// See the crate's doc.
pub struct Recorder {
    state: State,
    wiring: Wiring,
    readers: BTreeMap<u64, mpsc::Sender<Arc<[u8]>>>,
    /// The recording that goes to the store.
    storing: Option<u64>,
    /// Why the last one was not kept.
    store_failed: Option<String>,
    node: String,
    unstored: u64,
}

impl Recorder {
    /// Records by these settings, knowing what a recorder before it knew, and the processes that run.
    #[must_use]
    pub fn new(settings: Settings, wiring: Wiring, now: Kept<Picture>, processes: Vec<ProcessListed>) -> Self {
        let node = settings.header.node.clone();
        let state = State::knowing(settings, now).listing(processes.into_iter().map(process));
        let readers = BTreeMap::new();
        Self { state, wiring, readers, storing: None, store_failed: None, node, unstored: 0 }
    }

    fn tell(&mut self, what: What) {
        self.state.fact(self.wiring.clock.boot().0, what);
    }

    fn tick(&mut self, ctx: &mut Context<Self>) {
        let (boot_ns, unix_ns) = (self.wiring.clock.boot().0, self.wiring.clock.unix().0);
        self.state.tick(boot_ns, unix_ns.saturating_sub(boot_ns));
        self.keep_around_alert(boot_ns, unix_ns);
        self.hand_out(ctx);
    }

    /// To each reader what it has room for; what is left comes soon.
    fn hand_out(&mut self, ctx: &mut Context<Self>) {
        let now_ns = self.wiring.clock.boot().0;
        let mut left = BLOCKS_A_TURN;
        let ids: Vec<u64> = self.readers.keys().copied().collect();
        for id in ids {
            while left > 0 && self.hand_to(id, now_ns) {
                left -= 1;
            }
        }
        while left > 0 && self.storing.is_some_and(|id| self.store_next(id, now_ns)) {
            left -= 1;
        }
        if left == 0 {
            ctx.run_later(SOON, Self::hand_out);
        }
    }

    /// Whether it took something.
    fn hand_to(&mut self, id: u64, now_ns: u64) -> bool {
        let Some(reader) = self.readers.get(&id) else { return false };
        if reader.is_closed() {
            self.readers.remove(&id);
            self.state.stop(id);
            return false;
        }
        // A reader without room falls behind in the ring, and nobody waits for it.
        let Ok(room) = reader.try_reserve() else { return false };
        match self.state.next(id, now_ns) {
            Next::Bytes(bytes) => {
                room.send(Arc::from(bytes));
                true
            }
            Next::Nothing => false,
            Next::Over => {
                drop(room);
                self.readers.remove(&id);
                false
            }
        }
    }

    /// Begins a trace around an alert, if none is being kept.
    fn keep_around_alert(&mut self, boot_ns: u64, unix_ns: u64) {
        if self.storing.is_some() || self.wiring.store.is_none() {
            return;
        }
        let Some(around) = self.state.alerted(boot_ns) else { return };
        let asked = RecordTrace {
            last: Duration::from_nanos(around.before_ns),
            duration: Some(Duration::from_nanos(around.after_ns)),
            limit_bytes: around.limit_bytes,
            ..RecordTrace::default()
        };
        let name = format!("{}-{}", self.node, UnixNanos(unix_ns).rfc3339());
        // The recording first: where as many run as may, no file is left with nothing in it.
        let id = match self.state.begin(boot_ns, unix_ns, &asked) {
            Ok(id) => id,
            Err(refused) => return self.not_stored(refused.to_string()),
        };
        if let Err(error) = self.wiring.store.as_mut().map_or(Ok(()), |store| store.begin(&name)) {
            self.state.stop(id);
            return self.not_stored(error.to_string());
        }
        let (policy, passed_over) = (&around.policy, around.passed_over);
        tracing::info!(%name, %policy, passed_over, "a trace around an alert is begun");
        self.storing = Some(id);
    }

    /// Whether the store took something.
    fn store_next(&mut self, id: u64, now_ns: u64) -> bool {
        let next = self.state.next(id, now_ns);
        let Some(store) = &mut self.wiring.store else { return false };
        let done = match next {
            Next::Nothing => return false,
            Next::Bytes(bytes) => store.append(&bytes),
            Next::Over => {
                self.storing = None;
                self.store_failed = None;
                store.end()
            }
        };
        if let Err(error) = done {
            self.state.stop(id);
            self.storing = None;
            self.not_stored(error.to_string());
        }
        self.storing.is_some()
    }

    fn not_stored(&mut self, why: String) {
        tracing::error!(%why, "a trace around an alert is not kept");
        self.unstored += 1;
        self.store_failed = Some(why);
    }

    fn look(&mut self, ctx: &mut Context<Self>) {
        let condition = match &self.store_failed {
            None => Condition::Good,
            Some(why) => {
                Condition::Degraded(format!("traces around alerts are not kept ({} so far): {why}", self.unstored))
            }
        };
        // A report that finds no room is superseded by the next one.
        let report = ConditionReported { name: CONDITION.into(), condition: Some(condition) };
        let _ = self.wiring.conditions.try_send(report);
        let account = self.wiring.account.clone();
        let asked = async move { account.ask(RecordAccountOf, WITHIN).await };
        ctx.spawn(asked.into_actor(self).map(|account, recorder, _| {
            // A probe that does not answer now is asked again in a second.
            let Ok(account) = account else { return };
            let row = |((kind, reason), count): (&(u16, palisade_world::LossReason), &u64)| {
                (*kind, format!("{reason:?}"), *count)
            };
            recorder.state.kernel_lost(account.loss.counts.iter().map(row).collect());
        }));
    }
}

/// As a trace has it.
fn process(listed: ProcessListed) -> Process {
    let ProcessListed { pid, start_ticks, parent, uid, executable, arguments, own_pid, pid_namespace } = listed;
    Process { pid, start_ticks, parent, uid, executable, arguments, own_pid, pid_namespace, slot: None, tty: None }
}

fn held(installed: &Installed) -> Held {
    let gaps = |held: &palisade_world::HeldFamily| {
        held.gaps.iter().map(|gap| (gap.what.clone(), gap.reason.clone())).collect()
    };
    let families = installed.families.iter().map(|(family, held)| (*family, (held.tier, gaps(held))));
    Held { number: installed.number, families: families.collect() }
}

fn policy(
    slot: palisade_domain::Slot,
    generation: palisade_domain::Generation,
    policy: Option<&Arc<CompiledPolicy>>,
) -> PolicyOfSlot {
    PolicyOfSlot { slot, generation, blob: policy.map(|policy| policy.id.0) }
}

fn place(membership: &Membership) -> Place {
    let text =
        |path: &Option<std::path::PathBuf>| path.as_ref().map(|path| path.display().to_string()).unwrap_or_default();
    Place {
        slot: membership.slot,
        pid: membership.pid,
        cgroup: membership.cgroup.map_or(0, |cgroup| cgroup.0),
        cgroup_path: text(&membership.cgroup_path),
        root: text(&membership.root),
    }
}

fn users(slot: Slot, answer: PasswdAnswer) -> Users {
    let mount_namespace = match answer.of {
        PasswdOf::Host => None,
        PasswdOf::MountNamespace(inode) => Some(inode),
    };
    Users { slot, mount_namespace, names: answer.names }
}

impl Actor for Recorder {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.tick(ctx);
        self.look(ctx);
        ctx.run_interval(TICK, Self::tick);
        ctx.run_interval(LOSS_EVERY, Self::look);
    }
}

impl Handler<RecordsRead> for Recorder {
    type Result = ();

    fn handle(&mut self, message: RecordsRead, ctx: &mut Self::Context) {
        ctx.at_stake(u64::from(message.batch.records));
        self.state.batch(self.wiring.clock.boot().0, &message.batch.bytes);
    }
}

impl Handler<RecordTrace> for Recorder {
    type Result = MessageResult<RecordTrace>;

    fn handle(&mut self, message: RecordTrace, ctx: &mut Self::Context) -> Self::Result {
        let begun = self.state.begin(self.wiring.clock.boot().0, self.wiring.clock.unix().0, &message);
        let stream = begun.map(|id| {
            let (sender, bytes) = mpsc::channel(CHUNKS);
            self.readers.insert(id, sender);
            self.hand_out(ctx);
            RecordingStream { id, bytes }
        });
        MessageResult(stream)
    }
}

impl Handler<EndRecording> for Recorder {
    type Result = MessageResult<EndRecording>;

    fn handle(&mut self, message: EndRecording, ctx: &mut Self::Context) -> Self::Result {
        let now_ns = self.wiring.clock.boot().0;
        let ended = match message.id {
            Some(id) => self.state.end(id, now_ns),
            None => {
                let ids: Vec<u64> = self.readers.keys().copied().chain(self.storing).collect();
                ids.iter().filter(|id| self.state.end(**id, now_ns)).count() > 0
            }
        };
        // A whole past goes to the disk before the node stops: it is at most the ring.
        while message.id.is_none() && self.storing.is_some_and(|id| self.store_next(id, now_ns)) {}
        self.hand_out(ctx);
        MessageResult(ended)
    }
}

impl Handler<PolicyAnnounced> for Recorder {
    type Result = ();

    fn handle(&mut self, fact: PolicyAnnounced, _: &mut Self::Context) {
        self.state.policy(fact.slot, fact.generation, 0, fact.policy.as_ref());
        self.tell(What::PolicyAnnounced(policy(fact.slot, fact.generation, fact.policy.as_ref())));
    }
}

impl Handler<PolicyInstalled> for Recorder {
    type Result = ();

    fn handle(&mut self, fact: PolicyInstalled, _: &mut Self::Context) {
        self.state.policy(fact.slot, fact.generation, fact.installed.number, fact.policy.as_ref());
        let policy = policy(fact.slot, fact.generation, fact.policy.as_ref());
        self.tell(What::PolicyInstalled(policy, held(&fact.installed)));
    }
}

/// Facts that are told on as they are.
macro_rules! facts {
    ($($message:ident: |$fact:ident| $what:expr;)+) => {
        $(impl Handler<$message> for Recorder {
            type Result = ();

            fn handle(&mut self, $fact: $message, _: &mut Self::Context) {
                self.tell($what);
            }
        })+
    };
}

facts! {
    WorkloadNamed: |fact| What::WorkloadNamed(fact.slot, fact.workload);
    WorkloadPlaced: |fact| What::Place(place(&fact.membership));
    WorkloadGone: |fact| What::WorkloadGone(fact.slot);
    VisibilityChanged: |fact| What::Visible(fact.slot, fact.visibility);
    AlertSettingsChanged: |fact| What::Settings { visibility: fact.visibility, throttle: fact.throttle };
    UserNamesRead: |fact| What::Users(users(fact.slot, fact.answer));
    PolicyDocumentsChanged: |fact| What::PolicySet(PolicyDocuments {
        generation: fact.generation,
        postures: fact.postures,
        documents: fact.documents,
    });
}
