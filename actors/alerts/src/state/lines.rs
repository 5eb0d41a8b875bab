//! The lines of one record: put together from what a state knows.

use std::sync::Arc;

use palisade_domain::{Action, Alert, AlertAction, Family, Line, Log, NotHeldPart, Slot, Tier};
use palisade_kernel_abi::record::{Body, Record};
use palisade_world::visibility::class_of_kind;

use super::{State, passwd_of};
use crate::{
    compose::{self, Act, Actor, Decided},
    processes::Image,
    rules::RuleIndex,
    silence::RuleKey,
    slot_names::{Names, fields, workload, workload_of},
    unheld,
};

/// By what an alert is raised.
pub(super) struct By<'a> {
    pub(super) key: &'a RuleKey,
    pub(super) family: Family,
    pub(super) action: Action,
    pub(super) tier: Tier,
    pub(super) reason: Option<String>,
}

impl State {
    pub(super) fn not_held(&self, slot: Slot, key: &RuleKey, more: usize, boot_ns: u64, names: &Names) -> Line {
        let part = match key.rule {
            Some(RuleIndex::NotHeld(at)) => names.unheld.part(slot, key.generation, at),
            _ => None,
        };
        let (rule, what, reason, count) = match part {
            Some(part) => (Some(unheld::rule_of(part)), part.what.clone(), part.reason.clone(), part.count),
            None => {
                (None, String::new(), "further parts of its policies are not held: its status lists them".into(), more)
            }
        };
        let message = if rule.is_some() { format!("not held: {what}: {reason}") } else { format!("{count} {reason}") };
        let policy_name = rule.as_ref().map(|rule| rule.policy_name.clone()).unwrap_or_default();
        let time = self.time(boot_ns);
        Line::NotHeld(Box::new(NotHeldPart {
            time,
            node: self.node.node.clone(),
            workload: workload(names, slot),
            rule,
            what,
            reason,
            count: count as u64,
            generation: key.generation,
            verdict: key.verdict,
            kubearmor: fields(&self.node, names, slot, time).not_held(policy_name, message),
        }))
    }

    pub(super) fn alert(
        &mut self,
        record: &Record<'_>,
        by: By<'_>,
        caller: Option<&Arc<Image>>,
        names: &Names,
    ) -> Option<Line> {
        let By { key, family, action, tier, reason } = by;
        let act = compose::act(record, self.unix_minus_boot_ns)?;
        let slot = Slot(record.header.slot);
        let rule = names.rule(slot, key);
        self.counts.unattributed += u64::from(key.rule.is_some() && rule.is_none());
        let time = self.time(record.header.boot_ns);
        let process_chain = self.processes.chain(&record.header);
        let actor = self.actor(record, caller);
        let decided = Decided { verdict: key.verdict, tier, rule: rule.as_ref(), by_posture: key.by_posture };
        let kubearmor = fields(&self.node, names, slot, time).alert(record, &act, actor, &decided);
        Some(Line::Alert(Box::new(Alert {
            time,
            node: self.node.node.clone(),
            workload: workload_of(names, &record.header),
            process_chain,
            subject: act.subject,
            rule,
            action: AlertAction::of(action, key.verdict),
            family,
            generation: key.generation,
            tier,
            verdict: key.verdict,
            reason,
            kubearmor,
        })))
    }

    pub(super) fn log(&mut self, record: &Record<'_>, caller: Option<&Arc<Image>>) -> Option<Line> {
        // The kernel tells of every exec, for the chains, and of what rules are decided by: it is a log only where somebody asked for it.
        let slot = Slot(record.header.slot);
        let kind = if let Body::Folded(folded) = &record.body { folded.of_kind } else { record.kind() };
        if record.decision.is_none() && !class_of_kind(kind).is_some_and(|class| self.visibility_of(slot).has(class)) {
            return None;
        }
        let act: Act = compose::act(record, self.unix_minus_boot_ns)?;
        let time = self.time(record.header.boot_ns);
        let process_chain = self.processes.chain_of_a_log(&record.header);
        let actor = self.actor(record, caller);
        let names = self.names.lock();
        let kubearmor = fields(&self.node, &names, slot, time).log(record, &act, actor);
        self.counts.logs += 1;
        Some(Line::Log(Box::new(Log {
            time,
            node: self.node.node.clone(),
            workload: workload_of(&names, &record.header),
            process_chain,
            subject: act.subject,
            kubearmor,
        })))
    }

    /// Who acted. An exec that was done is the caller's act, which is `caller` then; where that is not known, it is its parent's.
    fn actor(&mut self, record: &Record<'_>, caller: Option<&Arc<Image>>) -> Actor {
        let header = &record.header;
        self.want_users(header);
        let username = passwd_of(header).and_then(|of| self.users.name(of, header.uid)).unwrap_or_default().to_owned();
        let identity = self.processes.identity(header);
        let parent = self.processes.parent_image(header);
        let parent = parent.as_deref();
        let own = self.acting(record, caller);
        let own = own.as_deref();
        Actor {
            identity,
            source: own.map_or_else(|| palisade_domain::text::lossless(header.comm_bytes()), Image::command_line),
            executable: own.map(|own| own.executable().to_owned()).unwrap_or_default(),
            parent_executable: parent.map(|parent| parent.executable().to_owned()).unwrap_or_default(),
            username,
        }
    }

    /// What acted; of an exec that was done the caller, or else its parent.
    pub(super) fn acting(&self, record: &Record<'_>, caller: Option<&Arc<Image>>) -> Option<Arc<Image>> {
        if matches!(record.body, Body::Exec(_)) && record.decision.is_none() {
            return caller.cloned().or_else(|| self.processes.parent_image(&record.header));
        }
        self.processes.image(&record.header)
    }
}
