//! The account alone: batches in, numbers out.

use std::collections::BTreeMap;

use palisade_kernel_abi::record::{Body, Exit, Header, Record, RecordWriter};
use palisade_world::{Loss, LossReason, RecordBatch};

use crate::state::State;

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
