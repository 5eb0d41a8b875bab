//! Rules without what does not decide: sorted, each content once, with one hash.
//!
//! Invariant: two workloads whose rules differ only in order, repetition or metadata (policy, place, severity, tags, message, a
//! socket's spelling, postures of families without an Allow) have equal hashes and equal blobs. Of rules with equal content the
//! first in document order is kept: alerts name it.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use palisade_domain::{Action, Posture};
use palisade_kernel_abi::blob::Family;
use palisade_policy::ir::{
    DestinationMatch, Matcher, PathMatch, PathRule, Postures, Rule, SocketMatch, SyscallMatch, Transport, WorkloadRules,
};

use crate::{network::canonical_cidr, verdict::pts_of};

/// Grows when equal rules would compile to other blobs than before.
const LOWERING_VERSION: u8 = 2;

/// Rules in canonical order.
#[derive(Debug, Clone)]
pub struct CanonicalRules {
    /// By rule index of decision words.
    pub rules: Arc<[Arc<Rule>]>,
    /// Rules that no table decides, because they are about what only records tell: system calls on a path. In document order.
    pub observed: Arc<[Arc<Rule>]>,
    /// What holds where nothing matches, by [`Family`]; only where an Allow makes the family an allow-list.
    pub postures: [Option<Posture>; Family::ALL.len()],
    /// BLAKE3 of everything that decides.
    pub hash: [u8; 32],
}

impl CanonicalRules {
    /// Sorts out what decides.
    #[must_use]
    pub fn of(workload: &WorkloadRules) -> Self {
        let mut by_content: BTreeMap<Vec<u8>, &Arc<Rule>> = BTreeMap::new();
        for rule in workload.rules.iter().filter(|rule| !tables_of(&rule.matcher).is_empty()) {
            by_content.entry(content(rule)).or_insert(rule);
        }
        let is_observed = |rule: &&Arc<Rule>| matches!(&rule.matcher, Matcher::Syscall(call) if call.path.is_some());
        let observed = workload.rules.iter().filter(is_observed).map(Arc::clone).collect();
        let postures = Family::ALL.map(|family| {
            let allows = |rule: &Arc<Rule>| rule.action == Action::Allow && tables_of(&rule.matcher).contains(&family);
            posture_of(family, &workload.postures).filter(|_| by_content.values().any(|rule| allows(rule)))
        });
        let mut hasher = blake3::Hasher::new();
        hasher.update(&[LOWERING_VERSION]);
        hasher.update(&postures.map(|posture| match posture {
            None => 0,
            Some(Posture::Audit) => 1,
            Some(Posture::Block) => 2,
        }));
        for content in by_content.keys() {
            hasher.update(&(content.len() as u64).to_le_bytes());
            hasher.update(content);
        }
        let hash = *hasher.finalize().as_bytes();
        Self { rules: by_content.into_values().map(Arc::clone).collect(), observed, postures, hash }
    }
}

/// The decision tables that a rule counts in. A socket rule counts at the socket's creation and at every connect; a rule on system
/// calls on a path in none, nor one on devices.
#[must_use]
pub fn tables_of(matcher: &Matcher) -> &'static [Family] {
    match matcher {
        Matcher::Process(_) => &[Family::Process],
        Matcher::File(_) => &[Family::File],
        Matcher::Socket(_) => &[Family::Socket, Family::Connect],
        Matcher::Destination(_) => &[Family::Connect],
        Matcher::Ptrace(_) => &[Family::Ptrace],
        Matcher::Capability(_) => &[Family::Capability],
        Matcher::Syscall(SyscallMatch { path: None, .. }) => &[Family::Syscall],
        Matcher::Dns(_) => &[Family::Dns],
        Matcher::Preset(_) => &[Family::Preset],
        Matcher::Syscall(_) | Matcher::Device(_) => &[],
    }
}

/// The posture that a table falls back to; `None` for families that are never allow-lists.
fn posture_of(family: Family, postures: &Postures) -> Option<Posture> {
    match family {
        Family::Process | Family::File => Some(postures.file),
        Family::Socket | Family::Connect | Family::Dns => Some(postures.network),
        Family::Ptrace | Family::Capability => Some(postures.capabilities),
        Family::Syscall | Family::Preset => None,
    }
}

/// Everything of a rule that decides, unambiguously: texts carry their length.
fn content(rule: &Rule) -> Vec<u8> {
    let mut out = Vec::with_capacity(64);
    out.push(match &rule.matcher {
        Matcher::Process(_) => 0,
        Matcher::File(_) => 1,
        Matcher::Socket(_) => 2,
        Matcher::Destination(_) => 3,
        Matcher::Ptrace(_) => 4,
        Matcher::Capability(_) => 5,
        Matcher::Syscall(_) => 6,
        Matcher::Dns(_) => 7,
        Matcher::Preset(_) => 8,
        Matcher::Device(_) => 9,
    });
    out.extend(language(&rule.matcher));
    out.push(u8::from(pts_of(&rule.matcher) == Some(false)));
    if let Matcher::Process(path) | Matcher::File(path) = &rule.matcher {
        out.extend([u8::from(path.owner_only), u8::from(path.read_only)]);
        put_count(&mut out, path.allowed_arguments.len());
        path.allowed_arguments.iter().for_each(|argument| put_text(&mut out, argument));
    }
    out.push(match rule.action {
        Action::Allow => 0,
        Action::Audit => 1,
        Action::Block => 2,
    });
    put_count(&mut out, rule.sources.len());
    rule.sources.iter().for_each(|source| put_text(&mut out, source));
    for source in &rule.source_directories {
        out.push(u8::from(source.recursive));
        put_text(&mut out, &source.directory);
    }
    out
}

/// What the matcher matches, apart from its family and modifiers: matchers with equal bytes match the same.
#[must_use]
pub fn language(matcher: &Matcher) -> Vec<u8> {
    let mut out = Vec::with_capacity(48);
    match matcher {
        Matcher::Process(PathRule { path, .. }) | Matcher::File(PathRule { path, .. }) | Matcher::Ptrace(path) => {
            put_path(&mut out, path);
        }
        Matcher::Socket(socket) => put_socket(&mut out, socket),
        Matcher::Destination(destination) => put_destination(&mut out, destination),
        Matcher::Capability(capability) => out.push(capability.number),
        Matcher::Syscall(call) => {
            for numbers in [&call.numbers, &call.numbers32] {
                put_count(&mut out, numbers.len());
                out.extend(numbers.iter().flat_map(|number| number.to_be_bytes()));
            }
        }
        Matcher::Dns(dns) => put_text(&mut out, &dns.domain),
        Matcher::Preset(preset) => out.push(*preset as u8),
        // Decided nowhere.
        Matcher::Device(_) => {}
    }
    out
}

fn put_count(out: &mut Vec<u8>, count: usize) {
    out.extend((count as u32).to_be_bytes());
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u32).to_be_bytes());
    out.extend(text.as_bytes());
}

fn put_path(out: &mut Vec<u8>, path: &PathMatch) {
    let (kind, text) = match path {
        PathMatch::Exact(path) => (0, path.as_str()),
        PathMatch::Name(name) => (1, name.as_str()),
        PathMatch::Directory { directory, recursive: false } => (2, directory.as_str()),
        PathMatch::Directory { directory, recursive: true } => (3, directory.as_str()),
        PathMatch::Pattern(pattern) => (4, pattern.as_str()),
        PathMatch::Any => (5, ""),
    };
    out.push(kind);
    put_text(out, text);
}

fn put_socket(out: &mut Vec<u8>, socket: &SocketMatch) {
    let mut shapes = socket.any_of.clone();
    shapes.sort_unstable();
    shapes.dedup();
    out.push(6);
    out.extend((shapes.len() as u32).to_be_bytes());
    for field in shapes.iter().flat_map(|shape| [shape.domain, shape.kind, shape.protocol]) {
        out.extend([u8::from(field.is_some()), field.unwrap_or(0)]);
    }
}

fn put_destination(out: &mut Vec<u8>, destination: &DestinationMatch) {
    out.push(7);
    match destination.cidr.map(canonical_cidr) {
        None => out.push(0),
        Some((IpAddr::V4(v4), prefix)) => {
            out.extend([4, prefix]);
            out.extend(v4.octets());
        }
        Some((IpAddr::V6(v6), prefix)) => {
            out.extend([6, prefix]);
            out.extend(v6.octets());
        }
    }
    out.push(u8::from(destination.ports.is_some()));
    let (first, last) = destination.ports.unwrap_or((0, 0));
    out.extend([first.to_be_bytes(), last.to_be_bytes()].concat());
    out.push(match destination.protocol {
        None => 0,
        Some(Transport::Tcp) => 1,
        Some(Transport::Udp) => 2,
        Some(Transport::Sctp) => 3,
    });
}
