//! Questions and answers: the pure part.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use palisade_domain::NodeName;
use palisade_protocol::{Condition, NodeSeen, Said};
use palisade_supervision::{Kind, TreeNode};
use palisade_wire::frame::{FollowedLines, Message, TreeRow};
use palisade_world::{BootNanos, LinkState, Peer};

/// Between two askings of a peer of which nobody wants to know: so old is what is shown of one that went out, at most.
pub const ASK_EVERY: Duration = Duration::from_secs(5);
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
        /// The newest last.
        lines: Vec<String>,
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
    items: Vec<T>,
    omitted: u64,
    came: BootNanos,
}

impl<T: Clone> Kept<T> {
    fn said(&self, now: BootNanos) -> Said<T> {
        Said { items: self.items.clone(), omitted: self.omitted, age_ms: since(self.came, now).as_millis() as u64 }
    }
}

/// What is known of one peer.
#[derive(Debug, Default)]
struct Known {
    tree: Option<Kept<TreeRow>>,
    alerts: Option<Kept<String>>,
    /// The numbers of the last questions, of the tree and of alerts, and when they were asked; none once answered.
    open: [Option<u64>; 2],
    asked: Option<BootNanos>,
    /// When it was last answered, by kind.
    told: [Option<BootNanos>; 2],
    unreadable: u64,
}

/// All peers.
#[derive(Debug, Default)]
pub struct State {
    known: BTreeMap<NodeName, Known>,
    questions: u64,
}

pub(crate) fn since(then: BootNanos, now: BootNanos) -> Duration {
    Duration::from_nanos(now.0.saturating_sub(then.0))
}

impl State {
    /// Whom to ask now: those that are linked and were not asked within `every`. Peers that the link no longer has are forgotten.
    pub fn ask(&mut self, now: BootNanos, peers: &[Peer], every: Duration) -> Vec<(NodeName, [Message; 2])> {
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
            if known.asked.is_some_and(|asked| since(asked, now) < every) {
                continue;
            }
            let (tree, alerts) = (self.questions + 1, self.questions + 2);
            self.questions = alerts;
            (known.open, known.asked) = ([Some(tree), Some(alerts)], Some(now));
            let questions =
                [Message::AskTree { question: tree }, Message::AskAlerts { question: alerts, recent: RECENT }];
            asks.push((peer.name.clone(), questions));
        }
        asks
    }

    /// The number of a question that is asked now.
    pub fn next_question(&mut self) -> u64 {
        self.questions += 1;
        self.questions
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
            Ok(Message::AskAlerts { question, recent }) if may_tell(1) => {
                return Heard::TellAlerts { question, recent: recent.min(RECENT) };
            }
            Ok(Message::AskTree { .. } | Message::AskAlerts { .. }) => {}
            Ok(Message::FollowAlerts { question, recent }) => {
                return Heard::Follow { question, recent: recent.min(RECENT) };
            }
            Ok(Message::Followed { question, lines, lost, which }) => {
                return Heard::Followed { question, lines, lost, which };
            }
            Ok(Message::Tree { question, rows, omitted }) => {
                // An answer to what was not asked, or was asked anew since, is older than what is known.
                if known.open[0].take_if(|open| *open == question).is_some() {
                    known.tree = Some(Kept { items: rows, omitted, came: now });
                }
            }
            Ok(Message::Alerts { question, lines, omitted }) => {
                if known.open[1].take_if(|open| *open == question).is_some() {
                    known.alerts = Some(Kept { items: lines, omitted, came: now });
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
