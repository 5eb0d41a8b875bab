//! What a replay prints depends on the trace alone: not on the locale, the time zone, the directory, the environment, the CPUs at hand, the
//! way in which the trace comes, or what a hasher was seeded with.
#![forbid(unsafe_code)]

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

const PALISADE: &str = env!("CARGO_BIN_EXE_palisade");
const NAMES: [&str; 5] = ["web", "database", "attack", "miner", "build"];

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/traces").join(name)
}

fn printed(command: &mut Command) -> String {
    let output = command.output().expect("it runs");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn host_replay_prints_the_golden_lines_whatever_the_machine_is_set_to() {
    let directory = tempfile::tempdir().expect("a directory");
    for name in NAMES {
        let trace = fixture(&format!("{name}.paltrace"));
        for form in ["alerts", "decisions"] {
            let golden = fs::read_to_string(fixture(&format!("{name}.{form}.jsonl"))).expect("golden");
            let command = || {
                let mut command = Command::new(PALISADE);
                command.args(["replay", "--output", form]);
                command
            };
            let zone = printed(command().arg(&trace).env("TZ", "Pacific/Kiritimati").current_dir("/"));
            assert_eq!(zone, golden, "{name}.{form}: another time zone");
            let locale = printed(command().arg(&trace).env("LC_ALL", "tr_TR.UTF-8").env("LANG", "de_DE.ISO-8859-1"));
            assert_eq!(locale, golden, "{name}.{form}: another locale");
            let bare = printed(command().arg(&trace).env_clear().current_dir(directory.path()));
            assert_eq!(bare, golden, "{name}.{form}: no environment");
            let one_cpu =
                printed(Command::new("taskset").args(["-c", "0", PALISADE, "replay", "-o", form]).arg(&trace));
            assert_eq!(one_cpu, golden, "{name}.{form}: one CPU");
            let copy = directory.path().join("a name of its own");
            fs::copy(&trace, &copy).expect("copied");
            assert_eq!(printed(command().arg(&copy)), golden, "{name}.{form}: another path");
            let piped = printed(command().arg("-").stdin(Stdio::from(File::open(&trace).expect("there"))));
            assert_eq!(piped, golden, "{name}.{form}: standard input");
        }
    }
}

#[test]
fn host_replay_of_a_time_prints_what_the_whole_prints_of_it() {
    let trace = fixture("miner.paltrace");
    let golden = fs::read_to_string(fixture("miner.decisions.jsonl")).expect("golden");
    let lines: Vec<&str> = golden.lines().collect();
    let time = |line: &str| -> String {
        let value: serde_json::Value = serde_json::from_str(line).expect("JSON");
        value["time"].as_str().expect("a time").to_owned()
    };
    let (from, until) = (time(lines[3]), time(lines[9]));
    let part = printed(Command::new(PALISADE).args(["replay", "-o", "decisions", "--from", &from]).arg(&trace));
    // Rings of several CPUs are told one after the other: lines are not all in the order of their times.
    let of = |is_of: &dyn Fn(&str) -> bool| lines.iter().copied().filter(|line| is_of(&time(line))).collect::<Vec<_>>();
    assert_eq!(part.lines().collect::<Vec<_>>(), of(&|at| at >= from.as_str()));
    // Times are printed to the microsecond, and records have nanoseconds: the last one is just behind.
    let part = printed(
        Command::new(PALISADE).args(["replay", "-o", "decisions", "--from", &from, "--until", &until]).arg(&trace),
    );
    let expected = of(&|at| at >= from.as_str() && at < until.as_str());
    assert!(expected.len() > 3 && expected.len() < lines.len() - 3);
    assert_eq!(part.lines().collect::<Vec<_>>(), expected);
    let backwards = Command::new(PALISADE).args(["replay", "--from", "2s", "--until", "1s"]).arg(&trace).output();
    assert!(!backwards.expect("it runs").status.success());
}
