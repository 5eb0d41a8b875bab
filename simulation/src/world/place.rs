//! Where a simulated actor runs: what would be a thread, with what threads do to programs.
//!
//! A task that is ready may be put behind the others (another order of the same instant), and the whole place may stall for a while,
//! as a thread does that the machine does not run.

use std::{
    cell::RefCell,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use palisade_supervision::{Place, PlaceGone, PlacedTask, Pulse};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::{
    event::{Event, Teller},
    random::Random,
};

/// What disturbs the tasks of one place.
struct Disturbance {
    random: Random,
    /// Turns that a ready task loses, in percent.
    put_back_percent: u64,
    stalled_until: Option<Instant>,
    /// It has lost a turn by the stall that there is.
    felt: bool,
}

thread_local! {
    /// The place whose task is polled now.
    static CURRENT: RefCell<Option<SimPlace>> = const { RefCell::new(None) };
}

/// The thread that runs now stalls: as soon as its task gives way, nothing of it runs for so long. False: no simulated thread runs.
pub fn stall_current(wait: Duration) -> bool {
    CURRENT.with_borrow(|current| {
        if let Some(place) = current {
            place.stall(wait);
            // Who asks for it says what it is.
            place.disturbance().felt = true;
        }
        current.is_some()
    })
}

/// A simulated thread. All of a node's are in the node's one `LocalSet`.
#[derive(Clone)]
pub struct SimPlace {
    name: &'static str,
    pulse: Arc<Pulse>,
    disturbance: Arc<Mutex<Disturbance>>,
    teller: Option<Teller>,
}

impl SimPlace {
    /// A place where tasks lose this share of their turns.
    #[must_use]
    pub fn new(name: &'static str, random: Random, put_back_percent: u64) -> Self {
        let disturbance = Disturbance { random, put_back_percent, stalled_until: None, felt: false };
        Self { name, pulse: Arc::default(), disturbance: Arc::new(Mutex::new(disturbance)), teller: None }
    }

    /// The same, which says when something of it had to wait for a stall to end.
    #[must_use]
    pub fn told_by(self, teller: Teller) -> Self {
        Self { teller: Some(teller), ..self }
    }

    fn disturbance(&self) -> MutexGuard<'_, Disturbance> {
        self.disturbance.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nothing of it runs for so long from now.
    pub fn stall(&self, wait: Duration) {
        let mut disturbance = self.disturbance();
        (disturbance.stalled_until, disturbance.felt) = (Some(Instant::now() + wait), false);
    }

    /// From now on nothing is put back.
    pub fn calm(&self) {
        let mut disturbance = self.disturbance();
        disturbance.put_back_percent = 0;
        disturbance.stalled_until = None;
    }
}

impl Place for SimPlace {
    fn name(&self) -> &str {
        self.name
    }
    fn run(&self, task: PlacedTask) -> Result<(), PlaceGone> {
        let place = self.clone();
        tokio::task::spawn_local(Disturbed { task: task(), place, stalled: None });
        Ok(())
    }
    fn pulse(&self) -> Arc<Pulse> {
        Arc::clone(&self.pulse)
    }
}

/// A task at a place.
struct Disturbed {
    task: Pin<Box<dyn Future<Output = ()>>>,
    place: SimPlace,
    stalled: Option<Pin<Box<Sleep>>>,
}

enum Turn {
    Take,
    PutBack,
    Stalled(Instant),
}

impl Disturbed {
    fn turn(&self) -> Turn {
        let mut disturbance = self.place.disturbance();
        match disturbance.stalled_until {
            Some(until) if until > Instant::now() => return Turn::Stalled(until),
            _ => disturbance.stalled_until = None,
        }
        let chance = disturbance.put_back_percent;
        if chance > 0 && disturbance.random.percent(chance) { Turn::PutBack } else { Turn::Take }
    }
}

impl Future for Disturbed {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        match self.turn() {
            Turn::Take => {
                self.stalled = None;
                CURRENT.set(Some(self.place.clone()));
                let polled = self.task.as_mut().poll(cx);
                CURRENT.set(None);
                polled
            }
            Turn::PutBack => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Turn::Stalled(until) => {
                let is_first = !std::mem::replace(&mut self.place.disturbance().felt, true);
                if let Some(teller) = self.place.teller.as_ref().filter(|_| is_first) {
                    teller.tell(&Event::ThreadStalled(self.place.name));
                }
                let mut sleep = Box::pin(sleep_until(until));
                // Over already: it is asked again at once.
                if sleep.as_mut().poll(cx).is_ready() {
                    cx.waker().wake_by_ref();
                }
                self.stalled = Some(sleep);
                Poll::Pending
            }
        }
    }
}
