//! Bounds, overflow policies, backpressure, and that the counters add up.

use crate::common::*;
use actix::prelude::{Actor, Handler, Message};
use palisade_supervision::{
    Address, ArbiterThread, AskError, Backoff, ChildSpec, Context, Outbox, OutboxCounts, Overflow, Place, Refused,
    Supervisor,
};
use std::{
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

fn quick(name: &str) -> Supervisor {
    Supervisor::new(name).backoff(Backoff::fixed(MILLI)).intensity(1_000_000, Duration::from_secs(1))
}

fn size(n: usize) -> NonZeroUsize {
    NonZeroUsize::new(n).unwrap()
}

/// A worker with room for four that is busy for a while.
async fn busy(place: &Arc<dyn Place>, journal: &Journal) -> (palisade_supervision::Tree, Address<Worker>) {
    let mut node = quick("node");
    let a = node.add(worker("a", place, journal, &Faults::default()).capacity(4));
    let tree = node.start(no_escalation).await.unwrap();
    a.try_tell(Pause(Duration::from_millis(50))).unwrap();
    eventually("it pauses", || a.mail().handled == 1).await;
    journal.clear();
    (tree, a)
}

fn sums(journal: &Journal) -> Vec<String> {
    journal.lines().into_iter().filter(|line| line.starts_with('+')).collect()
}

fn plus(numbers: impl IntoIterator<Item = u64>) -> Vec<String> {
    numbers.into_iter().map(|n| format!("+{n} a#1")).collect()
}

#[test]
fn unit_outbox_refuses_the_newest_and_counts_it() {
    everywhere(|place| async move {
        let journal = Journal::default();
        let (tree, a) = busy(&place, &journal).await;
        let outbox = a.outbox::<Add>(Overflow::Refuse);
        for n in 0..4 {
            outbox.try_send(Add(n)).unwrap();
        }
        assert_eq!(outbox.try_send(Add(4)).map_err(Refused::into_message), Err(Add(4)));
        assert_eq!(outbox.counts(), OutboxCounts { accepted: 4, shed: 1, ..Default::default() });
        assert_eq!(a.ask(Add(9), PATIENCE).await, Err(AskError::Full));
        eventually("all is handled", || a.mail().queued == 0).await;
        eventually("all is noted", || sums(&journal) == plus(0..4)).await;
        assert_eq!((a.mail().shed, a.mail().high_water), (2, 4));
        tree.stop().await;
        eventually("its end", || matches!(outbox.try_send(Add(1)), Err(Refused::Closed(_)))).await;
        assert!(outbox.counts().closed >= 1);
    });
}

#[test]
fn unit_outbox_sheds_the_oldest_of_its_stage_and_keeps_order() {
    everywhere(|place| async move {
        let journal = Journal::default();
        let (tree, a) = busy(&place, &journal).await;
        let outbox = a.outbox::<Add>(Overflow::ShedOldest(size(3)));
        for n in 0..10 {
            outbox.try_send(Add(n)).unwrap();
        }
        let expected = OutboxCounts { accepted: 10, shed: 3, staged: 3, ..Default::default() };
        assert_eq!(outbox.counts(), expected);
        // The receiver fetches the staged ones by itself.
        eventually("all arrive", || sums(&journal) == plus([0, 1, 2, 3, 7, 8, 9])).await;
        assert_eq!(outbox.counts().staged, 0);
        tree.stop().await;
    });
}

#[test]
fn unit_outbox_coalesces_by_key_in_place() {
    everywhere(|place| async move {
        let journal = Journal::default();
        let (tree, a) = busy(&place, &journal).await;
        let outbox = a.outbox::<Add>(Overflow::Coalesce(size(2), |Add(n)| n % 10));
        for n in 0..4 {
            outbox.try_send(Add(n)).unwrap();
        }
        outbox.try_send(Add(11)).unwrap(); // staged
        outbox.try_send(Add(12)).unwrap(); // staged
        outbox.try_send(Add(21)).unwrap(); // replaces 11, before 12
        assert_eq!(outbox.try_send(Add(13)).map_err(Refused::into_message), Err(Add(13)));
        let expected = OutboxCounts { accepted: 7, coalesced: 1, shed: 1, staged: 2, ..Default::default() };
        assert_eq!(outbox.counts(), expected);
        eventually("all arrive", || sums(&journal) == plus([0, 1, 2, 3, 21, 12])).await;
        tree.stop().await;
    });
}

#[test]
fn unit_outbox_blocks_its_sender_until_there_is_room() {
    everywhere(|place| async move {
        let journal = Journal::default();
        let (tree, a) = busy(&place, &journal).await;
        let outbox = a.outbox::<Add>(Overflow::Block);
        for n in 0..200 {
            outbox.send(Add(n)).await.unwrap();
            assert!(a.mail().queued <= 4);
        }
        eventually("all arrive", || sums(&journal) == plus(0..200)).await;
        assert_eq!((a.mail().shed, a.mail().high_water), (0, 4));
        tree.stop().await;
    });
}

#[test]
fn unit_outbox_lets_a_blocked_sender_in_while_the_receiver_waits_for_something_else() {
    paused(async {
        let (journal, faults) = Default::default();
        let mut node = quick("node");
        let a = node.add(worker("a", &palisade_supervision::Here::place(), &journal, &faults).capacity(1));
        a.try_tell(Pause(Duration::from_secs(10))).unwrap();
        let outbox = a.outbox::<Add>(Overflow::Block);
        let begin = tokio::time::Instant::now();
        let blocked = async {
            outbox.send(Add(1)).await.unwrap();
            begin.elapsed()
        };
        let (tree, waited) = tokio::join!(node.start(no_escalation), blocked);
        // What the receiver waits for may be this very sender: then it would be for ever.
        assert!(waited < Duration::from_secs(1), "let in after {waited:?}");
        tree.unwrap().stop().await;
    });
}

#[test]
fn unit_outbox_tells_a_blocked_sender_that_the_receiver_is_over() {
    everywhere(|place| async move {
        let journal = Journal::default();
        let (tree, a) = busy(&place, &journal).await;
        let outbox = a.outbox::<Add>(Overflow::Block);
        for n in 0..4 {
            outbox.send(Add(n)).await.unwrap();
        }
        let handle = tree.handle();
        let (sent, stopped) = tokio::join!(outbox.send(Add(5)), handle.stop_child("a"));
        assert!(matches!(sent, Err(Refused::Closed(Add(5)))), "{sent:?}");
        stopped.unwrap();
        eventually("the queued are counted", || a.mail().lost_closed == 4).await;
        assert_eq!(a.mail().queued, 0);
        tree.stop().await;
    });
}

#[test]
fn unit_outbox_counts_what_is_staged_when_it_is_dropped_or_its_receiver_ends() {
    everywhere(|place| async move {
        let journal = Journal::default();
        let (tree, a) = busy(&place, &journal).await;
        let dropped = a.outbox::<Add>(Overflow::ShedOldest(size(8)));
        let kept = a.outbox::<Add>(Overflow::ShedOldest(size(8)));
        for n in 0..8 {
            dropped.try_send(Add(n)).unwrap();
            kept.try_send(Add(100 + n)).unwrap();
        }
        let staged = dropped.counts().staged;
        drop(dropped);
        assert_eq!(a.mail().shed, staged);
        let staged = kept.counts().staged;
        assert!(staged > 0);
        tree.handle().stop_child("a").await.unwrap();
        eventually("what was staged is counted", || kept.counts().closed == staged).await;
        assert_eq!(kept.counts().staged, 0);
        tree.stop().await;
    });
}

#[test]
fn unit_supervision_counts_mail_by_plain_addresses_when_it_is_handled() {
    everywhere(|place| async move {
        let (journal, faults) = Default::default();
        let mut node = quick("node");
        let a = node.add(worker("a", &place, &journal, &faults));
        let tree = node.start(no_escalation).await.unwrap();
        assert_eq!(a.plain().send(Add(1)).await.unwrap(), 1);
        let mail = a.mail();
        assert_eq!((mail.admitted, mail.handled, mail.queued), (1, 1, 0));
        tree.stop().await;
    });
}

/// A reproducible source of trouble.
struct Dice(u64);
impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

struct Fragile {
    dice: Dice,
    survived: Arc<AtomicU64>,
}
impl Actor for Fragile {
    type Context = Context<Self>;
}
#[derive(Message)]
#[rtype(result = "()")]
struct Batch(u64);
impl Handler<Batch> for Fragile {
    type Result = ();
    fn handle(&mut self, Batch(records): Batch, ctx: &mut Context<Self>) {
        ctx.at_stake(records);
        if self.dice.roll(7) == 0 {
            std::panic::resume_unwind(Box::new("injected")); // as a panic, without the noise
        }
        self.survived.fetch_add(records, Ordering::SeqCst);
    }
}

fn fragile(place: &Arc<dyn Place>, seed: u64, survived: &Arc<AtomicU64>) -> ChildSpec<Fragile> {
    let survived = survived.clone();
    ChildSpec::new("fragile", move |ctx| {
        let seed = (seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ ctx.generation();
        Fragile { dice: Dice(seed | 1), survived: survived.clone() }
    })
    .capacity(8)
    .place(place.clone())
}

#[derive(Default)]
struct Sent {
    offered: u64,
    records: u64,
    records_refused: u64,
}

/// Sends batches by the outbox, now and then leaving time to work.
async fn bombard(outbox: &Outbox<Batch>, seed: u64, rounds: u64) -> Sent {
    let mut dice = Dice(seed.wrapping_mul(77) | 1);
    let mut sent = Sent::default();
    for _ in 0..rounds {
        let records = 1 + dice.roll(512);
        sent.offered += 1;
        sent.records += records;
        if let Err(refused) = outbox.try_send(Batch(records)) {
            sent.records_refused += refused.into_message().0;
        }
        if dice.roll(4) == 0 {
            tokio::time::sleep(Duration::from_micros(dice.roll(3000))).await;
        }
    }
    sent
}

async fn add_up(place: Arc<dyn Place>, seed: u64, rounds: u64) {
    println!("seed {seed}");
    let survived = Arc::new(AtomicU64::new(0));
    let mut node = quick("node").seed(seed);
    let a = node.add(fragile(&place, seed, &survived));
    let tree = node.start(no_escalation).await.unwrap();
    let outbox = a.outbox::<Batch>(Overflow::Refuse);
    let staged = a.outbox::<Batch>(Overflow::ShedOldest(size(4)));
    let (plain, shedding) = tokio::join!(bombard(&outbox, seed, rounds), bombard(&staged, !seed, rounds));
    tree.handle().stop_child("fragile").await.unwrap();
    assert!(matches!(a.offer(Batch(1)), Err(Refused::Closed(_))), "once it is stopped, nothing is let in");
    eventually("it is drained", || a.mail().queued == 0 && staged.counts().staged == 0).await;
    let mail = a.mail();
    println!("{mail:?}");
    let gone = mail.handled + mail.expired + mail.lost_panic + mail.lost_closed;
    assert_eq!(mail.admitted, gone, "admitted = handled + expired + lost, seed {seed}");
    let offered = plain.offered + shedding.offered;
    let accounted = mail.admitted + mail.shed + mail.refused_closed + mail.coalesced;
    assert_eq!(offered, accounted, "sent = admitted + shed + refused, seed {seed}");
    let counts = outbox.counts();
    assert_eq!(plain.offered, counts.accepted + counts.shed + counts.closed, "seed {seed}");
    assert!(mail.high_water <= 8 && mail.lost_panic > 0 && mail.shed > 0, "seed {seed}");
    // By records too, where what was shed came back to us.
    if staged.counts().shed + staged.counts().closed + mail.lost_closed == 0 {
        let kept = plain.records + shedding.records - plain.records_refused;
        assert_eq!(kept, survived.load(Ordering::SeqCst) + mail.lost_panic_records, "seed {seed}");
    }
    tree.stop().await;
}

#[test]
fn unit_supervision_counters_add_up_under_random_crashes() {
    for seed in 0..40 {
        paused(add_up(palisade_supervision::Here::place(), seed, 400));
    }
}

#[test]
fn host_supervision_counters_add_up_under_random_crashes_across_threads() {
    for seed in 0..3 {
        threaded(|place| add_up(place, seed, 2000));
    }
}

#[test]
fn host_supervision_counts_records_of_lost_batches_exactly() {
    threaded(|place| async move {
        let survived = Arc::new(AtomicU64::new(0));
        let mut node = quick("node");
        let a = node.add(fragile(&place, 5, &survived));
        let tree = node.start(no_escalation).await.unwrap();
        let outbox = a.outbox::<Batch>(Overflow::Block);
        let mut records = 0;
        for n in 1..=300 {
            records += n;
            outbox.send(Batch(n)).await.unwrap();
        }
        eventually("all is settled", || a.mail().handled + a.mail().lost_panic == 300).await;
        assert_eq!(survived.load(Ordering::SeqCst) + a.mail().lost_panic_records, records);
        tree.stop().await;
    });
}

#[test]
fn host_supervision_bounds_a_mailbox_exactly_with_senders_on_many_threads() {
    threaded(|place| async move {
        let (journal, faults) = Default::default();
        let mut node = quick("node");
        let a = node.add(worker("a", &place, &journal, &faults).capacity(32));
        let tree = node.start(no_escalation).await.unwrap();
        let senders: Vec<_> = (0..4)
            .map(|_| {
                let outbox = a.outbox::<Add>(Overflow::Refuse);
                std::thread::spawn(move || (0..20_000).filter(|n| outbox.try_send(Add(*n)).is_ok()).count() as u64)
            })
            .collect();
        let accepted: u64 = senders.into_iter().map(|sender| sender.join().unwrap()).sum();
        eventually("all accepted are handled", || a.mail().handled == accepted).await;
        let mail = a.mail();
        assert!(mail.high_water <= 32, "{mail:?}");
        assert_eq!((mail.admitted, mail.shed), (accepted, 80_000 - accepted));
        tree.stop().await;
    });
}

#[test]
fn host_outbox_loses_no_wake_up_between_blocked_senders_and_a_fast_receiver() {
    threaded(|place| async move {
        let other = ArbiterThread::start("sender").unwrap();
        let (journal, faults) = Default::default();
        let mut node = quick("node");
        let a = node.add(worker("a", &place, &journal, &faults).capacity(1));
        let tree = node.start(no_escalation).await.unwrap();
        let staged = a.outbox::<Add>(Overflow::ShedOldest(size(10_000)));
        let blocking = a.outbox::<Add>(Overflow::Block);
        let (done, all_sent) = tokio::sync::oneshot::channel();
        other
            .run(Box::new(move || {
                Box::pin(async move {
                    for n in 0..3000 {
                        staged.try_send(Add(n)).unwrap();
                        blocking.send(Add(n)).await.unwrap();
                    }
                    done.send(staged).map_err(|_| ()).unwrap();
                })
            }))
            .unwrap();
        let staged = all_sent.await.unwrap();
        eventually("all arrive", || a.mail().handled == 6000).await;
        assert_eq!((staged.counts().staged, a.mail().shed), (0, 0));
        tree.stop().await;
    });
}
