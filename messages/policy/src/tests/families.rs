//! Capabilities, system calls, DNS, presets, devices, terminals and arguments: what they lower to, and what is said to be unheld.

use palisade_domain::{Action, DeviceClass, Family, Generation, UsbDevice};

use super::{KUBEARMOR, PALISADE, policies, rules};
use crate::{
    PolicyFile, Severity,
    ir::{
        CapabilityMatch, DeviceMatch, Matcher, PathMatch, Preset, Rule, SourceDirectory, SyscallMatch, Unheld,
        WorkloadRules,
    },
};

const HOST: &str = "apiVersion: security.kubearmor.com/v1\nkind: KubeArmorHostPolicy\nmetadata: {name: p}\nspec:\n  \
                    nodeSelector: {matchLabels: {kubernetes.io/hostname: \"*\"}}\n";

type Rules = Vec<std::sync::Arc<Rule>>;

fn of(start: &str, spec: &str) -> Rules {
    rules(&format!("{start}  {spec}\n"))
}

/// Rules, what is unheld, and the severity of each diagnostic of a document that is accepted.
fn held_in_part(start: &str, spec: &str) -> (Rules, Vec<Unheld>, Vec<(Severity, String)>) {
    let file = PolicyFile::parse("f.yaml", format!("{start}  {spec}\n").as_bytes());
    assert!(file.is_sound(), "{:?}", file.diagnostics);
    let said = file.diagnostics.iter().map(|found| (found.severity, found.to_string())).collect();
    let policy = &file.policies[0];
    (policy.rules.clone(), policy.unheld.iter().map(|unheld| (**unheld).clone()).collect(), said)
}

#[test]
fn unit_policy_takes_every_capability_of_linux_with_and_without_its_prefix() {
    // The last number of the running kernel is the end of the table, or this table is older than the kernel.
    let last: usize = std::fs::read_to_string("/proc/sys/kernel/cap_last_cap").unwrap().trim().parse().unwrap();
    assert!(last <= 40, "a capability {last} is new in this kernel");
    for (number, name) in (0..).zip(palisade_domain::CAPABILITIES) {
        for written in [name.to_owned(), format!("cap_{name}"), format!("CAP_{}", name.to_uppercase())] {
            let rules = of(KUBEARMOR, &format!("capabilities: {{matchCapabilities: [{{capability: {written}}}]}}"));
            assert_eq!(rules[0].matcher, Matcher::Capability(CapabilityMatch { name: name.to_owned(), number }));
            assert_eq!((rules[0].matcher.family(), rules[0].action), (Family::Capabilities, Action::Block));
        }
    }
    assert_eq!(palisade_domain::CAPABILITIES[13], "net_raw");
    assert_eq!(palisade_domain::CAPABILITIES[40], "checkpoint_restore");
}

#[test]
fn unit_policy_expands_commas_between_capabilities_and_domains_as_kubearmor_does() {
    let spec = "capabilities: {matchCapabilities: [{capability: \"net_raw, SYS_ADMIN,net_raw\", fromSource: [{path: /bin/a}]}]}";
    let rules = of(KUBEARMOR, spec);
    let number = |rule: &std::sync::Arc<Rule>| match &rule.matcher {
        Matcher::Capability(capability) => (capability.number, rule.sources.len()),
        other => panic!("{other:?}"),
    };
    let numbers: Vec<_> = rules.iter().map(number).collect();
    assert_eq!(numbers, [(13, 1), (21, 1)]);
    let rules = of(HOST, "network: {matchDNSQueries: [{domain: \"a.com, b.com\"}]}");
    let domain = |rule: &std::sync::Arc<Rule>| match &rule.matcher {
        Matcher::Dns(dns) => dns.domain.clone(),
        other => panic!("{other:?}"),
    };
    let domains: Vec<_> = rules.iter().map(domain).collect();
    assert_eq!(domains, ["a.com", "b.com"]);
}

#[test]
fn unit_host_policy_takes_protocols_without_a_source_for_every_executable_and_warns() {
    let (rules, unheld, said) = held_in_part(HOST, "network: {matchProtocols: [{protocol: udp}]}");
    assert!(rules[0].sources.is_empty() && unheld.is_empty());
    let [(Severity::Warning, said)] = said.as_slice() else { panic!("{said:?}") };
    assert!(said.ends_with("write `fromSource: []` if that is meant"), "{said}");
    assert_eq!(of(HOST, "network: {matchProtocols: [{protocol: udp, fromSource: []}]}").len(), 1);
}

#[test]
fn unit_policy_lowers_system_calls_to_the_numbers_of_both_tables_and_only_audits() {
    let spec = "syscalls: {severity: 4, matchSyscalls: [{syscall: [ptrace, mount, umount, ptrace], fromSource: \
                [{path: /bin/a}, {dir: /usr/bin, recursive: true}]}], matchPaths: [{path: /etc/, recursive: true, \
                syscall: [unlinkat]}, {path: /etc/shadow, syscall: [open]}]}\n  action: Audit";
    let rules = of(KUBEARMOR, spec);
    let [first, second, third] = rules.as_slice() else { panic!("{rules:?}") };
    let names = ["ptrace", "mount", "umount"].map(str::to_owned).to_vec();
    // umount(2) is i386's; x86-64 has umount2 only.
    let (numbers, numbers32) = ([101, 165].into(), [26, 21, 22].into());
    assert_eq!(first.matcher, Matcher::Syscall(SyscallMatch { names, numbers, numbers32, path: None }));
    assert_eq!(first.sources, ["/bin/a".to_owned()].into());
    let directory = SourceDirectory { directory: "/usr/bin/".into(), recursive: true };
    assert_eq!(first.source_directories, [directory].into());
    assert_eq!(
        (first.action, first.severity, first.place.as_str()),
        (Action::Audit, Some(4), "syscalls.matchSyscalls[0]")
    );
    let path = |rule: &Rule| match &rule.matcher {
        Matcher::Syscall(call) => call.path.clone().unwrap(),
        other => panic!("{other:?}"),
    };
    assert_eq!(path(second), PathMatch::Directory { directory: "/etc/".into(), recursive: true });
    assert_eq!(path(third), PathMatch::Exact("/etc/shadow".into()));
    assert!(third.specificity() > second.specificity() && first.specificity().has_source);
}

#[test]
fn unit_policy_says_that_a_written_block_of_system_calls_is_an_audit() {
    let calls = "syscalls: {matchSyscalls: [{syscall: [ptrace]}]}";
    for (action, unheld) in [("Block", 1), ("Allow", 1), ("Audit", 0)] {
        let (rules, what, said) = held_in_part(KUBEARMOR, &format!("{calls}\n  action: {action}"));
        assert_eq!(rules[0].action, Action::Audit, "{action}");
        assert_eq!(what.len(), unheld, "{action}");
        assert_eq!(said.len(), unheld, "{action}");
    }
    // Nobody asked for more than what holds.
    assert_eq!(of(KUBEARMOR, calls)[0].action, Action::Audit);
    let (_, what, said) = held_in_part(KUBEARMOR, &format!("{calls}\n  action: Block"));
    assert_eq!((what[0].place.as_str(), what[0].what.as_str()), ("syscalls", "syscalls"));
    let (severity, text) = &said[0];
    assert_eq!(*severity, Severity::Unenforceable);
    assert_eq!(
        text,
        "f.yaml:6:13: unenforceable: `syscalls`, KubeArmor's syscalls family only audits: the calls are audited and go on, \
         write `action: Audit`, which is what holds"
    );
}

#[test]
fn unit_policy_takes_every_system_call_of_kubearmors_schema() {
    // Its enumeration, of which a script took the names.
    let names = String::from_utf8(super::fixture("kubearmor-syscalls.txt")).unwrap();
    let names: Vec<&str> = names.lines().filter(|line| !line.starts_with('#')).collect();
    assert!(names.len() > 300, "{}", names.len());
    let list = names.join(", ");
    let rules = of(KUBEARMOR, &format!("syscalls: {{matchSyscalls: [{{syscall: [{list}]}}]}}"));
    let Matcher::Syscall(call) = &rules[0].matcher else { panic!() };
    assert_eq!(call.numbers.len(), names.len(), "all are of x86-64");
    assert!(call.numbers.contains(&0) && call.numbers.contains(&59) && call.numbers32.contains(&11));
}

#[test]
fn unit_policy_lowers_a_domain_with_the_search_list_of_its_namespace() {
    let domains = |start: &str, spec: &str| -> Vec<String> {
        let domain = |rule: &std::sync::Arc<Rule>| match &rule.matcher {
            Matcher::Dns(dns) => dns.domain.clone(),
            other => panic!("{other:?}"),
        };
        of(start, spec).iter().map(domain).collect()
    };
    let spec = "network: {matchDNSQueries: [{domain: WWW.Example.com.}]}";
    let searched =
        ["cluster.local", "shop.svc.cluster.local", "svc.cluster.local"].map(|s| format!("www.example.com.{s}"));
    assert_eq!(domains(KUBEARMOR, spec), [&searched[..], &["www.example.com".to_owned()]].concat());
    assert_eq!(domains(PALISADE, spec), domains(KUBEARMOR, spec));
    assert_eq!(domains(HOST, spec), ["www.example.com"]);
    let longer = of(HOST, "network: {matchDNSQueries: [{domain: a.example.com}, {domain: example.com}]}");
    assert!(longer[0].specificity() > longer[1].specificity());
    assert_eq!(longer[0].matcher.family(), Family::Dns);
}

#[test]
fn unit_policy_lowers_presets_with_their_own_action_or_the_specs() {
    let names: Vec<String> = Preset::ALL.iter().map(|preset| format!("{{name: {}}}", preset.name())).collect();
    let rules =
        of(KUBEARMOR, &format!("presets: [{}, {{name: exec, action: Audit}}]\n  action: Block", names.join(", ")));
    let lowered: Vec<(Matcher, Action)> = rules.iter().map(|rule| (rule.matcher.clone(), rule.action)).collect();
    let mut expected: Vec<(Matcher, Action)> =
        Preset::ALL.iter().map(|preset| (Matcher::Preset(*preset), Action::Block)).collect();
    expected.push((Matcher::Preset(Preset::Exec), Action::Audit));
    assert_eq!(lowered, expected);
    assert_eq!(rules[0].place, "presets[0]");
    let (_, unheld, said) = held_in_part(KUBEARMOR, "presets: [{name: exec, action: Allow}]");
    assert!(unheld.is_empty());
    assert_eq!(said[0].0, Severity::Warning);
}

#[test]
fn unit_policy_lowers_devices_by_name_decimal_and_hexadecimal_and_gives_them_to_who_authorizes() {
    let spec = "device: {matchDevice: [{class: mass-storage, subClass: 6, protocol: 80, level: 2}, {class: \"8\", level: 2}, \
                {class: \"0x08\"}, {class: ALL}]}";
    let (rules, unheld, said) = held_in_part(HOST, spec);
    let device = |rule: &std::sync::Arc<Rule>| match rule.matcher {
        Matcher::Device(device) => device,
        ref other => panic!("{other:?}"),
    };
    let bare = DeviceMatch { class: Some(8), sub_class: None, protocol: None, level: None };
    let devices: Vec<DeviceMatch> = rules.iter().map(device).collect();
    let first = DeviceMatch { sub_class: Some(6), protocol: Some(80), level: Some(2), ..bare };
    assert_eq!(devices, [first, DeviceMatch { level: Some(2), ..bare }, bare, DeviceMatch { class: None, ..bare }]);
    let order: Vec<u32> = rules.iter().map(|rule| rule.specificity().length).collect();
    assert_eq!(order, [211, 200, 100, 100], "the sums of KubeArmor's documentation");
    assert!(unheld.is_empty() && said.is_empty(), "{unheld:?} {said:?}");
    let rules = WorkloadRules { rules, ..WorkloadRules::default() }.devices(Generation(7));
    assert_eq!((rules.generation, rules.rules.len(), rules.deny()), (Generation(7), 4, true));
    let stick = DeviceClass { class: 8, sub_class: 6, protocol: 80 };
    let device = |name: &str| UsbDevice { name: name.into(), number: 2, vendor: 0, product: 0, classes: vec![stick] };
    let place = |name: &str| rules.decide(&device(name)).rule.map(|index| rules.rules[index].rule.place.clone());
    assert_eq!(place("1-1.1").as_deref(), Some("device.matchDevice[0]"));
    assert_eq!(place("1-1").as_deref(), Some("device.matchDevice[2]"), "of two as specific the first");
}

#[test]
fn unit_policy_says_that_nothing_reads_apparmor_lines_and_holds_the_rest() {
    for start in [KUBEARMOR, HOST, PALISADE] {
        let (rules, unheld, said) =
            held_in_part(start, "apparmor: |\n    deny x,\n  process: {matchPaths: [{path: /a}]}");
        assert_eq!((rules.len(), unheld.len(), said.len()), (1, 1, 1));
        assert_eq!((unheld[0].what.as_str(), unheld[0].policy.name.as_str()), ("apparmor", "p"));
        assert!(said[0].1.contains("unenforceable: `apparmor`, "), "{}", said[0].1);
    }
    let (rules, unheld, said) = held_in_part(KUBEARMOR, "apparmor: |\n    deny x,");
    assert_eq!((rules.len(), unheld.len(), said.len()), (0, 1, 1), "no word of a policy without rules beside it");
    assert!(
        policies(&format!("{KUBEARMOR}  process: {{matchPaths: [{{path: /a}}]}}\n  apparmor: \"\"\n"))[0]
            .unheld
            .is_empty()
    );
}

#[test]
fn unit_policy_lowers_terminals_and_arguments() {
    let spec = "process: {matchPaths: [{path: /a, pts: false, allowedArgs: [-l, \"\", \"1\"]}, {execname: b, pts: true}], \
                matchDirectories: [{dir: /c/, pts: false}]}\n  file: {matchPaths: [{path: /d, pts: false}]}\n  \
                network: {matchProtocols: [{protocol: \"tcp,udp\", pts: false}]}";
    let rules = of(KUBEARMOR, spec);
    let pts = |rule: &std::sync::Arc<Rule>| match &rule.matcher {
        Matcher::Process(path) | Matcher::File(path) => path.pts,
        Matcher::Socket(socket) => socket.pts,
        other => panic!("{other:?}"),
    };
    let expected = [Some(false), Some(true), Some(false), Some(false), Some(false), Some(false)];
    assert_eq!(rules.iter().map(pts).collect::<Vec<_>>(), expected);
    let Matcher::Process(first) = &rules[0].matcher else { panic!() };
    assert_eq!(first.allowed_arguments, ["", "-l", "1"].map(str::to_owned).into());
    let pattern = of(PALISADE, "file: {matchPatterns: [{pattern: /a*, pts: false}]}");
    assert_eq!(pts(&pattern[0]), Some(false), "our own kind has it for patterns too");
}
