//! Text for people.
//!
//! Invariant: what came from a workload (paths, arguments, names) is printed with control characters escaped, so that no workload
//! writes to an operator's terminal ([`palisade_domain::text::hostile`]); and a name in which there is anything but a name's usual
//! characters stands in quotes, so that none reads as more of the line than itself (`/x[1] < /usr/sbin/sshd`, `/x by another-policy`).

use std::fmt::Write as _;

pub use palisade_domain::text::{printable, printable_json};

use palisade_domain::{
    Alert, AlertProcess, AlertRule, AlertWorkload, HeldBack, KubeArmorFields, Line, Log, NotHeldPart, Operation,
    Subject, Throttling,
};
use palisade_supervision::{Kind, TreeNode};

use crate::arguments::Output;

/// Whether the terminal, if there is one, says of itself that it does nothing but print.
#[must_use]
pub fn is_dumb() -> bool {
    std::env::var_os("TERM").is_some_and(|term| term == "dumb")
}

/// Whether who looks at a terminal wants colour: no-color.org.
#[must_use]
pub fn may_colour() -> bool {
    !is_dumb() && std::env::var_os("NO_COLOR").is_none_or(|no| no.is_empty())
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

/// Rows, a line each whatever is in them.
#[must_use]
pub fn rows(rows: &[String]) -> String {
    rows.iter().map(|row| printable(row) + "\n").collect()
}

/// One line for an alert, a log or what was held back.
#[must_use]
pub fn line(line: &Line) -> String {
    let text = match line {
        Line::Alert(alert) => self::alert(alert),
        Line::Log(log) => self::log(log),
        Line::Throttling(throttling) => self::throttling(throttling),
        Line::NotHeld(part) => self::not_held(part),
    };
    // A newline in a name is hostile, too: the line's own is added behind.
    printable(&text) + "\n"
}

fn alert(alert: &Alert) -> String {
    let rule = alert
        .rule
        .as_ref()
        .map_or_else(|| "default posture".to_owned(), |rule| format!("{} {}", word(&rule.policy_name), rule.place));
    let verdict = format!("{:?}", alert.verdict).to_lowercase();
    let reason = alert.reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
    format!(
        "{} {verdict:<13} {} {} {} {} by {rule}, generation {}{reason}",
        time(alert.time.0),
        workload(&alert.workload),
        chain(&alert.process_chain),
        alert.subject.operation,
        resource(&alert.subject),
        alert.generation,
    )
}

fn log(log: &Log) -> String {
    let KubeArmorFields { result, data, .. } = &log.kubearmor;
    format!(
        "{} {:<13} {} {} {} {} {result}{}{data}",
        time(log.time.0),
        "log",
        workload(&log.workload),
        chain(&log.process_chain),
        log.subject.operation,
        resource(&log.subject),
        if data.is_empty() { "" } else { ", " },
    )
}

fn throttling(throttling: &Throttling) -> String {
    let of = |held: &HeldBack| {
        let verdict = format!("{:?}", held.verdict).to_lowercase();
        format!("{} {verdict} by {} {}", held.count, word(&held.policy_name), held.place).trim_end().to_owned()
    };
    let held: Vec<String> = throttling.held_back.iter().map(of).collect();
    format!(
        "{} {:<13} {} {}{}{}",
        time(throttling.time.0),
        "held back",
        workload(&throttling.workload),
        throttling.kubearmor.message,
        if held.is_empty() { "" } else { ": " },
        held.join(", "),
    )
}

fn not_held(part: &NotHeldPart) -> String {
    let of = |rule: &AlertRule| format!(" by {} {}", word(&rule.policy_name), rule.place);
    format!(
        "{} {:<13} {} {}{}, generation {}",
        time(part.time.0),
        "not held",
        workload(&part.workload),
        part.kubearmor.message,
        part.rule.as_ref().map(of).unwrap_or_default(),
        part.generation,
    )
}

fn workload(workload: &AlertWorkload) -> String {
    if workload.namespace.is_empty() {
        word(&workload.name)
    } else {
        format!("{}/{}", word(&workload.namespace), word(&workload.name))
    }
}

/// What was acted on: ours where it is put together from numbers and words of the kernel, else with a name in it.
fn resource(subject: &Subject) -> String {
    use Operation::{
        Accept, Bind, Capable, Capset, Connect, IoUringRegister, IoUringSetup, Kill, Listen, Repeated, Send, Setgid,
        Setgroups, Setns, Setuid, Socket, Syscall, Unshare,
    };
    match subject.operation {
        Accept | Bind | Capable | Capset | Connect | IoUringRegister | IoUringSetup | Kill | Listen | Repeated
        | Send | Setgid | Setgroups | Setns | Setuid | Socket | Syscall | Unshare => subject.resource.clone(),
        _ => word(&subject.resource),
    }
}

/// A name as one word: as it is, or in quotes, in which quotes and backslashes have a backslash before them.
fn word(name: &str) -> String {
    let usual = |c: char| c.is_alphanumeric() || "/._-+:@%=~,#".contains(c);
    if !name.is_empty() && name.chars().all(usual) {
        return name.to_owned();
    }
    format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\""))
}

/// The acting process and its nearest ancestors, each with who forked it behind it: `/bin/cat[12] < /bin/sh[11] < /usr/bin/runc[3]`. Where
/// the executable is not known, what the process calls itself, which it chooses, in parentheses: `(cat)[12]`. The script that an
/// interpreter was executed for stands behind it, with a question mark where that is only what the caller called it: `/bin/sh(/x.sh)[11]`.
fn chain(chain: &[AlertProcess]) -> String {
    const SHOWN: usize = 4;
    let one = |process: &AlertProcess| {
        let name = match (process.executable.as_str(), process.arguments.first()) {
            ("", None) => "?".to_owned(),
            ("", Some(called)) => format!("({})", word(called)),
            (executable, _) => word(executable),
        };
        let unsure = if process.script_from_caller { "?" } else { "" };
        let script = process.script.as_ref().map(|script| format!("({}{unsure})", word(script))).unwrap_or_default();
        format!("{name}{script}[{}]", process.pid)
    };
    let mut shown: Vec<String> = chain.iter().take(SHOWN).map(one).collect();
    if chain.len() > SHOWN {
        shown.push("...".to_owned());
    }
    if shown.is_empty() { "?".to_owned() } else { shown.join(" < ") }
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
#[path = "render_tests.rs"]
mod tests;
