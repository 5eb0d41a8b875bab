//! Marked points of actors at which a simulation may make them fail. In a build without the feature `fault-points` they are nothing.
//!
//! Decision: a feature, not a port that production gives an empty body, because a marked point may stand where each nanosecond counts, and
//! because nothing that ships should hold the means to make itself panic.

#[cfg(feature = "fault-points")]
mod armed {
    use std::cell::RefCell;

    /// What happens at a point: it may return, panic, or stall the simulated thread that it is on.
    pub type FaultHook = Box<dyn FnMut(&'static str)>;

    thread_local! {
        static HOOK: RefCell<Option<FaultHook>> = const { RefCell::new(None) };
    }

    /// Arms the points of this thread; `None` disarms them.
    pub fn arm(hook: Option<FaultHook>) {
        HOOK.with_borrow_mut(|armed| *armed = hook);
    }

    /// See the module.
    pub fn fault_point(name: &'static str) {
        // Taken out while it runs, for it may panic.
        let Some(mut hook) = HOOK.with_borrow_mut(Option::take) else { return };
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| hook(name)));
        HOOK.with_borrow_mut(|armed| *armed = Some(hook));
        if let Err(payload) = outcome {
            std::panic::resume_unwind(payload);
        }
    }
}

#[cfg(feature = "fault-points")]
pub use armed::{FaultHook, arm, fault_point};

/// See the module.
#[cfg(not(feature = "fault-points"))]
#[inline(always)]
pub const fn fault_point(_name: &'static str) {}

/// A build without the feature has nothing at a point: what does anything cannot be evaluated before the program is there.
#[cfg(not(feature = "fault-points"))]
const _: () = fault_point("nothing is here");
