//! What this node says of the time before it, in which none ran: in the log, in `/v1/kernel` and in its metrics.
//!
//! Units: the kernel's times are of the boot clock; people are told the calendar's. Counts are of the whole time since the last node's last
//! sign of life, which was up to [`palisade_kernel::BEAT`] before its end.

use palisade_admin::{Metric, MetricKind};
use palisade_domain::UnixNanos;
use palisade_world::{Absence, BootNanos, Clock as _};
use serde_json::{Value, json};

use crate::clock::MachineClock;

const NANOS: u64 = 1_000_000_000;

/// By the calendar as it is now.
fn at(boot: BootNanos) -> UnixNanos {
    let unix_minus_boot = MachineClock.unix().0.saturating_sub(MachineClock.boot().0);
    UnixNanos(boot.0.saturating_add(unix_minus_boot))
}

fn seconds(from: BootNanos, until: BootNanos) -> u64 {
    until.0.saturating_sub(from.0) / NANOS
}

/// Says it in the log, once.
pub fn say(absence: Option<Absence>) {
    let Some(absence) = absence else { return };
    let Absence { since, until, lapsed, decided, denied, passed } = absence;
    let (since_when, seconds_without) = (at(since).rfc3339(), seconds(since, until));
    tracing::info!(
        since = since_when,
        seconds = seconds_without,
        judged = decided,
        denied,
        "no node ran: acts that were judged meanwhile"
    );
    if let Some(lapsed) = lapsed {
        tracing::warn!(
            since = at(lapsed).rfc3339(),
            passed,
            "policy had lapsed (--max-unattended): it stands again from now on"
        );
    }
}

/// `unattended` of `/v1/kernel`.
pub fn document(absence: &Absence) -> Value {
    json!({
        "since": at(absence.since).rfc3339(),
        "until": at(absence.until).rfc3339(),
        "lapsedSince": absence.lapsed.map(|lapsed| at(lapsed).rfc3339()),
        "judged": absence.decided,
        "denied": absence.denied,
        "passed": absence.passed,
    })
}

/// Of the time before this node.
pub fn metrics(absence: &Absence) -> Vec<Metric> {
    let gauge = |name, help, value| Metric::single(name, help, MetricKind::Gauge, value);
    let lapsed = absence.lapsed.map_or(0, |lapsed| seconds(lapsed, absence.until));
    vec![
        gauge("unattended_seconds", "Without a node before this one.", seconds(absence.since, absence.until)),
        gauge("unattended_judged", "Acts judged meanwhile.", absence.decided),
        gauge("unattended_denied", "Of them, acts denied.", absence.denied),
        gauge("unattended_lapsed_seconds", "Of that time, without policy: it had lapsed.", lapsed),
        gauge("unattended_lapsed_acts", "Acts that no policy was asked about then.", absence.passed),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unit_node_says_when_policy_had_lapsed_and_what_was_judged_before() {
        let boot = |seconds| BootNanos(seconds * NANOS);
        let absence =
            Absence { since: boot(100), until: boot(160), lapsed: Some(boot(110)), decided: 8, denied: 7, passed: 3 };
        let values: Vec<u64> = metrics(&absence).iter().map(|metric| metric.samples[0].1).collect();
        assert_eq!(values, [60, 8, 7, 50, 3]);
        let document = document(&absence);
        assert_eq!(document["denied"], 7);
        let text = |key: &str| document[key].as_str().unwrap_or_default().to_owned();
        assert!(text("since") < text("lapsedSince") && text("lapsedSince") < text("until"), "{document}");
        let stood = Absence { lapsed: None, ..absence };
        assert!(super::document(&stood)["lapsedSince"].is_null());
    }
}
