//! The rules of one document while it is lowered, and the steps that all families share.
//!
//! Invariant: a rule is pushed complete, with all that it inherits. A document yields at most [`MAX_RULES`] rules and parts that nothing
//! holds, and those of a file take at most [`MAX_FILE_RULE_BYTES`]: a rule repeats the tags and the message that it inherits, so that a
//! small text can make large rules.

use std::{collections::BTreeSet, sync::Arc};

use palisade_domain::{Action, PolicyKind, PolicyRef};

use crate::{
    common::{Common, Level},
    diagnostic::{Position, Problems, quoted},
    fields::{self, Fields},
    ir::{Matcher, Rule, SourceDirectory, Unheld},
    source,
    yaml::Node,
};

/// Most rules of one document, comma lists and port lists expanded: ten times what the largest known policies have.
pub const MAX_RULES: usize = 10_000;

/// Most bytes that the rules of one file take in memory: room for 100,000 ordinary ones.
pub const MAX_FILE_RULE_BYTES: usize = 64 << 20;

/// What the rules of a file have taken of [`MAX_FILE_RULE_BYTES`].
#[derive(Debug, Default)]
pub(crate) struct RuleBudget {
    bytes: usize,
}

impl RuleBudget {
    /// What is taken.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

/// One document being lowered.
pub(crate) struct Draft<'p> {
    pub policy: Arc<PolicyRef>,
    pub rules: Vec<Arc<Rule>>,
    pub unheld: Vec<Arc<Unheld>>,
    pub problems: &'p mut Problems,
    budget: &'p mut RuleBudget,
    /// Namespaces that a cluster policy names; those of other kinds have their own.
    selected_namespaces: Vec<String>,
    /// A bound on rules has been reported.
    full: bool,
}

/// Who must be acting for a rule to apply.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Sources {
    pub paths: BTreeSet<String>,
    pub directories: BTreeSet<SourceDirectory>,
}

/// One item of a list such as `matchPaths`, with what it inherits resolved.
pub(crate) struct Item<'n> {
    pub fields: Fields<'n>,
    pub common: Common,
}

impl<'p> Draft<'p> {
    pub fn new(policy: Arc<PolicyRef>, budget: &'p mut RuleBudget, problems: &'p mut Problems) -> Self {
        Self {
            policy,
            rules: Vec::new(),
            unheld: Vec::new(),
            problems,
            budget,
            selected_namespaces: Vec::new(),
            full: false,
        }
    }

    pub fn kind(&self) -> PolicyKind {
        self.policy.kind
    }

    /// The namespaces of the workloads that the policy is for, as far as it names them.
    pub fn namespaces(&self) -> impl Iterator<Item = &str> {
        let own = Some(self.policy.namespace.as_str()).filter(|namespace| !namespace.is_empty());
        own.into_iter().chain(self.selected_namespaces.iter().map(String::as_str))
    }

    /// The namespaces that a cluster policy names.
    pub fn select_namespaces(&mut self, names: Vec<String>) {
        self.selected_namespaces = names;
    }

    /// A part of the document that is understood and that nothing holds, on any kernel.
    pub fn unheld(&mut self, at: Position, place: &str, what: &str, reason: &str, instead: &str) {
        let policy = Arc::clone(&self.policy);
        let unheld = Unheld { policy, place: place.into(), what: what.into(), reason: reason.into() };
        if self.has_room(at, size_of::<Unheld>() + place.len() + what.len() + reason.len()) {
            self.problems.unenforceable(at, &quoted(place), reason, instead);
            self.unheld.push(Arc::new(unheld));
        }
    }

    /// Whether one more of so many bytes is within the bounds; the first that is not is reported.
    fn has_room(&mut self, at: Position, bytes: usize) -> bool {
        self.budget.bytes = self.budget.bytes.saturating_add(bytes);
        if self.rules.len() + self.unheld.len() >= MAX_RULES {
            let why = format!("at most {MAX_RULES} are taken from one policy, comma and port lists expanded");
            self.report_full(at, "the policy has too many rules", why);
            return false;
        }
        if self.budget.bytes > MAX_FILE_RULE_BYTES {
            let why = format!("those of one file take at most {MAX_FILE_RULE_BYTES} bytes, inherited text included");
            self.report_full(at, "the rules are too large", why);
            return false;
        }
        true
    }

    /// Refuses `ancestors`, which may stand at every level of a PalisadePolicy, and beside a source.
    pub fn refuse_ancestors(&mut self, fields: &mut Fields<'_>) {
        if self.kind() == PolicyKind::PalisadePolicy {
            let instead = "remove it; `fromSource` then holds for the acting executable itself";
            fields.refuse_unsupported(&["ancestors"], instead, self.problems);
        } else {
            let instead = "remove it; KubeArmor's kinds look at the acting executable itself";
            fields.refuse_misplaced("ancestors", "only a PalisadePolicy has it", instead, self.problems);
        }
    }

    /// Reads a family, if the spec has it: its common fields here, its lists by `read`.
    pub fn family<'n>(
        &mut self,
        spec: &mut Fields<'n>,
        name: &'static str,
        outer: &Common,
        read: impl FnOnce(&mut Fields<'n>, &Common, &mut Self),
    ) {
        let Some(node) = spec.get(name) else { return };
        let Some(mut family) = Fields::of(node, name, self.problems) else { return };
        let common = Common::read(&mut family, Level::Inner, self.problems).within(outer);
        self.refuse_ancestors(&mut family);
        read(&mut family, &common, self);
        family.close(self.problems);
    }

    /// Reads each item of a list of the family by `read`.
    pub fn items<'n>(
        &mut self,
        family: &mut Fields<'n>,
        list: &'static str,
        outer: &Common,
        mut read: impl FnMut(&mut Item<'n>, &mut Self),
    ) {
        let Some(node) = family.get(list) else { return };
        let place = family.place_of(list);
        for (index, node) in fields::list(node, &place, self.problems).iter().enumerate() {
            self.item(node, format!("{place}[{index}]"), outer, &mut read);
        }
    }

    /// Reads one item by `read`.
    pub fn item<'n>(
        &mut self,
        node: &'n Node,
        place: String,
        outer: &Common,
        mut read: impl FnMut(&mut Item<'n>, &mut Self),
    ) {
        if node.is_null() {
            fields::wrong_kind(
                node,
                &place,
                "a mapping",
                "write the item's fields after `- `, or remove it",
                self.problems,
            );
            return;
        }
        let Some(mut fields) = Fields::of(node, place, self.problems) else { return };
        let common = Common::read(&mut fields, Level::Inner, self.problems).within(outer);
        self.refuse_ancestors(&mut fields);
        let mut item = Item { fields, common };
        read(&mut item, self);
        item.fields.close(self.problems);
    }

    /// Adds the item's rule.
    pub fn push(&mut self, item: &Item<'_>, matcher: Matcher, sources: BTreeSet<String>) {
        let action = item.common.action.unwrap_or(Action::Block);
        self.add(item, matcher, Sources { paths: sources, ..Sources::default() }, action);
    }

    /// Adds the item's rule, which audits whatever action is written.
    pub fn push_auditing(&mut self, item: &Item<'_>, matcher: Matcher, sources: Sources) {
        self.add(item, matcher, sources, Action::Audit);
    }

    fn add(&mut self, item: &Item<'_>, matcher: Matcher, sources: Sources, action: Action) {
        let common = &item.common;
        let rule = Rule {
            policy: Arc::clone(&self.policy),
            place: item.fields.place.clone(),
            matcher,
            sources: sources.paths,
            source_directories: sources.directories,
            action,
            severity: common.severity,
            tags: common.tags.clone(),
            message: common.message.clone(),
        };
        if self.has_room(item.fields.at, bytes_of(&rule)) {
            self.rules.push(Arc::new(rule));
        }
    }

    /// Once a document.
    fn report_full(&mut self, at: Position, what: &str, why: String) {
        if !std::mem::replace(&mut self.full, true) {
            self.problems.error(at, what, why, "split it into several, or shorten its tags and messages");
        }
    }

    /// The item's `fromSource`.
    pub fn sources(&mut self, item: &mut Item<'_>) -> BTreeSet<String> {
        source::read(&mut item.fields, self)
    }
}

/// What a rule takes in memory, its matcher's short texts left out.
fn bytes_of(rule: &Rule) -> usize {
    let directories = rule.source_directories.iter().map(|source| &source.directory);
    let arguments = match &rule.matcher {
        Matcher::Process(path) => Some(&path.allowed_arguments),
        _ => None,
    };
    let texts = rule.tags.iter().chain(&rule.sources).chain(&rule.message).chain(directories);
    let texts = texts.chain(arguments.into_iter().flatten());
    let strings: usize = texts.map(|text| text.len() + size_of::<String>()).sum();
    size_of::<Rule>() + rule.place.len() + strings
}
