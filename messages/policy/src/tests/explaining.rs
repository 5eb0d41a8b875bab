//! Explanations: why a policy is for a workload, and which rule decides an act.

use palisade_domain::{Action, DeviceClass, Posture, UsbDevice, Workload};
use proptest::prelude::*;

use super::{host, label_map, policies, workload};
use crate::{
    PolicySet,
    explain::{Part, Question, Says, Selection, explain, selection},
    ir::{Postures, WorkloadRules},
    policy_test::Act,
};

const SHOP: &str = "apiVersion: palisade.dev/v1alpha1\nkind: PalisadePolicy\nmetadata: {name: p, namespace: shop}\nspec:\n  selector: {}\n";

const HOST: &str = "apiVersion: security.kubearmor.com/v1\nkind: KubeArmorHostPolicy\nmetadata: {name: p}\nspec:\n  nodeSelector: \
                    {matchLabels: {kubernetes.io/hostname: \"*\"}}\n";

#[test]
fn unit_explanation_ranks_devices_as_kubearmor_does() {
    let spec = "  device: {matchDevice: [{class: ALL, action: Block}, {class: MASS-STORAGE, subClass: 6, protocol: 80, level: 2, action: Allow}, \
                {class: \"8\", subClass: 6, protocol: 80, level: 2, action: Block}, {class: \"0x8\", subClass: 6, level: 2, action: Audit}]}\n";
    let text = format!("{HOST}{spec}");
    let (set, found) = PolicySet::parse_good([("p.yaml", text.as_bytes())]);
    assert!(found.is_empty(), "{found:?}");
    let rules = set.rules_for(&host("n", &[]), &label_map(&[]), Postures::default());
    let table = [
        ("device: {class: \"8\", subClass: 6, protocol: 80, level: 2}", Action::Block, "device.matchDevice[2]"),
        ("device: {class: MASS-STORAGE, subClass: 6, protocol: 98, level: 2}", Action::Audit, "device.matchDevice[3]"),
        ("device: {class: HID, subClass: 1, protocol: 1}", Action::Block, "device.matchDevice[0]"),
    ];
    for (act, action, place) in table {
        let explanation = explain(&rules, &Act::parse("act", act).unwrap());
        let decision = &explanation.questions[0].decision;
        assert_eq!((decision.action, decision.by[0].place.as_str()), (action, place), "{act}");
    }
    assert!(Act::parse("act", "device: {class: ALL}").is_err(), "a device is of one class");
}

proptest! {
    /// What authorizes devices decides as the explanation says: of a device that is one thing, for any rules.
    #[test]
    fn unit_devices_are_decided_as_they_are_explained(
        items in proptest::collection::vec((0..4_usize, 0..3_u8, 0..3_u8, 0..3_u32, 0..3_usize), 0..8),
        (class, sub_class, protocol, level) in (0..3_usize, 0..3_u8, 0..3_u8, 1..3_u32),
        blocks in any::<bool>(),
    ) {
        const CLASSES: [&str; 4] = ["HID", "MASS-STORAGE", "HUB", "ALL"];
        let number = |name: &str, number: u32| if number == 0 { String::new() } else { format!(", {name}: {number}") };
        let item = |(class, sub_class, protocol, level, action): &(usize, u8, u8, u32, usize)| {
            let numbers = number("subClass", u32::from(*sub_class)) + &number("protocol", u32::from(*protocol));
            let (class, action) = (CLASSES[*class], ["Allow", "Audit", "Block"][*action]);
            format!("{{class: {class}{numbers}{}, action: {action}}}", number("level", *level))
        };
        let items: Vec<String> = items.iter().map(item).collect();
        let text = format!("{HOST}  device: {{matchDevice: [{}]}}\n  process: {{matchPaths: [{{path: /a}}]}}\n", items.join(", "));
        let (set, _) = PolicySet::parse_good([("p.yaml", text.as_bytes())]);
        let postures = Postures { device: if blocks { Posture::Block } else { Posture::Audit }, ..Postures::default() };
        let rules = set.rules_for(&host("n", &[]), &label_map(&[]), postures);
        let act = format!("device: {{class: {}, subClass: {sub_class}, protocol: {protocol}, level: {level}}}", CLASSES[class]);
        let explained = &explain(&rules, &Act::parse("act", &act).unwrap()).questions[0].decision;
        let class = DeviceClass { class: [3, 8, 9][class], sub_class, protocol };
        let name = if level == 1 { "1-1" } else { "1-1.2" }.to_owned();
        let devices = rules.devices(palisade_domain::Generation(1));
        let decided = devices.decide(&UsbDevice { name, number: 2, vendor: 0, product: 0, classes: vec![class] });
        let place = |index: usize| devices.rules[index].rule.place.clone();
        prop_assert_eq!((decided.action, decided.by_posture), (explained.action, explained.by_posture), "{}", text);
        prop_assert_eq!(decided.rule.map(place), explained.by.first().map(|rule| rule.place.clone()), "{}", text);
    }
}

fn rules(spec: &str, postures: Postures) -> std::sync::Arc<WorkloadRules> {
    let text = format!("{SHOP}  {spec}\n");
    let set = PolicySet::parse([("p.yaml", text.as_bytes())]).unwrap();
    set.rules_for(&workload("shop", "c", &[]), &label_map(&[]), postures)
}

fn asked(spec: &str, postures: Postures, act: &str) -> Question {
    let explanation = explain(&rules(spec, postures), &Act::parse("act", act).unwrap());
    explanation.questions[explanation.answer].clone()
}

fn parts(question: &Question) -> Vec<(&str, Part)> {
    question.rules.iter().map(|considered| (considered.rule.place.as_str(), considered.part)).collect()
}

#[test]
fn unit_explanation_says_of_each_rule_why_it_decides_or_does_not() {
    let spec = "process: {matchPaths: [{path: /bin/b, action: Audit}, {path: /bin/a, action: Audit}, {path: /bin/a, fromSource: [{path: \
                /bin/sh}], action: Allow}, {path: /bin/a, fromSource: [{path: /bin/zsh}]}], matchDirectories: [{dir: /bin/}]}";
    let question = asked(spec, Postures::default(), "exec: {path: /bin/a, source: /bin/sh}");
    assert_eq!(
        parts(&question),
        [
            ("process.matchPaths[2]", Part::Decides(Says::Permit)),
            ("process.matchPaths[1]", Part::LessSpecific),
            ("process.matchDirectories[0]", Part::LessSpecific),
            ("process.matchPaths[3]", Part::OtherSource),
            ("process.matchPaths[0]", Part::OtherObject),
        ]
    );
    assert_eq!((question.decision.action, question.decision.by_posture), (Action::Allow, false));
    assert_eq!(question.decision.by[0].place, "process.matchPaths[2]");
    let other = asked(spec, Postures::default(), "exec: {path: /usr/x, source: /bin/sh}");
    assert_eq!((other.decision.action, other.decision.by_posture, other.is_allow_list), (Action::Audit, true, true));
}

#[test]
fn unit_explanation_weighs_terminals_arguments_owners_and_modes() {
    let block = Postures { file: Posture::Block, ..Postures::default() };
    let table = [
        ("process: {matchPaths: [{path: /a, pts: false}]}", "exec: {path: /a, tty: true}", Action::Block),
        ("process: {matchPaths: [{path: /a, pts: false}]}", "exec: {path: /a}", Action::Allow),
        ("process: {matchPaths: [{path: /a, pts: true}]}", "exec: {path: /a}", Action::Block),
        (
            "process: {matchPaths: [{path: /a, pts: false, action: Allow}]}",
            "exec: {path: /a, tty: true}",
            Action::Block,
        ),
        (
            "process: {matchPaths: [{path: /a, allowedArgs: [-l]}]}",
            "exec: {path: /a, args: [a, -l, -l]}",
            Action::Allow,
        ),
        (
            "process: {matchPaths: [{path: /a, allowedArgs: [-l]}]}",
            "exec: {path: /a, args: [a, -l, -x]}",
            Action::Block,
        ),
        ("process: {matchPaths: [{path: /a, allowedArgs: [-l]}]}", "exec: {path: /a, args: [anything]}", Action::Block),
        ("process: {matchPaths: [{path: /a, allowedArgs: [-l]}]}", "exec: {path: /a, args: [-l]}", Action::Block),
        (
            "process: {matchPaths: [{path: /a, allowedArgs: [-l], pts: false}]}",
            "exec: {path: /a, tty: true}",
            Action::Block,
        ),
        (
            "file: {matchPaths: [{path: /a, readOnly: true, ownerOnly: true}]}",
            "open: {path: /a, uid: 1, owner: 2}",
            Action::Block,
        ),
        ("file: {matchPaths: [{path: /a, readOnly: true, ownerOnly: true}]}", "open: {path: /a}", Action::Allow),
        (
            "network: {matchProtocols: [{protocol: tcp, pts: false}]}",
            "socket: {protocol: tcp, tty: true}",
            Action::Block,
        ),
        (
            "network: {matchProtocols: [{protocol: tcp, pts: false}]}",
            "connect: {address: 10.0.0.1, port: 1, tty: true}",
            Action::Block,
        ),
        (
            "network: {matchProtocols: [{protocol: tcp, pts: false}]}",
            "connect: {address: 10.0.0.1, port: 1}",
            Action::Allow,
        ),
        ("presets: [{name: exec}]", "preset: {name: exec}", Action::Block),
        ("presets: [{name: exec}, {name: protectEnv, action: Audit}]", "preset: {name: protectEnv}", Action::Audit),
        ("presets: [{name: exec}]", "preset: {name: protectProc}", Action::Allow),
        ("capabilities: {matchCapabilities: [{capability: bpf}]}", "capability: {name: CAP_BPF}", Action::Block),
        ("capabilities: {matchCapabilities: [{capability: bpf}]}", "capability: {name: kill}", Action::Allow),
        ("network: {matchDNSQueries: [{domain: b.c}]}", "dns: {name: a.b.c}", Action::Block),
        ("network: {matchDNSQueries: [{domain: b.c}]}", "dns: {name: ab.c}", Action::Allow),
        ("network: {matchDNSQueries: [{domain: b.c}]}", "dns: {name: a.b.c.shop.svc.cluster.local}", Action::Block),
        (
            "network: {matchDNSQueries: [{domain: c}, {domain: b.c, action: Audit}]}",
            "dns: {name: a.b.c}",
            Action::Audit,
        ),
        ("syscalls: {matchSyscalls: [{syscall: [ptrace]}]}", "syscall: {name: ptrace}", Action::Audit),
        (
            "syscalls: {matchPaths: [{path: /a/, syscall: [unlink]}]}",
            "syscall: {name: unlink, path: /a/b}",
            Action::Audit,
        ),
        (
            "syscalls: {matchPaths: [{path: /a/, syscall: [unlink]}]}",
            "syscall: {name: unlink, path: /b}",
            Action::Allow,
        ),
    ];
    for (spec, act, expected) in table {
        assert_eq!(asked(spec, block, act).decision.action, expected, "{spec}\n{act}");
    }
}

#[test]
fn unit_explanation_of_a_connection_answers_by_its_socket_where_that_is_blocked() {
    let spec = "network: {matchProtocols: [{protocol: udp}], destinations: [{cidr: 10.0.0.0/8, action: Audit}]}";
    let of = |act: &str| {
        let explanation = explain(&rules(spec, Postures::default()), &Act::parse("act", act).unwrap());
        (explanation.answer, explanation.questions[explanation.answer].decision.action)
    };
    assert_eq!(of("connect: {address: 10.1.1.1, port: 1, protocol: udp}"), (0, Action::Block));
    assert_eq!(of("connect: {address: 10.1.1.1, port: 1}"), (1, Action::Audit));
    assert_eq!(of("connect: {address: 11.1.1.1, port: 1}"), (1, Action::Allow));
}

fn texts() -> Vec<String> {
    let kubearmor = "security.kubearmor.com/v1";
    let policy = |kind: &str, version: &str, meta: &str, selector: &str| {
        format!(
            "apiVersion: {version}\nkind: {kind}\nmetadata: {{{meta}}}\nspec: {{{selector}, process: {{matchPaths: [{{path: /a}}]}}}}\n"
        )
    };
    let mut all = Vec::new();
    for selector in [
        "selector: {}",
        "selector: {matchLabels: {app: a}}",
        "selector: {matchLabels: {app: a, kubearmor.io/container.name: \"[c, d]\"}}",
        "selector: {matchExpressions: [{key: label, operator: In, values: [app=a, app=b]}, {key: label, operator: NotIn, values: [tier=a]}]}",
    ] {
        all.push(policy("KubeArmorPolicy", kubearmor, "name: p, namespace: shop", selector));
    }
    for expressions in [
        "",
        "{key: namespace, operator: In, values: [shop]}",
        "{key: namespace, operator: NotIn, values: [shop]}, {key: label, operator: NotIn, values: [app=b]}",
    ] {
        all.push(policy(
            "KubeArmorClusterPolicy",
            kubearmor,
            "name: c",
            &format!("selector: {{matchExpressions: [{expressions}]}}"),
        ));
    }
    for labels in [
        "kubernetes.io/hostname: \"*\"",
        "kubernetes.io/hostname: \"a,b\", tier: a",
        "kubearmor.io/hostnamereg: \"a*\"",
    ] {
        all.push(policy(
            "KubeArmorHostPolicy",
            kubearmor,
            "name: h",
            &format!("nodeSelector: {{matchLabels: {{{labels}}}}}"),
        ));
    }
    all
}

fn subjects() -> Vec<Workload> {
    let labels: [&[(&str, &str)]; 5] =
        [&[], &[("app", "a")], &[("app", "b")], &[("app", "a"), ("tier", "a")], &[("tier", "b")]];
    let containers = labels.iter().flat_map(|labels| {
        ["shop", "bank", "kube-system"]
            .into_iter()
            .flat_map(|namespace| ["c", "e"].map(|name| workload(namespace, name, labels)))
    });
    let hosts = labels.iter().flat_map(|labels| ["a", "node"].map(|name| host(name, labels)));
    containers.chain(hosts).collect()
}

#[test]
fn unit_explanation_selects_exactly_what_the_set_selects() {
    for text in texts() {
        let policy = &policies(&text)[0];
        for subject in subjects() {
            let selected = matches!(selection(policy, &subject), Selection::Selected(_));
            assert_eq!(selected, policy.selects(&subject), "{text}\n{subject:?}");
        }
    }
}

proptest! {
    #[test]
    fn unit_selectors_take_labels_of_any_text(
        labels in proptest::collection::btree_map(any::<String>(), any::<String>(), 0..20),
        namespace in any::<String>(),
    ) {
        let subject = Workload { labels: labels.clone(), ..workload(&namespace, "c", &[]) };
        for text in texts() {
            let policy = &policies(&text)[0];
            let selected = matches!(selection(policy, &subject), Selection::Selected(_));
            prop_assert_eq!(selected, policy.selects(&subject));
        }
        // A label is found again by a policy that writes it, whatever its characters, if a YAML file can hold them.
        let Some((key, value)) = labels.iter().find(|(key, _)| !key.contains("kubearmor.io/")) else { return Ok(()) };
        let (key, value) = (serde_json::to_string(key).unwrap(), serde_json::to_string(value).unwrap());
        let text = format!(
            "apiVersion: security.kubearmor.com/v1\nkind: KubeArmorPolicy\nmetadata: {{name: p}}\nspec: {{\"selector\": {{\"matchLabels\": \
             {{{key}: {value}}}}}, process: {{matchPaths: [{{path: /a}}]}}}}\n"
        );
        let file = crate::PolicyFile::parse("f.yaml", text.as_bytes());
        let subject = Workload { namespace: "default".into(), ..subject };
        if file.is_sound() {
            prop_assert!(file.policies[0].selects(&subject), "{}", text);
        }
    }
}
