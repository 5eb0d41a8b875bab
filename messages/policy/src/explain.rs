//! What rules say of one act, rule by rule: which match, which decide, and why the others have no say.
//!
//! Invariant: an explanation ends in the decision that the compiled policy makes of the act. A property holds the two equal, and
//! `palisade policy explain` checks each of its answers against the very blob that the kernel would get. The order is that of the verdict
//! semantics in the doc of `actors/policy-compiler`; here it is applied to documents, so that there is a reason at each step.
//!
//! Decision: a connection is two questions, as it is for the kernel: the socket, then the destination.

mod matching;
mod selection;

use std::{collections::BTreeSet, sync::Arc};

use palisade_domain::{Action, Family, Posture};

use matching::{Object, counts, domain_of, is_about};
pub use selection::{Selection, selection};

use crate::{
    ir::{Matcher, PathRule, Rule, SocketMatch, Specificity, WorkloadRules},
    policy_test::{Act, DeviceAct},
};

/// An act explained.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// One, or two for a connection: its socket and its destination.
    pub questions: Vec<Question>,
    /// Which of the questions is the answer.
    pub answer: usize,
}

/// One table's question: every rule that counts in it, in the order in which they decide.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// What is asked about, in words: `execution of /bin/sh`.
    pub about: String,
    /// Whose allow-list and posture hold.
    pub family: Family,
    /// Some Allow rule counts.
    pub is_allow_list: bool,
    /// What holds where no rule decides; `None` where nothing does.
    pub posture: Option<Posture>,
    /// Rules that match first, the most specific first; then those that do not.
    pub rules: Vec<Considered>,
    /// What comes of it.
    pub decision: Decided,
}

/// One rule of a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Considered {
    /// Which rule.
    pub rule: Arc<Rule>,
    /// Where it stands among those that match.
    pub specificity: Specificity,
    /// What became of it.
    pub part: Part,
}

/// The part that a rule plays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// It is among the most specific ones that match.
    Decides(Says),
    /// It matches, and a more specific one decides.
    LessSpecific,
    /// It is about what is done, but not about who does it.
    OtherSource,
    /// It is about something else.
    OtherObject,
}

/// What a deciding rule says. Greater decides over smaller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Says {
    /// An Allow whose modifiers are not met: the posture.
    Nothing,
    /// An Allow, or what a Block or an Audit with modifiers leaves out.
    Permit,
    /// An Audit.
    Audit,
    /// A Block.
    Block,
}

/// What comes of a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decided {
    /// Permitted (`Allow`), permitted with an alert, or blocked.
    pub action: Action,
    /// By posture: the family is an allow-list and no rule decides.
    pub by_posture: bool,
    /// The rules that agree on it, in document order; the alert names one. Empty where none decides.
    pub by: Vec<Arc<Rule>>,
}

/// Who acts, and under which circumstances.
struct Circumstances<'a> {
    source: Option<&'a str>,
    owner: bool,
    write: bool,
    terminal: bool,
    /// After `argv[0]`.
    arguments: &'a [String],
}

/// Explains what the rules say of an act.
#[must_use]
pub fn explain(rules: &WorkloadRules, act: &Act) -> Explanation {
    let who = circumstances(act);
    let ask = |about: String, object: &Object<'_>| question(rules, about, object, &who);
    let questions = match act {
        Act::Exec(exec) => vec![ask(format!("execution of {}", exec.path), &Object::Exec(&exec.path))],
        Act::Open(open) => {
            let mode = if open.write { "writing" } else { "reading" };
            vec![ask(format!("opening of {} for {mode}", open.path), &Object::Open(&open.path))]
        }
        Act::Ptrace(ptrace) => vec![ask(format!("tracing of {}", ptrace.target), &Object::Trace(&ptrace.target))],
        Act::Dns(dns) => vec![ask(format!("question to DNS for {}", dns.name), &Object::Domain(&dns.name))],
        Act::Capability(capability) => {
            vec![ask(format!("use of the capability {}", capability.name), &Object::Capability(capability.number))]
        }
        Act::Syscall(call) => {
            let object = Object::Syscall { number: call.number, number32: call.number32, path: call.path.as_deref() };
            vec![ask(format!("system call {}", call.name), &object)]
        }
        Act::Preset(act) => {
            let about = format!("act that the preset {} is about", act.preset.name());
            vec![ask(about, &Object::Preset(act.preset))]
        }
        Act::Device(device) => vec![ask(device_words(device), &Object::Device(device))],
        Act::Socket(socket) => {
            let (domain, kind, protocol) = (socket.domain, socket.kind, socket.protocol);
            vec![ask(socket_words(domain, kind, protocol), &Object::Socket { domain, kind, protocol })]
        }
        Act::Connect(connect) => {
            let (kind, protocol) = (connect.kind, connect.protocol);
            let domain = domain_of(connect.address);
            let (address, port) = (connect.address, connect.port);
            let about = format!("connection to {}", std::net::SocketAddr::new(address, port));
            vec![
                ask(socket_words(domain, kind, protocol), &Object::Socket { domain, kind, protocol }),
                ask(about, &Object::Connection { address, port, kind, protocol }),
            ]
        }
    };
    let answer = answer(&questions);
    Explanation { questions, answer }
}

/// A Block of the socket, for no connection follows it; else the stricter, and the connection where they are equal.
fn answer(questions: &[Question]) -> usize {
    match questions {
        [socket, connection] => {
            let (socket, connection) = (socket.decision.action, connection.decision.action);
            usize::from(socket != Action::Block && socket <= connection)
        }
        _ => 0,
    }
}

fn socket_words(domain: u8, kind: u8, protocol: u8) -> String {
    format!("making of a socket of family {domain}, type {kind}, protocol {protocol}")
}

fn device_words(device: &DeviceAct) -> String {
    let DeviceAct { class, sub_class, protocol, level } = device;
    format!("USB device of class {class:#04x}, subclass {sub_class}, protocol {protocol} at level {level}")
}

fn circumstances(act: &Act) -> Circumstances<'_> {
    let none = |source| Circumstances { source, owner: false, write: false, terminal: false, arguments: &[] };
    match act {
        Act::Exec(exec) => Circumstances {
            owner: exec.uid == exec.owner,
            terminal: exec.tty,
            arguments: exec.args.get(1..).unwrap_or_default(),
            ..none(exec.source.as_deref())
        },
        Act::Open(open) => Circumstances {
            owner: open.uid == open.owner,
            write: open.write,
            terminal: open.tty,
            ..none(open.source.as_deref())
        },
        Act::Socket(socket) => Circumstances { terminal: socket.tty, ..none(socket.source.as_deref()) },
        Act::Connect(connect) => Circumstances { terminal: connect.tty, ..none(connect.source.as_deref()) },
        Act::Ptrace(ptrace) => none(ptrace.source.as_deref()),
        Act::Dns(dns) => none(dns.source.as_deref()),
        Act::Capability(capability) => none(capability.source.as_deref()),
        Act::Syscall(call) => none(call.source.as_deref()),
        Act::Preset(_) | Act::Device(_) => none(None),
    }
}

fn question(rules: &WorkloadRules, about: String, object: &Object<'_>, who: &Circumstances<'_>) -> Question {
    let counted: Vec<&Arc<Rule>> = rules.rules.iter().filter(|rule| counts(&rule.matcher, object)).collect();
    let family = object.family();
    let is_allow_list = rules.postures.of(family).is_some() && counted.iter().any(|rule| rule.action == Action::Allow);
    let posture = rules.postures.of(family).filter(|_| is_allow_list);
    let matches: Vec<(bool, bool)> = counted
        .iter()
        .map(|rule| (is_about(&rule.matcher, object), rule.is_by(who.source.unwrap_or_default().as_bytes())))
        .collect();
    let matching = counted.iter().zip(&matches).filter(|(_, (about, by))| *about && *by);
    let highest = matching.map(|(rule, _)| rule.specificity()).max();
    let part = |rule: &Arc<Rule>, (about, by): (bool, bool)| match (about, by) {
        (false, _) => Part::OtherObject,
        (true, false) => Part::OtherSource,
        (true, true) if Some(rule.specificity()) == highest => Part::Decides(says(rule, who)),
        (true, true) => Part::LessSpecific,
    };
    let mut rules: Vec<Considered> = counted
        .into_iter()
        .zip(matches)
        .map(|(rule, matched)| Considered {
            rule: Arc::clone(rule),
            specificity: rule.specificity(),
            part: part(rule, matched),
        })
        .collect();
    let decision = decided(&rules, posture);
    rules.sort_by_key(order);
    Question { about, family, is_allow_list, posture, rules, decision }
}

/// Deciding rules first, the strictest of them first; then the rest by specificity; what does not match last. A stable sort by it keeps
/// equal ones in document order.
fn order(considered: &Considered) -> (u8, std::cmp::Reverse<(Specificity, Option<Says>)>) {
    let (class, says) = match considered.part {
        Part::Decides(says) => (0, Some(says)),
        Part::LessSpecific => (1, None),
        Part::OtherSource => (2, None),
        Part::OtherObject => (3, None),
    };
    (class, std::cmp::Reverse((considered.specificity, says)))
}

fn decided(rules: &[Considered], posture: Option<Posture>) -> Decided {
    let said = |wanted: Says| -> Vec<Arc<Rule>> {
        let says = rules.iter().filter(|considered| considered.part == Part::Decides(wanted));
        says.map(|considered| Arc::clone(&considered.rule)).collect()
    };
    for (wanted, action) in [(Says::Block, Action::Block), (Says::Audit, Action::Audit), (Says::Permit, Action::Allow)]
    {
        let by = said(wanted);
        if !by.is_empty() {
            return Decided { action, by_posture: false, by };
        }
    }
    let action = match posture {
        None => Action::Allow,
        Some(Posture::Audit) => Action::Audit,
        Some(Posture::Block) => Action::Block,
    };
    Decided { action, by_posture: posture.is_some(), by: Vec::new() }
}

fn says(rule: &Rule, who: &Circumstances<'_>) -> Says {
    let (has_modifier, met) = match &rule.matcher {
        Matcher::Process(path) | Matcher::File(path) => modifiers(path, who),
        Matcher::Socket(SocketMatch { pts: Some(false), .. }) => (true, !who.terminal),
        _ => (false, true),
    };
    match rule.action {
        Action::Allow if met => Says::Permit,
        Action::Allow => Says::Nothing,
        Action::Audit | Action::Block if has_modifier && met => Says::Permit,
        Action::Audit => Says::Audit,
        Action::Block => Says::Block,
    }
}

/// Whether there are arguments, and each of them is listed.
fn are_listed(listed: &BTreeSet<String>, arguments: &[String]) -> bool {
    !arguments.is_empty() && arguments.iter().all(|argument| listed.contains(argument))
}

/// Whether there are any, and whether all of them are met.
fn modifiers(path: &PathRule, who: &Circumstances<'_>) -> (bool, bool) {
    let arguments = &path.allowed_arguments;
    let each = [
        (path.owner_only, who.owner),
        (path.read_only, !who.write),
        (path.pts == Some(false), !who.terminal),
        (!arguments.is_empty(), are_listed(arguments, who.arguments)),
    ];
    (each.iter().any(|(is_set, _)| *is_set), each.iter().all(|(is_set, met)| !is_set || *met))
}
