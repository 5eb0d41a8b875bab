//! The shell: looks at the directory on a timer and says what changed.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use actix::{Actor, AsyncContext as _, Handler};
use palisade_protocol::{ConditionReported, PolicySetChanged, PolicySetStatus, PolicySetStatusOf};
use palisade_supervision::{Context, Outbox};
use palisade_world::PolicyDirectory;

use crate::state::State;

/// The condition's name.
pub const CONDITION: &str = "policies";

/// Where facts go, and how often to look.
#[derive(Clone)]
pub struct Wiring {
    /// Who brings workloads to a new set.
    pub sets: Outbox<PolicySetChanged>,
    /// Who keeps conditions.
    pub conditions: Outbox<ConditionReported>,
    /// Between two looks at the directory.
    pub interval: Duration,
}

/// See the crate's doc.
pub struct PolicyKeeper {
    state: State,
    directory: Box<dyn PolicyDirectory>,
    wiring: Wiring,
    /// A set that the receiver had no room for; offered again at the next look.
    unsaid: Option<PolicySetChanged>,
    /// The last generation given out, for the keeper after this one.
    last: Arc<AtomicU32>,
}

impl PolicyKeeper {
    /// Keeps the policies of `directory`, from `state` on ([`State::after`] the last generation that was given out).
    #[must_use]
    pub fn new(directory: Box<dyn PolicyDirectory>, wiring: Wiring, state: State, last: Arc<AtomicU32>) -> Self {
        Self { state, directory, wiring, unsaid: None, last }
    }

    fn look(&mut self) {
        if self.directory.changed() {
            match self.directory.read() {
                Ok(reading) => {
                    let outcome = self.state.read(reading);
                    for found in &outcome.news {
                        tracing::warn!(problem = %found, "policy file");
                    }
                    if let Some(changed) = outcome.changed {
                        tracing::info!(
                            generation = changed.generation.0,
                            policies = changed.set.len(),
                            "policy set in force"
                        );
                        self.last.store(changed.generation.0, Ordering::Relaxed);
                        self.unsaid = Some(changed);
                    }
                }
                Err(error) => {
                    // Looked at several times a second: said once.
                    if self.state.unreadable(error.to_string()) {
                        tracing::warn!(%error, "policy directory; looked at again until it can be read");
                    }
                }
            }
            let report = ConditionReported { name: CONDITION.into(), condition: Some(self.state.condition()) };
            // A report that finds no room is superseded by the next one.
            let _ = self.wiring.conditions.try_send(report);
        }
        if let Some(changed) = self.unsaid.take()
            && let Err(refused) = self.wiring.sets.try_send(changed)
        {
            self.unsaid = Some(refused.into_message());
        }
    }
}

impl Actor for PolicyKeeper {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.unsaid = self.state.in_force();
        self.look();
        ctx.run_interval(self.wiring.interval, |keeper, _| keeper.look());
    }
}

impl Handler<PolicySetStatusOf> for PolicyKeeper {
    type Result = actix::MessageResult<PolicySetStatusOf>;

    fn handle(&mut self, _: PolicySetStatusOf, _: &mut Self::Context) -> Self::Result {
        let status: PolicySetStatus = self.state.status().clone();
        actix::MessageResult(status)
    }
}
