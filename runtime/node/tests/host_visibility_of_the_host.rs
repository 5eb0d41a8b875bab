//! What the host outside containers does is seen where it is asked for, beside policies for it and without them.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod node_bed;

use std::{fs, process::Command};

use node_bed::{NodeBed, eventually};
use serde_json::Value;

fn logs(bed: &NodeBed) -> Vec<Value> {
    let text = fs::read_to_string(bed.path("logs.jsonl")).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

#[test]
fn host_node_sees_the_host_where_that_is_asked_for_and_no_container_with_it() {
    let mut bed = NodeBed::new(&[]);
    let log = bed.path("logs.jsonl").display().to_string();
    bed.node_arguments = ["--host-visibility", "process,file", "--log-file", &log].map(str::to_owned).to_vec();
    bed.start_node();
    let pod = bed.pod("client", "while :; do touch /tmp/inside; sleep 0.1; done");
    eventually("the container works", || pod.file("/tmp/inside").exists());
    let file = bed.path("touched-on-the-host");
    let mut seen = Vec::new();
    eventually("a file of the host is seen", || {
        assert!(Command::new("touch").arg(&file).status().unwrap().success());
        seen = logs(&bed);
        seen.iter()
            .any(|line| line["resource"].as_str().is_some_and(|resource| resource.ends_with("/touched-on-the-host")))
    });
    let of_host =
        seen.iter().find(|line| line["resource"].as_str().is_some_and(|r| r.ends_with("/touched-on-the-host")));
    let of_host = of_host.unwrap();
    assert_eq!(of_host["type"], "HostLog", "{of_host}");
    assert!(of_host["containerID"].as_str().unwrap_or_default().is_empty(), "{of_host}");
    assert!(!seen.iter().any(|line| line["resource"] == "/tmp/inside"), "nobody asked to see containers");
}

#[test]
fn host_node_sees_nothing_of_the_host_unless_asked() {
    let mut bed = NodeBed::new(&[]);
    let log = bed.path("logs.jsonl").display().to_string();
    bed.node_arguments = ["--visibility", "process,file", "--log-file", &log].map(str::to_owned).to_vec();
    bed.start_node();
    let pod = bed.pod("client", "while :; do touch /tmp/inside; sleep 0.1; done");
    let file = bed.path("touched-on-the-host");
    eventually("the container is seen", || {
        assert!(Command::new("touch").arg(&file).status().unwrap().success());
        pod.file("/tmp/inside").exists() && logs(&bed).iter().any(|line| line["resource"] == "/tmp/inside")
    });
    assert!(!logs(&bed).iter().any(|line| line["type"] == "HostLog"), "nobody asked to see the host");
}
