//! The shell: follows the runtime, one change at a time, and says what the state decides.

use std::{sync::Arc, time::Duration};

use actix::{Actor, ActorFutureExt as _, AsyncContext as _, Handler, MessageResult, WrapFuture as _};
use palisade_domain::UnixNanos;
use palisade_protocol::{
    Condition, ConditionReported, WorkloadAppeared, WorkloadGone, WorkloadStarted, WorkloadTable, WorkloadsOf,
};
use palisade_supervision::{Context, Kept, Outbox};
use palisade_world::{Admission, BootNanos, Clock, ContainerChange, Containers, ContainersError};

use crate::state::{Effect, GRACE, Input, State};

/// The condition's name.
pub const CONDITION: &str = "containers";
/// First wait before the runtime is tried again.
const RETRY_MIN: Duration = Duration::from_millis(250);
/// Longest wait: well below the ten seconds that a container's hook waits, for a runtime that is back starts containers at once.
const RETRY_MAX: Duration = Duration::from_secs(2);

/// How often the condition is said again, so that a report that was lost is made good.
const REPORT_EVERY: Duration = Duration::from_secs(5);

/// Where facts go.
#[derive(Clone)]
pub struct Wiring {
    /// The roster of enforcers.
    pub appeared: Outbox<WorkloadAppeared>,
    /// The same.
    pub started: Outbox<WorkloadStarted>,
    /// The same.
    pub gone: Outbox<WorkloadGone>,
    /// Who names workloads in alerts, and who records.
    pub named: Vec<Outbox<palisade_protocol::WorkloadNamed>>,
    /// Who records where they are.
    pub placed: Vec<Outbox<palisade_protocol::WorkloadPlaced>>,
    /// Who keeps conditions.
    pub conditions: Outbox<ConditionReported>,
    /// Time.
    pub clock: Arc<dyn Clock>,
}

/// See the crate's doc.
pub struct Workloads {
    state: Kept<State>,
    containers: Option<Box<dyn Containers>>,
    wiring: Wiring,
    retry: Duration,
    /// Why the runtime is not there, and since when: what stays so is said once.
    away: Option<Away>,
    /// What following the runtime lacks, as the adapter says.
    limited: Option<String>,
}

/// The runtime does not answer.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Away {
    reason: String,
    since: UnixNanos,
}

impl Workloads {
    /// Follows `containers` by slots that outlive this actor.
    #[must_use]
    pub fn new(containers: Box<dyn Containers>, wiring: Wiring, state: Kept<State>) -> Self {
        state.lock().restarted();
        Self { state, containers: Some(containers), wiring, retry: RETRY_MIN, away: None, limited: None }
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
                (Input::Synchronized, None)
            }
            Ok(ContainerChange::Limited(limited)) => return self.limit(limited, ctx),
            Err(error) => return self.disconnected(&error, ctx),
        };
        let before = self.condition();
        self.step(input, admission, ctx, Self::follow);
        if self.condition() != before {
            self.report();
        }
    }

    fn limit(&mut self, limited: Option<String>, ctx: &mut Context<Self>) {
        let before = self.condition();
        self.limited = limited;
        if self.condition() != before {
            self.report();
        }
        self.follow(ctx);
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
        if matches!(input, Input::Synchronized) {
            self.away = None;
        }
        let connecting = !self.state.lock().synchronized();
        self.state.lock().step(self.wiring.clock.boot(), input, &mut effects);
        palisade_world::fault_point("workloads: between a step and its effects");
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
        let before = self.condition();
        if self.state.lock().unheld() > 0 {
            self.step(Input::Passed, None, ctx, |_, _| {});
        }
        if self.condition() != before {
            self.report();
        }
    }

    fn condition(&self) -> Condition {
        let state = self.state.lock();
        match (&self.away, state.synchronized(), state.unheld()) {
            // What ran is held as before, and hooks are refused: it works with less.
            (Some(away), ..) if state.was_synchronized() => Condition::Degraded(format!(
                "{}, since {}: {} containers are held as they were; new ones wait in their hooks, or are known by their cgroups",
                away.reason,
                utc(away.since),
                state.held(),
            )),
            (Some(away), ..) => Condition::Failed(format!("{}, since {}", away.reason, utc(away.since))),
            (None, false, _) => Condition::Pending("connecting to the container runtime".into()),
            (None, true, 0) => self.limited.clone().map_or(Condition::Good, Condition::Degraded),
            (None, true, unheld) => Condition::Degraded(format!(
                "{unheld} containers run without policy: this node holds at most {} workloads (--max-workloads){}",
                state.bound(),
                self.limited.as_ref().map(|limited| format!("; {limited}")).unwrap_or_default()
            )),
        }
    }

    fn disconnected(&mut self, error: &ContainersError, ctx: &mut Context<Self>) {
        let reason = error.to_string();
        if self.away.as_ref().is_none_or(|away| away.reason != reason) {
            tracing::warn!(%error, "container runtime; tried again until it is there");
        }
        // It may fail in another way each time it is tried: it is away since the first.
        let since = self.away.as_ref().map_or_else(|| self.wiring.clock.unix(), |away| away.since);
        self.away = Some(Away { reason, since });
        self.step(Input::Disconnected, None, ctx, |_, _| {});
        self.report();
        ctx.run_later(jittered(self.retry, self.wiring.clock.boot()), Self::follow);
        self.retry = (self.retry * 2).min(RETRY_MAX);
    }

    fn report(&self) {
        // A report that finds no room is superseded by the next one, in seconds.
        let report = ConditionReported { name: CONDITION.into(), condition: Some(self.condition()) };
        let _ = self.wiring.conditions.try_send(report);
    }
}

/// Up to a quarter more, by the clock's nanoseconds: nodes that lost their runtimes together (an upgrade of all) do not ask together.
fn jittered(wait: Duration, now: BootNanos) -> Duration {
    let share = u32::try_from(now.0 / 1000 % 256).unwrap_or(0);
    wait + wait / 4 * share / 256
}

/// `2026-11-25T21:37:41Z`: days to a date by Hinnant's algorithm (years begin in March).
fn utc(at: UnixNanos) -> String {
    let seconds = at.0 / 1_000_000_000;
    let (days, second) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let (day, month) = (day - (153 * month + 2) / 5 + 1, if month < 10 { month + 3 } else { month - 9 });
    let year = era * 400 + year + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", second / 3600, second / 60 % 60, second % 60)
}

async fn say(wiring: &Wiring, effects: Vec<Effect>, mut admission: Option<Admission>) {
    for effect in effects {
        let delivered = match effect {
            Effect::Appeared { workload, membership, awaited } => {
                let slot = membership.slot;
                let named = palisade_protocol::WorkloadNamed { slot, workload: Arc::clone(&workload) };
                // Not waited for: who names workloads in alerts never delays who holds them.
                if wiring.named.iter().filter(|to| to.try_send(named.clone()).is_err()).count() > 0 {
                    tracing::error!(slot = slot.0, "a workload cannot be told: alerts name it by its slot");
                }
                let placed = palisade_protocol::WorkloadPlaced { membership: membership.clone() };
                // A recorder that is behind names the workload all the same.
                wiring.placed.iter().for_each(|to| drop(to.try_send(placed.clone())));
                let admission = if awaited { admission.take() } else { None };
                wiring.appeared.send(WorkloadAppeared { workload, membership, admission }).await.is_ok()
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
        self.report();
        ctx.run_interval(REPORT_EVERY, |workloads, _| workloads.report());
        self.follow(ctx);
        ctx.run_interval(GRACE / 10, Self::look_for_slots);
    }
}

impl Handler<WorkloadsOf> for Workloads {
    type Result = MessageResult<WorkloadsOf>;

    fn handle(&mut self, _: WorkloadsOf, _: &mut Self::Context) -> Self::Result {
        let state = self.state.lock();
        MessageResult(WorkloadTable {
            workloads: state.workloads(),
            synchronized: state.synchronized(),
            unheld: state.unheld(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unit_workloads_times_are_utc() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_735_689_599, "2024-12-31T23:59:59Z"),
            (1_795_642_661, "2026-11-25T21:37:41Z"),
        ] {
            assert_eq!(utc(UnixNanos(seconds * 1_000_000_000)), expected);
        }
    }

    #[test]
    fn unit_workloads_wait_a_quarter_more_at_most() {
        let waits = (0..1000).map(|micros| jittered(RETRY_MAX, BootNanos(micros * 1000)));
        let (least, most) = waits.fold((Duration::MAX, Duration::ZERO), |(a, b), wait| (a.min(wait), b.max(wait)));
        assert_eq!(least, RETRY_MAX);
        assert!(most > RETRY_MAX * 6 / 5 && most <= RETRY_MAX * 5 / 4, "{most:?}");
    }
}
