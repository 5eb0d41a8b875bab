//! Selectors: which workloads a policy is for.

use super::{host, policies, workload};
use crate::{NodeSelector, Policy};

fn policy(selector: &str) -> Policy {
    let text = format!(
        "apiVersion: security.kubearmor.com/v1\nkind: KubeArmorPolicy\nmetadata: {{name: p, namespace: shop}}\n\
         spec:\n  selector: {selector}\n  process: {{matchPaths: [{{path: /a}}]}}\n"
    );
    Policy::clone(&policies(&text)[0])
}

fn host_policy(labels: &str) -> Policy {
    let text = format!(
        "apiVersion: security.kubearmor.com/v1\nkind: KubeArmorHostPolicy\nmetadata: {{name: p}}\n\
         spec:\n  nodeSelector: {{matchLabels: {labels}}}\n  process: {{matchPaths: [{{path: /a}}]}}\n"
    );
    Policy::clone(&policies(&text)[0])
}

#[test]
fn unit_selector_wants_every_label_in_its_own_namespace() {
    let policy = policy("{matchLabels: {app: web, tier: front}}");
    let labels = [("app", "web"), ("tier", "front"), ("more", "x")];
    assert!(policy.selects(&workload("shop", "c", &labels)));
    assert!(!policy.selects(&workload("other", "c", &labels)));
    assert!(!policy.selects(&workload("shop", "c", &[("app", "web")])));
    assert!(!policy.selects(&workload("shop", "c", &[("app", "web"), ("tier", "back")])));
    assert!(!policy.selects(&host("node", &labels)));
}

#[test]
fn unit_selector_without_labels_is_for_the_whole_namespace() {
    for selector in ["{}", "{matchLabels: {}}", "{matchExpressions: []}"] {
        let policy = policy(selector);
        assert!(policy.selects(&workload("shop", "c", &[])), "{selector}");
        assert!(!policy.selects(&workload("default", "c", &[])), "{selector}");
    }
}

#[test]
fn unit_selector_names_containers_in_brackets() {
    let table = [
        ("[c1, c2]", "c1", true),
        ("[c1, c2]", "c2", true),
        ("[c1, c2]", "c3", false),
        ("[c1,,]", "c1", true),
        ("[c1,,]", "", false),
        ("[ c1 ]", "c1", true),
        ("[]", "any", true),
        ("", "any", true),
    ];
    for (list, container, expected) in table {
        let policy = policy(&format!("{{matchLabels: {{kubearmor.io/container.name: \"{list}\"}}}}"));
        assert_eq!(policy.selects(&workload("shop", container, &[])), expected, "{list:?} {container:?}");
    }
}

#[test]
fn unit_selector_takes_one_container_without_brackets_as_kubearmor_outside_kubernetes_does_and_warns() {
    let read = |name: &str| {
        let text = format!(
            "apiVersion: security.kubearmor.com/v1\nkind: KubeArmorPolicy\nmetadata: {{name: p, namespace: shop}}\nspec:\n  \
             selector: {{matchLabels: {{kubearmor.io/container.name: \"{name}\"}}}}\n  process: {{matchPaths: [{{path: /a}}]}}\n"
        );
        crate::PolicyFile::parse("f.yaml", text.as_bytes())
    };
    let file = read("ubuntu");
    let [warning] = file.diagnostics.as_slice() else { panic!("{:?}", file.diagnostics) };
    assert!(warning.severity == crate::Severity::Warning && warning.instead == "write `\"[ubuntu]\"`", "{warning}");
    for (container, selected) in [("ubuntu", true), ("ubuntu-1", false), ("bunt", false)] {
        assert_eq!(file.policies[0].selects(&workload("shop", container, &[])), selected, "{container}");
    }
    for all in [".*", "*"] {
        let file = read(all);
        assert!(file.diagnostics.is_empty() && file.policies[0].selects(&workload("shop", "any", &[])), "{all}");
    }
    for odd in ["web.*", "^web$", "[web-.*]", "web,log", "[we b]"] {
        assert!(!read(odd).is_sound(), "{odd}");
    }
}

#[test]
fn unit_selector_expressions_all_hold_whatever_their_order() {
    let within = "{key: label, operator: In, values: [\"env=prod\", \"env=stage\"]}";
    let without = "{key: label, operator: NotIn, values: [\"tier=canary\", \"app=db\"]}";
    let also = "{key: label, operator: In, values: [app=web]}";
    let cases: [(&[(&str, &str)], bool); 6] = [
        (&[("env", "prod"), ("app", "web")], true),
        (&[("env", "stage"), ("app", "web")], true),
        (&[("env", "prod"), ("app", "web"), ("tier", "canary")], false),
        (&[("env", "prod")], false),
        (&[("app", "web")], false),
        (&[("env", "prod"), ("app", "db")], false),
    ];
    for order in [[within, without, also], [without, within, also], [also, without, within], [within, also, without]] {
        let policy = policy(&format!("{{matchExpressions: [{}]}}", order.join(", ")));
        for (labels, expected) in cases {
            assert_eq!(policy.selects(&workload("shop", "c", labels)), expected, "{order:?} {labels:?}");
        }
    }
}

#[test]
fn unit_selector_holds_labels_and_expressions_together() {
    let policy =
        policy("{matchLabels: {app: web}, matchExpressions: [{key: label, operator: NotIn, values: [tier=canary]}]}");
    assert!(policy.selects(&workload("shop", "c", &[("app", "web")])));
    assert!(!policy.selects(&workload("shop", "c", &[("app", "web"), ("tier", "canary")])));
    assert!(!policy.selects(&workload("shop", "c", &[])));
}

#[test]
fn unit_node_selector_compares_host_names_exactly_by_list_or_pattern() {
    let table = [
        ("{kubernetes.io/hostname: n1}", "n1", true),
        ("{kubernetes.io/hostname: n1}", "n10", false),
        ("{kubernetes.io/hostname: \"*\"}", "anything", true),
        ("{kubearmor.io/hostname: \"n1, n2\"}", "n2", true),
        ("{kubearmor.io/hostname: \"n1,n2\"}", "n3", false),
        ("{kubernetes.io/hostnamereg: \"n*\"}", "n10", true),
        ("{kubernetes.io/hostnamereg: \"n*\"}", "an1", false),
        ("{kubernetes.io/hostnamereg: \"*-db-*.eu\"}", "a-db-7.eu", true),
        ("{kubernetes.io/hostnamereg: \"*-db-*.eu\"}", "a-db-7.us", false),
        ("{kubernetes.io/hostnamereg: \"a*a\"}", "a", false),
        ("{kubernetes.io/hostnamereg: \"a*a\"}", "aa", true),
        ("{kubearmor.io/hostnamereg: \"x, n*1\"}", "x", true),
        ("{kubernetes.io/hostname: \"*\", kubernetes.io/hostnamereg: \"n*\"}", "m1", false),
    ];
    for (labels, name, expected) in table {
        assert_eq!(host_policy(labels).selects(&host(name, &[])), expected, "{labels} {name}");
    }
}

#[test]
fn unit_node_selector_prefers_the_hostname_label_to_the_workloads_name() {
    let policy = host_policy("{kubernetes.io/hostname: n1, zone: a}");
    assert!(policy.selects(&host("node", &[("kubernetes.io/hostname", "n1"), ("zone", "a")])));
    assert!(!policy.selects(&host("n1", &[("kubernetes.io/hostname", "n2"), ("zone", "a")])));
    assert!(!policy.selects(&host("n1", &[("zone", "b")])));
    assert!(!policy.selects(&workload("", "c", &[("kubernetes.io/hostname", "n1"), ("zone", "a")])));
}

#[test]
fn unit_node_selector_pattern_ends_on_long_repetitions() {
    // A backtracking matcher would need 2^30 steps here.
    let selector = NodeSelector { labels: [].into(), names: vec![vec!["*a".repeat(30) + "b"]] };
    assert!(!selector.selects(&host(&"a".repeat(200), &[])));
}
