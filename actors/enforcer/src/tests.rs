//! The state alone: sets in, installations out.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use palisade_domain::{Family, Generation, Slot, Tier, Visibility, VisibilityClass, Workload, WorkloadKind};
use palisade_kernel_abi::record::{Kind, kind_bit};
use palisade_policy::{
    PolicySet,
    ir::{Postures, WorkloadRules},
};
use palisade_protocol::{Condition, PolicyRefused};
use palisade_world::{Gap, HeldFamily, Installed};

use crate::{
    EnforcementFailed,
    state::{Effect, Input, RETRY_MIN, State},
};

const POLICY: &str = "apiVersion: security.kubearmor.com/v1\nkind: KubeArmorPolicy\nmetadata: {name: p, namespace: default}\n\
    spec:\n  selector: {matchLabels: {app: web}}\n  process: {matchPaths: [{path: /bin/x}]}\n  action: Block\n";

fn workload(app: &str) -> Arc<Workload> {
    Arc::new(Workload {
        kind: WorkloadKind::Container,
        name: "pod".into(),
        namespace: "default".into(),
        container: "main".into(),
        container_id: None,
        image: String::new(),
        labels: BTreeMap::from([("app".into(), app.into())]),
    })
}

fn set() -> Arc<PolicySet> {
    Arc::new(PolicySet::parse([("p.yaml", POLICY.as_bytes())]).expect("sound"))
}

fn admitted(app: &str) -> State {
    let mut state = State::new(Slot(1), workload(app), Postures::default());
    let mut out = Vec::new();
    state.start(&mut out);
    assert!(matches!(out[..], [Effect::Admit]));
    assert!(step(&mut state, Input::Admitted(Ok(()))).is_empty(), "no set is known");
    state
}

fn step(state: &mut State, input: Input) -> Vec<Effect> {
    let mut out = Vec::new();
    state.step(input, &mut out);
    out
}

fn names(effects: &[Effect]) -> Vec<&'static str> {
    effects
        .iter()
        .map(|effect| match effect {
            Effect::Admit => "admit",
            Effect::LearnMounts(_) => "learn",
            Effect::AskWhatHolds => "ask what holds",
            Effect::See(..) => "see",
            Effect::HoldDevices(_) => "hold devices",
            Effect::Compile(..) => "compile",
            Effect::Install(_, Some(_)) => "install",
            Effect::Install(_, None) => "clear",
            Effect::SayInstalled { .. } => "installed",
            Effect::SayFailed(..) => "failed",
            Effect::Answer(Ok(())) => "admission granted",
            Effect::Answer(Err(_)) => "admission refused",
            Effect::RetryAfter(_) => "retry",
            Effect::LearnAgainAfter(_) => "learn again",
        })
        .collect()
}

#[test]
fn unit_enforcer_workload_that_no_policy_selects_is_admitted_without_compiling() {
    let mut state = admitted("other");
    assert_eq!(names(&step(&mut state, Input::SetChanged(Generation(1), set()))), ["clear"]);
    let effects = step(&mut state, Input::Installed(Generation(1), Ok(Installed::default())));
    assert_eq!(names(&effects), ["installed", "admission granted"]);
    assert_eq!(state.in_force(), Some(Generation(1)));
}

#[test]
fn unit_enforcer_tells_the_kernel_what_is_seen_when_a_set_changes_it_and_after_each_admission() {
    let (file, all) = (Visibility::NONE.with(VisibilityClass::File), Visibility::ALL);
    let mut state = admitted("other")
        .seeing(all, |set, _| (!set.is_empty()).then_some(Visibility::NONE.with(VisibilityClass::File)));
    let seen = |effects: Vec<Effect>| -> Vec<Visibility> {
        effects
            .iter()
            .filter_map(|effect| if let Effect::See(classes, 0) = effect { Some(*classes) } else { None })
            .collect()
    };
    let nothing_said = Arc::new(PolicySet::default());
    assert!(
        seen(step(&mut state, Input::SetChanged(Generation(1), Arc::clone(&nothing_said)))).is_empty(),
        "the default"
    );
    assert_eq!(seen(step(&mut state, Input::SetChanged(Generation(2), set()))), [file]);
    assert!(seen(step(&mut state, Input::SetChanged(Generation(3), set()))).is_empty(), "it is so already");
    assert_eq!(seen(step(&mut state, Input::Admitted(Ok(())))), [file], "admission gives the default again");
    assert_eq!(seen(step(&mut state, Input::SetChanged(Generation(4), nothing_said))), [all]);
}

#[test]
fn unit_enforcer_sees_by_a_default_that_changes_unless_a_set_says_otherwise() {
    let (file, all) = (Visibility::NONE.with(VisibilityClass::File), Visibility::ALL);
    let mut state = admitted("other").seeing(Visibility::NONE, |set, _| (!set.is_empty()).then_some(Visibility::NONE));
    let seen = |effects: Vec<Effect>| -> Vec<Visibility> {
        effects
            .iter()
            .filter_map(|effect| if let Effect::See(classes, 0) = effect { Some(*classes) } else { None })
            .collect()
    };
    assert!(seen(step(&mut state, Input::SeeByDefault(file))).is_empty(), "no set is known: it may say otherwise");
    let nothing_said = Arc::new(PolicySet::default());
    assert_eq!(seen(step(&mut state, Input::SetChanged(Generation(1), nothing_said))), [file]);
    assert_eq!(seen(step(&mut state, Input::SeeByDefault(all))), [all]);
    assert_eq!(seen(step(&mut state, Input::Admitted(Ok(())))), [all], "the kernel took what it was started with");
    assert_eq!(seen(step(&mut state, Input::SetChanged(Generation(2), set()))), [Visibility::NONE]);
    assert!(seen(step(&mut state, Input::SeeByDefault(file))).is_empty(), "the set says otherwise");
}

#[test]
fn unit_enforcer_asks_for_the_records_that_rules_on_calls_on_a_path_are_decided_by_as_long_as_there_are_such_rules() {
    let text = "apiVersion: security.kubearmor.com/v1\nkind: KubeArmorPolicy\nmetadata: {name: p, namespace: default}\n\
        spec:\n  selector: {matchLabels: {app: web}}\n  syscalls: {matchPaths: [{path: /etc/, syscall: [unlink, mount, stat]}], \
        matchSyscalls: [{syscall: [openat]}]}\n";
    let watching = Arc::new(PolicySet::parse([("p.yaml", text.as_bytes())]).expect("sound"));
    let seen = |effects: Vec<Effect>| -> Vec<(Visibility, u64)> {
        let of =
            |effect: &Effect| if let Effect::See(classes, kinds) = effect { Some((*classes, *kinds)) } else { None };
        effects.iter().filter_map(of).collect()
    };
    let mut state = admitted("web");
    let kinds = kind_bit(Kind::FileChange) | kind_bit(Kind::Mount);
    let begun = step(&mut state, Input::SetChanged(Generation(1), Arc::clone(&watching)));
    assert_eq!(seen(begun), [(Visibility::NONE, kinds)], "no class that nobody asked for, and no opens");
    assert!(seen(step(&mut state, Input::SetChanged(Generation(2), watching))).is_empty(), "it is so already");
    assert_eq!(seen(step(&mut state, Input::SetChanged(Generation(3), set()))), [(Visibility::NONE, 0)]);
}

#[test]
fn unit_enforcer_answer_for_an_older_set_is_dropped() {
    let mut state = admitted("web");
    assert_eq!(names(&step(&mut state, Input::SetChanged(Generation(1), set()))), ["compile"]);
    assert_eq!(names(&step(&mut state, Input::SetChanged(Generation(2), set()))), ["compile"]);
    let refused = PolicyRefused { reason: "too large".into(), retry_after: None };
    assert!(step(&mut state, Input::Compiled(Generation(1), Err(refused))).is_empty());
    assert!(step(&mut state, Input::SetChanged(Generation(1), set())).is_empty(), "an older set changes nothing");
}

#[test]
fn unit_enforcer_refused_policy_refuses_the_admission_and_waits_for_the_next_set() {
    let mut state = admitted("web");
    step(&mut state, Input::SetChanged(Generation(1), set()));
    let refused = PolicyRefused { reason: "too large".into(), retry_after: None };
    let effects = step(&mut state, Input::Compiled(Generation(1), Err(refused)));
    assert_eq!(names(&effects), ["failed", "admission refused"]);
    assert!(step(&mut state, Input::RetryDue).is_empty(), "compiling again would fail again");
    assert_eq!(names(&step(&mut state, Input::SetChanged(Generation(2), set()))), ["compile"]);
}

#[test]
fn unit_enforcer_set_that_its_selection_panics_over_is_refused_and_the_one_before_stands() {
    let mut state = admitted("other").selecting(|set, _, postures| {
        if !set.is_empty() {
            std::panic::resume_unwind(Box::new("a fault of the selection"));
        }
        Arc::new(WorkloadRules { postures, ..WorkloadRules::default() })
    });
    step(&mut state, Input::SetChanged(Generation(1), Arc::new(PolicySet::default())));
    step(&mut state, Input::Installed(Generation(1), Ok(Installed::default())));
    let effects = step(&mut state, Input::SetChanged(Generation(2), set()));
    assert_eq!(names(&effects), ["failed", "admission refused"]);
    assert_eq!(state.in_force(), Some(Generation(1)));
    assert!(
        matches!(state.condition(), Some(Condition::Degraded(reason)) if reason.contains("generation 2 is not in force"))
    );
    assert!(step(&mut state, Input::RetryDue).is_empty(), "selecting again would fail again");
    let mended = step(&mut state, Input::SetChanged(Generation(3), Arc::new(PolicySet::default())));
    assert_eq!(names(&mended), ["clear"]);
}

#[test]
fn unit_enforcer_failed_installation_is_tried_again_with_longer_waits() {
    let mut state = admitted("other");
    step(&mut state, Input::SetChanged(Generation(1), set()));
    let mut waits = Vec::new();
    for _ in 0..3 {
        let effects = step(&mut state, Input::Installed(Generation(1), Err(EnforcementFailed("no".into()))));
        assert_eq!(names(&effects), ["failed", "admission refused", "retry"]);
        if let Some(Effect::RetryAfter(wait)) = effects.last() {
            waits.push(*wait);
        }
        assert_eq!(names(&step(&mut state, Input::RetryDue)), ["clear"]);
    }
    assert_eq!(waits, [RETRY_MIN, RETRY_MIN * 2, RETRY_MIN * 4]);
    assert_eq!(state.in_force(), None);
}

#[test]
fn unit_enforcer_mounts_are_learnt_once_the_kernel_knows_the_slot() {
    let mut state = State::new(Slot(1), workload("web"), Postures::default());
    assert!(step(&mut state, Input::Running(7)).is_empty());
    assert!(matches!(step(&mut state, Input::Admitted(Ok(())))[..], [Effect::LearnMounts(7)]));
}

#[test]
fn unit_enforcer_failed_membership_is_tried_again_and_nothing_is_installed_before() {
    let mut state = State::new(Slot(1), workload("web"), Postures::default());
    let effects = step(&mut state, Input::Admitted(Err(EnforcementFailed("no".into()))));
    assert_eq!(names(&effects), ["failed", "admission refused", "retry"]);
    assert!(step(&mut state, Input::SetChanged(Generation(1), set())).is_empty());
    assert_eq!(names(&step(&mut state, Input::RetryDue)), ["admit"]);
    assert_eq!(names(&step(&mut state, Input::Admitted(Ok(())))), ["compile"]);
}

#[test]
fn unit_enforcer_mount_table_that_is_not_learnt_is_tried_again_and_never_called_good() {
    let mut state = admitted("other");
    step(&mut state, Input::SetChanged(Generation(1), set()));
    step(&mut state, Input::Installed(Generation(1), Ok(Installed::default())));
    assert_eq!(state.condition(), Some(Condition::Good));
    assert_eq!(names(&step(&mut state, Input::Running(7))), ["learn"]);
    let effects = step(&mut state, Input::MountsLearnt(Err(EnforcementFailed("gone".into()))));
    assert_eq!(names(&effects), ["learn again"]);
    step(&mut state, Input::SetChanged(Generation(2), set()));
    step(&mut state, Input::Installed(Generation(2), Ok(Installed::default())));
    assert!(
        matches!(state.condition(), Some(Condition::Degraded(reason)) if reason.contains("without its mount table: gone")),
        "the policy is in force, the mount table is not"
    );
    assert_eq!(names(&step(&mut state, Input::LearnDue)), ["learn"]);
    assert_eq!(names(&step(&mut state, Input::MountsLearnt(Ok(())))), ["ask what holds"]);
    assert_eq!(state.condition(), Some(Condition::Good));
    assert!(step(&mut state, Input::Running(7)).is_empty(), "what the workload mounted since is not learnt as its own");
}

#[test]
fn unit_enforcer_condition_says_what_is_not_in_force_until_it_is() {
    let mut state = admitted("other");
    assert_eq!(state.condition(), None);
    step(&mut state, Input::SetChanged(Generation(1), set()));
    step(&mut state, Input::Installed(Generation(1), Err(EnforcementFailed("no room".into()))));
    let expected = Condition::Degraded("generation 1 is not in force: no room".into());
    assert_eq!(state.condition(), Some(expected));
    step(&mut state, Input::RetryDue);
    step(&mut state, Input::Installed(Generation(1), Ok(Installed::default())));
    assert_eq!(state.condition(), Some(Condition::Good));
    state.again();
    assert!(matches!(state.condition(), Some(Condition::Degraded(reason)) if reason.contains("crashed")));
}

#[test]
fn unit_enforcer_says_with_an_installed_policy_what_of_it_is_not_held() {
    let text = POLICY.replace("  action: Block", "  apparmor: |\n    deny x,\n  action: Block");
    let set = Arc::new(PolicySet::parse([("p.yaml", text.as_bytes())]).expect("sound"));
    let mut state = admitted("web");
    step(&mut state, Input::SetChanged(Generation(1), set));
    let policy = palisade_policy_compiler::compile(
        &state_rules(&text),
        &palisade_policy_compiler::automaton::AutomatonLimits::default(),
        &mut || false,
    );
    step(&mut state, Input::Compiled(Generation(1), Ok(Arc::new(policy.expect("small")))));
    let said = step(&mut state, Input::Installed(Generation(1), Ok(Installed::default())));
    let Some(Effect::SayInstalled { not_held, .. }) = said.first() else { panic!("{said:?}") };
    let whats: Vec<&str> = not_held.iter().map(|part| part.what.as_str()).collect();
    assert_eq!(whats, ["apparmor", "process"], "the lines anywhere, the family where nothing holds it");
}

fn state_rules(text: &str) -> Arc<WorkloadRules> {
    let set = PolicySet::parse([("p.yaml", text.as_bytes())]).expect("sound");
    set.rules_for(&workload("web"), &BTreeMap::new(), Postures::default())
}

#[test]
fn unit_enforcer_policy_that_was_refused_for_want_of_time_is_compiled_again() {
    let mut state = admitted("web");
    step(&mut state, Input::SetChanged(Generation(1), set()));
    let wait = Duration::from_secs(30);
    let refused = PolicyRefused { reason: "no time".into(), retry_after: Some(wait) };
    let effects = step(&mut state, Input::Compiled(Generation(1), Err(refused)));
    assert_eq!(names(&effects), ["failed", "admission refused", "retry"]);
    assert!(matches!(effects.last(), Some(Effect::RetryAfter(after)) if *after == wait));
    assert_eq!(names(&step(&mut state, Input::RetryDue)), ["compile"]);
}

#[test]
fn unit_enforcer_holds_to_the_postures_of_the_newest_generation_whatever_comes_late() {
    let strict = Postures { file: palisade_domain::Posture::Block, ..Postures::default() };
    let mut state = admitted("other").selecting(|_, _, postures| {
        Arc::new(WorkloadRules {
            postures,
            rules: PolicySet::parse([("p.yaml", POLICY.as_bytes())])
                .expect("sound")
                .iter()
                .flat_map(|policy| policy.rules.clone())
                .collect(),
            ..WorkloadRules::default()
        })
    });
    let postures = |effects: &[Effect]| match effects {
        [Effect::Compile(_, rules)] => rules.postures,
        other => panic!("{other:?}"),
    };
    state.hold_to(Generation(2), strict);
    assert_eq!(postures(&step(&mut state, Input::SetChanged(Generation(2), set()))), strict);
    state.hold_to(Generation(1), Postures::default());
    assert!(step(&mut state, Input::SetChanged(Generation(1), set())).is_empty(), "older");
    state.hold_to(Generation(3), strict);
    assert_eq!(postures(&step(&mut state, Input::SetChanged(Generation(3), set()))), strict);
}

const HOST_POLICY: &str = "apiVersion: security.kubearmor.com/v1\nkind: KubeArmorHostPolicy\nmetadata: {name: dev}\nspec:\n  nodeSelector: \
    {matchLabels: {kubernetes.io/hostname: \"*\"}}\n  device: {matchDevice: [{class: MASS-STORAGE, action: Block}]}\n";

fn device_set(text: &str) -> Arc<PolicySet> {
    Arc::new(PolicySet::parse([("p.yaml", text.as_bytes())]).expect("sound"))
}

fn host() -> State {
    let labels = BTreeMap::from([("kubernetes.io/hostname".to_owned(), "n".to_owned())]);
    let host = Workload { kind: WorkloadKind::Host, labels, namespace: String::new(), ..(*workload("host")).clone() };
    let mut state = State::new(Slot::HOST, Arc::new(host), Postures::default());
    step(&mut state, Input::Admitted(Ok(())));
    state
}

fn usb(gaps: &[&str]) -> HeldFamily {
    let gap = |what: &&str| Gap { what: (*what).to_owned(), reason: format!("why not {what}") };
    HeldFamily { tier: Tier::UsbAuthorization, gaps: gaps.iter().map(gap).collect() }
}

/// What is said of devices once the set of this generation is in force.
fn said_of_devices(state: &mut State, generation: Generation) -> (Option<Tier>, Vec<String>) {
    let limits = palisade_policy_compiler::automaton::AutomatonLimits::default();
    let policy = palisade_policy_compiler::compile(&WorkloadRules::default(), &limits, &mut || false);
    step(state, Input::Compiled(generation, Ok(Arc::new(policy.expect("small")))));
    let said = step(state, Input::Installed(generation, Ok(Installed::default())));
    let Some(Effect::SayInstalled { installed, not_held, .. }) = said.first() else { panic!("{said:?}") };
    let not_held = not_held.iter().map(|part| format!("{}: {}", part.what, part.reason)).collect();
    (installed.families.get(&Family::Device).map(|held| held.tier), not_held)
}

#[test]
fn unit_enforcer_of_the_host_commands_devices_and_says_how_they_are_held() {
    let mut state = host();
    let effects = step(&mut state, Input::SetChanged(Generation(4), device_set(HOST_POLICY)));
    assert_eq!(names(&effects), ["hold devices", "compile"]);
    let Effect::HoldDevices(rules) = &effects[0] else { panic!("{effects:?}") };
    assert_eq!((rules.generation, rules.rules.len(), rules.deny()), (Generation(4), 1, true));
    step(&mut state, Input::DevicesHeld(usb(&[])));
    assert_eq!(said_of_devices(&mut state, Generation(4)), (Some(Tier::UsbAuthorization), vec![]));
    assert!(step(&mut state, Input::DevicesHeld(usb(&[]))).is_empty(), "nothing is new");
    // A root hub does not take the word any more: the set is told once more, with the reason.
    assert_eq!(names(&step(&mut state, Input::DevicesHeld(usb(&["device"])))), ["hold devices", "compile"]);
    let not_held = vec!["device: why not device".to_owned()];
    assert_eq!(said_of_devices(&mut state, Generation(4)), (Some(Tier::UsbAuthorization), not_held));
}

#[test]
fn unit_enforcer_holds_no_devices_for_containers_nor_any_more_without_rules() {
    let mut state = host();
    step(&mut state, Input::SetChanged(Generation(1), device_set(HOST_POLICY)));
    let effects = step(&mut state, Input::SetChanged(Generation(2), set()));
    assert_eq!(names(&effects), ["hold devices", "clear"]);
    assert!(matches!(&effects[0], Effect::HoldDevices(rules) if rules.rules.is_empty()), "{effects:?}");
    let mut container = admitted("web");
    assert_eq!(names(&step(&mut container, Input::SetChanged(Generation(1), set()))), ["compile"]);
}

#[test]
fn unit_enforcer_says_that_devices_are_not_held_where_no_port_has_them() {
    let mut state = host();
    step(&mut state, Input::SetChanged(Generation(1), device_set(HOST_POLICY)));
    let not_held = vec!["device: no tier of this kernel holds the family".to_owned()];
    assert_eq!(said_of_devices(&mut state, Generation(1)), (None, not_held));
}
