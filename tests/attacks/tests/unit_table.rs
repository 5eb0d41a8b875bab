//! The table has every class, a reason for whatever goes through, and names no test that is not there.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::{collections::BTreeSet, fs, path::Path};

use palisade_attacks::{
    rows::{ATTACKS, CLASSES, ELSEWHERE, UNTRIED},
    table::Column,
};

const COLUMNS: [Column; 5] = [Column::BpfLsm, Column::FmodRet, Column::Profile, Column::SeLinux, Column::Fanotify];

#[test]
fn unit_attacks_of_every_class_are_tried_by_somebody() {
    let numbers: Vec<u8> = CLASSES.iter().map(|(number, _)| *number).collect();
    assert_eq!(numbers, (1..=34).collect::<Vec<u8>>());
    let tried: BTreeSet<u8> =
        ATTACKS.iter().map(|attack| attack.number.0).chain(ELSEWHERE.iter().map(|other| other.class)).collect();
    assert_eq!(tried, numbers.iter().copied().collect());
    assert!(UNTRIED.iter().all(|untried| tried.contains(&untried.class) && !untried.reason.is_empty()));
}

#[test]
fn unit_attacks_are_numbered_once_and_in_order() {
    let numbers: Vec<(u8, u8)> = ATTACKS.iter().map(|attack| attack.number).collect();
    let mut sorted = numbers.clone();
    sorted.sort_unstable();
    sorted.dedup();
    assert_eq!(numbers, sorted);
    for (class, _) in CLASSES {
        let of_class: Vec<u8> = numbers.iter().filter(|(of, _)| *of == class).map(|(_, variant)| *variant).collect();
        assert!(of_class.iter().copied().eq(1..=of_class.len() as u8), "{class}: {of_class:?}");
    }
}

#[test]
fn unit_attacks_that_go_through_have_a_reason_in_every_column() {
    for attack in ATTACKS {
        for column in COLUMNS {
            let verdict = attack.verdict(column);
            assert!(verdict.reason().is_none_or(|reason| reason.len() > 20), "{}: {column}", attack.name());
            assert!(!verdict.name().is_empty());
        }
    }
}

/// The policies compile, so that a guest finds no fault in them first.
#[test]
fn unit_attacks_are_tried_under_policies_that_compile() {
    for attack in ATTACKS {
        assert!(attack.policy.compiled().is_ok(), "{:?}", attack.policy.compiled().err());
    }
}

#[test]
fn unit_attacks_that_others_try_are_tests_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut text = String::new();
    for top in ["actors", "messages", "runtime", "tests"] {
        read_sources(&root.join(top), &mut text);
    }
    for test in ELSEWHERE.iter().flat_map(|other| other.tests) {
        let is_function = text.contains(&format!("fn {test}()"));
        let is_trial = text.contains(&format!("Trial::test(\"{test}\""));
        assert!(is_function || is_trial, "{test}");
    }
}

const GUIDE: &str = "../../deploy/attacks.md";

/// What users read is what is tried. `PALISADE_ATTACKS_WRITE=1` writes it anew.
#[test]
fn unit_attacks_are_told_to_users_as_they_are_tried() {
    let guide = Path::new(env!("CARGO_MANIFEST_DIR")).join(GUIDE);
    let text = fs::read_to_string(&guide).unwrap();
    let (head, _) = text.split_once("\n| attack |").unwrap();
    let whole = format!("{head}\n{}", table());
    if std::env::var_os("PALISADE_ATTACKS_WRITE").is_some() {
        fs::write(&guide, &whole).unwrap();
    }
    assert!(fs::read_to_string(guide).unwrap() == whole, "PALISADE_ATTACKS_WRITE=1 writes it anew");
}

fn table() -> String {
    let mut lines = vec![
        "| attack | BPF LSM, fmod_ret | AppArmor, beside fanotify | SELinux, beside fanotify | fanotify |".to_owned(),
        "|---|---|---|---|---|".to_owned(),
    ];
    for (class, title) in CLASSES {
        lines.push(format!("| **{class} {title}** | | | | |"));
        for attack in ATTACKS.iter().filter(|attack| attack.number.0 == class) {
            let cell = |column| {
                let verdict = attack.verdict(column);
                verdict.reason().map_or(verdict.name().to_owned(), |reason| format!("{}: {reason}", verdict.name()))
            };
            let cells = [Column::BpfLsm, Column::Profile, Column::SeLinux, Column::Fanotify].map(cell);
            lines.push(format!("| {} | {} |", attack.name(), cells.join(" | ")));
        }
        for other in ELSEWHERE.iter().filter(|other| other.class == class) {
            lines.push(format!("| {}: `{}` | | | | |", other.what, other.tests.join("`, `")));
        }
        for untried in UNTRIED.iter().filter(|untried| untried.class == class) {
            lines.push(format!("| {}: not tried, {} | | | | |", untried.what, untried.reason));
        }
    }
    lines.join("\n") + "\n"
}

fn read_sources(folder: &Path, text: &mut String) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read_sources(&path, text);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text.push_str(&fs::read_to_string(&path).unwrap());
        }
    }
}
