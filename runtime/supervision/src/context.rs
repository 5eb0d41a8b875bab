//! The context of a supervised actor, and how its mail reaches it.
//!
//! An actor declares `type Context = palisade_supervision::Context<Self>` and has all of actix's `AsyncContext`.
//!
//! Invariant: the mailbox belongs to the shell, not to the actor: each generation gets a *new* `ContextFut` with an
//! unused mailbox of its own, and a pump, a future inside the actor's context, that moves messages from the shell's
//! mailbox to the actor. So a crash drops actor, timers and futures, and nothing else.
//!
//! Decision: our own context type, not `actix::Context`, because (1) `ContextFut` keeps its actor private, so with
//! actix's own context a factory could never replace the state; (2) packing our own envelope is the only place that sees
//! each message, which counting needs; both cost no allocation beyond the one box that actix makes for any message.

use crate::{address::Address, control::Line, gate::Gate};
use actix::{
    Actor, ActorContext, ActorState, Addr, AsyncContext, Handler, Message, SpawnHandle,
    dev::{
        AsyncContextParts, ContextParts, Envelope, EnvelopeProxy, MessageResponse, OneshotSender, ToEnvelope,
        channel::AddressReceiver,
    },
    fut::ActorFuture,
};
use futures_util::Stream;
use std::{
    cell::{Cell, RefCell},
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context as TaskContext, Poll},
};

/// Messages an actor handles before others on its thread have a turn. Larger only helps throughput by less than the
/// noise; smaller costs a wake-up each.
const TURN: u32 = 256;

thread_local! {
    // Set by an `Address` around actix's own send call, read by `pack` within that call: the only way to tell an
    // envelope that its place was reserved at the gate.
    static ADMITTED: Cell<bool> = const { Cell::new(false) };
    static DROPPED_UNREAD: Cell<u64> = const { Cell::new(0) };
}

/// Runs actix's `send` so that the envelope it packs knows its place is reserved. The flag that comes back says
/// whether an envelope was packed.
pub(crate) fn with_reserved_place<T>(send: impl FnOnce() -> T) -> (T, bool) {
    ADMITTED.set(true);
    let sent = send();
    (sent, !ADMITTED.replace(false))
}

/// Admitted messages that were dropped unread by `drop_some` on this thread.
pub(crate) fn count_dropped_unread(drop_some: impl FnOnce()) -> u64 {
    DROPPED_UNREAD.set(0);
    drop_some();
    DROPPED_UNREAD.replace(0)
}

/// The execution context of a supervised actor.
pub struct Context<A: Actor<Context = Self>> {
    parts: ContextParts<A>,
    address: Address<A>,
    flight: Flight,
    generation: u64,
    turn: u32,
}

/// What is at stake while a handler runs.
#[derive(Debug, Default)]
struct Flight {
    message: bool,
    records: u64,
}

impl<A: Actor<Context = Self>> Context<A> {
    pub(crate) fn new(receiver: &AddressReceiver<A>, address: Address<A>, generation: u64) -> Self {
        Self {
            parts: ContextParts::new(receiver.sender_producer()),
            address,
            flight: Flight::default(),
            generation,
            turn: TURN,
        }
    }

    /// This actor's own address, stable across restarts.
    #[must_use]
    pub fn own_address(&self) -> Address<A> {
        self.address.clone()
    }

    /// The number of this incarnation: 1 for the first.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Notes how many records are lost if this actor panics now. Say it before dispatching a batch, and again with what
    /// is left as the batch goes on. It ends with the handler (in a timer: with the turn); unsaid, a message counts as one record.
    pub fn at_stake(&mut self, records: u64) {
        self.flight.records = records;
    }

    pub(crate) fn begin_turn(&mut self) {
        self.turn = TURN;
        self.flight = Flight::default();
    }

    pub(crate) fn gate(&self) -> &Arc<Gate> {
        self.address.gate()
    }

    /// Settles what was in flight after a panic.
    pub(crate) fn count_loss(&mut self) {
        let flight = std::mem::take(&mut self.flight);
        if flight.message {
            self.gate().lost_in_panic(1, flight.records.max(1));
        } else if flight.records > 0 {
            self.gate().lost_in_panic(0, flight.records);
        }
    }
}

impl<A: Actor<Context = Self>> ActorContext for Context<A> {
    fn stop(&mut self) {
        self.parts.stop();
    }
    fn terminate(&mut self) {
        self.parts.terminate();
    }
    fn state(&self) -> ActorState {
        self.parts.state()
    }
}

impl<A: Actor<Context = Self>> AsyncContext<A> for Context<A> {
    fn address(&self) -> Addr<A> {
        self.parts.address()
    }
    fn spawn<F>(&mut self, fut: F) -> SpawnHandle
    where
        F: ActorFuture<A, Output = ()> + 'static,
    {
        self.parts.spawn(fut)
    }
    fn wait<F>(&mut self, fut: F)
    where
        F: ActorFuture<A, Output = ()> + 'static,
    {
        self.parts.wait(fut);
    }
    fn waiting(&self) -> bool {
        self.parts.waiting()
    }
    fn cancel_future(&mut self, handle: SpawnHandle) -> bool {
        self.parts.cancel_future(handle)
    }
}

impl<A: Actor<Context = Self>> AsyncContextParts<A> for Context<A> {
    fn parts(&mut self) -> &mut ContextParts<A> {
        &mut self.parts
    }
}

impl<A, M> ToEnvelope<A, M> for Context<A>
where
    A: Actor<Context = Self> + Handler<M>,
    M: Message + Send + 'static,
    M::Result: Send,
{
    fn pack(message: M, reply: Option<OneshotSender<M::Result>>) -> Envelope<A> {
        let admitted = ADMITTED.replace(false);
        Envelope::with_proxy(Box::new(Parcel { message: Some(message), reply, admitted }))
    }
}

/// A message on its way, knowing whether the gate has counted it.
struct Parcel<M: Message> {
    message: Option<M>,
    reply: Option<OneshotSender<M::Result>>,
    admitted: bool,
}

impl<M: Message> Drop for Parcel<M> {
    fn drop(&mut self) {
        if self.message.is_some() && self.admitted {
            DROPPED_UNREAD.set(DROPPED_UNREAD.get() + 1);
        }
    }
}

impl<A, M> EnvelopeProxy<A> for Parcel<M>
where
    A: Actor<Context = Context<A>> + Handler<M>,
    M: Message + Send + 'static,
    M::Result: Send,
{
    fn handle(&mut self, actor: &mut A, ctx: &mut Context<A>) {
        let Some(message) = self.message.take() else { return };
        if !self.admitted {
            ctx.gate().admit_unasked(1);
        }
        ctx.gate().took(1);
        let reply = self.reply.take();
        if reply.as_ref().is_some_and(OneshotSender::is_closed) {
            ctx.gate().expired();
            return;
        }
        ctx.flight = Flight { message: true, records: 0 };
        let response = <A as Handler<M>>::handle(actor, message, ctx);
        ctx.flight = Flight::default();
        // Counted before the answer leaves: who has it may look at the counters.
        ctx.gate().handled();
        response.handle(ctx, reply);
    }
}

/// Moves messages from the shell's mailbox to the actor. It is first polled when `started` has returned and everything
/// that `started` waits for is done: that is the moment a start is acknowledged.
pub(crate) struct Pump<A: Actor<Context = Context<A>>> {
    receiver: Rc<RefCell<AddressReceiver<A>>>,
    unacknowledged: Option<(Line, u64)>,
}

impl<A: Actor<Context = Context<A>>> Pump<A> {
    pub(crate) fn new(receiver: Rc<RefCell<AddressReceiver<A>>>, line: Line, generation: u64) -> Self {
        Self { receiver, unacknowledged: Some((line, generation)) }
    }
}

impl<A: Actor<Context = Context<A>>> Unpin for Pump<A> {}

impl<A: Actor<Context = Context<A>>> ActorFuture<A> for Pump<A> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, actor: &mut A, ctx: &mut Context<A>, task: &mut TaskContext<'_>) -> Poll<()> {
        if let Some((line, generation)) = self.unacknowledged.take() {
            line.started(generation);
        }
        while !ctx.waiting() {
            if ctx.turn == 0 {
                ctx.gate().after_pass();
                task.waker().wake_by_ref();
                return Poll::Pending;
            }
            let next = Pin::new(&mut *self.receiver.borrow_mut()).poll_next(task);
            let Poll::Ready(Some(mut envelope)) = next else {
                ctx.gate().after_pass();
                return Poll::Pending;
            };
            ctx.turn -= 1;
            envelope.handle(actor, ctx);
        }
        // The actor waits for something, perhaps for a sender that waits for the room just made.
        ctx.gate().after_pass();
        Poll::Pending
    }
}
