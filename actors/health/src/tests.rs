//! The state alone.

use palisade_protocol::{Condition, ConditionReported};

use crate::state::{MAX_CONDITIONS, State};

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
