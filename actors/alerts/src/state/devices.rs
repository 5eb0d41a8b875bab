//! Lines of USB devices: they come from who authorizes them, and not from records, for no program of the kernel decides them.

use palisade_domain::{
    Alert, AlertAction, DeviceDecision, DeviceRules, Family, Line, Operation, Slot, Subject, Tier, UsbDevice,
};
use palisade_world::DeviceJudged;

use super::State;
use crate::{
    compose::DeviceAct,
    rules::RuleIndex,
    silence::RuleKey,
    slot_names::{fields, workload},
};

impl State {
    /// What became of a device of the host.
    pub fn device(&mut self, judged: &DeviceJudged, unix_minus_boot_ns: u64, out: &mut Vec<Line>) {
        self.unix_minus_boot_ns = unix_minus_boot_ns;
        let DeviceJudged { rules, device, decision, verdict, reason, at } = judged;
        let key = RuleKey {
            generation: rules.generation,
            policy: 0,
            rule: decision.rule.map(RuleIndex::Device),
            family: Some(Family::Device),
            verdict: *verdict,
            by_posture: decision.by_posture,
        };
        let names = self.names.clone();
        let mut names = names.lock();
        names.devices = std::sync::Arc::clone(rules);
        if !self.is_said(Slot::HOST, &key, at.0, &names, out) {
            return;
        }
        let rule = rule_of(rules, decision);
        let time = self.time(at.0);
        let act = DeviceAct { device, class: decision.class, verdict: *verdict, by_posture: decision.by_posture };
        let kubearmor = fields(&self.node, &names, Slot::HOST, time).device(&act, rule);
        out.push(Line::Alert(Box::new(Alert {
            time,
            node: self.node.node.clone(),
            workload: workload(&names, Slot::HOST),
            process_chain: Vec::new(),
            subject: Subject { operation: Operation::UsbDevice, resource: resource(device), resource_cut: false },
            rule: rule.cloned(),
            action: AlertAction::of(decision.action, *verdict),
            family: Family::Device,
            generation: rules.generation,
            tier: Tier::UsbAuthorization,
            verdict: *verdict,
            reason: reason.clone(),
            kubearmor,
        })));
    }
}

fn rule_of<'a>(rules: &'a DeviceRules, decision: &DeviceDecision) -> Option<&'a palisade_domain::AlertRule> {
    decision.rule.and_then(|index| rules.rules.get(index)).map(|rule| &rule.rule)
}

/// Where it is, who made it, and all that it is.
fn resource(device: &UsbDevice) -> String {
    let classes: Vec<String> = device.classes.iter().map(ToString::to_string).collect();
    format!("usb {} {:04x}:{:04x} {}", device.name, device.vendor, device.product, classes.join(", "))
}
