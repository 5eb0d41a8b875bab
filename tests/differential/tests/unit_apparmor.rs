//! AppArmor profiles, read as the kernel reads them, against the naive evaluator: a profile denies what is blocked whatever AppArmor cannot
//! see (who executes, at which terminal, with which arguments, over which protocol), and nothing else.

#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

use palisade_apparmor::{
    ProfileName, Share, Weakened, lower,
    reading::{Answer, FileAsk, ReadProfile, read},
};
use palisade_differential::{
    compile,
    corpus::{Random, contested, path_near, rules, seed},
    rule, workload,
};
use palisade_domain::{Action, Posture};
use palisade_kernel_abi::blob::{Effect, Endpoint, Family, Modifiers};
use palisade_policy::ir::{
    CapabilityMatch, Matcher, PathMatch, PathRule, Postures, SocketMatch, SocketShape, WorkloadRules,
};
use palisade_policy_compiler::{
    CompileError,
    naive::{Act, Object, candidates, evaluate},
};
use palisade_protocol::CompiledPolicy;

/// One of each class that the corpus' sources can tell apart: in, directly in, and outside of its directories.
const EXECUTABLES: [&str; 16] = [
    "/a", "/ab", "/etc/x", "/b/a", "/etc", "/b", "/q", "/q/r", "/etc/q", "/etc/q/r", "/a/q", "/a/q/r", "/b/q",
    "/b/q/r", "/a/a", "/etc/q/x",
];

fn file(path: PathMatch) -> Matcher {
    Matcher::File(PathRule::of(path))
}

fn exact(path: &str) -> PathMatch {
    PathMatch::Exact(path.to_owned())
}

fn directory(directory: &str, recursive: bool) -> PathMatch {
    PathMatch::Directory { directory: directory.to_owned(), recursive }
}

fn profile_of(policy: &CompiledPolicy) -> (ReadProfile, palisade_apparmor::Profile) {
    let profile = lower(&policy.blob, &ProfileName::of_container("test").unwrap(), Share::ALL).unwrap();
    (read(&profile.bytes).unwrap(), profile)
}

/// The mildest that the rules make of an act, whoever does it, at a terminal or not, with arguments or without.
fn mildest(rules: &WorkloadRules, act: &Act<'_>) -> Effect {
    let executables = || std::iter::once(None).chain(EXECUTABLES.map(|path| Some(path.as_bytes())));
    let arguments: [&[&str]; 6] = [&[], &["-a"], &["-ab"], &["x"], &[""], &["-q"]];
    let mut effect = Effect::Block;
    for executable in executables() {
        for tty in [false, true] {
            // Only an execution has any.
            let arguments = if act.family == Family::Process { &arguments[..] } else { &arguments[..1] };
            for arguments in arguments {
                let act = Act { executable, modifiers: act.modifiers.at_terminal(tty), arguments, ..*act };
                effect = effect.min(evaluate(rules, &act).effect);
            }
        }
    }
    effect
}

/// An act of a file as AppArmor is asked for it.
fn file_act(path: &[u8], ask: FileAsk, is_owner: bool) -> Act<'_> {
    let family = if ask == FileAsk::Exec { Family::Process } else { Family::File };
    let modifiers = Modifiers::new(is_owner, ask == FileAsk::Write);
    Act { family, object: Object::Path(path), executable: None, modifiers, arguments: &[] }
}

/// Two lists whose members are met by no argument at once: a set that permits nothing, which the blob takes for one that may.
fn asks_for_arguments(rules: &WorkloadRules, act: &Act<'_>) -> bool {
    let asks = |rule: &&std::sync::Arc<palisade_policy::ir::Rule>| matches!(&rule.matcher, Matcher::Process(path) if !path.allowed_arguments.is_empty());
    EXECUTABLES
        .iter()
        .any(|executable| candidates(rules, &Act { executable: Some(executable.as_bytes()), ..*act }).iter().any(asks))
}

#[derive(Default, Debug)]
struct Seen {
    denied: usize,
    allowed: usize,
    audited: usize,
    /// Denied to readers or to writers only.
    by_half: usize,
    /// Allowed inside what is denied around it.
    excepted: usize,
}

fn check(rules: &WorkloadRules, profile: &ReadProfile, path: &[u8], seen: &mut Seen) {
    let mut of_owner = Vec::new();
    for ask in [FileAsk::Exec, FileAsk::Read, FileAsk::Write] {
        for is_owner in [false, true] {
            let act = file_act(path, ask, is_owner);
            let wanted = mildest(rules, &act);
            let answer = profile.file(path, is_owner, ask);
            let agrees = answer == answer_to(wanted) || (asks_for_arguments(rules, &act) && answer.allowed);
            if !agrees {
                rules
                    .rules
                    .iter()
                    .for_each(|rule| println!("  {:?} {:?} from {:?}", rule.action, rule.matcher, rule.sources));
                panic!(
                    "{} {ask:?} owner {is_owner}: {answer:?}, and the rules say {wanted:?}",
                    String::from_utf8_lossy(path)
                );
            }
            // A directory of the name is asked for with a slash.
            let inside = [path, b"/"].concat();
            if path != b"/" && !path.ends_with(b"/") {
                assert_eq!(profile.file(&inside, is_owner, ask), answer, "{}", String::from_utf8_lossy(&inside));
            }
            seen.denied += usize::from(!answer.allowed);
            seen.allowed += usize::from(answer.allowed);
            seen.audited += usize::from(answer.audited);
            of_owner.push(answer);
            let overruled = candidates(rules, &act).iter().any(|rule| rule.action == Action::Block);
            seen.excepted += usize::from(answer.allowed && overruled);
        }
    }
    seen.by_half += usize::from(of_owner[2] != of_owner[4] || of_owner[2] != of_owner[3]);
}

fn answer_to(effect: Effect) -> Answer {
    Answer { allowed: effect != Effect::Block, audited: effect == Effect::Audit }
}

/// Random rules may ask for different things by different arguments, which is refused.
fn compiled(rules: &WorkloadRules) -> Option<CompiledPolicy> {
    match compile(rules) {
        Err(CompileError::ArgumentActions { .. }) => None,
        other => Some(other.unwrap()),
    }
}

#[test]
fn unit_apparmor_profile_denies_of_files_what_the_rules_block_whoever_acts_and_nothing_else() {
    let mut random = Random::new(seed());
    let mut seen = Seen::default();
    for round in 0..160 {
        let (rules, target) = if round % 2 == 0 {
            let count = 1 + random.below(10);
            (rules(&mut random, count), "/a".to_owned())
        } else {
            contested(&mut random)
        };
        let Some(policy) = compiled(&rules) else { continue };
        let (profile, _) = profile_of(&policy);
        check(&rules, &profile, target.as_bytes(), &mut seen);
        for _ in 0..8 {
            let path = path_near(&mut random, &rules);
            // What AppArmor is never asked for: names that end in slashes, or hold two in a row.
            if path.starts_with(b"/") && !path.ends_with(b"/") && !path.windows(2).any(|pair| pair == b"//") {
                check(&rules, &profile, &path, &mut seen);
            }
        }
    }
    println!("{seen:?}");
    let Seen { denied, allowed, audited, by_half, excepted } = seen;
    for (what, count) in
        [("denied", denied), ("allowed", allowed), ("audited", audited), ("by half", by_half), ("excepted", excepted)]
    {
        assert!(count > 100, "too few {what}: {count}");
    }
}

#[test]
fn unit_apparmor_profile_denies_sockets_and_capabilities_that_the_rules_block_whoever_acts() {
    let mut random = Random::new(seed());
    let mut seen = [0usize; 4];
    for _ in 0..120 {
        let rules = rules(&mut random, 12);
        let Some(policy) = compiled(&rules) else { continue };
        let (profile, _) = profile_of(&policy);
        for number in [0, 12, 13, 21, 40] {
            let act = Act {
                family: Family::Capability,
                object: Object::Capability(number),
                executable: None,
                modifiers: Modifiers::NONE,
                arguments: &[],
            };
            let wanted = answer_to(mildest(&rules, &act));
            assert_eq!(profile.capability(number), wanted, "capability {number}");
            seen[usize::from(wanted.allowed)] += 1;
        }
        for (domain, kind) in [(1, 1), (2, 1), (2, 2), (10, 3), (16, 3), (17, 3), (200, 5)] {
            // Those that rules of the corpus name, and one that none does.
            let effects = [0, 6, 17, 99].map(|protocol| {
                let endpoint = Endpoint { domain, kind, protocol, destination: None };
                let (family, object) = (Family::Socket, Object::Endpoint(endpoint));
                mildest(&rules, &Act { family, object, executable: None, modifiers: Modifiers::NONE, arguments: &[] })
            });
            let wanted = answer_to(effects.into_iter().min().unwrap());
            assert_eq!(profile.socket(domain.into(), kind.into()), wanted, "socket {domain} {kind}");
            seen[2 + usize::from(wanted.allowed)] += 1;
        }
    }
    println!("{seen:?}");
    assert!(seen.iter().all(|count| *count > 40), "{seen:?}");
}

fn block(path: PathMatch) -> palisade_policy::ir::Rule {
    rule(Action::Block, file(path), &[])
}

fn blocking() -> Postures {
    Postures { file: Posture::Block, network: Posture::Block, capabilities: Posture::Block, ..Postures::default() }
}

fn reads(profile: &ReadProfile, path: &str) -> bool {
    profile.file(path.as_bytes(), false, FileAsk::Read).allowed
}

#[test]
fn unit_apparmor_profile_lets_a_more_specific_allow_stand_in_a_blocked_directory() {
    let allow = rule(Action::Allow, file(exact("/etc/app/conf")), &[]);
    let outside = rule(Action::Allow, file(directory("/", true)), &[]);
    let (profile, lowered) =
        profile_of(&compile(&workload(vec![block(directory("/etc/", true)), allow, outside])).unwrap());
    for (path, allowed) in [
        ("/etc/", false),
        ("/etc/shadow", false),
        ("/etc/app/", false),
        ("/etc/app/conf", true),
        ("/etc/app/conf2", false),
        ("/usr/x", true),
    ] {
        assert_eq!(reads(&profile, path), allowed, "{path}");
    }
    assert!(lowered.weakened.is_empty(), "{:?}", lowered.weakened);
}

#[test]
fn unit_apparmor_profile_holds_an_allow_list_by_its_posture() {
    let allow = || vec![rule(Action::Allow, file(directory("/usr/", true)), &[])];
    let (profile, _) = profile_of(&compile(&WorkloadRules { postures: blocking(), ..workload(allow()) }).unwrap());
    assert!(reads(&profile, "/usr/lib/x") && !reads(&profile, "/etc/passwd") && !reads(&profile, "/"));
    assert!(profile.file(b"/bin/x", false, FileAsk::Exec).allowed, "another family has no allow-list");
    let (profile, _) = profile_of(&compile(&workload(allow())).unwrap());
    assert_eq!(profile.file(b"/etc/passwd", false, FileAsk::Read), Answer { allowed: true, audited: true });
}

#[test]
fn unit_apparmor_profile_holds_modifiers_that_it_can_see() {
    let modified =
        |read_only, owner_only| PathRule { read_only, owner_only, ..PathRule::of(directory("/data/", true)) };
    let profile =
        |path| profile_of(&compile(&workload(vec![rule(Action::Block, Matcher::File(path), &[])])).unwrap()).0;
    let read_only = profile(modified(true, false));
    assert!(reads(&read_only, "/data/x") && !read_only.file(b"/data/x", true, FileAsk::Write).allowed);
    let owner_only = profile(modified(false, true));
    assert!(owner_only.file(b"/data/x", true, FileAsk::Write).allowed && !reads(&owner_only, "/data/x"));
}

#[test]
fn unit_apparmor_profile_leaves_what_depends_on_the_unseen_and_says_so() {
    let weakened = |rules: Vec<palisade_policy::ir::Rule>| {
        let (profile, lowered) = profile_of(&compile(&workload(rules)).unwrap());
        (profile, lowered.weakened.into_iter().collect::<Vec<_>>())
    };
    // Blocked for all but one program: nobody is denied here, for it might be the one.
    let except = rule(Action::Allow, file(exact("/etc/shadow")), &["/bin/login"]);
    let (profile, why) = weakened(vec![block(exact("/etc/shadow")), except]);
    assert_eq!((reads(&profile, "/etc/shadow"), why), (true, vec![Weakened::Source(Family::File)]));
    let on_terminal = Matcher::File(PathRule { pts: Some(false), ..PathRule::of(exact("/x")) });
    let (profile, why) = weakened(vec![rule(Action::Block, on_terminal, &[])]);
    assert_eq!((reads(&profile, "/x"), why), (true, vec![Weakened::Terminal(Family::File)]));
    let arguments = PathRule { allowed_arguments: ["-v".to_owned()].into(), ..PathRule::of(exact("/bin/x")) };
    let (profile, why) = weakened(vec![rule(Action::Block, Matcher::Process(arguments), &[])]);
    assert_eq!((profile.file(b"/bin/x", false, FileAsk::Exec).allowed, why), (true, vec![Weakened::Arguments]));
    let shape = SocketShape { domain: None, kind: Some(1), protocol: Some(6) };
    let tcp = Matcher::Socket(SocketMatch { name: "tcp".into(), any_of: vec![shape], pts: None });
    let (profile, why) = weakened(vec![rule(Action::Block, tcp, &[])]);
    assert_eq!((profile.socket(2, 1).allowed, why), (true, vec![Weakened::Protocol]));
    let (profile, why) = weakened(vec![rule(Action::Block, Matcher::Ptrace(exact("/bin/x")), &[])]);
    assert_eq!((profile.trace(b"unconfined").allowed, why), (true, vec![Weakened::Target]));
}

#[test]
fn unit_apparmor_profile_denies_tracing_of_everything_and_named_capabilities() {
    let all = rule(Action::Block, Matcher::Ptrace(PathMatch::Any), &[]);
    let time = CapabilityMatch { name: "sys_time".into(), number: 25 };
    let (profile, lowered) =
        profile_of(&compile(&workload(vec![all, rule(Action::Block, Matcher::Capability(time), &[])])).unwrap());
    assert!(!profile.trace(b"unconfined").allowed && !profile.trace(b"palisade-test").allowed);
    assert!(!profile.capability(25).allowed && profile.capability(24).allowed && profile.capability(40).allowed);
    assert!(profile.socket(16, 3).allowed && reads(&profile, "/etc/x"), "nothing else is taken away");
    assert!(lowered.weakened.is_empty());
}

#[test]
fn unit_apparmor_profile_of_a_thousand_rules_fits_and_of_too_many_states_is_refused() {
    let rules = |count: usize, length: usize| {
        let path =
            |number: usize| format!("/srv/{:08x}/{}", number.wrapping_mul(0x9e37_79b9) as u32, "x".repeat(length));
        workload((0..count).map(|number| block(exact(&path(number)))).collect())
    };
    let policy = compile(&rules(1000, 20)).unwrap();
    let (profile, lowered) = profile_of(&policy);
    println!("1,000 rules: {} states, {} bytes", lowered.states, lowered.bytes.len());
    assert!(!reads(&profile, &format!("/srv/{:08x}/{}", 0x9e37_79b9u32, "x".repeat(20))));
    let distinct = workload(
        (0..4000)
            .map(|number: u64| {
                let digest = |salt: u64| number.wrapping_add(salt).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                let tail: String = (0..3).map(|salt| format!("{:016x}", digest(salt))).collect();
                rule(
                    Action::Block,
                    file(exact(&format!("/{tail}"))),
                    if number.is_multiple_of(2) { &["/a"] } else { &[] },
                )
            })
            .collect(),
    );
    let policy = compile(&distinct).unwrap();
    let refused = lower(&policy.blob, &ProfileName::of_container("test").unwrap(), Share::ALL);
    assert!(matches!(refused, Err(palisade_apparmor::LowerError::States { .. })), "{:?}", refused.map(|it| it.states));
}
