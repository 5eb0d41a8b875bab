//! No deed is judged by an older generation than one whose installation was acknowledged for its slot.

use std::{collections::BTreeMap, time::Duration};

use palisade_domain::Slot;

use super::Checker;
use crate::event::Event;

/// See the module.
#[derive(Debug, Default)]
pub struct Generations {
    acknowledged: BTreeMap<(usize, Slot), u32>,
}

impl Checker for Generations {
    fn name(&self) -> &'static str {
        "generation"
    }

    fn hear(&mut self, _: Duration, node: usize, event: &Event) -> Result<(), String> {
        match event {
            Event::Installed { slot, generation } => {
                self.acknowledged.insert((node, *slot), *generation);
            }
            Event::Released(slot) | Event::Admitted { slot, .. } => {
                self.acknowledged.remove(&(node, *slot));
            }
            // With the kernel all numbers are gone. A process that starts again goes on after those of the one before.
            Event::PowerLost => self.acknowledged.retain(|(of, _), _| *of != node),
            Event::Acted(acted) => {
                let newest = acted.slot.and_then(|slot| self.acknowledged.get(&(node, slot)));
                if let Some(newest) = newest.filter(|newest| acted.generation < **newest) {
                    return Err(format!(
                        "{} of {} was judged by generation {}, after {newest} was acknowledged",
                        acted.deed, acted.container, acted.generation
                    ));
                }
            }
            _ => {}
        }
        Ok(())
    }
}
