//! The shell of one child: owns its mailbox for good and its actor for one generation at a time.
//!
//! Invariant: no panic of the actor (factory, `started`, handlers, timers, `stopping`, `stopped`, its destructors)
//! leaves [`Shell::poll`]. After one, the old context is terminated *before* it is dropped, for actix's
//! `ContextFut::drop` would otherwise poll the poisoned actor again. The same holds when the shell itself is dropped with
//! its runtime: a crashed node in simulation says no goodbyes.

use crate::{
    address::Address,
    context::{Context, Pump, count_dropped_unread},
    control::{Line, Order},
    exit::{Exit, panic_text},
    pulse::Pulse,
};
use actix::{
    Actor, ActorContext, AsyncContext,
    dev::{ContextFut, Mailbox, channel::AddressReceiver},
};
use futures_util::Stream;
use std::{
    cell::RefCell,
    error::Error,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context as TaskContext, Poll, Waker},
};

/// What a factory may fail with.
pub type BuildError = Box<dyn Error + Send + Sync>;
/// Builds the fresh state of each generation.
pub(crate) type Factory<A> = Box<dyn FnMut(&mut Context<A>) -> Result<A, BuildError> + Send>;

/// See the module.
pub(crate) struct Shell<A: Actor<Context = Context<A>>> {
    line: Line,
    address: Address<A>,
    receiver: Rc<RefCell<AddressReceiver<A>>>,
    factory: Factory<A>,
    pulse: Arc<Pulse>,
    watched: u64,
    body: Option<Body<A>>,
    built: u64,
    seen_order: u64,
    shut: bool,
    closing: bool,
}

/// One generation.
struct Body<A: Actor<Context = Context<A>>> {
    fut: ContextFut<A, Context<A>>,
    /// What is logged while it has its turn says so. Of the highest level, so that it is there whatever is logged.
    span: tracing::Span,
    generation: u64,
    asked_to_stop: bool,
}

impl<A: Actor<Context = Context<A>>> Unpin for Shell<A> {}

impl<A: Actor<Context = Context<A>>> Shell<A> {
    pub(crate) fn new(
        line: Line,
        address: Address<A>,
        receiver: AddressReceiver<A>,
        factory: Factory<A>,
        pulse: Arc<Pulse>,
        name: &Arc<str>,
    ) -> Self {
        let watched = pulse.enrol(name);
        let receiver = Rc::new(RefCell::new(receiver));
        Self {
            line,
            address,
            receiver,
            factory,
            pulse,
            watched,
            body: None,
            built: 0,
            seen_order: 0,
            shut: false,
            closing: false,
        }
    }

    fn obey(&mut self, task: &mut TaskContext<'_>) {
        // Register before reading: an order given in between wakes us again.
        self.line.control.register(task.waker());
        let (version, order) = self.line.control.read();
        self.seen_order = version;
        match order {
            Order::Wait => {}
            Order::Run(generation) => self.run(generation),
            Order::Stop(generation) => self.stop(generation),
            Order::Kill(generation) => {
                self.drop_body();
                self.line.exited(generation, Exit::Stopped);
            }
            Order::Shut => self.shut(),
            Order::Close => {
                self.shut();
                self.closing = true;
            }
        }
    }

    fn shut(&mut self) {
        self.drop_body();
        self.address.gate().close();
        self.shut = true;
    }

    fn run(&mut self, generation: u64) {
        // A generation is built once, even if it failed and the order is still in the cell.
        if generation <= self.built {
            return;
        }
        self.built = generation;
        self.drop_body();
        if self.shut {
            self.shut = false;
            self.address.gate().open();
        }
        match self.build(generation) {
            Ok(body) => self.body = Some(body),
            Err(exit) => self.line.exited(generation, exit),
        }
    }

    fn build(&mut self, generation: u64) -> Result<Body<A>, Exit> {
        let mut ctx = Context::new(&self.receiver.borrow(), self.address.clone(), generation);
        ctx.spawn(Pump::new(self.receiver.clone(), self.line.clone(), generation));
        let span = tracing::error_span!("actor", actor = %self.address.name(), generation);
        let of_factory = span.clone();
        let _building = of_factory.enter();
        match catch_unwind(AssertUnwindSafe(|| (self.factory)(&mut ctx))) {
            Ok(Ok(actor)) => {
                // A mailbox that nobody can write to: the pump brings the mail.
                let fut = ContextFut::new(ctx, actor, Mailbox::default());
                Ok(Body { fut, span, generation, asked_to_stop: false })
            }
            Ok(Err(error)) => Err(Exit::NotBuilt(error.to_string())),
            Err(payload) => Err(Exit::NotBuilt(format!("panicked: {}", panic_text(&*payload)))),
        }
    }

    fn stop(&mut self, generation: u64) {
        match &mut self.body {
            Some(body) if body.generation == generation => {
                body.asked_to_stop = true;
                body.fut.ctx().stop();
            }
            // It ended by itself, or never came to be: say so (a second notice of one generation is ignored).
            _ => self.line.exited(generation, Exit::Stopped),
        }
    }

    fn drop_body(&mut self) {
        if let Some(mut body) = self.body.take() {
            body.fut.ctx().terminate();
            if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(body))) {
                tracing::warn!(actor = %self.address.name(), error = panic_text(&*payload), "panic while an actor was dropped");
            }
        }
    }

    fn poll_body(&mut self, task: &mut TaskContext<'_>) {
        let Some(body) = &mut self.body else { return };
        body.fut.ctx().begin_turn();
        let span = body.span.clone();
        let _turn = span.enter();
        let polled = catch_unwind(AssertUnwindSafe(|| Pin::new(&mut body.fut).poll(task)));
        let exit = match polled {
            Ok(Poll::Pending) => return,
            Ok(Poll::Ready(())) if body.asked_to_stop => Exit::Stopped,
            Ok(Poll::Ready(())) => Exit::Normal,
            Err(payload) => {
                body.fut.ctx().count_loss();
                Exit::Panicked(panic_text(&*payload))
            }
        };
        let generation = body.generation;
        self.drop_body();
        self.line.exited(generation, exit);
    }

    /// Empties a shut mailbox. Ready when each admitted message has arrived and is counted as lost.
    fn drain(&mut self, task: &mut TaskContext<'_>) -> Poll<()> {
        let gate = self.address.gate();
        let mut lost = 0;
        let admitted = count_dropped_unread(|| {
            while let Poll::Ready(Some(envelope)) = Pin::new(&mut *self.receiver.borrow_mut()).poll_next(task) {
                drop(envelope);
                lost += 1;
            }
        });
        gate.admit_unasked(lost - admitted);
        gate.took(lost);
        gate.lost_at_close(lost);
        // A sender may stand between the gate and the queue: its push wakes us.
        if gate.queued() == 0 { Poll::Ready(()) } else { Poll::Pending }
    }

    fn poll_inner(&mut self, task: &mut TaskContext<'_>) -> Poll<()> {
        if self.line.control.version() != self.seen_order {
            self.obey(task);
        }
        self.poll_body(task);
        if self.shut && self.drain(task).is_ready() && self.closing {
            return Poll::Ready(());
        }
        Poll::Pending
    }
}

impl<A: Actor<Context = Context<A>>> Future for Shell<A> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, task: &mut TaskContext<'_>) -> Poll<()> {
        self.pulse.enter(self.watched);
        let polled = self.poll_inner(task);
        self.pulse.leave();
        polled
    }
}

impl<A: Actor<Context = Context<A>>> Drop for Shell<A> {
    fn drop(&mut self) {
        self.line.control.deafen();
        let generation = self.body.as_ref().map(|body| body.generation);
        self.shut();
        if let Some(generation) = generation {
            self.line.exited(generation, Exit::PlaceGone);
        }
        let _ = self.drain(&mut TaskContext::from_waker(Waker::noop()));
        self.pulse.dismiss(self.watched);
    }
}
