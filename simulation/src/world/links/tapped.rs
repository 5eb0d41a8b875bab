//! A node's links, with an ear at them: what the node says and hears is told to the checkers as it happens.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use async_trait::async_trait;
use bytes::Bytes;
use palisade_domain::{NodeName, UnixNanos};
use palisade_link::Links;
use palisade_wire::frame::{Digest, Message};
use palisade_world::{Link, LinkEvent, LinkState, Peer, SendError, TurnedAway};

use crate::{
    event::{Answer, Event, Teller},
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

/// What is told of a message that the links took.
struct Taken {
    message: u64,
    bytes: usize,
    answer: Option<Arc<Answer>>,
}

impl Taken {
    fn of(message: &Bytes) -> Self {
        let answer = match Message::read(message) {
            Ok(Message::Tree { rows, .. }) => Some(Answer::Tree(rows)),
            Ok(Message::Alerts { lines, follows, .. }) => Some(Answer::Alerts { lines, follows }),
            _ => None,
        };
        Self { message: identity(message), bytes: message.len(), answer: answer.map(Arc::new) }
    }
}

fn identity(message: &Bytes) -> u64 {
    Digest::default().after(message).0
}

impl Tapped {
    pub(super) fn new(links: Arc<Links>, teller: Teller, mutation: Option<Mutation>) -> Self {
        Self { links, teller, mutation, batches: AtomicU64::new(0) }
    }

    fn sent(&self, peer: &NodeName, Taken { message, bytes, answer }: Taken) {
        self.teller.tell(&Event::LinkSent { peer: peer.clone(), message, bytes, answer });
    }

    /// What a node that is broken on purpose says of itself.
    fn said(&self, message: Bytes) -> Bytes {
        if self.mutation != Some(Mutation::TellsOfAnother) {
            return message;
        }
        let Ok(Message::Alerts { question, lines, .. }) = Message::read(&message) else { return message };
        let own = format!("\"n{}c", self.teller.node);
        Message::alerts(question, lines.iter().map(|line| line.replace(&own, "\"n99c")).collect()).write()
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
        let message = self.said(message);
        let taken = Taken::of(&message);
        self.links.try_send(peer, message)?;
        self.sent(peer, taken);
        Ok(())
    }

    async fn send(&self, peer: &NodeName, message: Bytes) -> Result<(), SendError> {
        let message = self.said(message);
        let taken = Taken::of(&message);
        self.links.send(peer, message).await?;
        self.sent(peer, taken);
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
