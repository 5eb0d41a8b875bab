//! What a node says of the others is so: who cannot be reached is named as out within a bound, who can be as linked within another, and a
//! link that nothing disturbs stands.
//!
//! The bounds follow from production's: a peer is out after 6 s of silence, which begins anew with each packet that comes and with the first
//! that is sent after it (a keep-alive each 2 s); of a path that is cut in one direction the other end goes first, and then this one. Who is
//! out is dialled again after at most 15 s, for at most 5 s.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use palisade_domain::NodeName;
use palisade_protocol::Nodes;
use palisade_world::LinkState;

use crate::{
    checkers::Checker,
    event::Event,
    world::links::{Topology, number},
};

/// From when on nothing comes of a node: 8 s, and a thread may stall for 3 s.
pub const SILENT_WITHIN: Duration = Duration::from_secs(14);
/// From when on nothing comes to it: twice that, for it has to fall silent first.
pub const DEAF_WITHIN: Duration = Duration::from_secs(24);
/// 16 s until the old connection is over, 15 s until the next dial, 5 s for it.
pub const LINKED_WITHIN: Duration = Duration::from_secs(40);
/// A link that was not disturbed for so long does not go by itself: silence before would have shown.
const STANDS_AFTER: Duration = Duration::from_secs(20);
/// How old is what is told of a linked node, at most, once all is at rest: it is asked each 5 s.
const OLD: Duration = Duration::from_secs(12);

/// What lies between two nodes, one of which looks at the other.
struct Between {
    /// Since when nothing comes of the other.
    silent: Option<Duration>,
    /// Since when nothing comes to it.
    deaf: Option<Duration>,
    /// When the last trouble was that can part them; now, while there is some.
    trouble: Duration,
}

/// See the module.
#[derive(Debug)]
pub struct Sight {
    topology: Arc<Topology>,
    /// Since when nothing goes that way.
    cut: BTreeMap<(usize, usize), Duration>,
    /// Since when no process is there.
    down: BTreeMap<usize, Duration>,
    /// In a storm, or without a certificate that is believed.
    troubled: BTreeSet<(usize, Trouble)>,
    /// When each last had trouble, its own start included.
    last: BTreeMap<usize, Duration>,
    last_cut: BTreeMap<(usize, usize), Duration>,
    settled: bool,
    /// Links have room for answers: what is told is fresh.
    has_room: bool,
}

/// Of one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Trouble {
    Storm,
    NoCertificate,
}

impl Sight {
    /// Over nodes that are to be linked so.
    #[must_use]
    pub fn new(topology: Arc<Topology>, has_room: bool) -> Self {
        Self {
            topology,
            cut: BTreeMap::new(),
            down: BTreeMap::new(),
            troubled: BTreeSet::new(),
            last: BTreeMap::new(),
            last_cut: BTreeMap::new(),
            settled: false,
            has_room,
        }
    }

    fn between(&self, now: Duration, node: usize, other: usize) -> Between {
        let ways = [(node, other), (other, node)];
        let silent = self.cut.get(&(other, node)).into_iter().chain(self.down.get(&other)).min().copied();
        let deaf = self.cut.get(&(node, other)).copied();
        let is_troubled =
            |node| [Trouble::Storm, Trouble::NoCertificate].iter().any(|one| self.troubled.contains(&(node, *one)));
        let past = ways.iter().filter_map(|way| self.last_cut.get(way));
        let past = past.chain([node, other].iter().filter_map(|node| self.last.get(node))).max();
        let has_trouble = silent.is_some() || deaf.is_some() || is_troubled(node) || is_troubled(other);
        Between { silent, deaf, trouble: if has_trouble { now } else { past.copied().unwrap_or_default() } }
    }

    fn trouble(&mut self, at: Duration, node: usize, trouble: Trouble, begins: bool) {
        self.last.insert(node, at);
        if begins {
            self.troubled.insert((node, trouble));
        } else {
            self.troubled.remove(&(node, trouble));
        }
    }

    fn saw(&self, at: Duration, node: usize, nodes: &Nodes) -> Result<(), String> {
        for seen in nodes.nodes.iter().filter(|seen| seen.peer.state.is_linked()) {
            let Some(other) = number(&seen.peer.name) else { continue };
            let between = self.between(at, node, other);
            let bounds = [(between.silent, SILENT_WITHIN), (between.deaf, DEAF_WITHIN)];
            let out = bounds.into_iter().find_map(|(since, bound)| since.filter(|since| at > *since + bound));
            if let Some(since) = out {
                return Err(format!("it names {other} as linked, which is out since {:.3} s", since.as_secs_f64()));
            }
            let told = [seen.tree.as_ref().map(|said| said.age_ms), seen.alerts.as_ref().map(|said| said.age_ms)];
            let is_old = |age: Option<u64>| age.is_none_or(|age| u128::from(age) > OLD.as_millis());
            if self.settled && self.has_room && at > between.trouble + LINKED_WITHIN && told.into_iter().any(is_old) {
                return Err(format!("what it tells of {other}, which is linked, is {told:?} ms old"));
            }
        }
        let linked = |other| {
            nodes.nodes.iter().any(|seen| number(&seen.peer.name) == Some(other) && seen.peer.state.is_linked())
        };
        for other in self.topology.peers(node).filter(|other| !linked(*other)) {
            let since = self.between(at, node, other).trouble;
            if at > since + LINKED_WITHIN {
                return Err(format!(
                    "it does not name {other} as linked, which can be reached since {:.3} s",
                    since.as_secs_f64()
                ));
            }
        }
        Ok(())
    }

    /// A link is said to be no more.
    fn fell(&self, at: Duration, node: usize, peer: &NodeName, how: &LinkState) -> Result<(), String> {
        let Some(other) = number(peer).filter(|other| self.topology.links(node, *other)) else { return Ok(()) };
        let since = self.between(at, node, other).trouble;
        if at > since + STANDS_AFTER {
            let since = since.as_secs_f64();
            return Err(format!("the link to {peer} fell, which nothing disturbed since {since:.3} s: {how:?}"));
        }
        Ok(())
    }
}

impl Checker for Sight {
    fn name(&self) -> &'static str {
        "sight"
    }

    fn hear(&mut self, at: Duration, node: usize, event: &Event) -> Result<(), String> {
        match event {
            Event::LinksUp => {
                self.down.remove(&node);
                self.last.insert(node, at);
            }
            Event::LinksDown => {
                self.down.insert(node, at);
                self.last.insert(node, at);
            }
            Event::PathCut { from, to } => drop(self.cut.entry((*from, *to)).or_insert(at)),
            Event::PathMended { from, to } => {
                self.cut.remove(&(*from, *to));
                self.last_cut.insert((*from, *to), at);
            }
            Event::Storm { calm } => self.trouble(at, node, Trouble::Storm, !calm),
            Event::CertificateRevoked => self.trouble(at, node, Trouble::NoCertificate, true),
            // Another one alone disturbs nothing: links move over to it.
            Event::CertificateRenewed if self.troubled.contains(&(node, Trouble::NoCertificate)) => {
                self.trouble(at, node, Trouble::NoCertificate, false);
            }
            // A thread stood still.
            Event::Fault(what) if what.starts_with("stalls") => drop(self.last.insert(node, at)),
            Event::PanicInjected(_) => drop(self.last.insert(node, at)),
            Event::Settled(_) => self.settled = true,
            Event::Saw(nodes) => return self.saw(at, node, nodes),
            Event::LinkChanged { peer, state } if !state.is_linked() => return self.fell(at, node, peer, state),
            _ => {}
        }
        Ok(())
    }
}
