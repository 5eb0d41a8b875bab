//! A seed is one run: it repeats, other seeds differ, and what fails is told with the shortest prefix that does.
#![forbid(unsafe_code)]

use std::time::Duration;

use palisade_simulation::{
    campaign::{Failure, shortest_prefix, twice},
    faults::Faults,
    run::{Request, run},
    world::mutation::Mutation,
};

fn request(seed: u64, faults: &str) -> Request {
    Request {
        seed,
        nodes: 2,
        length: Duration::from_secs(20),
        faults: faults.parse().expect("names of faults"),
        pace: None,
        stop_at: None,
        mutation: None,
        aloud: false,
    }
}

#[test]
fn unit_simulation_repeats_a_seed_with_every_fault_and_differs_by_seed_and_faults() {
    let verdict = twice(&request(3, "all"));
    assert_eq!(verdict.failure, None);
    let hash = verdict.outcome.journal.hash();
    assert_ne!(hash, run(&request(4, "all")).journal.hash());
    assert_ne!(hash, run(&request(3, "crash")).journal.hash());
}

#[test]
fn unit_simulation_reaches_what_each_fault_is_for() {
    for (fault, reached) in [
        ("crash", "process down"),
        ("power", "power lost"),
        ("disk", "lines refused"),
        ("kernel", "kernel refused"),
        ("loss", "record lost"),
        ("runtime", "admission refused"),
        ("panics", "panic injected"),
        ("network", "storm"),
        ("partition", "path cut"),
        ("certificates", "node refused"),
    ] {
        let reaches = |seed| run(&request(seed, fault)).journal.counts().contains_key(reached);
        assert!((1..=5).any(reaches), "{fault} never leads to: {reached}");
    }
}

#[test]
fn unit_simulation_finds_the_shortest_prefix_that_fails() {
    let broken = Request { mutation: Some(Mutation::AdmitsByItself), ..request(1, "none") };
    let verdict = twice(&broken);
    let Some(Failure::Violated(violation)) = verdict.failure else { panic!("it must fail") };
    let prefix = shortest_prefix(&broken, &violation);
    assert!(prefix < Duration::from_secs(8), "{prefix:?}");
    let fails = |stop_at| {
        let prefix = Request { stop_at: Some(stop_at), ..broken.clone() };
        run(&prefix).violations.iter().any(|found| found.checker == violation.checker)
    };
    assert!(fails(prefix));
    assert!(!fails(Duration::ZERO), "without workload nothing is admitted");
}

#[test]
fn unit_simulation_sees_a_run_that_tests_nothing() {
    let nothing = run(&Request { stop_at: Some(Duration::ZERO), ..request(1, "none") });
    let lacks = ["container runs", "policy installed", "act denied", "lines taken"];
    let untested = nothing.untested(&Faults::default());
    assert_eq!(untested, lacks.into_iter().filter(|lack| untested.contains(lack)).collect::<Vec<_>>());
    // The host acts from the first moment on.
    assert!(untested.contains(&"container runs"), "{untested:?}");
    assert!(nothing.untested(&Faults::all()).contains(&"a fault that took effect"));
    assert!(nothing.violations.is_empty(), "{:?}", nothing.violations);
    assert_eq!("all".parse(), Ok(Faults::all()));
}
