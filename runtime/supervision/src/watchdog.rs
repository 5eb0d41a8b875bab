//! Watches arbiter threads from a thread of its own: an actor that blocks its thread cannot be mended in process.
//!
//! Invariant: the hook is called at most once for each stall, never on the stalled thread.
//! Decision: the watching thread counts *its own* ticks without a beat, it compares no clocks: a process that was stopped
//! as a whole (SIGSTOP, a paused virtual machine) wakes up with no time missed, and nobody is shot for it.

use crate::{place::Place, pulse::Pulse};
use std::{
    io,
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread,
    time::Duration,
};

/// A thread that does not come back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stall {
    /// The arbiter.
    pub place: String,
    /// The actor that has its thread, if it was one.
    pub actor: Option<String>,
    /// How long it has been silent, to the tick.
    pub silent: Duration,
}

struct Watched {
    name: String,
    pulse: Arc<Pulse>,
    last: u64,
    silent_ticks: u32,
}

/// Ends its thread when dropped.
pub struct Watchdog {
    stop: Arc<(Mutex<bool>, Condvar)>,
    thread: Option<thread::JoinHandle<()>>,
}

/// Ticks in the limit: a stall is seen at most an eighth of the limit late.
const TICKS: u32 = 8;

impl Watchdog {
    /// Watches these places; one that is silent for `limit` is reported to `hook`, once until it beats again. The limit
    /// must be well above the beat of a place (100 ms); less than a second is taken as a second.
    ///
    /// # Errors
    /// The thread cannot be made.
    pub fn start(
        places: &[Arc<dyn Place>],
        limit: Duration,
        mut hook: impl FnMut(Stall) + Send + 'static,
    ) -> io::Result<Self> {
        let mut watched: Vec<Watched> = places
            .iter()
            .map(|place| Watched { name: place.name().to_owned(), pulse: place.pulse(), last: 0, silent_ticks: 0 })
            .collect();
        let tick = limit.max(Duration::from_secs(1)) / TICKS;
        let stop = Arc::new((Mutex::new(false), Condvar::new()));
        let stopping = stop.clone();
        let thread = thread::Builder::new().name("watchdog".to_owned()).spawn(move || {
            while !wait_tick(&stopping, tick) {
                for place in &mut watched {
                    if let Some(stall) = look(place, tick) {
                        hook(stall);
                    }
                }
            }
        })?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

/// Waits one tick; true when the watchdog is being dropped.
fn wait_tick(stop: &(Mutex<bool>, Condvar), tick: Duration) -> bool {
    let (stopped, wake) = stop;
    let stopped = stopped.lock().unwrap_or_else(PoisonError::into_inner);
    let (stopped, _) =
        wake.wait_timeout_while(stopped, tick, |stopped| !*stopped).unwrap_or_else(PoisonError::into_inner);
    *stopped
}

fn look(place: &mut Watched, tick: Duration) -> Option<Stall> {
    let beats = place.pulse.beats();
    if beats != place.last || place.pulse.is_retired() {
        place.last = beats;
        place.silent_ticks = 0;
        return None;
    }
    place.silent_ticks = place.silent_ticks.saturating_add(1);
    (place.silent_ticks == TICKS).then(|| Stall {
        place: place.name.clone(),
        actor: place.pulse.current().map(|name| name.to_string()),
        silent: tick * TICKS,
    })
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        *self.stop.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.stop.1.notify_all();
        if let Some(thread) = self.thread.take()
            && thread.thread().id() != thread::current().id()
        {
            // A panic in the hook has been printed by the panic hook; there is nothing to add.
            let _ = thread.join();
        }
    }
}
