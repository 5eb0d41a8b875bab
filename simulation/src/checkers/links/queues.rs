//! What waits for a peer keeps to its bound, and so do the tables of peers.

use std::{collections::BTreeMap, time::Duration};

use crate::{checkers::Checker, event::Event};

/// What a message that waits alone costs beside its own bytes, at most: its piece, and its head in it.
const BESIDE: u64 = 128 + 9;
/// Peers of a node, and nodes that were turned away, at most: the links' own bounds.
const PEERS: usize = 64;
const TURNED_AWAY: usize = 16;

/// See the module.
#[derive(Debug)]
pub struct Queues {
    bound: u64,
    /// The longest message that each process took: it may wait alone, however small the bound is.
    longest: BTreeMap<usize, u64>,
}

impl Queues {
    /// Of links with this bound in bytes for each peer.
    #[must_use]
    pub fn new(bound: usize) -> Self {
        Self { bound: bound as u64, longest: BTreeMap::new() }
    }
}

impl Checker for Queues {
    fn name(&self) -> &'static str {
        "queues"
    }

    fn hear(&mut self, _: Duration, node: usize, event: &Event) -> Result<(), String> {
        match event {
            Event::LinksUp => drop(self.longest.insert(node, 0)),
            Event::LinkSent { bytes, .. } => {
                let longest = self.longest.entry(node).or_default();
                *longest = (*longest).max(*bytes as u64);
            }
            Event::Saw(nodes) => {
                let bound = self.bound.max(self.longest.get(&node).copied().unwrap_or(0) + BESIDE);
                let over = nodes.nodes.iter().find(|seen| seen.peer.counts.most_waiting_bytes > bound);
                if let Some(seen) = over {
                    let (peer, most) = (&seen.peer.name, seen.peer.counts.most_waiting_bytes);
                    return Err(format!("{most} bytes waited for {peer}, of at most {bound}"));
                }
                if nodes.nodes.len() > PEERS || nodes.turned_away.len() > TURNED_AWAY {
                    let (peers, away) = (nodes.nodes.len(), nodes.turned_away.len());
                    return Err(format!("{peers} peers and {away} that were turned away"));
                }
            }
            _ => {}
        }
        Ok(())
    }
}
