//! Mailboxes and tables keep to their bounds, and there are no more enforcers than workloads that can be.

use std::time::Duration;

use palisade_assembly::ENFORCERS;

use super::Checker;
use crate::event::{Event, Look};

/// Processes in the table of alerts; as its own bound says.
const PROCESSES: u64 = palisade_alerts::processes::MAX_PROCESSES as u64;
/// Enforcers: more than any simulated node has slots, with the host's.
const MOST_ENFORCERS: usize = 257;

/// See the module.
#[derive(Debug, Default)]
pub struct Bounds;

impl Checker for Bounds {
    fn name(&self) -> &'static str {
        "bounds"
    }

    fn hear(&mut self, _: Duration, _: usize, event: &Event) -> Result<(), String> {
        let Event::Looked(look) = event else { return Ok(()) };
        let Look { tree, alerts, .. } = &**look;
        let mut wrong = Ok(());
        tree.walk(&mut |_, node| {
            let over = node.mail.as_ref().filter(|mail| mail.depth.max(mail.high_water) > mail.capacity);
            if let Some(mail) = over {
                wrong = Err(format!("{} has {} of at most {} messages", node.name, mail.high_water, mail.capacity));
            }
            if node.name == ENFORCERS && node.children.len() > MOST_ENFORCERS {
                wrong = Err(format!("there are {} enforcers", node.children.len()));
            }
        });
        wrong?;
        match alerts {
            Some(alerts) if alerts.processes > PROCESSES => {
                Err(format!("{} processes in a table of {PROCESSES}", alerts.processes))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, time::Duration};

    use palisade_protocol::AlertCounts;
    use palisade_supervision::{Kind, Mail, State, TreeNode};

    use super::{Bounds, PROCESSES};
    use crate::{
        checkers::Checker as _,
        event::{Event, Look},
    };

    fn node(name: &str, mail: Option<Mail>, children: Vec<TreeNode>) -> TreeNode {
        TreeNode {
            name: name.to_owned(),
            kind: Kind::Actor("A".to_owned()),
            state: State::Running,
            restart: None,
            place: "here".to_owned(),
            generation: 1,
            uptime_ms: None,
            restarts: 0,
            last_error: None,
            mail,
            children,
        }
    }

    fn mail(high_water: u64) -> Mail {
        Mail {
            capacity: 16,
            depth: 0,
            high_water,
            handled: 0,
            handled_per_second: 0.0,
            shed: 0,
            coalesced: 0,
            expired: 0,
            lost_panic: 0,
            lost_panic_records: 0,
            lost_closed: 0,
        }
    }

    #[test]
    fn unit_checker_of_bounds_objects_to_what_is_past_one() {
        let hear = |tree, processes| {
            let alerts = AlertCounts { processes, unwritten: BTreeMap::new(), ..AlertCounts::default() };
            let look = Look { tree, records: None, alerts: Some(alerts), waiting: 0 };
            Bounds.hear(Duration::ZERO, 0, &Event::Looked(Box::new(look)))
        };
        let with = |high_water| node("palisade", None, vec![node("roster", Some(mail(high_water)), Vec::new())]);
        assert_eq!(hear(with(16), PROCESSES), Ok(()));
        assert!(hear(with(17), 0).is_err_and(|what| what == "roster has 17 of at most 16 messages"));
        assert!(hear(with(0), PROCESSES + 1).is_err());
        let many = (0..258).map(|number| node(&number.to_string(), None, Vec::new())).collect();
        assert!(hear(node("enforcers", None, many), 0).is_err());
    }
}
