//! An explanation in words.

use std::{cmp::Reverse, fmt::Write as _, sync::Arc};

use palisade_domain::{Action, Family, Posture, WorkloadKind, text::printable};
use palisade_policy::{
    explain::{Considered, Part, Question, Says, Selection},
    ir::{Postures, Rule},
};
use palisade_protocol::NotHeld;

use super::{
    Answer, Telling,
    rule_words::{place, rank_words, rule_words},
};
/// In the order in which they are told.
const FAMILIES: [Family; 9] = [
    Family::Process,
    Family::File,
    Family::Network,
    Family::Dns,
    Family::Capabilities,
    Family::Ptrace,
    Family::Syscalls,
    Family::Presets,
    Family::Device,
];

/// A family of the workload with its rules, the most specific first.
pub(super) struct Told<'t> {
    pub(super) family: Family,
    pub(super) rules: Vec<&'t Arc<Rule>>,
    /// The first Allow that makes it an allow-list.
    pub(super) allow: Option<&'t Arc<Rule>>,
}

impl Telling {
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        self.write_policies(&mut text);
        self.write_postures(&mut text);
        for told in self.families() {
            self.write_family(&mut text, &told);
        }
        self.write_not_held(&mut text);
        if let Some(answer) = &self.answer {
            write_answer(&mut text, answer);
        }
        text
    }

    fn subject(&self) -> String {
        let workload = &self.workload;
        let labels: Vec<String> = workload.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let labels = if labels.is_empty() { "no labels".to_owned() } else { labels.join(", ") };
        match workload.kind {
            WorkloadKind::Host => format!("the host {} ({labels})", workload.name).replace("host  ", "host "),
            WorkloadKind::Container => {
                let container = if workload.container.is_empty() {
                    String::new()
                } else {
                    format!(", container {}", workload.container)
                };
                format!("a workload of the namespace {}{container} ({labels})", workload.namespace)
            }
        }
    }

    // Writing to a string cannot fail, here and below.
    fn write_policies(&self, text: &mut String) {
        let all: Vec<(String, Selection)> = self.selections().collect();
        let selected = all.iter().filter(|(_, selection)| matches!(selection, Selection::Selected(_))).count();
        // Each of the users' texts is made one line here: what is left to escape when all is printed are no line feeds.
        let _ = writeln!(text, "For {}: {selected} of {} policies.", printable(&self.subject()), all.len());
        for (policy, selection) in &all {
            let _ = match selection {
                Selection::Selected(reasons) if reasons.is_empty() => writeln!(text, "  + {policy}: it is for all"),
                Selection::Selected(reasons) => writeln!(text, "  + {policy}: {}", printable(&reasons.join("; "))),
                Selection::NotSelected(reason) => writeln!(text, "  - {policy}: {}", printable(reason)),
            };
        }
        for file in &self.unsound {
            let file = printable(file);
            let _ =
                writeln!(text, "  ! {file} is left out whole: a node holds its last sound version, if it ever had one");
        }
        for found in &self.left_out {
            let _ = writeln!(text, "  ! left out, for it is refused: {found}");
        }
    }

    fn write_postures(&self, text: &mut String) {
        let _ = writeln!(text, "\nPostures, which hold in allow-lists where no rule decides:");
        for (families, posture, from) in self.postures() {
            let _ = writeln!(text, "  {families}: {}, {from}", posture_word(posture));
        }
        let seen = self.set.visibility_of(&self.workload);
        let seen =
            seen.map_or_else(|| "what the node is told to see".to_owned(), |seen| format!("{seen}, by its namespace"));
        let _ = writeln!(text, "Seen of it, beside what rules decide: {seen}.");
    }

    /// Families, posture, and where it comes from.
    pub(super) fn postures(&self) -> Vec<(&'static str, Posture, String)> {
        let namespace = match self.workload.kind {
            WorkloadKind::Host => None,
            WorkloadKind::Container => self.set.namespace(&self.workload.namespace),
        };
        let from = |is_set: bool| match namespace.filter(|_| is_set) {
            Some(of) => format!("by Namespace/{} ({}:{})", of.name, of.file_name, of.at.line),
            None => "the default".to_owned(),
        };
        let Postures { file, network, capabilities, device } = self.rules.postures;
        let is_set = |of: fn(&palisade_policy::Namespace) -> bool| namespace.is_some_and(|namespace| of(namespace));
        let devices =
            (self.workload.kind == WorkloadKind::Host).then(|| ("USB devices", device, "the default".to_owned()));
        let of_all = [
            ("process and file", file, from(is_set(|namespace| namespace.file.is_some()))),
            ("network and DNS", network, from(is_set(|namespace| namespace.network.is_some()))),
            ("capabilities and ptrace", capabilities, from(is_set(|namespace| namespace.capabilities.is_some()))),
        ];
        of_all.into_iter().chain(devices).collect()
    }

    pub(super) fn families(&self) -> Vec<Told<'_>> {
        let told = |family: Family| {
            let mut rules: Vec<&Arc<Rule>> =
                self.rules.rules.iter().filter(|rule| rule.matcher.family() == family).collect();
            let allows = self.rules.postures.of(family).is_some();
            let allow = rules.iter().find(|rule| allows && rule.action == Action::Allow).copied();
            rules.sort_by_key(|rule| {
                (Reverse((rule.specificity(), rule.action)), rule.policy.clone(), rule.place.clone())
            });
            Told { family, rules, allow }
        };
        FAMILIES.into_iter().map(told).filter(|told| !told.rules.is_empty()).collect()
    }

    fn write_family(&self, text: &mut String, told: &Told<'_>) {
        let family = family_word(told.family);
        let kind = match (told.allow, self.rules.postures.of(told.family)) {
            (Some(allow), Some(posture)) => {
                let outcome = if posture == Posture::Block { "blocked" } else { "permitted, with an alert" };
                format!("an allow-list, by {} {}: what no rule names is {outcome}", allow.policy, allow.place)
            }
            _ => "no allow-list: what no rule names is permitted".to_owned(),
        };
        let _ = writeln!(text, "\n{family}: {kind}");
        for rule in &told.rules {
            let _ = writeln!(
                text,
                "  {}\n      {}; {}",
                rule_words(rule),
                rank_words(rule.specificity(), &rule.matcher),
                place(rule)
            );
        }
    }

    fn write_not_held(&self, text: &mut String) {
        let _ = match self.not_held.is_empty() {
            true => writeln!(text, "\nNothing of it is known not to be held ({}).", self.kernel.words()),
            false => writeln!(text, "\nNot held ({}):", self.kernel.words()),
        };
        for NotHeld { policy, what, reason, places, count } in &self.not_held {
            let _ = writeln!(text, "  {what}, of {policy} ({}; {count} in all): {reason}", places.join(", "));
        }
    }
}

fn write_answer(text: &mut String, answer: &Answer) {
    let questions = &answer.explanation.questions;
    for question in questions {
        let decision = &question.decision;
        let by = match (decision.by.first(), decision.by_posture) {
            (Some(rule), _) => format!("by {}", place(rule)),
            (None, true) => "by the default posture: no rule decides in this allow-list".to_owned(),
            (None, false) => "since no rule decides, and the family is no allow-list".to_owned(),
        };
        let _ = writeln!(text, "\nThe {}: {} {by}.", printable(&question.about), outcome_word(decision.action));
        let (near, far): (Vec<&Considered>, Vec<&Considered>) =
            question.rules.iter().partition(|considered| considered.part != Part::OtherObject);
        for considered in near {
            let _ = writeln!(
                text,
                "  {}\n      {}; {}",
                rule_words(&considered.rule),
                part_words(considered, question),
                place(&considered.rule)
            );
        }
        if !far.is_empty() {
            let _ = writeln!(text, "  {} more rules of the family are about something else", far.len());
        }
    }
    if questions.iter().any(|question| question.family == Family::Device) {
        let _ = writeln!(
            text,
            "\nThat is what the rules say of one thing that a device is. A device is held as a whole: the strictest answer of all its interfaces is its."
        );
    }
    if let [_, _] = questions.as_slice()
        && let Some(answer) = questions.get(answer.explanation.answer)
    {
        let _ = writeln!(text, "\nThe answer is that about the {}.", answer.about);
    }
    if let Some(disagreement) = &answer.disagreement {
        let _ = writeln!(text, "\n{disagreement}");
    }
}

fn posture_word(posture: Posture) -> &'static str {
    match posture {
        Posture::Audit => "audit",
        Posture::Block => "block",
    }
}

fn outcome_word(action: Action) -> &'static str {
    match action {
        Action::Allow => "permitted",
        Action::Audit => "permitted, with an alert,",
        Action::Block => "blocked",
    }
}

fn family_word(family: Family) -> &'static str {
    match family {
        Family::Process => "Execution",
        Family::File => "Files",
        Family::Network => "Network",
        Family::Ptrace => "Tracing",
        Family::Capabilities => "Capabilities",
        Family::Syscalls => "System calls",
        Family::Dns => "DNS",
        Family::Presets => "Presets",
        Family::Device => "USB devices",
    }
}

pub(super) fn part_words(considered: &Considered, question: &Question) -> String {
    match considered.part {
        Part::Decides(says) => {
            let strictest = question.rules.iter().filter_map(|other| match other.part {
                Part::Decides(says) => Some(says),
                _ => None,
            });
            let said = match says {
                Says::Block => "blocks it",
                Says::Audit => "audits it",
                Says::Permit if considered.rule.action == Action::Allow => "permits it",
                Says::Permit => "leaves it out by what it allows",
                Says::Nothing => "has nothing to say, for what it allows is not met",
            };
            match strictest.max() > Some(says) {
                true => format!("among the most specific, {said}; a stricter one of them decides"),
                false => format!("decides: {said}"),
            }
        }
        Part::LessSpecific => {
            let highest = question.rules.iter().find(|other| matches!(other.part, Part::Decides(_)));
            let rank = highest.map(|other| rank_words(other.specificity, &other.rule.matcher)).unwrap_or_default();
            let own = rank_words(considered.specificity, &considered.rule.matcher);
            format!("matches, but has no say: {own} is less specific than {rank}")
        }
        Part::OtherSource => "is about it, but only by other executables".to_owned(),
        Part::OtherObject => "is about something else".to_owned(),
    }
}
