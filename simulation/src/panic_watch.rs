//! Hears of every panic that nobody injected, also of those that an actor catches itself.
//!
//! Injected ones resume unwinding and call no hook. The hook is the process's, and passes on what is of no simulation's thread.

use std::{cell::RefCell, panic, sync::Once};

use crate::{
    event::{Event, Teller},
    world::scheduler,
};

thread_local! {
    static WATCHED: RefCell<Option<Vec<Teller>>> = const { RefCell::new(None) };
}

/// Watches the panics of this thread while it lives.
pub struct Watch(());

impl Watch {
    /// Begins to watch.
    #[must_use]
    pub fn begin() -> Self {
        static HOOKED: Once = Once::new();
        HOOKED.call_once(|| {
            let before = panic::take_hook();
            panic::set_hook(Box::new(move |info| {
                if !heard(&info.to_string()) {
                    before(info);
                }
            }));
        });
        WATCHED.set(Some(Vec::new()));
        Self(())
    }

    /// Says each to the node on which it came.
    pub fn tell_to(&self, tellers: &[Teller]) {
        WATCHED.set(Some(tellers.to_vec()));
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        WATCHED.set(None);
    }
}

/// Whether it was an actor's, of a simulation of this thread.
fn heard(what: &str) -> bool {
    let Some(number) = scheduler::current() else { return false };
    WATCHED.with_borrow(|watched| match watched {
        None => false,
        Some(tellers) => {
            // What an actor makes of an injected failure is not its own.
            if let Some(teller) = tellers.get(number).filter(|_| !what.contains("injected")) {
                teller.tell(&Event::Panicked(what.replace('\n', " ")));
            }
            true
        }
    })
}
