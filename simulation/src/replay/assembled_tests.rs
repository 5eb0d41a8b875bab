//! The recorder in the whole tree of a node, with ports that are simulated: its trace replays to the alerts that the node said.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use palisade_domain::Visibility;
use palisade_policy::ir::Postures;
use palisade_protocol::RecordTrace;
use palisade_wire::trace::{Ending, TraceReader};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::*;
use crate::{
    event::{Ears, Teller},
    faults::Faults,
    journal::Journal,
    random::Random,
    run::{Request, live},
    workload::{self, Until},
    world::{
        configuration::Configured,
        machine::{Machine, Traits},
        scheduler,
    },
};

/// Virtual time, less than the ring reaches back.
const LENGTH: Duration = Duration::from_secs(40);

/// The trace of a node that lives for a while without a fault, and its alerts.
fn lived(seed: u64) -> (Vec<u8>, Vec<String>) {
    scheduler::run(seed, async |processes| {
        let begun = Instant::now();
        let ears = Arc::new(Mutex::new(Ears::new(begun, Journal::new(false), Vec::new())));
        let traits = Traits {
            max_workloads: 256,
            configured: Configured {
                postures: Postures::default(),
                visibility: Visibility::ALL,
                throttle: None,
                sink: 0,
            },
            waits_for_disk: false,
            keeps_traces: false,
            ring_bytes: 1 << 20,
            skew_seconds: 0,
            put_back_percent: 0,
        };
        let mut random = Random::stream(seed, "machine");
        let machine = Machine::new(begun, Teller::new(0, &ears), &processes, traits, None, random.child("machine"));
        workload::policies::begin(&machine, &mut random);
        machine.start();
        let request = Request {
            seed,
            nodes: 1,
            length: LENGTH,
            faults: Faults::default(),
            pace: None,
            stop_at: None,
            mutation: None,
            aloud: false,
        };
        let until = Until::new(begun + LENGTH, 1);
        live(&machine, random, &request, &until, begun + LENGTH);
        sleep(LENGTH).await;
        until.stop();
        // What is on its way arrives, and is said.
        sleep(Duration::from_secs(3)).await;
        let (last, duration) = (2 * LENGTH, Some(Duration::ZERO));
        let last = RecordTrace { last, duration, arguments: true, ..RecordTrace::default() };
        let trace = machine.record(last).await.expect("a trace");
        (trace, machine.alerts().await.expect("alerts"))
    })
}

/// Alerts alone, without what a line may lack that was made while a file of users was being read.
fn comparable<'l>(lines: impl Iterator<Item = &'l str>) -> Vec<Value> {
    let lines = lines.map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let alerts = lines.filter(|line| line.get("subject").is_some());
    alerts
        .map(|mut line| {
            if let Some(fields) = line.as_object_mut() {
                fields.remove("username");
            }
            line
        })
        .collect()
}

#[test]
fn unit_trace_out_of_the_assembled_tree_replays_to_the_alerts_that_the_node_said() {
    let (trace, said) = lived(11);
    let mut reader = TraceReader::open(&trace[..]).expect("a trace");
    let mut replay = Replay::new(reader.header(), Options::default());
    let mut out = Vec::new();
    while let Some(part) = reader.next_part().expect("bytes") {
        replay.part(&part, &mut out);
    }
    replay.end(&mut out);
    assert_eq!((reader.report().ending, reader.report().damaged), (Ending::Whole, 0));
    assert_eq!((replay.notes(), replay.counts().unattributed), (Vec::new(), 0));
    let text = String::from_utf8(out).expect("text");
    let (replayed, said) = (comparable(text.lines()), comparable(said.iter().map(String::as_str)));
    assert!(said.len() > 20, "{} alerts: nothing is compared", said.len());
    // The node keeps the last ones.
    assert!(replayed.len() >= said.len());
    for (number, (replayed, said)) in replayed.iter().rev().zip(said.iter().rev()).enumerate() {
        assert_eq!(replayed, said, "alert {number} from the last");
    }
}

#[test]
fn unit_trace_of_a_simulated_node_is_the_same_bytes_in_each_run_of_its_seed() {
    assert_eq!(lived(5), lived(5));
}
