//! What a record costs on its way to a line: `cargo run --release -p palisade-alerts --example line_cost`.
//!
//! Opens of one process of one container, in batches of 512 as the probe hands them on. Times are the least of some rounds, in
//! nanoseconds a record: decoding alone, then what the actor's state does where nobody wants logs, where an alert is held back, and where
//! a line is made and serialised.

use std::{
    hint::black_box,
    io::Write as _,
    sync::Arc,
    time::{Duration, Instant},
};

use palisade_alerts::{
    compose,
    state::{Settings, State},
    throttle::Limit,
};
use palisade_domain::{ContainerId, Line, Slot, Workload, WorkloadKind};
use palisade_kernel_abi::{
    blob::{Decision, Effect},
    record::{
        Body, DecisionTaken, Exec, FailReason, Family, Header, Open, Outcome, Record, RecordReader, RecordWriter,
        Script, Text, Tier,
    },
};
use palisade_protocol::WorkloadNamed;
use palisade_supervision::Kept;
use palisade_world::RecordBatch;

const BATCH: u32 = 512;
const BATCHES: u32 = 64;
const ROUNDS: u32 = 9;

fn main() {
    let (plain, decided) = (batch(false), batch(true));
    let mut out = std::io::stdout().lock();
    let mut said = |what: &str, least: Duration| {
        let each = least.as_secs_f64() * 1e9 / f64::from(BATCH * BATCHES);
        writeln!(out, "{what:<40} {each:7.0} ns").expect("stdout");
    };
    said(
        "decoded only",
        least(|| {
            for record in RecordReader::new(black_box(&plain.bytes)) {
                let _ = black_box(record);
            }
        }),
    );
    let mut state = state(None);
    said("no log wanted", through(&mut state, &plain, false));
    state.want_logs(true);
    said("a log", through(&mut state, &plain, false));
    said("a log, as a line of JSON", through(&mut state, &plain, true));
    said("an alert, as a line of JSON", through(&mut state, &decided, true));
    let mut silent = self::state(Some(Limit { per_second: 1, silence_seconds: 86_400 }));
    said("an alert that is held back", through(&mut silent, &decided, true));
}

fn through(state: &mut State, batch: &RecordBatch, as_json: bool) -> Duration {
    let mut lines: Vec<Line> = Vec::new();
    least(|| {
        state.read(black_box(batch), 0, &mut lines);
        for line in lines.drain(..) {
            if as_json {
                black_box(compose::line(&line));
            }
        }
    })
}

fn least(mut of_a_batch: impl FnMut()) -> Duration {
    let round = |_| {
        let start = now();
        (0..BATCHES).for_each(|_| of_a_batch());
        start.elapsed()
    };
    (0..ROUNDS).map(round).min().unwrap_or_default()
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
fn now() -> Instant {
    Instant::now()
}

fn header() -> Header {
    Header {
        tgid: 10,
        task_start_ns: 1_000_000_000,
        slot: 1,
        boot_ns: 5_000_000_000,
        uid: 33,
        mnt_ns: 7,
        ..Header::default()
    }
}

fn state(throttle: Option<Limit>) -> State {
    let mut state = State::knowing(Settings { throttle, ..Settings::default() }, Kept::default());
    let workload = Workload {
        kind: WorkloadKind::Container,
        name: "web-7d9c5b6f4-x2x9k".into(),
        namespace: "shop".into(),
        container: "main".into(),
        container_id: Some(ContainerId("4f1d".repeat(16))),
        image: "registry.example/shop/web:1.2.3".into(),
        labels: [("app", "web"), ("tier", "front")].map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
    };
    state.named(WorkloadNamed { slot: Slot(1), workload: Arc::new(workload) });
    let text = |bytes| Text { bytes, ..Text::default() };
    let exec = Exec {
        path: text(&b"/usr/bin/python3.11"[..]),
        cwd: text(b"/srv"),
        argument_bytes: text(b"python3\0-m\0http.server\0"),
        argument_count: 3,
        tty: 0,
        script: Script::None,
    };
    state.read(&written(&[Record { header: header(), body: Body::Exec(exec), decision: None }]), 0, &mut Vec::new());
    state
}

fn batch(decided: bool) -> RecordBatch {
    let path = Text { bytes: b"/usr/lib/python3.11/http/server.py", ..Text::default() };
    let word =
        Decision { effect: Effect::Block, by_posture: true, ..Decision::PERMIT }.to_word().expect("it has no rule");
    let (tier, outcome, fail_reason, family) = (Tier::BpfLsm, Outcome::Denied, FailReason::None, Family::File);
    let decision =
        decided.then_some(DecisionTaken { policy: 9, generation: 3, word, tier, outcome, fail_reason, family });
    let record = Record { header: header(), body: Body::Open(Open { path, flags: 0o2_000_000, result: 3 }), decision };
    written(&vec![record; BATCH as usize])
}

fn written(records: &[Record<'_>]) -> RecordBatch {
    let mut writer = RecordWriter::default();
    for record in records {
        writer.write(record).expect("it fits");
    }
    RecordBatch { bytes: writer.into_bytes(), records: u32::try_from(records.len()).expect("few") }
}
