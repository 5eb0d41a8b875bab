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
    let folder = folder(&READ.replace("open:", "opens: { name: x }, open:"));
    let test = folder.path().join("test.yaml");
    let refused = palisade(&["policy", "test"], &[&test]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(text(&refused).contains("test.yaml:8:41: unknown field `opens`"), "{}", text(&refused));
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

const EVERYTHING: &str = r#"
apiVersion: v1
kind: Namespace
metadata: { name: shop, annotations: { kubearmor-capabilities-posture: block } }
---
apiVersion: security.kubearmor.com/v1
kind: KubeArmorPolicy
metadata: { name: everything, namespace: shop }
spec:
  selector: { matchLabels: { app: web } }
  process:
    matchPaths:
    - { path: /bin/ls, allowedArgs: [-l, -a] }
    - { path: /bin/sh, pts: false }
    - { execname: curl, fromSource: [{ path: /bin/bash }] }
    matchDirectories: [{ dir: /usr/bin/, recursive: true, action: Allow }]
  network: { matchDNSQueries: [{ domain: example.com }] }
  capabilities: { matchCapabilities: [{ capability: net_raw, fromSource: [{ path: /bin/ping }], action: Allow }] }
  syscalls:
    matchSyscalls: [{ syscall: [ptrace] }]
    matchPaths: [{ path: /etc/, recursive: true, syscall: [unlink], fromSource: [{ dir: /bin/ }] }]
  apparmor: |
    deny x,
  action: Block
---
apiVersion: security.kubearmor.com/v1
kind: KubeArmorClusterPolicy
metadata: { name: everywhere }
spec:
  selector: { matchExpressions: [{ key: namespace, operator: NotIn, values: [bank] }] }
  process: { matchPaths: [{ path: /bin/nc }] }
"#;

const CASES: &str = r#"
cases:
- { name: listed arguments, workload: web, exec: { path: /bin/ls, args: [ls, -l] }, expect: { action: Allow } }
- { name: other arguments, workload: web, exec: { path: /bin/ls, args: [ls, -R] }, expect: { action: Block, policy: everything } }
- { name: a terminal, workload: web, exec: { path: /bin/sh, tty: true }, expect: { action: Block, policy: everything } }
- { name: no terminal, workload: web, exec: { path: /bin/sh }, expect: { action: Allow } }
- { name: a name by a source, workload: web, exec: { path: /usr/bin/curl, source: /bin/bash }, expect: { action: Block } }
- { name: a cluster policy, workload: web, exec: { path: /bin/nc }, expect: { action: Block, policy: everywhere } }
- { name: a subdomain, workload: web, dns: { name: www.example.com }, expect: { action: Block, policy: everything } }
- { name: another domain, workload: web, dns: { name: example.org }, expect: { action: Allow } }
- { name: a capability by its source, workload: web, capability: { name: net_raw, source: /bin/ping }, expect: { action: Allow } }
- { name: a capability by another, workload: web, capability: { name: net_raw }, expect: { action: Block, policy: DefaultPosture } }
- { name: a system call, workload: web, syscall: { name: ptrace }, expect: { action: Audit, policy: everything } }
- { name: on a path, workload: web, syscall: { name: unlink, path: /etc/a/b, source: /bin/rm }, expect: { action: Audit } }
- { name: on another path, workload: web, syscall: { name: unlink, path: /tmp/a, source: /bin/rm }, expect: { action: Allow } }
"#;

/// The folder of [`folder`] with [`EVERYTHING`] as its policies.
fn everything() -> tempfile::TempDir {
    let folder = folder(CASES);
    fs::write(folder.path().join("policies/shadow.yaml"), EVERYTHING).unwrap();
    folder
}

#[test]
fn host_policy_test_decides_names_capabilities_arguments_terminals_and_system_calls() {
    let folder = everything();
    let output = palisade(&["policy", "test"], &[&folder.path().join("test.yaml")]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert!(text(&output).ends_with("13 cases hold, 0 do not, 0 cannot be run\n"), "{}", text(&output));
}

#[test]
fn host_policy_validate_says_what_nothing_holds_and_fails_by_it_only_where_asked_to() {
    let folder = everything();
    let policies = folder.path().join("policies");
    let output = palisade(&["policy", "validate", "--no-kernel"], &[&policies]);
    let said = text(&output);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("shadow.yaml:23:5: unenforceable: `apparmor`, "), "{said}");
    assert!(said.contains("unenforceable: `syscalls`, KubeArmor's syscalls family only audits"), "{said}");
    assert!(said.ends_with("2 policies in 1 files, 0 problems, 2 not held (this kernel was not asked)\n"), "{said}");
    let strict = palisade(&["policy", "validate", "--no-kernel", "--strict"], &[&policies]);
    assert_eq!(strict.status.code(), Some(1));
    let json = palisade(&["policy", "validate", "--no-kernel", "-o", "json"], &[&policies]);
    let json: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!((&json["valid"], &json["kernel"]), (&Value::Bool(true), &Value::Null));
    assert_eq!(json["diagnostics"][0]["severity"], "unenforceable");
}

#[test]
fn host_policy_validate_as_root_names_what_this_kernel_does_not_hold_as_its_matrix_does() {
    if !rustix::process::geteuid().is_root() {
        return eprintln!("skipped: only root can ask the kernel");
    }
    let folder = everything();
    let matrix = palisade(&["probe", "-o", "json"], &[]);
    let matrix: Value = serde_json::from_slice(&matrix.stdout).unwrap();
    let output = palisade(&["policy", "validate", "-o", "json"], &[&folder.path().join("policies")]);
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["kernel"], matrix["release"]);
    let families = matrix["families"].as_array().unwrap();
    let known: Vec<&str> = families.iter().filter_map(|row| row["family"].as_str()).collect();
    let not_held = json["notHeldByKernel"].as_array().unwrap();
    let whats: Vec<&str> = not_held.iter().filter_map(|part| part["what"].as_str()).collect();
    for (family, word) in [("capabilities", "capabilities"), ("dns", "matchDNSQueries"), ("syscalls", "syscalls")] {
        assert!(known.contains(&family) || whats.contains(&word), "{family} is in no tier and not said: {whats:?}");
    }
    let gaps = |family: &str| -> Vec<String> {
        let row = families.iter().find(|row| row["family"] == family);
        let gaps = row.and_then(|row| row["gaps"].as_array()).into_iter().flatten();
        gaps.filter_map(|gap| gap["what"].as_str().map(str::to_owned)).collect()
    };
    for word in ["allowedArgs", "pts"] {
        let is_gap = gaps("process").iter().any(|gap| gap == word);
        assert_eq!(whats.contains(&word), is_gap, "{word}: {whats:?}");
    }
}

#[test]
fn host_policy_explain_says_who_is_selected_what_decides_and_why_the_others_do_not() {
    let folder = everything();
    let policies = folder.path().join("policies");
    let act = ["-n", "shop", "-l", "app=web", "--exec", "/usr/bin/curl", "--source", "/bin/bash"];
    let output = palisade(&[&["policy", "explain", "--no-kernel"], &act[..]].concat(), &[&policies]);
    let said = text(&output);
    assert_eq!(output.status.code(), Some(0), "{said}");
    for line in [
        "For a workload of the namespace shop (app=web): 2 of 2 policies.",
        "  + KubeArmorPolicy/shop/everything: it is in the namespace shop; it has the label app=web",
        "  + KubeArmorClusterPolicy/everywhere: the namespace shop is none of bank",
        "Execution: an allow-list, by KubeArmorPolicy/shop/everything process.matchDirectories[0]: what no rule names is permitted, with an alert",
        "  Block execution of /bin/ls, unless with arguments that are all of \"-a\", \"-l\"",
        "The execution of /usr/bin/curl: blocked by KubeArmorPolicy/shop/everything process.matchPaths[2].",
        "      matches, but has no say: a directory of 9 bytes is less specific than a bare name, with a source; KubeArmorPolicy/shop/everything process.matchDirectories[0]",
        "  3 more rules of the family are about something else",
    ] {
        assert!(said.lines().any(|found| found == line), "{line}\nin\n{said}");
    }
    assert!(said.contains("capabilities and ptrace: block, by Namespace/shop ("), "{said}");
    let json = palisade(&[&["policy", "explain", "--no-kernel", "-o", "json"], &act[..]].concat(), &[&policies]);
    let json: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(json["answer"]["questions"][0]["action"], "Block");
    assert_eq!(json["answer"]["disagreement"], Value::Null);
    assert_eq!(json["policies"][0]["selects"], true);
}

#[test]
fn host_policy_explain_agrees_with_the_compiled_policy_on_every_act_of_a_test() {
    let folder = everything();
    let policies = folder.path().join("policies");
    for act in [
        &["--exec", "/bin/ls", "--argument", "-R"][..],
        &["--exec", "/bin/ls", "--argument", "-l"],
        &["--exec", "/bin/sh", "--tty"],
        &["--open", "/etc/shadow", "--write", "--uid", "1", "--owner", "2"],
        &["--connect", "[fd00::1]:443", "--protocol", "udp"],
        &["--ptrace", "/bin/sh"],
        &["--capability", "CAP_NET_RAW"],
        &["--dns", "www.example.com"],
        &["--syscall", "ptrace"],
        &["--socket", "inet6", "--type", "dgram", "--tty"],
        &["--socket", "16", "--type", "raw", "--protocol", "0"],
        &["--connect", "10.0.0.1:443", "--tty"],
        &["--preset", "filelessExec"],
        &["--preset", "exec"],
        &["--device", "8:6:80", "--level", "2"],
        &["--syscall", "unlink", "--path", "/etc/a", "--source", "/bin/rm"],
    ] {
        let output = palisade(
            &[&["policy", "explain", "--no-kernel", "-n", "shop", "-l", "app=web"], act].concat(),
            &[&policies],
        );
        assert_eq!(output.status.code(), Some(0), "{act:?}\n{}", text(&output));
    }
}

#[test]
fn host_policy_explain_says_which_rule_would_decide_of_a_device_and_that_all_its_interfaces_count() {
    let folder = everything();
    let policy = folder.path().join("device.yaml");
    let text_of = "apiVersion: security.kubearmor.com/v1\nkind: KubeArmorHostPolicy\nmetadata: {name: dev}\nspec:\n  nodeSelector: {matchLabels: \
                   {kubearmor.io/hostname: \"*\"}}\n  device: {matchDevice: [{class: MASS-STORAGE}]}\n";
    fs::write(&policy, text_of).unwrap();
    let output = palisade(&["policy", "explain", "--no-kernel", "--host", "--device", "8:6:80"], &[&policy]);
    let said = text(&output);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("at level 1: blocked by KubeArmorHostPolicy/dev device.matchDevice[0]."), "{said}");
    assert!(said.contains("the strictest answer of all its interfaces"), "{said}");
}

#[test]
fn host_policy_explain_leaves_a_file_with_a_refused_document_out_whole_as_a_node_does() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("two.yaml");
    fs::write(&file, format!("{SHADOW}---\n{}", SHADOW.replace("no-shadow", "Odd Name"))).unwrap();
    let act = ["policy", "explain", "--no-kernel", "-n", "shop", "-l", "app=web", "--open", "/etc/shadow"];
    let output = palisade(&act, &[&file]);
    let said = text(&output);
    assert!(said.contains("For a workload of the namespace shop (app=web): 0 of 0 policies."), "{said}");
    assert!(said.contains("two.yaml is left out whole"), "{said}");
    assert!(said.contains("The opening of /etc/shadow for reading: permitted"), "{said}");
    fs::write(&file, SHADOW).unwrap();
    assert!(text(&palisade(&act, &[&file])).contains("for reading: blocked by KubeArmorPolicy/shop/no-shadow"));
}

#[test]
fn host_policy_commands_wait_for_no_pipe_and_name_what_of_a_directory_cannot_be_read() {
    let folder = everything();
    let pipe = folder.path().join("pipe.yaml");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0).unwrap();
    for command in ["validate", "test"] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_palisade"));
        let output = child.args(["policy", command]).arg(&pipe).output().unwrap();
        let said = text(&output) + &String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains("it is a pipe that nobody writes to"), "{said}");
    }
    let policies = folder.path().join("policies");
    std::os::unix::fs::symlink("nowhere", policies.join("dangling.yaml")).unwrap();
    std::os::unix::fs::symlink("/dev/zero", policies.join("endless.yaml")).unwrap();
    let output = palisade(&["policy", "validate", "--no-kernel"], &[&policies]);
    let said = text(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    for line in [
        "dangling.yaml:1:1: the file cannot be read, No such file",
        "endless.yaml:1:1: the file cannot be read, it is no regular",
    ] {
        assert!(said.contains(line), "{said}");
    }
    let explained = palisade(&["policy", "explain", "--no-kernel"], &[&policies]);
    assert!(text(&explained).contains("! left out, for it is refused: "), "{}", text(&explained));
}

#[test]
fn host_policy_commands_print_no_controls_of_a_terminal_whatever_files_names_and_messages_hold() {
    let folder = everything();
    let hostile = folder.path().join("x\u{1b}[31mred\nnext.yaml");
    fs::write(&hostile, SHADOW.replace("action", "acton").replace("severity: 7", "severity: 70")).unwrap();
    let again = folder.path().join("y\u{1b}[2J.yaml");
    fs::write(&again, SHADOW).unwrap();
    let copy = folder.path().join("z\u{1b}[2J.yaml");
    fs::copy(&again, &copy).unwrap();
    let test = folder.path().join("hostile.yaml");
    let case = "cases:\n- {name: \"c\\e[31m\\nline\", workload: web, exec: {path: \"/a\\e[31m\"}, expect: {action: Block, message: \"q\\e[35m\", policy: \"z\\e\"}}\n";
    fs::write(&test, format!("{TEST}{case}")).unwrap();
    let missing = folder.path().join("gone\u{1b}[31m");
    let lines = folder.path().join("lines.yaml");
    fs::write(&lines, SHADOW.replace("path: /etc/shadow", "path: \"/a\\nline\"")).unwrap();
    for (command, files) in [
        (&["policy", "validate", "--no-kernel"][..], &[&hostile, &again, &copy][..]),
        (&["policy", "validate"], &[&again]),
        (&["policy", "explain", "--no-kernel"], &[&hostile, &again, &copy]),
        (&["policy", "explain", "--no-kernel", "-l", "a=\u{1b}[31m", "--name", "\u{1b}"], &[&again]),
        (&["policy", "explain", "--no-kernel", "-n", "shop", "-l", "app=web", "--open", "/b\nline"], &[&lines]),
        (&["policy", "explain", "--no-kernel", "-l", "a=\nline"], &[&lines]),
        (&["policy", "test"], &[&test, &hostile]),
        (&["policy", "validate", "-o", "json", "--no-kernel"], &[&hostile]),
        (&["policy", "validate", "-o", "yaml", "--no-kernel"], &[&hostile]),
        (&["policy", "validate"], &[&missing]),
        (&["policy", "explain"], &[&missing]),
        (&["policy", "test"], &[&missing]),
    ] {
        let files: Vec<&Path> = files.iter().map(|file| file.as_path()).collect();
        let output = palisade(command, &files);
        for said in [&output.stdout, &output.stderr] {
            assert!(!said.contains(&0x1b), "{command:?}: {}", String::from_utf8_lossy(said).escape_debug());
        }
        assert!(!text(&output).lines().any(|line| line.starts_with("next.yaml") || line == "line"), "{command:?}");
    }
}

#[test]
fn host_policy_validate_reads_standard_input_where_it_is_asked_to() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_palisade"))
        .args(["policy", "validate", "--no-kernel", "-"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    // In two parts: the pipe is not read as ended while its writer lives.
    std::io::Write::write_all(&mut input, &SHADOW.as_bytes()[..40]).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(200));
    std::io::Write::write_all(&mut input, &SHADOW.as_bytes()[40..]).unwrap();
    drop(input);
    let output = child.wait_with_output().unwrap();
    assert!(text(&output).starts_with("1 policies in 1 files, 0 problems"), "{}", text(&output));
}

#[test]
fn host_policy_explain_exits_with_64_for_no_act_and_2_for_no_file() {
    let folder = everything();
    let policies = folder.path().join("policies");
    let relative = palisade(&["policy", "explain", "--no-kernel", "--exec", "sleep"], &[&policies]);
    assert_eq!(relative.status.code(), Some(64));
    assert!(String::from_utf8(relative.stderr).unwrap().contains("a path is absolute"));
    // Two acts, and what says nothing about the act that it stands beside.
    for odd in [
        &["--exec", "/a", "--open", "/a"][..],
        &["--dns", "a.b", "--tty"],
        &["--connect", "10.0.0.1:1", "--uid", "5"],
        &["--preset", "exec", "--source", "/a"],
        &["--exec", "/a", "--protocol", "tcp"],
        &["--connect", "10.0.0.1:1", "--type", "stream"],
        &["--exec", "/a", "--write"],
        &["--open", "/a", "--argument", "x"],
        &["--exec", "/a", "--path", "/b"],
        &["--syscall", "open", "--level", "2"],
        &["--tty"],
    ] {
        let output = palisade(&[&["policy", "explain", "--no-kernel"], odd].concat(), &[&policies]);
        assert_eq!(output.status.code(), Some(64), "{odd:?}");
    }
    let absent = palisade(&["policy", "explain", "--no-kernel"], &[&folder.path().join("absent")]);
    assert_eq!(absent.status.code(), Some(2));
}

#[test]
fn host_policy_test_holds_the_example_policies_to_what_they_say() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/policy-tests/examples.yaml");
    let output = palisade(&["policy", "test"], &[&file]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert!(text(&output).ends_with("7 cases hold, 0 do not, 0 cannot be run\n"), "{}", text(&output));
}

#[test]
fn host_policy_test_prints_a_test_in_its_help_that_can_be_run() {
    let help = text(&palisade(&["policy", "test", "--help"], &[]));
    let (_, example) = help.split_once("A policy test:\n").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let policy = SHADOW.replace("no-shadow", "deny-shadow").replace("namespace: shop", "namespace: default");
    fs::write(folder.path().join("deny-shadow.yaml"), policy).unwrap();
    let file = folder.path().join("test.yaml");
    fs::write(&file, example).unwrap();
    let output = palisade(&["policy", "test"], &[&file]);
    assert!(text(&output).ends_with("1 cases hold, 0 do not, 0 cannot be run\n"), "{}\n{example}", text(&output));
}
