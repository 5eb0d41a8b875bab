//! Many failures at once, the same history from the same seed, and what goes away with a thread.

use crate::common::*;
use actix::prelude::{Actor, ActorFutureExt, AsyncContext, Handler, ResponseActFuture, StreamHandler, WrapFuture};
use palisade_supervision::{
    AskError, Backoff, ChildSpec, Context, Here, Place, PlaceGone, PlacedTask, Pulse, State, Strategy, Supervisor,
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

fn quick(name: &str) -> Supervisor {
    Supervisor::new(name).backoff(Backoff::fixed(MILLI)).intensity(1_000_000, Duration::from_secs(1))
}

/// The moments of all starts and stops of a small tree under jitter, by the virtual clock.
fn history(seed: u64) -> Vec<String> {
    let journal = Journal::default();
    let noted = journal.clone();
    paused(async move {
        let (place, faults) = (Here::place(), Faults::default());
        let backoff = Backoff { jitter_percent: 50, ..Backoff::default() };
        let mut inner =
            Supervisor::new("inner").strategy(Strategy::RestForOne).backoff(backoff).intensity(100, PATIENCE);
        let a = inner.add(worker("a", &place, &noted, &faults));
        let b = inner.add(worker("b", &place, &noted, &faults));
        let tree = Supervisor::new("node").seed(seed).child(inner).start(no_escalation).await.unwrap();
        let begin = tokio::time::Instant::now();
        for target in [&a, &b, &b, &a, &b] {
            target.try_tell(Crash(1)).unwrap();
            a.ask(Add(1), PATIENCE).await.unwrap();
            b.ask(Add(1), PATIENCE).await.unwrap();
            noted.note(format!("{:?}", begin.elapsed()));
        }
        tree.stop().await;
    });
    journal.lines()
}

#[test]
fn unit_supervision_repeats_its_history_by_seed() {
    for seed in 1..4 {
        assert_eq!(history(seed), history(seed), "seed {seed}");
    }
    assert_ne!(history(1), history(2), "the jitter does something");
}

async fn dynamic_storm(place: Arc<dyn Place>) {
    let enforcers = quick("enforcers");
    let handle = enforcers.handle();
    let tree = quick("node").child(enforcers).start(no_escalation).await.unwrap();
    let (born, gone) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let cycles = (0..8).map(|lane| {
        let (handle, place, born, gone) = (handle.clone(), place.clone(), born.clone(), gone.clone());
        async move {
            for cycle in 0..25 {
                let (born, gone) = (born.clone(), gone.clone());
                let name = format!("{lane}");
                let spec = ChildSpec::new(&name, move |_| Mortal::new(&born, &gone)).place(place.clone());
                let address = handle.start_child(spec).await.unwrap();
                if cycle % 2 == 0 {
                    address.try_tell(Die).unwrap();
                    address.try_tell(Die).unwrap();
                }
                handle.stop_child(&name).await.unwrap();
                assert!(address.offer(Die).is_err());
            }
        }
    });
    futures_util::future::join_all(cycles).await;
    assert!(tree.read().at(&["enforcers"]).unwrap().children.is_empty());
    tree.stop().await;
    let count = |counter: &AtomicU64| counter.load(Ordering::SeqCst);
    eventually("each actor that was built is dropped", || count(&born) == count(&gone)).await;
    assert!(count(&born) >= 200);
}

#[test]
fn unit_supervision_survives_a_storm_of_dynamic_children_and_leaks_none() {
    everywhere(dynamic_storm);
}

struct Mortal(Arc<AtomicU64>);
impl Mortal {
    fn new(born: &AtomicU64, gone: &Arc<AtomicU64>) -> Self {
        born.fetch_add(1, Ordering::SeqCst);
        Self(gone.clone())
    }
}
impl Drop for Mortal {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}
impl Actor for Mortal {
    type Context = Context<Self>;
}
#[derive(actix::prelude::Message)]
#[rtype(result = "()")]
struct Die;
impl Handler<Die> for Mortal {
    type Result = ();
    fn handle(&mut self, _: Die, _: &mut Context<Self>) {
        std::panic::resume_unwind(Box::new("as told"));
    }
}

/// Ticks by a timer, counts a stream, answers later.
struct Busy {
    journal: Journal,
    generation: u64,
}
impl Actor for Busy {
    type Context = Context<Self>;
    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.run_interval(Duration::from_secs(1), |actor, _| actor.journal.note(format!("tick #{}", actor.generation)));
        ctx.add_stream(futures_util::stream::iter([1, 2]));
    }
}
impl StreamHandler<u64> for Busy {
    fn handle(&mut self, n: u64, _: &mut Context<Self>) {
        self.journal.note(format!("stream {n} #{}", self.generation));
    }
    fn finished(&mut self, _: &mut Context<Self>) {
        self.journal.note(format!("stream over #{}", self.generation)); // actix would stop the actor here by default
    }
}
impl Handler<Add> for Busy {
    type Result = ResponseActFuture<Self, u64>;
    fn handle(&mut self, Add(n): Add, _: &mut Context<Self>) -> Self::Result {
        Box::pin(tokio::time::sleep(Duration::from_secs(n)).into_actor(self).map(move |(), _, _| n))
    }
}
impl Handler<Die> for Busy {
    type Result = ();
    fn handle(&mut self, _: Die, _: &mut Context<Self>) {
        std::panic::resume_unwind(Box::new("as told"));
    }
}

#[test]
fn unit_supervision_gives_actors_timers_streams_and_late_answers_that_end_with_their_generation() {
    let journal = Journal::default();
    let noted = journal.clone();
    paused(async move {
        let mut node = quick("node");
        let journal = noted.clone();
        let busy = node
            .add(ChildSpec::new("busy", move |ctx| Busy { journal: journal.clone(), generation: ctx.generation() }));
        let tree = node.start(no_escalation).await.unwrap();
        assert_eq!(busy.ask(Add(2), PATIENCE).await, Ok(2));
        let asker = busy.asker::<Add>();
        let (late, ()) = tokio::join!(asker.ask(Add(5), PATIENCE), async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            busy.try_tell(Die).unwrap();
        });
        assert_eq!(late, Err(AskError::Lost), "the answer was owed by the old generation");
        tokio::time::sleep(Duration::from_millis(1500)).await;
        tree.stop().await;
    });
    let first = ["stream 1 #1", "stream 2 #1", "stream over #1", "tick #1", "tick #1"];
    let second = ["stream 1 #2", "stream 2 #2", "stream over #2", "tick #2"];
    assert_eq!(journal.lines(), [&first[..], &second[..]].concat());
}

/// A thread that can die under its actors.
struct Doomed {
    arbiter: actix_rt::Arbiter,
    pulse: Arc<Pulse>,
}
impl Place for Doomed {
    fn name(&self) -> &str {
        "doomed"
    }
    fn run(&self, task: PlacedTask) -> Result<(), PlaceGone> {
        let taken = self.arbiter.spawn_fn(move || drop(tokio::task::spawn_local(task())));
        if taken { Ok(()) } else { Err(PlaceGone("doomed".to_owned())) }
    }
    fn pulse(&self) -> Arc<Pulse> {
        self.pulse.clone()
    }
}

#[test]
fn host_supervision_gives_up_on_a_child_whose_thread_has_died() {
    actix_rt::System::new().block_on(async {
        let (journal, faults) = Default::default();
        let doomed = Arc::new(Doomed { arbiter: actix_rt::Arbiter::new(), pulse: Arc::default() });
        let place: Arc<dyn Place> = doomed.clone();
        let mut node = Supervisor::new("node").backoff(Backoff::fixed(MILLI)).intensity(3, PATIENCE);
        let a = node.add(worker("a", &place, &journal, &faults));
        let b = node.add(worker("b", &Here::place(), &journal, &faults));
        let tree = node.start(|_| ()).await.unwrap();
        a.ask(Add(1), PATIENCE).await.unwrap();
        doomed.arbiter.stop();
        let gave_up = tree.gave_up().await;
        assert_eq!((gave_up.child.as_str(), gave_up.last_error.as_str()), ("a", "its place is gone"));
        assert_eq!(tree.read().at(&["b"]).unwrap().state, State::Stopped);
        assert_eq!(b.mail().lost_panic, 0);
        tree.stop().await;
    });
}

#[test]
fn unit_supervision_does_not_let_a_flood_starve_a_stop_or_a_sibling() {
    paused(async {
        let (place, journal, faults) = (Here::place(), Journal::default(), Faults::default());
        let mut node = quick("node");
        let flooded = node.add(ChildSpec::new("flooded", |_| Flooded).capacity(16));
        let sibling = node.add(worker("sibling", &place, &journal, &faults));
        let tree = node.start(no_escalation).await.unwrap();
        // Each message sends the next: plain actix would never leave this mailbox again.
        flooded.try_tell(Again(flooded.clone())).unwrap();
        assert_eq!(sibling.ask(Add(1), PATIENCE).await, Ok(1));
        let report = tree.stop().await;
        assert_eq!(report.stopped, ["node/sibling", "node/flooded"]);
    });
}

struct Flooded;
impl Actor for Flooded {
    type Context = Context<Self>;
}
#[derive(actix::prelude::Message)]
#[rtype(result = "()")]
struct Again(palisade_supervision::Address<Flooded>);
impl Handler<Again> for Flooded {
    type Result = ();
    fn handle(&mut self, Again(to): Again, _: &mut Context<Self>) {
        let next = Again(to.clone());
        to.try_tell(next).unwrap();
    }
}
