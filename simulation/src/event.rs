//! What truly happened, and what came out: the one way from the world to the checkers, the journal and the counts.
//!
//! Invariant: the world says an event in the moment in which it happens, whatever the actors make of it; checkers see nothing else.

use std::{
    fmt::Write as _,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use palisade_domain::{CgroupId, ContainerId, NodeName, Slot, UnixNanos, Workload};
use palisade_kernel_abi::blob::{Decision, Effect};
use palisade_protocol::Nodes;
use palisade_supervision::TreeNode;
use palisade_wire::frame::TreeRow;
use palisade_world::{LinkState, LossReason, PolicyFile, PolicyReading};
use tokio::time::Instant;

use crate::{
    checkers::{Checker, Violation},
    coverage::Coverage,
    deed::Deed,
    journal::Journal,
    world::{
        configuration::Configured,
        links::{Era, Reading},
    },
};

/// Names one decided record of a node: virtual nanoseconds at which it was written, modulo a second, which no jump of a clock changes.
/// Records are numbered within their millisecond, so that no two of a run have one key.
pub type RecordKey = u64;

/// Nanoseconds in a second.
pub const SECOND_NS: u64 = 1_000_000_000;

/// By what events name the host, beside containers.
#[must_use]
pub fn host() -> ContainerId {
    ContainerId("host".to_owned())
}

/// One deed of a process, and how the kernel judged it.
#[derive(Debug, Clone)]
pub struct Acted {
    /// Of which container, or [`host`].
    pub container: ContainerId,
    /// By which executable.
    pub executable: String,
    /// What.
    pub deed: Deed,
    /// As whose it was judged: who is in no slot is the host's. `None`: the host has none, either.
    pub slot: Option<Slot>,
    /// How; `None`: no policy was asked, for none was ever put in force for the slot.
    pub decision: Option<Decision>,
    /// Whether it was let happen.
    pub permitted: bool,
    /// The generation that the slot held.
    pub generation: u32,
    /// The record of the decision, where there is one.
    pub record: Option<RecordKey>,
}

/// What the kernel held for a container at the moment of its admission.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Its cgroup belongs to no slot.
    NoSlot,
    /// It has one, and nothing was installed since it was admitted to it.
    NothingInstalled(Slot),
    /// It has one, with this generation in force.
    InForce(Slot, u32),
}

/// A line that a sink was handed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// The record that it is about, if it is an alert.
    pub record: Option<RecordKey>,
    /// `containerID` of its workload.
    pub container: String,
    /// The policy that it names.
    pub policy: Option<String>,
    /// Its verdict says that the act did not happen.
    pub denied: bool,
    /// Alerts that it says were held back.
    pub held_back: u64,
}

/// What a node tells another of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Its tree.
    Tree(Vec<TreeRow>),
    /// Its last alerts, the newest last.
    Alerts {
        /// Each as it is.
        lines: Vec<String>,
        /// They follow the one that the question named as known.
        follows: bool,
    },
}

/// What comes to who follows the alerts of all nodes. Alerts are told by their digests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FollowedLine {
    /// How a node is.
    Mark {
        /// Which; none: the node that is asked.
        of: Option<NodeName>,
        /// Lines of it that were lost.
        lost: u64,
        /// Lines of it may be missing that nobody counted.
        gap: bool,
        /// No more of it come.
        ended: bool,
    },
    /// The past alerts of a node.
    Past(Vec<u64>),
    /// An alert.
    Alert(u64),
}

/// See the module.
#[derive(Debug, Clone)]
pub enum Event {
    /// A fault was injected; its words.
    Fault(String),
    /// The last fault is over.
    Calm,
    /// The node has come to rest: from now on all is judged by what is on the disk, which is this.
    Settled(Arc<PolicyReading>),
    /// The node's process starts; the tree is up.
    ProcessUp,
    /// The node's process was killed, or its tree gave up.
    ProcessDown {
        /// Why, in words.
        why: String,
        /// It ended by itself: its tree gave up.
        gave_up: bool,
    },
    /// The machine lost its power: kernel, containers and what was not yet on the disk are gone.
    PowerLost,
    /// The configuration file was edited: it says this.
    Configured(Configured),
    /// What the kernel shows of the containers that run and have a slot, and of the host: kinds of records, bit n for kind n.
    Shown(Vec<(ContainerId, u64)>),
    /// An actor was made to panic by the simulation.
    PanicInjected(&'static str),
    /// A trace was ended: its bytes.
    TraceWhole(Vec<u8>),
    /// The power went while a trace was written.
    TraceTorn {
        /// What is found of it.
        found: Vec<u8>,
        /// What was written.
        written: Vec<u8>,
    },
    /// A thread waits for the disk.
    DiskSlow,
    /// There was no room for a trace.
    TraceRefused,
    /// The thread of an actor was made to stall by the simulation, at this point.
    StallInjected(&'static str),
    /// Something of this thread had to wait for the end of a stall.
    ThreadStalled(&'static str),
    /// An actor panicked by itself, with these words.
    Panicked(String),
    /// A container exists.
    ContainerCreated {
        /// Which.
        id: ContainerId,
        /// Its cgroup.
        cgroup: CgroupId,
        /// As policies select it.
        workload: Arc<Workload>,
        /// It waits in the hook before its first instruction.
        hooked: bool,
    },
    /// The hook was answered.
    Admission {
        /// Which.
        id: ContainerId,
        /// Whether it may start.
        answer: Result<(), String>,
        /// What the kernel held at that moment.
        standing: Standing,
    },
    /// Its labels are others from now on.
    ContainerRelabelled {
        /// Which.
        id: ContainerId,
        /// As policies select it from now on.
        workload: Arc<Workload>,
    },
    /// Its first instruction runs.
    ContainerRuns(ContainerId),
    /// Its last process is over.
    ContainerOver(ContainerId),
    /// A cgroup belongs to a slot.
    Admitted {
        /// Which slot.
        slot: Slot,
        /// All cgroups that the kernel has in it now.
        cgroups: Vec<CgroupId>,
    },
    /// An installation was acknowledged.
    Installed {
        /// For whom.
        slot: Slot,
        /// Of which set.
        generation: u32,
    },
    /// The kernel refused something.
    KernelRefused(Slot, &'static str),
    /// A slot is nobody's.
    Released(Slot),
    /// A deed.
    Acted(Box<Acted>),
    /// A record did not fit, or was kept back.
    RecordLost {
        /// Of a decision.
        record: Option<RecordKey>,
        /// Why.
        reason: LossReason,
    },
    /// A probe opened the stream of records.
    RecordsOpened,
    /// Records were handed to the probe.
    RecordsRead {
        /// How many.
        records: u32,
        /// Those of decisions.
        decided: Vec<RecordKey>,
    },
    /// Rings and all in them are gone.
    RingsGone {
        /// Records of decisions that were in them.
        decided: Vec<RecordKey>,
    },
    /// The keeper was handed a reading.
    PoliciesRead(Arc<PolicyReading>),
    /// The directory could not be read.
    PoliciesUnreadable,
    /// The keeper was handed what outlived the process.
    PoliciesRecalled(Vec<PolicyFile>),
    /// An alert sink was handed lines, and took them or not.
    Lines {
        /// The lines.
        said: Vec<Said>,
        /// One digest for each, as it is.
        digests: Vec<u64>,
        /// Whether it took them.
        taken: bool,
    },
    /// A sink gave up so many lines that it had taken.
    LinesLost(u64),
    /// A sink wrote lines: one digest for each.
    LinesWritten {
        /// To which file.
        file: String,
        /// In order.
        lines: Vec<u64>,
        /// They had waited for a disk with room.
        waited: bool,
    },
    /// A file of lines was put away, and begins anew.
    LinesRotated(String),
    /// What stands in a file of lines, by digests; of its end, and of each loss of power, one may be a part of a line.
    LinesFound {
        /// Which.
        file: String,
        /// In order.
        lines: Vec<u64>,
        /// The power went.
        power_lost: bool,
        /// It ends in a part of a line.
        torn: bool,
    },
    /// The node does not come to rest; why.
    Restless(String),
    /// The tree and what the actors count, looked at.
    Looked(Box<Look>),
    /// The node's process begins its links: it remembers none.
    LinksUp,
    /// The links of the node's process are no more.
    LinksDown,
    /// The links took a message to send.
    LinkSent {
        /// For whom.
        peer: NodeName,
        /// Its digest.
        message: u64,
        /// How long it is.
        bytes: usize,
        /// What it tells of its sender, if it is an answer.
        answer: Option<Arc<Answer>>,
    },
    /// The node was handed messages of a peer.
    LinkReceived {
        /// Of whom.
        peer: NodeName,
        /// Their digests, in order.
        messages: Vec<u64>,
    },
    /// The node was told that a link is other than it was.
    LinkChanged {
        /// To whom.
        peer: NodeName,
        /// How it is now.
        state: LinkState,
    },
    /// Somebody follows the alerts of all nodes on this one, from now on.
    FollowBegun {
        /// The number of the stream.
        stream: u64,
        /// So many past ones of each node come first, at most.
        recent: usize,
    },
    /// Something came of a stream.
    Followed {
        /// Which.
        stream: u64,
        /// What.
        line: FollowedLine,
    },
    /// Nobody reads a stream any more.
    FollowOver(u64),
    /// What the node says of all nodes, asked as its admin endpoint asks.
    Saw(Box<Nodes>),
    /// Who must not be linked says that it is, to this node.
    StrangerLinked(NodeName),
    /// The node has read its certificates, and they are others than before.
    PapersRead(Box<Reading>),
    /// The node found files of certificates that do not belong together.
    PapersTorn,
    /// The node's wall clock was set: it is off by so much.
    ClockSet {
        /// From virtual time.
        off_seconds: i64,
    },
    /// The node is given a certificate that ends soon, at this time.
    CertificateEnds(UnixNanos),
    /// The node's certificate is of an authority that the nodes are about to believe no longer.
    CertificateUnbelieved,
    /// All nodes believe the authority that was exchanged no longer.
    AuthorityExchanged(Era),
    /// The node is given another certificate.
    CertificateRenewed,
    /// The node's certificate is on the list from now on.
    CertificateRevoked,
    /// Nothing goes this way any more.
    PathCut {
        /// From this node.
        from: usize,
        /// To this one.
        to: usize,
    },
    /// What was cut is whole.
    PathMended {
        /// From this node.
        from: usize,
        /// To this one.
        to: usize,
    },
    /// The weather around the node is another.
    Storm {
        /// It is good.
        calm: bool,
    },
    /// What the network carried so far, for the hash: how many datagrams, and the digest of them all.
    Carried(String),
}

/// What a look at a node finds.
#[derive(Debug, Clone)]
pub struct Look {
    /// The tree.
    pub tree: TreeNode,
    /// What the probe accounts for, if it answers.
    pub records: Option<palisade_protocol::RecordAccount>,
    /// What alerts count, if they answer.
    pub alerts: Option<palisade_protocol::AlertCounts>,
    /// Records that wait in the rings.
    pub waiting: usize,
}

impl Event {
    /// A line for the journal; `None` for what is too much for it and is only hashed.
    fn word(&self) -> &'static str {
        match self {
            Self::Fault(_) => "fault",
            Self::Calm => "calm",
            Self::Settled(_) => "settled",
            Self::ProcessUp => "process up",
            Self::ProcessDown { .. } => "process down",
            Self::PowerLost => "power lost",
            Self::Configured(_) => "configured",
            Self::Shown(_) => "shown",
            Self::PanicInjected(_) => "panic injected",
            Self::StallInjected(_) => "stall injected",
            Self::ThreadStalled(_) => "thread stalled",
            Self::TraceWhole(_) => "trace whole",
            Self::TraceTorn { .. } => "trace torn",
            Self::DiskSlow => "disk slow",
            Self::TraceRefused => "trace refused",
            Self::Panicked(_) => "panicked by itself",
            Self::ContainerCreated { .. } => "container created",
            Self::Admission { answer: Ok(()), .. } => "admission granted",
            Self::Admission { .. } => "admission refused",
            Self::ContainerRelabelled { .. } => "container relabelled",
            Self::ContainerRuns(_) => "container runs",
            Self::ContainerOver(_) => "container over",
            Self::Admitted { .. } => "slot admitted",
            Self::Installed { .. } => "policy installed",
            Self::KernelRefused(..) => "kernel refused",
            Self::Released(_) => "slot released",
            Self::Acted(acted) => match (acted.decision, acted.permitted) {
                (None, _) => "act of no policy",
                (Some(_), false) => "act denied",
                (Some(decision), _) if decision.effect == Effect::Audit => "act audited",
                _ => "act permitted",
            },
            Self::RecordLost { reason: LossReason::RingFull, .. } => "record lost",
            Self::RecordLost { reason: LossReason::Suppressed, .. } => "record suppressed",
            Self::RecordLost { .. } => "record folded",
            Self::RecordsOpened => "records opened",
            Self::RecordsRead { .. } => "records read",
            Self::RingsGone { .. } => "rings gone",
            Self::PoliciesRead(_) => "policies read",
            Self::PoliciesUnreadable => "policies unreadable",
            Self::PoliciesRecalled(_) => "policies recalled",
            Self::Lines { taken: true, .. } => "lines taken",
            Self::Lines { .. } => "lines refused",
            Self::LinesLost(_) => "lines lost",
            Self::LinesWritten { .. } => "lines written",
            Self::LinesRotated(_) => "lines rotated",
            Self::LinesFound { .. } => "lines found",
            Self::Restless(_) => "restless",
            Self::Looked(_) => "looked",
            Self::LinksUp => "links up",
            Self::LinksDown => "links down",
            Self::LinkSent { .. } => "message sent",
            Self::LinkReceived { .. } => "messages received",
            Self::LinkChanged { state: LinkState::Linked { .. }, .. } => "node linked",
            Self::LinkChanged { state: LinkState::Refused { .. }, .. } => "node refused",
            Self::LinkChanged { .. } => "node out",
            Self::FollowBegun { .. } => "follow begun",
            Self::Followed { .. } => "followed",
            Self::FollowOver(_) => "follow over",
            Self::Saw(_) => "nodes seen",
            Self::StrangerLinked(_) => "stranger linked",
            Self::PapersRead(_) => "certificates read",
            Self::PapersTorn => "certificates torn",
            Self::ClockSet { .. } => "clock set",
            Self::CertificateEnds(_) => "certificate ends",
            Self::CertificateUnbelieved => "certificate unbelieved",
            Self::AuthorityExchanged(_) => "authority exchanged",
            Self::CertificateRenewed => "certificate renewed",
            Self::CertificateRevoked => "certificate revoked",
            Self::PathCut { .. } => "path cut",
            Self::PathMended { .. } => "path mended",
            Self::Storm { calm: false } => "storm",
            Self::Storm { calm: true } => "storm over",
            Self::Carried(_) => "network",
        }
    }

    /// The rest of its line in the journal. Of the tree's numbers only those that virtual time decides.
    fn detail(&self, text: &mut String) {
        let written = match self {
            Self::Fault(what) | Self::Panicked(what) | Self::Restless(what) => write!(text, " {what}"),
            Self::ProcessDown { why, gave_up } => write!(text, " {why} gave_up={gave_up}"),
            Self::Configured(configured) => write!(text, " {configured:?}"),
            Self::Shown(shown) => write!(text, " {shown:?}"),
            Self::TraceWhole(bytes) => write!(text, " {} bytes {}", bytes.len(), blake3::hash(bytes)),
            Self::TraceTorn { found, written } => write!(text, " {} of {} bytes", found.len(), written.len()),
            Self::PanicInjected(point) | Self::StallInjected(point) | Self::ThreadStalled(point) => {
                write!(text, " {point}")
            }
            Self::ContainerCreated { id, cgroup, workload, hooked } => {
                write!(text, " {id} cgroup={} {} {:?} hooked={hooked}", cgroup.0, workload.namespace, workload.labels)
            }
            Self::Admission { id, answer, standing } => write!(text, " {id} {answer:?} {standing:?}"),
            Self::ContainerRelabelled { id, workload } => write!(text, " {id} {:?}", workload.labels),
            Self::ContainerRuns(id) | Self::ContainerOver(id) => write!(text, " {id}"),
            Self::Admitted { slot, cgroups } => write!(text, " {slot} {cgroups:?}"),
            Self::Installed { slot, generation } => write!(text, " {slot} generation={generation}"),
            Self::KernelRefused(slot, what) => write!(text, " {slot} {what}"),
            Self::Released(slot) => write!(text, " {slot}"),
            Self::Acted(acted) => {
                let Acted { container, executable, deed, slot, decision, generation, record, .. } = &**acted;
                let slot = slot.map_or(-1, |slot| i64::from(slot.0));
                let by = decision.map_or(-1, |decision| decision.rule.map_or(-1, i64::from));
                write!(text, " {container} {executable} {deed} slot={slot} rule={by} generation={generation}")
                    .and_then(|()| record.map_or(Ok(()), |key| write!(text, " record={key}")))
            }
            Self::RecordLost { record, .. } => write!(text, " {record:?}"),
            Self::RecordsRead { records, decided } => write!(text, " {records} {decided:?}"),
            Self::RingsGone { decided } => write!(text, " {decided:?}"),
            Self::PoliciesRead(reading) => {
                let names = reading.files.iter().map(|file| (&file.name, file.content.len()));
                write!(text, " {:?} unreadable={}", names.collect::<Vec<_>>(), reading.unreadable.len())
            }
            Self::PoliciesRecalled(files) => write!(text, " {}", files.len()),
            Self::Lines { said, .. } => said.iter().try_for_each(|line| {
                let Said { record, container, policy, denied, held_back } = line;
                let (record, policy) = (record.unwrap_or_default(), policy.as_deref().unwrap_or("-"));
                write!(text, " {record}:{container}:{policy}:{denied}:{held_back}")
            }),
            Self::LinkSent { peer, message, bytes, .. } => write!(text, " {peer} {message:016x} {bytes}"),
            Self::LinesLost(lines) => write!(text, " {lines}"),
            Self::LinesWritten { file, lines, .. } => write!(text, " {file}: {lines:x?}"),
            Self::LinesRotated(file) => write!(text, " {file}"),
            Self::LinesFound { file, lines, power_lost, .. } => {
                write!(text, " {file}: {} power_lost={power_lost}", lines.len())
            }
            Self::LinkReceived { peer, messages } => write!(text, " {peer} {messages:x?}"),
            Self::LinkChanged { peer, state } => write!(text, " {peer} {state:?}"),
            Self::StrangerLinked(peer) => write!(text, " {peer}"),
            Self::PapersRead(reading) => write!(text, " {reading:?}"),
            Self::ClockSet { off_seconds } => write!(text, " off={off_seconds} s"),
            Self::CertificateEnds(ends) => write!(text, " {}", ends.rfc3339()),
            Self::AuthorityExchanged(era) => write!(text, " {era}"),
            Self::PathCut { from, to } | Self::PathMended { from, to } => write!(text, " {from} to {to}"),
            Self::FollowBegun { stream, recent } => write!(text, " {stream} recent={recent}"),
            Self::Followed { stream, line } => write!(text, " {stream} {line:x?}"),
            Self::FollowOver(stream) => write!(text, " {stream}"),
            Self::Carried(what) => write!(text, " {what}"),
            Self::Saw(nodes) => nodes.nodes.iter().try_for_each(|seen| {
                let (peer, counts) = (&seen.peer, seen.peer.counts);
                let is = if peer.state.is_linked() { "linked" } else { "not linked" };
                write!(text, " {} {is} sent={} received={}", peer.name, counts.sent, counts.received)
            }),
            Self::Calm
            | Self::TraceRefused
            | Self::DiskSlow
            | Self::LinksUp
            | Self::LinksDown
            | Self::CertificateRenewed
            | Self::CertificateRevoked
            | Self::CertificateUnbelieved
            | Self::PapersTorn
            | Self::Storm { .. }
            | Self::Settled(_)
            | Self::RecordsOpened
            | Self::ProcessUp
            | Self::PowerLost
            | Self::PoliciesUnreadable => Ok(()),
            Self::Looked(look) => {
                let mut sum = (0, 0);
                look.tree.walk(&mut |_, node| {
                    sum.0 += node.restarts;
                    sum.1 += node.mail.as_ref().map_or(0, |mail| mail.handled);
                });
                write!(text, " restarts={} handled={}", sum.0, sum.1)
            }
        };
        // A string takes everything.
        debug_assert!(written.is_ok(), "text grows");
    }
}

/// Hears every event of a run.
pub struct Ears {
    begun: Instant,
    journal: Journal,
    checkers: Vec<Box<dyn Checker>>,
    violations: Vec<Violation>,
    coverage: Coverage,
    line: String,
}

/// What is kept of violations: the first says enough, and one that comes with each act would fill memory.
const VIOLATIONS: usize = 16;

impl Ears {
    /// With these checkers.
    #[must_use]
    pub fn new(begun: Instant, journal: Journal, checkers: Vec<Box<dyn Checker>>) -> Self {
        let coverage = Coverage::default();
        Self { begun, journal, checkers, violations: Vec::new(), coverage, line: String::new() }
    }

    /// These check as well.
    pub fn hold_to(&mut self, checkers: impl IntoIterator<Item = Box<dyn Checker>>) {
        self.checkers.extend(checkers);
    }

    fn hear(&mut self, node: usize, event: &Event) {
        let at = self.begun.elapsed();
        self.line.clear();
        event.detail(&mut self.line);
        self.journal.hear(at, node, event.word(), &self.line);
        self.coverage.hear(node, event);
        for checker in &mut self.checkers {
            if let Err(what) = checker.hear(at, node, event) {
                let violation = Violation { at, node, checker: checker.name(), what };
                self.journal.hear(at, node, "VIOLATION", &format!(" {violation}"));
                if self.violations.len() < VIOLATIONS {
                    self.violations.push(violation);
                }
            }
        }
    }

    /// Nothing more happens: what the checkers say in the end, and all that was found wrong.
    pub fn conclude(&mut self) -> Vec<Violation> {
        let at = self.begun.elapsed();
        for checker in &mut self.checkers {
            for (node, what) in checker.conclude() {
                self.violations.push(Violation { at, node, checker: checker.name(), what });
            }
        }
        std::mem::take(&mut self.violations)
    }

    /// What was written down.
    pub fn take_journal(&mut self) -> Journal {
        std::mem::take(&mut self.journal)
    }

    /// Which states were reached.
    pub fn take_coverage(&mut self) -> Coverage {
        std::mem::take(&mut self.coverage)
    }

    /// Whether something is wrong already.
    #[must_use]
    pub fn first_violation(&self) -> Option<&Violation> {
        self.violations.first()
    }
}

/// One node's way to the ears.
#[derive(Clone)]
pub struct Teller {
    /// The node.
    pub node: usize,
    ears: Arc<Mutex<Ears>>,
}

impl Teller {
    /// Of one node.
    #[must_use]
    pub fn new(node: usize, ears: &Arc<Mutex<Ears>>) -> Self {
        Self { node, ears: Arc::clone(ears) }
    }

    /// Says that this happened now.
    pub fn tell(&self, event: &Event) {
        lock(&self.ears).hear(self.node, event);
    }

    /// Whether any fault of the run did something so far.
    #[must_use]
    pub fn any_fault_took_effect(&self) -> bool {
        lock(&self.ears).coverage.any_fault_took_effect()
    }

    /// Virtual time since the run began.
    #[must_use]
    pub fn now(&self) -> Duration {
        lock(&self.ears).begun.elapsed()
    }
}

/// A lock that a panic of an actor left behind: each change of what is behind it is whole.
pub fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
