//! The shell: gives the state its time.
//!
//! A build runs in the handler, so this actor belongs on a thread of its own: it keeps nobody else waiting, and its mailbox is
//! the queue of builds.
//!
//! Decision: a panic in a build is caught here and is the answer to its question. Left to the supervisor, one set of rules that a build
//! stumbles over, asked for by each of its workloads, would use up the restarts of the whole node.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use actix::{Actor, Handler};
use palisade_protocol::{CompilePolicy, CompiledPolicy, PolicyRefused};
use palisade_supervision::Context;
use palisade_world::Clock;

use crate::state::{Bounds, State, later};

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

    /// What is known may be half changed, and is known again when it is asked for. What the panic said is in the log already.
    fn stumbled(&mut self) -> PolicyRefused {
        let bounds: Bounds = *self.state.bounds();
        self.state = State::new(bounds);
        let reason = "compiling these rules failed by a fault of the compiler, which its log describes";
        PolicyRefused { reason: reason.into(), retry_after: None }
    }
}

impl Actor for PolicyCompiler {
    type Context = Context<Self>;
}

impl Handler<CompilePolicy> for PolicyCompiler {
    type Result = Result<Arc<CompiledPolicy>, PolicyRefused>;

    fn handle(&mut self, command: CompilePolicy, _: &mut Self::Context) -> Self::Result {
        palisade_world::fault_point("policy-compiler: before a build");
        let now = self.clock.boot();
        let deadline = later(now, self.state.bounds().build_within);
        let clock = Arc::clone(&self.clock);
        let mut budget = move || clock.boot() >= deadline;
        let built = catch_unwind(AssertUnwindSafe(|| self.state.step(now, &command, &mut budget)));
        let answer = built.unwrap_or_else(|_| Err(self.stumbled()));
        match &answer {
            Ok(policy) => {
                tracing::debug!(blob = %policy.id, rules = policy.rules.len(), words = policy.blob.words().len(), "policy compiled");
            }
            Err(refusal) => tracing::warn!(reason = %refusal, "policy refused"),
        }
        answer
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicBool, Ordering},
        time::Duration,
    };

    use palisade_domain::{Action, UnixNanos};
    use palisade_supervision::{ChildSpec, Supervisor};
    use palisade_world::BootNanos;

    use super::*;
    use crate::tests::{exact, file, rule, workload};

    /// Panics once a build looks at it, if told to: the first look of a question is the actor's own.
    #[derive(Default)]
    struct Trap(AtomicBool, AtomicBool);

    impl Clock for Trap {
        fn boot(&self) -> BootNanos {
            if self.0.load(Ordering::Relaxed) && self.1.fetch_xor(true, Ordering::Relaxed) {
                std::panic::resume_unwind(Box::new("a fault of the compiler"));
            }
            BootNanos(0)
        }
        fn unix(&self) -> UnixNanos {
            UnixNanos(0)
        }
    }

    fn asked() -> CompilePolicy {
        // Of no rules nothing is built that would look at the clock.
        let any = rule(Action::Block, file(exact("/bin/x")), &[]);
        CompilePolicy { rules: Arc::new(workload(vec![any])) }
    }

    #[test]
    fn unit_compiler_panic_in_a_build_refuses_its_rules_and_nothing_else() {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().expect("made");
        tokio::task::LocalSet::new().block_on(&runtime, async {
            let trap = Arc::new(Trap::default());
            let clock = Arc::clone(&trap);
            let mut node = Supervisor::new("node");
            let compiler = node.add(ChildSpec::new("policy-compiler", move |_| {
                PolicyCompiler::new(State::new(Bounds::default()), Arc::<Trap>::clone(&clock))
            }));
            let tree = node.start(|gave_up| panic!("{gave_up}")).await.expect("it starts");
            trap.0.store(true, Ordering::Relaxed);
            for _ in 0..20 {
                trap.1.store(false, Ordering::Relaxed);
                let refused = compiler.ask(asked(), Duration::from_secs(1)).await.expect("answered");
                assert!(refused.is_err_and(|refused| refused.reason.contains("fault of the compiler")));
            }
            trap.0.store(false, Ordering::Relaxed);
            let built = compiler.ask(asked(), Duration::from_secs(1)).await.expect("answered");
            assert!(built.is_ok(), "{built:?}");
            assert_eq!(tree.read().at(&["policy-compiler"]).expect("there").restarts, 0);
            tree.stop().await;
        });
    }
}
