//! Policies of the host outside containers on a kernel without BPF LSM: what they audit is seen by a real kernel, what they block is said
//! not to be denied, and what nothing sees is named as not held.
//!
//! As root; rules name a folder of the test's own.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod lone_node;

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, process::Command};

use lone_node::Node;
use palisade_domain::Family;
use palisade_kernel::matrix;
use palisade_world::Capability;
use rustix::process::Signal;
use serde_json::Value;

fn policy(folder: &Path) -> String {
    let folder = folder.display();
    format!(
        "apiVersion: security.kubearmor.com/v1
kind: KubeArmorHostPolicy
metadata: {{ name: watch }}
spec:
  nodeSelector: {{ matchLabels: {{ kubernetes.io/hostname: here }} }}
  process:
    matchPaths:
    - {{ path: {folder}/tool }}
    - {{ path: {folder}/run.sh }}
    - {{ path: {folder}/blocked, action: Block }}
  file:
    matchPaths:
    - {{ path: {folder}/secret }}
    - {{ path: {folder}/written, readOnly: true }}
    - {{ path: {folder}/shut, action: Block }}
  network: {{ matchProtocols: [{{ protocol: icmp }}] }}
  action: Audit
"
    )
}

fn alerts(node: &Node) -> Vec<Value> {
    let text = fs::read_to_string(node.path("alerts")).unwrap_or_default();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .filter(|line: &Value| line["rule"].is_object())
        .collect()
}

fn executable(path: &Path, text: &[u8]) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// (place of the rule, what it was about, verdict), of the folder.
fn said(node: &Node, folder: &Path) -> Vec<(String, String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let of_folder = |line: &Value| {
        let resource = line["subject"]["resource"].as_str()?.strip_prefix(folder.to_str()?)?.to_owned();
        Some((text(&line["rule"]["place"]), resource, text(&line["verdict"])))
    };
    let mut found: Vec<_> = alerts(node).iter().filter_map(of_folder).collect();
    found.sort();
    found
}

#[test]
fn host_node_without_lsm_tells_what_a_policy_of_the_host_audits_and_names_what_it_cannot() {
    let kernel = matrix::probe();
    if kernel.has(Capability::BpfLsm) {
        println!("skipped: this kernel holds the host by BPF LSM");
        return;
    }
    let node = Node::start("host-policy", "noAlertThrottling: true\nnoAlertStdout: true\n");
    // Not below /tmp of the node's own: nothing but the test opens what is here.
    let folder = fs::canonicalize(node.path("policies")).unwrap().parent().unwrap().join("watched");
    fs::create_dir(&folder).unwrap();
    node.change("nodeName: here\n", &format!("nodeName: here\nalertFile: {}\n", node.path("alerts").display()));
    let tool = fs::read("/bin/true").unwrap();
    for name in ["tool", "blocked", "other"] {
        executable(&folder.join(name), &tool);
    }
    executable(&folder.join("run.sh"), b"#!/bin/sh\nexit 0\n");
    for name in ["secret", "written", "shut", "public"] {
        fs::write(folder.join(name), "text").unwrap();
    }
    fs::write(node.path("policies/p.yaml"), policy(&folder)).unwrap();
    node.signal(Signal::HUP);
    let policy_of_host = |node: &Node| node.get("/v1/workloads").1["workloads"][0]["policy"].clone();
    node.until("the policy is in force", |node| policy_of_host(node)["generation"] == 2);

    for name in ["tool", "blocked", "other", "run.sh"] {
        assert!(Command::new(folder.join(name)).status().unwrap().success(), "{name}: nothing of the host is denied");
    }
    for name in ["secret", "written", "shut", "public"] {
        assert_eq!(fs::read(folder.join(name)).unwrap(), b"text", "{name}");
    }
    fs::write(folder.join("written"), "other").unwrap();
    let row = |place: &str, resource: &str, verdict: &str| (place.to_owned(), resource.to_owned(), verdict.to_owned());
    let mut expected = vec![
        row("file.matchPaths[0]", "/secret", "observed"),
        row("file.matchPaths[1]", "/written", "observed"),
        row("file.matchPaths[2]", "/shut", "unenforceable"),
    ];
    let sees_execs = kernel.has(Capability::PrepareExec);
    if sees_execs {
        expected.push(row("process.matchPaths[0]", "/tool", "observed"));
        expected.push(row("process.matchPaths[1]", "/run.sh", "observed"));
        expected.push(row("process.matchPaths[2]", "/blocked", "unenforceable"));
        // The interpreter opens it by its name: no rule is about that.
    }
    node.until("all of it is told", |node| said(node, &folder).len() >= expected.len());
    assert_eq!(said(&node, &folder), expected);

    let not_held = policy_of_host(&node)["notHeld"].as_array().unwrap().clone();
    let mut named: Vec<&str> = not_held.iter().map(|part| part["what"].as_str().unwrap()).collect();
    named.sort_unstable();
    assert_eq!(
        named,
        ["changes of files", "file", "process"],
        "networks are held by programs on all cgroups: {not_held:?}"
    );
    // The file as such, without a node: by the same tiers.
    let checked = node.palisade(&["policy", "validate", "--output", "json", node.path("policies").to_str().unwrap()]);
    let checked: Value = serde_json::from_slice(&checked.stdout).unwrap();
    let by_kernel = checked["notHeldByKernel"].as_array().unwrap();
    assert_eq!(by_kernel.len(), not_held.len(), "{checked}");
    assert!(matrix::families_of_host(&kernel).contains_key(&Family::File));
}
