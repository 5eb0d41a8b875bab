//! `palisade policy validate` and `palisade policy test` as a shell sees them: output and exit status.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use serde_json::Value;

const TEST: &str = r#"
apiVersion: palisade.dev/v1alpha1
kind: PolicyTest
name: the shadow file is not read
workloads: [{ name: web, namespace: shop, labels: { app: web } }]
policies: [policies/shadow.yaml]
"#;

const SHADOW: &str = r#"
apiVersion: security.kubearmor.com/v1
kind: KubeArmorPolicy
metadata: { name: no-shadow, namespace: shop }
spec:
  selector: { matchLabels: { app: web } }
  severity: 7
  file: { matchPaths: [{ path: /etc/shadow }] }
"#;

fn palisade(arguments: &[&str], files: &[&Path]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_palisade")).args(arguments).args(files).output().unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// A folder with `test.yaml`, made of [`TEST`] and `rest`, and the policy that it names.
fn folder(rest: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("policies")).unwrap();
    fs::write(folder.path().join("policies/shadow.yaml"), SHADOW).unwrap();
    fs::write(folder.path().join("test.yaml"), format!("{TEST}{rest}")).unwrap();
    folder
}

const READ: &str = "cases:\n- { name: it is blocked, workload: web, open: { path: /etc/shadow }, expect: { action: Block, policy: no-shadow } }\n";

#[test]
fn host_policy_test_exits_with_0_where_all_cases_hold() {
    let folder = folder(READ);
    let output = palisade(&["policy", "test"], &[&folder.path().join("test.yaml")]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert!(text(&output).ends_with("1 cases hold, 0 do not, 0 cannot be run\n"), "{}", text(&output));
}

#[test]
fn host_policy_test_exits_with_1_and_says_what_it_expected_and_which_rule_decided() {
    let folder = folder(&READ.replace("action: Block", "action: Allow, severity: 3"));
    let test = folder.path().join("test.yaml");
    let output = palisade(&["policy", "test"], &[&test]);
    assert_eq!(output.status.code(), Some(1));
    let shown = text(&output);
    for line in [
        "action: expected Allow, was Block",
        "severity: expected 3, was 7",
        "decided by KubeArmorPolicy/shop/no-shadow file.matchPaths[0] (Block)",
    ] {
        assert!(shown.contains(line), "{shown}");
    }
    let output = palisade(&["policy", "test", "--output", "json"], &[&test]);
    assert_eq!(output.status.code(), Some(1));
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    let difference = &json["cases"][0]["differences"][0];
    assert_eq!(difference["field"], "action", "{json}");
    assert_eq!((&difference["expected"], &difference["actual"]), (&"Allow".into(), &"Block".into()));
}

#[test]
fn host_policy_test_exits_with_2_where_a_test_or_a_policy_cannot_be_read() {
    let folder = folder(&READ.replace("open:", "dns: { name: x }, open:"));
    let test = folder.path().join("test.yaml");
    let refused = palisade(&["policy", "test"], &[&test]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(
        text(&refused).contains("test.yaml:8:41: unsupported in this version: `cases[0].dns`"),
        "{}",
        text(&refused)
    );
    fs::write(&test, format!("{TEST}{READ}")).unwrap();
    fs::write(folder.path().join("policies/shadow.yaml"), SHADOW.replace("severity: 7", "severity: 70")).unwrap();
    let broken = palisade(&["policy", "test"], &[&test]);
    assert_eq!(broken.status.code(), Some(2));
    let place = format!("{}:7:13: `spec.severity` is `70`", folder.path().join("policies/shadow.yaml").display());
    assert!(text(&broken).contains(&place), "{}", text(&broken));
    fs::remove_file(folder.path().join("policies/shadow.yaml")).unwrap();
    assert_eq!(palisade(&["policy", "test"], &[&test]).status.code(), Some(2));
    assert_eq!(palisade(&["policy", "test"], &[&folder.path().join("absent.yaml")]).status.code(), Some(2));
}

#[test]
fn host_policy_test_holds_a_refusal_to_its_message() {
    for (message, status) in [("`spec.severity` is `70`", 0), ("something else", 1)] {
        let folder = folder(&format!("expect: {{ invalid: \"{message}\" }}\n"));
        fs::write(folder.path().join("policies/shadow.yaml"), SHADOW.replace("severity: 7", "severity: 70")).unwrap();
        let output = palisade(&["policy", "test"], &[&folder.path().join("test.yaml")]);
        assert_eq!(output.status.code(), Some(status), "{}", text(&output));
    }
    let accepted = folder("expect: { invalid: anything }\n");
    let output = palisade(&["policy", "test"], &[&accepted.path().join("test.yaml")]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output).contains("was the policies are accepted"), "{}", text(&output));
}

#[test]
fn host_policy_validate_exits_with_0_1_or_2() {
    let folder = folder(READ);
    let policies = folder.path().join("policies");
    let good = palisade(&["policy", "validate", "--output", "json"], &[&policies]);
    assert_eq!(good.status.code(), Some(0));
    let json: Value = serde_json::from_slice(&good.stdout).unwrap();
    assert_eq!((&json["valid"], &json["policies"][0]), (&true.into(), &"KubeArmorPolicy/shop/no-shadow".into()));
    fs::write(policies.join("broken.yaml"), SHADOW.replace("matchPaths", "matchPath")).unwrap();
    let broken = palisade(&["policy", "validate"], &[&policies]);
    assert_eq!(broken.status.code(), Some(1));
    assert!(text(&broken).contains("did you mean `matchPaths`?"), "{}", text(&broken));
    let absent = palisade(&["policy", "validate"], &[&folder.path().join("absent")]);
    assert_eq!(absent.status.code(), Some(2));
}

#[test]
fn host_policy_validate_refuses_what_a_node_could_not_compile_and_names_the_patterns() {
    let folder = tempfile::tempdir().unwrap();
    let patterns: Vec<String> = (0..200).map(|n| format!("{{ pattern: \"/**/x{n}/**/y{n}\" }}")).collect();
    let policy =
        SHADOW.replace("matchPaths: [{ path: /etc/shadow }]", &format!("matchPatterns: [{}]", patterns.join(", ")));
    let file = folder.path().join("blow-up.yaml");
    fs::write(&file, policy).unwrap();
    let output = palisade(&["policy", "validate"], &[&file]);
    assert_eq!(output.status.code(), Some(1));
    let shown = text(&output);
    let place = format!("{}:2:1: `KubeArmorPolicy/shop/no-shadow` cannot be compiled, ", file.display());
    assert!(
        shown.starts_with(&place) && shown.contains("the rules that cost most") && shown.contains("/**/x"),
        "{shown}"
    );
}

#[test]
fn host_policy_commands_do_not_read_without_end() {
    for command in ["validate", "test"] {
        let output = palisade(&["policy", command], &[Path::new("/dev/zero")]);
        assert_eq!(output.status.code(), Some(2), "{command}");
        let said = format!("{}{}", text(&output), String::from_utf8_lossy(&output.stderr));
        assert!(said.contains("more than 4194304 bytes"), "{said}");
    }
}
