//! The actor under supervision, on a paused clock.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use palisade_domain::{Action, UnixNanos};
use palisade_protocol::CompilePolicy;
use palisade_supervision::{ChildSpec, Here, Supervisor};
use palisade_world::{BootNanos, Clock};

use super::{exact, file, pattern, rule, workload};
use crate::{
    PolicyCompiler,
    state::{Bounds, State},
};

const PATIENCE: Duration = Duration::from_secs(5);

/// Each look takes a millisecond.
#[derive(Default)]
struct SlowClock(AtomicU64);

impl Clock for SlowClock {
    fn boot(&self) -> BootNanos {
        BootNanos(self.0.fetch_add(1_000_000, Ordering::Relaxed))
    }

    fn unix(&self) -> UnixNanos {
        UnixNanos(0)
    }
}

#[test]
fn unit_policy_compiler_answers_within_its_time_and_goes_on_after_a_refusal() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let clock = Arc::new(SlowClock::default());
        let bounds = Bounds { build_within: Duration::from_millis(50), ..Bounds::default() };
        let mut node = Supervisor::new("node");
        let make = {
            let clock = Arc::clone(&clock);
            move |_: &mut _| PolicyCompiler::new(State::new(bounds), Arc::clone(&clock) as Arc<dyn Clock>)
        };
        let compiler = node.add(ChildSpec::new("policy-compiler", make).place(Here::place()));
        let tree = node.start(|gave_up| panic!("{gave_up}")).await.unwrap();

        let slow = (0..200).map(|n| rule(Action::Block, file(pattern(&format!("/**/x{n}/**/y{n}"))), &[])).collect();
        let command = CompilePolicy { rules: Arc::new(workload(slow)) };
        let refusal = compiler.ask(command, PATIENCE).await.unwrap().unwrap_err();
        assert!(refusal.reason.contains("the time for one build was up"), "{refusal}");

        let quick = workload(vec![rule(Action::Block, file(exact("/bin/x")), &[])]);
        let policy = compiler.ask(CompilePolicy { rules: Arc::new(quick) }, PATIENCE).await.unwrap().unwrap();
        assert_eq!(policy.id.0, policy.blob.digest());
        assert_eq!(policy.rules.len(), 1);
        tree.stop().await;
    });
}
