//! Alerts of all nodes as they come: who follows them here, and what other nodes follow of this one. The pure part.
//!
//! Invariant: a follower holds back nobody. What finds no room in its queue is counted, and the count comes as a mark of that node as soon
//! as there is room; so does what a node itself lost on the way. A node that goes out, or comes back, has a mark; where lines may be
//! missing that nobody counted (it began anew, or was out for longer than it kept telling), the mark says that.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    sync::Arc,
    time::Duration,
};

use palisade_domain::NodeName;
use palisade_protocol::NodesLine;
use palisade_wire::frame::{FollowedLines, Message};
use palisade_world::{BootNanos, LinkState, Peer};
use serde_json::Value;
use tokio::sync::mpsc;

use crate::state::{ASK_EVERY, RECENT, since};

/// Who follow all nodes here, at a time.
pub const FOLLOWERS: usize = 4;
/// Lines that wait for a follower.
pub const FOLLOWER_LINES: usize = 512;
/// Bytes of a line that is followed; a longer one counts as lost. What is past of a node waits as one: [`RECENT`] lines of this
/// node, and of each other one as much text as an answer may have; so all followers together hold 64 MiB of lines, and 80 MiB of the past of
/// 64 peers, at most.
pub const LONGEST_LINE: usize = 32 << 10;
/// Who follow this node's alerts from elsewhere, at a time.
pub const FOLLOWED: usize = 16;
/// For so long this node tells its alerts to who does not ask for more: a link that was out for less loses none but what its queue refused.
pub const LEASE: Duration = Duration::from_secs(30);

/// What a follower knows of one node.
#[derive(Debug, Default)]
struct Seen {
    /// None: this node.
    peer: Option<Peer>,
    asked: Option<BootNanos>,
    heard: bool,
    /// Its last line.
    last: Option<Arc<str>>,
    lost: u64,
    gap: bool,
    ended: bool,
    /// It is to be marked, as soon as there is room.
    due: bool,
}

/// Who follows all nodes.
#[derive(Debug)]
pub struct Follower {
    out: mpsc::Sender<NodesLine>,
    recent: u64,
    nodes: BTreeMap<Option<NodeName>, Seen>,
}

impl Follower {
    /// Its first lines are a mark for each node.
    pub fn new(out: mpsc::Sender<NodesLine>, recent: usize, peers: &[Peer]) -> Self {
        let own = Seen { due: true, ..Seen::default() };
        let recent = u64::try_from(recent).unwrap_or(u64::MAX).min(RECENT);
        let mut follower = Self { out, recent, nodes: [(None, own)].into() };
        follower.look(peers);
        follower
    }

    /// Nobody hears it any more.
    pub fn is_gone(&self) -> bool {
        self.out.is_closed()
    }

    /// Marks those whose link is other than it was, and says what could not be said before.
    pub fn look(&mut self, peers: &[Peer]) {
        let named: BTreeSet<&NodeName> = peers.iter().map(|peer| &peer.name).collect();
        self.nodes.retain(|name, _| name.as_ref().is_none_or(|name| named.contains(name)));
        for peer in peers {
            let seen = self.nodes.entry(Some(peer.name.clone())).or_default();
            if seen.peer.as_ref().is_none_or(|before| word(&before.state) != word(&peer.state)) {
                seen.due = true;
            }
            if !peer.state.is_linked() {
                seen.asked = None;
            }
            seen.peer = Some(peer.clone());
        }
        self.flush();
    }

    /// Whom to ask now, and how.
    pub fn ask(&mut self, now: BootNanos, question: u64) -> Vec<(NodeName, Message)> {
        let recent = self.recent;
        let linked = self.nodes.iter_mut().filter(|(_, seen)| seen.peer.as_ref().is_some_and(|p| p.state.is_linked()));
        let wanting = linked.filter(|(_, seen)| seen.asked.is_none_or(|asked| since(asked, now) >= ASK_EVERY));
        let asks = wanting.filter_map(|(name, seen)| {
            seen.asked = Some(now);
            // Who was heard is asked for all that it still has: what is known is left out here.
            let recent = if seen.heard { RECENT } else { recent };
            Some((name.clone()?, Message::FollowAlerts { question, recent }))
        });
        asks.collect()
    }

    /// Lines of this node.
    pub fn own(&mut self, lines: impl IntoIterator<Item = Arc<str>>, lost: u64) {
        let seen = self.nodes.entry(None).or_default();
        seen.lost = seen.lost.saturating_add(lost);
        seen.due |= lost > 0;
        if std::mem::replace(&mut seen.heard, true) {
            self.say(&None, lines);
        } else {
            self.say_past(&None, lines.into_iter().collect());
        }
    }

    /// This node's alerts end, as where their actor begins anew.
    pub fn own_ended(&mut self) {
        let seen = self.nodes.entry(None).or_default();
        (seen.ended, seen.due) = (true, true);
        self.flush();
    }

    /// Lines of another.
    pub fn heard(&mut self, from: &NodeName, mut lines: Vec<Arc<str>>, lost: u64, which: FollowedLines) {
        let Some(seen) = self.nodes.get_mut(&Some(from.clone())) else { return };
        match which {
            FollowedLines::First if seen.heard => {
                // It tells anew: what came before is known, and if it is not among these there is a gap. By the line and not by its
                // time: clocks are set back, and CPUs' records are not told in the order of their times.
                match lines.iter().rposition(|line| seen.last.as_ref() == Some(line)) {
                    Some(known) => drop(lines.drain(..=known)),
                    None => seen.gap |= seen.last.is_some(),
                }
            }
            // Its first lines were of a question that another life of this node asked.
            FollowedLines::Next if !seen.heard => seen.gap = true,
            FollowedLines::Last => seen.ended = true,
            FollowedLines::First | FollowedLines::Next => {}
        }
        let is_past = !mem::replace(&mut seen.heard, true) && which == FollowedLines::First;
        seen.lost = seen.lost.saturating_add(lost);
        seen.due |= lost > 0 || seen.gap || seen.ended;
        seen.last = lines.last().cloned().or(seen.last.take());
        let name = Some(from.clone());
        if is_past {
            self.say_past(&name, lines);
        } else {
            self.say(&name, lines);
        }
    }

    /// Once a node: what is past of it takes one place in the queue.
    fn say_past(&mut self, of: &Option<NodeName>, mut lines: Vec<Arc<str>>) {
        self.flush();
        let said = lines.len();
        lines.retain(|line| line.len() <= LONGEST_LINE);
        let too_long = said - lines.len();
        let owed = self.nodes.get(of).is_some_and(|seen| seen.due);
        let is_full = !lines.is_empty() && (owed || self.out.try_send(NodesLine::Past(lines)).is_err());
        let lost = if is_full { said } else { too_long };
        if lost > 0 {
            let seen = self.nodes.entry(of.clone()).or_default();
            (seen.lost, seen.due) = (seen.lost.saturating_add(lost as u64), true);
            self.flush();
        }
    }

    fn say(&mut self, of: &Option<NodeName>, lines: impl IntoIterator<Item = Arc<str>>) {
        self.flush();
        for line in lines {
            // Behind what is still to be marked of its node: a loss stands where it was.
            let owed = self.nodes.get(of).is_some_and(|seen| seen.due);
            if owed || line.len() > LONGEST_LINE || self.out.try_send(NodesLine::Alert(line)).is_err() {
                let seen = self.nodes.entry(of.clone()).or_default();
                (seen.lost, seen.due) = (seen.lost.saturating_add(1), true);
                self.flush();
            }
        }
    }

    fn flush(&mut self) {
        for seen in self.nodes.values_mut().filter(|seen| seen.due) {
            let Ok(room) = self.out.try_reserve() else { return };
            let peer = seen.peer.clone().map(Box::new);
            let (lost, gap, ended) = (mem::take(&mut seen.lost), mem::take(&mut seen.gap), mem::take(&mut seen.ended));
            room.send(NodesLine::Mark { peer, lost, gap, ended });
            seen.due = false;
        }
    }
}

/// As people tell states apart: why a link is out may be said in other words at each try, and is no news.
fn word(state: &LinkState) -> u8 {
    match state {
        LinkState::Connecting => 0,
        LinkState::Linked { .. } => 1,
        LinkState::Refused { .. } => 2,
        LinkState::Out { .. } => 3,
    }
}

/// When the line says that it was, in nanoseconds since 1970.
pub fn time_of(line: &str) -> Option<u64> {
    serde_json::from_str::<Value>(line).ok()?["time"].as_u64()
}

/// Another node's question, which this node's alerts are told to.
#[derive(Debug)]
struct Told {
    until: BootNanos,
    /// Lines that found no room on the link.
    lost: u64,
    beginning: Beginning,
}

/// Of what is told, from the past on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Beginning {
    Unsaid,
    /// The link did not take it: its lines are lost, and what comes now is not past.
    Refused,
    Said,
}

/// What other nodes follow of this one.
#[derive(Debug, Default)]
pub struct Followed(BTreeMap<(NodeName, u64), Told>);

/// What comes of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// It is told from now on.
    Begins,
    /// It is told for longer.
    GoesOn,
    /// Too many are.
    TooMany,
}

impl Followed {
    /// A peer follows, or still does.
    pub fn asked(&mut self, now: BootNanos, peer: &NodeName, question: u64) -> Asked {
        let until = BootNanos(now.0.saturating_add(u64::try_from(LEASE.as_nanos()).unwrap_or(u64::MAX)));
        if let Some(told) = self.0.get_mut(&(peer.clone(), question)) {
            told.until = until;
            return Asked::GoesOn;
        }
        let of_peer = self.0.keys().filter(|(name, _)| name == peer).count();
        if self.0.len() >= FOLLOWED || of_peer >= FOLLOWERS {
            return Asked::TooMany;
        }
        self.0.insert((peer.clone(), question), Told { until, lost: 0, beginning: Beginning::Unsaid });
        Asked::Begins
    }

    /// Whether it still is to be told; who is not is forgotten.
    pub fn is_told(&mut self, now: BootNanos, peer: &NodeName, question: u64) -> bool {
        let key = (peer.clone(), question);
        let told = self.0.get(&key).is_some_and(|told| now.0 < told.until.0);
        if !told {
            self.0.remove(&key);
        }
        told
    }

    /// What to send before all else, where the link refused the beginning: it begins, without the lines that are lost. Live ones in its
    /// place would be taken for past ones, of which only so many are shown.
    pub fn beginning(&self, peer: &NodeName, question: u64) -> Option<Message> {
        let told = self.0.get(&(peer.clone(), question))?;
        (told.beginning == Beginning::Refused)
            .then(|| Message::followed(question, Vec::new(), told.lost, FollowedLines::First))
    }

    /// What to send of these lines, where there is anything.
    pub fn message(&mut self, peer: &NodeName, question: u64, lines: Vec<String>, lost: u64) -> Option<Message> {
        let told = self.0.get_mut(&(peer.clone(), question))?;
        told.lost += lost;
        let begins = told.beginning == Beginning::Unsaid;
        let which = if begins { FollowedLines::First } else { FollowedLines::Next };
        (begins || told.lost > 0 || !lines.is_empty()).then(|| Message::followed(question, lines, told.lost, which))
    }

    /// Whether the link took it, of so many lines.
    pub fn sent(&mut self, peer: &NodeName, question: u64, lines: u64, taken: bool) {
        let Some(told) = self.0.get_mut(&(peer.clone(), question)) else { return };
        if taken {
            (told.lost, told.beginning) = (0, Beginning::Said);
        } else {
            told.lost += lines;
            if told.beginning == Beginning::Unsaid {
                told.beginning = Beginning::Refused;
            }
        }
    }

    /// Its lines ended.
    pub fn ended(&mut self, peer: &NodeName, question: u64) {
        self.0.remove(&(peer.clone(), question));
    }
}
