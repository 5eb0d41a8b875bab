//! The standing of rules: each list is in ascending order, and no two of it are equal.

use super::{PALISADE, rules};
use crate::ir::{Rule, Specificity};

fn of(spec: &str) -> Vec<Specificity> {
    rules(&format!("{PALISADE}{spec}")).iter().map(|rule| Rule::specificity(rule)).collect()
}

fn assert_ascending(spec: &str) {
    let ranks = of(spec);
    assert!(ranks.len() > 1);
    for (index, pair) in ranks.windows(2).enumerate() {
        assert!(pair[0] < pair[1], "rule {index} {:?} does not stand below rule {} {:?}", pair[0], index + 1, pair[1]);
    }
}

#[test]
fn unit_specificity_ranks_directories_and_patterns_by_literal_prefix_then_names_then_paths_then_sources() {
    assert_ascending(
        "  file:\n    matchDirectories:\n    - {dir: /, recursive: true}\n    - {dir: /etc/}\n    - {dir: /etc/ssl/}\n    \
         matchPatterns:\n    - {pattern: /etc/ssl/private/*}\n  ",
    );
    assert_ascending(
        "  process:\n    matchPaths:\n    - {execname: a}\n    - {path: /a}\n    - {path: /bin/a}\n    \
         - {execname: a, fromSource: [{path: /b}]}\n    - {path: /a, fromSource: [{path: /b}]}\n",
    );
    let directory_and_name =
        of("  process:\n    matchPaths: [{execname: a}]\n    matchDirectories: [{dir: /very/long/directory/}]\n");
    assert!(directory_and_name[1] < directory_and_name[0]);
    let with_source = of(
        "  process:\n    matchPaths: [{path: /bin/a}]\n    matchDirectories: [{dir: /, fromSource: [{path: /b}]}]\n",
    );
    assert!(with_source[0] < with_source[1], "a source goes before an exact path");
}

#[test]
fn unit_specificity_counts_only_the_literal_prefix_of_a_pattern() {
    let ranks = of(
        "  file:\n    matchDirectories: [{dir: /etc/}]\n    matchPatterns:\n    - {pattern: \"/etc/*.conf\"}\n    - {pattern: \"/etc/[a]\"}\n    - {pattern: \"/etc\\\\/?\"}\n    - {pattern: \"/etc/{a,b}\"}\n",
    );
    assert!(ranks.iter().all(|rank| *rank == ranks[0]), "{ranks:?}");
}

#[test]
fn unit_specificity_ranks_destinations_by_prefix_then_port_then_protocol_and_above_sockets() {
    assert_ascending(
        "  network:\n    matchProtocols:\n    - {protocol: all}\n    - {protocol: stream}\n    - {protocol: raw}\n    \
         - {protocol: tcp}\n    destinations:\n    - {cidr: 0.0.0.0/0}\n    - {protocol: TCP}\n    - {ports: 1-65535}\n    \
         - {ports: 8000-8010}\n    - {ports: 8000}\n    - {ports: 8000, protocol: TCP}\n    - {cidr: 10.0.0.0/8}\n    \
         - {cidr: 10.0.0.0/8, ports: 1-65535}\n    - {cidr: 10.1.0.0/16}\n    - {cidr: 10.1.2.3/32, ports: 80, protocol: UDP}\n",
    );
}

#[test]
fn unit_specificity_of_a_ptrace_rule_without_a_target_is_the_least() {
    let ranks = of("  ptrace:\n    match:\n    - {action: Block}\n    - {target: /a}\n");
    assert!(ranks[0] < ranks[1]);
}
