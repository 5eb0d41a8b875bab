//! Nobody is linked whose certificate was taken back, or is of another authority.
//!
//! A node has to go by a list from when it read it; a link that stands is looked at by the new list at once, and one in the making when it
//! is made.

use std::{collections::BTreeMap, time::Duration};

use palisade_domain::NodeName;

use crate::{checkers::Checker, event::Event, world::links::number};

/// For a handshake under way and a thread that stalls.
const GRACE: Duration = Duration::from_secs(6);

/// See the module.
#[derive(Debug, Default)]
pub struct Trust {
    /// Which certificate each node has read of its own.
    own: BTreeMap<usize, u32>,
    /// Since when a node knows that one is taken back.
    known: BTreeMap<(usize, (usize, u32)), Duration>,
}

impl Trust {
    fn linked(&self, at: Duration, node: usize, peer: &NodeName) -> Result<(), String> {
        let Some(of) = number(peer) else { return Err(format!("it is linked to {peer}, which is no node")) };
        let certificate = (of, self.own.get(&of).copied().unwrap_or(0));
        match self.known.get(&(node, certificate)) {
            Some(known) if at > *known + GRACE => {
                let known = known.as_secs_f64();
                Err(format!("it is linked to {peer}, whose certificate it knows since {known:.3} s to be taken back"))
            }
            _ => Ok(()),
        }
    }
}

impl Checker for Trust {
    fn name(&self) -> &'static str {
        "trust"
    }

    fn hear(&mut self, at: Duration, node: usize, event: &Event) -> Result<(), String> {
        match event {
            Event::PapersRead { own, revoked } => {
                self.own.insert(node, *own);
                revoked.iter().for_each(|certificate| {
                    self.known.entry((node, *certificate)).or_insert(at);
                });
                Ok(())
            }
            Event::LinkReceived { peer, .. } => self.linked(at, node, peer),
            Event::LinkChanged { peer, state } if state.is_linked() => self.linked(at, node, peer),
            Event::Saw(nodes) => {
                let mut linked = nodes.nodes.iter().filter(|seen| seen.peer.state.is_linked());
                linked.try_for_each(|seen| self.linked(at, node, &seen.peer.name))
            }
            Event::StrangerLinked(peer) => Err(format!("a stranger is linked to {peer}")),
            _ => Ok(()),
        }
    }
}
