//! The shell.

use std::{sync::Arc, time::Duration};

use actix::{Actor, AsyncContext as _, Handler, MessageResult};
use palisade_protocol::{ConditionReported, InstalledPoliciesOf, PolicyInstalled, ReadinessOf, WorkloadGone};
use palisade_supervision::{Context, Kept};
use palisade_world::Enforcement;

use crate::state::State;

/// How often the kernel's adapter is asked what is not in force.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// See the crate's doc.
pub struct Health {
    state: Kept<State>,
    enforcement: Arc<dyn Enforcement>,
}

impl Health {
    /// Folds into a state that outlives this actor, and asks `enforcement` how it is: nobody else lives as long.
    #[must_use]
    pub fn new(state: Kept<State>, enforcement: Arc<dyn Enforcement>) -> Self {
        Self { state, enforcement }
    }

    fn look(&self) {
        let impairments = self.enforcement.impairments();
        let mut state = self.state.lock();
        if !state.enforces(&impairments) {
            return;
        }
        match impairments.as_slice() {
            [] => tracing::info!("all that the kernel's matrix tells of is in force"),
            impairments => tracing::error!(?impairments, "not all that the kernel's matrix tells of is in force"),
        }
    }
}

impl Actor for Health {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.look();
        ctx.run_interval(LOOK_EVERY, |health, _| health.look());
    }
}

impl Handler<ConditionReported> for Health {
    type Result = ();

    fn handle(&mut self, message: ConditionReported, _: &mut Self::Context) {
        self.state.lock().step(message);
    }
}

impl Handler<ReadinessOf> for Health {
    type Result = MessageResult<ReadinessOf>;

    fn handle(&mut self, _: ReadinessOf, _: &mut Self::Context) -> Self::Result {
        MessageResult(self.state.lock().readiness())
    }
}

impl Handler<PolicyInstalled> for Health {
    type Result = ();

    fn handle(&mut self, message: PolicyInstalled, _: &mut Self::Context) {
        self.state.lock().installed(message);
    }
}

impl Handler<WorkloadGone> for Health {
    type Result = ();

    fn handle(&mut self, message: WorkloadGone, _: &mut Self::Context) {
        self.state.lock().released(message.slot);
    }
}

impl Handler<InstalledPoliciesOf> for Health {
    type Result = MessageResult<InstalledPoliciesOf>;

    fn handle(&mut self, _: InstalledPoliciesOf, _: &mut Self::Context) -> Self::Result {
        MessageResult(self.state.lock().policies())
    }
}
