//! What one crash costs, wherever it strikes.

use crate::common::*;
use palisade_supervision::{AskError, Backoff, Place, Refused, Restart, State, Supervisor};
use std::{
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

fn quick(name: &str) -> Supervisor {
    Supervisor::new(name).backoff(Backoff::fixed(MILLI)).intensity(5, Duration::from_secs(60))
}

#[test]
fn unit_supervision_replaces_the_state_and_keeps_the_address_after_a_crash() {
    everywhere(|place| async move {
        let (journal, faults) = Default::default();
        let mut node = quick("node");
        let a = node.add(worker("a", &place, &journal, &faults));
        let tree = node.start(no_escalation).await.unwrap();
        assert_eq!(a.ask(Add(5), PATIENCE).await, Ok(5));
        assert_eq!(a.ask(Crash(1), PATIENCE).await, Err(AskError::Lost));
        assert_eq!(a.ask(Add(2), PATIENCE).await, Ok(2), "the sum is a fresh one");
        eventually("it is seen to run", || tree.read().at(&["a"]).unwrap().state == State::Running).await;
        let read = tree.read();
        let child = read.at(&["a"]).unwrap();
        assert_eq!((child.generation, child.restarts), (2, 1));
        assert_eq!(child.last_error.as_deref(), Some("panicked: crash asked for"));
        assert_eq!(child.place, place.name());
        // A crash is no stop: the old state hears nothing more.
        assert_eq!(journal.lines(), ["started a#1", "+5 a#1", "started a#2", "+2 a#2"]);
        tree.stop().await;
    });
}

#[test]
fn unit_supervision_keeps_queued_messages_in_order_through_a_restart() {
    everywhere(|place| async move {
        let (journal, faults) = Default::default();
        let mut node = quick("node");
        let a = node.add(worker("a", &place, &journal, &faults));
        let tree = node.start(no_escalation).await.unwrap();
        // Held up, so that all of this is queued when the crash comes.
        a.try_tell(Pause(Duration::from_millis(20))).unwrap();
        for n in 1..=50 {
            a.try_tell(Add(n)).unwrap();
        }
        a.try_tell(Crash(512)).unwrap();
        for n in 51..=100 {
            a.try_tell(Add(n)).unwrap();
        }
        assert_eq!(a.ask(Add(0), PATIENCE).await, Ok((51..=100).sum()));
        let expected: Vec<String> = ["started a#1".to_owned()]
            .into_iter()
            .chain((1..=50).map(|n| format!("+{n} a#1")))
            .chain(["started a#2".to_owned()])
            .chain((51..=100).map(|n| format!("+{n} a#2")))
            .chain(["+0 a#2".to_owned()])
            .collect();
        assert_eq!(journal.lines(), expected);
        let mail = a.mail();
        assert_eq!((mail.admitted, mail.handled, mail.queued), (103, 102, 0));
        assert_eq!((mail.lost_panic, mail.lost_panic_records), (1, 512));
        tree.stop().await;
    });
}

#[test]
fn unit_supervision_restarts_a_child_that_panics_in_started_or_in_its_factory() {
    everywhere(|place| async move {
        for fault in [|f: &Faults| f.in_started.clone(), |f: &Faults| f.in_factory.clone()] {
            let (journal, faults): (Journal, Faults) = Default::default();
            let fault: Arc<AtomicBool> = fault(&faults);
            set(&fault, true);
            let mut node = Supervisor::new("node").backoff(Backoff::fixed(Duration::from_millis(50)));
            let a = node.add(worker("a", &place, &journal, &faults));
            a.try_tell(Add(7)).unwrap(); // before anything runs
            let handle = node.handle();
            let mend = async {
                eventually("the first failure", || handle.read().at(&["a"]).unwrap().last_error.is_some()).await;
                let read = handle.read();
                let a = read.at(&["a"]).unwrap();
                assert_eq!(a.state, State::BackingOff);
                assert!(a.last_error.as_ref().unwrap().contains("fault"), "{:?}", a.last_error);
                set(&fault, false);
            };
            let (tree, ()) = tokio::join!(node.start(no_escalation), mend);
            assert_eq!(a.ask(Add(1), PATIENCE).await, Ok(8), "mail from before the start is kept");
            tree.unwrap().stop().await;
        }
    });
}

#[test]
fn unit_supervision_takes_a_panic_in_stopping_or_drop_for_a_stop() {
    everywhere(|place| async move {
        for fault in [|f: &Faults| f.in_stopping.clone(), |f: &Faults| f.in_drop.clone()] {
            let (journal, faults): (Journal, Faults) = Default::default();
            let mut node = quick("node");
            node = node.child(worker("a", &place, &journal, &Faults::default()));
            let _b = node.add(worker("b", &place, &journal, &faults));
            let tree = node.start(no_escalation).await.unwrap();
            set(&fault(&faults), true);
            let report = tree.stop().await;
            assert_eq!(report.stopped, ["node/b", "node/a"]);
            assert_eq!(report.abandoned, [""; 0]);
            set(&fault(&faults), false);
        }
    });
}

#[test]
fn unit_supervision_catches_a_panic_in_a_timer() {
    everywhere(|place| async move {
        let (journal, faults) = Default::default();
        let mut node = quick("node");
        let a = node.add(worker("a", &place, &journal, &faults));
        let tree = node.start(no_escalation).await.unwrap();
        a.try_tell(CrashLater(MILLI)).unwrap();
        eventually("a restart", || tree.read().at(&["a"]).unwrap().restarts == 1).await;
        assert_eq!(a.ask(Add(1), PATIENCE).await, Ok(1));
        assert_eq!(a.mail().lost_panic, 0, "no message was in flight");
        tree.stop().await;
    });
}

#[test]
fn unit_supervision_follows_the_restart_policy_on_a_normal_exit() {
    everywhere(|place| async move {
        let (journal, faults) = Default::default();
        let mut node = quick("node");
        let permanent = node.add(worker("permanent", &place, &journal, &faults));
        let transient = node.add(worker("transient", &place, &journal, &faults).restart(Restart::Transient));
        let temporary = node.add(worker("temporary", &place, &journal, &faults).restart(Restart::Temporary));
        let tree = node.start(no_escalation).await.unwrap();
        let state = |name: &str| tree.read().at(&[name]).unwrap().state;
        permanent.try_tell(Quit).unwrap();
        assert_eq!(permanent.ask(Add(1), PATIENCE).await, Ok(1));
        transient.ask(Crash(1), PATIENCE).await.unwrap_err();
        assert_eq!(transient.ask(Add(1), PATIENCE).await, Ok(1));
        transient.try_tell(Quit).unwrap();
        eventually("the transient child finishes", || state("transient") == State::Finished).await;
        temporary.ask(Crash(1), PATIENCE).await.unwrap_err();
        eventually("the temporary child finishes", || state("temporary") == State::Finished).await;
        eventually("its mail is refused", || matches!(temporary.offer(Add(1)), Err(Refused::Closed(_)))).await;
        assert_eq!(temporary.ask(Add(1), PATIENCE).await, Err(AskError::Closed));
        assert_eq!(state("permanent"), State::Running);
        tree.stop().await;
    });
}

#[test]
fn unit_supervision_backs_off_exponentially_on_the_virtual_clock() {
    paused(async {
        let (journal, faults) = Default::default();
        let place: Arc<dyn Place> = palisade_supervision::Here::place();
        let backoff = Backoff {
            base: Duration::from_secs(1),
            max: Duration::from_secs(4),
            jitter_percent: 0,
            reset_after: Duration::from_secs(100),
        };
        let mut node = Supervisor::new("node").backoff(backoff).intensity(10, Duration::from_secs(60));
        let a = node.add(worker("a", &place, &journal, &faults));
        let tree = node.start(no_escalation).await.unwrap();
        for expected in [1, 2, 4, 4] {
            let before = tokio::time::Instant::now();
            a.try_tell(Crash(1)).unwrap();
            a.ask(Add(1), PATIENCE).await.unwrap();
            assert_eq!(before.elapsed().as_millis(), expected * 1000);
        }
        tree.stop().await;
    });
}

#[test]
fn unit_supervision_lets_an_actor_initialise_before_it_counts_as_started() {
    everywhere(|place| async move {
        let (journal, faults): (Journal, Faults) = Default::default();
        set(&faults.never_ready, true);
        let mut node = quick("node").intensity(2, Duration::from_secs(60));
        let a = node.add(worker("a", &place, &journal, &faults).start_deadline(Duration::from_millis(30)));
        let b = node.add(worker("b", &place, &journal, &Faults::default()));
        a.try_tell(Add(1)).unwrap();
        b.try_tell(Add(1)).unwrap();
        let gave_up = node.start(|_| ()).await.err().expect("a is never ready");
        assert_eq!(gave_up.child, "a");
        assert!(gave_up.last_error.contains("did not acknowledge its start"), "{gave_up}");
        let ready = ["started a#1", "started a#2", "started a#3"];
        assert_eq!(journal.lines(), ready, "no message before readiness, and b is never reached");
    });
}
