//! A day of churn in a minute: containers come and go, policies change, sessions enter, forbidden acts are tried, and nothing grows.
//!
//! A busy node starts some 500 containers a day and changes some 100 policies; this does as much of it as its time allows, and prints how
//! much that was. `PALISADE_SOAK_SECONDS` replaces the time.
//!
//! What the node keeps on purpose, each within a bound that it states (`palisade_memory_bound_bytes`), is made to fill at once or is left
//! for in [`GROWTH_KIB`], so that a longer run asks the same: the ring of the last minutes is small, and policies come back, since
//! compiled ones are kept for that.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod node_bed;

use std::{fs, thread, time::Duration};

use node_bed::{NodeBed, eventually};
use serde_json::Value;

/// Resident memory may differ by so much between the first quarter's end and the last: the last alerts come to 4 MiB, and an allocator
/// keeps what it had at a peak.
const GROWTH_KIB: u64 = 7 * 1024;
const PER_DAY: u64 = 500;
/// Changes of the policy until the first comes back: fewer than the first quarter sees.
const POLICIES: u64 = 16;
/// The ring of the last minutes: full within the first quarter.
const TRACE_MEMORY_BYTES: &str = "262144";

fn policy(round: u64) -> String {
    let number = round % POLICIES;
    let decoys: String = (0..20).map(|n| format!("    - path: /nowhere/{number}/{n}\n")).collect();
    format!(
        "apiVersion: palisade.dev/v1alpha1\nkind: PalisadePolicy\nmetadata: {{name: soak, namespace: example}}\nspec:\n  \
         selector: {{}}\n  action: Block\n  network: {{destinations: [{{ports: [5000], protocol: TCP}}]}}\n  file:\n    matchPaths:\n{decoys}"
    )
}

/// Seconds that the machine has run: the test's own length, not a decision of the product.
fn uptime_s() -> u64 {
    let text = fs::read_to_string("/proc/uptime").unwrap();
    text.split('.').next().unwrap().parse().unwrap()
}

#[test]
fn host_node_soaked_in_churn_keeps_its_size_and_loses_nothing_unaccounted() {
    let seconds = std::env::var("PALISADE_SOAK_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(40);
    let mut bed = NodeBed::new(&[("soak.yaml", &policy(0))]);
    bed.node_arguments = vec!["--trace-memory-bytes".to_owned(), TRACE_MEMORY_BYTES.to_owned()];
    bed.start_node();
    let stays = bed.pod("stays", "sleep 100000");
    bed.serve(&stays, 5000);
    let start = uptime_s();
    let (mut rounds, mut after_quarter) = (0, None);
    while uptime_s() - start < seconds {
        rounds += 1;
        let name = format!("pod-{rounds}");
        // It forks, executes, opens, tries what it may not, and leaves; its network is its own, so that nobody answers there.
        let pod = bed.pod(
            &name,
            "for n in 1 2 3; do act connect 127.0.0.1 5000 >>/tmp/tries; ls / >/dev/null; done; sleep 1000",
        );
        let tries = || fs::read_to_string(pod.file("/tmp/tries")).unwrap_or_default();
        eventually("the container tried", || tries().lines().count() == 3);
        assert!(tries().lines().all(|line| line == "result=EPERM effect=absent"), "round {rounds}: {}", tries());
        assert!(
            bed.run_in(&pod, "session", &["sh", "-c", "cat /etc/hostname >/dev/null"]),
            "round {rounds}: a session failed"
        );
        bed.remove_pod(&name);
        bed.write_policy("soak.yaml", &policy(rounds));
        if after_quarter.is_none() && uptime_s() - start >= seconds / 4 && rounds >= 3 {
            after_quarter = Some(bed.node_rss_kib());
        }
    }
    let first = after_quarter.unwrap_or_else(|| panic!("only {rounds} rounds in {seconds} s"));
    // What is on its way arrives.
    thread::sleep(Duration::from_secs(1));
    let last = bed.node_rss_kib();
    println!(
        "{rounds} containers and as many policies, sessions in {seconds} s: {:.1} days of a busy node; {first} KiB resident after a quarter, {last} at the end",
        rounds as f64 / PER_DAY as f64
    );
    assert!(last <= first + GROWTH_KIB, "resident memory grew from {first} to {last} KiB in {rounds} rounds");

    let (status, ready) = bed.get("/readyz").unwrap();
    assert_eq!(status, 200, "{ready}");
    let (_, tree) = bed.get("/v1/tree").unwrap();
    let tree: Value = serde_json::from_str(&tree).unwrap();
    assert_eq!(restarts(&tree), 0, "{tree}");
    let (_, workloads) = bed.get("/v1/workloads").unwrap();
    assert_eq!(workloads.matches("pod-").count(), 0, "workloads that are gone are still known: {workloads}");
    let (missing, lost) =
        (bed.metric("palisade_records_missing").unwrap(), bed.metric("palisade_records_lost_total").unwrap_or(0.0));
    assert!(missing <= lost, "{missing} records are missing, {lost} are counted as lost");
    // Alerts say of every one of the tries that it was denied.
    let denied = bed.alerts().iter().filter(|alert| alert["verdict"] == "denied").count() as u64;
    assert!(denied >= 3 * rounds, "{denied} alerts of {} tries", 3 * rounds);
    bed.stop_node();
}

/// Restarts of all actors of a tree.
fn restarts(node: &Value) -> u64 {
    match node {
        Value::Object(fields) => {
            fields.get("restarts").and_then(Value::as_u64).unwrap_or(0) + fields.values().map(restarts).sum::<u64>()
        }
        Value::Array(items) => items.iter().map(restarts).sum(),
        _ => 0,
    }
}
