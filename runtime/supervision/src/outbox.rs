//! Sending ends that know what to do when the receiver is slow.
//!
//! Invariant: memory is bounded by mailbox capacity plus the stage's; whatever does not arrive is counted, here and
//! at the receiver. Messages of one task through one outbox arrive in order, staged or not.
//! Decision: what an overflow policy displaces is held *before* the mailbox, in a small stage, because a message once in
//! actix's queue cannot be taken out again. Both sides flush it: the sender when it sends, the receiver when it has room.

use crate::{
    address::{Address, AskError, Refused},
    context::Context,
    gate::{Gate, Staged},
};
use actix::{Actor, Handler, Message};
use futures_util::future::{BoxFuture, FutureExt};
use std::{
    collections::VecDeque,
    num::NonZeroUsize,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// What happens to a message that finds the mailbox full.
#[derive(Debug)]
pub enum Overflow<M> {
    /// The new message is handed back and counted as shed.
    Refuse,
    /// It waits in a stage of this size; when that is full too, the oldest staged message is shed.
    ShedOldest(NonZeroUsize),
    /// It waits in a stage of this size, where it replaces an older message of the same key, in its place; when the
    /// stage is full of other keys, the new message is handed back and counted as shed.
    Coalesce(NonZeroUsize, fn(&M) -> u64),
    /// [`Outbox::send`] waits for room; [`Outbox::try_send`] hands the message back and counts nothing.
    Block,
}

// Derived ones would ask the same of `M`.
impl<M> Clone for Overflow<M> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<M> Copy for Overflow<M> {}

/// What one outbox (with its clones) did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OutboxCounts {
    /// Messages accepted: into the mailbox or the stage.
    pub accepted: u64,
    /// Messages refused or displaced because there was no room.
    pub shed: u64,
    /// Staged messages replaced by a newer one of the same key.
    pub coalesced: u64,
    /// Messages refused, or dropped from the stage, because the receiver is over.
    pub closed: u64,
    /// Messages in the stage now.
    pub staged: u64,
}

#[derive(Debug, Default)]
struct Counters {
    accepted: AtomicU64,
    shed: AtomicU64,
    coalesced: AtomicU64,
    closed: AtomicU64,
}

/// An address that only knows one kind of message.
pub(crate) trait Deliver<M: Message>: Send + Sync {
    fn deliver(&self, message: M) -> Result<(), Refused<M>>;
    fn gate(&self) -> &Arc<Gate>;
    fn ask_boxed(self: Arc<Self>, message: M, within: Duration) -> BoxFuture<'static, Result<M::Result, AskError>>;
}

impl<A, M> Deliver<M> for Address<A>
where
    A: Actor<Context = Context<A>> + Handler<M>,
    M: Message + Send + 'static,
    M::Result: Send,
{
    fn deliver(&self, message: M) -> Result<(), Refused<M>> {
        self.offer(message)
    }
    fn gate(&self) -> &Arc<Gate> {
        Address::gate(self)
    }
    fn ask_boxed(self: Arc<Self>, message: M, within: Duration) -> BoxFuture<'static, Result<M::Result, AskError>> {
        async move { self.ask(message, within).await }.boxed()
    }
}

/// The sending end for one kind of message.
pub struct Outbox<M: Message> {
    to: Arc<dyn Deliver<M>>,
    overflow: Overflow<M>,
    stage: Option<Arc<Stage<M>>>,
    counters: Arc<Counters>,
}

impl<M: Message> Clone for Outbox<M> {
    fn clone(&self) -> Self {
        Self {
            to: self.to.clone(),
            overflow: self.overflow,
            stage: self.stage.clone(),
            counters: self.counters.clone(),
        }
    }
}

impl<M: Message + Send + 'static> Outbox<M> {
    pub(crate) fn new(to: Arc<dyn Deliver<M>>, overflow: Overflow<M>) -> Self {
        let counters = Arc::new(Counters::default());
        let stage_of = |limit: NonZeroUsize| {
            let stage = Arc::new(Stage {
                to: to.clone(),
                limit: limit.get(),
                held: Mutex::new(VecDeque::new()),
                length: AtomicU64::new(0),
                counters: counters.clone(),
            });
            let weak: Weak<Stage<M>> = Arc::downgrade(&stage);
            to.gate().register(weak);
            stage
        };
        let stage = match &overflow {
            Overflow::ShedOldest(limit) | Overflow::Coalesce(limit, _) => Some(stage_of(*limit)),
            Overflow::Refuse | Overflow::Block => None,
        };
        Self { to, overflow, stage, counters }
    }

    /// Sends without waiting, by the overflow policy.
    ///
    /// # Errors
    /// [`Refused`] with the message: no room under this policy, or the receiver is over.
    pub fn try_send(&self, message: M) -> Result<(), Refused<M>> {
        let accepted = match &self.stage {
            Some(stage) => stage.send(message, &self.overflow),
            None => self.to.deliver(message),
        };
        self.count(&accepted, !matches!(self.overflow, Overflow::Block));
        accepted
    }

    /// Sends and waits for room, whatever the policy: backpressure.
    ///
    /// # Errors
    /// [`Refused::Closed`] with the message: the receiver is over.
    pub async fn send(&self, message: M) -> Result<(), Refused<M>> {
        let gate = self.to.gate();
        let mut message = match self.deliver_in_order(message) {
            Err(Refused::Full(message)) => message,
            done => {
                self.count(&done, false);
                return done;
            }
        };
        let _waiting = Waiting::new(gate);
        loop {
            // Listen first, then look again: `notify_waiters` reaches a future from the moment it is made, polled or not.
            let room = gate.room().notified();
            match self.deliver_in_order(message) {
                Err(Refused::Full(back)) => message = back,
                done => {
                    self.count(&done, false);
                    return done;
                }
            }
            room.await;
        }
    }

    /// Into the mailbox, but not past what is staged.
    fn deliver_in_order(&self, message: M) -> Result<(), Refused<M>> {
        match &self.stage {
            Some(stage) => stage.deliver_behind(message),
            None => self.to.deliver(message),
        }
    }

    fn count(&self, sent: &Result<(), Refused<M>>, sheds: bool) {
        let gate = self.to.gate();
        match sent {
            Ok(()) => {
                self.counters.accepted.fetch_add(1, Ordering::Relaxed);
            }
            Err(Refused::Full(_)) if sheds => {
                self.counters.shed.fetch_add(1, Ordering::Relaxed);
                gate.count_shed(1);
            }
            Err(Refused::Full(_)) => {}
            Err(Refused::Closed(_)) => {
                self.counters.closed.fetch_add(1, Ordering::Relaxed);
                gate.count_refused_closed(1);
            }
        }
    }

    /// What this outbox did.
    #[must_use]
    pub fn counts(&self) -> OutboxCounts {
        OutboxCounts {
            accepted: self.counters.accepted.load(Ordering::Relaxed),
            shed: self.counters.shed.load(Ordering::Relaxed),
            coalesced: self.counters.coalesced.load(Ordering::Relaxed),
            closed: self.counters.closed.load(Ordering::Relaxed),
            staged: self.stage.as_ref().map_or(0, |stage| stage.length.load(Ordering::Relaxed)),
        }
    }

    /// The receiving mailbox's counters.
    #[must_use]
    pub fn mail(&self) -> crate::MailCounts {
        self.to.gate().counts()
    }
}

/// Counts a waiting sender for as long as it waits, however it ends.
struct Waiting<'a>(&'a Gate);

impl<'a> Waiting<'a> {
    fn new(gate: &'a Gate) -> Self {
        gate.want_attention();
        Self(gate)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.drop_attention(1);
    }
}

/// Messages held back before a full mailbox.
struct Stage<M: Message> {
    to: Arc<dyn Deliver<M>>,
    limit: usize,
    held: Mutex<VecDeque<M>>,
    length: AtomicU64,
    counters: Arc<Counters>,
}

impl<M: Message + Send + 'static> Stage<M> {
    fn held(&self) -> MutexGuard<'_, VecDeque<M>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn send(&self, message: M, overflow: &Overflow<M>) -> Result<(), Refused<M>> {
        if self.length.load(Ordering::Acquire) == 0 {
            match self.to.deliver(message) {
                Err(Refused::Full(message)) => self.hold(message, overflow),
                done => done,
            }
        } else {
            self.hold(message, overflow)
        }
    }

    fn deliver_behind(&self, message: M) -> Result<(), Refused<M>> {
        let mut held = self.held();
        self.flush_held(&mut held);
        if held.is_empty() { self.to.deliver(message) } else { Err(Refused::Full(message)) }
    }

    fn hold(&self, message: M, overflow: &Overflow<M>) -> Result<(), Refused<M>> {
        let mut held = self.held();
        if let Overflow::Coalesce(_, key) = overflow
            && let Some(older) = held.iter_mut().find(|older| key(older) == key(&message))
        {
            *older = message;
            self.counters.coalesced.fetch_add(1, Ordering::Relaxed);
            self.to.gate().count_coalesced();
            self.flush_held(&mut held);
            return Ok(());
        }
        if held.len() >= self.limit {
            self.flush_held(&mut held);
        }
        if held.len() >= self.limit {
            if matches!(overflow, Overflow::Coalesce(..)) {
                return Err(Refused::Full(message));
            }
            held.pop_front();
            self.release(1);
            self.counters.shed.fetch_add(1, Ordering::Relaxed);
            self.to.gate().count_shed(1);
        }
        held.push_back(message);
        self.length.fetch_add(1, Ordering::AcqRel);
        self.to.gate().want_attention();
        // The receiver may have emptied the mailbox before it could see us: look once ourselves.
        self.flush_held(&mut held);
        Ok(())
    }

    fn release(&self, messages: u64) {
        self.length.fetch_sub(messages, Ordering::AcqRel);
        self.to.gate().drop_attention(messages);
    }

    fn flush_held(&self, held: &mut VecDeque<M>) {
        while let Some(message) = held.pop_front() {
            match self.to.deliver(message) {
                Ok(()) => self.release(1),
                Err(Refused::Full(message)) => {
                    held.push_front(message);
                    return;
                }
                Err(Refused::Closed(_)) => {
                    self.release(1);
                    self.counters.closed.fetch_add(1, Ordering::Relaxed);
                    self.to.gate().count_refused_closed(1);
                }
            }
        }
    }
}

impl<M: Message + Send + 'static> Staged for Stage<M> {
    fn flush(&self) {
        self.flush_held(&mut self.held());
    }
}

impl<M: Message> Drop for Stage<M> {
    fn drop(&mut self) {
        let held = self.held.get_mut().unwrap_or_else(PoisonError::into_inner);
        for message in held.drain(..) {
            self.to.gate().drop_attention(1);
            match self.to.deliver(message) {
                Ok(()) => {}
                Err(Refused::Full(_)) => self.to.gate().count_shed(1),
                Err(Refused::Closed(_)) => self.to.gate().count_refused_closed(1),
            }
        }
    }
}

/// The asking end for one kind of question.
pub struct Asker<M: Message> {
    to: Arc<dyn Deliver<M>>,
}

impl<M: Message> Clone for Asker<M> {
    fn clone(&self) -> Self {
        Self { to: self.to.clone() }
    }
}

impl<M: Message + Send + 'static> Asker<M> {
    pub(crate) fn new(to: Arc<dyn Deliver<M>>) -> Self {
        Self { to }
    }

    /// Asks and waits for the answer, at most `within`.
    ///
    /// # Errors
    /// [`AskError`]: not asked (full, closed), lost in a crash, or no answer in time.
    pub async fn ask(&self, message: M, within: Duration) -> Result<M::Result, AskError> {
        self.to.clone().ask_boxed(message, within).await
    }
}
