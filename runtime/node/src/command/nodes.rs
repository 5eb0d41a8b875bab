//! `palisade nodes`: who is linked, who is out and since when, who was turned away; and what other commands show of other nodes.

use std::{fmt::Write as _, process::ExitCode};

use anyhow::Context as _;
use palisade_admin::nodes::{DoubledAnswer, NodeAnswer, NodeTree, Nodes, Trees};
use serde_json::Value;

use super::Outcome;
use crate::{
    admin_client,
    arguments::{NodesArguments, Output},
    render::{self, printable},
};

/// Prints the nodes.
///
/// # Errors
/// No node answers, or standard output cannot be written.
pub fn run(arguments: &NodesArguments) -> Outcome {
    let value = super::runtime()?.block_on(admin_client::document(&arguments.admin.admin_socket, "/v1/nodes"))?;
    let text = match arguments.admin.output {
        Output::Text => {
            nodes(&serde_json::from_value(value).context("this node is of another version; try --output json")?)
        }
        output => render::document(output, &value),
    };
    super::print(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn nodes(nodes: &Nodes) -> String {
    let mut text = format!(
        "{:<24} {:<10} {:<27} {:<22} {:>6} {:>9} {:>9}  WHY\n",
        "NODE", "STATE", "SINCE", "ADDRESS", "LINKED", "SENT", "RECEIVED"
    );
    for node in &nodes.nodes {
        let counts = node.counts.clone().unwrap_or_default();
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "{:<24} {:<10} {:<27} {:<22} {:>6} {:>9} {:>9}  {}",
            printable(&node.node),
            node.state,
            node.since.as_deref().unwrap_or("-"),
            node.address.as_deref().unwrap_or("-"),
            counts.linked,
            counts.sent,
            counts.received,
            printable(&why(node)),
        );
    }
    for (node, doubled) in nodes.nodes.iter().filter_map(|node| Some((node, node.doubled.as_ref()?))) {
        let DoubledAnswer { said, times, last, .. } = doubled;
        let _ = writeln!(text, "{}: {} (seen {times} times, last {last})", printable(&node.node), printable(said));
    }
    for one in &nodes.turned_away {
        let by = if one.refused_here { "turned away" } else { "turned away from this node" };
        let said = printable(&one.said);
        let _ = writeln!(text, "{} {by}: {} ({said}), {} times, last {}", one.address, one.why, one.times, one.last);
    }
    for trouble in &nodes.troubles {
        let _ = writeln!(text, "{}", printable(trouble));
    }
    text
}

fn why(node: &NodeAnswer) -> String {
    match (&node.why, &node.said, node.refused_here) {
        (Some(why), Some(said), Some(true)) => format!("refused here, {why}: {said}"),
        (Some(why), Some(said), _) => format!("it refuses this node, {why}: {said}"),
        (Some(why), None, _) => why.clone(),
        (None, ..) => String::new(),
    }
}

/// One line that says how a node is, before what it last said.
pub fn heading(node: &NodeAnswer, age_ms: Option<u64>) -> String {
    let age = match (node.state.as_str(), age_ms) {
        ("here", _) => String::new(),
        (_, Some(age)) => format!(" (as it said {:.1} s ago)", std::time::Duration::from_millis(age).as_secs_f64()),
        (_, None) => " (it has said nothing yet)".to_owned(),
    };
    state(node) + &age
}

/// How a node is.
pub fn state(node: &NodeAnswer) -> String {
    let since = node.since.as_ref().map(|since| format!(" since {since}")).unwrap_or_default();
    let why = why(node);
    let why = if why.is_empty() { why } else { format!(": {why}") };
    let doubled = node.doubled.as_ref().map(|doubled| format!("; {}", doubled.said)).unwrap_or_default();
    printable(&format!("{} is {}{since}{why}{doubled}", node.node, node.state))
}

/// `palisade tree --nodes all`.
///
/// # Errors
/// The answer is of another version.
pub fn trees(value: Value) -> anyhow::Result<String> {
    let trees: Trees = serde_json::from_value(value).context("this node is of another version; try --output json")?;
    Ok(trees.nodes.iter().map(tree).collect::<Vec<_>>().join("\n"))
}

fn tree(tree: &NodeTree) -> String {
    let mut text = heading(&tree.node, tree.node.tree_age_ms) + "\n";
    for row in &tree.rows {
        let depth = usize::try_from(row.level).unwrap_or(0).min(16) * 2;
        let name = format!("{:depth$}{}", "", printable(&row.name));
        let mail = match (row.depth, row.capacity, row.lost) {
            (Some(depth), Some(capacity), Some(lost)) => format!("mailbox {depth}/{capacity} lost {lost}"),
            _ => String::new(),
        };
        let error = printable(row.last_error.as_deref().unwrap_or(""));
        let state = printable(&row.state);
        let line = format!("  {name:<44} {state:<12} restarts {:<4} {mail:<32} {error}", row.restarts);
        text += line.trim_end();
        text.push('\n');
    }
    if tree.omitted > 0 {
        let _ = writeln!(text, "  {} more were left out for want of room", tree.omitted);
    }
    text
}

#[cfg(test)]
mod tests {
    use palisade_admin::nodes::{LinkCountsAnswer, TreeRowAnswer, TurnedAwayAnswer};

    use super::*;

    fn node(name: &str, state: &str) -> NodeAnswer {
        NodeAnswer { node: name.into(), state: state.into(), ..NodeAnswer::default() }
    }

    #[test]
    fn unit_nodes_are_shown_with_why_they_are_out_and_hostile_words_escaped() {
        let out = NodeAnswer {
            since: Some("2026-11-25T21:37:41.000000Z".into()),
            why: Some("revoked".into()),
            said: Some("\u{1b}[2J".into()),
            refused_here: Some(false),
            counts: Some(LinkCountsAnswer { linked: 3, ..LinkCountsAnswer::default() }),
            doubled: Some(DoubledAnswer { said: "two nodes".into(), times: 2, last: "now".into(), addresses: vec![] }),
            ..node("b", "refused")
        };
        let away = TurnedAwayAnswer {
            address: "10.0.0.9:1".into(),
            why: "expired".into(),
            said: "too\u{9b}late".into(),
            refused_here: true,
            times: 4,
            last: "then".into(),
        };
        let all = Nodes {
            nodes: vec![node("a", "here"), out.clone()],
            turned_away: vec![away],
            troubles: vec!["soon".into()],
        };
        let text = nodes(&all);
        assert!(text.contains("\nb: two nodes (seen 2 times, last now)\n"), "{text}");
        assert!(text.contains("it refuses this node, revoked: \\u{1b}[2J"), "{text}");
        assert!(
            text.contains("10.0.0.9:1 turned away: expired (too\\u{9b}late), 4 times, last then\nsoon\n"),
            "{text}"
        );
        assert_eq!(
            heading(&out, Some(1500)),
            "b is refused since 2026-11-25T21:37:41.000000Z: it refuses this node, revoked: \\u{1b}[2J; two nodes (as it said 1.5 s ago)"
        );
        assert_eq!(heading(&node("a", "here"), None), "a is here");
    }

    #[test]
    fn unit_nodes_trees_stand_below_each_other_with_what_was_left_out() {
        let row = |level, name: &str| TreeRowAnswer {
            level,
            name: name.into(),
            kind: "X".into(),
            state: "running".into(),
            restarts: 0,
            uptime_ms: None,
            depth: Some(1),
            capacity: Some(2),
            handled: Some(3),
            lost: Some(4),
            last_error: None,
        };
        let trees = Trees {
            nodes: vec![
                NodeTree { node: node("a", "here"), rows: vec![row(0, "palisade"), row(1, "probe\n")], omitted: 0 },
                NodeTree { node: node("b", "out"), rows: vec![], omitted: 7 },
            ],
        };
        let text = super::trees(serde_json::to_value(trees).expect("JSON")).expect("understood");
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "a is here");
        assert!(lines[2].starts_with("    probe\\n ") && lines[2].contains("mailbox 1/2 lost 4"), "{text}");
        assert_eq!(lines[3..], ["", "b is out (it has said nothing yet)", "  7 more were left out for want of room"]);
    }
}
