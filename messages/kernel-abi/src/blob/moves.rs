//! What moving a directory means for the files in it, in Rust: the same steps as `pal_judge_move` in `bpf/lsm_change.bpf.c`.
//!
//! ```text
//! decide_move(from, to, source):
//!   here, there = state after from + "/", state after to + "/"
//!   if here = there: return PERMIT (0)              what is below is denied there as here
//!   return decide(FILE, accept at (here after "/"), source, WRITE | TTY)
//! ```
//! The accept id after a second slash is of the rules that deny something below the directory. The circumstances are those in which no
//! rule with a modifier leaves anything out: whose the files below are nobody looks up.
//!
//! Both names by themselves are judged before, as of any file.

use super::{
    Blob,
    layout::{Automaton, Family},
    steps::State,
    walk::{AcceptId, Decision, Modifiers, SourceId},
};

impl Blob {
    /// What happens to a move of the directory `from` (an absolute path without a slash at its end) to `to`, for what is below it.
    #[must_use]
    pub fn decide_move(&self, from: &[u8], to: &[u8], source: SourceId) -> Decision {
        let ((here, denied), (there, _)) = (self.below(from), self.below(to));
        if here == there {
            return Decision::PERMIT;
        }
        self.decide(Family::File, denied, source, Modifiers::WRITE.at_terminal(true))
    }

    /// The state in which what is below the directory begins, and what is denied there.
    #[must_use]
    pub fn below(&self, directory: &[u8]) -> (State, AcceptId) {
        let step = |state, byte: &u8| self.step(Automaton::Path, state, *byte);
        let here = directory.iter().chain(b"/").fold(self.start(Automaton::Path), step);
        (here, AcceptId(self.accept_at(Automaton::Path, step(here, &b'/'))))
    }
}
