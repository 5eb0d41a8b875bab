//! What the program prints of a seed that fails is what to type to see it fail again, no longer than it must be.
#![forbid(unsafe_code)]

use std::process::{Command, Output};

fn simulate(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_palisade-simulation")).args(arguments).output().expect("the program runs")
}

fn said(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("text")
}

/// The checker that a run fails by.
fn checker(text: &str) -> Option<&str> {
    let line = text.lines().find_map(|line| line.strip_prefix("FAILED: "))?;
    line.split_once(':').map(|(checker, _)| checker)
}

/// The arguments of the command that a failure prints.
fn again(text: &str) -> Vec<&str> {
    let line = text.lines().find_map(|line| line.strip_prefix("again by: ")).expect("a command");
    let at = line.find("--seed").expect("a seed");
    line[at..].split_whitespace().collect()
}

#[test]
fn unit_simulate_prints_a_command_that_fails_again_by_the_same_checker_and_the_shortest_prefix_that_does() {
    for (broken, checked_by) in [("admits-by-itself", "admission"), ("swallows-batches", "accounting")] {
        let asked = ["--seed", "2", "--nodes", "1", "--minutes", "0.2", "--faults", "none", "--broken", broken];
        let first = simulate(&asked);
        let first = (first.status.code(), said(&first));
        assert_eq!((first.0, checker(&first.1)), (Some(1), Some(checked_by)), "{}", first.1);
        let again = again(&first.1);
        let second = simulate(&again);
        let second = (second.status.code(), said(&second));
        assert_eq!((second.0, checker(&second.1)), (Some(1), Some(checked_by)), "{}", second.1);
        let prefix: u64 = again[again.len() - 3].parse().expect("milliseconds");
        assert_eq!(again[again.len() - 4], "--stop-at-ms");
        assert!(prefix < 12_000, "as long as the whole run: {prefix} ms");
        let shorter = (prefix - 201).to_string();
        let shorter: Vec<&str> =
            again.iter().map(|word| if *word == prefix.to_string() { &shorter } else { *word }).collect();
        let shorter_by = simulate(&shorter);
        assert_ne!(checker(&said(&shorter_by)), Some(checked_by), "a shorter prefix fails as well: {shorter:?}");
    }
}

#[test]
fn unit_simulate_says_which_states_a_seed_reached_and_fails_where_seeds_test_nothing() {
    let one = simulate(&["--seed", "2", "--nodes", "1", "--minutes", "0.2"]);
    let text = said(&one);
    assert_eq!(one.status.code(), Some(0), "{text}");
    assert!(text.contains("states were reached:") && text.contains("an act is denied"), "{text}");
    let nothing = simulate(&["--random", "2", "--nodes", "1", "--minutes", "0.2", "--stop-at-ms", "0"]);
    let text = said(&nothing);
    assert_eq!(nothing.status.code(), Some(1), "{text}");
    assert!(text.contains("it tested nothing, for it lacks: container runs"), "{text}");
    assert!(text.contains("FAILED: more than one of 200 seeds tested nothing"), "{text}");
}

#[test]
fn unit_simulate_fails_where_the_seeds_together_leave_a_state_out_that_all_must_reach() {
    let asked = ["--random", "2", "--nodes", "1", "--minutes", "0.1", "--faults", "crash", "--reach-all"];
    let output = simulate(&asked);
    let text = said(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("none reached: ") && text.contains("fault: power"), "{text}");
    assert_eq!(simulate(&asked[..asked.len() - 1]).status.code(), Some(0));
}
