//! Cluster policies, network policies and namespaces: whom they are for, and what they lower to.

use std::net::IpAddr;

use palisade_domain::{Action, Posture, Workload};
use proptest::prelude::*;

use super::{host, label_map, workload};
use crate::{
    PolicyFile, PolicySet, Severity, UNTRACKED_NAMESPACES,
    ir::{DestinationMatch, Matcher, Postures, Transport},
};

fn cluster(expressions: &str) -> String {
    format!(
        "apiVersion: security.kubearmor.com/v1\nkind: KubeArmorClusterPolicy\nmetadata: {{name: c}}\nspec:\n  selector: \
         {{matchExpressions: [{expressions}]}}\n  process: {{matchPaths: [{{path: /a}}]}}\n"
    )
}

fn selects(text: &str, workload: &Workload) -> bool {
    let set = PolicySet::parse([("f.yaml", text.as_bytes())]).unwrap();
    set.policies_for(workload).count() == 1
}

#[test]
fn unit_cluster_policy_selects_namespaces_by_name_and_labels_in_them() {
    let of = |namespace: &str, labels: &[(&str, &str)]| workload(namespace, "c", labels);
    let only = cluster("{key: namespace, operator: In, values: [shop, bank, kube-system]}");
    assert!(selects(&only, &of("shop", &[])) && selects(&only, &of("bank", &[])) && !selects(&only, &of("mail", &[])));
    assert!(selects(&only, &of("kube-system", &[])), "it is named");
    let but = cluster("{key: namespace, operator: NotIn, values: [shop]}");
    assert!(!selects(&but, &of("shop", &[])) && selects(&but, &of("later", &[])));
    let all = cluster("");
    assert!(selects(&all, &of("shop", &[])) && !selects(&all, &host("node", &[])));
    for namespace in UNTRACKED_NAMESPACES {
        assert!(!selects(&all, &of(namespace, &[])) && !selects(&but, &of(namespace, &[])), "{namespace}");
    }
    let both = cluster(
        "{key: namespace, operator: In, values: [shop, bank]}, {key: namespace, operator: NotIn, values: [bank]}, \
         {key: label, operator: In, values: [app=web]}",
    );
    assert!(selects(&both, &of("shop", &[("app", "web")])));
    assert!(!selects(&both, &of("bank", &[("app", "web")])) && !selects(&both, &of("shop", &[("app", "db")])));
}

#[test]
fn unit_policy_set_keeps_cluster_policies_in_the_order_of_the_set() {
    let policy = |kind: &str, version: &str, meta: &str, path: &str| {
        format!(
            "---\napiVersion: {version}\nkind: {kind}\nmetadata: {{{meta}}}\nspec: {{selector: {{}}, process: {{matchPaths: [{{path: {path}}}]}}}}\n"
        )
    };
    let kubearmor = "security.kubearmor.com/v1";
    let text = policy("PalisadePolicy", "palisade.dev/v1alpha1", "name: z, namespace: shop", "/3")
        + &policy("KubeArmorClusterPolicy", kubearmor, "name: b", "/2")
        + &policy("KubeArmorPolicy", kubearmor, "name: a, namespace: shop", "/1");
    let set = PolicySet::parse([("f.yaml", text.as_bytes())]).unwrap();
    let web = workload("shop", "c", &[]);
    let of_workload: Vec<String> = set.policies_for(&web).map(|policy| policy.reference.to_string()).collect();
    let of_set: Vec<String> = set.iter().map(|policy| policy.reference.to_string()).collect();
    assert_eq!(of_workload, of_set);
    assert_eq!(of_workload.len(), 3);
}

proptest! {
    #[test]
    fn unit_selector_means_the_same_in_whatever_order_its_expressions_stand(
        expressions in proptest::collection::vec(
            (0..2usize, any::<bool>(), proptest::collection::vec(0..3usize, 1..3)), 0..5),
        (namespace, app, tier) in (0..3usize, 0..3usize, 0..3usize),
        (turn, backwards) in (0..5usize, any::<bool>()),
    ) {
        let (names, labels) = (["shop", "bank", "mail"], ["app=a", "app=b", "tier=a"]);
        let text = |expression: &(usize, bool, Vec<usize>)| {
            let (key, is_in, values) = expression;
            let values: Vec<&str> = values.iter().map(|value| if *key == 0 { names[*value] } else { labels[*value] }).collect();
            let (key, operator) = (["namespace", "label"][*key], if *is_in { "In" } else { "NotIn" });
            format!("{{key: {key}, operator: {operator}, values: [{}]}}", values.join(", "))
        };
        let mut texts: Vec<String> = expressions.iter().map(text).collect();
        let subject = workload(names[namespace], "c", &[("app", ["a", "b", "c"][app]), ("tier", ["a", "b", "c"][tier])]);
        let first = selects(&cluster(&texts.join(", ")), &subject);
        let by = turn % texts.len().max(1);
        texts.rotate_left(by);
        if backwards { texts.reverse(); }
        prop_assert_eq!(selects(&cluster(&texts.join(", ")), &subject), first);
        // The meaning itself, written once more: every expression must hold.
        let holds = expressions.iter().all(|(key, is_in, values)| {
            let found = values.iter().any(|value| match key {
                0 => namespace == *value,
                _ => [app == 0, app == 1, tier == 0][*value],
            });
            found == *is_in
        });
        prop_assert_eq!(first, holds);
    }
}

fn network(spec: &str) -> PolicyFile {
    let text = format!(
        "apiVersion: security.kubearmor.com/v1\nkind: KubeArmorNetworkPolicy\nmetadata: {{name: n}}\nspec:\n  {spec}\n"
    );
    let file = PolicyFile::parse("f.yaml", text.as_bytes());
    assert!(file.is_sound(), "{:?}", file.diagnostics);
    file
}

const ALL_HOSTS: &str = "nodeSelector: {matchLabels: {kubernetes.io/hostname: \"*\"}}";

fn destinations(file: &PolicyFile) -> Vec<DestinationMatch> {
    let of = |rule: &std::sync::Arc<crate::ir::Rule>| match &rule.matcher {
        Matcher::Destination(destination) => destination.clone(),
        other => panic!("{other:?}"),
    };
    file.policies[0].rules.iter().map(of).collect()
}

#[test]
fn unit_network_policy_lowers_egress_to_destinations() {
    let file = network(&format!(
        "{ALL_HOSTS}\n  egress: [{{to: [{{ipBlock: {{cidr: 10.0.0.0/8}}}}], ports: [{{port: https}}, {{port: \"53\", endPort: 60, \
         protocol: udp}}], action: Audit}}]"
    ));
    let ten = Some(("10.0.0.0".parse::<IpAddr>().unwrap(), 8));
    let https = DestinationMatch { cidr: ten, ports: Some((443, 443)), protocol: Some(Transport::Tcp) };
    let range = DestinationMatch { cidr: ten, ports: Some((53, 60)), protocol: Some(Transport::Udp) };
    assert_eq!(destinations(&file), [https, range]);
    assert_eq!(file.policies[0].rules[0].action, Action::Audit);
    let set = PolicySet::assemble([&file]).0;
    assert_eq!(set.policies_for(&host("node", &[])).count(), 1);
    assert_eq!(set.policies_for(&workload("default", "c", &[])).count(), 0);
    assert!(file.diagnostics.is_empty());
}

#[test]
fn unit_network_policy_never_judges_loopback() {
    let of = |to: &str, action: &str| {
        destinations(&network(&format!("{ALL_HOSTS}\n  egress: [{{to: [{to}], action: {action}}}]")))
    };
    let matches = |destinations: &[DestinationMatch], address: &str| {
        let address: IpAddr = address.parse().unwrap();
        destinations.iter().any(|destination| match (destination.cidr.unwrap(), address) {
            ((IpAddr::V4(network), bits), IpAddr::V4(v4)) => {
                (network.to_bits() ^ v4.to_bits()).checked_shr(32 - u32::from(bits)).unwrap_or(0) == 0
            }
            ((IpAddr::V6(network), bits), IpAddr::V6(v6)) => {
                (network.to_bits() ^ v6.to_bits()).checked_shr(128 - u32::from(bits)).unwrap_or(0) == 0
            }
            _ => false,
        })
    };
    let block = of("", "Block");
    for loopback in ["127.0.0.1", "127.255.255.255", "::1"] {
        assert!(!matches(&block, loopback), "{loopback}");
    }
    for other in ["126.255.255.255", "128.0.0.0", "0.0.0.0", "255.255.255.255", "::", "::2", "fd00::1", "ffff::"] {
        assert!(matches(&block, other), "{other}");
    }
    assert_eq!(block.len(), 8 + 128);
    assert_eq!(of("{ipBlock: {cidr: 127.0.0.1/32}}", "Block"), []);
    let v4 = of("{ipBlock: {cidr: 0.0.0.0/0}}", "Block");
    assert!(v4.iter().all(|destination| destination.cidr.unwrap().0.is_ipv4()), "IPv4 is not IPv6");
    let allow = of("{ipBlock: {cidr: 10.0.0.0/8}}", "Allow");
    assert!(
        matches(&allow, "127.0.0.1")
            && matches(&allow, "::1")
            && matches(&allow, "10.1.1.1")
            && !matches(&allow, "11.0.0.1")
    );
}

#[test]
fn unit_network_policy_says_what_of_it_nothing_holds() {
    let file = network(
        "selector: {matchLabels: {app: web}}\n  level: Policy\n  ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8}}]}]\n  egress: \
         [{iface: [eth0]}, {limit: 500MB, duration: 1h30m}, {ports: [{port: \"80\"}]}]",
    );
    let policy = &file.policies[0];
    let unheld: Vec<(&str, &str)> =
        policy.unheld.iter().map(|unheld| (unheld.place.as_str(), unheld.what.as_str())).collect();
    assert_eq!(unheld, [("ingress[0]", "ingress"), ("egress[0]", "iface"), ("egress[1]", "limit")]);
    assert!(file.diagnostics.iter().all(|found| found.severity == Severity::Unenforceable));
    assert!(policy.rules.iter().all(|rule| rule.place == "egress[2]"), "the rest holds");
    assert_eq!(policy.reference.namespace, "default", "one for workloads has a namespace");
    let set = PolicySet::assemble([&file]).0;
    let web = workload("default", "c", &[("app", "web")]);
    let rules = set.rules_for(&web, &label_map(&[]), Postures::default());
    assert_eq!(rules.unheld, policy.unheld, "they travel with the rules");
}

const SHOP: &str = "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: shop\n  labels: {kubernetes.io/metadata.name: shop}\n  annotations: \
                    {kubearmor-file-posture: block, kubearmor-capabilities-posture: audit, unrelated: x}\nspec: {finalizers: [kubernetes]}\n\
                    status: {phase: Active}\n";

#[test]
fn unit_policy_set_takes_postures_from_a_namespaces_document_before_the_global_ones() {
    let set = PolicySet::parse([("ns.yaml", SHOP.as_bytes())]).unwrap();
    let global = Postures { capabilities: Posture::Block, network: Posture::Block, ..Postures::default() };
    let expected =
        Postures { file: Posture::Block, network: Posture::Block, capabilities: Posture::Audit, ..Postures::default() };
    assert_eq!(set.postures_of("shop", global), expected);
    assert_eq!(set.postures_of("elsewhere", global), global);
    let postures =
        |of: &Workload, annotations: &[(&str, &str)]| set.rules_for(of, &label_map(annotations), global).postures;
    assert_eq!(postures(&workload("shop", "c", &[]), &[]), expected);
    assert_eq!(postures(&workload("shop", "c", &[]), &[("kubearmor-file-posture", "audit")]).file, Posture::Audit);
    assert_eq!(postures(&host("node", &[]), &[]), global, "a host is in no namespace");
    let names: Vec<&str> = set.namespaces().map(|namespace| namespace.name.as_str()).collect();
    assert_eq!((names, set.is_empty()), (vec!["shop"], true));
}

#[test]
fn unit_policy_set_takes_what_is_to_be_seen_from_a_namespaces_document() {
    let text = SHOP.replace("unrelated: x", "kubearmor-visibility: \"process, dns\"");
    let set = PolicySet::parse([("ns.yaml", text.as_bytes())]).unwrap();
    let seen = set.visibility_of(&workload("shop", "c", &[])).unwrap();
    assert_eq!(seen.to_string(), "process,dns");
    assert_eq!(set.visibility_of(&workload("elsewhere", "c", &[])), None, "the node says");
    assert_eq!(set.visibility_of(&host("shop", &[])), None);
    let silent = SHOP.replace("unrelated: x", "kubearmor-visibility: none");
    let set = PolicySet::parse([("ns.yaml", silent.as_bytes())]).unwrap();
    assert_eq!(set.visibility_of(&workload("shop", "c", &[])).unwrap().to_string(), "none");
    let wrong = SHOP.replace("unrelated: x", "kubearmor-visibility: \"process,files\"");
    let said = PolicySet::parse([("ns.yaml", wrong.as_bytes())]).unwrap_err();
    let expected = "ns.yaml:6:87: `kubearmor-visibility` is `process,files`, `files` is no class of visibility, write `file` for `files`";
    assert_eq!(said[0].to_string(), expected);
}

#[test]
fn unit_namespace_takes_kubearmors_class_of_hashes_and_says_that_nothing_holds_it() {
    let text = SHOP_OF_HASHES;
    let file = PolicyFile::parse("f.yaml", text.as_bytes());
    let [found] = file.diagnostics.as_slice() else { panic!("{:?}", file.diagnostics) };
    assert_eq!(
        (found.severity, found.what.as_str()),
        (crate::Severity::Unenforceable, "`ima` of `kubearmor-visibility`")
    );
    let namespace = &file.namespaces[0];
    assert_eq!(namespace.visibility.map(|seen| seen.to_string()).as_deref(), Some("process"));
    assert_eq!(namespace.file, Some(palisade_domain::Posture::Block), "the rest of the document holds");
}

const SHOP_OF_HASHES: &str = "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: shop\n  annotations: {kubearmor-visibility: \"process, \
                              ima\", kubearmor-file-posture: block}\n";

#[test]
fn unit_policy_set_reports_a_namespace_that_two_files_define_and_keeps_the_first() {
    let other = SHOP.replace("file-posture: block", "file-posture: audit");
    let (set, found) = PolicySet::parse_good([("b.yaml", other.as_bytes()), ("a.yaml", SHOP.as_bytes())]);
    assert_eq!(set.postures_of("shop", Postures::default()).file, Posture::Block);
    let said: Vec<String> = found.iter().map(ToString::to_string).collect();
    assert_eq!(
        said,
        [
            "b.yaml:1:1: `Namespace/shop` for the second time, a.yaml:1 has defined it, and that one stays, rename or remove one of the two"
        ]
    );
}
