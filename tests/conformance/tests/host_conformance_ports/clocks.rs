//! Clocks and timers. What is not tried: a wall clock that is set, for it is the whole machine's.

use std::{cell::RefCell, time::Duration};

use palisade_domain::UnixNanos;
use palisade_node::clock::MachineClock;
use palisade_simulation::world::{clock::SimClock, scheduler};
use palisade_world::Clock;
use tokio::time::{Instant, sleep, timeout};

/// What a busy machine may be late by.
const LATE: Duration = Duration::from_secs(20);

fn on_both(body: &impl AsyncFn(&dyn Clock)) {
    crate::really(body(&MachineClock));
    scheduler::run(1, async |_| body(&SimClock::new(Instant::now(), 0)).await);
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).expect("short")
}

#[test]
fn host_conformance_clock_since_boot_never_goes_back_and_counts_what_was_slept() {
    on_both(&async |clock| {
        let mut last = clock.boot();
        for _ in 0..10_000 {
            let now = clock.boot();
            assert!(now >= last, "{now:?} after {last:?}");
            last = now;
        }
        let slept = Duration::from_millis(30);
        sleep(slept).await;
        let passed = clock.boot().0 - last.0;
        assert!((nanoseconds(slept)..nanoseconds(slept + LATE)).contains(&passed), "{passed} ns");
    });
}

#[test]
fn host_conformance_clocks_of_a_machine_go_at_one_pace_and_the_walls_counts_from_1970() {
    on_both(&async |clock| {
        let apart = |clock: &dyn Clock| {
            // Read in one moment, as far as the machine lets us: of some attempts the closest.
            let read = || {
                let (before, UnixNanos(unix), after) = (clock.boot().0, clock.unix(), clock.boot().0);
                (after - before, unix - before)
            };
            (0..100).map(|_| read()).min().expect("some").1
        };
        let UnixNanos(unix) = clock.unix();
        let year = unix / 1_000_000_000 / 31_556_952 + 1970;
        assert!((2026..2100).contains(&year), "{year}");
        let before = apart(clock);
        sleep(Duration::from_millis(200)).await;
        // Time services slew a clock by half a thousandth at most.
        assert!(apart(clock).abs_diff(before) < 1_000_000, "they drifted");
    });
}

#[test]
fn host_conformance_timers_go_off_in_the_order_of_their_ends_and_none_too_soon() {
    on_both(&async |clock| {
        let begun = clock.boot().0;
        let rung = RefCell::new(Vec::new());
        let timer = async |ms: u64| {
            sleep(Duration::from_millis(ms)).await;
            rung.borrow_mut().push(ms);
            let passed = clock.boot().0 - begun;
            assert!(passed >= ms * 1_000_000, "{ms} ms rang after {passed} ns");
        };
        tokio::join!(timer(90), timer(30), timer(60), timer(0));
        assert_eq!(rung.into_inner(), [0, 30, 60, 90]);
        // A limit ends what takes longer, and nothing that does not.
        timeout(Duration::from_millis(30), sleep(LATE * 2)).await.expect_err("it takes longer");
        timeout(LATE, sleep(Duration::from_millis(1))).await.expect("it does not");
    });
}
