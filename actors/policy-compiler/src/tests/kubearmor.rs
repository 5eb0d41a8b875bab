//! Policies as KubeArmor's users write them, from the text to the verdict: `fixtures/kubearmor/*` are policy tests.

use std::{collections::BTreeMap, fs, path::Path};

use palisade_domain::Action;
use palisade_kernel_abi::blob::{Decision, Effect};
use palisade_policy::{
    PolicyFile, PolicySet, PolicyTest,
    ir::WorkloadRules,
    policy_test::{Case, Expectation, PolicySource},
};
use palisade_protocol::CompiledPolicy;

use super::compile;
use crate::decide;

fn inline(test: &PolicyTest) -> PolicySet {
    let file = |source: &PolicySource| match source {
        PolicySource::Inline(file) => file.clone(),
        PolicySource::File { path, .. } => panic!("{path}: these tests hold their policies"),
    };
    let files: Vec<PolicyFile> = test.policies.iter().map(file).collect();
    let diagnostics: Vec<String> = files.iter().flat_map(|file| &file.diagnostics).map(ToString::to_string).collect();
    assert_eq!(diagnostics, Vec::<String>::new());
    let (set, duplicates) = PolicySet::assemble(&files);
    assert_eq!(duplicates, []);
    set
}

/// Every workload's policy, by the workload's name.
fn compiled(test: &PolicyTest) -> BTreeMap<String, CompiledPolicy> {
    let set = inline(test);
    let none = BTreeMap::new();
    let compiled = |fixture: &palisade_policy::policy_test::WorkloadFixture| {
        let namespace = test.namespaces.iter().find(|namespace| namespace.name == fixture.workload.namespace);
        let annotations = namespace.map_or(&none, |namespace| &namespace.annotations);
        let rules = set.rules_for(&fixture.workload, annotations, test.postures);
        (fixture.name.clone(), compile(&rules).unwrap())
    };
    test.workloads.iter().map(compiled).collect()
}

fn assert_holds(place: &str, case: &Case, policy: &CompiledPolicy) {
    let Decision { effect, by_posture, rule, .. } = decide(policy, &case.act);
    let action = match effect {
        Effect::Permit => Action::Allow,
        Effect::Audit => Action::Audit,
        Effect::Block => Action::Block,
    };
    assert_eq!(action, case.expect.action, "{place}: {}", case.name);
    let rule = rule.map(|index| &policy.rules[index as usize]);
    if let Some(expected) = &case.expect.policy {
        let name = rule.map_or(if by_posture { "DefaultPosture" } else { "none" }, |rule| rule.policy.name.as_str());
        assert_eq!(name, expected, "{place}: {}", case.name);
    }
    let Some(rule) = rule else { return };
    assert!(case.expect.severity.is_none_or(|severity| rule.severity == Some(severity)), "{place}: {}", case.name);
    assert!(case.expect.message.is_none() || case.expect.message == rule.message, "{place}: {}", case.name);
    assert!(case.expect.tags.as_ref().is_none_or(|tags| *tags == rule.tags), "{place}: {}", case.name);
}

#[test]
fn unit_compiler_takes_kubearmors_policies_as_people_write_them() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../messages/policy/fixtures/kubearmor");
    let mut policies = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let file = PolicyFile::parse(&path.display().to_string(), &fs::read(&path).unwrap());
        for policy in &file.policies {
            let rules = WorkloadRules { rules: policy.rules.clone(), ..WorkloadRules::default() };
            compile(&rules).unwrap_or_else(|error| panic!("{}: {error}", policy.reference));
        }
        policies += file.policies.len();
    }
    assert!(policies >= 34, "{policies}");
}

#[test]
fn unit_compiled_policies_decide_what_kubearmors_users_expect() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/kubearmor");
    let (mut policies, mut cases) = (0, 0);
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let test = PolicyTest::parse(&path.display().to_string(), &fs::read(&path).unwrap())
            .unwrap_or_else(|diagnostics| panic!("{}", diagnostics[0]));
        let Expectation::Cases(stated) = &test.expectation else { panic!("{}: no cases", path.display()) };
        let compiled = compiled(&test);
        for case in stated {
            assert_holds(&format!("{}:{}", path.display(), case.at.line), case, &compiled[&case.workload]);
        }
        policies += test.policies.len();
        cases += stated.len();
    }
    assert!(policies >= 31 && cases >= 153, "{policies} policies, {cases} cases");
}
