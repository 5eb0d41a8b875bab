//! The shell of one enforcer: does what the state asks, and feeds back what came of it.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use actix::{Actor, ActorFutureExt as _, AsyncContext as _, Handler, Message, WrapFuture as _};
use palisade_domain::Workload;
use palisade_policy::ir::Postures;
use palisade_protocol::{
    CompilePolicy, Condition, ConditionReported, PolicyInstalled, PolicySetChanged, WorkloadStarted,
};
use palisade_supervision::{Asker, Context, Outbox};
use palisade_world::{Admission, Enforcement, Membership};

use crate::{
    EnforcementFailed,
    state::{Effect, Input, State},
};

/// The compiler's own budget for one policy is half of this.
const COMPILE_WITHIN: Duration = Duration::from_secs(20);

/// What every enforcer of a node shares.
#[derive(Clone)]
pub struct Wiring {
    /// The kernel.
    pub enforcement: Arc<dyn Enforcement>,
    /// The compiler.
    pub compiler: Asker<CompilePolicy>,
    /// Who names rules in alerts, and who shows what is in force.
    pub installed: Vec<Outbox<PolicyInstalled>>,
    /// Who hears that a slot is released.
    pub released: Outbox<palisade_protocol::WorkloadGone>,
    /// Who keeps conditions.
    pub conditions: Outbox<ConditionReported>,
    /// Global default postures.
    pub postures: Postures,
}

/// An enforcer of this slot serves, and wants the newest set.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct EnforcerStarted(pub palisade_domain::Slot);

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
        let state = State::new(membership.slot, workload, wiring.postures);
        Self { state, membership, wiring, roster, admission: None }
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
    }

    /// Performs one effect; what is known at once comes back as input.
    fn perform(&mut self, effect: Effect, ctx: &mut Context<Self>) -> Option<Input> {
        let slot = self.membership.slot;
        let enforcement = &self.wiring.enforcement;
        match effect {
            Effect::Admit => {
                Some(Input::Admitted(enforcement.admit(&self.membership).map_err(EnforcementFailed::from)))
            }
            Effect::LearnMounts(pid) => {
                Some(Input::MountsLearnt(enforcement.learn_mounts(slot, pid).map_err(EnforcementFailed::from)))
            }
            Effect::Install(generation, policy) => {
                let blob = policy.as_ref().map(|policy| &policy.blob);
                let result = enforcement.install(slot, generation, blob).map_err(EnforcementFailed::from);
                Some(Input::Installed(generation, result))
            }
            Effect::Compile(generation, rules) => {
                let compiler = self.wiring.compiler.clone();
                let answer = async move { compiler.ask(CompilePolicy { rules }, COMPILE_WITHIN).await };
                ctx.spawn(answer.into_actor(self).map(move |answer, enforcer, ctx| {
                    let input = match answer {
                        Ok(result) => Input::Compiled(generation, result),
                        Err(error) => Input::CompilerSilent(generation, format!("policy compiler: {error}")),
                    };
                    enforcer.input(input, ctx);
                }));
                None
            }
            Effect::SayInstalled(generation, policy, installed) => {
                self.report(Condition::Good);
                let fact = PolicyInstalled { slot, generation, policy, installed };
                for hearer in &self.wiring.installed {
                    if hearer.try_send(fact.clone()).is_err() {
                        tracing::error!(
                            slot = slot.0,
                            "an installed policy cannot be told: its rules go without name in alerts or status"
                        );
                    }
                }
                None
            }
            Effect::SayFailed(generation, reason) => {
                tracing::error!(slot = slot.0, generation = generation.0, %reason, "policy not in force");
                self.report(Condition::Degraded(format!("generation {generation} is not in force: {reason}")));
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
                ctx.run_later(wait, |enforcer, ctx| enforcer.input(Input::RetryDue, ctx));
                None
            }
        }
    }

    fn report(&self, condition: Condition) {
        let name = format!("slot {}", self.membership.slot);
        // A report that finds no room is superseded by the next one.
        let _ = self.wiring.conditions.try_send(ConditionReported { name, condition: Some(condition) });
    }
}

impl Actor for Enforcer {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let mut out = Vec::new();
        self.state.start(&mut out);
        self.run(out, ctx);
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
        self.input(Input::SetChanged(message.generation, message.set), ctx);
    }
}

impl Handler<WorkloadStarted> for Enforcer {
    type Result = ();

    fn handle(&mut self, message: WorkloadStarted, ctx: &mut Self::Context) {
        self.input(Input::Running(message.pid), ctx);
    }
}
