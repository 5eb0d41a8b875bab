//! The live tree as server-sent events.
//!
//! First an event `tree` with the whole tree; then, at most one each [`EVERY`], events `changes` with what changed since; while nothing does,
//! a comment each [`HEARTBEAT`], by which both sides see that the other is still there.
//!
//! Invariant: at most [`LISTENERS`] at a time, for each costs a reading of the tree a second. What only says that time passes (uptime,
//! rates) is no change.

use std::{collections::BTreeMap, convert::Infallible, sync::Arc, time::Duration};

use actix_web::web::Bytes;
use futures_util::{Stream, stream};
use palisade_domain::text::printable_json;
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{
    Document,
    answers::{TreeChange, TreeChanges},
    routes::View,
};

/// Between two looks at the tree.
pub(crate) const EVERY: Duration = Duration::from_secs(1);
/// Between two signs of life.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// Listeners at a time.
pub const LISTENERS: usize = 8;

/// Who may listen.
#[derive(Debug, Clone)]
pub(crate) struct Places(Arc<Semaphore>);

impl Places {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Semaphore::new(LISTENERS)))
    }

    /// A place for as long as it is held.
    pub(crate) fn take(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.0).try_acquire_owned().ok()
    }
}

/// What one listener knows.
#[derive(Debug, Default)]
pub(crate) struct Seen(BTreeMap<Vec<String>, Value>);

impl Seen {
    /// Takes `tree` for known, and says what is other than before.
    pub(crate) fn changes(&mut self, tree: &Value) -> TreeChanges {
        let mut nodes = BTreeMap::new();
        flatten(tree, &mut Vec::new(), &mut nodes);
        let changed = nodes
            .iter()
            .filter(|(path, node)| self.0.get(*path).is_none_or(|before| timeless(before) != timeless(node)))
            .map(|(path, node)| TreeChange { path: path.clone(), node: node.clone() })
            .collect();
        let gone = self.0.keys().filter(|path| !nodes.contains_key(*path)).cloned().collect();
        self.0 = nodes;
        TreeChanges { changed, gone }
    }
}

fn flatten(node: &Value, above: &mut Vec<String>, nodes: &mut BTreeMap<Vec<String>, Value>) {
    above.push(node["name"].as_str().unwrap_or_default().to_owned());
    let mut own = node.clone();
    own["children"] = json!([]);
    nodes.insert(above.clone(), own);
    for child in node["children"].as_array().into_iter().flatten() {
        flatten(child, above, nodes);
    }
    above.pop();
}

/// Without what changes by itself.
fn timeless(node: &Value) -> Value {
    let mut node = node.clone();
    node["uptime_ms"] = Value::Null;
    if let Some(mail) = node["mail"].as_object_mut() {
        mail.remove("handled_per_second");
    }
    node
}

struct Listener {
    view: View,
    seen: Seen,
    begun: bool,
    quiet: Duration,
    _place: OwnedSemaphorePermit,
}

/// The events, until the listener goes away or the tree cannot be read.
pub(crate) fn events(view: View, place: OwnedSemaphorePermit) -> impl Stream<Item = Result<Bytes, Infallible>> {
    let listener = Listener { view, seen: Seen::default(), begun: false, quiet: Duration::ZERO, _place: place };
    stream::unfold(listener, async |mut listener| {
        loop {
            if listener.begun {
                tokio::time::sleep(EVERY).await;
            }
            let tree = listener.view.document(Document::Tree).await.ok()?;
            let changes = listener.seen.changes(&tree);
            if !std::mem::replace(&mut listener.begun, true) {
                return Some((Ok(event("tree", &tree)), listener));
            }
            listener.quiet += EVERY;
            if !changes.changed.is_empty() || !changes.gone.is_empty() {
                listener.quiet = Duration::ZERO;
                return Some((Ok(event("changes", &json!(changes))), listener));
            }
            if listener.quiet >= HEARTBEAT {
                listener.quiet = Duration::ZERO;
                return Some((Ok(Bytes::from_static(b": nothing changed\n\n")), listener));
            }
        }
    })
}

/// JSON has no line feed outside its strings, and none unescaped in them: the data is one line, and no name begins an event of its own.
fn event(name: &str, data: &Value) -> Bytes {
    Bytes::from(format!("event: {name}\ndata: {}\n\n", printable_json(&data.to_string())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, uptime: u64, depth: u64, children: &[Value]) -> Value {
        json!({ "name": name, "uptime_ms": uptime, "mail": { "depth": depth, "handled_per_second": uptime }, "children": children })
    }

    #[test]
    fn unit_tree_events_tell_what_changed_and_what_is_gone_but_not_that_time_passes() {
        let mut seen = Seen::default();
        let first = seen.changes(&node("root", 1, 0, &[node("a/b", 1, 0, &[]), node("c", 1, 0, &[])]));
        assert_eq!(first.changed.len(), 3);
        let later = seen.changes(&node("root", 2, 0, &[node("a/b", 2, 0, &[]), node("c", 2, 0, &[])]));
        assert_eq!(later, TreeChanges { changed: vec![], gone: vec![] });
        let changed = seen.changes(&node("root", 3, 0, &[node("a/b", 3, 5, &[])]));
        let paths: Vec<&[String]> = changed.changed.iter().map(|change| change.path.as_slice()).collect();
        assert_eq!(paths, [["root".to_owned(), "a/b".to_owned()]]);
        assert_eq!(changed.changed[0].node["mail"]["depth"], 5);
        assert_eq!(changed.gone, [vec!["root".to_owned(), "c".to_owned()]]);
    }

    #[test]
    fn unit_tree_events_have_a_bounded_number_of_places() {
        let places = Places::new();
        let taken: Vec<_> = (0..LISTENERS).map_while(|_| places.take()).collect();
        assert_eq!(taken.len(), LISTENERS);
        assert!(places.take().is_none());
        drop(taken);
        assert!(places.take().is_some(), "who goes away makes room");
    }
}
