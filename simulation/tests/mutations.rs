//! Each checker catches what it is for: the same seeds pass with ports that keep their contracts, and fail by that checker with one that
//! is broken on purpose.
#![forbid(unsafe_code)]

use std::time::Duration;

use palisade_simulation::{
    faults::Faults,
    run::{Outcome, Request, run},
    world::mutation::Mutation,
};

fn runs(mutation: Option<Mutation>, seed: u64) -> Outcome {
    run(&request(mutation, seed))
}

fn request(mutation: Option<Mutation>, seed: u64) -> Request {
    Request {
        seed,
        nodes: 1,
        length: Duration::from_secs(20),
        faults: Faults::default(),
        pace: None,
        stop_at: None,
        mutation,
        aloud: false,
    }
}

/// A run with a mutation, of so many nodes that faults of these names may befall.
fn broken(mutation: Mutation, nodes: usize, seconds: u64, faults: &str) -> Request {
    let (length, faults) = (Duration::from_secs(seconds), faults.parse().expect("names of faults"));
    Request { nodes, length, faults, ..request(Some(mutation), 1) }
}

/// Whether this checker objects with these words to a run like this one, within so many seeds.
fn is_caught_with(seeds: u64, broken: &Request, checker: &str, what: &str) -> bool {
    (1..=seeds).any(|seed| {
        let outcome = run(&Request { seed, ..broken.clone() });
        outcome.violations.iter().any(|found| found.checker == checker && found.what.contains(what))
    })
}

/// Whether this checker objects to a mutation, within a few seeds.
fn is_caught(mutation: Mutation, checker: &str) -> bool {
    is_caught_with(6, &request(Some(mutation), 1), checker, "")
}

#[test]
fn unit_simulation_of_unbroken_ports_passes_the_seeds_of_these_tests_and_tests_something() {
    for seed in 1..=6 {
        let outcome = runs(None, seed);
        assert!(outcome.violations.is_empty(), "seed {seed}: {:?}", outcome.violations);
        assert_eq!(outcome.untested(&Faults::default()), [""; 0], "seed {seed}: {:?}", outcome.journal.counts());
    }
}

#[test]
fn unit_checker_of_generations_catches_a_kernel_that_acknowledges_and_does_not_flip() {
    assert!(is_caught(Mutation::AcknowledgesWithoutFlip, "generation"));
}

#[test]
fn unit_checker_of_generations_catches_a_kernel_that_keeps_the_hosts_policy() {
    let broken = request(Some(Mutation::KeepsTheHostsPolicy), 1);
    assert!(is_caught_with(6, &broken, "generation", " of host was judged by"));
}

#[test]
fn unit_checker_of_judgements_catches_a_kernel_that_takes_containers_for_the_host() {
    let broken = request(Some(Mutation::TakesContainersForTheHost), 1);
    assert!(is_caught_with(6, &broken, "judged", "it was judged as the host's after its admission"));
}

#[test]
fn unit_checker_of_judgements_catches_a_kernel_that_judges_by_halves() {
    assert!(is_caught(Mutation::JudgesByHalves, "judged"));
}

#[test]
fn unit_checker_of_judgements_catches_a_directory_that_hides_its_changes() {
    assert!(is_caught(Mutation::NeverChanges, "judged"));
}

#[test]
fn unit_checker_of_judgements_catches_an_alert_that_names_another_policy() {
    assert!(is_caught(Mutation::NamesAnotherRule, "judged"));
}

#[test]
fn unit_checker_of_judgements_catches_postures_that_nobody_is_told() {
    assert!(is_caught(Mutation::KeepsItsPostures, "judged"));
}

#[test]
fn unit_checker_of_traces_catches_a_store_that_loses_parts() {
    assert!(is_caught(Mutation::LosesPartsOfTraces, "traces"));
}

#[test]
fn unit_checker_of_visibility_catches_a_kernel_that_shows_what_it_showed_before() {
    assert!(is_caught(Mutation::ShowsAsBefore, "visibility"));
}

#[test]
fn unit_checker_of_admissions_catches_a_hook_that_is_answered_without_a_policy() {
    assert!(is_caught(Mutation::AdmitsByItself, "admission"));
}

#[test]
fn unit_checker_of_slots_catches_two_workloads_in_one() {
    assert!(is_caught(Mutation::SharesSlots, "slots"));
}

#[test]
fn unit_checker_of_the_account_catches_records_that_are_lost_uncounted() {
    assert!(is_caught(Mutation::LosesSilently, "accounting"));
}

#[test]
fn unit_checker_of_the_account_catches_batches_that_never_reach_the_probe() {
    assert!(is_caught(Mutation::SwallowsBatches, "accounting"));
}

/// Whether the checker of lines objects to a mutation under a fault, within some seeds.
fn is_caught_in_files(mutation: Mutation, fault: &str, what: &str) -> bool {
    is_caught_with(12, &broken(mutation, 1, 20, fault), "lines", what)
}

#[test]
fn unit_checker_of_lines_catches_a_sink_that_does_not_say_what_it_lost() {
    assert!(is_caught_in_files(Mutation::CountsNoLoss, "disk", "are counted as not written"));
}

#[test]
fn unit_checker_of_lines_catches_a_file_that_goes_on_in_the_midst_of_a_torn_line() {
    assert!(is_caught_in_files(Mutation::RunsOnTornLines, "power", "is not there"));
}

#[test]
fn unit_checker_of_lines_catches_files_that_nobody_syncs() {
    assert!(is_caught_in_files(Mutation::NeverSyncsLines, "power", "is not there"));
}

#[test]
fn unit_checker_of_alerts_catches_decisions_that_nobody_says() {
    assert!(is_caught(Mutation::SwallowsLines, "alerts"));
}

#[test]
fn unit_checker_of_alerts_catches_slots_that_are_numbered_anew_after_a_crash() {
    let names_another = |seed| {
        let broken = request(Some(Mutation::ForgetsWhatWasLeft), seed);
        let outcome = run(&Request { faults: "crash".parse().expect("a fault"), ..broken });
        outcome.violations.iter().any(|violation| violation.what.contains("its alert names container"))
    };
    assert!((1..=20).any(names_another));
}

#[test]
fn unit_checker_of_panics_catches_an_actor_that_panics_by_itself() {
    assert!(is_caught(Mutation::PanicsByItself, "panics"));
}

#[test]
fn unit_checker_of_rest_catches_a_node_that_never_holds_what_runs() {
    assert!(is_caught(Mutation::RefusesForEver, "settling"));
}

/// Whether a checker of links objects to a mutation, of whose links this may befall, within a few seeds.
fn is_caught_between_nodes(mutation: Mutation, faults: &str, seconds: u64, checker: &str, what: &str) -> bool {
    is_caught_with(6, &broken(mutation, 2, seconds, faults), checker, what)
}

#[test]
fn unit_simulation_of_unbroken_links_passes_the_seeds_of_these_tests_and_links_nodes() {
    for (seed, faults) in (1..=6).zip(["authority", "partition", "network", "certificates", "expiry", "none"]) {
        let request = Request {
            nodes: 2,
            length: Duration::from_secs(60),
            faults: faults.parse().expect("names of faults"),
            ..request(None, seed)
        };
        let outcome = run(&request);
        assert!(outcome.violations.is_empty(), "seed {seed}: {:?}", outcome.violations);
        let counts = outcome.journal.counts();
        let reached = ["node linked", "messages received", "nodes seen", "network"];
        assert!(reached.iter().all(|word| counts.contains_key(word)), "seed {seed}: {counts:?}");
    }
}

#[test]
fn unit_checker_of_messages_catches_a_link_that_swallows_some() {
    assert!(is_caught_between_nodes(Mutation::SwallowsMessages, "none", 20, "messages", "never came"));
}

#[test]
fn unit_checker_of_messages_catches_a_link_that_repeats_some() {
    assert!(is_caught_between_nodes(Mutation::RepeatsMessages, "none", 20, "messages", "comes again"));
}

#[test]
fn unit_checker_of_messages_catches_a_link_that_invents_some() {
    assert!(is_caught_between_nodes(Mutation::InventsMessages, "none", 20, "messages", "was said by nobody"));
}

#[test]
fn unit_checker_of_trust_catches_nodes_that_believe_another_authority() {
    assert!(is_caught_between_nodes(Mutation::BelievesAnyAuthority, "none", 20, "trust", "a stranger is linked"));
}

#[test]
fn unit_checker_of_trust_catches_nodes_that_stay_linked_to_one_whose_certificate_was_taken_back() {
    assert!(is_caught_between_nodes(Mutation::ForgetsRevocations, "certificates", 60, "trust", "to be taken back"));
}

#[test]
fn unit_checker_of_trust_catches_nodes_that_see_no_certificate_end() {
    assert!(is_caught_between_nodes(Mutation::ForgetsExpiry, "expiry", 90, "trust", "which ended by its clock"));
}

#[test]
fn unit_checker_of_trust_catches_nodes_that_go_on_believing_an_authority_that_was_exchanged() {
    assert!(is_caught_between_nodes(Mutation::KeepsOldAuthorities, "authority", 60, "trust", "authority it does not"));
}

#[test]
fn unit_checker_of_sight_catches_an_exchange_of_the_authority_that_drops_links() {
    assert!(is_caught_between_nodes(
        Mutation::ForgetsOldAuthorities,
        "authority",
        100,
        "sight",
        "which nothing disturbed"
    ));
}

#[test]
fn unit_checker_of_sight_catches_a_node_that_names_all_others_as_linked() {
    assert!(is_caught_between_nodes(Mutation::SaysAllIsLinked, "partition", 90, "sight", "as linked, which is out"));
}

#[test]
fn unit_checker_of_sight_catches_nodes_that_are_not_linked_again() {
    assert!(is_caught_between_nodes(Mutation::NeverMends, "partition", 40, "sight", "does not name"));
}

/// Whether the checker of what is shown of others objects to a mutation among three nodes, within a few seeds.
fn is_caught_as_hearsay(mutation: Mutation, faults: &str, what: &str) -> bool {
    is_caught_with(6, &broken(mutation, 3, 30, faults), "hearsay", what)
}

#[test]
fn unit_checker_of_hearsay_catches_a_node_that_shows_the_words_of_one_as_anothers() {
    assert!(is_caught_as_hearsay(Mutation::ShowsAnothersWords, "none", "was never said by it"));
}

#[test]
fn unit_checker_of_hearsay_catches_a_node_that_shows_what_is_older_than_before() {
    assert!(is_caught_as_hearsay(Mutation::ShowsWhatWasBefore, "none", "is older than what was shown before"));
}

#[test]
fn unit_checker_of_hearsay_catches_a_node_that_says_that_all_is_fresh() {
    assert!(is_caught_as_hearsay(Mutation::SaysAllIsFresh, "partition", "is said to have come at"));
}

#[test]
fn unit_checker_of_hearsay_catches_a_node_that_tells_of_what_did_not_happen_on_it() {
    assert!(is_caught_as_hearsay(Mutation::TellsOfAnother, "none", "it tells that n99c"));
}

/// Whether the checker of what followers hear objects to a mutation between nodes.
fn is_caught_as_followed(mutation: Mutation, faults: &str, what: &str) -> bool {
    is_caught_between_nodes(mutation, faults, 40, "following", what)
}

#[test]
fn unit_checker_of_following_catches_lines_that_nobody_hears_and_nobody_misses() {
    assert!(is_caught_as_followed(Mutation::LosesFollowedLines, "none", "are missing up to line"));
}

#[test]
fn unit_checker_of_following_catches_lines_that_come_twice() {
    assert!(is_caught_as_followed(Mutation::RepeatsFollowedLines, "none", "comes again"));
}

#[test]
fn unit_checker_of_following_catches_losses_and_ends_that_nobody_tells() {
    assert!(is_caught_as_followed(Mutation::HidesMarksOfLoss, "crash,partition", "are missing up to line"));
    assert!(is_caught_as_followed(Mutation::HidesMarksOfLoss, "panics", "never came, and nobody said so"));
}

#[test]
fn unit_checker_of_queues_catches_links_that_let_anything_wait() {
    assert!(is_caught_between_nodes(Mutation::QueuesWithoutBound, "network", 40, "queues", "bytes waited"));
}
