//! The shell.

use actix::{Actor, Handler, MessageResult};
use palisade_protocol::{ConditionReported, ReadinessOf};
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
