//! A responder that hangs, and waiting for what faults lead to.

use std::time::{Duration, Instant};

use palisade_kernel::fanotify::{BlobDecides, Decide, Question};
use palisade_kernel_abi::blob::{Blob, Decision};

/// Never comes to a decision about `/etc/trigger`.
pub struct Hangs;

impl Decide for Hangs {
    fn decide(&self, blob: &Blob, question: &Question<'_>) -> Decision {
        if question.path.starts_with(b"/etc/trigger") {
            std::thread::sleep(Duration::from_secs(600));
        }
        BlobDecides.decide(blob, question)
    }
}

#[expect(clippy::disallowed_methods, reason = "a test measures real time")]
pub fn now() -> Instant {
    Instant::now()
}

/// Polls what must come true soon.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..1000 {
        if holds() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("not within 10 s: {what}");
}
