//! The shell: looks at the directory on a timer and says what changed.

use std::time::Duration;

use actix::{Actor, AsyncContext as _, Handler, SpawnHandle};
use palisade_protocol::{
    ConditionReported, PolicyDocumentsChanged, PolicySetChanged, PolicySetStatus, PolicySetStatusOf, SetPolicyInterval,
    SetPostures,
};
use palisade_supervision::{Context, Kept, Outbox};
use palisade_world::{LastGood, LastGoodError, PolicyDirectory, PolicyFile};

use crate::state::State;

/// The condition's name.
pub const CONDITION: &str = "policies";
/// How long a directory must stay as it is before it is read: who writes a file in place truncates it first, and half a file may well be
/// sound. Longer than the grain of a file system's time stamps, too short for a person to notice.
pub const SETTLE: Duration = Duration::from_millis(100);
/// A directory that never stays as it is is read all the same after this many waits: five seconds.
const SETTLES: u32 = 50;

/// Where facts go, and how often to look.
#[derive(Clone)]
pub struct Wiring {
    /// Who brings workloads to a new set.
    pub sets: Outbox<PolicySetChanged>,
    /// Who keeps what a set is made of.
    pub documents: Vec<Outbox<PolicyDocumentsChanged>>,
    /// Who keeps conditions.
    pub conditions: Outbox<ConditionReported>,
    /// Between two looks at the directory.
    pub interval: Duration,
}

/// See the crate's doc.
pub struct PolicyKeeper {
    state: Kept<State>,
    directory: Box<dyn PolicyDirectory>,
    wiring: Wiring,
    /// A set that the receiver had no room for; offered again at the next look.
    unsaid: Option<PolicySetChanged>,
    /// Waits for the directory to settle so far; 0 while nothing changed.
    settling: u32,
    /// Where last sound versions outlive the process, if they do.
    last_good: Option<Box<dyn LastGood>>,
    /// The timer of the looks.
    looking: Option<SpawnHandle>,
}

impl PolicyKeeper {
    /// Keeps the policies of `directory`, in a state that outlives this actor: the generation, and the last sound version of each file.
    #[must_use]
    pub fn new(directory: Box<dyn PolicyDirectory>, wiring: Wiring, state: Kept<State>) -> Self {
        Self { state, directory, wiring, unsaid: None, settling: 0, last_good: None, looking: None }
    }

    /// With a place where the last sound version of each file outlives the process.
    #[must_use]
    pub fn remembering(self, last_good: Box<dyn LastGood>) -> Self {
        Self { last_good: Some(last_good), ..self }
    }

    /// What a process before this one kept counts until a reading says otherwise.
    fn recall(&mut self) {
        let Some(last_good) = &mut self.last_good else { return };
        let (kept, errors) = last_good.recall();
        for error in errors {
            tracing::warn!(%error, "a last good version is not found again");
        }
        self.state.lock().recall(kept);
    }

    fn remember(&mut self, to_keep: &[PolicyFile], to_forget: &[String]) {
        let Some(last_good) = &mut self.last_good else { return };
        let kept = to_keep.iter().map(|file| last_good.keep(file)).collect::<Vec<_>>();
        let forgotten = to_forget.iter().map(|name| last_good.forget(name)).collect::<Vec<_>>();
        let errors: Vec<LastGoodError> = kept.into_iter().chain(forgotten).filter_map(Result::err).collect();
        if let Some(error) = errors.first() {
            let files = errors.len();
            tracing::warn!(%error, files, "last good versions do not outlive this process");
        }
    }

    fn look(&mut self, ctx: &mut Context<Self>) {
        if self.settling == 0 && self.directory.changed() {
            self.settle(ctx);
        }
        self.report();
        self.say();
    }

    fn settle(&mut self, ctx: &mut Context<Self>) {
        self.settling += 1;
        ctx.run_later(SETTLE, |keeper, ctx| {
            if !keeper.directory.settled() && keeper.settling < SETTLES {
                return keeper.settle(ctx);
            }
            keeper.settling = 0;
            keeper.read();
            keeper.report();
            keeper.say();
        });
    }

    fn read(&mut self) {
        palisade_world::fault_point("policy-keeper: before a reading");
        match self.directory.read() {
            Ok(reading) => {
                let outcome = self.state.lock().read(reading);
                for found in &outcome.news {
                    tracing::warn!(problem = %found, "policy file");
                }
                if let Some(changed) = outcome.changed {
                    let (generation, policies) = (changed.generation.0, changed.set.len());
                    tracing::info!(generation, policies, "policy set in force");
                    self.unsaid = Some(changed);
                }
                self.remember(&outcome.to_keep, &outcome.to_forget);
            }
            Err(error) => {
                if self.state.lock().unreadable(error.to_string()) {
                    tracing::warn!(%error, "policy directory");
                }
            }
        }
    }

    fn report(&self) {
        let report = ConditionReported { name: CONDITION.into(), condition: Some(self.state.lock().condition()) };
        // A report that finds no room is superseded by the one of the next look.
        let _ = self.wiring.conditions.try_send(report);
    }

    fn say(&mut self) {
        let Some(changed) = self.unsaid.take() else { return };
        if !self.wiring.documents.is_empty() {
            let (generation, postures, documents) =
                (changed.generation, changed.postures, self.state.lock().documents());
            let documents = PolicyDocumentsChanged { generation, postures, documents };
            // Before the set: who records knows it when the first policy of it is announced. One who is over keeps nothing.
            self.wiring.documents.iter().for_each(|to| drop(to.try_send(documents.clone())));
        }
        if let Err(refused) = self.wiring.sets.try_send(changed) {
            self.unsaid = Some(refused.into_message());
        }
    }
}

impl Actor for PolicyKeeper {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.recall();
        // What a keeper before this one had in force is in force.
        self.unsaid = self.state.lock().in_force();
        self.look(ctx);
        self.looking = Some(ctx.run_interval(self.wiring.interval, Self::look));
    }
}

impl Handler<SetPostures> for PolicyKeeper {
    type Result = ();

    fn handle(&mut self, message: SetPostures, _: &mut Self::Context) {
        let changed = self.state.lock().set_postures(message.postures);
        if let Some(changed) = changed {
            tracing::info!(generation = changed.generation.0, postures = ?message.postures, "postures in force");
            self.unsaid = Some(changed);
            self.say();
        }
    }
}

impl Handler<SetPolicyInterval> for PolicyKeeper {
    type Result = ();

    fn handle(&mut self, message: SetPolicyInterval, ctx: &mut Self::Context) {
        self.wiring.interval = message.interval;
        if let Some(before) = self.looking.replace(ctx.run_interval(message.interval, Self::look)) {
            ctx.cancel_future(before);
        }
    }
}

impl Handler<PolicySetStatusOf> for PolicyKeeper {
    type Result = actix::MessageResult<PolicySetStatusOf>;

    fn handle(&mut self, _: PolicySetStatusOf, _: &mut Self::Context) -> Self::Result {
        let status: PolicySetStatus = self.state.lock().status().clone();
        actix::MessageResult(status)
    }
}
