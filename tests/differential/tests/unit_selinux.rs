//! SELinux constraints, read from the module's text, against the naive evaluator: a user is denied what is blocked whatever SELinux cannot see
//! (who executes, at which terminal), class by class, and nothing else. And `secilc`, where it is installed, takes each text.

#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    process::Command,
};

use palisade_differential::{
    Backend, BackendError, Said, compile,
    corpus::{Random, rules, seed},
    ring, rule, workload,
};
use palisade_domain::{Action, CAPABILITIES, Posture};
use palisade_kernel_abi::blob::{Blob, Effect, Endpoint, Family, Modifiers};
use palisade_policy::ir::{
    CapabilityMatch, Matcher, PathMatch, Postures, Preset, Rule, SocketMatch, SocketShape, WorkloadRules,
};
use palisade_policy_compiler::{
    CompileError,
    naive::{Act, Object, evaluate},
};
use palisade_protocol::CompiledPolicy;
use palisade_selinux::{Classes, FAMILIES, Levels, Line, Lowered, SocketClass, Unsaid, UserNumber, module};

/// Sockets whose classes the tests ask about, with one socket of each.
const SOCKETS: [(&str, u8, u8, u8); 9] = [
    ("tcp_socket", 2, 1, 6),
    ("udp_socket", 10, 2, 17),
    ("rawip_socket", 2, 3, 1),
    ("packet_socket", 17, 3, 0),
    ("netlink_route_socket", 16, 3, 0),
    ("unix_stream_socket", 1, 1, 0),
    ("unix_dgram_socket", 1, 2, 0),
    ("vsock_socket", 40, 1, 0),
    ("alg_socket", 38, 5, 0),
];

/// What the policy of the tests knows.
fn classes() -> Classes {
    let mut permissions: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut add = |class: &str, permission: &str| {
        permissions.entry(class.to_owned()).or_default().insert(permission.to_owned());
    };
    for (number, permission) in CAPABILITIES.into_iter().enumerate() {
        let classes = if number < 32 { ["capability", "cap_userns"] } else { ["capability2", "cap2_userns"] };
        classes.into_iter().for_each(|class| add(class, permission));
    }
    for permission in ["ptrace", "execmem", "execstack", "execheap", "transition", "dyntransition"] {
        add("process", permission);
    }
    add("file", "execmod");
    SOCKETS.into_iter().for_each(|(class, ..)| add(class, "create"));
    Classes { permissions, extended_sockets: true }
}

/// The least policy that has the classes.
fn base(classes: &Classes) -> String {
    let mut text = String::from("(handleunknown allow)\n(mls true)\n(policycap extended_socket_class)\n");
    for (class, permissions) in &classes.permissions {
        let permissions: Vec<&str> = permissions.iter().map(String::as_str).collect();
        writeln!(text, "(class {class} ({}))", permissions.join(" ")).unwrap();
    }
    let names: Vec<&str> = classes.permissions.keys().map(String::as_str).collect();
    writeln!(text, "(classorder ({}))", names.join(" ")).unwrap();
    text + "(sid kernel) (sidorder (kernel)) (sensitivity s0) (sensitivityorder (s0))
        (category c0) (category c1) (category c2) (categoryorder (c0 c1 c2)) (sensitivitycategory s0 (range c0 c2))
        (type kernel_t) (role system_r) (role object_r) (roletype system_r kernel_t) (roletype object_r kernel_t)
        (user system_u) (userrole system_u system_r) (userlevel system_u (s0)) (userrange system_u ((s0) (s0 (range c0 c2))))
        (sidcontext kernel (system_u system_r kernel_t ((s0) (s0))))
        (allow kernel_t self (process (ptrace)))\n"
}

const LEVELS: Levels = Levels { last_category: Some(2) };

fn user(number: u8) -> UserNumber {
    UserNumber::new(number).unwrap()
}

/// What the text's constraints deny: permission, and whom.
fn denied(text: &str) -> BTreeMap<(String, String), BTreeSet<String>> {
    let mut denied: BTreeMap<(String, String), BTreeSet<String>> = BTreeMap::new();
    // That who is denied anything keeps its user is nothing that a policy asks for.
    let lines = text.lines().filter(|line| !line.contains("(eq u1 u2)"));
    for line in lines.filter_map(|line| line.strip_prefix("(constrain (")) {
        let (class, rest) = line.split_once(" (").unwrap();
        let (permissions, rest) = rest.split_once(")) (neq u1 (").unwrap();
        let users = rest.strip_suffix(")))").unwrap();
        for permission in permissions.split(' ') {
            let of = denied.entry((class.to_owned(), permission.to_owned())).or_default();
            of.extend(users.split(' ').map(str::to_owned));
        }
    }
    denied
}

/// `false`: there is none here.
fn compiles(text: &str) -> bool {
    let directory =
        std::env::temp_dir().join(format!("palisade-cil-{}-{:?}", std::process::id(), std::thread::current().id()));
    fs::create_dir_all(&directory).unwrap();
    let file = |name: &str| directory.join(name);
    fs::write(file("base.cil"), base(&classes())).unwrap();
    fs::write(file("palisade.cil"), text).unwrap();
    let output = Command::new("secilc")
        .args(["-o", "policy", "-f", "contexts", "base.cil", "palisade.cil"])
        .current_dir(&directory)
        .output();
    let result = match output {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => false,
        Err(error) => panic!("secilc: {error}"),
        Ok(output) => {
            assert!(output.status.success(), "{}\n{text}", String::from_utf8_lossy(&output.stderr));
            assert!(fs::metadata(file("policy")).unwrap().len() > 1000);
            true
        }
    };
    fs::remove_dir_all(&directory).unwrap();
    result
}

/// The mildest that the rules make of an act, whoever does it, at a terminal or not.
fn mildest(rules: &WorkloadRules, family: Family, object: Object<'_>) -> Effect {
    let named = rules.rules.iter().flat_map(|rule| &rule.sources).map(|source| Some(source.as_bytes()));
    let sources: Vec<Option<&[u8]>> = named.chain([None, Some(&b"/no/rule/names/it"[..])]).collect();
    let each = sources.into_iter().flat_map(|executable| [false, true].map(|tty| (executable, tty)));
    let effect = |(executable, tty)| {
        let modifiers = Modifiers::NONE.at_terminal(tty);
        evaluate(rules, &Act { family, object, executable, modifiers, arguments: &[] }).effect
    };
    each.map(effect).min().unwrap()
}

fn lowered(blob: &Blob) -> Lowered {
    Lowered::of(blob, &Family::ALL, &classes())
}

fn of(rules: Vec<Rule>) -> Lowered {
    lowered(&compile(&workload(rules)).unwrap().blob)
}

#[test]
fn unit_selinux_constraints_deny_what_the_rules_block_whoever_acts_and_nothing_else() {
    let mut random = Random::new(seed());
    let (mut seen, mut tools) = ([0usize; 4], 0);
    for round in 0..60 {
        let rules = rules(&mut random, 12);
        let policy = match compile(&rules) {
            Err(CompileError::ArgumentActions { .. }) => continue,
            other => other.unwrap(),
        };
        let lowered = lowered(&policy.blob);
        let text = module(LEVELS, [(user(7), &lowered)]);
        let denied = denied(&text);
        let denies = |class: &str, permission: &str| {
            let users = denied.get(&(class.to_owned(), permission.to_owned()));
            users.is_some_and(|users| users.contains("palisade_7_u"))
        };
        for (number, permission) in CAPABILITIES.into_iter().enumerate() {
            let wanted = mildest(&rules, Family::Capability, Object::Capability(number as u8)) == Effect::Block;
            let classes = if number < 32 { ["capability", "cap_userns"] } else { ["capability2", "cap2_userns"] };
            assert_eq!(classes.map(|class| denies(class, permission)), [wanted; 2], "{permission}");
            seen[usize::from(wanted)] += 1;
        }
        for (class, domain, kind, protocol) in SOCKETS {
            let endpoint = Endpoint { domain, kind, protocol, destination: None };
            let blocked = mildest(&rules, Family::Socket, Object::Endpoint(endpoint)) == Effect::Block;
            // More of the class may be permitted than this one.
            assert!(blocked || !denies(class, "create"), "{class}");
            seen[2 + usize::from(denies(class, "create"))] += 1;
        }
        tools += usize::from(round % 10 == 0 && compiles(&text));
    }
    println!("{seen:?}, {tools} modules compiled");
    assert!(seen[..3].iter().all(|count| *count > 40), "{seen:?}");
}

/// What a kernel would make of the module's text: of a capability and of a socket it asks about the class, of tracing about the process.
#[derive(Default)]
struct Constraints {
    denied: BTreeMap<(String, String), BTreeSet<String>>,
    denials: u64,
}

impl Backend for Constraints {
    fn name(&self, family: Family) -> Option<&'static str> {
        matches!(family, Family::Socket | Family::Capability | Family::Ptrace).then_some("selinux")
    }

    fn install(&mut self, policy: &CompiledPolicy) -> Result<(), BackendError> {
        self.denied = denied(&module(LEVELS, [(user(7), &Lowered::of(&policy.blob, &FAMILIES, &classes()))]));
        Ok(())
    }

    fn act(&mut self, act: &palisade_differential::Act) -> Result<Said, BackendError> {
        let asked = act.parts().into_iter().filter_map(|part| {
            part.with(|act| match act.object {
                Object::Capability(number) => Some(("capability", CAPABILITIES[usize::from(number)])),
                Object::Endpoint(Endpoint { domain, kind, protocol, destination: None }) => {
                    Some((SocketClass::of_socket(domain, kind, protocol, true).name(), "create"))
                }
                Object::Path(_) if act.family == Family::Ptrace => Some(("process", "ptrace")),
                _ => None,
            })
        });
        let denied = asked.into_iter().any(|(class, permission)| {
            let users = self.denied.get(&(class.to_owned(), permission.to_owned()));
            users.is_some_and(|users| users.contains("palisade_7_u"))
        });
        self.denials += u64::from(denied);
        Ok(Said { denied, told: None })
    }
}

#[test]
fn unit_selinux_constraints_decide_the_common_cases_as_the_naive_evaluator_but_for_what_is_declared() {
    let mut constraints = Constraints::default();
    let report = ring::run(&mut constraints, 80).unwrap();
    assert!(constraints.denials > 40, "{}: {report:?}", constraints.denials);
}

fn capability(action: Action, name: &str, number: u8, sources: &[&str]) -> Rule {
    rule(action, Matcher::Capability(CapabilityMatch { name: name.into(), number }), sources)
}

fn socket(action: Action, domain: u8, kind: Option<u8>) -> Rule {
    let shape = SocketShape { domain: Some(domain), kind, protocol: None };
    rule(action, Matcher::Socket(SocketMatch { name: "test".into(), any_of: vec![shape], pts: None }), &[])
}

fn unsaid(lowered: &Lowered) -> Vec<Unsaid> {
    lowered.unsaid().iter().cloned().collect()
}

#[test]
fn unit_selinux_allow_list_denies_its_complement_under_a_posture_that_blocks() {
    let postures = Postures { network: Posture::Block, capabilities: Posture::Block, ..Postures::default() };
    let rules = vec![capability(Action::Allow, "chown", 0, &[]), socket(Action::Allow, 1, None)];
    let policy = compile(&WorkloadRules { postures, ..workload(rules.clone()) }).unwrap();
    let denied = lowered(&policy.blob);
    assert!(!denied.denies("capability", "chown") && !denied.denies("unix_stream_socket", "create"));
    assert!(denied.denies("capability", "net_raw") && denied.denies("cap2_userns", "bpf"));
    assert!(denied.denies("tcp_socket", "create") && denied.denies("vsock_socket", "create"));
    assert!(of(rules).is_empty(), "a posture that audits denies nothing");
}

#[test]
fn unit_selinux_denies_tracing_of_everything_sockets_of_a_class_and_memory_that_becomes_executable() {
    let all = of(vec![rule(Action::Block, Matcher::Ptrace(PathMatch::Any), &[])]);
    assert!(all.denies("process", "ptrace") && all.unsaid().is_empty());
    let one = of(vec![rule(Action::Block, Matcher::Ptrace(PathMatch::Exact("/bin/x".into())), &[])]);
    assert_eq!((one.is_empty(), unsaid(&one)), (true, vec![Unsaid::Targets]));
    let packet = of(vec![socket(Action::Block, 17, None)]);
    assert_eq!(packet.denied().collect::<Vec<_>>(), [("packet_socket", "create")]);
    let raw = of(vec![socket(Action::Block, 17, Some(3))]);
    // The same rule is about their connects, too.
    assert_eq!((raw.is_empty(), unsaid(&raw)), (true, vec![Unsaid::Destinations, Unsaid::Sockets("packet_socket")]));
    let memory = of(vec![rule(Action::Block, Matcher::Preset(Preset::AnonMapExec), &[])]);
    assert!(memory.denies("process", "execmem") && memory.denies("file", "execmod"));
    assert_eq!(unsaid(&memory), [Unsaid::SharedMemory]);
}

#[test]
fn unit_selinux_names_what_it_cannot_say_and_denies_nothing_of_it() {
    let path = |path: &str| palisade_policy::ir::PathRule::of(PathMatch::Exact(path.into()));
    for (rules, wanted) in [
        (vec![rule(Action::Block, Matcher::File(path("/etc/x")), &[])], Unsaid::Paths(Family::File)),
        (vec![rule(Action::Block, Matcher::Process(path("/bin/x")), &[])], Unsaid::Paths(Family::Process)),
        (vec![capability(Action::Block, "chown", 0, &["/bin/x"])], Unsaid::Source(Family::Capability)),
        (
            vec![rule(Action::Block, Matcher::Preset(Preset::Exec), &[])],
            Unsaid::Preset(palisade_kernel_abi::blob::Preset::Exec),
        ),
    ] {
        let lowered = of(rules);
        assert_eq!((lowered.is_empty(), unsaid(&lowered)), (true, vec![wanted.clone()]));
        assert!(!wanted.what().is_empty() && !wanted.reason().is_empty());
    }
    assert!(of(vec![capability(Action::Audit, "chown", 0, &[])]).unsaid().is_empty(), "what is audited is others'");
    let blob = compile(&workload(vec![capability(Action::Block, "bpf", 39, &[])])).unwrap().blob;
    let none = Lowered::of(&blob, &FAMILIES, &Classes::default());
    assert_eq!(unsaid(&none), [Unsaid::Permission("cap2_userns", "bpf"), Unsaid::Permission("capability2", "bpf")]);
    assert!(Lowered::of(&blob, &[Family::Socket], &classes()).is_empty(), "a family that others hold");
}

#[test]
fn unit_selinux_denials_are_walked_by_the_blob_again_for_their_rule() {
    let rules = vec![
        capability(Action::Block, "chown", 0, &[]),
        rule(Action::Block, Matcher::Ptrace(PathMatch::Any), &[]),
        socket(Action::Block, 17, None),
        rule(Action::Block, Matcher::Preset(Preset::AnonMapExec), &[]),
    ];
    let policy = compile(&workload(rules)).unwrap();
    for (asked, class, kind) in [
        ("chown", "capability", "capability"),
        ("ptrace", "process", "ptrace"),
        ("create", "packet_socket", "socket"),
        ("execheap", "process", "memory"),
    ] {
        let text = format!(
            "audit(1.0:1): avc:  denied  {{ {asked} }} for  pid=7 comm=\"x\" capability=0 scontext=palisade_7_u:r:t:s0 \
             tcontext=palisade_7_u:r:t:s0 tclass={class} permissive=0"
        );
        let decision = Line::parse(text.as_bytes()).unwrap().judge(&policy.blob, Some(b"/bin/x"), true);
        let matcher = &policy.rules[decision.rule.unwrap() as usize].matcher;
        let named = match matcher {
            Matcher::Capability(_) => "capability",
            Matcher::Ptrace(_) => "ptrace",
            Matcher::Socket(_) => "socket",
            _ => "memory",
        };
        assert_eq!((decision.effect, named), (Effect::Block, kind), "{asked}");
    }
}

#[test]
fn unit_selinux_module_is_one_text_for_whatever_order_and_groups_users_that_are_denied_alike() {
    let chown = of(vec![capability(Action::Block, "chown", 0, &[]), capability(Action::Block, "net_raw", 13, &[])]);
    let raw = of(vec![capability(Action::Block, "net_raw", 13, &[])]);
    let text = module(LEVELS, [(user(3), &chown), (user(11), &raw), (user(5), &chown)]);
    assert_eq!(text, module(LEVELS, [(user(11), &raw), (user(5), &chown), (user(3), &chown)]));
    let constraints: Vec<&str> = text.lines().filter(|line| line.starts_with("(constrain (capability ")).collect();
    assert_eq!(
        constraints,
        [
            "(constrain (capability (chown)) (neq u1 (palisade_3_u palisade_5_u)))",
            "(constrain (capability (net_raw)) (neq u1 (palisade_3_u palisade_5_u palisade_11_u)))",
        ]
    );
    if !compiles(&text) {
        println!("skipped: secilc is not installed, no text was compiled");
    }
}
