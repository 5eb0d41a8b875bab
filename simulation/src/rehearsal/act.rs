//! A record held against a blob: a pure function, by the walk that the kernel does.
//!
//! What the kernel looked at and a record does not tell (whose file it is, a terminal that was opened later, the executable of a
//! process that was there before) is tried both ways: where every answer gives the same effect, the act is decided; else it is not.
//!
//! Limits, of presets: a thread that opens its own directory of /proc by its number as a thread counts as another process; what was
//! unlinked before it was executed counts as the file that it was; a file of the root directory that is called like a memfd counts as one.

use palisade_domain::text;
use palisade_kernel_abi::{
    blob::{AcceptId, Blob, Decision, Effect, Endpoint, Family, Modifiers, PathAccepts, Preset, SourceId, domain_path},
    record::{
        Body, Dns, DnsOperation, Exec, FileChange, FileOperation, Mount, MountOperation, Network, NetworkOperation,
        Open, Ptrace, Record, Script, Text,
    },
};
use palisade_wire::trace::Acting;

const O_ACCMODE: u32 = 3;
const O_CREAT: u32 = 0o100;
const O_TRUNC: u32 = 0o1000;
const RENAME_EXCHANGE: u32 = 2;
const S_IFMT: u32 = 0o170_000;
const S_IFDIR: u32 = 0o040_000;

/// What a blob says of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judged {
    /// This, whatever the record does not tell.
    Decided(Decision),
    /// It hangs on what the record lacks: what is missing, and the rule that may block or audit, where one does.
    Undecidable(Missing, Option<u32>),
}

impl Judged {
    /// Whether it is let through in silence.
    #[must_use]
    pub fn is_permitted(&self) -> bool {
        matches!(self, Self::Decided(decision) if decision.effect == Effect::Permit)
    }

    /// What is left of it where it is not known whether the act is one that it is about: permitted it is either way.
    fn if_known(self, missing: Missing) -> Self {
        match self {
            Self::Decided(decision) if decision.effect != Effect::Permit => Self::Undecidable(missing, decision.rule),
            judged => judged,
        }
    }
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
    /// Which number the acting process has where it is.
    OwnNumber,
    /// Whether it came into a running container.
    Session,
    /// The path is the caller's, not the file's.
    Resolved,
    /// Whether a script was executed, and which.
    Script,
    /// The path of a script is the caller's, not the file's.
    ScriptPath,
    /// Scripts that are interpreted by scripts, but for the first.
    Scripts,
    /// Whose record it is.
    Workload,
    /// Whether a directory was renamed.
    Directory,
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
            Self::OwnNumber => "which number the acting process has in its container is not known",
            Self::Resolved => "the path is as the caller gave it: which file that was, the record does not tell",
            Self::Script => "whether a script was executed, the record does not tell",
            Self::ScriptPath => {
                "a script was executed, and its path is as the caller gave it: which file that was, this kernel did not tell"
            }
            Self::Scripts => "a script that interprets a script: the record tells of the first alone",
            Self::Directory => "whether it is a directory that was renamed, the record does not tell",
            Self::Workload => "which workload it is of, the trace does not tell",
            Self::Session => "whether a process with a terminal came into the running container, no record tells",
        }
    }

    /// What may be done about it.
    #[must_use]
    pub const fn advice(self) -> &'static str {
        match self {
            Self::Arguments => {
                "record with --keep-arguments (or traceArguments), or set rules with allowedArgs to Audit first"
            }
            Self::Owner => "set rules with ownerOnly to Audit first, and see what a node says of them",
            Self::Terminal => "begin the recording before the process does, or set rules with pts to Audit first",
            Self::Source | Self::Original | Self::OwnNumber | Self::Workload => {
                "begin the recording earlier (--last); of a trace that was cut or merged, take the whole"
            }
            Self::Resolved => "an imported capture tells no more: record the workload with `palisade record`",
            Self::Script => "an import or an old trace tells no more: record the workload with `palisade record`",
            Self::ScriptPath => {
                "kernels tell it from 6.10 on, or with `bpf` among lsm= of the boot line: record on such a node; or set the rules about executions to Audit first"
            }
            Self::Directory => {
                "if it was one, the rule denies it: `palisade replay --output events` shows the rename (an Audit says nothing of it)"
            }
            Self::Path | Self::Scripts | Self::Session => {
                "set the rules to Audit first, and see what a node says of them; `palisade replay --output events` shows the acts"
            }
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
        Body::Exec(_) | Body::Ptrace(_) | Body::Dns(_) | Body::Syscall(_) => true,
        Body::FileChange(change) => change.result >= 0,
        Body::Mount(mount) => mount.result >= 0,
        Body::Module(_) => true,
        _ => false,
    }
}

/// What the blob says; `None` where the record is of no act that rules are about.
#[must_use]
pub fn judge(blob: &Blob, record: &Record<'_>, acting: Option<Acting<'_>>) -> Option<Judged> {
    let subject = Subject { blob, source: acting.map(|acting| text::bytes(acting.executable)) };
    let tty = acting.and_then(|acting| acting.tty).map(|tty| tty != 0);
    Some(match &record.body {
        Body::Exec(exec) => subject.exec(exec),
        Body::Open(open) => subject.open(open, tty),
        Body::FileChange(change) => subject.change(change, tty)?,
        Body::Mount(mount) => subject.mount(mount, tty)?,
        Body::Socket(network) | Body::Connect(network) | Body::Send(network) => subject.network(network, tty)?,
        Body::Ptrace(traced) => subject.ptrace(traced)?,
        Body::Dns(dns) if dns.operation == DnsOperation::Question => subject.dns(dns),
        Body::Capability(used) => {
            let number = u8::try_from(used.capability).ok()?;
            subject.decide(Family::Capability, AcceptId::of_capability(number).into(), &[Modifiers::NONE])
        }
        Body::Syscall(call) => {
            let of = if call.compat { AcceptId::of_compat_syscall } else { AcceptId::of_syscall };
            subject.decide(Family::Syscall, of(call.number).into(), &[Modifiers::NONE])
        }
        _ => return None,
    })
}

/// What the blob's presets say beside that; `None` where the record is of nothing that a preset is about. Hosts have none.
#[must_use]
pub fn judge_presets(blob: &Blob, record: &Record<'_>, acting: Option<Acting<'_>>) -> Option<Judged> {
    let subject = Subject { blob, source: acting.map(|acting| text::bytes(acting.executable)) };
    if record.header.slot == 0 || subject.is_without_rules(Family::Preset) {
        return None;
    }
    match &record.body {
        Body::Exec(exec) => subject.presets_of_exec(exec),
        Body::Open(open) => subject.presets_of_open(open, acting.map_or(0, |acting| acting.own_pid)),
        _ => None,
    }
}

/// The process that a file of /proc is about, and whether it is its environment.
fn proc_subject(path: &[u8]) -> Option<(u32, bool)> {
    let rest = path.strip_prefix(b"/proc/")?;
    let number = rest.split(|byte| *byte == b'/').next()?;
    let number: u32 = std::str::from_utf8(number).ok()?.parse().ok()?;
    Some((number, rest.ends_with(b"/environ")))
}

/// A file of memory: a memfd, or one of shared memory.
fn is_of_memory(path: &[u8]) -> bool {
    [&b"/memfd:"[..], b"/dev/shm/", b"/run/shm/"].iter().any(|start| path.starts_with(start))
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
                    Some(first) => {
                        let bites = if first.effect > decision.effect { first } else { decision };
                        let missing = match &self.source {
                            None => Missing::Source,
                            Some(_) => self.missing(family, accepts, source, modifiers),
                        };
                        return Judged::Undecidable(missing, bites.rule);
                    }
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
        // A node asks of the script first and then of its interpreter, and a denial of either is the end of it.
        let own = self.executed(&exec.path, Missing::Resolved, exec, &[1]);
        match exec.script {
            Script::None => own,
            Script::Untold if is_no_script(exec) => own,
            Script::Untold => stricter(own, Judged::Undecidable(Missing::Script, None)),
            Script::Interpreted { path, count } => {
                // The kernel puts the interpreter, perhaps an option of its, and the script before what the caller gave.
                let both = stricter(own, self.executed(&path, Missing::ScriptPath, exec, &[2, 3]));
                if count > 1 { stricter(both, Judged::Undecidable(Missing::Scripts, None)) } else { both }
            }
        }
    }

    /// By one of an execution's files, of which it is known what its caller called it or what it is; the arguments that count for it come behind
    /// so many, or so many.
    fn executed(&self, path: &Text<'_>, unresolved: Missing, exec: &Exec<'_>, behind: &[usize]) -> Judged {
        if path.cut || path.unreadable {
            return Judged::Undecidable(Missing::Path, None);
        }
        if path.user {
            return Judged::Undecidable(unresolved, None);
        }
        let accepts = self.blob.path_accept(path.bytes);
        let decided = self.decide(Family::Process, accepts, &both_owners(false, Some(exec.tty != 0)));
        let Judged::Decided(decision) = decided else { return decided };
        if decision.arguments == 0 {
            return decided;
        }
        if exec.argument_bytes.cut || exec.argument_bytes.unreadable {
            return Judged::Undecidable(Missing::Arguments, decision.rule);
        }
        let met = |skip| self.blob.arguments_meet(decision.arguments, exec.arguments().skip(skip));
        let mut settled = behind.iter().map(|skip| decision.settled(met(*skip)));
        let first = settled.next().unwrap_or(decision);
        if settled.all(|other| is_alike(first, other)) {
            Judged::Decided(first)
        } else {
            Judged::Undecidable(Missing::Script, decision.rule)
        }
    }

    fn open(&self, open: &Open<'_>, tty: Option<bool>) -> Judged {
        if self.is_without_rules(Family::File) {
            return Judged::Decided(Decision::PERMIT);
        }
        if open.path.cut || open.path.unreadable || open.path.bytes.is_empty() {
            return Judged::Undecidable(Missing::Path, None);
        }
        if open.path.user {
            return Judged::Undecidable(Missing::Resolved, None);
        }
        let write = open.flags & O_ACCMODE != 0 || open.flags & (O_CREAT | O_TRUNC) != 0;
        self.decide(Family::File, self.blob.path_accept(open.path.bytes), &both_owners(write, tty))
    }

    /// By each of its names; what an open made is the open's own matter.
    fn change(&self, change: &FileChange<'_>, tty: Option<bool>) -> Option<Judged> {
        let named = |path: &Text<'_>, base: &Text<'_>| self.written(path, base, tty);
        match change.operation {
            FileOperation::Create => None,
            FileOperation::Symlink => Some(named(&change.new_path, &change.new_base)),
            FileOperation::Link => {
                Some(stricter(named(&change.path, &change.base), named(&change.new_path, &change.new_base)))
            }
            FileOperation::Rename => {
                let names = stricter(named(&change.path, &change.base), named(&change.new_path, &change.new_base));
                Some(stricter(names, self.moved(change)))
            }
            _ => Some(named(&change.path, &change.base)),
        }
    }

    /// What is denied below a directory, where both names are known: where one is not, the names are undecided already.
    fn moved(&self, change: &FileChange<'_>) -> Judged {
        let is_known = |path: &Text<'_>| !(path.cut || path.unreadable || path.user || path.bytes.is_empty());
        let permitted = Judged::Decided(Decision::PERMIT);
        if self.is_without_rules(Family::File) || !is_known(&change.path) || !is_known(&change.new_path) {
            return permitted;
        }
        let (from, to) = (change.path.bytes, change.new_path.bytes);
        let exchanged = change.flags & RENAME_EXCHANGE != 0;
        let ways = [Some((from, to)), exchanged.then_some((to, from))];
        let judged = ways.into_iter().flatten().map(|(from, to)| self.decide_move(from, to)).reduce(stricter);
        let judged = judged.unwrap_or(permitted);
        match change.mode & S_IFMT {
            S_IFDIR if !exchanged => judged,
            // The record has the one's mode alone.
            S_IFDIR | 0 => judged.if_known(Missing::Directory),
            _ if exchanged => judged.if_known(Missing::Directory),
            _ => Judged::Decided(Decision::PERMIT),
        }
    }

    fn decide_move(&self, from: &[u8], to: &[u8]) -> Judged {
        let mut decisions =
            self.sources(Family::File).into_iter().map(|source| self.blob.decide_move(from, to, source));
        let Some(first) = decisions.next() else { return Judged::Decided(Decision::PERMIT) };
        match decisions.find(|other| !is_alike(first, *other)) {
            None => Judged::Decided(first),
            Some(other) => {
                let bites = if first.effect > other.effect { first } else { other };
                Judged::Undecidable(Missing::Source, bites.rule)
            }
        }
    }

    /// By the mount point; what has none yet is no act on a file.
    fn mount(&self, mount: &Mount<'_>, tty: Option<bool>) -> Option<Judged> {
        let by_target = || self.written(&mount.target, &mount.base, tty);
        let by_source = || self.written(&mount.source, &mount.base, tty);
        match mount.operation {
            MountOperation::Mount | MountOperation::Umount => Some(by_target()),
            MountOperation::PivotRoot | MountOperation::MoveMount => Some(stricter(by_target(), by_source())),
            _ => None,
        }
    }

    /// A write to what is named so.
    fn written(&self, path: &Text<'_>, base: &Text<'_>, tty: Option<bool>) -> Judged {
        if self.is_without_rules(Family::File) {
            return Judged::Decided(Decision::PERMIT);
        }
        if path.cut || path.unreadable || path.bytes.is_empty() {
            return Judged::Undecidable(Missing::Path, None);
        }
        if path.user || !base.bytes.is_empty() {
            return Judged::Undecidable(Missing::Resolved, None);
        }
        self.decide(Family::File, self.blob.path_accept(path.bytes), &both_owners(true, tty))
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

    fn preset(&self, preset: Preset) -> Judged {
        self.decide(Family::Preset, AcceptId::of_preset(preset).into(), &[Modifiers::NONE])
    }

    /// Of what was unlinked before it was executed, no record tells: it counts as the file that it was.
    fn presets_of_exec(&self, exec: &Exec<'_>) -> Option<Judged> {
        // Without a terminal it is none, whoever acts.
        let session = match exec.tty {
            0 => Judged::Decided(Decision::PERMIT),
            _ => self.preset(Preset::Exec).if_known(Missing::Session),
        };
        let fileless = |path: &Text<'_>| match is_of_memory(path.bytes) {
            _ if path.cut || path.unreadable => Judged::Undecidable(Missing::Path, None),
            true => self.preset(Preset::FilelessExec),
            false => Judged::Decided(Decision::PERMIT),
        };
        let unknown = |missing| self.preset(Preset::FilelessExec).if_known(missing);
        let script = match exec.script {
            Script::None => Judged::Decided(Decision::PERMIT),
            Script::Untold if is_no_script(exec) => Judged::Decided(Decision::PERMIT),
            Script::Untold => unknown(Missing::Script),
            Script::Interpreted { path: Text { user: true, .. }, .. } => unknown(Missing::ScriptPath),
            Script::Interpreted { path, count } if count > 1 => stricter(fileless(&path), unknown(Missing::Scripts)),
            Script::Interpreted { path, .. } => fileless(&path),
        };
        Some(stricter(stricter(fileless(&exec.path), script), session))
    }

    fn presets_of_open(&self, open: &Open<'_>, own_pid: u32) -> Option<Judged> {
        if open.path.user {
            let either = stricter(self.preset(Preset::ProtectProc), self.preset(Preset::ProtectEnv));
            return Some(either.if_known(Missing::Resolved));
        }
        let (number, is_environment) = proc_subject(open.path.bytes)?;
        if number == own_pid {
            return None;
        }
        let protect = self.preset(Preset::ProtectProc);
        let judged = if is_environment { stricter(protect, self.preset(Preset::ProtectEnv)) } else { protect };
        Some(if own_pid == 0 { judged.if_known(Missing::OwnNumber) } else { judged })
    }

    fn ptrace(&self, traced: &Ptrace<'_>) -> Option<Judged> {
        // PTRACE_TRACEME: the tracer is the parent, of which the record does not tell what it executes.
        if traced.request == 0 || self.is_without_rules(Family::Ptrace) {
            return None;
        }
        if traced.target_exe.cut || traced.target_exe.unreadable || traced.target_exe.bytes.is_empty() {
            return Some(Judged::Undecidable(Missing::Path, None));
        }
        let accepts = self.blob.path_accept(traced.target_exe.bytes);
        Some(self.decide(Family::Ptrace, accepts, &[Modifiers::NONE]))
    }

    fn dns(&self, dns: &Dns<'_>) -> Judged {
        if !self.is_without_rules(Family::Dns) && (dns.name.cut || dns.name.unreadable) {
            return Judged::Undecidable(Missing::Path, None);
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

/// Whether the arguments show that nothing was interpreted: an interpreter is given the script's name at the least.
fn is_no_script(exec: &Exec<'_>) -> bool {
    exec.argument_count == 1
}

/// Of two judgements about one act. What is decided and blocks is blocked, whatever the other hangs on.
#[must_use]
pub fn stricter(one: Judged, other: Judged) -> Judged {
    let strength = |judged: &Judged| match judged {
        Judged::Decided(decision) if decision.effect == Effect::Block => 3,
        Judged::Undecidable(..) => 2,
        Judged::Decided(decision) if decision.effect == Effect::Audit => 1,
        Judged::Decided(_) => 0,
    };
    if strength(&other) > strength(&one) { other } else { one }
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
