//! Random bytes.

use std::collections::BTreeSet;

use palisade_link::MachineRng;
use palisade_simulation::{random::Random, world::links::SeededRng};
use palisade_world::Rng;

/// Two of a kind, that nobody can tell one from the other.
fn on_both(body: impl Fn(&dyn Rng, &dyn Rng)) {
    body(&MachineRng, &MachineRng);
    let seeded = |seed| SeededRng::new(Random::stream(seed, "randomness"));
    body(&seeded(1), &seeded(2));
}

fn filled(rng: &dyn Rng, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    rng.fill(&mut bytes);
    bytes
}

#[test]
fn host_conformance_randomness_fills_all_of_what_it_is_given_and_never_twice_alike() {
    on_both(|one, other| {
        let mut seen = BTreeSet::new();
        // Keys and numbers are as long as that; a part of a word is filled like a whole one.
        for length in [16, 31, 32, 33] {
            for rng in [one, other, one] {
                assert!(seen.insert(filled(rng, length)), "twice alike");
            }
        }
        one.fill(&mut []);
        let many = filled(one, 64 << 10);
        let mut counts = [0_u32; 256];
        many.iter().for_each(|byte| counts[usize::from(*byte)] += 1);
        // 256 of each are expected, and 16 is what they deviate by.
        assert!(counts.iter().all(|count| (128..384).contains(count)), "{counts:?}");
        let last: BTreeSet<u8> = (0..200).map(|_| filled(one, 13)[12]).collect();
        assert!(last.len() > 50, "the last byte of an odd length is random, too: {last:?}");
    });
}

#[test]
fn host_conformance_randomness_draws_each_number_below_a_bound_and_none_past_it() {
    on_both(|rng, _| {
        let mut counts = [0_u32; 7];
        for _ in 0..7000 {
            counts[usize::try_from(rng.below(7)).expect("small")] += 1;
        }
        assert!(counts.iter().all(|count| (700..1300).contains(count)), "{counts:?}");
        assert_eq!((rng.below(0), rng.below(1)), (0, 0));
        assert!(rng.below(u64::MAX) != rng.below(u64::MAX));
    });
}
