//! A value that changes while tasks wait for that.
//!
//! Invariant: who waits is woken in the order in which it began to wait. Decision: not tokio's `watch`, because that spreads who waits over
//! queues by a random number of the machine, so that a change under several sessions gave other packets at each run of one seed.

use std::sync::Mutex;

use tokio::sync::Notify;

use crate::links::held;

/// See the module. Values are cheap to clone.
pub(crate) struct Watched<T> {
    value: Mutex<T>,
    news: Notify,
}

impl<T: Clone> Watched<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self { value: Mutex::new(value), news: Notify::const_new() }
    }

    pub(crate) fn get(&self) -> T {
        held(&self.value).clone()
    }

    pub(crate) fn set(&self, value: T) {
        *held(&self.value) = value;
        self.news.notify_waiters();
    }

    /// Waits until it is so.
    pub(crate) async fn until(&self, is_so: impl Fn(&T) -> bool) {
        loop {
            // Listen first, then look: a notice reaches a future from the moment it is made.
            let news = self.news.notified();
            if is_so(&self.get()) {
                return;
            }
            news.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, rc::Rc, sync::Arc};

    use super::Watched;

    #[tokio::test(flavor = "current_thread")]
    async fn unit_link_wakes_who_waits_for_a_change_in_the_order_in_which_they_came() {
        let (watched, woken) = (Arc::new(Watched::new(1)), Rc::new(RefCell::new(Vec::new())));
        let tasks = tokio::task::LocalSet::new();
        for number in 0..64 {
            let (watched, woken) = (Arc::clone(&watched), Rc::clone(&woken));
            tasks.spawn_local(async move {
                watched.until(|value| *value == 3).await;
                woken.borrow_mut().push(number);
            });
        }
        tasks.spawn_local(async move {
            tokio::task::yield_now().await;
            watched.set(2);
            tokio::task::yield_now().await;
            watched.set(3);
        });
        tasks.await;
        assert_eq!(*woken.borrow(), (0..64).collect::<Vec<_>>());
    }
}
