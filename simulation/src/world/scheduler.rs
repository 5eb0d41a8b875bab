//! The scheduler: one paused runtime, one `LocalSet` a simulated process.
//!
//! Invariant: at one instant the processes that have something to do are polled in an order that the seed draws; when nobody has
//! anything to do, virtual time goes on to the next timer. A crash is the dropping of a `LocalSet`: nothing in it says goodbye.
//!
//! Decision: only the processes whose wakers were called are polled, so that a hundred idle nodes cost nothing.

use std::{
    cell::{Cell, RefCell},
    future::{Future, poll_fn},
    pin::{Pin, pin},
    rc::Rc,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use tokio::task::LocalSet;

use crate::random::Random;

thread_local! {
    static CURRENT: Cell<Option<usize>> = const { Cell::new(None) };
}

/// The process that is polled now; `None`: the script.
#[must_use]
pub fn current() -> Option<usize> {
    CURRENT.get()
}

/// Wakes the scheduler, and says for whom.
#[derive(Default)]
struct Bell {
    rung: AtomicBool,
    scheduler: Mutex<Option<Waker>>,
}

impl Bell {
    fn wired_to(&self, scheduler: &Waker) {
        let mut wired = self.scheduler.lock().unwrap_or_else(PoisonError::into_inner);
        if !wired.as_ref().is_some_and(|wired| wired.will_wake(scheduler)) {
            *wired = Some(scheduler.clone());
        }
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }
    fn wake_by_ref(self: &Arc<Self>) {
        self.rung.store(true, Ordering::Relaxed);
        if let Some(scheduler) = &*self.scheduler.lock().unwrap_or_else(PoisonError::into_inner) {
            scheduler.wake_by_ref();
        }
    }
}

struct Process {
    tasks: LocalSet,
    bell: Arc<Bell>,
}

#[derive(Default)]
struct Table {
    processes: Vec<Option<Process>>,
    /// New ones, or a crash: the scheduler looks again.
    scheduler: Option<Waker>,
}

/// Starts and crashes simulated processes; each has a number.
#[derive(Clone, Default)]
pub struct Processes(Rc<RefCell<Table>>);

impl Processes {
    /// Starts a process with this as its main task; one of that number that still ran has crashed.
    pub fn start(&self, number: usize, main: impl Future<Output = ()> + 'static) {
        let tasks = LocalSet::new();
        tasks.spawn_local(main);
        let bell = Arc::new(Bell::default());
        bell.rung.store(true, Ordering::Relaxed);
        let before = {
            let mut table = self.0.borrow_mut();
            while table.processes.len() <= number {
                table.processes.push(None);
            }
            if let Some(scheduler) = &table.scheduler {
                scheduler.wake_by_ref();
            }
            table.processes[number].replace(Process { tasks, bell })
        };
        drop(before);
    }

    /// Ends a process as a SIGKILL would.
    pub fn crash(&self, number: usize) {
        let crashed = self.0.borrow_mut().processes.get_mut(number).and_then(Option::take);
        // Outside of the borrow: destructors run.
        drop(crashed);
    }

    fn rung(&self) -> Vec<usize> {
        let table = self.0.borrow();
        let is_rung = |process: &Process| process.bell.rung.swap(false, Ordering::Relaxed);
        let all = table.processes.iter().enumerate();
        all.filter(|(_, process)| process.as_ref().is_some_and(is_rung)).map(|(number, _)| number).collect()
    }

    fn poll(&self, number: usize, scheduler: &Waker) {
        // Taken out: what it does may start and crash others.
        let Some(mut process) = self.0.borrow_mut().processes.get_mut(number).and_then(Option::take) else { return };
        process.bell.wired_to(scheduler);
        let waker = Waker::from(Arc::clone(&process.bell));
        CURRENT.set(Some(number));
        let ended = Pin::new(&mut process.tasks).poll(&mut Context::from_waker(&waker)).is_ready();
        CURRENT.set(None);
        let mut table = self.0.borrow_mut();
        if !ended && table.processes[number].is_none() {
            table.processes[number] = Some(process);
        }
    }
}

/// Runs `script` to its end beside the processes that it starts, in virtual time from zero.
///
/// # Panics
/// The operating system gives no event loop.
pub fn run<T>(seed: u64, script: impl AsyncFnOnce(Processes) -> T) -> T {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_time().start_paused(true).build().expect("an event loop");
    let mut random = Random::stream(seed, "order of processes");
    runtime.block_on(async {
        let processes = Processes::default();
        let bell = Arc::new(Bell::default());
        bell.rung.store(true, Ordering::Relaxed);
        let own = Waker::from(Arc::clone(&bell));
        // The script's own tasks are a process of their own, which cannot crash.
        let tasks = LocalSet::new();
        let mut script = pin!(tasks.run_until(script(processes.clone())));
        poll_fn(|cx| {
            bell.wired_to(cx.waker());
            processes.0.borrow_mut().scheduler = Some(cx.waker().clone());
            if bell.rung.swap(false, Ordering::Relaxed)
                && let Poll::Ready(outcome) = script.as_mut().poll(&mut Context::from_waker(&own))
            {
                return Poll::Ready(outcome);
            }
            let mut rung = processes.rung();
            random.shuffle(&mut rung);
            for number in rung {
                processes.poll(number, cx.waker());
            }
            Poll::Pending
        })
        .await
    })
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, rc::Rc, time::Duration};

    use tokio::time::{Instant, sleep};

    use super::run;

    /// Four processes that each say their number at the same instants.
    fn order(seed: u64) -> Vec<usize> {
        let said = Rc::new(RefCell::new(Vec::new()));
        let heard = Rc::clone(&said);
        run(seed, async move |processes| {
            for number in 0..4 {
                let said = Rc::clone(&said);
                processes.start(number, async move {
                    loop {
                        said.borrow_mut().push(number);
                        sleep(Duration::from_millis(10)).await;
                    }
                });
            }
            sleep(Duration::from_millis(95)).await;
        });
        heard.take()
    }

    #[test]
    fn unit_scheduler_draws_the_order_of_processes_from_the_seed() {
        assert_eq!(order(1), order(1));
        assert_eq!(order(1).len(), 40);
        assert!((2..10).any(|seed| order(seed) != order(1)), "every seed gives one order");
    }

    #[test]
    fn unit_scheduler_crashes_a_process_without_a_word_and_starts_it_again() {
        let said = Rc::new(RefCell::new(Vec::new()));
        let heard = Rc::clone(&said);
        struct Goodbye(Rc<RefCell<Vec<&'static str>>>);
        impl Drop for Goodbye {
            fn drop(&mut self) {
                self.0.borrow_mut().push("dropped");
            }
        }
        let elapsed = run(3, async move |processes| {
            let begun = Instant::now();
            let (first, second) = (Rc::clone(&said), Rc::clone(&said));
            processes.start(0, async move {
                let _held = Goodbye(Rc::clone(&first));
                sleep(Duration::from_secs(5)).await;
                first.borrow_mut().push("never");
            });
            sleep(Duration::from_secs(1)).await;
            processes.crash(0);
            processes.start(0, async move { second.borrow_mut().push("again") });
            sleep(Duration::from_secs(10)).await;
            begun.elapsed()
        });
        assert_eq!(*heard.borrow(), ["dropped", "again"]);
        assert_eq!(elapsed, Duration::from_secs(11));
    }
}
