//! The shell: hands out chunks as their readers take them.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use actix::{
    Actor, ActorFutureExt as _, AsyncContext as _, Handler, MessageResult, ResponseActFuture, WrapFuture as _,
};
use palisade_domain::{Slot, UnixNanos};
use palisade_protocol::{
    AlertSettingsChanged, CompiledPolicy, Condition, ConditionReported, EndRecording, PolicyAnnounced,
    PolicyDocumentsChanged, PolicyInstalled, ProcessListed, RecordAccountOf, RecordTrace, RecordingCountsOf,
    RecordingEnd, RecordingOutcome, RecordingStream, RecordsRead, UserNamesRead, VisibilityChanged, WorkloadGone,
    WorkloadNamed, WorkloadPlaced,
};
use palisade_supervision::{Asker, Context, Kept, Outbox};
use palisade_wire::trace::{Held, Picture, Place, PolicyDocuments, PolicyOfSlot, Process, Users, What};
use palisade_world::{Clock, Installed, Membership, PasswdAnswer, PasswdOf, TraceStore};
use tokio::sync::{mpsc, oneshot};

use crate::{
    reader::{READ_WITHIN, Reader},
    recording::Next,
    state::{Settings, State},
    storing::Storing,
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
    pub(crate) state: State,
    account: Asker<RecordAccountOf>,
    conditions: Outbox<ConditionReported>,
    clock: Arc<dyn Clock>,
    readers: BTreeMap<u64, Reader>,
    /// Traces around alerts, where they are kept.
    storing: Option<Storing>,
    /// Who waits until the one that is underway is on the disk.
    stored: Option<oneshot::Sender<()>>,
    /// More is handed out soon: one timer, whoever asks for it.
    is_soon: bool,
    node: String,
}

impl Recorder {
    /// Records by these settings, knowing what a recorder before it knew, and the processes that run.
    #[must_use]
    pub fn new(settings: Settings, wiring: Wiring, now: Kept<Picture>, processes: Vec<ProcessListed>) -> Self {
        let node = settings.header.node.clone();
        let state = State::knowing(settings, now).listing(processes.into_iter().map(process));
        let Wiring { account, store, conditions, clock } = wiring;
        let (readers, storing) = (BTreeMap::new(), store.map(Storing::new));
        Self { state, account, conditions, clock, readers, storing, stored: None, is_soon: false, node }
    }

    fn tell(&mut self, what: What) {
        self.state.fact(self.clock.boot().0, what);
    }

    fn tick(&mut self, ctx: &mut Context<Self>) {
        let (boot_ns, unix_ns) = (self.clock.boot().0, self.clock.unix().0);
        self.state.tick(boot_ns, unix_ns.saturating_sub(boot_ns));
        self.keep_around_alert(boot_ns, unix_ns);
        self.give_up_stuck();
        self.hand_out(ctx);
    }

    /// Who does not read takes nobody else's place.
    fn give_up_stuck(&mut self) {
        let state = &mut self.state;
        self.readers.retain(|id, reader| {
            let is_stuck = reader.is_stuck(TICK);
            if is_stuck {
                state.give_up(*id, READ_WITHIN);
            }
            !is_stuck
        });
    }

    /// To each reader what it has room for; what is left comes soon.
    fn hand_out(&mut self, ctx: &mut Context<Self>) {
        let now_ns = self.clock.boot().0;
        let mut left = BLOCKS_A_TURN;
        let ids: Vec<u64> = self.readers.keys().copied().collect();
        for id in ids {
            while left > 0 && self.hand_to(id, now_ns) {
                left -= 1;
            }
        }
        if self.stored.is_some() {
            // Somebody waits for it, and nobody comes any more: as much as the store takes.
            left = usize::MAX;
        }
        let waits_for_store = self.store(now_ns, &mut left);
        if left == 0 || waits_for_store {
            self.hand_out_soon(ctx);
        }
    }

    /// Once, however often it is asked for before that.
    fn hand_out_soon(&mut self, ctx: &mut Context<Self>) {
        if std::mem::replace(&mut self.is_soon, true) {
            return;
        }
        ctx.run_later(SOON, |recorder, ctx| {
            recorder.is_soon = false;
            recorder.hand_out(ctx);
        });
    }

    /// Whether it took something.
    fn hand_to(&mut self, id: u64, now_ns: u64) -> bool {
        let Some(reader) = self.readers.get_mut(&id) else { return false };
        if reader.is_gone() {
            self.readers.remove(&id);
            self.state.stop(id, RecordingOutcome::ReaderGone);
            return false;
        }
        // A reader without room falls behind in the ring, and nobody waits for it.
        if !reader.has_room() {
            return false;
        }
        match self.state.next(id, now_ns) {
            Next::Bytes(bytes) => {
                reader.give(bytes);
                true
            }
            Next::Nothing => false,
            Next::Over => {
                self.readers.remove(&id);
                false
            }
        }
    }

    /// Begins a trace around an alert, if none is being kept.
    fn keep_around_alert(&mut self, boot_ns: u64, unix_ns: u64) {
        let Some(storing) = self.storing.as_mut().filter(|storing| storing.is_idle()) else { return };
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
            Err(refused) => return storing.refused(refused.to_string()),
        };
        storing.begin(id, &name, boot_ns);
        let (policy, passed_over) = (&around.policy, around.passed_over);
        tracing::info!(%name, %policy, passed_over, "a trace around an alert is begun");
    }

    /// To the store what it has room for, and from it what came of it; whether it has no room for what there is.
    fn store(&mut self, now_ns: u64, left: &mut usize) -> bool {
        let Some(storing) = &mut self.storing else { return false };
        if let Some(not_kept) = storing.hear() {
            not_kept.into_iter().for_each(|id| self.state.stop(id, RecordingOutcome::NotStored));
            // Whoever waited may be gone.
            self.stored.take().map(|stored| stored.send(()));
        }
        while let Some(id) = storing.recording() {
            if !storing.has_room() {
                return true;
            }
            if *left == 0 || !storing.tell(self.state.next(id, now_ns), now_ns) {
                return false;
            }
            *left -= 1;
        }
        false
    }

    fn look(&mut self, ctx: &mut Context<Self>) {
        let now_ns = self.clock.boot().0;
        let condition = self.storing.as_mut().map_or(Condition::Good, |storing| storing.condition(now_ns));
        // A report that finds no room is superseded by the next one.
        let report = ConditionReported { name: CONDITION.into(), condition: Some(condition) };
        let _ = self.conditions.try_send(report);
        let account = self.account.clone();
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
        self.state.batch(self.clock.boot().0, &message.batch.bytes);
    }
}

impl Handler<RecordTrace> for Recorder {
    type Result = MessageResult<RecordTrace>;

    fn handle(&mut self, message: RecordTrace, ctx: &mut Self::Context) -> Self::Result {
        let now_ns = self.clock.boot().0;
        let begun = self.state.begin(now_ns, self.clock.unix().0, &message);
        let stream = begun.map(|id| {
            let (chunks, bytes) = mpsc::channel(CHUNKS);
            self.readers.insert(id, Reader::new(chunks));
            self.hand_out(ctx);
            RecordingStream { id, bytes }
        });
        MessageResult(stream)
    }
}

impl Handler<RecordingCountsOf> for Recorder {
    type Result = MessageResult<RecordingCountsOf>;

    fn handle(&mut self, _: RecordingCountsOf, _: &mut Self::Context) -> Self::Result {
        MessageResult(self.state.counts())
    }
}

impl Handler<EndRecording> for Recorder {
    type Result = ResponseActFuture<Self, RecordingEnd>;

    fn handle(&mut self, message: EndRecording, ctx: &mut Self::Context) -> Self::Result {
        let now_ns = self.clock.boot().0;
        let Some(id) = message.id else { return self.end_all(now_ns, ctx) };
        let end = self.state.end(id, now_ns);
        self.hand_out(ctx);
        Box::pin(actix::fut::ready(end))
    }
}

impl Recorder {
    /// The node stops: it is answered once what is to be kept is on the disk. It is at most the ring; who asked knows how long to wait.
    fn end_all(&mut self, now_ns: u64, ctx: &mut Context<Self>) -> ResponseActFuture<Self, RecordingEnd> {
        let storing = self.storing.as_ref();
        let (recording, is_idle) = (storing.and_then(Storing::recording), storing.is_none_or(Storing::is_idle));
        let ids: Vec<u64> = self.readers.keys().copied().chain(recording).collect();
        let ended = ids.iter().filter(|id| self.state.end(**id, now_ns).ended).count() > 0;
        let end = RecordingEnd { ended, why: None };
        self.hand_out(ctx);
        if is_idle {
            return Box::pin(actix::fut::ready(end));
        }
        let (stored, is_stored) = oneshot::channel();
        self.stored = Some(stored);
        // Who asks once more takes its place.
        Box::pin(is_stored.into_actor(self).map(|_, _, _| end))
    }
}

impl Handler<PolicyAnnounced> for Recorder {
    type Result = ();

    fn handle(&mut self, fact: PolicyAnnounced, _: &mut Self::Context) {
        self.state.announced(&fact);
        self.tell(What::PolicyAnnounced(policy(fact.slot, fact.generation, fact.policy.as_ref())));
    }
}

impl Handler<PolicyInstalled> for Recorder {
    type Result = ();

    fn handle(&mut self, fact: PolicyInstalled, _: &mut Self::Context) {
        self.state.installed(&fact);
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
