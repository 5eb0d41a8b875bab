//! The rules that a set has given out and that somebody still holds: of equal workloads all get the very same.
//!
//! Invariant: it changes no answer, only how often one is made: what is known is asked for by the policies themselves (their addresses,
//! which are theirs while the set holds them) and the postures, on which alone the rules depend. It is no part of a set's value: a
//! set and its clone are equal whatever they gave out. Nothing is kept alive by it; what nobody holds is forgotten at the next miss.
//!
//! Decision: here and not with those who ask, because these are as many actors as there are workloads, on several threads, and share
//! nothing but the set. The lock is held for one look, or for the making of one list.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::{
    ir::{Postures, WorkloadRules},
    policy::Policy,
};

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct GivenOut(Mutex<Vec<Given>>);

#[derive(Debug)]
struct Given {
    /// Addresses of policies, in the set's order.
    policies: Vec<usize>,
    postures: Postures,
    rules: Weak<WorkloadRules>,
}

impl GivenOut {
    /// The rules of these policies of the set, in their order.
    pub fn rules_of<'p>(
        &self,
        policies: impl Iterator<Item = &'p Arc<Policy>>,
        postures: Postures,
    ) -> Arc<WorkloadRules> {
        let policies: Vec<&Arc<Policy>> = policies.collect();
        let addresses: Vec<usize> = policies.iter().map(|policy| Arc::as_ptr(policy).addr()).collect();
        // A panic while it was held has left whole entries only.
        let mut given = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = given.iter().find(|known| known.postures == postures && known.policies == addresses);
        if let Some(rules) = known.and_then(|known| known.rules.upgrade()) {
            return rules;
        }
        given.retain(|known| known.rules.strong_count() > 0);
        let rules = policies.iter().flat_map(|policy| &policy.rules).cloned().collect();
        let unheld = policies.iter().flat_map(|policy| &policy.unheld).cloned().collect();
        let rules = Arc::new(WorkloadRules { rules, unheld, postures });
        given.push(Given { policies: addresses, postures, rules: Arc::downgrade(&rules) });
        rules
    }
}

impl Clone for GivenOut {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl PartialEq for GivenOut {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for GivenOut {}
