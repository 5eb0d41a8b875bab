//! The simulation: what virtual time costs, beside turmoil, which schedules and delivers for the same nodes in the same run.
//!
//! *Linked nodes* are production's links (QUIC, TLS, keys from the seed) in a full mesh, of which each sends each other one a message of
//! 200 bytes ten times a second (in the large cluster once). *Datagrams* are the same mesh without links: what is left is the scheduler and the network. *Whole nodes*
//! have production's tree of actors, a kernel, containers and policies beside, and checkers, and are asked of all nodes as by an admin (of a large cluster a few at a time); nothing else simulates those, so they stand
//! beside the same nodes without links, or beside the virtual time. A large cluster of them is linked as `palisade simulate` links one, a few links
//! a node, and is as busy in all as a small one; the row after it has each node as busy as one alone. A full mesh of the large cluster has no
//! budget: QUIC's own work for 4,950 connections is nearly all of it, and the rows before it say which; the cryptography of handshakes is its floor.

mod handshakes;
mod nodes;
mod ours;
mod theirs;

use std::{sync::Arc, time::Duration};

use palisade_link::crypto;
use palisade_simulation::{
    faults::Faults,
    random::Random,
    run::{LOOKED_AT, Request, run},
    world::links::SeededRng,
};

use crate::{
    Measured,
    stopwatch::time,
    table::{Row, Table, Unit},
};

/// Rounds of which the fastest counts.
const ROUNDS: u64 = 3;
/// Virtual time of small clusters.
const LENGTH: Duration = Duration::from_secs(20);
const FEW: usize = 4;
/// 4 linked nodes for 20 virtual seconds.
const FEW_BUDGET_MS: f64 = 100.0;
/// Virtual time of a large cluster, and its nodes.
const LARGE_LENGTH: Duration = Duration::from_secs(10);
/// Virtual time of workload of a large cluster of whole nodes.
const LARGE_WORKLOAD: Duration = Duration::from_secs(60);
const LARGE: usize = 100;
/// Between two messages of a node to each other one, in a small cluster and in a large one.
const OFTEN: Duration = Duration::from_millis(100);
const SELDOM: Duration = Duration::from_secs(1);
/// Ten times real time.
const LARGE_BUDGET: f64 = 0.1;

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// The fastest of some rounds, each of another seed.
fn fastest(mut round: impl FnMut(u64) -> Result<(), String>) -> Result<Duration, String> {
    let mut least = Duration::MAX;
    for seed in 1..=ROUNDS {
        let (done, took) = time(|| round(seed));
        done?;
        least = least.min(took);
    }
    Ok(least)
}

/// Milliseconds of real time for virtual time.
///
/// # Errors
/// Nodes of a simulation are not linked, or do not come to rest.
pub fn measure(table: &mut Table) -> Measured {
    let datagrams = fastest(|seed| ours::datagrams(seed, FEW, LENGTH))?;
    let baseline = fastest(|seed| theirs::datagrams(seed, FEW, LENGTH))?;
    table.add(Row {
        what: format!("{FEW} nodes x {} virtual s of datagrams", LENGTH.as_secs()),
        value: ms(datagrams),
        unit: Unit::Milliseconds,
        baseline: Some(("turmoil".to_owned(), ms(baseline))),
        budget: None,
    });
    let links = fastest(|seed| ours::links(seed, FEW, LENGTH, OFTEN))?;
    let baseline = fastest(|seed| theirs::links(seed, FEW, LENGTH, OFTEN))?;
    table.add(Row {
        what: format!("{FEW} linked nodes x {} virtual s", LENGTH.as_secs()),
        value: ms(links),
        unit: Unit::Milliseconds,
        baseline: Some(("turmoil".to_owned(), ms(baseline))),
        budget: Some(FEW_BUDGET_MS),
    });
    whole(table)
}

fn whole(table: &mut Table) -> Measured {
    let few = fastest(|seed| whole_nodes(seed, FEW, LENGTH, None).map(drop))?;
    let alone =
        fastest(|seed| (0..FEW as u64).try_for_each(|node| whole_nodes(seed + node, 1, LENGTH, None).map(drop)))?;
    table.add(Row {
        what: format!("{FEW} whole nodes, linked, each asked of all, x {} virtual s", LENGTH.as_secs()),
        value: ms(few),
        unit: Unit::Milliseconds,
        baseline: Some(("each alone".to_owned(), ms(alone))),
        budget: None,
    });
    let mesh = fastest(|seed| ours::links(seed, LARGE, LARGE_LENGTH, SELDOM))?;
    let silent = fastest(|seed| ours::silent_links(seed, LARGE, LARGE_LENGTH))?;
    let (handshakes, cryptography) = handshakes()?;
    for (what, took) in [
        (format!("of it: {handshakes} handshakes of TLS alone, both ends"), cryptography),
        ("of it: linking, and keeping silent links alive".to_owned(), silent),
        ("of it: messages, each node to each other one each s".to_owned(), mesh.saturating_sub(silent)),
    ] {
        table.add(Row {
            what,
            value: ms(took),
            unit: Unit::Milliseconds,
            baseline: Some(("all of it".to_owned(), ms(mesh))),
            budget: None,
        });
    }
    // One round is enough: each is long. It goes on until all nodes are at rest and have stopped.
    let (lasted, many) = time(|| whole_nodes(1, LARGE, LARGE_WORKLOAD, None));
    let (lasted_busy, busy) = time(|| whole_nodes(1, LARGE, LARGE_LENGTH, Some(1)));
    let asked = format!("whole nodes, linked, {LOOKED_AT} at a time asked of all");
    for (what, took, virtual_time, budget) in [
        ("linked nodes, all with all", mesh, LARGE_LENGTH, None),
        (asked.as_str(), many, lasted?, Some(LARGE_BUDGET)),
        ("of them, each as busy as one alone", busy, lasted_busy?, None),
    ] {
        table.add(Row {
            what: format!("{LARGE} {what}, x {} virtual s", virtual_time.as_secs()),
            value: ms(took),
            unit: Unit::Milliseconds,
            baseline: Some(("virtual time".to_owned(), ms(virtual_time))),
            budget: budget.map(|budget| ms(virtual_time) * budget),
        });
    }
    Ok(())
}

/// How many handshakes a full mesh of the large cluster has, and how long they take by themselves.
fn handshakes() -> Result<(usize, Duration), Box<dyn std::error::Error>> {
    let cluster = nodes::Cluster::new(1, LARGE, SELDOM)?;
    // As the nodes have it.
    let provider = crypto::seeded(Arc::new(SeededRng::new(Random::stream(1, "handshakes"))));
    let (done, took) = time(|| handshakes::all_with_all(&cluster, &provider));
    Ok((done?, took))
}

/// As `palisade simulate --faults none` runs them, workload, checkers and journal included, until they stopped. How
/// long that was in virtual time.
fn whole_nodes(seed: u64, nodes: usize, length: Duration, pace: Option<u32>) -> Result<Duration, String> {
    let request =
        Request { seed, nodes, length, faults: Faults::default(), pace, stop_at: None, mutation: None, aloud: false };
    let outcome = run(&request);
    outcome.violations.first().map_or(Ok(outcome.lasted), |violation| Err(violation.to_string()))
}
