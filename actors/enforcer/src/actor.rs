//! The shell of one enforcer: does what the state asks, and feeds back what came of it.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use actix::{Actor, ActorFutureExt as _, AsyncContext as _, Handler, Message, SpawnHandle, WrapFuture as _};
use palisade_domain::{DeviceRules, Family, Generation, OnUnknownWorkload, Slot, Tier, Visibility, Workload};
use palisade_policy::ir::{Postures, WorkloadRules};
use palisade_protocol::{
    CompilePolicy, CompiledPolicy, Condition, ConditionReported, DevicesJudged, NotHeld, PolicyAnnounced,
    PolicyInstalled, PolicySetChanged, SetVisibility, VisibilityChanged, WorkloadStarted,
};
use palisade_supervision::{Asker, Context, Outbox};
use palisade_world::{Admission, Devices, DevicesSeen, Enforcement, Gap, Membership};

use crate::{
    EnforcementFailed,
    state::{Effect, Input, SelectVisibility, State},
    unknown,
};

/// The compiler's own budget for one policy is half of this.
const COMPILE_WITHIN: Duration = Duration::from_secs(20);

/// Between two questions to the port of devices, while rules are about them: how late an alert of one may be.
const DEVICES_EVERY: Duration = Duration::from_millis(250);

/// Between two questions whether what is held has changed by itself, where it may.
const HELD_EVERY: Duration = Duration::from_millis(500);

/// What every enforcer of a node shares.
#[derive(Clone)]
pub struct Wiring {
    /// The kernel.
    pub enforcement: Arc<dyn Enforcement>,
    /// The compiler.
    pub compiler: Asker<CompilePolicy>,
    /// Who names rules in alerts, and who records: told before a decision can name one.
    pub announced: Vec<Outbox<PolicyAnnounced>>,
    /// Who names rules in alerts, and who shows what is in force.
    pub installed: Vec<Outbox<PolicyInstalled>>,
    /// Who hears that a slot is released.
    pub released: Vec<Outbox<palisade_protocol::WorkloadGone>>,
    /// Who keeps conditions.
    pub conditions: Outbox<ConditionReported>,
    /// What the kernel takes at an admission to be seen: what the node started with, whatever [`SetVisibility`] says since.
    pub visibility: Visibility,
    /// The same of the host.
    pub host_visibility: Visibility,
    /// What a set says is seen of a workload.
    pub select_visibility: SelectVisibility,
    /// Who makes logs of what is seen, and who records.
    pub visible: Vec<Outbox<VisibilityChanged>>,
    /// The host's devices; absent where the world has none.
    pub devices: Option<Arc<dyn Devices>>,
    /// Who makes alerts of what becomes of them.
    pub judged: Vec<Outbox<DevicesJudged>>,
}

impl Wiring {
    fn visibility_of(&self, slot: Slot) -> Visibility {
        if slot == Slot::HOST { self.host_visibility } else { self.visibility }
    }
}

/// An enforcer of this slot serves, and wants the newest set.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct EnforcerStarted(pub Slot);

/// A container waits for its policy.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct AwaitAdmission(pub Admission);

/// See the crate's doc.
pub struct Enforcer {
    state: State,
    membership: Membership,
    wiring: Wiring,
    roster: Outbox<EnforcerStarted>,
    admission: Option<Admission>,
    /// The condition as last told.
    told: Option<Condition>,
    /// What was said to be not held.
    not_held: Arc<[NotHeld]>,
    compiling: Option<SpawnHandle>,
    retrying: Option<SpawnHandle>,
    learning: Option<SpawnHandle>,
    /// While rules are about devices.
    watching: Option<SpawnHandle>,
}

impl Enforcer {
    /// An enforcer for one workload; the kernel is told at its start.
    #[must_use]
    pub fn new(
        workload: Arc<Workload>,
        membership: Membership,
        wiring: Wiring,
        roster: Outbox<EnforcerStarted>,
    ) -> Self {
        // The postures that count come with each set.
        let state = State::new(membership.slot, workload, Postures::default())
            .seeing(wiring.visibility_of(membership.slot), wiring.select_visibility);
        Self {
            state,
            membership,
            wiring,
            roster,
            admission: None,
            told: None,
            not_held: Arc::default(),
            compiling: None,
            retrying: None,
            learning: None,
            watching: None,
        }
    }

    /// For those whom nobody has admitted: held to this, whatever a set says.
    #[must_use]
    pub fn holding_unknown(mut self, on: OnUnknownWorkload) -> Self {
        self.state = self.state.selecting(unknown::select(on));
        self
    }

    /// The same after a crash: it says so until a set is in force.
    #[must_use]
    pub fn again(mut self) -> Self {
        self.state.again();
        self
    }

    fn input(&mut self, input: Input, ctx: &mut Context<Self>) {
        let mut out = Vec::new();
        self.state.step(input, &mut out);
        self.run(out, ctx);
    }

    fn run(&mut self, effects: Vec<Effect>, ctx: &mut Context<Self>) {
        let mut effects = VecDeque::from(effects);
        while let Some(effect) = effects.pop_front() {
            if let Some(result) = self.perform(effect, ctx) {
                let mut more = Vec::new();
                self.state.step(result, &mut more);
                effects.extend(more);
            }
        }
        self.report();
    }

    fn say_visible(&self, visibility: Visibility) {
        let fact = VisibilityChanged { slot: self.membership.slot, visibility };
        if self.wiring.visible.iter().filter(|to| to.try_send(fact).is_err()).count() > 0 {
            tracing::error!(slot = fact.slot.0, "what is seen cannot be told: logs of execs are by an older word");
        }
    }

    /// Performs one effect; what is known at once comes back as input.
    fn perform(&mut self, effect: Effect, ctx: &mut Context<Self>) -> Option<Input> {
        let slot = self.membership.slot;
        let enforcement = &self.wiring.enforcement;
        palisade_world::fault_point("enforcer: before an effect");
        match effect {
            Effect::Admit => {
                let admitted = enforcement.admit(&self.membership).map_err(EnforcementFailed::from);
                // At its admission the kernel takes the default.
                self.say_visible(self.wiring.visibility_of(slot));
                Some(Input::Admitted(admitted))
            }
            Effect::LearnMounts(pid) => {
                Some(Input::MountsLearnt(enforcement.learn_mounts(slot, pid).map_err(EnforcementFailed::from)))
            }
            Effect::AskWhatHolds => enforcement.holds_otherwise(slot).then_some(Input::HoldsOtherwise),
            Effect::See(visibility, also) => {
                enforcement.set_visibility(slot, visibility, also);
                // What comes besides is nobody's log.
                self.say_visible(visibility);
                None
            }
            Effect::HoldDevices(rules) => self.hold_devices(&rules, ctx),
            Effect::Install(generation, policy) => Some(self.install(generation, policy)),
            Effect::Compile(generation, rules) => {
                self.compile(generation, rules, ctx);
                None
            }
            Effect::SayInstalled { generation, policy, installed, not_held } => {
                // Said once, not with each set that changes nothing of it.
                for part in not_held.iter().filter(|part| !self.not_held.contains(part)) {
                    let NotHeld { policy, what, reason, count, .. } = part;
                    tracing::warn!(slot = slot.0, %policy, what, reason, count, "a part of a policy is not held");
                }
                self.not_held = Arc::clone(&not_held);
                let fact = PolicyInstalled { slot, generation, policy, installed, not_held };
                for hearer in &self.wiring.installed {
                    if hearer.try_send(fact.clone()).is_err() {
                        tracing::error!(slot = slot.0, "an installed policy cannot be told: status shows an older one");
                    }
                }
                None
            }
            Effect::SayFailed(generation, reason) => {
                tracing::error!(slot = slot.0, generation = generation.0, %reason, "policy not in force");
                None
            }
            Effect::Answer(result) => {
                if let Some(Admission(answer)) = self.admission.take() {
                    // The hook has gone away by itself: its container does not start.
                    let _ = answer.send(result);
                }
                None
            }
            Effect::RetryAfter(wait) => {
                let again = ctx.run_later(wait, |enforcer, ctx| {
                    enforcer.retrying = None;
                    enforcer.input(Input::RetryDue, ctx);
                });
                replace(&mut self.retrying, again, ctx);
                None
            }
            Effect::LearnAgainAfter(wait) => {
                tracing::warn!(slot = slot.0, ?wait, "the mount table is not learnt yet");
                let again = ctx.run_later(wait, |enforcer, ctx| {
                    enforcer.learning = None;
                    enforcer.input(Input::LearnDue, ctx);
                });
                replace(&mut self.learning, again, ctx);
                None
            }
        }
    }

    /// The rules of the newest set, or none; from then on what is judged by them is told.
    fn hold_devices(&mut self, rules: &Arc<DeviceRules>, ctx: &mut Context<Self>) -> Option<Input> {
        let devices = self.wiring.devices.clone()?;
        devices.hold(rules);
        let is_watched = !rules.rules.is_empty();
        if is_watched && self.watching.is_none() {
            self.watching = Some(ctx.run_interval(DEVICES_EVERY, |enforcer, ctx| {
                let held = enforcer.look_at_devices();
                held.into_iter().for_each(|held| enforcer.input(held, ctx));
            }));
        }
        let held = self.look_at_devices();
        if !is_watched && let Some(watching) = self.watching.take() {
            ctx.cancel_future(watching);
        }
        held
    }

    /// Tells what was judged; how the rules are held.
    fn look_at_devices(&self) -> Option<Input> {
        let DevicesSeen { judged, lost, unheld } = self.wiring.devices.as_ref()?.seen();
        if lost > 0 {
            tracing::error!(lost, "USB devices were judged, and nobody was told in time what became of them");
        }
        if !judged.is_empty() {
            let fact = DevicesJudged { judged };
            if self.wiring.judged.iter().filter(|to| to.try_send(fact.clone()).is_err()).count() > 0 {
                tracing::error!(judged = fact.judged.len(), "what became of USB devices cannot be told");
            }
        }
        let mut held = self.wiring.enforcement.matrix().families.get(&Family::Device)?.clone();
        // A kernel without them says so itself.
        if let Some(reason) = unheld.filter(|_| held.tier == Tier::UsbAuthorization) {
            held.gaps.insert(0, Gap { what: "device".to_owned(), reason });
        }
        Some(Input::DevicesHeld(held))
    }

    fn install(&self, generation: Generation, policy: Option<Arc<CompiledPolicy>>) -> Input {
        let slot = self.membership.slot;
        let blob = policy.as_ref().map(|policy| Arc::clone(&policy.blob));
        // Before, not after: the first decision of this policy may be on its way before the call below returns.
        let fact = PolicyAnnounced { slot, generation, policy };
        if self.wiring.announced.iter().filter(|to| to.try_send(fact.clone()).is_err()).count() > 0 {
            tracing::error!(slot = slot.0, "a policy cannot be announced: its rules go without name in alerts");
        }
        let result = self.wiring.enforcement.install(slot, generation, blob.as_ref());
        if result.is_ok() {
            tracing::debug!(slot = slot.0, generation = generation.0, "policy in force");
        }
        Input::Installed(generation, result.map_err(EnforcementFailed::from))
    }

    /// Asks the compiler; a question about an older set is taken back, and the compiler skips it.
    fn compile(&mut self, generation: Generation, rules: Arc<WorkloadRules>, ctx: &mut Context<Self>) {
        let compiler = self.wiring.compiler.clone();
        let answer = async move { compiler.ask(CompilePolicy { rules }, COMPILE_WITHIN).await };
        let asked = ctx.spawn(answer.into_actor(self).map(move |answer, enforcer, ctx| {
            let input = match answer {
                Ok(result) => Input::Compiled(generation, result),
                Err(error) => Input::CompilerSilent(generation, format!("policy compiler: {error}")),
            };
            enforcer.compiling = None;
            enforcer.input(input, ctx);
        }));
        replace(&mut self.compiling, asked, ctx);
    }

    /// Tells the condition where it is another than the one told last; one that finds no room is told with the next step.
    fn report(&mut self) {
        let condition = self.state.condition();
        if condition == self.told {
            return;
        }
        let report = ConditionReported { name: format!("slot {}", self.membership.slot), condition: condition.clone() };
        if self.wiring.conditions.try_send(report).is_ok() {
            self.told = condition;
        }
    }
}

/// Of each kind of wait there is one at a time.
fn replace(waiting: &mut Option<SpawnHandle>, by: SpawnHandle, ctx: &mut Context<Enforcer>) {
    if let Some(before) = waiting.replace(by) {
        ctx.cancel_future(before);
    }
}

impl Actor for Enforcer {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let mut out = Vec::new();
        self.state.start(&mut out);
        self.run(out, ctx);
        if self.wiring.enforcement.holds_later() {
            ctx.run_interval(HELD_EVERY, |enforcer, ctx| enforcer.run(vec![Effect::AskWhatHolds], ctx));
        }
        if self.roster.try_send(EnforcerStarted(self.membership.slot)).is_err() {
            // Without the newest set this enforcer would hold its workload to nothing new: better to come again.
            panic!("the roster takes no message from the enforcer of slot {}", self.membership.slot);
        }
    }
}

impl Handler<AwaitAdmission> for Enforcer {
    type Result = ();

    fn handle(&mut self, message: AwaitAdmission, ctx: &mut Self::Context) {
        self.admission = Some(message.0);
        if self.state.in_force().is_some() {
            self.run(vec![Effect::Answer(Ok(()))], ctx);
        }
    }
}

impl Handler<PolicySetChanged> for Enforcer {
    type Result = ();

    fn handle(&mut self, message: PolicySetChanged, ctx: &mut Self::Context) {
        self.state.hold_to(message.generation, message.postures);
        self.input(Input::SetChanged(message.generation, message.set), ctx);
    }
}

impl Handler<SetVisibility> for Enforcer {
    type Result = ();

    fn handle(&mut self, message: SetVisibility, ctx: &mut Self::Context) {
        self.input(Input::SeeByDefault(message.of(self.membership.slot)), ctx);
    }
}

impl Handler<WorkloadStarted> for Enforcer {
    type Result = ();

    fn handle(&mut self, message: WorkloadStarted, ctx: &mut Self::Context) {
        self.input(Input::Running(message.pid), ctx);
    }
}
