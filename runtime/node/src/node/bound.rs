//! What the node's memory comes to when its tables are full: said at start and among the metrics, so that a limit for its container is
//! not a guess.
//!
//! Each row is a bound that stands in the code of who keeps the table, times the bytes that one entry takes. Where an entry's size is
//! the user's (labels, policies), the row says what it counts with. Kernel memory (maps, blobs, rings) is told by `/v1/kernel`; of the
//! rings, what is mapped here counts here too, since the kernel counts it as this process's.
//!
//! The sum is for full tables, which hardly a node has: a process table of 65,536, arguments of 64 MiB, rules of two sets that take 128 MiB
//! each, four sinks that are all stuck. What a node of 110 containers and
//! 32,000 processes takes is measured by `host_node_scale`.

use palisade_admin::{Metric, MetricKind};
use palisade_alerts::{
    actor::{LISTENER_BYTES, RECENT_BYTES},
    processes,
};
use palisade_policy_compiler::state::Bounds;
use palisade_policy_keeper::state::MAX_RULE_BYTES;
use palisade_wire::trace::picture;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// The program itself, its threads' stacks as far as they are used, and what the allocator holds back: measured on a node without
/// containers and processes.
const BASE_BYTES: u64 = 24 * MIB;
/// An entry of the process table with its place in two queues and its executable's own entry, without the text.
const PROCESS_BYTES: u64 = 400;
/// A workload: its description in three tables, an enforcer's state and mailbox, the rules it selects. Labels count with 4 KiB.
const WORKLOAD_BYTES: u64 = 24 * KIB;
/// A policy set: its text (32 MiB is the directory's own bound) counts with 1 MiB, read as documents, the last good one and the next. Its
/// rules are bounded apart from it, for a rule may inherit much of the text again.
const POLICY_SET_BYTES: u64 = 16 * MIB;
/// Sinks that can be at a time: alerts and logs, each to standard output and to a file.
const SINKS: u64 = 4;

/// One table and what it comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    pub table: &'static str,
    pub bytes: u64,
}

/// A process as the recorder knows it, at the ring's first and last moment, without the text that both share.
const RECORDED_PROCESS_BYTES: u64 = 2 * 160;
/// Records that wait to be a block, and the columns that it is made of.
const OPEN_BLOCK_BYTES: u64 = 8 * MIB;

/// The rows for a node of so many workloads, with rings of so many bytes in all, that keeps so many bytes of traces in memory.
#[must_use]
pub fn rows(max_workloads: u32, rings_bytes: u64, trace_bytes: u64) -> Vec<Row> {
    let of = |bytes: usize| u64::try_from(bytes).unwrap_or(u64::MAX);
    vec![
        Row { table: "program", bytes: BASE_BYTES },
        // The data pages of a ring are mapped twice, so that a record never wraps.
        Row { table: "record rings", bytes: 2 * rings_bytes },
        Row { table: "processes", bytes: PROCESS_BYTES * of(processes::MAX_PROCESSES) },
        Row { table: "executables and arguments", bytes: of(processes::MAX_IMAGE_BYTES) },
        Row { table: "recent alerts", bytes: of(RECENT_BYTES) },
        Row { table: "lines before listeners", bytes: of(LISTENER_BYTES) },
        Row { table: "lines before sinks", bytes: SINKS * of(palisade_sinks::BYTES) },
        Row { table: "workloads", bytes: WORKLOAD_BYTES * u64::from(max_workloads) },
        Row { table: "compiled policies", bytes: of(Bounds::default().kept_bytes) },
        Row { table: "policy set", bytes: POLICY_SET_BYTES },
        // Those in force, and all of them anew in the set that takes their place.
        Row { table: "rules of policies", bytes: 2 * of(MAX_RULE_BYTES) },
        Row { table: "last minutes", bytes: trace_bytes + OPEN_BLOCK_BYTES },
        Row { table: "recorded processes", bytes: RECORDED_PROCESS_BYTES * of(picture::MAX_PROCESSES) },
    ]
}

/// Says it in the log.
pub fn say(rows: &[Row]) {
    let total: u64 = rows.iter().map(|row| row.bytes).sum();
    let by_table: Vec<String> =
        rows.iter().map(|row| format!("{} {} MiB", row.table, row.bytes.div_ceil(MIB))).collect();
    tracing::info!(
        mib = total.div_ceil(MIB),
        tables = by_table.join(", "),
        resident_mib = resident().map(|bytes| bytes.div_ceil(MIB)),
        "memory at most, with every table full"
    );
}

/// The rows, and what is resident now.
#[must_use]
pub fn metrics(rows: &[Row]) -> Vec<Metric> {
    let samples = rows.iter().map(|row| (vec![("table", row.table.to_owned())], row.bytes)).collect();
    let bound = Metric {
        name: "memory_bound_bytes",
        help: "Memory that each table takes when it is full.",
        kind: MetricKind::Gauge,
        samples,
    };
    let resident =
        resident().map(|bytes| Metric::single("resident_bytes", "Resident memory.", MetricKind::Gauge, bytes));
    std::iter::once(bound).chain(resident).collect()
}

/// Resident memory of this process; `None` where `/proc` does not tell it.
fn resident() -> Option<u64> {
    let statm = procfs::process::Process::myself().and_then(|process| process.statm()).ok()?;
    Some(statm.resident * procfs::page_size())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unit_node_memory_bound_grows_with_what_it_is_told_and_is_of_all_tables() {
        let total = |workloads, rings| rows(workloads, rings, 0).iter().map(|row| row.bytes).sum::<u64>();
        assert_eq!(total(110, 0) - total(0, 0), 110 * WORKLOAD_BYTES);
        assert_eq!(total(0, 8 * MIB) - total(0, 0), 16 * MIB);
        let least = LISTENER_BYTES + MAX_RULE_BYTES + palisade_sinks::BYTES + processes::MAX_IMAGE_BYTES;
        assert!(total(0, 0) > u64::try_from(least).unwrap(), "what others bound by bytes");
        let metric = &metrics(&rows(110, 8 * MIB, 0))[0];
        assert_eq!(metric.samples.iter().map(|(_, bytes)| bytes).sum::<u64>(), total(110, 8 * MIB));
    }

    #[test]
    fn unit_node_tells_its_resident_memory() {
        assert!(resident().is_some_and(|bytes| bytes > MIB && bytes < 1024 * MIB));
    }
}
