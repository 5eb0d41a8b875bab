//! Containers while no node runs: those that a policy holds, those that nobody knows, and what the next node says of it.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod node_bed;

use std::{fs, thread, time::Duration};

use node_bed::{FORBIDS_5000, NodeBed, Pod, eventually};
use serde_json::Value;

/// Policy stands for so long without a node.
const SPAN: Duration = Duration::from_secs(20);

/// Tries a port all the time, and writes a line for each try.
const TRIES: &str = "while true; do act connect 127.0.0.1 5001 >>/tmp/tries; sleep 0.2; done";

/// The same, of the port that is forbidden.
const FORBIDDEN_TRIES: &str = "while true; do act connect 127.0.0.1 5000 >>/tmp/tries; sleep 0.05; done";

fn tries(pod: &Pod) -> Vec<String> {
    let text = fs::read_to_string(pod.file("/tmp/tries")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

fn last_try(pod: &Pod) -> String {
    tries(pod).pop().unwrap_or_default()
}

const DENIED: &str = "result=EPERM effect=absent";

/// Whether the container is refused port 5000, which nobody serves.
fn is_denied(bed: &NodeBed, pod: &Pod, id: &str) -> bool {
    bed.run_in(pod, id, &["sh", "-c", "act connect 127.0.0.1 5000 | grep -q result=EPERM"])
}

fn unattended(bed: &NodeBed) -> Value {
    let (_, body) = bed.get("/v1/kernel").unwrap();
    serde_json::from_str::<Value>(&body).unwrap()["unattended"].clone()
}

#[test]
fn host_unattended_containers_are_held_known_or_not_until_policy_lapses_and_the_next_node_says_so() {
    let mut bed = NodeBed::new(&[("no-port-5000.yaml", FORBIDS_5000)]);
    let seconds = SPAN.as_secs().to_string();
    bed.node_arguments = ["--max-unattended", &seconds, "--on-unknown-workload", "block"].map(str::to_owned).to_vec();
    bed.start_node();
    assert_eq!(unattended(&bed), Value::Null, "this node was the first");
    let client = bed.pod("client", "sleep 1000");
    assert!(is_denied(&bed, &client, "before"));
    // A sign of life after that denial, so that it is not counted as one of the time without a node.
    thread::sleep(palisade_kernel::BEAT * 2);

    assert!(bed.kill_node());
    for number in 0..4 {
        assert!(is_denied(&bed, &client, &format!("gap-{number}")), "policy stands");
    }
    bed.start_node();
    let said = unattended(&bed);
    assert_eq!((&said["denied"], &said["lapsedSince"]), (&Value::from(4), &Value::Null), "{said}");
    assert!(said["judged"].as_u64().unwrap() >= 4);
    assert!(bed.log_end("node").contains("no node ran"), "{}", bed.log_end("node"));

    assert!(bed.kill_node());
    // Without the hook, which would let nothing start.
    let stray = bed.pod_without_hook("stray", TRIES);
    eventually("the unknown is denied", || last_try(&stray) == "result=EPERM effect=absent");
    let first = fs::read_to_string(stray.file("/tmp/tries")).unwrap();
    assert!(first.lines().all(|line| line == "result=EPERM effect=absent"), "from its first act on: {first}");
    eventually("policy lapses", || last_try(&stray) == "result=ECONNREFUSED effect=absent");
    assert!(!is_denied(&bed, &client, "lapsed"));

    bed.start_node();
    let said = unattended(&bed);
    assert!(said["lapsedSince"].is_string() && said["passed"].as_u64().unwrap() > 0, "{said}");
    assert!(bed.log_end("node").contains("policy had lapsed"));
    assert!(bed.metric("palisade_unattended_lapsed_acts").unwrap() > 0.0);
    assert!(is_denied(&bed, &client, "after"), "it stands again");
    // The node has come to know it: no policy selects it, and what ran before is let go as well.
    eventually("the unknown is known", || last_try(&stray) == "result=ECONNREFUSED effect=absent");
    let alerts = bed.alerts();
    let of_unknown: Vec<&Value> = alerts.iter().filter(|alert| alert["workload"]["name"] == "unknown").collect();
    let denied = of_unknown.iter().any(|alert| alert["verdict"] == "denied" && alert["tier"] == "cgroup-bpf");
    assert!(denied, "{of_unknown:#?}");
    let cgroup = of_unknown[0]["workload"]["container"].as_str().unwrap().to_owned();
    let id: u64 = cgroup.strip_prefix("cgroup ").unwrap().parse().unwrap();
    assert!(id > 1, "{cgroup}");
}

#[test]
fn host_unattended_policy_stands_while_a_node_that_keeps_enforcing_is_updated_and_goes_with_one_that_does_not() {
    let mut bed = NodeBed::new(&[("no-port-5000.yaml", FORBIDS_5000)]);
    bed.node_arguments = vec!["--keep-enforcing".to_owned()];
    bed.start_node();
    let client = bed.pod("client", FORBIDDEN_TRIES);
    eventually("it is denied", || last_try(&client) == DENIED);
    thread::sleep(palisade_kernel::BEAT * 2);

    bed.stop_node();
    let at_the_stop = tries(&client).len();
    eventually("it has tried without a node", || tries(&client).len() > at_the_stop + 20);
    bed.start_node();
    let said = unattended(&bed);
    assert!(said["denied"].as_u64().unwrap() > 20, "what was denied meanwhile is counted: {said}");
    let at_the_start = tries(&client).len();
    eventually("it has tried under the next node", || tries(&client).len() > at_the_start + 20);
    // The last line may be half written.
    let all = tries(&client);
    let passed: Vec<&String> = all[..all.len() - 1].iter().filter(|line| *line != DENIED).collect();
    assert!(passed.is_empty(), "from its first instruction on: {passed:?}");

    // As deploy/kubernetes/README.md takes Palisade off: a node that does not keep takes over, and ends.
    bed.stop_node();
    bed.node_arguments.clear();
    bed.start_node();
    assert_eq!(last_try(&client), DENIED);
    bed.stop_node();
    eventually("nothing holds it", || last_try(&client) == "result=ECONNREFUSED effect=absent");
    let left = bed.path("bpf/palisade");
    assert!(!left.exists(), "{:?}", fs::read_dir(&left).map(Iterator::count));
}
