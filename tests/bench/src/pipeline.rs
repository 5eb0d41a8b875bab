//! From the bytes of a ring to the decision whether there is an alert: what a node does for every record.
//!
//! Two batches: of opens that no rule asked about (the common case: decode, keep the process table, nothing to say), and of
//! denied opens (each becomes an alert with workload, chain and rule). The baseline decodes the same batch and no more.

use std::{collections::BTreeMap, hint::black_box, sync::Arc};

use palisade_alerts::state::State;
use palisade_domain::{Generation, Slot, Workload, WorkloadKind};
use palisade_kernel_abi::{
    blob::{Effect, Family as BlobFamily, Modifiers, SourceId},
    record::{
        Body, DecisionTaken, Exec, FailReason, Family, Fork, Header, Open, Outcome, Record, RecordReader, RecordWriter,
        Script, Text, Tier,
    },
};
use palisade_policy::ir::PathMatch;
use palisade_policy_compiler::{automaton::AutomatonLimits, compile};
use palisade_protocol::{CompiledPolicy, PolicyInstalled, WorkloadNamed};
use palisade_world::{Installed, RecordBatch};

use crate::{
    Measured,
    rules::workload_rules,
    stopwatch::nanoseconds_each,
    table::{Row, Table, Unit},
};

const SLOT: Slot = Slot(1);
const GENERATION: Generation = Generation(1);
const PROCESS: u32 = 4242;
const FORBIDDEN: &str = "/usr/share/nginx/conf/internal/tenant/secret.key";
/// What a record may cost.
const BUDGET_NS: f64 = 1000.0;
/// Batches in one round, so that a round is far longer than the clock's grain.
const BATCHES: usize = 200;

/// Nanoseconds a record, with and without an alert.
///
/// # Errors
/// Where records or policy cannot be made.
pub fn measure(table: &mut Table) -> Measured {
    let policy = Arc::new(compile(
        &workload_rules(&[PathMatch::Exact(FORBIDDEN.to_owned())]),
        &AutomatonLimits::default(),
        &mut || false,
    )?);
    let denied = denial(&policy)?;
    for (what, decision) in [("a record without a decision", None), ("a record that becomes an alert", Some(denied))] {
        let batch = batch(decision)?;
        let records = BATCHES * batch.records as usize;
        let decoding = nanoseconds_each(records, || {
            for _ in 0..BATCHES {
                for record in RecordReader::new(&batch.bytes) {
                    let _ = black_box(record);
                }
            }
        });
        let mut state = state(&policy)?;
        let mut alerts = Vec::new();
        let reading = nanoseconds_each(records, || {
            for _ in 0..BATCHES {
                state.read(black_box(&batch), 0, &mut alerts);
                black_box(&alerts);
                if decision.is_some() && alerts.len() != batch.records as usize {
                    // A pipeline that raises nothing is fast, and would be praised for it.
                    alerts.truncate(0);
                    return;
                }
                alerts.clear();
            }
        });
        let raised: u64 = state.counts().raised.values().sum();
        if decision.is_some() == (raised == 0) || state.counts().unattributed > 0 {
            return Err(format!(
                "{what}: {raised} alerts were raised, {} without their rule",
                state.counts().unattributed
            )
            .into());
        }
        table.add(Row {
            what: format!("{what}, ring bytes to decision"),
            value: reading,
            unit: Unit::Nanoseconds,
            baseline: Some(("decoding alone".to_owned(), decoding)),
            budget: Some(BUDGET_NS),
        });
    }
    Ok(())
}

/// What the kernel writes when the policy's rule denies the open.
fn denial(policy: &CompiledPolicy) -> Result<DecisionTaken, String> {
    let accept = policy.blob.path_accept(FORBIDDEN.as_bytes());
    let decision = policy.blob.decide(BlobFamily::File, accept, SourceId::NONE, Modifiers::NONE);
    if decision.effect != Effect::Block {
        return Err(format!("the rule does not block: {decision:?}"));
    }
    Ok(DecisionTaken {
        policy: 1,
        generation: GENERATION.0,
        word: decision.to_word().ok_or("the decision has no word")?,
        tier: Tier::BpfLsm,
        outcome: Outcome::Denied,
        fail_reason: FailReason::None,
        family: Family::File,
    })
}

/// Workload named, policy installed, and the acting process known with two ancestors.
fn state(policy: &Arc<CompiledPolicy>) -> Result<State, Box<dyn std::error::Error>> {
    let mut state = State::new("bench".to_owned());
    let workload = Workload {
        kind: WorkloadKind::Container,
        name: "web-7d9c5f".to_owned(),
        namespace: "shop".to_owned(),
        container: "nginx".to_owned(),
        container_id: None,
        image: "nginx:1".to_owned(),
        labels: BTreeMap::new(),
    };
    state.named(WorkloadNamed { slot: SLOT, workload: Arc::new(workload) });
    let installed = Installed::default();
    state.installed(&PolicyInstalled {
        slot: SLOT,
        generation: GENERATION,
        policy: Some(Arc::clone(policy)),
        installed,
        not_held: Arc::default(),
    });
    let mut writer = RecordWriter::default();
    for (process, child) in [(PROCESS - 2, PROCESS - 1), (PROCESS - 1, PROCESS)] {
        let fork = Fork { child_tgid: child, child_tid: child, child_start_ns: u64::from(child), ..Fork::default() };
        writer.write(&Record { header: header(process), body: Body::Fork(fork), decision: None })?;
        let exec = Exec {
            path: text("/usr/sbin/nginx"),
            cwd: text("/"),
            argument_bytes: text("nginx\0"),
            argument_count: 1,
            tty: 0,
            script: Script::None,
        };
        writer.write(&Record { header: header(child), body: Body::Exec(exec), decision: None })?;
    }
    state.read(&RecordBatch { bytes: writer.into_bytes(), records: 4 }, 0, &mut Vec::new());
    Ok(state)
}

fn batch(decision: Option<DecisionTaken>) -> Result<RecordBatch, Box<dyn std::error::Error>> {
    let mut writer = RecordWriter::default();
    for _ in 0..RecordBatch::MAX_RECORDS {
        let result = if decision.is_some() { -13 } else { 7 };
        let open = Open { path: text(FORBIDDEN), flags: 0, result };
        writer.write(&Record { header: header(PROCESS), body: Body::Open(open), decision })?;
    }
    Ok(RecordBatch { bytes: writer.into_bytes(), records: RecordBatch::MAX_RECORDS })
}

fn header(process: u32) -> Header {
    Header {
        slot: SLOT.0,
        tgid: process,
        tid: process,
        parent_tgid: process - 1,
        task_start_ns: u64::from(process),
        parent_start_ns: u64::from(process - 1),
        comm: *b"nginx\0\0\0\0\0\0\0\0\0\0\0",
        ..Header::default()
    }
}

fn text(text: &str) -> Text<'_> {
    Text { bytes: text.as_bytes(), ..Text::default() }
}
