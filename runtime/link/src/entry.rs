//! One peer as all tasks share it: how its link is, what waits for it, what came from it.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use palisade_domain::{NodeName, UnixNanos};
use palisade_wire::frame::{Place, Run};
use palisade_world::{Doubled, LinkCounts, LinkState, Peer};
use tokio::sync::{Notify, Semaphore};

use crate::{
    ended::Ended,
    inbound::Inbound,
    links::held,
    lives::Lives,
    outbound::{Piece, Queue, Resumed},
    session::BATCH_BYTES,
};

/// See the module.
pub(crate) struct Entry {
    pub(crate) name: NodeName,
    /// Room for what came and was not yet asked for, in bytes.
    pub(crate) inbox: Arc<Semaphore>,
    /// Something waits to be written.
    pub(crate) unwritten: Notify,
    /// There may be room again.
    pub(crate) room: Notify,
    /// It is to be dialled anew, for a certificate changed.
    pub(crate) renew: Notify,
    /// Something came that the peer is to know.
    pub(crate) untold: Notify,
    queue: Mutex<Queue>,
    inbound: Mutex<Inbound>,
    lives: Mutex<Lives>,
    view: Mutex<View>,
    counts: Counters,
}

struct View {
    /// Where it is dialled; none of one that only dials.
    dial: Option<SocketAddr>,
    state: LinkState,
    address: Option<SocketAddr>,
}

#[derive(Default)]
struct Counters {
    sent: AtomicU64,
    taken: AtomicU64,
    received: AtomicU64,
    refused: AtomicU64,
    linked: AtomicU64,
}

impl Entry {
    pub(crate) fn new(
        name: NodeName,
        dial: Option<SocketAddr>,
        run: Run,
        queue_bytes: usize,
        inbox_bytes: usize,
    ) -> Self {
        Self {
            name,
            inbox: Arc::new(Semaphore::new(inbox_bytes)),
            unwritten: Notify::new(),
            room: Notify::new(),
            renew: Notify::new(),
            untold: Notify::new(),
            queue: Mutex::new(Queue::new(run, queue_bytes, BATCH_BYTES)),
            inbound: Mutex::default(),
            lives: Mutex::default(),
            view: Mutex::new(View { dial, state: LinkState::Connecting, address: dial }),
            counts: Counters::default(),
        }
    }

    /// Takes a message, or hands it back for want of room.
    pub(crate) fn push(&self, message: Bytes) -> Result<(), Bytes> {
        let was_idle = {
            let mut queue = held(&self.queue);
            let was_idle = !queue.has_unwritten();
            queue.push(message)?;
            was_idle
        };
        self.counts.sent.fetch_add(1, Ordering::Relaxed);
        if was_idle {
            self.unwritten.notify_one();
        }
        Ok(())
    }

    pub(crate) fn count_refused(&self) {
        self.counts.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// The next batch to write, as soon as there is one.
    pub(crate) async fn next_batch(&self) -> Piece {
        loop {
            if let Some(next) = held(&self.queue).next() {
                return next;
            }
            self.unwritten.notified().await;
        }
    }

    /// The peer has all up to here.
    pub(crate) fn taken_by_peer(&self, run: Run, sequence: u64) {
        let made_room = held(&self.queue).taken(run, sequence);
        if let Some(sequence) = made_room {
            self.counts.taken.fetch_max(sequence, Ordering::Relaxed);
            self.room.notify_waiters();
        }
    }

    /// A new connection, over which the peer said what it has.
    pub(crate) fn resume(&self, has: Option<Place>, fresh: Run) -> Resumed {
        let resumed = held(&self.queue).resume(has, fresh);
        self.room.notify_waiters();
        resumed
    }

    /// The part of receiving.
    pub(crate) fn inbound<T>(&self, step: impl FnOnce(&mut Inbound) -> T) -> T {
        step(&mut held(&self.inbound))
    }

    /// The peer numbers by this run, and is there.
    pub(crate) fn hear_life(&self, run: Run, address: SocketAddr, now: UnixNanos) {
        let doubled = held(&self.lives).hear(run, address, now);
        self.say_doubled(doubled);
    }

    /// It is two, at these addresses.
    pub(crate) fn hear_both(&self, addresses: [SocketAddr; 2], now: UnixNanos) {
        let doubled = held(&self.lives).both(addresses, now);
        self.say_doubled(doubled);
    }

    fn say_doubled(&self, doubled: Option<Doubled>) {
        if let Some(doubled) = doubled {
            tracing::error!(peer = %self.name, times = doubled.times, "{doubled}");
        }
    }

    /// The newest life of the peer, and how many times one was heard.
    pub(crate) fn newest_life(&self) -> (Option<Run>, u64) {
        held(&self.lives).newest()
    }

    pub(crate) fn count_received(&self, messages: u64) {
        self.counts.received.fetch_add(messages, Ordering::Relaxed);
    }

    /// The peer that only dials is known by where it last dialled from.
    pub(crate) fn dialled_from(&self, address: SocketAddr) {
        let mut view = held(&self.view);
        if view.dial.is_none() {
            view.address = Some(address);
        }
    }

    /// Where it is dialled; none of one that only dials.
    pub(crate) fn dial(&self) -> Option<SocketAddr> {
        held(&self.view).dial
    }

    /// From now on it is dialled there.
    pub(crate) fn dial_at(&self, address: SocketAddr) {
        let before = {
            let mut view = held(&self.view);
            view.address = Some(address);
            view.dial.replace(address)
        };
        if before != Some(address) {
            self.renew.notify_one();
        }
    }

    /// Since when it is not linked, where it is not.
    pub(crate) fn out_since(&self) -> Option<UnixNanos> {
        match held(&self.view).state {
            LinkState::Out { since, .. } | LinkState::Refused { since, .. } => Some(since),
            LinkState::Connecting | LinkState::Linked { .. } => None,
        }
    }

    /// The link stands. What it is now, where that is news.
    pub(crate) fn linked(&self, now: UnixNanos) -> Option<LinkState> {
        let mut view = held(&self.view);
        self.counts.linked.fetch_add(1, Ordering::Relaxed);
        if view.state.is_linked() {
            return None;
        }
        view.state = LinkState::Linked { since: now };
        Some(view.state.clone())
    }

    /// It does not. What it is now, where that is news.
    pub(crate) fn ended(&self, ended: Ended, now: UnixNanos) -> Option<LinkState> {
        let mut view = held(&self.view);
        // How long it has been out counts from when it was last linked, whatever was tried since.
        let since = match view.state {
            LinkState::Out { since, .. } | LinkState::Refused { since, .. } => since,
            LinkState::Connecting | LinkState::Linked { .. } => now,
        };
        let state = match ended {
            Ended::Refused { why, said, by_us } => LinkState::Refused { why, said, by_us, since },
            Ended::TakenOver(said) => {
                LinkState::Out { why: format!("{said}: another node has a copy of this node's certificate"), since }
            }
            Ended::Out(why) => LinkState::Out { why, since },
        };
        (view.state != state).then(|| {
            view.state.clone_from(&state);
            state
        })
    }

    pub(crate) fn peer(&self, now: UnixNanos) -> Peer {
        let (waiting, most) = held(&self.queue).bytes();
        let counts = LinkCounts {
            sent: self.counts.sent.load(Ordering::Relaxed),
            taken_by_peer: self.counts.taken.load(Ordering::Relaxed),
            received: self.counts.received.load(Ordering::Relaxed),
            refused: self.counts.refused.load(Ordering::Relaxed),
            lost: held(&self.inbound).lost,
            linked: self.counts.linked.load(Ordering::Relaxed),
            waiting_bytes: waiting as u64,
            most_waiting_bytes: most as u64,
        };
        let view = held(&self.view);
        Peer {
            name: self.name.clone(),
            address: view.address,
            dialled: view.dial.is_some(),
            state: view.state.clone(),
            counts,
            doubled: held(&self.lives).doubled(now),
        }
    }
}
