//! Nobody is linked whose certificate was taken back, ended, or is of an authority that is not believed.
//!
//! A node has to go by a list, and by whom it believes, from when it read it: a link that stands is looked at by the new ones at once, and
//! one in the making when it is made. A time is looked at each 30 s while a link stands, by the node's own wall clock.
//!
//! A link goes by the certificates that were shown when its connection was made, and stays while it cannot move to another. Which that was
//! is not seen from outside: all that the peer had read by then, and had not replaced long before, are wrong before the link is.

use std::{collections::BTreeMap, time::Duration};

use palisade_domain::{NodeName, UnixNanos};
use palisade_protocol::Nodes;

use crate::{
    checkers::Checker,
    event::Event,
    world::{
        clock::unix_at,
        links::{Certificate, Era, Reading, number},
    },
};

/// For a handshake under way and a thread that stalls.
const GRACE: Duration = Duration::from_secs(6);
/// Between two looks at the time of a peer's certificate.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// Between what a connection shows and the moment in which it is seen to be there: a second until somebody looks, a handshake, a stall.
const MADE_WITHIN: Duration = Duration::from_secs(9);

/// What is shown.
#[derive(Debug, Clone, Copy)]
struct Shown {
    certificate: Certificate,
    era: Era,
    ends: UnixNanos,
}

#[derive(Debug, Default)]
struct OfNode {
    /// What it read of its own, and when.
    own: Vec<(Duration, Shown)>,
    /// Since when it knows that these are taken back.
    revoked: BTreeMap<Certificate, Duration>,
    /// Since when it believes these no longer.
    unbelieved: BTreeMap<Era, Duration>,
    /// How far its wall clock is off, from when on.
    clock: Vec<(Duration, i64)>,
    /// Over how many connections each link went, and when that was first seen.
    links: BTreeMap<usize, (u64, Duration)>,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Trust {
    nodes: BTreeMap<usize, OfNode>,
}

impl OfNode {
    fn read(&mut self, at: Duration, node: usize, reading: &Reading) {
        let Reading { own, era, ends, believed, revoked } = reading;
        self.own.push((at, Shown { certificate: (node, *own), era: *era, ends: *ends }));
        for certificate in revoked {
            self.revoked.entry(*certificate).or_insert(at);
        }
        let newest = believed.last().copied().unwrap_or_default();
        self.unbelieved.retain(|era, _| !believed.contains(era));
        for era in (0..=newest).filter(|era| !believed.contains(era)) {
            self.unbelieved.entry(era).or_insert(at);
        }
    }

    /// Since when its clock has said that this time is over.
    fn over_since(&self, at: Duration, ends: UnixNanos) -> Option<Duration> {
        let (mut since, mut until) = (None, at);
        for (begins, off) in self.clock.iter().rev().copied() {
            if unix_at(until, off) < ends {
                return since;
            }
            if unix_at(begins, off) < ends {
                let left = ends.0 - unix_at(begins, off).0;
                return Some(begins + Duration::from_nanos(left));
            }
            (since, until) = (Some(begins), begins);
        }
        since
    }

    /// Why a link to who shows this should not be any more.
    fn objection(&self, at: Duration, shown: Shown) -> Option<String> {
        let told = |what: &str, since: Duration| format!("{what} since {:.3} s", since.as_secs_f64());
        let revoked = self.revoked.get(&shown.certificate).filter(|since| at > **since + GRACE);
        let unbelieved = self.unbelieved.get(&shown.era).filter(|since| at > **since + GRACE);
        let over = self.over_since(at, shown.ends).filter(|since| at > *since + LOOK_EVERY + GRACE);
        revoked
            .map(|since| told("which it knows to be taken back", *since))
            .or_else(|| unbelieved.map(|since| told("whose authority it does not believe", *since)))
            .or_else(|| over.map(|since| told("which ended by its clock", since)))
    }

    /// What a connection may have shown that was seen to be there at this time.
    fn may_have_shown(&self, seen: Duration) -> Vec<Shown> {
        let from = seen.saturating_sub(MADE_WITHIN);
        let before = self.own.iter().rfind(|(at, _)| *at <= from);
        let since = self.own.iter().filter(|(at, _)| *at > from && *at <= seen);
        before.into_iter().chain(since).map(|(_, shown)| *shown).collect()
    }
}

impl Trust {
    fn linked(&self, at: Duration, node: usize, peer: &NodeName) -> Result<(), String> {
        let Some(of) = number(peer) else { return Err(format!("it is linked to {peer}, which is no node")) };
        let (Some(here), Some(there)) = (self.nodes.get(&node), self.nodes.get(&of)) else { return Ok(()) };
        let seen = here.links.get(&of).map_or(at, |(_, seen)| *seen);
        let objections: Option<Vec<String>> =
            there.may_have_shown(seen).into_iter().map(|shown| here.objection(at, shown)).collect();
        match objections.as_deref() {
            Some([.., last]) => Err(format!("it is linked to {peer} by a certificate {last}")),
            _ => Ok(()),
        }
    }

    fn saw(&mut self, at: Duration, node: usize, nodes: &Nodes) -> Result<(), String> {
        for peer in nodes.nodes.iter().map(|seen| &seen.peer).filter(|peer| peer.state.is_linked()) {
            let links = &mut self.nodes.entry(node).or_default().links;
            let (connections, seen) = links.entry(number(&peer.name).unwrap_or(usize::MAX)).or_insert((0, at));
            if *connections < peer.counts.linked {
                (*connections, *seen) = (peer.counts.linked, at);
            }
            self.linked(at, node, &peer.name)?;
        }
        Ok(())
    }
}

impl Checker for Trust {
    fn name(&self) -> &'static str {
        "trust"
    }

    fn hear(&mut self, at: Duration, node: usize, event: &Event) -> Result<(), String> {
        let of = self.nodes.entry(node).or_default();
        match event {
            Event::PapersRead(reading) => of.read(at, node, reading),
            Event::ClockSet { off_seconds } => of.clock.push((at, *off_seconds)),
            Event::LinksUp => of.links.clear(),
            Event::LinkReceived { peer, .. } => return self.linked(at, node, peer),
            Event::LinkChanged { peer, state } => {
                let peer_number = number(peer).unwrap_or(usize::MAX);
                if !state.is_linked() {
                    of.links.remove(&peer_number);
                    return Ok(());
                }
                of.links.entry(peer_number).and_modify(|(_, seen)| *seen = at).or_insert((0, at));
                return self.linked(at, node, peer);
            }
            Event::Saw(nodes) => return self.saw(at, node, nodes),
            Event::StrangerLinked(peer) => return Err(format!("a stranger is linked to {peer}")),
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{OfNode, unix_at};

    #[test]
    fn unit_checker_of_trust_counts_the_time_of_a_certificate_by_the_clock_of_who_looks() {
        let seconds = Duration::from_secs;
        let ends = unix_at(seconds(100), 0);
        let over = |clock: &[(u64, i64)], at| {
            let clock = clock.iter().map(|(at, off)| (seconds(*at), *off)).collect();
            OfNode { clock, ..OfNode::default() }.over_since(seconds(at), ends)
        };
        assert_eq!(over(&[(0, 0)], 99), None);
        assert_eq!(over(&[(0, 0)], 130), Some(seconds(100)));
        assert_eq!(over(&[(0, 50)], 130), Some(seconds(50)));
        assert_eq!(over(&[(0, -50)], 130), None);
        assert_eq!(over(&[(0, -50), (110, 0)], 130), Some(seconds(110)), "it jumped over the end");
        assert_eq!(over(&[(0, 50), (60, 30)], 130), Some(seconds(70)), "and back before it");
        assert_eq!(over(&[(0, 50), (60, 45)], 130), Some(seconds(50)), "back, and not before it");
        assert_eq!(over(&[(0, 0), (120, -50)], 130), None);
    }
}
