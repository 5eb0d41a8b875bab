//! Who is held by policies of ours as far as records are concerned, and who was until a moment ago.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use palisade_domain::{Generation, Slot};
use palisade_kernel_abi::blob::Blob;

/// Containers that ended of which lines may still come, and for how long: what is denied to one at its end is read after its release. Less than
/// a slot rests before another workload has it.
const ENDED: usize = 64;
const ENDED_FOR: Duration = Duration::from_secs(5);

/// A container, and by which policy it is held.
#[derive(Debug, Clone)]
pub struct Held {
    pub slot: Slot,
    pub cgroup: u64,
    pub generation: Generation,
    /// What records call the policy.
    pub number: u32,
    pub blob: Option<Arc<Blob>>,
}

/// Those that were released, by what an LSM calls them: for what is still to be read of them, and for nothing else.
#[derive(Debug)]
pub(crate) struct Ended<N>(VecDeque<(Duration, N, Held)>);

impl<N> Default for Ended<N> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

impl<N: PartialEq> Ended<N> {
    /// `now`: by the boot clock.
    pub fn keep(&mut self, now: Duration, name: N, released: Held) {
        self.0.retain(|(at, ..)| now.saturating_sub(*at) < ENDED_FOR);
        if self.0.len() == ENDED {
            self.0.pop_front();
        }
        self.0.push_back((now, name, released));
    }

    /// The last that had the name and satisfies the condition, if that is not long ago.
    pub fn find(&self, now: Duration, name: &N, is_meant: impl Fn(&Held) -> bool) -> Option<&Held> {
        let found = self.0.iter().rev().find(|(_, ended, held)| ended == name && is_meant(held));
        found.filter(|(at, ..)| now.saturating_sub(*at) < ENDED_FOR).map(|(.., held)| held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(slot: u32) -> Held {
        Held { slot: Slot(slot), cgroup: 7, generation: Generation(1), number: 1, blob: None }
    }

    #[test]
    fn unit_container_that_ended_is_found_for_a_moment_and_the_last_ones_only() {
        let mut ended = Ended::default();
        let start = Duration::from_secs(100);
        ended.keep(start, 0, held(1));
        ended.keep(start, 0, held(2));
        let slot = |ended: &Ended<usize>, now, name| ended.find(now, &name, |_| true).map(|held| held.slot);
        assert_eq!(slot(&ended, start, 0), Some(Slot(2)), "the last of the name");
        assert_eq!(ended.find(start, &0, |held| held.slot == Slot(1)).map(|held| held.slot), Some(Slot(1)));
        assert_eq!(slot(&ended, start, 1), None);
        let later = start + ENDED_FOR;
        assert_eq!(slot(&ended, later, 0), None, "its slot may be another's by now");
        (0..ENDED + 5).for_each(|name| ended.keep(later, name, held(3)));
        assert_eq!(ended.0.len(), ENDED);
        assert!(slot(&ended, later, 4).is_none() && slot(&ended, later, 5).is_some());
    }
}
