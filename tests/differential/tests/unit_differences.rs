//! The list of differences is the only one: what names a test names one that is there, and the tables beside what lowers to profiles and to
//! constraints are made of it.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::{fs, path::Path};

use palisade_differential::Differences;

/// Set, it writes the table anew.
const WRITE: &str = "PALISADE_WRITE_DIFFERENCES";
/// Backends with a list beside what lowers policies to them: the folder, and their name for people.
const BESIDE: [(&str, &str, &str); 2] =
    [("apparmor", "messages/apparmor", "AppArmor"), ("selinux", "messages/selinux", "SELinux")];

fn head(name: &str) -> String {
    format!(
        "# Where {name} decides otherwise than the walker of a blob

Made of `tests/differential/differences.yaml`, the one list of such differences, by
`PALISADE_WRITE_DIFFERENCES=1 cargo test -p palisade-differential --test unit_differences`: edit that.

| what | {name} | because |
|---|---|---|
"
    )
}

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

#[test]
fn unit_differences_of_apparmor_and_selinux_are_told_beside_what_lowers_to_them_as_the_list_has_them() {
    for (backend, folder, name) in BESIDE {
        let file = root().join(folder).join("differences.md");
        let wanted = head(name) + &Differences::declared().unwrap().table(backend);
        if std::env::var_os(WRITE).is_some() {
            fs::write(&file, &wanted).unwrap();
        }
        assert_eq!(fs::read_to_string(&file).unwrap(), wanted, "{WRITE}=1 writes it");
    }
}

fn sources(folder: &Path, text: &mut String) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, text);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            *text += &fs::read_to_string(path).unwrap();
        }
    }
}

#[test]
fn unit_differences_that_no_case_meets_name_a_test_that_is_there() {
    let mut text = String::new();
    sources(&root().join("tests/vm/src"), &mut text);
    let list = Differences::declared().unwrap();
    let tests: Vec<&String> = list.apart.iter().filter_map(|entry| entry.shown_by.as_ref()).collect();
    assert!(!tests.is_empty());
    for test in tests {
        assert!(text.contains(&format!("\"{test}\"")), "{test} is no test of the VM ring");
    }
}
