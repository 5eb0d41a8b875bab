//! Ten thousand policies for one workload: from their text to a blob, or to a refusal with numbers. `examples/crowd_cost.rs` measures it.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use palisade_domain::{Workload, WorkloadKind};
use palisade_policy::{MAX_DOCUMENT_BYTES, PolicyFile, PolicySet, Severity, ir::Postures, policy_test::Act};
use palisade_policy_compiler::{CompileError, automaton::AutomatonLimits, compile, decide, state::Bounds};

const POLICIES: usize = 10_000;
/// Documents of one file; a file takes 4,096.
const IN_A_FILE: usize = 1_000;

fn workload() -> Workload {
    Workload {
        kind: WorkloadKind::Container,
        name: "pod".into(),
        namespace: "default".into(),
        container: "main".into(),
        container_id: None,
        image: String::new(),
        labels: BTreeMap::from([("app".into(), "web".into())]),
    }
}

fn files(items: impl Fn(usize) -> String) -> Vec<PolicyFile> {
    let document = |number: usize| {
        format!(
            "---\napiVersion: security.kubearmor.com/v1\nkind: KubeArmorPolicy\nmetadata: {{name: p{number}}}\nspec:\n  selector: \
             {{matchLabels: {{app: web}}}}\n  {}\n",
            items(number)
        )
    };
    let file = |start: usize| {
        let text: String = (start..start + IN_A_FILE).map(document).collect();
        PolicyFile::parse(&format!("{start}.yaml"), text.as_bytes())
    };
    (0..POLICIES).step_by(IN_A_FILE).map(file).collect()
}

#[test]
fn unit_ten_thousand_policies_for_one_workload_compile_and_each_of_them_decides() {
    let files =
        files(|number| format!("process: {{matchPaths: [{{path: /opt/app-{}/bin/tool-{number}}}]}}", number % 97));
    assert!(files.iter().all(PolicyFile::is_sound));
    let (set, duplicates) = PolicySet::assemble(&files);
    assert_eq!((set.len(), duplicates.len()), (POLICIES, 0));
    let rules = set.rules_for(&workload(), &BTreeMap::new(), Postures::default());
    assert_eq!(rules.rules.len(), POLICIES);
    let policy = compile(&rules, &Bounds::default().automaton, &mut || false).unwrap();
    for number in [0, 1, 4_999, 9_999] {
        let act = Act::parse("act", &format!("exec: {{path: /opt/app-{}/bin/tool-{number}}}", number % 97)).unwrap();
        let rule = decide(&policy, &act).rule.unwrap();
        assert_eq!(policy.rules[rule as usize].policy.name, format!("p{number}"));
    }
}

#[test]
fn unit_ten_thousand_policies_that_are_too_much_for_one_workload_are_refused_with_the_numbers() {
    let files = files(|number| format!("file: {{matchPatterns: [{{pattern: \"/**/a{number}*/**/b{number}*\"}}]}}"));
    let (set, _) = PolicySet::assemble(&files);
    let rules = set.rules_for(&workload(), &BTreeMap::new(), Postures::default());
    let refused = compile(&rules, &AutomatonLimits::default(), &mut || false).unwrap_err();
    let CompileError::TooLarge { worst, .. } = &refused else { panic!("{refused}") };
    assert!(!worst.is_empty() && refused.to_string().bytes().any(|byte| byte.is_ascii_digit()), "{refused}");
}

#[test]
fn unit_policy_of_a_megabyte_is_read_and_one_of_more_is_refused_with_the_number() {
    let start = "apiVersion: security.kubearmor.com/v1\nkind: KubeArmorPolicy\nmetadata: {name: p}\nspec:\n  selector: {}\n  process:\n    matchPaths:\n";
    let item = |number: usize| format!("    - path: /opt/{number:0>92}\n");
    let count = (MAX_DOCUMENT_BYTES - start.len()) / item(0).len();
    let text: String = std::iter::once(start.to_owned()).chain((0..count).map(item)).collect();
    let file = PolicyFile::parse("f.yaml", text.as_bytes());
    assert!(file.is_sound(), "{:?}", file.diagnostics.first());
    assert_eq!(file.policies[0].rules.len(), count);
    assert!(count > 9_000, "{count}");
    let more = PolicyFile::parse("f.yaml", (text + &item(0)).as_bytes());
    assert_eq!(more.diagnostics[0].severity, Severity::Error);
    assert!(more.diagnostics[0].to_string().contains("1048576"), "{}", more.diagnostics[0]);
}
