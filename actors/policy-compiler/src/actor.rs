//! The shell: gives the state its time.
//!
//! A build runs in the handler, so this actor belongs on a thread of its own: it keeps nobody else waiting, and its mailbox is
//! the queue of builds.

use std::sync::Arc;

use actix::{Actor, Handler};
use palisade_protocol::{CompilePolicy, CompiledPolicy, PolicyRefused};
use palisade_supervision::Context;
use palisade_world::Clock;

use crate::state::{State, later};

/// See the crate's doc.
pub struct PolicyCompiler {
    state: State,
    clock: Arc<dyn Clock>,
}

impl PolicyCompiler {
    /// Compiles within the bounds of `state`, by the time of `clock`.
    #[must_use]
    pub fn new(state: State, clock: Arc<dyn Clock>) -> Self {
        Self { state, clock }
    }
}

impl Actor for PolicyCompiler {
    type Context = Context<Self>;
}

impl Handler<CompilePolicy> for PolicyCompiler {
    type Result = Result<Arc<CompiledPolicy>, PolicyRefused>;

    fn handle(&mut self, command: CompilePolicy, _: &mut Self::Context) -> Self::Result {
        let now = self.clock.boot();
        let deadline = later(now, self.state.bounds().build_within);
        let clock = Arc::clone(&self.clock);
        let answer = self.state.step(now, &command, &mut move || clock.boot() >= deadline);
        match &answer {
            Ok(policy) => {
                tracing::debug!(blob = %policy.id, rules = policy.rules.len(), words = policy.blob.words().len(), "policy compiled");
            }
            Err(refusal) => tracing::warn!(reason = %refusal, "policy refused"),
        }
        answer
    }
}
