//! What a trace of a capture has not, in words.

use std::io::Write;

use super::{
    blocks::{Blocks, Ending},
    importing::Importing,
};
use crate::import::{ImportError, Imported};

/// Reasons, the most frequent ones, that are told.
pub const TOLD_REASONS: usize = 24;

/// Whatever is in the capture.
const LACKS: [&str; 6] = [
    "decisions and policies: a replay has no alerts, and a rehearsal is by the policies that it is given",
    "the files behind names: links are not followed, and a name is the one that the program gave",
    "starts of the processes that were there before it began",
    "real users: it has the effective one, and after a set-uid program the one from before it, if its version does not tell",
    "owners of files and terminals: rules with ownerOnly or pts cannot be rehearsed",
    "containers that a process was put into without executing anything there",
];

impl<W: Write> Importing<W> {
    /// # Errors
    /// There is no event in it, or the trace cannot be written.
    pub fn end(mut self, blocks: &Blocks<'_>) -> Result<(W, Imported), ImportError> {
        let Some(writing) = self.writing.take() else {
            let older = if self.older_events > 0 { ", but for those of an older form, which is not read" } else { "" };
            return Err(ImportError::NoCapture(format!("there is no event in it{older}")));
        };
        self.done.workloads = self.identity.workloads();
        self.done.lacks = LACKS.map(str::to_owned).to_vec();
        self.done.is_cut = blocks.ending() != Ending::Whole;
        let lacks = self.lacks(blocks.ending());
        self.done.lacks.extend(lacks);
        Ok((writing.finish()?, self.done))
    }

    /// What this one lacks.
    fn lacks(&self, ending: Ending) -> Vec<String> {
        let mut lacks = Vec::new();
        let mut count = |number: u64, what: &str| {
            if number > 0 {
                lacks.push(format!("{number} {what}"));
            }
        };
        count(self.drops, "times the capturing program left events out, of which it does not tell how many");
        count(self.calls.relative(), "directories of relative names: those were opened before, or inherited");
        count(
            self.identity.unfit() + self.calls.unfit() + self.unlisted,
            "entries that the tables of an import have no room for",
        );
        count(self.older_events, "events of an older form, which is not read");
        count(self.older_lists, "lists of processes of an older form: who was there when it began is not known");
        for (kind, number) in &self.unread {
            count(*number, &format!("blocks of the type {kind:#x}, which is not known"));
        }
        if self.machine.booted_ns == 0 {
            lacks.push("when the machine was booted: times since then are made up, times of day are not".into());
        }
        match ending {
            Ending::Whole => {}
            Ending::Cut(at) => lacks.push(format!("what is behind byte {at}: it ends within a block")),
            Ending::Damaged(at) => lacks.push(format!("what is behind byte {at}: it is damaged there")),
        }
        let mut reasons: Vec<_> = self.done.reasons.iter().collect();
        reasons.sort_by_key(|(name, number)| (std::cmp::Reverse(**number), (*name).clone()));
        let told: Vec<String> =
            reasons.iter().take(TOLD_REASONS).map(|(name, number)| format!("{name} {number}")).collect();
        if !told.is_empty() {
            let rest = reasons.len().saturating_sub(TOLD_REASONS);
            let rest = if rest > 0 { format!(", {rest} more sorts") } else { String::new() };
            lacks.push(format!("{} events that become no record: {}{rest}", self.done.skipped, told.join(", ")));
        }
        lacks
    }
}
