//! Exit statuses that scripts rely on, of the binary itself: where nothing can be printed, and where nothing was done.
#![forbid(unsafe_code)]

use std::{
    fs::OpenOptions,
    process::{Command, Output, Stdio},
};

const PALISADE: &str = env!("CARGO_BIN_EXE_palisade");
const TRACE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/traces/web.paltrace");

fn palisade(arguments: &[&str], out: Stdio) -> Output {
    let mut command = Command::new(PALISADE);
    command.args(arguments).env("NO_COLOR", "1").stdout(out).stderr(Stdio::piped());
    command.spawn().and_then(std::process::Child::wait_with_output).expect("it runs")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned()
}

#[test]
fn unit_commands_whose_output_has_no_room_say_so_and_answer_with_no_status_that_means_another_thing() {
    let directory = tempfile::tempdir().expect("a directory");
    let policy = directory.path().join("p.yaml");
    let text = "apiVersion: security.kubearmor.com/v1\nkind: KubeArmorPolicy\nmetadata: {name: p, namespace: default}\n\
        spec: {selector: {}, file: {matchPaths: [{path: /nonesuch}]}, action: Block}\n";
    std::fs::write(&policy, text).expect("written");
    let policy = policy.display().to_string();
    let simulate = ["simulate", "--seed", "1", "--nodes", "1", "--minutes", "0.05", "--faults", "none"];
    for (arguments, status) in [
        (&["rehearse", "--policy", &policy, TRACE][..], 2),
        (&["trace", "info", TRACE], 1),
        (&["replay", TRACE], 1),
        (&simulate, 1),
    ] {
        let full = OpenOptions::new().write(true).open("/dev/full").expect("there");
        let output = palisade(arguments, full.into());
        assert_eq!(output.status.code(), Some(status), "{arguments:?}: {}", said(&output));
        assert!(said(&output).contains("standard output"), "{arguments:?}: {}", said(&output));
    }
}

#[test]
fn unit_simulate_that_does_nothing_is_no_success() {
    let none = palisade(&["simulate", "--random", "0"], Stdio::piped());
    assert_eq!(none.status.code(), Some(64), "{}", said(&none));
    let late = palisade(&["simulate", "--random", "3", "--nodes", "1", "--within", "0"], Stdio::piped());
    assert!(late.status.code() == Some(1) && said(&late).contains("no seed was run"), "{}", said(&late));
    let short = palisade(&["simulate", "--seed", "1", "--nodes", "1", "--stop-at-ms", "1"], Stdio::piped());
    assert!(short.status.code() == Some(1) && said(&short).contains("tested nothing"), "{}", said(&short));
}
