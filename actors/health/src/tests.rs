//! The state alone, and the actor beside a kernel that is impaired for a while.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use palisade_domain::{Generation, Slot};
use palisade_kernel_abi::blob::Blob;
use palisade_protocol::{Condition, ConditionReported, Readiness, ReadinessOf};
use palisade_supervision::{Address, ChildSpec, Kept, Supervisor};
use palisade_world::{Enforcement, EnforcementError, Gap, Installed, KernelMatrix, KernelMemory, Membership};

use crate::{
    Health,
    state::{ENFORCEMENT, MAX_CONDITIONS, State},
};

fn report(name: &str, condition: Option<Condition>) -> ConditionReported {
    ConditionReported { name: name.into(), condition }
}

#[test]
fn unit_health_is_ready_once_every_awaited_name_is_good_or_degraded() {
    let mut state = State::awaiting(["policies", "containers"]);
    state.step(report("policies", Some(Condition::Good)));
    assert!(!state.readiness().ready);
    state.step(report("containers", Some(Condition::Degraded("one file".into()))));
    assert!(state.readiness().ready);
    state.step(report("slot 3", Some(Condition::Failed("no".into()))));
    assert!(!state.readiness().ready);
    state.step(report("slot 3", None));
    assert!(state.readiness().ready);
}

#[test]
fn unit_health_counts_names_past_its_bound_and_shows_them() {
    let mut state = State::default();
    for number in 0..MAX_CONDITIONS + 2 {
        state.step(report(&number.to_string(), Some(Condition::Good)));
    }
    let readiness = state.readiness();
    assert_eq!(readiness.conditions.len(), MAX_CONDITIONS + 1);
    assert!(
        matches!(&readiness.conditions["conditions"], Condition::Degraded(reason) if reason.starts_with("2 reports"))
    );
}

#[derive(Default)]
struct Kernel {
    matrix: KernelMatrix,
    impairments: Mutex<Vec<Gap>>,
}

impl Enforcement for Kernel {
    fn matrix(&self) -> &KernelMatrix {
        &self.matrix
    }
    fn admit(&self, _: &Membership) -> Result<(), EnforcementError> {
        Ok(())
    }
    fn learn_mounts(&self, _: Slot, _: u32) -> Result<(), EnforcementError> {
        Ok(())
    }
    fn install(&self, _: Slot, _: Generation, _: Option<&Arc<Blob>>) -> Result<Installed, EnforcementError> {
        Ok(Installed::default())
    }
    fn release(&self, _: Slot) -> Result<(), EnforcementError> {
        Ok(())
    }
    fn memory(&self) -> KernelMemory {
        KernelMemory::default()
    }
    fn impairments(&self) -> Vec<Gap> {
        self.impairments.lock().expect("whole").clone()
    }
}

async fn in_a_second(health: &Address<Health>) -> Readiness {
    tokio::time::sleep(Duration::from_millis(1100)).await;
    health.ask(ReadinessOf, Duration::from_secs(1)).await.expect("it answers")
}

#[test]
fn unit_health_is_not_ready_while_what_the_matrix_promises_is_not_in_force() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().expect("made");
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let kernel = Arc::new(Kernel::default());
        let mut node = Supervisor::new("node");
        let (state, port) = (Kept::new(State::default()), Arc::<Kernel>::clone(&kernel));
        let health = node.add(ChildSpec::new("health", move |_| {
            Health::new(state.clone(), Arc::clone(&port) as Arc<dyn Enforcement>)
        }));
        let tree = node.start(|gave_up| panic!("{gave_up}")).await.expect("it starts");
        assert!(in_a_second(&health).await.ready);
        let gone = Gap { what: "process, file".into(), reason: "the responder is gone".into() };
        *kernel.impairments.lock().expect("whole") = vec![gone];
        let impaired = in_a_second(&health).await;
        assert!(!impaired.ready);
        assert_eq!(
            impaired.conditions[ENFORCEMENT],
            Condition::Failed("process, file: the responder is gone".into()),
            "by name, with the reason"
        );
        kernel.impairments.lock().expect("whole").clear();
        let mended = in_a_second(&health).await;
        assert!(mended.ready && mended.conditions[ENFORCEMENT] == Condition::Good, "{mended:?}");
        tree.stop().await;
    });
}
