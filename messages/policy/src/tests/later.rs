//! What our own kind knows and this version does not hold: refused as that, with its place, and never called unknown. Of KubeArmor's kinds
//! nothing is left.

use super::{KUBEARMOR, PALISADE};
use crate::{PolicyFile, Severity};

const HOST: &str = "apiVersion: security.kubearmor.com/v1\nkind: KubeArmorHostPolicy\nmetadata: {name: p}\nspec:\n  \
                    nodeSelector: {matchLabels: {kubernetes.io/hostname: \"*\"}}\n";

/// Severity and text of each diagnostic of `start` with one more line in its spec.
fn said(start: &str, line: &str) -> Vec<(Severity, String)> {
    let file = PolicyFile::parse("test.yaml", format!("{start}  {line}\n").as_bytes());
    file.diagnostics.iter().map(|found| (found.severity, found.to_string())).collect()
}

fn assert_unsupported(start: &str, line: &str, place: &str) {
    let said = said(start, line);
    let [(Severity::Unsupported, text)] = said.as_slice() else { panic!("{line}: {said:?}") };
    assert!(text.starts_with("test.yaml:6:"), "{line}: {text}");
    assert!(text.contains(&format!(": unsupported in this version: `{place}`, ")), "{line}: {text}");
}

#[test]
fn unit_policy_file_refuses_later_fields_of_a_palisade_policy_wherever_they_stand() {
    for (line, place) in [
        ("ancestors: true", "spec.ancestors"),
        ("process: {ancestors: true}", "process.ancestors"),
        ("process: {matchPaths: [{path: /a, ancestors: true}]}", "process.matchPaths[0].ancestors"),
        ("file: {matchPatterns: [{pattern: /a*, ancestors: false}]}", "file.matchPatterns[0].ancestors"),
        (
            "file: {matchPaths: [{path: /a, fromSource: [{path: /b, ancestors: true}]}]}",
            "file.matchPaths[0].fromSource[0].ancestors",
        ),
        ("ptrace: {match: [{target: /a, ancestors: true}]}", "ptrace.match[0].ancestors"),
        ("network: {destinations: [{cidr: 10.0.0.0/8, ancestors: true}]}", "network.destinations[0].ancestors"),
        ("network: {destinations: [{fqdn: example.com}]}", "network.destinations[0].fqdn"),
        ("network: {destinations: [{labels: {app: db}}]}", "network.destinations[0].labels"),
        ("network: {destinations: [{ports: 1, direction: egress}]}", "network.destinations[0].direction"),
    ] {
        assert_unsupported(PALISADE, line, place);
    }
}

#[test]
fn unit_policy_file_says_of_fields_of_our_own_kind_that_they_do_not_belong_into_kubearmors() {
    for (start, line, expected) in [
        (KUBEARMOR, "ancestors: true", "`ancestors` does not belong here, only a PalisadePolicy has it, remove it; "),
        (
            HOST,
            "process: {ancestors: true}",
            "`ancestors` does not belong here, only a PalisadePolicy has it, remove it; ",
        ),
        (
            HOST,
            "ptrace: {match: []}",
            "`ptrace` does not belong here, only a PalisadePolicy has this family, remove it; ",
        ),
        // A PalisadePolicy selects no hosts: to write one would not help.
        (HOST, "network: {destinations: []}", "only a PalisadePolicy names destinations, remove it; "),
    ] {
        let said = said(start, line);
        let [(Severity::Error, text)] = said.as_slice() else { panic!("{line}: {said:?}") };
        assert!(text.contains(expected), "{line}: {text}");
    }
}

#[test]
fn unit_policy_file_takes_a_slip_of_the_pen_for_the_later_family_that_it_is_near() {
    for (start, line, meant) in [
        (HOST, "devices: {}", "device"),
        (PALISADE, "capabilites: {}", "capabilities"),
        (PALISADE, "ancestor: true", "ancestors"),
    ] {
        let said = said(start, line);
        let [(Severity::Error, text)] = said.as_slice() else { panic!("{line}: {said:?}") };
        assert!(text.ends_with(&format!("did you mean `{meant}`?")), "{text}");
    }
}
