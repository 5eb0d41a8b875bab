//! What was compiled, by content.
//!
//! Invariant: rules of equal content compile once while their blob is in use by anybody, or is among the most recent; a refusal for
//! size is remembered like a result, one for want of time only for [`Bounds::retry_after`]. Memory is bounded by
//! [`Bounds::kept_bytes`] for blobs that nobody else holds, and [`Bounds::entries`] for what is known about them.
//!
//! Equal workloads send the very same rules, a thousand policies of them after each change: the last few sets are known by their
//! address, or by those of their rules, so that only the first of 110 sorts and hashes them, and all get the very same answer. The rules
//! are held meanwhile, so that no address is used again.
//!
//! Decision: entries hold their blob weakly and only the recent ones also strongly, because what makes a blob worth
//! knowing is that workloads use it, and these hold it themselves.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Weak},
    time::Duration,
};

use palisade_kernel_abi::blob::Blob;
use palisade_policy::ir::WorkloadRules;
use palisade_protocol::{CompilePolicy, CompiledPolicy, PolicyRefused};
use palisade_world::BootNanos;

use crate::{
    CompileError,
    automaton::{AutomatonLimits, Budget},
    canonical::CanonicalRules,
    compile_canonical, compiled,
};

/// Sets of rules that are known by address: as many kinds of workload as answer a change by turns.
const RECENT: usize = 8;

/// What one compiler may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// For one build.
    pub automaton: AutomatonLimits,
    /// For one build. The asking enforcers wait 20 s.
    pub build_within: Duration,
    /// How long a refusal for want of time is given again without another attempt: 110 workloads with one bad policy must not
    /// cost 110 times [`Self::build_within`].
    pub retry_after: Duration,
    /// Results that are remembered.
    pub entries: usize,
    /// Blobs that are kept although nobody may hold them.
    pub kept_bytes: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            automaton: AutomatonLimits::default(),
            build_within: Duration::from_secs(10),
            retry_after: Duration::from_secs(30),
            // One for each of a node's slots and a change of all of them at once.
            entries: 2048,
            kept_bytes: 32 << 20,
        }
    }
}

/// What became of requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Built.
    pub compiled: u64,
    /// Answered with a blob that was there.
    pub reused: u64,
    /// Refused, anew or again.
    pub refused: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub struct State {
    bounds: Bounds,
    results: BTreeMap<[u8; 32], Known>,
    /// The latest last.
    recent: VecDeque<Recent>,
    /// Grows with each request: the order of use.
    requests: u64,
    kept_bytes: usize,
    counts: Counts,
}

/// One set of rules that is known by address.
#[derive(Debug)]
struct Recent {
    rules: Arc<WorkloadRules>,
    canonical: Arc<CanonicalRules>,
    /// The last answer, while somebody holds it.
    answer: Weak<CompiledPolicy>,
}

#[derive(Debug)]
struct Known {
    outcome: Outcome,
    used: u64,
}

#[derive(Debug)]
enum Outcome {
    Compiled { blob: Weak<Blob>, kept: Option<Arc<Blob>> },
    Refused { refusal: PolicyRefused, retry_from: Option<BootNanos> },
}

impl State {
    /// Nothing compiled yet.
    #[must_use]
    pub fn new(bounds: Bounds) -> Self {
        Self { bounds, ..Self::default() }
    }

    /// What may be used.
    #[must_use]
    pub fn bounds(&self) -> &Bounds {
        &self.bounds
    }

    /// What became of requests so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Answers one request.
    ///
    /// # Errors
    /// Where the rules do not compile within the bounds and the budget, or did not a moment ago.
    pub fn step(
        &mut self,
        now: BootNanos,
        command: &CompilePolicy,
        budget: &mut dyn Budget,
    ) -> Result<Arc<CompiledPolicy>, PolicyRefused> {
        self.requests += 1;
        let recent = self.recent(&command.rules);
        let canonical = Arc::clone(&self.recent[recent].canonical);
        let blob = match self.known(&canonical.hash, now) {
            Some(known) => known,
            None => self.build(now, &canonical, budget),
        };
        match blob {
            Ok(blob) => Ok(self.recent[recent].answer(blob)),
            Err(refusal) => {
                self.counts.refused += 1;
                Err(refusal)
            }
        }
    }

    /// Where in `recent` the rules are, from now on at least.
    fn recent(&mut self, rules: &Arc<WorkloadRules>) -> usize {
        if let Some(at) = self.recent.iter().rposition(|recent| are_the_same(&recent.rules, rules)) {
            return at;
        }
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        let canonical = Arc::new(CanonicalRules::of(rules));
        self.recent.push_back(Recent { rules: Arc::clone(rules), canonical, answer: Weak::new() });
        self.recent.len() - 1
    }

    fn known(&mut self, hash: &[u8; 32], now: BootNanos) -> Option<Result<Arc<Blob>, PolicyRefused>> {
        let known = self.results.get_mut(hash)?;
        let answer = match &known.outcome {
            Outcome::Compiled { blob, .. } => Ok(blob.upgrade()?),
            Outcome::Refused { retry_from: Some(then), .. } if *then <= now => return None,
            Outcome::Refused { refusal, .. } => Err(refusal.clone()),
        };
        known.used = self.requests;
        self.counts.reused += u64::from(answer.is_ok());
        Some(answer)
    }

    fn build(
        &mut self,
        now: BootNanos,
        canonical: &CanonicalRules,
        budget: &mut dyn Budget,
    ) -> Result<Arc<Blob>, PolicyRefused> {
        self.forget(&canonical.hash);
        let result = compile_canonical(canonical, &self.bounds.automaton, budget).map(Arc::new);
        let (outcome, answer) = match result {
            Ok(blob) => {
                self.counts.compiled += 1;
                self.kept_bytes += blob.as_bytes().len();
                (Outcome::Compiled { blob: Arc::downgrade(&blob), kept: Some(Arc::clone(&blob)) }, Ok(blob))
            }
            Err(error) => {
                let for_want_of_time =
                    matches!(&error, CompileError::TooLarge { what, .. } if what.is_for_want_of_time());
                let retry_after = for_want_of_time.then_some(self.bounds.retry_after);
                let refusal = PolicyRefused { reason: error.to_string(), retry_after };
                let retry_from = for_want_of_time.then(|| later(now, self.bounds.retry_after));
                (Outcome::Refused { refusal: refusal.clone(), retry_from }, Err(refusal))
            }
        };
        self.results.insert(canonical.hash, Known { outcome, used: self.requests });
        self.trim();
        answer
    }

    /// Lets go of the least recently used: first of blobs that are only kept, then of entries.
    fn trim(&mut self) {
        while self.kept_bytes > self.bounds.kept_bytes {
            let is_kept = |known: &&mut Known| matches!(known.outcome, Outcome::Compiled { kept: Some(_), .. });
            let oldest = self.results.values_mut().filter(is_kept).min_by_key(|known| known.used);
            let Some(Known { outcome: Outcome::Compiled { kept, .. }, .. }) = oldest else { break };
            self.kept_bytes -= kept.take().map_or(0, |blob| blob.as_bytes().len());
        }
        if self.results.len() > self.bounds.entries {
            self.results.retain(
                |_, known| !matches!(&known.outcome, Outcome::Compiled { blob, .. } if blob.strong_count() == 0),
            );
        }
        while self.results.len() > self.bounds.entries {
            let oldest = self.results.iter().min_by_key(|(_, known)| known.used).map(|(hash, _)| *hash);
            let Some(hash) = oldest else { break };
            self.forget(&hash);
        }
    }

    fn forget(&mut self, hash: &[u8; 32]) {
        if let Some(Known { outcome: Outcome::Compiled { kept: Some(blob), .. }, .. }) = self.results.remove(hash) {
            self.kept_bytes -= blob.as_bytes().len();
        }
    }
}

impl Recent {
    /// The answer of before, unless the blob is another or nobody holds it any more.
    fn answer(&mut self, blob: Arc<Blob>) -> Arc<CompiledPolicy> {
        if let Some(answer) = self.answer.upgrade().filter(|answer| Arc::ptr_eq(&answer.blob, &blob)) {
            return answer;
        }
        let answer = Arc::new(compiled(&self.canonical, blob));
        self.answer = Arc::downgrade(&answer);
        answer
    }
}

/// Not only equal: the same, or of the same rules.
fn are_the_same(one: &Arc<WorkloadRules>, other: &Arc<WorkloadRules>) -> bool {
    if Arc::ptr_eq(one, other) {
        return true;
    }
    one.postures == other.postures
        && one.rules.len() == other.rules.len()
        && one.rules.iter().zip(&other.rules).all(|(one, other)| Arc::ptr_eq(one, other))
}

/// `now` and a while.
#[must_use]
pub fn later(now: BootNanos, by: Duration) -> BootNanos {
    BootNanos(now.0.saturating_add(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX)))
}
