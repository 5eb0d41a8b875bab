//! A node of whose programs the kernel's verifier refuses some: it starts, says wherever it is asked what is not held for that, and holds the
//! rest.
//!
//! The program is a copy of `palisade` in which one object of kernel programs is not under the GPL: the verifier itself then refuses each of
//! its programs that calls what the kernel keeps for those that are. So no load is pretended to fail.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod node_bed;

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use node_bed::{FORBIDS_OF_EACH, NodeBed, eventually};
use serde_json::Value;

/// What the verifier says.
const REFUSAL: &str = "cannot call GPL-restricted function from non-GPL compatible program";
/// How an ELF object of BPF programs begins: 64 bits, little-endian, version 1; relocatable, `EM_BPF`, version 1.
const IDENTITY: [u8; 7] = *b"\x7fELF\x02\x01\x01";
const TYPE: [u8; 8] = [1, 0, 247, 0, 1, 0, 0, 0];
/// Its licence, as its section has it, and one that is as long.
const LICENCE: &[u8] = b"\0GPL\0";
const OTHER_LICENCE: &[u8] = b"\0LPG\0";

/// Where `needle` is in `bytes`.
fn places(bytes: &[u8], needle: &[u8]) -> Vec<usize> {
    bytes.windows(needle.len()).enumerate().filter(|(_, window)| *window == needle).map(|(at, _)| at).collect()
}

/// A copy of `palisade` at this path, whose object with the program is under another licence.
fn with_licence_taken_from(program: &str, copy: &Path) -> PathBuf {
    let mut bytes = fs::read(env!("CARGO_BIN_EXE_palisade")).unwrap();
    let mut begins = places(&bytes, &IDENTITY);
    begins.retain(|at| bytes.get(at + 16..at + 24) == Some(&TYPE));
    assert!(begins.len() > 10, "an object for each family: {begins:?}");
    let symbol = format!("\0{program}\0");
    // What lies between two of them is the first one's, and has no symbols.
    let ends = begins.iter().skip(1).copied().chain([bytes.len()]);
    let objects = begins.iter().copied().zip(ends);
    let named: Vec<_> =
        objects.filter(|(begin, end)| !places(&bytes[*begin..*end], symbol.as_bytes()).is_empty()).collect();
    let [(begin, end)] = named[..] else { panic!("objects with {program}: {named:?}") };
    let licences = places(&bytes[begin..end], LICENCE);
    assert_eq!(licences.len(), 1, "the one of {program}: {named:?}");
    let at = begin + licences[0];
    bytes[at..at + OTHER_LICENCE.len()].copy_from_slice(OTHER_LICENCE);
    fs::write(copy, bytes).unwrap();
    fs::set_permissions(copy, fs::Permissions::from_mode(0o755)).unwrap();
    copy.to_owned()
}

#[test]
fn host_refused_programs_of_networks_leave_a_node_that_says_so_and_holds_files_and_executables() {
    let mut bed = NodeBed::new(&[("mixed.yaml", FORBIDS_OF_EACH)]);
    bed.palisade = with_licence_taken_from("judge_connect4", &bed.path("palisade"));
    bed.start_node();
    let client = bed.pod("client", "sleep 1000");
    assert!(!bed.run_in(&client, "open", &["cat", "/etc/bin/secret"]), "held by what was not refused");
    assert!(!bed.run_in(&client, "exec", &["/etc/bin/tool", "true"]), "held by what was not refused");
    // Nothing stops it, and that is said below.
    assert!(bed.run_in(&client, "connect", &["sh", "-c", "act connect 127.0.0.1 5000 | grep -q result=ECONNREFUSED"]));

    let kernel = bed.document("/v1/kernel");
    let refused = kernel["refused"].as_array().unwrap();
    let reason_of = |program: &str| {
        let found = refused.iter().find(|one| one["program"] == program);
        found.unwrap_or_else(|| panic!("{program}: {kernel:#}"))["reason"].as_str().unwrap().to_owned()
    };
    assert!(reason_of("judge_connect4").contains(REFUSAL), "{}", reason_of("judge_connect4"));
    assert!(!refused.iter().any(|one| one["program"] == "attach_task"), "the others are there: {kernel:#}");
    let parts = bed.not_held("client");
    let of_network: Vec<_> = parts.iter().filter(|(what, _)| what == "network").collect();
    assert!(matches!(of_network[..], [(_, reason)] if reason.contains(REFUSAL)), "{parts:?}");
    assert!(!parts.iter().any(|(what, _)| what == "process" || what == "file"), "those are held: {parts:?}");
    let metrics = bed.get("/metrics").unwrap().1;
    for said in [
        "palisade_programs_refused{program=\"judge_connect4\"} 1",
        "palisade_rules_unenforceable{what=\"network\"} 1",
        "palisade_kernel_families{family=\"network\",tier=\"audit\"} 1",
    ] {
        assert!(metrics.contains(said), "{said}: {metrics}");
    }
    eventually("a line among the alerts says it", || {
        let of_network = |alert: &Value| {
            alert["verdict"] == "unenforceable"
                && alert["reason"].as_str().is_some_and(|reason| reason.contains(REFUSAL))
        };
        bed.alerts().iter().any(of_network)
    });
    let (log, doctor) = (bed.log_whole("node"), bed.doctor());
    assert!(
        log.contains("the kernel refused programs; the rest goes on") && log.contains("a part of a policy is not held"),
        "{log}"
    );
    assert!(!log.contains("panicked"), "{log}");
    for said in ["network of PalisadePolicy/example/mixed", "the kernel refused ", "judge_connect4", REFUSAL] {
        assert!(doctor.contains(said), "{said}: {doctor}");
    }
    bed.remove_pod("client");
    bed.stop_node();
    assert!(!bed.path("bpf/palisade").exists(), "it leaves nothing");
}
