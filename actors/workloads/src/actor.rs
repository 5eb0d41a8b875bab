//! The shell: follows the runtime, one change at a time, and says what the state decides.

use std::{sync::Arc, time::Duration};

use actix::{Actor, ActorFutureExt as _, AsyncContext as _, Handler, MessageResult, WrapFuture as _};
use palisade_protocol::{
    Condition, ConditionReported, WorkloadAppeared, WorkloadGone, WorkloadStarted, WorkloadTable, WorkloadsOf,
};
use palisade_supervision::{Context, Outbox};
use palisade_world::{Admission, Clock, ContainerChange, Containers, ContainersError};

use crate::state::{Effect, GRACE, Input, State};

/// The condition's name.
pub const CONDITION: &str = "containers";
/// First wait before the runtime is tried again.
const RETRY_MIN: Duration = Duration::from_millis(250);
/// Longest wait: well below the ten seconds that a container's hook waits, for a runtime that is back starts containers at once.
const RETRY_MAX: Duration = Duration::from_secs(2);

/// Where facts go.
#[derive(Clone)]
pub struct Wiring {
    /// The roster of enforcers.
    pub appeared: Outbox<WorkloadAppeared>,
    /// The same.
    pub started: Outbox<WorkloadStarted>,
    /// The same.
    pub gone: Outbox<WorkloadGone>,
    /// Who names workloads in alerts.
    pub named: Outbox<palisade_protocol::WorkloadNamed>,
    /// Who keeps conditions.
    pub conditions: Outbox<ConditionReported>,
    /// Time.
    pub clock: Arc<dyn Clock>,
}

/// See the crate's doc.
pub struct Workloads {
    state: State,
    containers: Option<Box<dyn Containers>>,
    wiring: Wiring,
    retry: Duration,
    /// Why the runtime was last not there: what stays so is said once.
    away: Option<String>,
}

impl Workloads {
    /// Follows `containers` with slots 1 to `slots`.
    #[must_use]
    pub fn new(containers: Box<dyn Containers>, wiring: Wiring, slots: u32) -> Self {
        Self { state: State::new(slots), containers: Some(containers), wiring, retry: RETRY_MIN, away: None }
    }

    /// Waits for one change; the port travels into the future and back, since only one may poll it.
    fn follow(&mut self, ctx: &mut Context<Self>) {
        let Some(mut containers) = self.containers.take() else { return };
        let next = async move {
            let change = containers.next().await;
            (containers, change)
        };
        ctx.spawn(next.into_actor(self).map(|(containers, change), workloads, ctx| {
            workloads.containers = Some(containers);
            workloads.hear(change, ctx);
        }));
    }

    fn hear(&mut self, change: Result<ContainerChange, ContainersError>, ctx: &mut Context<Self>) {
        let (input, admission) = match change {
            Ok(ContainerChange::Starting(container, admission)) => (Input::Starting(container), Some(admission)),
            Ok(ContainerChange::Started(container)) => (Input::Started(container), None),
            Ok(ContainerChange::Stopped(id)) => (Input::Stopped(id), None),
            Ok(ContainerChange::Synchronized) => {
                self.retry = RETRY_MIN;
                self.away = None;
                (Input::Synchronized, None)
            }
            Err(error) => return self.disconnected(&error, ctx),
        };
        let unheld = self.state.unheld();
        let synchronized = matches!(input, Input::Synchronized);
        self.step(input, admission, ctx, Self::follow);
        if synchronized || (self.state.synchronized() && self.state.unheld() != unheld) {
            self.report(self.condition());
        }
    }

    /// One step of the state; `then`, when all it led to is with the roster.
    fn step(
        &mut self,
        input: Input,
        admission: Option<Admission>,
        ctx: &mut Context<Self>,
        then: fn(&mut Self, &mut Context<Self>),
    ) {
        let mut effects = Vec::new();
        let connecting = !self.state.synchronized();
        self.state.step(self.wiring.clock.boot(), input, &mut effects);
        if connecting {
            self.await_first_policies(&effects);
        }
        let wiring = self.wiring.clone();
        let say = async move { say(&wiring, effects, admission).await };
        // `wait`, not `spawn`: the next change is looked at only when this one is with the roster.
        ctx.wait(say.into_actor(self).map(move |(), workloads, ctx| then(workloads, ctx)));
    }

    /// What runs already is without policy until its enforcer says that it is in force, by a condition of the same name: until then the
    /// node is not ready. Said before the runtime's own condition is good.
    fn await_first_policies(&self, effects: &[Effect]) {
        for effect in effects {
            if let Effect::Appeared { membership, awaited: false, .. } = effect {
                let name = format!("slot {}", membership.slot);
                let condition = Some(Condition::Pending("its policy is not in force yet".into()));
                // One that finds no room is counted by its outbox, and superseded by the enforcer's.
                let _ = self.wiring.conditions.try_send(ConditionReported { name, condition });
            }
        }
    }

    /// Slots that rested may be free for containers that run without.
    fn look_for_slots(&mut self, ctx: &mut Context<Self>) {
        let unheld = self.state.unheld();
        if unheld > 0 {
            self.step(Input::Passed, None, ctx, |_, _| {});
            if self.state.synchronized() && self.state.unheld() != unheld {
                self.report(self.condition());
            }
        }
    }

    fn condition(&self) -> Condition {
        match self.state.unheld() {
            0 => Condition::Good,
            unheld => Condition::Degraded(format!(
                "{unheld} containers run without policy: this node holds at most {} workloads (--max-workloads)",
                self.state.bound()
            )),
        }
    }

    fn disconnected(&mut self, error: &ContainersError, ctx: &mut Context<Self>) {
        let reason = error.to_string();
        if self.away.as_ref() != Some(&reason) {
            tracing::warn!(%error, "container runtime; tried again until it is there");
        }
        self.report(Condition::Failed(reason.clone()));
        self.away = Some(reason);
        self.step(Input::Disconnected, None, ctx, |_, _| {});
        ctx.run_later(self.retry, Self::follow);
        self.retry = (self.retry * 2).min(RETRY_MAX);
    }

    fn report(&self, condition: Condition) {
        // A report that finds no room is superseded by the next one.
        let _ =
            self.wiring.conditions.try_send(ConditionReported { name: CONDITION.into(), condition: Some(condition) });
    }
}

async fn say(wiring: &Wiring, effects: Vec<Effect>, mut admission: Option<Admission>) {
    for effect in effects {
        let delivered = match effect {
            Effect::Appeared { workload, membership, awaited } => {
                let slot = membership.slot;
                let named = palisade_protocol::WorkloadNamed { slot, workload: Arc::clone(&workload) };
                let named = wiring.named.send(named).await.is_ok();
                let admission = if awaited { admission.take() } else { None };
                named && wiring.appeared.send(WorkloadAppeared { workload, membership, admission }).await.is_ok()
            }
            Effect::Running { slot, pid } => wiring.started.send(WorkloadStarted { slot, pid }).await.is_ok(),
            Effect::Gone { slot } => wiring.gone.send(WorkloadGone { slot }).await.is_ok(),
            Effect::Refused { container, reason } => {
                tracing::error!(%container, %reason, "container without policy");
                if let Some(Admission(answer)) = admission.take() {
                    // The hook has gone away by itself: its container does not start.
                    let _ = answer.send(Err(reason.to_string()));
                }
                true
            }
        };
        if !delivered {
            tracing::error!("the roster is over: this fact is lost, and its supervisor restarts all of us");
        }
    }
}

impl Actor for Workloads {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.report(Condition::Pending("connecting to the container runtime".into()));
        self.follow(ctx);
        ctx.run_interval(GRACE / 10, Self::look_for_slots);
    }
}

impl Handler<WorkloadsOf> for Workloads {
    type Result = MessageResult<WorkloadsOf>;

    fn handle(&mut self, _: WorkloadsOf, _: &mut Self::Context) -> Self::Result {
        MessageResult(WorkloadTable { workloads: self.state.workloads(), synchronized: self.state.synchronized() })
    }
}
