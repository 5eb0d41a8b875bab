//! Whose an alert is: the node's that said it, by the name of its certificate, whatever the line claims.
//!
//! Invariant: of a line that another node said, `node` and `hostName` are that node's name; what it claimed instead stands beside as
//! `claimedNode`. A line that is no JSON object can name nobody and is not shown.

use std::{borrow::Cow, sync::Arc};

use palisade_domain::NodeName;
use serde::Deserialize;
use serde_json::{Map, Value};

/// Ours, and that of KubeArmor's lines, which stands in the same line.
const NAMES: [&str; 2] = ["node", "hostName"];
const CLAIMED: &str = "claimedNode";

#[derive(Deserialize)]
struct Names<'l> {
    #[serde(borrow)]
    node: Cow<'l, str>,
    #[serde(borrow, rename = "hostName")]
    host: Option<Cow<'l, str>>,
}

/// The line as it is to be shown; none where it is no JSON object.
pub fn attribute(peer: &NodeName, line: String) -> Option<Arc<str>> {
    // A name that stands twice is an error here, and is then written once.
    let is_own = |names: Names<'_>| names.node == peer.as_str() && names.host.is_none_or(|host| host == peer.as_str());
    if line.starts_with('{') && serde_json::from_str(&line).is_ok_and(is_own) {
        return Some(Arc::from(line));
    }
    let mut fields: Map<String, Value> = serde_json::from_str(&line).ok()?;
    let own = Value::from(peer.as_str());
    let claimed = NAMES.iter().filter_map(|name| fields.get(*name)).find(|claimed| **claimed != own).cloned();
    fields.insert("node".to_owned(), own.clone());
    if let Some(host) = fields.get_mut("hostName") {
        *host = own;
    }
    if let Some(claimed) = claimed {
        fields.insert(CLAIMED.to_owned(), claimed);
    }
    Some(Arc::from(Value::Object(fields).to_string()))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::attribute;

    fn shown(line: &str) -> Option<Value> {
        let shown = attribute(&"b".parse().expect("a name"), line.to_owned())?;
        Some(serde_json::from_str(&shown).expect("JSON"))
    }

    #[test]
    fn unit_peers_show_an_alert_as_that_of_the_node_that_said_it() {
        let own = r#"{"time":1,"node":"b","hostName":"b"}"#;
        assert_eq!(attribute(&"b".parse().expect("a name"), own.to_owned()).as_deref(), Some(own), "as it was");
        let forged = json!({"time": 1, "node": "b", "hostName": "b", "claimedNode": "a"});
        assert_eq!(shown(r#"{"time":1,"node":"a","hostName":"a"}"#), Some(forged.clone()));
        assert_eq!(shown(r#"{"time":1,"node":"b","hostName":"a"}"#), Some(forged.clone()));
        assert_eq!(shown(r#"{"time":1,"node":"b","node":"a","hostName":"b"}"#), Some(forged));
        assert_eq!(shown(r#"{"time":1}"#), Some(json!({"time": 1, "node": "b"})));
        assert_eq!(shown(r#"{"node":7}"#), Some(json!({"node": "b", "claimedNode": 7})));
        for nobodys in [r#"["b","b"]"#, "\"b\"", "b", ""] {
            assert_eq!(shown(nobodys), None, "{nobodys}");
        }
    }
}
