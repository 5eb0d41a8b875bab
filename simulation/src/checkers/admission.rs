//! A hook is answered with yes only while a policy is in force for its container.

use std::time::Duration;

use super::Checker;
use crate::event::{Event, Standing};

/// See the module.
#[derive(Debug, Default)]
pub struct Admissions;

impl Checker for Admissions {
    fn name(&self) -> &'static str {
        "admission"
    }

    fn hear(&mut self, _: Duration, _: usize, event: &Event) -> Result<(), String> {
        match event {
            Event::Admission { id, answer: Ok(()), standing } if !matches!(standing, Standing::InForce(..)) => {
                Err(format!("{id} may start while the kernel holds for it: {standing:?}"))
            }
            _ => Ok(()),
        }
    }
}
