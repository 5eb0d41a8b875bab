//! The shell.

use actix::{Actor, Handler, MessageResult};
use palisade_protocol::{ConditionReported, InstalledPoliciesOf, PolicyInstalled, ReadinessOf, WorkloadGone};
use palisade_supervision::{Context, Kept};

use crate::state::State;

/// See the crate's doc.
pub struct Health {
    state: Kept<State>,
}

impl Health {
    /// Folds into a state that outlives this actor.
    #[must_use]
    pub fn new(state: Kept<State>) -> Self {
        Self { state }
    }
}

impl Actor for Health {
    type Context = Context<Self>;
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
