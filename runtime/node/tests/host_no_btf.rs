//! A node on a kernel that does not describe its own types (`CONFIG_DEBUG_INFO_BTF` is off): no program of ours can be loaded. It starts, says
//! so wherever it is asked, and holds by fanotify what that can hold.
//!
//! The types are hidden from the node and its commands alone, by an empty file system over them in a mount namespace of its own.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod node_bed;

use std::fs;

use node_bed::{FORBIDS_OF_EACH, NodeBed, eventually};
use serde_json::Value;

/// What the kernel says of a file that is not there.
const HIDDEN: &str = "/sys/kernel/btf/vmlinux: No such file";

fn without_btf(policies: &[(&str, &str)]) -> NodeBed {
    let mut bed = NodeBed::new(policies);
    let script = "mount -t tmpfs none /sys/kernel/btf && exec \"$@\"";
    bed.under = ["unshare", "--mount", "sh", "-c", script, "sh"].map(str::to_owned).to_vec();
    bed
}

/// By name and reason.
fn refused(kernel: &Value, program: &str) -> String {
    let all = kernel["refused"].as_array().unwrap();
    let found = all.iter().find(|one| one["program"] == program).unwrap_or_else(|| panic!("{program}: {kernel:#}"));
    assert!(!found["without"].as_str().unwrap().is_empty() && !found["needs"].as_str().unwrap().is_empty(), "{found}");
    found["reason"].as_str().unwrap().to_owned()
}

#[test]
fn host_no_btf_node_starts_and_denies_what_fanotify_holds_from_the_first_instruction_on() {
    let mut bed = without_btf(&[("mixed.yaml", FORBIDS_OF_EACH)]);
    bed.start_node();
    let client = bed.pod("client", "cat /etc/bin/secret >/tmp/first 2>&1; sleep 1000");
    eventually("its first act is over", || {
        fs::read_to_string(client.file("/tmp/first")).is_ok_and(|said| !said.is_empty())
    });
    let first = fs::read_to_string(client.file("/tmp/first")).unwrap();
    assert!(first.contains("not permitted"), "admitted before its first instruction: {first}");
    assert!(!bed.run_in(&client, "open", &["cat", "/etc/bin/secret"]));
    assert!(!bed.run_in(&client, "exec", &["/etc/bin/tool", "true"]));
    assert!(bed.run_in(&client, "other", &["cat", "/etc/passwd"]), "nobody forbids it");
    let other = bed.pod("other", "sleep 1000");
    assert!(bed.run_in(&other, "open", &["cat", "/etc/bin/secret"]), "no policy is about it");

    eventually("both denials are told", || {
        let alerts = bed.alerts();
        let denied = |family: &str| {
            alerts.iter().any(|alert| {
                alert["verdict"] == "denied"
                    && alert["tier"] == "fanotify"
                    && alert["rule"]["policyName"] == "mixed"
                    && alert["family"] == family
                    && alert["workload"]["name"] == "client"
            })
        };
        denied("file") && denied("process")
    });
    bed.remove_pod("other");
    bed.remove_pod("client");
    bed.stop_node();
    assert!(!bed.path("bpf/palisade").exists(), "it leaves nothing");
}

#[test]
fn host_no_btf_node_says_what_it_does_not_hold_and_why_wherever_it_is_asked() {
    let mut bed = without_btf(&[("mixed.yaml", FORBIDS_OF_EACH)]);
    bed.start_node();
    let client = bed.pod("client", "sleep 1000");
    // Nothing stops it, and that is said below.
    assert!(bed.run_in(&client, "try", &["sh", "-c", "act connect 127.0.0.1 5000 | grep -q result=ECONNREFUSED"]));

    let kernel = bed.document("/v1/kernel");
    let capabilities = kernel["capabilities"].as_array().unwrap();
    let missing = capabilities.iter().find(|one| one["capability"] == "KernelBtf").unwrap();
    assert!(missing["available"] == false && missing["reason"].as_str().unwrap().contains(HIDDEN), "{missing}");
    // Of each kind of program one: identity, files, writes, what keeps workloads from the node, networks, system calls, killing, arguments, and what observes.
    for program in [
        "inherit_cgroup",
        "judge_open",
        "judge_write",
        "guard_map",
        "judge_connect4",
        "audit_call",
        "kill_tracer",
        "judge_arguments",
        "observe_exec",
    ] {
        let reason = refused(&kernel, program);
        assert!(reason.contains(HIDDEN), "{program}: {reason}");
        let metric = format!("palisade_programs_refused{{program=\"{program}\"}} 1");
        assert!(bed.get("/metrics").unwrap().1.contains(&metric), "{metric}");
    }
    let parts = bed.not_held("client");
    let of_network: Vec<_> = parts.iter().filter(|(what, _)| what == "network").collect();
    assert!(matches!(of_network[..], [(_, reason)] if reason.contains(HIDDEN)), "{parts:?}");
    assert!(!parts.iter().any(|(what, _)| what == "process" || what == "file"), "those are held: {parts:?}");
    let metrics = bed.get("/metrics").unwrap().1;
    assert!(metrics.contains("palisade_rules_unenforceable{what=\"network\"} 1"), "{metrics}");
    assert!(metrics.contains("palisade_kernel_families{family=\"network\",tier=\"audit\"} 1"), "{metrics}");
    eventually("a line among the alerts says it", || {
        let of_network = |alert: &Value| {
            alert["verdict"] == "unenforceable"
                && alert["reason"].as_str().is_some_and(|reason| reason.contains(HIDDEN))
        };
        bed.alerts().iter().any(of_network)
    });
    let log = bed.log_whole("node");
    for said in [
        "no kernel programs at all on this kernel",
        "nothing is observed on this kernel",
        "a part of a policy is not held",
    ] {
        assert!(log.contains(said), "{said}: {log}");
    }
    assert!(!log.contains("panicked"), "{log}");

    let doctor = bed.doctor();
    for said in [
        "KernelBtf (",
        HIDDEN,
        "network of PalisadePolicy/example/mixed",
        "not denied: ",
        "the kernel refused ",
        "attach_task, audit_call",
        "good node ",
    ] {
        assert!(doctor.contains(said), "{said}: {doctor}");
    }
    let probe = String::from_utf8(bed.palisade(&["probe"]).stdout).unwrap();
    for said in [
        &format!("KernelBtf            no: error parsing {HIDDEN}"),
        "observation          none: BTF of the kernel",
        "file                 fanotify",
    ] {
        assert!(probe.contains(said), "{said}: {probe}");
    }
    let validate = bed.palisade(&["policy", "validate", bed.path("policies").to_str().unwrap()]);
    let validate = String::from_utf8(validate.stdout).unwrap();
    assert!(validate.contains("unenforceable on this kernel: `network`") && validate.contains(HIDDEN), "{validate}");
    bed.remove_pod("client");
    bed.stop_node();
}
