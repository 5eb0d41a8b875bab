//! The counted, bounded address of a supervised actor; stable across restarts.
//!
//! Invariant: a message is let in only when the gate has a place for it; `Addr` inside is actix's own.
//! Decision: `ask` always has a deadline, because actix's own `send` to a full mailbox never registers a waker and may
//! wait for ever, and because an actor that crashed with the question in its hands will not answer.

use crate::{
    context::{Context, with_reserved_place},
    gate::{Denied, Gate, MailCounts},
    outbox::{Asker, Outbox, Overflow},
};
use actix::{Actor, Addr, Handler, MailboxError, Message, dev::channel::AddressSender};
use std::{fmt, sync::Arc, time::Duration};

/// A message that was not let in, handed back.
#[derive(Clone, PartialEq, Eq)]
pub enum Refused<M> {
    /// The mailbox is full.
    Full(M),
    /// The actor is over.
    Closed(M),
}

// Not derived: messages need not be `Debug` for their senders to report a failure.
impl<M> fmt::Debug for Refused<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full(_) => "Full(..)",
            Self::Closed(_) => "Closed(..)",
        })
    }
}

impl<M> fmt::Display for Refused<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full(_) => "the mailbox is full",
            Self::Closed(_) => "the actor is over",
        })
    }
}

impl<M> std::error::Error for Refused<M> {}

impl<M> Refused<M> {
    /// The message.
    pub fn into_message(self) -> M {
        match self {
            Self::Full(message) | Self::Closed(message) => message,
        }
    }
}

/// Why a question has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// The mailbox is full; the question was not asked.
    #[error("the mailbox is full")]
    Full,
    /// The actor is over; the question was not asked.
    #[error("the actor is over")]
    Closed,
    /// The actor crashed or stopped with the question in its hands, or its mailbox was closed.
    #[error("the actor stopped before it answered")]
    Lost,
    /// No answer within the deadline; a question still queued will be skipped.
    #[error("no answer within the deadline")]
    TimedOut,
}

/// The address of a supervised actor.
pub struct Address<A: Actor<Context = Context<A>>> {
    addr: Addr<A>,
    gate: Arc<Gate>,
    name: Arc<str>,
}

impl<A: Actor<Context = Context<A>>> Clone for Address<A> {
    fn clone(&self) -> Self {
        Self { addr: self.addr.clone(), gate: self.gate.clone(), name: self.name.clone() }
    }
}

impl<A: Actor<Context = Context<A>>> fmt::Debug for Address<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({})", self.name)
    }
}

impl<A: Actor<Context = Context<A>>> Address<A> {
    pub(crate) fn new(sender: AddressSender<A>, gate: Arc<Gate>, name: Arc<str>) -> Self {
        Self { addr: Addr::new(sender), gate, name }
    }

    pub(crate) fn gate(&self) -> &Arc<Gate> {
        &self.gate
    }

    /// The child's name.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The mailbox's counters.
    #[must_use]
    pub fn mail(&self) -> MailCounts {
        self.gate.counts()
    }

    /// Actix's own address, for actix's own combinators. What is sent by it is bounded by actix (capacity plus one for
    /// each sender) and counted only when handled.
    #[must_use]
    pub fn plain(&self) -> &Addr<A> {
        &self.addr
    }

    /// Puts a message in the mailbox, or hands it back. Counts nothing but what it lets in.
    ///
    /// # Errors
    /// [`Refused`] with the message: the mailbox is full, or the actor is over.
    pub fn offer<M>(&self, message: M) -> Result<(), Refused<M>>
    where
        A: Handler<M>,
        M: Message + Send + 'static,
        M::Result: Send,
    {
        match self.gate.admit() {
            Ok(()) => {}
            Err(Denied::Full) => return Err(Refused::Full(message)),
            Err(Denied::Closed) => return Err(Refused::Closed(message)),
        }
        let (sent, _) = with_reserved_place(|| self.addr.try_send(message));
        sent.map_err(|error| {
            self.gate.withdraw();
            match error {
                actix::prelude::SendError::Full(message) => Refused::Full(message),
                actix::prelude::SendError::Closed(message) => Refused::Closed(message),
            }
        })
    }

    /// Puts a message in the mailbox; one that finds no room is counted as shed and handed back.
    ///
    /// # Errors
    /// [`Refused`] with the message: the mailbox is full, or the actor is over.
    pub fn try_tell<M>(&self, message: M) -> Result<(), Refused<M>>
    where
        A: Handler<M>,
        M: Message + Send + 'static,
        M::Result: Send,
    {
        self.offer(message).inspect_err(|refused| match refused {
            Refused::Full(_) => self.gate.count_shed(1),
            Refused::Closed(_) => self.gate.count_refused_closed(1),
        })
    }

    /// Asks and waits for the answer, at most `within`.
    ///
    /// # Errors
    /// [`AskError`]: not asked (full, closed), lost in a crash, or no answer in time.
    pub async fn ask<M>(&self, message: M, within: Duration) -> Result<M::Result, AskError>
    where
        A: Handler<M>,
        M: Message + Send + 'static,
        M::Result: Send,
    {
        match self.gate.admit() {
            Ok(()) => {}
            Err(Denied::Full) => {
                self.gate.count_shed(1);
                return Err(AskError::Full);
            }
            Err(Denied::Closed) => {
                self.gate.count_refused_closed(1);
                return Err(AskError::Closed);
            }
        }
        let (request, packed) = with_reserved_place(|| self.addr.send(message));
        if !packed {
            // Senders past the gate filled actix's own bound; such a request would wait without a waker.
            self.gate.withdraw();
            self.gate.count_shed(1);
            return Err(AskError::Full);
        }
        request.timeout(within).await.map_err(|error| match error {
            MailboxError::Closed => AskError::Lost,
            MailboxError::Timeout => AskError::TimedOut,
        })
    }

    /// A sending end for one kind of message, with its overflow policy; it hides the actor's type.
    #[must_use]
    pub fn outbox<M>(&self, overflow: Overflow<M>) -> Outbox<M>
    where
        A: Handler<M>,
        M: Message + Send + 'static,
        M::Result: Send,
    {
        Outbox::new(Arc::new(self.clone()), overflow)
    }

    /// An asking end for one kind of question; it hides the actor's type.
    #[must_use]
    pub fn asker<M>(&self) -> Asker<M>
    where
        A: Handler<M>,
        M: Message + Send + 'static,
        M::Result: Send,
    {
        Asker::new(Arc::new(self.clone()))
    }
}
