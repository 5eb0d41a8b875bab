use std::collections::BTreeMap;

use palisade_domain::{Action, Workload, WorkloadKind};

use crate::{PolicySet, ir::*};

fn web() -> Workload {
    Workload {
        kind: WorkloadKind::Container,
        name: "web".into(),
        namespace: "shop".into(),
        container: "main".into(),
        container_id: None,
        image: "nginx:1".into(),
        labels: BTreeMap::from([("app".to_owned(), "web".to_owned())]),
    }
}

#[test]
fn unit_policy_set_gives_a_workload_its_complete_rules() {
    let text = br#"
apiVersion: security.kubearmor.com/v1
kind: KubeArmorPolicy
metadata: { name: no-sleep, namespace: shop }
spec:
  severity: 5
  tags: [A]
  selector: { matchLabels: { app: web } }
  process:
    message: no
    matchPaths:
    - path: /bin/sleep
      fromSource: [ { path: /bin/bash } ]
    - execname: date
      action: Audit
  action: Block
"#;
    let set = PolicySet::parse([("a.yaml", text.as_slice())]).expect("good");
    let rules = set.rules_for(&web(), &BTreeMap::new(), Postures::default()).rules;
    assert_eq!(rules.len(), 2);
    assert_eq!(rules[0].place, "process.matchPaths[0]");
    assert_eq!(rules[0].action, Action::Block);
    assert_eq!(rules[1].action, Action::Audit);
}
