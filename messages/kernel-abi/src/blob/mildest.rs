//! What a blob decides whatever a means cannot see of an act: the acting executable, its terminal, its arguments.
//!
//! Invariant: the effect is the mildest of all that the unseen could make of it. A means that denies by it denies only what is blocked for
//! everybody who could do it; what is blocked for some only is said to depend on what, and is another means'.

use super::{Blob, Effect, Family, Modifiers, PathAccepts, SourceId};

/// The mildest effect, and on what of the unseen the blob's own decision depends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mildest {
    /// What happens whoever acts.
    pub effect: Effect,
    /// The strictest of what the unseen could make of it.
    pub strictest: Effect,
    /// Some executables are judged otherwise.
    pub by_source: bool,
    /// With a controlling terminal it is judged otherwise.
    pub by_terminal: bool,
    /// Some arguments are judged otherwise.
    pub by_arguments: bool,
}

impl Blob {
    /// What happens whoever acts, at a terminal or not, with whatever arguments.
    #[must_use]
    pub fn mildest(&self, family: Family, accepts: impl Into<PathAccepts>, seen: Modifiers) -> Mildest {
        let accepts = accepts.into();
        let sources = self.head().family[family as usize].sources.max(1);
        let mut mildest = Mildest {
            effect: Effect::Block,
            strictest: Effect::Permit,
            by_source: false,
            by_terminal: false,
            by_arguments: false,
        };
        let mut of_nobody = [Effect::Permit; 2];
        for source in (0..sources).map(SourceId) {
            let decisions = [false, true].map(|tty| self.decide(family, accepts, source, seen.at_terminal(tty)));
            let effects = decisions.map(|decision| decision.settled(true).effect);
            let unmet = decisions.map(|decision| decision.settled(false).effect);
            if source == SourceId::NONE {
                of_nobody = effects;
            }
            mildest.by_source |= effects != of_nobody;
            mildest.by_terminal |= effects[0] != effects[1];
            mildest.by_arguments |= effects != unmet;
            mildest.effect = mildest.effect.min(effects[0]).min(effects[1]);
            mildest.strictest = mildest.strictest.max(unmet[0]).max(unmet[1]);
        }
        mildest
    }
}
