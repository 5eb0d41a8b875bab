//! The common fields: the nearest level that sets one wins, field by field.

use palisade_domain::Action;

use super::{KUBEARMOR, rules};

/// What the rule has after (spec, family, item) have set their parts.
fn inherited(spec: &str, family: &str, item: &str) -> (Option<u8>, Vec<String>, Option<String>, Action) {
    let text = format!("{KUBEARMOR}{spec}  process:\n{family}    matchPaths:\n    - path: /bin/a\n{item}");
    let rule = rules(&text).remove(0);
    (rule.severity, rule.tags.clone(), rule.message.clone(), rule.action)
}

fn level(indent: usize, severity: u8, word: &str, action: &str) -> String {
    let pad = " ".repeat(indent);
    format!("{pad}severity: {severity}\n{pad}tags: [{word}]\n{pad}message: {word}\n{pad}action: {action}\n")
}

#[test]
fn unit_common_fields_come_from_the_nearest_level_that_sets_them() {
    let (spec, family, item) =
        (level(2, 1, "spec", "Audit"), level(4, 2, "family", "Allow"), level(6, 3, "item", "Block"));
    let of = |severity, word: &str, action| (Some(severity), vec![word.to_owned()], Some(word.to_owned()), action);
    let unset = (None, vec![], None, Action::Block);
    let table = [
        ("", "", "", unset),
        (spec.as_str(), "", "", of(1, "spec", Action::Audit)),
        ("", family.as_str(), "", of(2, "family", Action::Allow)),
        ("", "", item.as_str(), of(3, "item", Action::Block)),
        (&spec, &family, "", of(2, "family", Action::Allow)),
        (&spec, "", &item, of(3, "item", Action::Block)),
        ("", &family, &item, of(3, "item", Action::Block)),
        (&spec, &family, &item, of(3, "item", Action::Block)),
    ];
    for (spec, family, item, expected) in table {
        assert_eq!(inherited(spec, family, item), expected, "spec {spec:?} family {family:?} item {item:?}");
    }
}

#[test]
fn unit_common_fields_are_inherited_one_by_one() {
    let mixed = inherited("  severity: 1\n  message: spec\n", "    tags: [family]\n", "      action: Audit\n");
    assert_eq!(mixed, (Some(1), vec!["family".to_owned()], Some("spec".to_owned()), Action::Audit));
}

#[test]
fn unit_common_fields_take_the_empty_value_for_unset() {
    let spec = level(2, 1, "spec", "Audit");
    let (_, tags, message, _) = inherited(&spec, "    tags: []\n    message: \"\"\n", "");
    assert_eq!((tags, message), (vec!["spec".to_owned()], Some("spec".to_owned())));
}

#[test]
fn unit_common_action_may_be_lower_case_in_the_spec_only() {
    for (written, action) in [("allow", Action::Allow), ("audit", Action::Audit), ("block", Action::Block)] {
        assert_eq!(inherited(&format!("  action: {written}\n"), "", "").3, action);
    }
    let family = super::messages(&format!("{KUBEARMOR}  process: {{action: allow, matchPaths: [{{path: /a}}]}}\n"));
    assert_eq!(family.len(), 1, "{family:?}");
}

#[test]
fn unit_common_severity_spans_one_to_ten() {
    for severity in 1..=10 {
        assert_eq!(inherited(&format!("  severity: {severity}\n"), "", "").0, Some(severity));
    }
}
