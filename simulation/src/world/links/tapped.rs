//! A node's links, with an ear at them: what the node says and hears is told to the checkers as it happens.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use async_trait::async_trait;
use bytes::Bytes;
use palisade_domain::{NodeName, UnixNanos};
use palisade_link::Links;
use palisade_wire::frame::Digest;
use palisade_world::{Link, LinkEvent, LinkState, Peer, SendError, TurnedAway};

use crate::{
    event::{Event, Teller},
    world::mutation::Mutation,
};

/// Of so many batches, one is broken where links are to be.
const BROKEN_OF: u64 = 8;

/// See the module.
pub(super) struct Tapped {
    links: Arc<Links>,
    teller: Teller,
    mutation: Option<Mutation>,
    batches: AtomicU64,
}

fn identity(message: &Bytes) -> u64 {
    Digest::default().after(message).0
}

impl Tapped {
    pub(super) fn new(links: Arc<Links>, teller: Teller, mutation: Option<Mutation>) -> Self {
        Self { links, teller, mutation, batches: AtomicU64::new(0) }
    }

    fn sent(&self, peer: &NodeName, message: u64, bytes: usize) {
        self.teller.tell(&Event::LinkSent { peer: peer.clone(), message, bytes });
    }

    /// What a link that is broken on purpose makes of a batch.
    fn broken(&self, messages: &mut Vec<Bytes>) {
        if self.mutation.is_none() || self.batches.fetch_add(1, Ordering::Relaxed) % BROKEN_OF != BROKEN_OF - 1 {
            return;
        }
        match self.mutation {
            Some(Mutation::SwallowsMessages) => drop(messages.pop()),
            Some(Mutation::RepeatsMessages) => messages.extend(messages.last().cloned()),
            Some(Mutation::InventsMessages) => messages.push(Bytes::from_static(b"nobody said so")),
            _ => {}
        }
    }
}

#[async_trait]
impl Link for Tapped {
    fn own_name(&self) -> &NodeName {
        self.links.own_name()
    }

    fn peers(&self) -> Vec<Peer> {
        let mut peers = self.links.peers();
        if self.mutation == Some(Mutation::SaysAllIsLinked) {
            peers.iter_mut().for_each(|peer| peer.state = LinkState::Linked { since: UnixNanos(0) });
        }
        peers
    }

    fn turned_away(&self) -> Vec<TurnedAway> {
        self.links.turned_away()
    }

    fn troubles(&self) -> Vec<String> {
        self.links.troubles()
    }

    fn try_send(&self, peer: &NodeName, message: Bytes) -> Result<(), SendError> {
        let (identity, bytes) = (identity(&message), message.len());
        self.links.try_send(peer, message)?;
        self.sent(peer, identity, bytes);
        Ok(())
    }

    async fn send(&self, peer: &NodeName, message: Bytes) -> Result<(), SendError> {
        let (identity, bytes) = (identity(&message), message.len());
        self.links.send(peer, message).await?;
        self.sent(peer, identity, bytes);
        Ok(())
    }

    async fn next(&self) -> Option<LinkEvent> {
        let mut event = self.links.next().await?;
        let told = match &mut event {
            LinkEvent::Received { peer, messages } => {
                self.broken(messages);
                Event::LinkReceived { peer: peer.clone(), messages: messages.iter().map(identity).collect() }
            }
            LinkEvent::Changed { peer, state } => Event::LinkChanged { peer: peer.clone(), state: state.clone() },
        };
        self.teller.tell(&told);
        Some(event)
    }
}
