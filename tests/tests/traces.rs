//! Recorded traces replay to their golden output, on every machine and in every run.
//!
//! They were recorded from real containers (tests/fixtures/traces/record.sh, which records them anew and writes the golden output). A line that
//! differs is a change of what a node says of the same acts: where that is meant, record anew and say so in the changelog.
#![forbid(unsafe_code)]
#![expect(
    clippy::unwrap_used,
    reason = "a fixture that cannot be read is a failed test, and the panic names the place"
)]

mod rehearsed;

use std::{
    fs,
    path::{Path, PathBuf},
};

use palisade_policy::PolicySet;
use palisade_simulation::{
    editing::{self, Span},
    replay::{Options, Output, Replay},
};
use palisade_wire::trace::{Ending, TraceReader};

const NAMES: [&str; 5] = ["web", "database", "attack", "miner", "build"];
const MAX_BYTES: u64 = 200_000;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/traces")
}

fn trace(name: &str) -> Vec<u8> {
    fs::read(folder().join(format!("{name}.paltrace"))).unwrap()
}

fn replayed(bytes: &[u8], output: Output) -> String {
    let mut reader = TraceReader::open(bytes).unwrap();
    let mut replay = Replay::new(reader.header(), Options { output, ..Options::default() });
    let mut out = Vec::new();
    while let Some(part) = reader.next_part().unwrap() {
        replay.part(&part, &mut out);
    }
    replay.end(&mut out);
    assert_eq!(reader.report().ending, Ending::Whole);
    assert_eq!(replay.notes(), [""; 0]);
    assert_eq!(replay.counts().unattributed, 0);
    String::from_utf8(out).unwrap()
}

#[test]
fn unit_recorded_traces_replay_to_their_golden_alerts_and_decisions() {
    for name in NAMES {
        let bytes = trace(name);
        assert!(bytes.len() as u64 <= MAX_BYTES, "{name}");
        for (form, output) in [("alerts", Output::Alerts), ("decisions", Output::Decisions)] {
            let golden = fs::read_to_string(folder().join(format!("{name}.{form}.jsonl"))).unwrap();
            let lines = replayed(&bytes, output);
            assert!(golden.lines().count() >= 1, "{name}.{form} has nothing in it that could change");
            for (number, (line, golden)) in lines.lines().zip(golden.lines()).enumerate() {
                assert_eq!(line, golden, "{name}.{form}.jsonl:{}", number + 1);
            }
            assert_eq!(lines, golden, "{name}.{form}: another number of lines");
        }
        assert_eq!(replayed(&bytes, Output::Events), replayed(&bytes, Output::Events), "{name}");
    }
}

#[test]
fn unit_recorded_traces_take_under_25_bytes_a_record_where_there_are_many() {
    for name in ["web", "database"] {
        let bytes = trace(name);
        let mut reader = TraceReader::open(&bytes[..]).unwrap();
        while reader.next_part().unwrap().is_some() {}
        let each = bytes.len() as u64 / reader.report().records;
        assert!(each < 25, "{name}: {each} bytes a record with all that a file has besides");
    }
}

#[test]
fn unit_recorded_traces_have_no_arguments_and_a_cut_replays_to_a_part_of_the_whole() {
    let bytes = trace("web");
    assert_eq!(TraceReader::open(&bytes[..]).unwrap().header().redacted, ["arguments"]);
    let (_, _, found) = editing::redact(&bytes[..], Vec::new()).unwrap();
    assert_eq!(found, 0, "arguments were recorded");
    let whole = replayed(&bytes, Output::Decisions);
    let decisions: Vec<&str> = whole.lines().collect();
    let decision: serde_json::Value = serde_json::from_str(decisions[2]).unwrap();
    let span = Span {
        from_ns: decision["bootNs"].as_u64().unwrap(),
        until_ns: u64::MAX,
        workloads: vec!["traces/web".into()],
    };
    let mut reader = TraceReader::open(&bytes[..]).unwrap();
    let header = reader.header().clone();
    let part = editing::cut(&header, || reader.next_part(), &span, Vec::new()).unwrap();
    assert!(part.len() < bytes.len());
    let of_part = replayed(&part, Output::Decisions);
    assert_eq!(of_part.lines().collect::<Vec<_>>(), decisions[2..]);
}

#[test]
fn unit_recorded_traces_are_denied_in_a_rehearsal_what_they_were_denied_then() {
    let policies = fs::read(folder().join("policies.yaml")).unwrap();
    for name in NAMES {
        let bytes = trace(name);
        let golden = fs::read_to_string(folder().join(format!("{name}.decisions.jsonl"))).unwrap();
        let blocked = golden.lines().filter(|line| line.contains("\"effect\":\"block\"")).count() as u64;
        let set = PolicySet::parse([("policies.yaml", &policies[..])]).unwrap();
        let report = rehearsed::rehearsed(set, &bytes);
        assert_eq!(report.workloads.len(), 1, "{name}");
        assert_eq!(report.denials(), blocked, "{name}: {:?} {:?}", report.denied, report.undecidable);
    }
}
