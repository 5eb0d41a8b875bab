//! A node whose table of workloads is full: nobody is let through in silence.
#![forbid(unsafe_code)]

mod node_bed;

use std::process::Command;

use node_bed::{FORBIDS_5000, NodeBed, Pod, eventually, succeed};

fn is_denied(bed: &NodeBed, pod: &Pod, id: &str) -> bool {
    bed.run_in(pod, id, &["sh", "-c", "act connect 127.0.0.1 5000 | grep -q result=EPERM"])
}

#[test]
fn host_full_table_of_workloads_starts_no_container_unheld_and_says_who_runs_without_policy() {
    let mut bed = NodeBed::new(&[("no-port-5000.yaml", FORBIDS_5000)]);
    bed.node_arguments = ["--max-workloads", "1"].map(str::to_owned).to_vec();
    bed.start_node();
    let client = bed.pod("client", "sleep 1000");
    assert!(is_denied(&bed, &client, "first"));
    let condition = |bed: &NodeBed| bed.document("/readyz")["conditions"]["containers"].clone();
    assert_eq!(condition(&bed)["state"], "good");

    let said = bed.refused_pod("second");
    assert!(said.contains("no slot is free"), "the runtime hears why: {said}");
    assert!(is_denied(&bed, &client, "meanwhile"), "who is held stays so");
    // Nobody asks the node: it runs, and is told of until it is gone or held.
    let stray = bed.pod_without_hook("stray", "sleep 1000");
    eventually("it is said to run without policy", || condition(&bed)["state"] == "degraded");
    let reason = condition(&bed)["reason"].as_str().unwrap().to_owned();
    assert!(reason.contains("1 containers run without policy") && reason.contains("--max-workloads"), "{reason}");
    let doctor = bed.doctor();
    assert!(doctor.contains("containers is degraded: 1 containers run without policy"), "{doctor}");
    assert!(bed.metric("palisade_containers_unheld") == Some(1.0), "{}", bed.get("/metrics").unwrap().1);
    assert!(bed.log_whole("node").contains("no slot is free"), "{}", bed.log_end("node"));
    assert!(!is_denied(&bed, &stray, "stray"), "as it is said");
    let held = bed.document("/v1/workloads")["workloads"].as_array().map(Vec::len);
    assert!(is_denied(&bed, &client, "last"));

    // Nobody tells that it ends: containerd is away.
    bed.kill_containerd();
    eventually("the runtime's absence is said", || {
        condition(&bed)["reason"].as_str().is_some_and(|reason| reason.contains("held as they were"))
    });
    assert_eq!(bed.metric("palisade_containers_unheld"), Some(1.0), "it runs on");
    succeed(Command::new("kill").args(["-KILL", &stray.pid.to_string()]));
    eventually("its end is seen", || bed.metric("palisade_containers_unheld") == Some(0.0));
    assert_eq!(bed.document("/v1/workloads")["workloads"].as_array().map(Vec::len), held, "others are held on");
    bed.start_containerd();
    bed.remove_pod("stray");
    eventually("all is well again", || condition(&bed)["state"] == "good");
    assert!(is_denied(&bed, &client, "afterwards"));
}
