//! `palisade config`, `completion` and `man`, and how failures name what to type next, as a shell sees them.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use serde_json::Value;

fn palisade(words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_palisade"))
        .env_remove("PALISADE_CONFIG")
        .env_remove("PALISADE_ADMIN_SOCKET")
        .env_remove("RUST_LOG")
        .args(words)
        .output()
        .unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// A file of this content, and its path.
fn file(content: &str) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.yaml");
    fs::write(&path, content).unwrap();
    let path = path.display().to_string();
    (folder, path)
}

#[test]
fn host_config_validate_exits_with_0_1_or_2_and_names_place_and_nearest_name() {
    let (_good, path) = file("maxWorkloads: 20\n");
    let output = palisade(&["config", "validate", &path]);
    assert_eq!((output.status.code(), out(&output).as_str()), (Some(0), "1 settings, 0 problems\n"));
    let (_bad, path) = file("# why\nmaxWorkload: 20\n");
    let output = palisade(&["config", "validate", &path]);
    assert_eq!(output.status.code(), Some(1));
    assert!(out(&output).contains(&format!("{path}:2:1: unknown field `maxWorkload`")), "{}", out(&output));
    assert!(out(&output).contains("did you mean `maxWorkloads`?"));
    let json: Value = serde_json::from_slice(&palisade(&["config", "validate", &path, "-o", "json"]).stdout).unwrap();
    assert_eq!((&json["valid"], &json["diagnostics"][0]["line"]), (&false.into(), &2.into()));
    let absent = palisade(&["config", "validate", "/no/such.yaml"]);
    assert_eq!(absent.status.code(), Some(2));
    assert!(err(&absent).contains("palisade config show"), "{}", err(&absent));
    assert_eq!(palisade(&["config", "validate", "/dev/zero"]).status.code(), Some(2), "read to no end");
}

#[test]
fn host_config_show_tells_where_each_value_comes_from() {
    let (_folder, path) = file("maxWorkloads: 20\nhostPolicy: true\npolicyDir: /file\n");
    let output = Command::new(env!("CARGO_BIN_EXE_palisade"))
        .env("PALISADE_POLICY_DIR", "/environment")
        .args(["--config", &path, "config", "show", "--host-policy=false", "--output", "json"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    let setting = |name: &str| (json["settings"][name]["value"].clone(), json["settings"][name]["from"].clone());
    assert_eq!(setting("maxWorkloads"), ("20".into(), "file".into()));
    assert_eq!(setting("hostPolicy"), ("false".into(), "flag".into()));
    assert_eq!(setting("policyDir"), ("/environment".into(), "environment".into()));
    assert_eq!(setting("onUnknownPath"), ("block".into(), "default".into()));
}

#[test]
fn host_node_does_not_start_with_a_broken_configuration_and_other_commands_say_so() {
    let (_folder, path) = file("adminSocket: /no/such.sock\nhostPolcy: true\n");
    let node = palisade(&["--config", &path, "node"]);
    assert_eq!(node.status.code(), Some(2));
    assert!(
        err(&node).contains("did you mean `hostPolicy`?") && err(&node).contains("palisade config validate"),
        "{}",
        err(&node)
    );
    let tree = palisade(&["--config", &path, "tree"]);
    assert_eq!(tree.status.code(), Some(1));
    assert!(
        err(&tree).contains("palisade config validate") && err(&tree).contains("/no/such.sock"),
        "what is sound is used: {}",
        err(&tree)
    );
    assert_eq!(
        palisade(&["--config", "/no/such.yaml", "node"]).status.code(),
        Some(2),
        "a file that somebody named must be there"
    );
    assert_eq!(palisade(&["--config", &path, "version"]).status.code(), Some(0));
}

#[test]
fn host_failures_name_the_next_command_to_type() {
    let cases: [(&[&str], i32, &str); 15] = [
        (&["logs", "--verdict", "blocked"], 64, "denied, killed, observed, unenforceable"),
        (&["logs", "--operation", "exec,opne"], 64, "did you mean `open`?"),
        (
            &["logs", "--operation", "file,dns*", "--verdict", "Denied", "--admin-socket", "/no/such"],
            1,
            "palisade node",
        ),
        (&["tree", "--admin-socket", "/no/such"], 1, "palisade node"),
        (&["tree", "--follow", "--admin-socket", "/no/such"], 1, "palisade node"),
        (&["logs", "--admin-socket", "/no/such"], 1, "palisade doctor"),
        (&["top", "--once", "--admin-socket", "/no/such"], 1, "palisade node"),
        (&["config", "validate", "/no/such"], 2, "palisade config show"),
        (&["policy", "validate", "/no/such"], 2, "name a policy file"),
        (&["policy", "test", "/no/such"], 2, "palisade policy test --help"),
        (&["node", "--pin-root", "/tmp"], 1, "--pin-root"),
        (&["man", "--directory", "/proc/no"], 1, "--directory"),
        (&["lgos"], 64, "logs"),
        (&["logs", "--severity", "11"], 64, "--help"),
        (&["logs", "--since", "yesterday"], 64, "90s, 5m, 2h or 1d"),
    ];
    for (words, status, next) in cases {
        let output = palisade(words);
        assert_eq!(output.status.code(), Some(status), "{words:?}: {}", err(&output));
        assert!(
            format!("{}{}", out(&output), err(&output)).contains(next),
            "{words:?}: {}{}",
            out(&output),
            err(&output)
        );
    }
}

#[test]
fn host_completion_is_understood_by_the_shells_that_are_here_and_man_by_man() {
    let folder = tempfile::tempdir().unwrap();
    let mut understood = Vec::new();
    for (shell, check) in [("bash", "-n"), ("zsh", "-n"), ("fish", "--no-execute")] {
        let script = palisade(&["completion", shell]);
        assert_eq!(script.status.code(), Some(0));
        let path = folder.path().join(shell);
        fs::write(&path, &script.stdout).unwrap();
        match Command::new(shell).arg(check).arg(&path).output() {
            Ok(checked) => {
                assert!(checked.status.success(), "{shell}: {}", err(&checked));
                understood.push(shell);
            }
            Err(_) => println!("{shell} is not installed: its completion is not parsed here"),
        }
    }
    assert!(understood.contains(&"bash"));
    // They complete, too.
    for shell in understood {
        let (words, completed) = completed(shell, &folder.path().join(shell));
        assert_eq!(out(&completed).trim(), words, "{shell}: {}", err(&completed));
    }
    let pages = folder.path().join("pages").display().to_string();
    assert_eq!(palisade(&["man", "--directory", &pages]).status.code(), Some(0));
    let shown = Command::new("man").args(["-l", &format!("{pages}/palisade-logs.1")]).env("MANWIDTH", "100").output();
    if let Ok(shown) = shown {
        assert!(out(&shown).contains("--severity"), "{}{}", out(&shown), err(&shown));
    }
}

/// What a shell makes of `palisade lo`, `palisade logs --sev` and `palisade policy val`, and what it is to be.
fn completed(shell: &str, script: &Path) -> (&'static str, Output) {
    let script = script.display();
    let (expected, words) = match shell {
        "bash" => (
            "logs\n--severity\nvalidate",
            format!(
                "source {script}; ask() {{ COMP_WORDS=(palisade \"$@\"); COMP_CWORD=$#; _palisade palisade \"${{@: -1}}\" \"${{@: -2:1}}\"; \
                 echo \"${{COMPREPLY[@]}}\"; }}; ask lo; ask logs --sev; ask policy val"
            ),
        ),
        "fish" => (
            "logs\n--severity\nvalidate",
            format!(
                "source {script}; for words in lo 'logs --sev' 'policy val'; \
                 complete --do-complete \"palisade $words\" | string split -f 1 \\t; end"
            ),
        ),
        // Only a line editor completes there: one on a terminal of its own, whose keys are pressed.
        _ => (
            "logs:\nlogs --severity:\npolicy validate:",
            format!(
                "zmodload zsh/zpty; zpty z 'TERM=dumb zsh -f -i'
                 zpty -w z \"PS1=; autoload -Uz compinit; compinit -u -D; source {script}; palisade() {{ print -r -- \\\"got:\\$*:\\\" }}; echo rea''dy\"
                 zpty -r z seen '*ready*'
                 for words in 'lo' 'logs --sev' 'policy val'; do
                   zpty -w -n z \"palisade $words\"$'\\t\\n'
                   zpty -r z seen '*got:*:*'
                   print -r -- \"${{${{seen##*got:}}%%:*}}:\"
                 done"
            ),
        ),
    };
    let no_startup_files = match shell {
        "bash" => "--norc",
        "fish" => "--no-config",
        _ => "-f",
    };
    (expected, Command::new("timeout").args(["60", shell, no_startup_files, "-c", &words]).output().unwrap())
}

#[test]
fn host_every_command_that_prints_json_prints_the_same_as_yaml_without_control_characters() {
    let (_folder, path) = file("hostLabels: { \"a\\e[2J\": \"b: c\" }\n");
    for words in [&["version"][..], &["config", "show"], &["config", "validate"]] {
        let with = |form: &str| out(&palisade(&[&["--config", &path][..], words, &["-o", form]].concat()));
        let (json, yaml) = (with("json"), with("yaml"));
        serde_json::from_str::<Value>(&json).unwrap_or_else(|error| panic!("{words:?}: {error}: {json}"));
        assert!(!yaml.is_empty() && !yaml.starts_with('{'), "{words:?}: {yaml}");
        for text in [json, yaml] {
            assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{words:?}: {text:?}");
        }
    }
}
