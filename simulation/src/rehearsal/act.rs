//! A record held against a blob: a pure function, by the walk that the kernel does.
//!
//! What the kernel looked at and a record does not tell (whose file it is, a terminal that was opened later, the executable of a
//! process that was there before) is tried both ways: where every answer gives the same effect, the act is decided; else it is not.

use palisade_domain::text;
use palisade_kernel_abi::{
    blob::{AcceptId, Blob, Decision, Effect, Endpoint, Family, Modifiers, PathAccepts, SourceId, domain_path},
    record::{Body, Dns, DnsOperation, Exec, Network, NetworkOperation, Open, Ptrace, Record},
};

const O_ACCMODE: u32 = 3;
const O_CREAT: u32 = 0o100;
const O_TRUNC: u32 = 0o1000;

/// What a blob says of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judged {
    /// This, whatever the record does not tell.
    Decided(Decision),
    /// It hangs on what the record lacks.
    Undecidable(Missing),
}

/// What a record lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Missing {
    /// The path is cut, or could not be read.
    Path,
    /// The arguments are redacted or cut.
    Arguments,
    /// Whose the file is.
    Owner,
    /// Whether there is a terminal.
    Terminal,
    /// What the acting process executes.
    Source,
    /// The record that it repeats.
    Original,
}

impl Missing {
    /// In words.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Path => "the path is cut or could not be read",
            Self::Arguments => "the arguments are redacted or cut",
            Self::Owner => "whose the file is, no record tells",
            Self::Terminal => "whether the process has a terminal is not known",
            Self::Source => "what the acting process executes is not known",
            Self::Original => "the record that it repeats is not in the trace",
        }
    }
}

/// Whether what an undecided record tells was done, and not tried in vain.
#[must_use]
pub fn happened(body: &Body<'_>) -> bool {
    match body {
        Body::Open(open) => open.result >= 0,
        // A connection that is on its way was let through: EINPROGRESS.
        Body::Connect(network) | Body::Send(network) => network.result >= 0 || network.result == -115,
        Body::Socket(network) => network.result >= 0,
        Body::Capability(used) => used.result >= 0,
        Body::Exec(_) | Body::Ptrace(_) | Body::Dns(_) => true,
        _ => false,
    }
}

/// What the blob says; `None` where the record is of no act that rules are about. `acting`: executable and terminal of the acting process.
#[must_use]
pub fn judge(blob: &Blob, record: &Record<'_>, acting: Option<(&str, Option<u32>)>) -> Option<Judged> {
    let subject = Subject { blob, source: acting.map(|(executable, _)| text::bytes(executable)) };
    let tty = acting.and_then(|(_, tty)| tty).map(|tty| tty != 0);
    Some(match &record.body {
        Body::Exec(exec) => subject.exec(exec),
        Body::Open(open) => subject.open(open, tty),
        Body::Socket(network) | Body::Connect(network) | Body::Send(network) => subject.network(network, tty)?,
        Body::Ptrace(traced) => subject.ptrace(traced)?,
        Body::Dns(dns) if dns.operation == DnsOperation::Question => subject.dns(dns),
        Body::Capability(used) => {
            let number = u8::try_from(used.capability).ok()?;
            subject.decide(Family::Capability, AcceptId::of_capability(number).into(), &[Modifiers::NONE])
        }
        _ => return None,
    })
}

struct Subject<'b> {
    blob: &'b Blob,
    /// The acting executable, where it is known.
    source: Option<Vec<u8>>,
}

impl Subject<'_> {
    fn is_without_rules(&self, family: Family) -> bool {
        self.blob.head().families >> family as u32 & 1 == 0
    }

    /// All that the source may be.
    fn sources(&self, family: Family) -> Vec<SourceId> {
        match &self.source {
            Some(executable) => vec![self.blob.source_id(executable)],
            None => (0..self.blob.head().family[family as usize].sources.max(1)).map(SourceId).collect(),
        }
    }

    /// By every combination of what is not known.
    fn decide(&self, family: Family, accepts: PathAccepts, modifiers: &[Modifiers]) -> Judged {
        let mut found: Option<Decision> = None;
        for source in self.sources(family) {
            for modifier in modifiers {
                let decision = self.blob.decide(family, accepts, source, *modifier);
                match found {
                    None => found = Some(decision),
                    Some(first) if is_alike(first, decision) => {}
                    Some(_) if self.source.is_none() => return Judged::Undecidable(Missing::Source),
                    Some(_) => return Judged::Undecidable(self.missing(family, accepts, source, modifiers)),
                }
            }
        }
        Judged::Decided(found.unwrap_or(Decision::PERMIT))
    }

    /// Which of the modifiers it hangs on: the terminal, if it differs by that alone.
    fn missing(&self, family: Family, accepts: PathAccepts, source: SourceId, modifiers: &[Modifiers]) -> Missing {
        let by = |modifier: &Modifiers| self.blob.decide(family, accepts, source, *modifier);
        let without_tty = |modifier: &Modifiers| modifier.at_terminal(false);
        let hangs_on_tty = modifiers.iter().any(|modifier| !is_alike(by(modifier), by(&without_tty(modifier))));
        if hangs_on_tty && modifiers.iter().any(|modifier| *modifier != without_tty(modifier)) {
            Missing::Terminal
        } else {
            Missing::Owner
        }
    }

    fn exec(&self, exec: &Exec<'_>) -> Judged {
        if self.is_without_rules(Family::Process) {
            return Judged::Decided(Decision::PERMIT);
        }
        if exec.path.cut || exec.path.unreadable {
            return Judged::Undecidable(Missing::Path);
        }
        let accepts = self.blob.path_accept(exec.path.bytes);
        let decided = self.decide(Family::Process, accepts, &both_owners(false, Some(exec.tty != 0)));
        let Judged::Decided(decision) = decided else { return decided };
        if decision.arguments == 0 {
            return decided;
        }
        if exec.argument_bytes.cut || exec.argument_bytes.unreadable {
            return Judged::Undecidable(Missing::Arguments);
        }
        let met = self.blob.arguments_meet(decision.arguments, exec.arguments().skip(1));
        Judged::Decided(decision.settled(met))
    }

    fn open(&self, open: &Open<'_>, tty: Option<bool>) -> Judged {
        if self.is_without_rules(Family::File) {
            return Judged::Decided(Decision::PERMIT);
        }
        if open.path.cut || open.path.unreadable || open.path.bytes.is_empty() {
            return Judged::Undecidable(Missing::Path);
        }
        let write = open.flags & O_ACCMODE != 0 || open.flags & (O_CREAT | O_TRUNC) != 0;
        self.decide(Family::File, self.blob.path_accept(open.path.bytes), &both_owners(write, tty))
    }

    fn network(&self, network: &Network, tty: Option<bool>) -> Option<Judged> {
        let family = match network.operation {
            NetworkOperation::Socket => Family::Socket,
            NetworkOperation::Connect | NetworkOperation::Send => Family::Connect,
            _ => return None,
        };
        let Network { domain, socket_type: kind, protocol, destination, .. } = *network;
        let accept = self.blob.network_accept(Endpoint { domain, kind, protocol, destination }.encode().as_ref());
        Some(self.decide(family, accept.into(), &terminals(Modifiers::NONE, tty)))
    }

    fn ptrace(&self, traced: &Ptrace<'_>) -> Option<Judged> {
        // PTRACE_TRACEME: the tracer is the parent, of which the record does not tell what it executes.
        if traced.request == 0 || self.is_without_rules(Family::Ptrace) {
            return None;
        }
        if traced.target_exe.cut || traced.target_exe.unreadable || traced.target_exe.bytes.is_empty() {
            return Some(Judged::Undecidable(Missing::Path));
        }
        let accepts = self.blob.path_accept(traced.target_exe.bytes);
        Some(self.decide(Family::Ptrace, accepts, &[Modifiers::NONE]))
    }

    fn dns(&self, dns: &Dns<'_>) -> Judged {
        if !self.is_without_rules(Family::Dns) && (dns.name.cut || dns.name.unreadable) {
            return Judged::Undecidable(Missing::Path);
        }
        let accept = self.blob.name_accept(&domain_path(dns.name.bytes));
        let of = if dns.no_task {
            Subject { blob: self.blob, source: None }
        } else {
            return self.decide(Family::Dns, accept.into(), &[Modifiers::NONE]);
        };
        of.decide(Family::Dns, accept.into(), &[Modifiers::NONE])
    }
}

/// The same for who acts: which rule says it is of no account where it is permitted.
fn is_alike(one: Decision, other: Decision) -> bool {
    one.effect == other.effect
        && one.arguments == other.arguments
        && (one.effect != Effect::Block || one.rule == other.rule)
}

fn both_owners(write: bool, tty: Option<bool>) -> Vec<Modifiers> {
    [false, true].into_iter().flat_map(|owner| terminals(Modifiers::new(owner, write), tty)).collect()
}

fn terminals(modifiers: Modifiers, tty: Option<bool>) -> Vec<Modifiers> {
    match tty {
        Some(tty) => vec![modifiers.at_terminal(tty)],
        None => vec![modifiers.at_terminal(false), modifiers.at_terminal(true)],
    }
}
