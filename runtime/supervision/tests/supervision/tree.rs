//! Supervisors over supervisors: order, strategies, escalation, dynamic children, the live tree.

use crate::common::*;
use palisade_supervision::{
    AskError, Backoff, ChildSpec, GaveUp, Kind, MailboxOf, StartChildError, State, StopChildError, StopOutcome,
    Strategy, Supervisor, TreeNode,
};
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

fn quick(name: &str) -> Supervisor {
    Supervisor::new(name).backoff(Backoff::fixed(MILLI)).intensity(3, Duration::from_secs(60))
}

#[test]
fn unit_supervision_starts_in_order_and_stops_in_reverse_through_nested_supervisors() {
    everywhere(|place| async move {
        let (journal, faults) = Default::default();
        let inner =
            quick("inner").child(worker("b", &place, &journal, &faults)).child(worker("c", &place, &journal, &faults));
        let tree = quick("node")
            .child(worker("a", &place, &journal, &faults))
            .child(inner)
            .child(worker("d", &place, &journal, &faults))
            .start(no_escalation)
            .await
            .unwrap();
        assert_eq!(journal.lines(), ["started a#1", "started b#1", "started c#1", "started d#1"]);
        journal.clear();
        let report = tree.stop().await;
        assert_eq!(journal.lines(), ["stopped d#1", "stopped c#1", "stopped b#1", "stopped a#1"]);
        assert_eq!(report.stopped, ["node/d", "node/inner/c", "node/inner/b", "node/inner", "node/a"]);
        assert_eq!(report.abandoned, [""; 0]);
        tree.read().walk(&mut |_, node| assert_eq!(node.state, State::Stopped, "{}", node.name));
    });
}

#[test]
fn unit_supervision_restarts_only_later_siblings_in_order_under_rest_for_one() {
    everywhere(|place| async move {
        let (journal, faults) = Default::default();
        let mut node = quick("node").strategy(Strategy::RestForOne);
        let _a = node.add(worker("a", &place, &journal, &faults));
        let b = node.add(worker("b", &place, &journal, &faults));
        let c = node.add(worker("c", &place, &journal, &faults));
        let d = node.add(worker("d", &place, &journal, &faults));
        let tree = node.start(no_escalation).await.unwrap();
        journal.clear();
        b.try_tell(Crash(1)).unwrap();
        eventually("d is back", || tree.read().at(&["d"]).unwrap().generation == 2).await;
        assert_eq!(d.ask(Add(1), PATIENCE).await, Ok(1));
        assert_eq!(c.ask(Add(1), PATIENCE).await, Ok(1));
        let lines = journal.lines();
        assert_eq!(lines[..5], ["stopped d#1", "stopped c#1", "started b#2", "started c#2", "started d#2"]);
        assert_eq!(tree.read().at(&["a"]).unwrap().generation, 1);
        tree.stop().await;
    });
}

#[test]
fn unit_supervision_restarts_all_siblings_under_one_for_all_and_loses_no_queued_message() {
    everywhere(|place| async move {
        let (journal, faults) = Default::default();
        let mut node = quick("node").strategy(Strategy::OneForAll);
        let a = node.add(worker("a", &place, &journal, &faults));
        let b = node.add(worker("b", &place, &journal, &faults));
        let tree = node.start(no_escalation).await.unwrap();
        journal.clear();
        // Queued behind the pause when the sibling's crash stops this one.
        a.try_tell(Pause(Duration::from_secs(10))).unwrap();
        eventually("a pauses", || a.mail().handled == 1).await;
        a.try_tell(Add(3)).unwrap();
        b.try_tell(Crash(1)).unwrap();
        assert_eq!(a.ask(Add(4), PATIENCE).await, Ok(7));
        assert_eq!(journal.lines()[..2], ["stopped a#1", "started a#2"]);
        let mail = a.mail();
        assert_eq!((mail.lost_panic, mail.lost_closed), (0, 0));
        tree.stop().await;
    });
}

#[test]
fn unit_supervision_restarts_only_the_failed_child_under_one_for_one() {
    everywhere(|place| async move {
        let (journal, faults) = Default::default();
        let mut node = quick("node");
        let a = node.add(worker("a", &place, &journal, &faults));
        let b = node.add(worker("b", &place, &journal, &faults));
        let tree = node.start(no_escalation).await.unwrap();
        b.try_tell(Add(1)).unwrap();
        a.try_tell(Crash(1)).unwrap();
        a.ask(Add(1), PATIENCE).await.unwrap();
        assert_eq!(b.ask(Add(1), PATIENCE).await, Ok(2), "the sibling keeps its state");
        tree.stop().await;
    });
}

#[test]
fn unit_supervision_escalates_a_crash_loop_to_the_parent_and_at_last_to_the_hook() {
    everywhere(|place| async move {
        let (journal, faults): (Journal, Faults) = Default::default();
        let heard: Arc<Mutex<Option<GaveUp>>> = Arc::default();
        let mut inner = quick("inner").intensity(2, Duration::from_secs(60));
        let b = inner.add(worker("b", &place, &journal, &faults));
        let mut node = quick("node").intensity(1, Duration::from_secs(60)).child(inner);
        let c = node.add(worker("c", &place, &journal, &Faults::default()));
        let hook = heard.clone();
        let tree = node.start(move |gave_up| *hook.lock().unwrap() = Some(gave_up)).await.unwrap();
        // Three crashes: the inner supervisor gives up, the outer restarts it.
        for _ in 0..3 {
            b.ask(Crash(1), PATIENCE).await.unwrap_err();
        }
        assert_eq!(b.ask(Add(1), PATIENCE).await, Ok(1), "the address outlives its supervisor's restart");
        assert_eq!(tree.read().at(&["inner"]).unwrap().restarts, 1);
        let why = tree.read().at(&["inner"]).unwrap().last_error.clone().unwrap();
        assert!(why.contains("supervisor node/inner gave up") && why.contains("crash asked for"), "{why}");
        assert!(heard.lock().unwrap().is_none());
        c.ask(Add(1), PATIENCE).await.unwrap();
        // Three more: the outer has had its one restart.
        for _ in 0..3 {
            b.ask(Crash(1), PATIENCE).await.unwrap_err();
        }
        let gave_up = tree.gave_up().await;
        assert_eq!((gave_up.supervisor.as_str(), gave_up.child.as_str()), ("node", "inner"));
        assert_eq!(heard.lock().unwrap().as_ref(), Some(&gave_up));
        assert!(journal.lines().contains(&"stopped c#1".to_owned()), "the others were stopped in good order first");
        assert_eq!(tree.read().state, State::GaveUp);
        tree.stop().await;
    });
}

#[test]
fn unit_supervision_abandons_and_names_a_child_that_ignores_its_stop() {
    everywhere(|place| async move {
        let (journal, faults): (Journal, Faults) = Default::default();
        let stubborn = Faults::default();
        set(&stubborn.refuses_stop, true);
        let mut node = quick("node");
        let _a = node.add(worker("a", &place, &journal, &faults));
        let b = node.add(worker("b", &place, &journal, &stubborn));
        let tree = node.start(no_escalation).await.unwrap();
        let before = tokio::time::Instant::now();
        let report = tree.stop().await;
        assert!(before.elapsed() >= Duration::from_millis(300), "it had its time");
        assert_eq!(report.abandoned, ["node/b"]);
        assert_eq!(report.stopped, ["node/a"]);
        let error = tree.read().at(&["b"]).unwrap().last_error.clone();
        assert_eq!(error.as_deref(), Some("did not acknowledge its stop in time"));
        eventually("it is dropped and its mail refused", || b.offer(Add(1)).is_err()).await;
    });
}

#[test]
fn host_supervision_abandons_a_child_that_blocks_its_thread_and_stops_the_rest() {
    let released = Arc::new(AtomicBool::new(false));
    let blocked = released.clone();
    threaded(|place| async move {
        let (journal, faults) = Default::default();
        let here = palisade_supervision::Here::place();
        let mut node = quick("node");
        let _a = node.add(worker("a", &here, &journal, &faults));
        let b = node.add(worker("b", &place, &journal, &faults));
        let tree = node.start(no_escalation).await.unwrap();
        b.try_tell(Block(blocked.clone())).unwrap();
        eventually("it blocks", || b.mail().queued == 0).await;
        let report = tree.stop().await;
        assert_eq!(report.abandoned, ["node/b"]);
        assert_eq!(report.stopped, ["node/a"]);
        assert_eq!(tree.read().at(&["b"]).unwrap().state, State::Abandoned);
        blocked.store(true, Ordering::SeqCst);
    });
}

#[test]
fn unit_supervision_starts_and_stops_children_at_run_time() {
    everywhere(|place| async move {
        let (journal, faults): (Journal, Faults) = Default::default();
        let enforcers = quick("enforcers");
        let containers = enforcers.handle();
        let tree = quick("node").child(enforcers).start(no_escalation).await.unwrap();
        let x = containers.start_child(worker("x", &place, &journal, &faults)).await.unwrap();
        let y = containers.start_child(worker("y", &place, &journal, &faults)).await.unwrap();
        let again = containers.start_child(worker("x", &place, &journal, &faults)).await;
        assert_eq!(again.err(), Some(StartChildError::NameTaken("node/enforcers".to_owned())));
        assert_eq!(x.ask(Add(1), PATIENCE).await, Ok(1));
        x.try_tell(Crash(1)).unwrap();
        assert_eq!(x.ask(Add(2), PATIENCE).await, Ok(2));
        assert_eq!(containers.stop_child("x").await, Ok(StopOutcome::Acknowledged));
        let nobody = containers.stop_child("x").await;
        assert_eq!(nobody, Err(StopChildError::NoSuchChild("node/enforcers".to_owned())));
        assert!(x.offer(Add(1)).is_err(), "its mail is refused");
        assert!(tree.read().at(&["enforcers", "x"]).is_none());
        assert_eq!(y.ask(Add(1), PATIENCE).await, Ok(1));
        // The name is free again, and the new child is another one.
        let x = containers.start_child(worker("x", &place, &journal, &faults)).await.unwrap();
        assert_eq!(x.ask(Add(1), PATIENCE).await, Ok(1));
        let report = tree.stop().await;
        assert_eq!(report.stopped, ["node/enforcers/x", "node/enforcers/y", "node/enforcers"]);
        eventually("requests are refused", || containers.read().state == State::Stopped).await;
        let late = containers.start_child(worker("z", &place, &journal, &faults)).await;
        assert_eq!(late.err(), Some(StartChildError::NoSupervisor));
    });
}

#[test]
fn unit_supervision_names_a_dynamic_child_that_ignores_its_stop_and_goes_on() {
    everywhere(|place| async move {
        let (journal, stubborn): (Journal, Faults) = Default::default();
        set(&stubborn.refuses_stop, true);
        let node = quick("node");
        let handle = node.handle();
        let tree = node.start(no_escalation).await.unwrap();
        handle.start_child(worker("x", &place, &journal, &stubborn)).await.unwrap();
        let (stopped, started) =
            tokio::join!(handle.stop_child("x"), handle.start_child(worker("y", &place, &journal, &Faults::default())));
        assert_eq!(stopped, Ok(StopOutcome::Abandoned));
        assert!(started.is_ok());
        tree.stop().await;
    });
}

#[test]
fn unit_supervision_tells_why_a_dynamic_child_could_not_start_and_forgets_it() {
    everywhere(|place| async move {
        let (journal, broken): (Journal, Faults) = Default::default();
        set(&broken.in_factory, true);
        let node = quick("node");
        let handle = node.handle();
        let tree = node.start(no_escalation).await.unwrap();
        let spec = worker("x", &place, &journal, &broken).restart(palisade_supervision::Restart::Temporary);
        match handle.start_child(spec).await {
            Err(StartChildError::Failed(why)) => assert!(why.contains("factory fault"), "{why}"),
            other => panic!("{other:?}"),
        }
        eventually("it is forgotten", || tree.read().children.is_empty()).await;
        tree.stop().await;
    });
}

#[test]
fn unit_supervision_keeps_mail_for_a_child_that_does_not_run_yet() {
    everywhere(|place| async move {
        let (journal, faults): (Journal, Faults) = Default::default();
        let mailbox = MailboxOf::<Worker>::new("late", 8);
        let late = mailbox.address();
        late.try_tell(Add(1)).unwrap();
        let node = quick("node").child(worker("early", &place, &journal, &faults));
        let tree = node.start(no_escalation).await.unwrap();
        assert_eq!(late.ask(Add(1), MILLI).await, Err(AskError::TimedOut), "nobody handles it yet");
        let (j, f) = (journal.clone(), faults.clone());
        let spec = ChildSpec::with_mailbox(mailbox, move |ctx| Ok(Worker::new("late", ctx.generation(), &j, &f)));
        tree.handle().start_child(spec.place(place.clone())).await.unwrap();
        assert_eq!(late.ask(Add(1), PATIENCE).await, Ok(2), "the question nobody waits for any more is skipped");
        assert_eq!(late.mail().expired, 1);
        tree.stop().await;
    });
}

#[test]
fn unit_supervision_shows_the_live_tree_as_serialisable_values() {
    paused(async {
        let (journal, faults) = Default::default();
        let place = palisade_supervision::Here::place();
        let mut inner = quick("inner").strategy(Strategy::OneForAll);
        let a = inner.add(worker("a", &place, &journal, &faults).capacity(64));
        let tree = quick("node").child(inner).start(no_escalation).await.unwrap();
        let paused_for = Duration::from_secs(2);
        a.try_tell(Pause(paused_for)).unwrap();
        eventually("it pauses", || a.mail().handled == 1).await;
        for n in 0..10 {
            a.try_tell(Add(n)).unwrap();
        }
        let read = tree.read();
        let mail = read.at(&["inner", "a"]).unwrap().mail.clone().unwrap();
        assert_eq!((mail.capacity, mail.depth, mail.high_water, mail.handled), (64, 10, 10, 1));
        tokio::time::sleep(Duration::from_secs(5)).await;
        let read = tree.read();
        let node = read.at(&["inner", "a"]).unwrap();
        let mail = node.mail.clone().unwrap();
        assert_eq!((mail.depth, mail.high_water, mail.handled), (0, 10, 11));
        assert!((mail.handled_per_second - 11.0 / 5.0).abs() < 0.1, "{}", mail.handled_per_second);
        assert!(node.uptime_ms.unwrap() >= 5000);
        assert_eq!(node.kind, Kind::Actor("Worker".to_owned()));
        assert_eq!(read.at(&["inner"]).unwrap().kind, Kind::Supervisor(Strategy::OneForAll));
        assert_eq!(read.restart, None);
        let text = serde_json::to_string(&read).unwrap();
        assert_eq!(serde_json::from_str::<TreeNode>(&text).unwrap(), read);
        tree.stop().await;
    });
}

#[test]
fn unit_supervision_drops_a_simulated_node_without_goodbyes() {
    let (journal, faults): (Journal, Faults) = Default::default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let node = tokio::task::LocalSet::new();
    let (j, f) = (journal.clone(), faults.clone());
    let a = node.block_on(&runtime, async move {
        let mut node = quick("node");
        let a = node.add(worker("a", &palisade_supervision::Here::place(), &j, &f));
        node.start(no_escalation).await.unwrap();
        a.ask(Add(1), PATIENCE).await.unwrap();
        a
    });
    a.try_tell(Add(2)).unwrap();
    drop(node);
    assert_eq!(journal.lines(), ["started a#1", "+1 a#1"], "neither stopping nor stopped");
    assert!(a.offer(Add(1)).is_err());
    assert_eq!(a.mail().lost_closed, 1);
}

#[test]
fn unit_supervision_kills_all_below_a_supervisor_that_missed_its_stop_deadline() {
    paused(async {
        let (place, journal): (_, Journal) = (palisade_supervision::Here::place(), Journal::default());
        let stubborn = Faults::default();
        set(&stubborn.refuses_stop, true);
        let patient = Duration::from_secs(60);
        let inner = quick("inner")
            .stop_deadline(Duration::from_millis(100))
            .child(worker("a", &place, &journal, &stubborn).stop_deadline(patient))
            .child(worker("b", &place, &journal, &stubborn).stop_deadline(patient));
        let mut node = quick("node").strategy(Strategy::OneForAll).child(inner);
        let c = node.add(worker("c", &place, &journal, &Faults::default()));
        let tree = node.start(no_escalation).await.unwrap();
        let begin = tokio::time::Instant::now();
        c.try_tell(Crash(1)).unwrap();
        let up = |name: &str| {
            let read = tree.read();
            let child = read.at(&["inner", name]).unwrap();
            child.generation == 2 && child.state == State::Running
        };
        eventually("both are back", || up("a") && up("b")).await;
        assert!(begin.elapsed() < Duration::from_secs(1), "after {:?}: not by their own patience", begin.elapsed());
        set(&stubborn.refuses_stop, false);
        tree.stop().await;
    });
}
