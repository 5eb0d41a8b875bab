//! After the last fault each node comes to rest within a bound, and stops in good order.

use std::time::Duration;

use super::Checker;
use crate::event::Event;

/// See the module.
#[derive(Debug, Default)]
pub struct Settling;

impl Checker for Settling {
    fn name(&self) -> &'static str {
        "settling"
    }

    fn hear(&mut self, _: Duration, _: usize, event: &Event) -> Result<(), String> {
        match event {
            Event::Restless(why) => Err(why.clone()),
            _ => Ok(()),
        }
    }
}
