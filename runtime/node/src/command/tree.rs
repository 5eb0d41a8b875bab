//! `palisade tree`.

use std::{collections::BTreeMap, path::Path, process::ExitCode};

use anyhow::Context as _;
use palisade_admin::answers::{TreeChanges, TreeNodeAnswer};
use palisade_supervision::TreeNode;
use serde_json::Value;

use super::{Outcome, logs::Lines, nodes};
use crate::{
    admin_client,
    arguments::{NodesArgument, Output, TreeArguments},
    render, yaml,
};

/// Prints the live tree, and with `--follow` what changes in it.
///
/// # Errors
/// No node answers, it ended what was followed, or standard output cannot be written.
pub fn run(arguments: &TreeArguments) -> Outcome {
    let (socket, output) = (&arguments.admin.admin_socket, arguments.admin.output);
    if arguments.follow {
        return follow(socket, output);
    }
    let all = arguments.nodes == NodesArgument::All;
    let route = if all { "/v1/tree?nodes=all" } else { "/v1/tree" };
    let value = super::runtime()?.block_on(admin_client::document(socket, route))?;
    let text = match output {
        Output::Text if all => nodes::trees(value)?,
        Output::Text => table(value)?,
        output => render::document(output, &value),
    };
    super::print(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn table(value: Value) -> anyhow::Result<String> {
    let tree: TreeNode =
        serde_json::from_value(value).context("this node's tree is of another version; try --output json")?;
    Ok(render::tree(&tree))
}

fn follow(socket: &Path, output: Output) -> Outcome {
    let (mut lines, mut events, mut told, mut read) = (Lines::default(), Events::default(), Told::new(), true);
    super::runtime()?.block_on(admin_client::stream(socket, "/v1/tree/events", |part| {
        let Some(whole) = lines.whole(part)? else {
            read = !super::reader_is_gone();
            return Ok(read);
        };
        let mut text = String::new();
        for line in String::from_utf8_lossy(&whole).lines() {
            if let Some((name, data)) = events.line(line) {
                text += &shown(&name, data, output, &mut told)?;
            }
        }
        read = if text.is_empty() { !super::reader_is_gone() } else { super::print(&text)? };
        Ok(read)
    }))?;
    anyhow::ensure!(
        !read,
        "the node ended the stream: it stopped, or too many follow; see `palisade doctor`, and run `palisade tree --follow` again"
    );
    Ok(ExitCode::SUCCESS)
}

/// Server-sent events, of which we use two fields, each in one line.
#[derive(Debug, Default)]
struct Events {
    name: String,
}

impl Events {
    /// The event that this line completes. Comments and empty lines complete none.
    fn line(&mut self, line: &str) -> Option<(String, Value)> {
        if let Some(name) = line.strip_prefix("event: ") {
            name.clone_into(&mut self.name);
        }
        let data = serde_json::from_str(line.strip_prefix("data: ")?).ok()?;
        Some((std::mem::take(&mut self.name), data))
    }
}

/// The line last told of each node, without what only counts.
type Told = BTreeMap<Vec<String>, String>;

fn shown(name: &str, data: Value, output: Output, told: &mut Told) -> anyhow::Result<String> {
    Ok(match (output, name) {
        (Output::Json, _) => {
            render::printable_json(&serde_json::json!({ "event": name, "data": data }).to_string()) + "\n"
        }
        (Output::Yaml, _) => format!("---\n{}", yaml::document(&serde_json::json!({ "event": name, "data": data }))),
        (Output::Text, "tree") => table(data)?,
        (Output::Text, _) => {
            let changes: TreeChanges =
                serde_json::from_value(data).context("this node's events are of another version; try --output json")?;
            changes_as_lines(&changes, told)
        }
    })
}

/// A line for each node of which something else changed than how much it has handled: state, restarts, what waits, what is lost.
fn changes_as_lines(changes: &TreeChanges, told: &mut Told) -> String {
    let mut text = String::new();
    for change in &changes.changed {
        let Ok(node) = serde_json::from_value::<TreeNodeAnswer>(change.node.clone()) else { continue };
        let mail = node.mail.as_ref();
        let mail = mail.map_or_else(String::new, |mail| {
            format!(" mailbox {}/{} lost {}", mail.depth, mail.capacity, mail.shed + mail.lost_panic + mail.lost_closed)
        });
        let error = node.last_error.as_ref().filter(|_| node.state != "running");
        let error = error.map_or_else(String::new, |error| format!(": {error}"));
        let (path, state) = (change.path.join("/"), &node.state);
        let line = render::printable(&format!("{path} {state} restarts {}{mail}{error}", node.restarts)) + "\n";
        if told.insert(change.path.clone(), line.clone()).is_none_or(|before| before != line) {
            text += &line;
        }
    }
    for path in &changes.gone {
        told.remove(path);
        text += &render::printable(&format!("{} gone", path.join("/")));
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn unit_tree_follows_events_through_comments_and_shows_hostile_names_escaped() {
        let mut events = Events::default();
        assert_eq!(events.line(": nothing changed"), None);
        assert_eq!(events.line("event: changes"), None);
        let node = json!({
            "name": "x", "kind": { "actor": "X" }, "state": "backing-off", "restart": "permanent", "place": "here", "generation": 2,
            "uptime_ms": null, "restarts": 1, "last_error": "panicked: \u{1b}[2J", "mail": null, "children": [],
        });
        let data = json!({ "changed": [{ "path": ["palisade", "x\n"], "node": node }], "gone": [["palisade", "y"]] });
        let (name, data) = events.line(&format!("data: {data}")).expect("an event");
        let mut told = Told::new();
        let text = shown(&name, data.clone(), Output::Text, &mut told).expect("understood");
        assert_eq!(text, "palisade/x\\n backing-off restarts 1: panicked: \\u{1b}[2J\npalisade/y gone\n");
        let again = shown(&name, data, Output::Text, &mut told).expect("understood");
        assert_eq!(again, "palisade/y gone\n", "what is as it was told is not told again");
    }
}
