//! Questions and answers: the pure part.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use palisade_domain::NodeName;
use palisade_protocol::{Condition, NodeSeen, Said};
use palisade_supervision::{Kind, TreeNode};
use palisade_wire::frame::{Digest, FollowedLines, KNOWN_ALERTS, LONGEST_ANSWER, Message, TreeRow, line_digest};
use palisade_world::{BootNanos, LinkState, Peer};

use crate::attribution::attribute;

/// Between two askings of a peer while somebody wants to know of all, and of one that did not answer yet: so old is what is shown of one
/// that went out while it was looked at, at most.
pub const ASK_EVERY: Duration = Duration::from_secs(5);
/// While nobody does, at least: up to half as long again, drawn anew for each question, so that nodes that were linked at once do not ask
/// at once for ever. Decision: seldom and not never, because what a node last said is wanted just when it can no longer be asked.
pub const ASK_SELDOM: Duration = Duration::from_secs(60);
/// Who asked for fresh answers wants to know for so long: longer than between two looks of who looks again and again.
pub const WANTED_FOR: Duration = Duration::from_secs(10);
/// Answers younger than this are fresh.
pub const FRESH: Duration = Duration::from_millis(500);
/// Between two answers of the same kind to one peer: ours asks no oftener than fresh answers are.
pub const ANSWER_EVERY: Duration = Duration::from_millis(200);
/// Alerts that are asked for.
pub const RECENT: u64 = 100;

/// What was heard, and what is to be done about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// Tell it this node's tree.
    TellTree {
        /// Of which question.
        question: u64,
    },
    /// Tell it this node's last alerts.
    TellAlerts {
        /// Of which question.
        question: u64,
        /// How many.
        recent: u64,
        /// The last that it knows.
        known: Option<Digest>,
    },
    /// It follows this node's alerts, or still does.
    Follow {
        /// By which number.
        question: u64,
        /// How many past ones first.
        recent: u64,
    },
    /// Its alerts, as they come.
    Followed {
        /// Of which question.
        question: u64,
        /// The newest last, each as that peer's.
        lines: Vec<Arc<str>>,
        /// Lost before them.
        lost: u64,
        /// Which they are.
        which: FollowedLines,
    },
    /// It is kept, or not worth a word.
    Nothing,
}

#[derive(Debug)]
struct Kept<T> {
    items: Arc<Vec<T>>,
    omitted: u64,
    came: BootNanos,
}

impl<T> Kept<T> {
    fn said(&self, now: BootNanos) -> Said<T> {
        Said { items: Arc::clone(&self.items), omitted: self.omitted, age_ms: since(self.came, now).as_millis() as u64 }
    }
}

/// What is known of one peer.
#[derive(Debug, Default)]
struct Known {
    tree: Option<Kept<TreeRow>>,
    alerts: Option<Kept<Arc<str>>>,
    /// Of the last of its alerts, as it said it.
    last: Option<Digest>,
    /// The open question for alerts named that one.
    named: bool,
    /// The numbers of the last questions, of the tree and of alerts, and when they were asked; none once answered.
    open: [Option<u64>; 2],
    asked: Option<BootNanos>,
    /// How long after that it is asked again, while nobody wants to know.
    seldom: Duration,
    /// When it was last answered, by kind.
    told: [Option<BootNanos>; 2],
    unreadable: u64,
}

impl Known {
    /// An answer that came.
    fn alerts(&mut self, now: BootNanos, peer: &NodeName, lines: Vec<String>, omitted: u64, follows: bool) {
        let last = lines.last().map(|line| line_digest(line));
        let said = lines.len();
        let mut lines: Vec<Arc<str>> = lines.into_iter().filter_map(|line| attribute(peer, line)).collect();
        self.unreadable += u64::from(lines.len() < said);
        match &mut self.alerts {
            Some(kept) if follows && self.named => {
                let items = Arc::make_mut(&mut kept.items);
                // Those that were left out are the oldest, and the first to be no longer asked for.
                let recent = usize::try_from(RECENT).unwrap_or(usize::MAX);
                let omitted = usize::try_from(kept.omitted).unwrap_or(usize::MAX);
                let over = (items.len() + lines.len()).saturating_add(omitted).saturating_sub(recent);
                let of_omitted = kept.omitted.min(over as u64);
                kept.omitted -= of_omitted;
                items.append(&mut lines);
                items.drain(..(over - usize::try_from(of_omitted).unwrap_or(0)).min(items.len()));
                kept.omitted = kept.omitted.saturating_add(held_to(items, LONGEST_ANSWER));
                kept.came = now;
                self.last = last.or(self.last);
            }
            // It was asked for no part: what it says cannot be put anywhere.
            _ if follows => self.unreadable += 1,
            kept => {
                // A name may have made a line longer. It can leave out no more than it was asked for, whatever it says.
                let omitted = omitted.min(RECENT).saturating_add(held_to(&mut lines, LONGEST_ANSWER));
                *kept = Some(Kept { items: Arc::new(lines), omitted, came: now });
                self.last = last;
            }
        }
    }
}

/// Leaves out the oldest lines, until the others have so many bytes. How many that are.
fn held_to(lines: &mut Vec<Arc<str>>, bytes: usize) -> u64 {
    let mut over = lines.iter().map(|line| line.len()).sum::<usize>().saturating_sub(bytes);
    let is_over = |line: &&Arc<str>| {
        let is_over = over > 0;
        over = over.saturating_sub(line.len());
        is_over
    };
    let left_out = lines.iter().take_while(is_over).count();
    lines.drain(..left_out);
    left_out as u64
}

/// All peers.
#[derive(Debug)]
pub struct State {
    known: BTreeMap<NodeName, Known>,
    /// The number of the last question.
    questions: Arc<AtomicU64>,
    wanted_until: BootNanos,
}

pub(crate) fn since(then: BootNanos, now: BootNanos) -> Duration {
    Duration::from_nanos(now.0.saturating_sub(then.0))
}

/// Longer than [`ASK_SELDOM`] by up to half of it: questions are numbered from a place that each process draws.
fn seldom(question: u64) -> Duration {
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let share = u32::try_from(question.wrapping_mul(FACTOR) >> 32).unwrap_or(0);
    ASK_SELDOM + (ASK_SELDOM / 2).mul_f64(f64::from(share) / f64::from(u32::MAX))
}

impl State {
    /// Knows nothing. Questions go on from this number: two lives of a node must not ask by the same.
    #[must_use]
    pub fn numbering_from(questions: Arc<AtomicU64>) -> Self {
        Self { known: BTreeMap::new(), questions, wanted_until: BootNanos(0) }
    }

    /// Somebody wants to know of all.
    pub fn want(&mut self, now: BootNanos) {
        let wanted_for = u64::try_from(WANTED_FOR.as_nanos()).unwrap_or(u64::MAX);
        self.wanted_until = BootNanos(now.0.saturating_add(wanted_for));
    }

    /// Whom to ask now: those that are linked and were not asked for as long as anybody's wish to know allows; `fresh`: by who waits
    /// for it. Peers that the link no longer has are forgotten.
    pub fn ask(&mut self, now: BootNanos, peers: &[Peer], fresh: bool) -> Vec<(NodeName, [Message; 2])> {
        let names: BTreeSet<&NodeName> = peers.iter().map(|peer| &peer.name).collect();
        self.known.retain(|name, _| names.contains(name));
        let mut asks = Vec::new();
        for peer in peers {
            let known = self.known.entry(peer.name.clone()).or_default();
            if !peer.state.is_linked() {
                // What was on its way when the link broke may still come, but nobody waits for it.
                (known.open, known.asked) = ([None; 2], None);
                continue;
            }
            let is_owed = known.open.iter().any(Option::is_some);
            let every = match fresh {
                // Who is slow is not asked anew while it owes an answer: that would be one to a question that is open no more.
                true if !is_owed => FRESH,
                _ if is_owed || now.0 < self.wanted_until.0 => ASK_EVERY,
                _ => known.seldom,
            };
            if known.asked.is_some_and(|asked| since(asked, now) < every) {
                continue;
            }
            let [tree, alerts] = [(); 2].map(|()| number(&self.questions));
            (known.open, known.asked, known.seldom) = ([Some(tree), Some(alerts)], Some(now), seldom(tree));
            let last = known.last.filter(|_| peer.speaks >= Some(KNOWN_ALERTS));
            known.named = last.is_some();
            let of_alerts = Message::AskAlerts { question: alerts, recent: RECENT, known: last };
            let questions = [Message::AskTree { question: tree }, of_alerts];
            asks.push((peer.name.clone(), questions));
        }
        asks
    }

    /// The number of a question that is asked now.
    pub fn next_question(&self) -> u64 {
        number(&self.questions)
    }

    /// A message of a peer.
    pub fn heard(&mut self, now: BootNanos, peer: &NodeName, message: &[u8]) -> Heard {
        let known = self.known.entry(peer.clone()).or_default();
        let mut may_tell = |kind: usize| {
            let may = known.told[kind].is_none_or(|told| since(told, now) >= ANSWER_EVERY);
            if may {
                known.told[kind] = Some(now);
            }
            may
        };
        match Message::read(message) {
            Ok(Message::AskTree { question }) if may_tell(0) => return Heard::TellTree { question },
            Ok(Message::AskAlerts { question, recent, known }) if may_tell(1) => {
                return Heard::TellAlerts { question, recent: recent.min(RECENT), known };
            }
            Ok(Message::AskTree { .. } | Message::AskAlerts { .. }) => {}
            Ok(Message::FollowAlerts { question, recent }) => {
                return Heard::Follow { question, recent: recent.min(RECENT) };
            }
            Ok(Message::Followed { question, lines, lost, which }) => {
                let said = lines.len();
                let lines: Vec<Arc<str>> = lines.into_iter().filter_map(|line| attribute(peer, line)).collect();
                let nobodys = (said - lines.len()) as u64;
                known.unreadable += u64::from(nobodys > 0);
                let lost = lost.saturating_add(nobodys);
                return Heard::Followed { question, lines, lost, which };
            }
            Ok(Message::Tree { question, rows, omitted }) => {
                // An answer to what was not asked, or was asked anew since, is older than what is known.
                if known.open[0].take_if(|open| *open == question).is_some() {
                    known.tree = Some(Kept { items: Arc::new(rows), omitted, came: now });
                }
            }
            Ok(Message::Alerts { question, lines, omitted, follows }) => {
                if known.open[1].take_if(|open| *open == question).is_some() {
                    known.alerts(now, peer, lines, omitted, follows);
                }
            }
            Err(error) => {
                known.unreadable += 1;
                if known.unreadable.is_power_of_two() {
                    tracing::warn!(%peer, %error, unreadable = known.unreadable, "a message that is not understood");
                }
            }
        }
        Heard::Nothing
    }

    /// Whether a linked peer still owes an answer.
    #[must_use]
    pub fn is_waiting(&self, peers: &[Peer]) -> bool {
        let linked = peers.iter().filter(|peer| peer.state.is_linked());
        linked.filter_map(|peer| self.known.get(&peer.name)).any(|known| known.open.iter().any(Option::is_some))
    }

    /// All peers with what is known of each.
    #[must_use]
    pub fn nodes(&self, now: BootNanos, peers: Vec<Peer>) -> Vec<NodeSeen> {
        let seen = |peer: Peer| {
            let known = self.known.get(&peer.name);
            NodeSeen {
                tree: known.and_then(|known| known.tree.as_ref()).map(|kept| kept.said(now)),
                alerts: known.and_then(|known| known.alerts.as_ref()).map(|kept| kept.said(now)),
                unreadable: known.map_or(0, |known| known.unreadable),
                peer,
            }
        };
        peers.into_iter().map(seen).collect()
    }
}

/// How the links are as one condition: those that this node was told to have, and its own certificates.
#[must_use]
pub fn condition(peers: &[Peer], troubles: &[String]) -> Condition {
    let out = peers.iter().filter(|peer| peer.dialled).filter_map(|peer| match &peer.state {
        LinkState::Linked { .. } => None,
        LinkState::Connecting => Some(format!("{} is not linked yet", peer.name)),
        LinkState::Out { why, since } => Some(format!("{} is out since {}: {why}", peer.name, since.rfc3339())),
        LinkState::Refused { why, said, by_us: true, .. } => Some(format!("{} is refused ({why}): {said}", peer.name)),
        LinkState::Refused { why, said, by_us: false, .. } => {
            Some(format!("{} refuses this node ({why}): {said}", peer.name))
        }
    });
    // Also of those that only dial: whoever is asked for that node's tree is shown now one and now the other.
    let doubled = peers.iter().filter_map(|peer| Some(format!("{}: {}", peer.name, peer.doubled.as_ref()?)));
    let all: Vec<String> = troubles.iter().cloned().chain(doubled).chain(out).collect();
    if all.is_empty() { Condition::Good } else { Condition::Degraded(all.join("; ")) }
}

fn number(questions: &AtomicU64) -> u64 {
    questions.fetch_add(1, Ordering::Relaxed).wrapping_add(1)
}

/// The answer to who asks for these alerts, and knows one of them.
#[must_use]
pub fn alerts_answer(question: u64, lines: &[Arc<str>], known: Option<Digest>) -> Message {
    let plain = |lines: &[Arc<str>]| lines.iter().map(|line| line.trim_end().to_owned()).collect();
    let place = known.and_then(|known| lines.iter().rposition(|line| line_digest(line.trim_end()) == known));
    let after = place.and_then(|place| Message::alerts_after_known(question, plain(&lines[place + 1..])));
    after.unwrap_or_else(|| Message::alerts(question, plain(lines)))
}

/// A tree as rows for another node.
#[must_use]
pub fn rows(tree: &TreeNode) -> Vec<TreeRow> {
    let mut rows = Vec::new();
    tree.walk(&mut |level, node| rows.push(row(level, node)));
    rows
}

fn row(level: usize, node: &TreeNode) -> TreeRow {
    let kind = match &node.kind {
        Kind::Supervisor(strategy) => format!("supervisor {}", kebab(&format!("{strategy:?}"))),
        Kind::Actor(name) => name.clone(),
    };
    TreeRow {
        level: u32::try_from(level).unwrap_or(u32::MAX),
        name: node.name.clone(),
        kind,
        state: kebab(&format!("{:?}", node.state)),
        restarts: node.restarts,
        uptime_ms: node.uptime_ms,
        mail: node.mail.as_ref().map(|mail| {
            let lost = mail.shed + mail.lost_panic + mail.lost_closed;
            [mail.depth, mail.capacity, mail.handled, lost]
        }),
        last_error: node.last_error.clone(),
    }
}

/// `BackingOff` as the tree spells it: `backing-off`.
fn kebab(name: &str) -> String {
    let mut text = String::new();
    for c in name.chars() {
        if c.is_ascii_uppercase() && !text.is_empty() {
            text.push('-');
        }
        text.push(c.to_ascii_lowercase());
    }
    text
}
