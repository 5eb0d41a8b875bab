//! What a blob decides whatever AppArmor cannot see: the acting executable, its terminal, its arguments.
//!
//! Invariant: an effect is the mildest of all that the unseen could make of it. So a profile denies only what is blocked for everybody who
//! could do it; what is blocked for some only is noted ([`Weakened`]) and left to another tier.

use std::collections::{BTreeMap, BTreeSet};

use palisade_kernel_abi::blob::{Blob, Effect, Family, Modifiers, PathAccepts, SourceId};

use crate::Share;

/// What AppArmor cannot see and a decision depends on, as policies name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Weakened {
    /// `fromSource`: a profile is a task's, whatever it executes.
    Source(Family),
    /// `pts`.
    Terminal(Family),
    /// `allowedArgs`.
    Arguments,
    /// The protocol of a socket: only domain and type are mediated.
    Protocol,
    /// The executable of a traced process: only its profile's name is known.
    Target,
    /// What is only audited: the profile was not asked to tell of it.
    Audit(Family),
}

/// Decisions of a blob, each worked out once.
pub(crate) struct Decided<'a> {
    pub blob: &'a Blob,
    share: Share<'a>,
    known: BTreeMap<(u32, PathAccepts, u32), Effect>,
    pub weakened: BTreeSet<Weakened>,
}

impl<'a> Decided<'a> {
    pub fn new(blob: &'a Blob, share: Share<'a>) -> Self {
        Self { blob, share, known: BTreeMap::new(), weakened: BTreeSet::new() }
    }

    /// Whether an audit in the family is to be told.
    pub fn tells(&self, family: Family) -> bool {
        self.share.told.contains(&family)
    }

    /// What happens whoever acts, at a terminal or not, with whatever arguments.
    pub fn effect(&mut self, family: Family, accepts: PathAccepts, seen: Modifiers) -> Effect {
        if !self.share.held.contains(&family) {
            return Effect::Permit;
        }
        let key = (family as u32, accepts, seen.0);
        if let Some(effect) = self.known.get(&key) {
            return *effect;
        }
        let effect = self.mildest(family, accepts, seen);
        if effect == Effect::Audit && !self.tells(family) {
            self.weakened.insert(Weakened::Audit(family));
        }
        self.known.insert(key, effect);
        effect
    }

    fn mildest(&mut self, family: Family, accepts: PathAccepts, seen: Modifiers) -> Effect {
        let sources = self.blob.head().family[family as usize].sources.max(1);
        let mut mildest = Effect::Block;
        let mut of_terminals = [Effect::Permit; 2];
        for source in (0..sources).map(SourceId) {
            for (tty, first) in [false, true].into_iter().zip(&mut of_terminals) {
                let decision = self.blob.decide(family, accepts, source, seen.at_terminal(tty));
                let (effect, unmet) = (decision.settled(true).effect, decision.settled(false).effect);
                if effect != unmet {
                    self.weakened.insert(Weakened::Arguments);
                }
                if source == SourceId::NONE {
                    *first = effect;
                } else if effect != *first {
                    self.weakened.insert(Weakened::Source(family));
                }
                mildest = mildest.min(effect);
            }
            if of_terminals[0] != of_terminals[1] {
                self.weakened.insert(Weakened::Terminal(family));
            }
        }
        mildest
    }
}
