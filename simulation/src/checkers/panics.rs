//! No actor panics or is restarted but by what was injected, and none is left dead.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::Checker;
use crate::event::Event;

/// See the module.
#[derive(Debug, Default)]
pub struct Panics {
    /// Nodes on which something was injected that restarts actors, since their process began.
    disturbed: BTreeSet<usize>,
    restarts: BTreeMap<usize, u64>,
}

impl Checker for Panics {
    fn name(&self) -> &'static str {
        "panics"
    }

    fn hear(&mut self, _: Duration, node: usize, event: &Event) -> Result<(), String> {
        match event {
            Event::Panicked(what) => return Err(format!("an actor panicked by itself: {what}")),
            Event::PanicInjected(_) => {
                self.disturbed.insert(node);
            }
            // A thread that stalls for seconds may miss a start's deadline.
            Event::Fault(what) if what.starts_with("stalls") => {
                self.disturbed.insert(node);
            }
            Event::ProcessDown { gave_up, why } => {
                let excused = self.disturbed.remove(&node);
                self.restarts.remove(&node);
                if *gave_up && !excused {
                    return Err(format!("the tree gave up, and nothing was injected: {why}"));
                }
            }
            Event::Looked(look) => {
                let mut restarts = 0;
                let mut last_error = None;
                look.tree.walk(&mut |_, actor| {
                    restarts += actor.restarts;
                    if let Some(error) = &actor.last_error {
                        last_error = Some(format!("{}: {error}", actor.name));
                    }
                });
                let before = self.restarts.insert(node, restarts).unwrap_or(0);
                if restarts > before && !self.disturbed.contains(&node) {
                    return Err(format!("{} restarts, and nothing was injected: {last_error:?}", restarts - before));
                }
            }
            _ => {}
        }
        Ok(())
    }
}
