//! What a blob decides whatever AppArmor cannot see: the acting executable, its terminal, its arguments.
//!
//! Invariant: an effect is the mildest of all that the unseen could make of it ([`Blob::mildest`]). What is blocked for some only is noted
//! ([`Weakened`]) and left to another tier.

use std::collections::{BTreeMap, BTreeSet};

use palisade_kernel_abi::blob::{Blob, Effect, Family, Modifiers, PathAccepts};

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
        let mildest = self.blob.mildest(family, accepts, seen);
        let depends = [
            (mildest.by_arguments, Weakened::Arguments),
            (mildest.by_source, Weakened::Source(family)),
            (mildest.by_terminal, Weakened::Terminal(family)),
        ];
        self.weakened.extend(depends.into_iter().filter_map(|(depends, on)| depends.then_some(on)));
        mildest.effect
    }
}
