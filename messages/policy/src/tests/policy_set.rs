//! Sets of policies: identity, order, selection.

use std::sync::Arc;

use palisade_domain::{PolicyKind, PolicyRef, Posture};

use super::{host, label_map, workload};
use crate::{
    PolicyFile, PolicySet, Severity,
    ir::Postures,
    postures::{self, InvalidPosture},
};

fn document(kind: &str, namespace: &str, name: &str, path: &str) -> String {
    let (version, selector) = match kind {
        "PalisadePolicy" => ("palisade.dev/v1alpha1", "selector: {matchLabels: {app: web}}"),
        "KubeArmorHostPolicy" => {
            ("security.kubearmor.com/v1", "nodeSelector: {matchLabels: {kubernetes.io/hostname: \"*\"}}")
        }
        _ => ("security.kubearmor.com/v1", "selector: {matchLabels: {app: web}}"),
    };
    let namespace = if namespace.is_empty() { String::new() } else { format!(", namespace: {namespace}") };
    format!(
        "---\napiVersion: {version}\nkind: {kind}\nmetadata: {{name: {name}{namespace}}}\nspec:\n  {selector}\n  \
         process: {{matchPaths: [{{path: {path}}}]}}\n"
    )
}

fn files() -> Vec<(&'static str, String)> {
    vec![
        ("b.yaml", document("KubeArmorPolicy", "shop", "b", "/b1") + &document("PalisadePolicy", "shop", "a", "/p")),
        ("a.yaml", document("KubeArmorPolicy", "shop", "c", "/c") + &document("KubeArmorPolicy", "", "d", "/d")),
        ("c.yaml", document("KubeArmorHostPolicy", "", "h", "/h") + &document("KubeArmorPolicy", "shop", "b", "/b2")),
    ]
}

fn parse(files: &[(&str, String)]) -> (PolicySet, Vec<String>) {
    let (set, diagnostics) = PolicySet::parse_good(files.iter().map(|(name, text)| (*name, text.as_bytes())));
    (set, diagnostics.iter().map(ToString::to_string).collect())
}

fn paths(set: &PolicySet, of: &palisade_domain::Workload) -> Vec<String> {
    use crate::ir::{Matcher, PathMatch};
    let rules = set.rules_for(of, &label_map(&[]), Postures::default());
    let path = |rule: &std::sync::Arc<crate::ir::Rule>| match &rule.matcher {
        Matcher::Process(rule) => match &rule.path {
            PathMatch::Exact(path) => path.clone(),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    };
    rules.rules.iter().map(path).collect()
}

#[test]
fn unit_policy_set_is_the_same_whatever_the_order_of_the_files() {
    let files = files();
    let (first, messages) = parse(&files);
    for order in [[0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let shuffled: Vec<(&str, String)> = order.iter().map(|index| files[*index].clone()).collect();
        assert_eq!(parse(&shuffled), (first.clone(), messages.clone()), "{order:?}");
    }
    assert_eq!(first.len(), 5);
}

#[test]
fn unit_policy_set_reports_a_policy_that_two_files_define_and_keeps_the_first() {
    let (set, messages) = parse(&files());
    assert_eq!(
        messages,
        ["c.yaml:9:1: `KubeArmorPolicy/shop/b` for the second time, b.yaml:2 has defined it, and that one stays, \
          rename or remove one of the two"]
    );
    assert_eq!(paths(&set, &workload("shop", "c", &[("app", "web")])), ["/b1", "/c", "/p"]);
    let refused = PolicySet::parse(files().iter().map(|(name, text)| (*name, text.as_bytes()))).unwrap_err();
    assert_eq!(refused[0].severity, Severity::Error);
}

#[test]
fn unit_policy_set_gives_each_workload_the_policies_of_its_namespace_and_hosts_theirs() {
    let (set, _) = parse(&files());
    assert_eq!(paths(&set, &workload("default", "c", &[("app", "web")])), ["/d"]);
    assert_eq!(paths(&set, &workload("elsewhere", "c", &[("app", "web")])), Vec::<String>::new());
    assert_eq!(paths(&set, &workload("shop", "c", &[("app", "db")])), Vec::<String>::new());
    assert_eq!(paths(&set, &host("node", &[])), ["/h"]);
    let reference = PolicyRef { kind: PolicyKind::KubeArmorHostPolicy, namespace: String::new(), name: "h".to_owned() };
    assert_eq!(set.get(&reference).unwrap().file.as_ref(), "c.yaml");
    assert_eq!(set.iter().count(), 5);
}

#[test]
fn unit_policy_set_keeps_good_files_when_one_is_replaced_by_an_older_parse() {
    let good = PolicyFile::parse("a.yaml", document("KubeArmorPolicy", "shop", "a", "/old").as_bytes());
    let broken = PolicyFile::parse("a.yaml", b"kind: [");
    let other = PolicyFile::parse("b.yaml", document("KubeArmorPolicy", "shop", "b", "/b").as_bytes());
    assert!(good.is_sound() && !broken.is_sound());
    let (set, duplicates) = PolicySet::assemble([&good, &other]);
    assert!(duplicates.is_empty());
    assert_eq!(paths(&set, &workload("shop", "c", &[("app", "web")])), ["/old", "/b"]);
}

#[test]
fn unit_policy_set_gives_workloads_with_the_same_policies_the_very_same_rules() {
    let (set, _) = parse(&files());
    let none = label_map(&[]);
    let of = |set: &PolicySet, labels, postures| set.rules_for(&workload("shop", "c", labels), &none, postures);
    let audit = Postures::default();
    let first = of(&set, &[("app", "web"), ("pod", "1")], audit);
    assert_eq!(first.rules.len(), 3);
    assert!(Arc::ptr_eq(&first, &of(&set, &[("app", "web"), ("pod", "2")], audit)));
    let block = Postures { file: Posture::Block, ..audit };
    let blocked = of(&set, &[("app", "web")], block);
    assert_eq!((&blocked.rules, blocked.postures), (&first.rules, block), "under other postures they are others");
    assert!(of(&set, &[("app", "db")], audit).rules.is_empty());
    let clone = set.clone();
    assert_eq!(clone, set, "what was given out is no part of its value");
    assert_eq!(of(&clone, &[("app", "web")], audit), first);
}

#[test]
fn unit_policy_set_keeps_no_rules_alive_that_nobody_holds() {
    let (set, _) = parse(&files());
    let web = workload("shop", "c", &[("app", "web")]);
    let rules = set.rules_for(&web, &label_map(&[]), Postures::default());
    let (gone, rule) = (Arc::downgrade(&rules), Arc::clone(&rules.rules[0]));
    let held = Arc::strong_count(&rule);
    drop(rules);
    assert!(gone.upgrade().is_none());
    assert_eq!(Arc::strong_count(&rule), held - 1);
    let again = set.rules_for(&web, &label_map(&[]), Postures::default());
    assert_eq!((again.rules.len(), again.rules[0] == rule), (3, true));
}

#[test]
fn unit_policy_set_of_nothing_is_empty() {
    let set = PolicySet::parse([]).unwrap();
    assert!(set.is_empty());
    assert_eq!(set, PolicySet::default());
    let blank = PolicySet::parse([("a", b"".as_slice()), ("b", b"---\n# nothing\n---\n".as_slice())]).unwrap();
    assert!(blank.is_empty());
}

#[test]
fn unit_postures_come_from_the_namespace_before_the_global_ones() {
    let global =
        Postures { file: Posture::Audit, network: Posture::Block, capabilities: Posture::Audit, ..Postures::default() };
    let annotations =
        label_map(&[("kubearmor-file-posture", "block"), ("kubearmor-network-posture", "allow"), ("unrelated", "x")]);
    let (resolved, invalid) = postures::resolve(&annotations, global);
    assert_eq!(
        resolved,
        Postures { file: Posture::Block, network: Posture::Block, capabilities: Posture::Audit, ..Postures::default() }
    );
    let wrong = InvalidPosture { annotation: "kubearmor-network-posture", value: "allow".to_owned() };
    assert_eq!(invalid, [wrong]);
    let (set, _) = parse(&files());
    let rules = set.rules_for(&workload("shop", "c", &[]), &annotations, global);
    assert_eq!(rules.postures, resolved);
}
