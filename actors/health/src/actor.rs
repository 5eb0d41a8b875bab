//! The shell.

use actix::{Actor, Handler, MessageResult};
use palisade_protocol::{ConditionReported, InstalledPoliciesOf, PolicyInstalled, ReadinessOf, WorkloadGone};
use palisade_supervision::Context;

use crate::state::State;

/// See the crate's doc.
pub struct Health {
    state: State,
}

impl Health {
    /// Not ready before each of `names` has reported.
    #[must_use]
    pub fn awaiting<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        Self { state: State::awaiting(names) }
    }
}

impl Actor for Health {
    type Context = Context<Self>;
}

impl Handler<ConditionReported> for Health {
    type Result = ();

    fn handle(&mut self, message: ConditionReported, _: &mut Self::Context) {
        self.state.step(message);
    }
}

impl Handler<ReadinessOf> for Health {
    type Result = MessageResult<ReadinessOf>;

    fn handle(&mut self, _: ReadinessOf, _: &mut Self::Context) -> Self::Result {
        MessageResult(self.state.readiness())
    }
}

impl Handler<PolicyInstalled> for Health {
    type Result = ();

    fn handle(&mut self, message: PolicyInstalled, _: &mut Self::Context) {
        self.state.installed(message);
    }
}

impl Handler<WorkloadGone> for Health {
    type Result = ();

    fn handle(&mut self, message: WorkloadGone, _: &mut Self::Context) {
        self.state.released(message.slot);
    }
}

impl Handler<InstalledPoliciesOf> for Health {
    type Result = MessageResult<InstalledPoliciesOf>;

    fn handle(&mut self, _: InstalledPoliciesOf, _: &mut Self::Context) -> Self::Result {
        MessageResult(self.state.policies())
    }
}
