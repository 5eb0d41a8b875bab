//! A worker that can be told to misbehave, and the two worlds every test runs in.

use actix::prelude::{Actor, ActorContext, ActorFutureExt, AsyncContext, Handler, Message, Running, WrapFuture};
use palisade_supervision::{ArbiterThread, ChildSpec, Context, GaveUp, Here, Place};
use std::{
    future::Future,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

/// Patience of tests: virtual in one world, hardly used up in the other.
pub const PATIENCE: Duration = Duration::from_secs(20);
pub const MILLI: Duration = Duration::from_millis(1);

/// Runs the body under a paused clock and then with real arbiter threads.
pub fn everywhere<Fut: Future<Output = ()>>(body: impl Fn(Arc<dyn Place>) -> Fut) {
    paused(body(Here::place()));
    threaded(&body);
}

/// One current-thread runtime whose clock only moves when nothing else can.
pub fn paused(body: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, body);
}

/// An actix system with the children on an arbiter thread of their own.
pub fn threaded<Fut: Future<Output = ()>>(body: impl FnOnce(Arc<dyn Place>) -> Fut) {
    let system = actix_rt::System::new();
    system.block_on(async {
        let place = ArbiterThread::start("worker").unwrap();
        body(place).await;
    });
}

/// The hook of tests in which the root must not give up.
#[expect(clippy::needless_pass_by_value, reason = "the shape of the hook")]
pub fn no_escalation(gave_up: GaveUp) {
    panic!("unexpected: {gave_up}");
}

/// Waits until the condition holds.
pub async fn eventually(what: &str, condition: impl Fn() -> bool) {
    for _ in 0..PATIENCE.as_millis() {
        if condition() {
            return;
        }
        tokio::time::sleep(MILLI).await;
    }
    panic!("never: {what}");
}

/// What happened, in order, across all workers of a test.
#[derive(Clone, Default)]
pub struct Journal(Arc<Mutex<Vec<String>>>);

impl Journal {
    pub fn note(&self, line: String) {
        self.0.lock().unwrap().push(line);
    }
    pub fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
    pub fn clear(&self) {
        self.0.lock().unwrap().clear();
    }
}

/// How a worker misbehaves when it is not told to by message.
#[derive(Clone, Default)]
pub struct Faults {
    pub in_factory: Arc<AtomicBool>,
    pub in_started: Arc<AtomicBool>,
    pub in_stopping: Arc<AtomicBool>,
    pub in_drop: Arc<AtomicBool>,
    pub refuses_stop: Arc<AtomicBool>,
    pub never_ready: Arc<AtomicBool>,
}

pub fn set(flag: &AtomicBool, value: bool) {
    flag.store(value, Ordering::SeqCst);
}
fn is(flag: &AtomicBool) -> bool {
    flag.load(Ordering::SeqCst)
}

pub struct Worker {
    name: String,
    generation: u64,
    sum: u64,
    journal: Journal,
    faults: Faults,
}

pub fn worker(name: &str, place: &Arc<dyn Place>, journal: &Journal, faults: &Faults) -> ChildSpec<Worker> {
    let (owned, journal, faults) = (name.to_owned(), journal.clone(), faults.clone());
    ChildSpec::new(name, move |ctx| {
        assert!(!is(&faults.in_factory), "factory fault");
        Worker::new(&owned, ctx.generation(), &journal, &faults)
    })
    .place(place.clone())
    .stop_deadline(Duration::from_millis(300))
}

impl Worker {
    pub fn new(name: &str, generation: u64, journal: &Journal, faults: &Faults) -> Self {
        Self { name: name.to_owned(), generation, sum: 0, journal: journal.clone(), faults: faults.clone() }
    }
    fn note(&self, what: &str) {
        self.journal.note(format!("{what} {}#{}", self.name, self.generation));
    }
}

impl Actor for Worker {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        assert!(!is(&self.faults.in_started), "started fault");
        if is(&self.faults.never_ready) {
            ctx.wait(std::future::pending::<()>().into_actor(self));
        }
        self.note("started");
    }
    fn stopping(&mut self, _: &mut Context<Self>) -> Running {
        assert!(!is(&self.faults.in_stopping), "stopping fault");
        if is(&self.faults.refuses_stop) { Running::Continue } else { Running::Stop }
    }
    fn stopped(&mut self, _: &mut Context<Self>) {
        self.note("stopped");
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        assert!(!is(&self.faults.in_drop) || std::thread::panicking(), "drop fault");
    }
}

/// Adds and answers the sum of this generation.
#[derive(Message, Debug, Clone, PartialEq)]
#[rtype(result = "u64")]
pub struct Add(pub u64);
impl Handler<Add> for Worker {
    type Result = u64;
    fn handle(&mut self, Add(n): Add, _: &mut Context<Self>) -> u64 {
        self.sum += n;
        self.note(&format!("+{n}"));
        self.sum
    }
}

/// Panics, with so many records at stake.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Crash(pub u64);
impl Handler<Crash> for Worker {
    type Result = ();
    fn handle(&mut self, Crash(records): Crash, ctx: &mut Context<Self>) {
        ctx.at_stake(records);
        panic!("crash asked for");
    }
}

/// Stops by itself.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Quit;
impl Handler<Quit> for Worker {
    type Result = ();
    fn handle(&mut self, _: Quit, ctx: &mut Context<Self>) {
        ctx.stop();
    }
}

/// Handles no message until the time is over, without blocking the thread.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Pause(pub Duration);
impl Handler<Pause> for Worker {
    type Result = ();
    fn handle(&mut self, Pause(time): Pause, ctx: &mut Context<Self>) {
        ctx.wait(tokio::time::sleep(time).into_actor(self).map(|(), _, _| ()));
    }
}

/// Panics in a timer.
#[derive(Message)]
#[rtype(result = "()")]
pub struct CrashLater(pub Duration);
impl Handler<CrashLater> for Worker {
    type Result = ();
    fn handle(&mut self, CrashLater(after): CrashLater, ctx: &mut Context<Self>) {
        ctx.run_later(after, |_, _| panic!("timer fault"));
    }
}

/// Blocks its thread until released: nothing in process can mend that.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Block(pub Arc<AtomicBool>);
impl Handler<Block> for Worker {
    type Result = ();
    fn handle(&mut self, Block(released): Block, _: &mut Context<Self>) {
        while !is(&released) {
            std::thread::sleep(MILLI);
        }
    }
}
