//! Lines of USB devices.

use std::sync::Arc;

use palisade_domain::{
    Action, Alert, AlertAction, AlertRule, DeviceClass, DeviceDecision, DeviceMatch, DeviceRule, DeviceRules, Family,
    Generation, KubeArmorOperation, Line, LineType, Operation, Posture, Slot, Tier, UsbDevice, Verdict,
};
use palisade_protocol::WorkloadNamed;
use palisade_world::{BootNanos, DeviceJudged};

use crate::{state::State, tests::state_workload, throttle::Limit};

fn judged(verdict: Verdict, rule: Option<usize>) -> DeviceJudged {
    let class = DeviceClass { class: 8, sub_class: 6, protocol: 80 };
    let named = AlertRule {
        policy: "KubeArmorHostPolicy/no-sticks".into(),
        policy_name: "no-sticks".into(),
        place: "device.matchDevice[0]".into(),
        severity: Some(7),
        tags: vec!["USB".into()],
        message: Some("no sticks".into()),
    };
    let wanted = DeviceMatch { class: Some(8), sub_class: None, protocol: None, level: None };
    let rules = vec![DeviceRule { wanted, specificity: 100, action: Action::Block, rule: named }];
    DeviceJudged {
        rules: Arc::new(DeviceRules { generation: Generation(5), rules, posture: Posture::Block }),
        device: UsbDevice { name: "2-4.1".into(), number: 3, vendor: 0x46f4, product: 1, classes: vec![class] },
        decision: DeviceDecision { action: Action::Block, rule, by_posture: rule.is_none(), class },
        verdict,
        reason: (verdict == Verdict::Unenforceable).then(|| "it was there".into()),
        at: BootNanos(2_000_000_000),
    }
}

fn state() -> State {
    let mut state = State::new("n1".into());
    state.named(WorkloadNamed { slot: Slot::HOST, workload: state_workload("host") });
    state
}

fn alert(judged: &DeviceJudged) -> Alert {
    let mut out = Vec::new();
    state().device(judged, 1_000_000_000, &mut out);
    let [Line::Alert(alert)] = &out[..] else { panic!("{out:?}") };
    (**alert).clone()
}

#[test]
fn unit_alerts_of_a_device_say_policy_device_verdict_and_tier() {
    let alert = alert(&judged(Verdict::Denied, Some(0)));
    assert_eq!((alert.verdict, alert.tier, alert.family), (Verdict::Denied, Tier::UsbAuthorization, Family::Device));
    assert_eq!((alert.action, alert.generation, alert.time.0), (AlertAction::Block, Generation(5), 3_000_000_000));
    assert_eq!(alert.rule.as_ref().map(|rule| rule.place.as_str()), Some("device.matchDevice[0]"));
    assert_eq!(alert.subject.operation, Operation::UsbDevice);
    assert_eq!(alert.subject.resource, "usb 2-4.1 46f4:0001 MASS-STORAGE (8/6/80)");
    let said = &alert.kubearmor;
    assert_eq!((said.line_type, said.operation), (LineType::MatchedHostPolicy, KubeArmorOperation::Device));
    assert_eq!((said.policy_name.as_str(), said.severity.as_str()), ("no-sticks", "7"));
    assert_eq!((said.enforcer.as_str(), said.result.as_str()), ("USBDeviceHandler", "Permission denied"));
    assert_eq!(said.data, "Class=8 SubClass=6 Protocol=80 Level=2 SysPath=/sys/bus/usb/devices/2-4.1");
    assert!(said.process.is_none(), "nobody's process plugged it in");
}

#[test]
fn unit_alerts_of_a_device_that_goes_on_say_that_it_does_and_why() {
    let alert = alert(&judged(Verdict::Unenforceable, Some(0)));
    assert_eq!((alert.action, alert.reason.as_deref()), (AlertAction::AuditBlock, Some("it was there")));
    assert_eq!(alert.kubearmor.result, "Passed");
    let by_posture = self::alert(&judged(Verdict::Denied, None));
    assert_eq!((by_posture.rule, by_posture.kubearmor.policy_name.as_str()), (None, "DefaultPosture"));
}

#[test]
fn unit_alerts_of_devices_are_held_back_and_accounted_for_by_their_rule_like_all_others() {
    let mut state = state();
    state.set_throttle(Some(Limit { per_second: 2, silence_seconds: 1 }));
    let mut out = Vec::new();
    (0..9).for_each(|_| state.device(&judged(Verdict::Denied, Some(0)), 0, &mut out));
    assert_eq!(out.len(), 3, "two alerts, and that silence begins");
    out.clear();
    state.tick(4_000_000_000, 0, &mut out);
    let [Line::Throttling(line)] = &out[..] else { panic!("{out:?}") };
    let held: Vec<_> = line.held_back.iter().map(|held| (held.policy_name.as_str(), held.count)).collect();
    assert_eq!((line.held_back_total, held), (7, vec![("no-sticks", 7)]));
    assert_eq!(state.counts().raised.get(&Verdict::Denied), Some(&9));
}
