//! What must hold, whatever the seed does. Each checker hears what truly happened and what came out, and nothing else.
//!
//! | checker | what it holds |
//! |---|---|
//! | [`judged`] | each deed is judged as some policy set says that the node has read since the one before, as a whole; after the last fault by the newest |
//! | [`generation`] | none is judged by an older generation than one whose installation was acknowledged |
//! | [`admission`] | a hook is answered with yes only while a policy is in force for its container |
//! | [`slots`] | no two living containers are in one slot |
//! | [`accounting`] | produced = read + waiting + lost + suppressed + folded, in the kernel and in what the probe says |
//! | [`alerts`] | each decision that was read is said in one line, or counted as held back or lost; no line is about anything else |
//! | [`lines`] | what a sink wrote is in its file, whole and in order, but for about the last second before the power went; what it refused and lost is counted |
//! | [`panics`] | no actor panics or is restarted but by what was injected |
//! | [`visibility`] | after the last change the kernel shows of each workload what is asked for |
//! | [`traces`] | a trace that was ended is whole, and one that is torn is read to its last whole block and says so |
//! | [`bounds`] | mailboxes and tables keep to their bounds |
//! | [`settling`] | after the last fault each node comes to rest within a bound |
//! | [`links`] | six more, of links between nodes |

pub mod accounting;
pub mod admission;
pub mod alerts;
pub mod bounds;
pub mod generation;
pub mod judged;
pub mod lines;
pub mod links;
pub mod panics;
pub mod settling;
pub mod slots;
pub mod traces;
pub mod visibility;

use std::{fmt, time::Duration};

use crate::{
    event::Event,
    world::{configuration::Configured, links::Cables},
};

/// What is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// When, in virtual time.
    pub at: Duration,
    /// On which node.
    pub node: usize,
    /// Who says so.
    pub checker: &'static str,
    /// What.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} (node {}, at {:.3} s)", self.checker, self.what, self.node, self.at.as_secs_f64())
    }
}

/// See the module.
pub trait Checker: Send {
    /// As a violation names it.
    fn name(&self) -> &'static str;
    /// Hears an event.
    ///
    /// # Errors
    /// What it proves to be wrong.
    fn hear(&mut self, at: Duration, node: usize, event: &Event) -> Result<(), String>;
    /// Nothing more happens: what is wrong by what did not happen, by node.
    fn conclude(&mut self) -> Vec<(usize, String)> {
        Vec::new()
    }
}

/// All of them, for machines that are so configured at first.
#[must_use]
pub fn all(configured: &[Configured]) -> Vec<Box<dyn Checker>> {
    vec![
        Box::new(judged::Judged::new(configured)),
        Box::new(traces::Traces),
        Box::new(visibility::Visibilities::new(configured)),
        Box::new(generation::Generations::default()),
        Box::new(admission::Admissions),
        Box::new(slots::Slots::default()),
        Box::new(accounting::Accounting::default()),
        Box::new(alerts::Alerts::default()),
        Box::new(lines::Lines::default()),
        Box::new(panics::Panics::default()),
        Box::new(bounds::Bounds),
        Box::new(settling::Settling),
    ]
}

/// Those of links, for nodes that are linked so.
#[must_use]
pub fn of_links(cables: &Cables) -> Vec<Box<dyn Checker>> {
    vec![
        Box::new(links::messages::Messages::default()),
        Box::new(links::trust::Trust::default()),
        Box::new(links::sight::Sight::new(cables.topology(), cables.has_room())),
        Box::new(links::hearsay::Hearsay::default()),
        Box::new(links::following::Following::default()),
        Box::new(links::queues::Queues::new(cables.queue_bytes())),
    ]
}
