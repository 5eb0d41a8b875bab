//! Who is held by policies of ours as far as records are concerned, and who was until a moment ago.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use palisade_domain::{Generation, Slot};
use palisade_kernel_abi::blob::Blob;

/// How many that ended of which lines may still come, and for how long: what is denied to one at its end is read after its release. Less than
/// a slot rests before another workload has it.
const ENDED: usize = 64;
const ENDED_FOR: Duration = Duration::from_secs(5);

/// Of which container a line is, and the policy by which its rule is found.
#[derive(Debug, Clone)]
pub struct Held {
    /// Its slot.
    pub slot: Slot,
    /// Its cgroup.
    pub cgroup: u64,
    /// Of the policy set that its policy is of.
    pub generation: Generation,
    /// What records call the policy.
    pub number: u32,
    /// The policy, where it has one.
    pub blob: Option<Arc<Blob>>,
}

/// Those that were released, by what an LSM calls them: for what is still to be read of them, and for nothing else.
#[derive(Debug)]
pub(crate) struct Ended<N, C>(VecDeque<(Duration, N, C)>);

impl<N, C> Default for Ended<N, C> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

impl<N: PartialEq, C> Ended<N, C> {
    /// `now`: by the boot clock.
    pub fn keep(&mut self, now: Duration, name: N, released: C) {
        self.0.retain(|(at, ..)| now.saturating_sub(*at) < ENDED_FOR);
        if self.0.len() == ENDED {
            self.0.pop_front();
        }
        self.0.push_back((now, name, released));
    }

    /// The last that had the name and is meant, if that is not long ago.
    pub fn find(&self, now: Duration, name: &N, is_meant: impl Fn(&C) -> bool) -> Option<&C> {
        let found = self.0.iter().rev().find(|(_, ended, released)| ended == name && is_meant(released));
        found.filter(|(at, ..)| now.saturating_sub(*at) < ENDED_FOR).map(|(.., released)| released)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unit_container_that_ended_is_found_for_a_moment_and_the_last_ones_only() {
        let mut ended = Ended::default();
        let start = Duration::from_secs(100);
        ended.keep(start, 0, "a");
        ended.keep(start, 0, "b");
        let any = |_: &&str| true;
        assert_eq!(ended.find(start, &0, any), Some(&"b"), "the last of the name");
        assert_eq!(ended.find(start, &0, |released| *released == "a"), Some(&"a"));
        assert_eq!(ended.find(start, &1, any), None);
        let later = start + ENDED_FOR;
        assert_eq!(ended.find(later, &0, any), None, "its slot may be another's by now");
        (0..ENDED + 5).for_each(|name| ended.keep(later, name, "c"));
        assert_eq!(ended.0.len(), ENDED);
        assert!(ended.find(later, &4, any).is_none() && ended.find(later, &5, any).is_some());
    }
}
