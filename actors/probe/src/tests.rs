//! The account alone: batches in, numbers out.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use actix::{Actor, AsyncContext as _, Handler};
use palisade_kernel_abi::record::{Body, Exit, Header, Record, RecordWriter};
use palisade_protocol::{ConditionReported, RecordAccountOf, RecordsRead};
use palisade_supervision::{ChildSpec, Context, Overflow, Supervisor};
use palisade_world::{Loss, LossReason, RecordBatch, RecordSource, RecordSourceError};

use crate::{Probe, Wiring, actor::IN_FLIGHT, state::State};

fn batch(numbers: &[(u32, u64)]) -> RecordBatch {
    let mut writer = RecordWriter::default();
    for (producer, sequence) in numbers {
        let header = Header { producer: *producer, sequence: *sequence, ..Header::default() };
        writer.write(&Record { header, body: Body::Exit(Exit { status: 0 }), decision: None }).expect("it fits");
    }
    let records = u32::try_from(numbers.len()).expect("few");
    RecordBatch { bytes: writer.into_bytes(), records }
}

#[test]
fn unit_probe_counts_missing_numbers_by_producer_in_any_order() {
    let mut state = State::default();
    assert_eq!(state.read(&batch(&[(0, 10), (1, 7), (0, 13), (0, 11)])), None);
    assert_eq!(state.account().missing, 1, "12 of producer 0");
    state.read(&batch(&[(0, 12)]));
    assert_eq!((state.account().missing, state.account().delivered), (0, 5));
}

#[test]
fn unit_probe_explains_missing_numbers_by_the_counted_losses() {
    let mut state = State::default();
    state.read(&batch(&[(0, 0), (0, 5)]));
    assert_eq!(state.unexplained(), 4);
    let loss = Loss {
        counts: BTreeMap::from([((4, LossReason::RingFull), 3), ((1, LossReason::NoScratch), 1)]),
        ..Loss::default()
    };
    assert_eq!(state.losses(loss.clone()), 4);
    assert_eq!(state.losses(loss), 0, "cumulative");
    assert_eq!(state.unexplained(), 0);
}

#[test]
fn unit_probe_counts_malformed_records_and_those_hidden_behind_them() {
    let mut state = State::default();
    let mut broken = batch(&[(0, 0), (0, 1), (0, 2)]);
    let first = broken.bytes.len() / 3;
    broken.bytes[first + 4..first + 8].copy_from_slice(&u32::MAX.to_ne_bytes());
    let error = state.read(&broken).expect("it is broken");
    assert!(error.contains("length"), "{error}");
    let account = state.account();
    assert_eq!((account.delivered, account.malformed), (1, 2));
}

#[test]
fn unit_probe_account_stands_numbers_at_the_ends_of_their_range() {
    let mut state = State::default();
    state.read(&batch(&[(0, 0), (0, u64::MAX), (1, 0), (1, u64::MAX), (2, u64::MAX)]));
    assert_eq!((state.account().delivered, state.account().missing), (5, u64::MAX));
    let counts = BTreeMap::from([((4, LossReason::RingFull), u64::MAX), ((1, LossReason::NoScratch), 1)]);
    assert_eq!(state.losses(Loss { counts, ..Loss::default() }), u64::MAX);
    assert_eq!(state.unexplained(), 0);
}

#[test]
fn unit_probe_record_of_a_producer_past_the_bound_is_malformed_and_not_delivered() {
    let mut state = State::default();
    for producer in 0..u32::try_from(State::MAX_PRODUCERS).expect("small") + 1 {
        state.read(&batch(&[(producer, 1)]));
    }
    let account = state.account();
    assert_eq!((account.delivered, account.malformed), (State::MAX_PRODUCERS as u64, 1), "each is one of them");
}

#[test]
fn unit_probe_what_is_suppressed_or_folded_explains_numbers_and_is_no_loss() {
    let mut state = State::default();
    state.read(&batch(&[(0, 0), (0, 9)]));
    assert_eq!(state.unexplained(), 8);
    let counts = |folded| BTreeMap::from([((4, LossReason::Folded), folded), ((4, LossReason::Suppressed), 2)]);
    assert_eq!(state.losses(Loss { counts: counts(5), ..Loss::default() }), 0, "nothing is wrong");
    assert_eq!(state.unexplained(), 1);
    let mut all = counts(5);
    all.insert((4, LossReason::RingFull), 1);
    assert_eq!(state.losses(Loss { counts: all, ..Loss::default() }), 1);
    assert_eq!(state.unexplained(), 0);
}

/// A ring that never runs dry.
struct Endless(Arc<AtomicU64>);

impl RecordSource for Endless {
    fn read(&mut self, into: &mut RecordBatch) -> Result<bool, RecordSourceError> {
        *into = batch(&[(0, self.0.fetch_add(1, Ordering::Relaxed))]);
        Ok(true)
    }
    fn loss(&mut self) -> Result<Loss, RecordSourceError> {
        Ok(Loss::default())
    }
}

/// Holds on to what it is handed.
#[derive(Default)]
struct Slow(Vec<Arc<RecordBatch>>);

impl Actor for Slow {
    type Context = Context<Self>;
}

impl Handler<RecordsRead> for Slow {
    type Result = ();
    fn handle(&mut self, message: RecordsRead, ctx: &mut Self::Context) {
        if self.0.is_empty() {
            ctx.run_later(Duration::from_secs(60), |slow, _| slow.0.clear());
        }
        self.0.push(message.batch);
    }
}

impl Handler<ConditionReported> for Slow {
    type Result = ();
    fn handle(&mut self, _: ConditionReported, _: &mut Self::Context) {}
}

#[test]
fn unit_probe_leaves_records_in_the_rings_while_readers_hold_too_many() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().expect("made");
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let mut node = Supervisor::new("node");
        let reader = node.add(ChildSpec::new("reader", |_| Slow::default()));
        let taken = Arc::new(AtomicU64::new(0));
        let wiring =
            Wiring { readers: vec![reader.outbox(Overflow::Refuse)], conditions: reader.outbox(Overflow::Refuse) };
        let source = Arc::clone(&taken);
        let probe = node
            .add(ChildSpec::new("probe", move |_| Probe::new(Box::new(Endless(Arc::clone(&source))), wiring.clone())));
        let tree = node.start(|gave_up| panic!("{gave_up}")).await.expect("started");
        tokio::time::sleep(Duration::from_secs(30)).await;
        assert_eq!(
            taken.load(Ordering::Relaxed),
            IN_FLIGHT as u64,
            "the rest is the ring's, and the kernel's to count"
        );
        tokio::time::sleep(Duration::from_secs(40)).await;
        assert_eq!(taken.load(Ordering::Relaxed), 2 * IN_FLIGHT as u64, "on it goes once they let go");
        let account = probe.ask(RecordAccountOf, Duration::from_secs(1)).await.expect("it answers");
        assert_eq!((account.refused, account.missing), (0, 0));
        tree.stop().await;
    });
}
