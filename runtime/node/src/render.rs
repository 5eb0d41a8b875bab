//! Text for people.
//!
//! Invariant: what came from a workload (paths, arguments, names) is printed with control characters escaped, so that no workload
//! writes to an operator's terminal.

use std::fmt::Write as _;

use palisade_domain::Alert;
use palisade_supervision::{Kind, TreeNode};

use crate::arguments::Output;

/// What moves a cursor, changes a terminal's state or the order in which text is read: C0 and C1 controls, marks of direction, and what
/// separates lines without being a line feed.
fn hostile(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{061c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// Escapes what is not printable; everything else stays as it is.
#[must_use]
pub fn printable(text: &str) -> String {
    text.chars().flat_map(|c| if hostile(c) { c.escape_default().collect::<Vec<_>>() } else { vec![c] }).collect()
}

/// The same for a JSON document in one line, which stays the same document: such characters stand only in its strings.
#[must_use]
pub fn printable_json(line: &str) -> String {
    // All of them are of the basic plane: four digits are enough.
    let mut text = String::with_capacity(line.len());
    for c in line.chars() {
        if hostile(c) {
            // Writing to a string cannot fail.
            let _ = write!(text, "\\u{:04x}", u32::from(c));
        } else {
            text.push(c);
        }
    }
    text
}

/// A whole document for machines; what a workload chose is escaped in either form.
#[must_use]
pub fn document(output: Output, value: &serde_json::Value) -> String {
    match output {
        Output::Yaml => crate::yaml::document(value),
        Output::Text | Output::Json => {
            // Line feeds stand between values only: in strings they are escaped already.
            format!("{value:#}\n").lines().map(|line| printable_json(line) + "\n").collect()
        }
    }
}

/// One line for an alert.
#[must_use]
pub fn alert(alert: &Alert) -> String {
    let workload = if alert.workload.namespace.is_empty() {
        alert.workload.name.clone()
    } else {
        format!("{}/{}", alert.workload.namespace, alert.workload.name)
    };
    let process = alert.process_chain.first().map(|process| {
        let name = if process.executable.is_empty() { process.arguments.first() } else { Some(&process.executable) };
        format!("{}[{}]", name.map_or("?", String::as_str), process.pid)
    });
    let rule = alert
        .rule
        .as_ref()
        .map_or_else(|| "default posture".to_owned(), |rule| format!("{} {}", rule.policy_name, rule.place));
    let verdict = format!("{:?}", alert.verdict).to_lowercase();
    let operation = format!("{:?}", alert.subject.operation).to_lowercase();
    let reason = alert.reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
    let line = format!(
        "{} {verdict:<13} {workload} {} {operation} {} by {rule}, generation {}{reason}",
        time(alert.time.0),
        process.as_deref().unwrap_or("?"),
        alert.subject.resource,
        alert.generation,
    );
    printable(&line) + "\n"
}

/// UTC time of day with milliseconds: enough beside the file, which has the whole number.
fn time(unix_ns: u64) -> String {
    let (seconds, milliseconds) = (unix_ns / 1_000_000_000, unix_ns / 1_000_000 % 1000);
    format!("{:02}:{:02}:{:02}.{milliseconds:03}Z", seconds / 3600 % 24, seconds / 60 % 60, seconds % 60)
}

/// The tree, a line for each node.
#[must_use]
pub fn tree(root: &TreeNode) -> String {
    let mut text = format!(
        "{:<44} {:<10} {:>9} {:>8} {:>13} {:>10} {:>9}  LAST ERROR\n",
        "NAME", "STATE", "UPTIME", "RESTARTS", "MAILBOX", "HANDLED", "PER S"
    );
    root.walk(&mut |depth, node| {
        let kind = match &node.kind {
            Kind::Supervisor { .. } => "+ ",
            Kind::Actor { .. } => "- ",
        };
        let name = format!("{:depth$}{kind}{}", "", printable(&node.name), depth = depth * 2);
        let state = format!("{:?}", node.state).to_lowercase();
        let uptime = node
            .uptime_ms
            .map_or_else(|| "-".to_owned(), |ms| format!("{:.1}s", std::time::Duration::from_millis(ms).as_secs_f64()));
        let (mailbox, handled, rate) = node.mail.as_ref().map_or_else(Default::default, |mail| {
            (
                format!("{}/{} max {}", mail.depth, mail.capacity, mail.high_water),
                mail.handled.to_string(),
                format!("{:.1}", mail.handled_per_second),
            )
        });
        let error = printable(node.last_error.as_deref().unwrap_or(""));
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "{name:<44} {state:<10} {uptime:>9} {:>8} {mailbox:>13} {handled:>10} {rate:>9}  {error}",
            node.restarts
        );
    });
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unit_render_lets_no_workload_write_to_the_terminal() {
        assert_eq!(printable("a\u{1b}[2Jb\r\n\u{202e}c"), "a\\u{1b}[2Jb\\r\\n\\u{202e}c");
        assert_eq!(printable("/étc/ünï"), "/étc/ünï");
    }

    #[test]
    fn unit_render_shows_time_of_day() {
        assert_eq!(time(86_400_000_000_000 + 3_723_004_000_000), "01:02:03.004Z");
    }
}
