//! Readers of single fields: each takes a node, and gives a value or a diagnostic.
//!
//! Invariant: every field of a mapping is either asked for or reported. [`Fields`] remembers what was asked, and
//! [`Fields::close`] reports the rest as unknown, with the nearest asked name: no list of known fields is kept beside the readers.

use crate::{
    diagnostic::{Position, Problems, quoted},
    suggest,
    yaml::{Key, Node, Value},
};

/// The fields of one mapping, being read.
pub(crate) struct Fields<'n> {
    /// How messages and rules call the mapping: `process.matchPaths[2]`. Empty for a whole document.
    pub place: String,
    /// Where the mapping starts.
    pub at: Position,
    entries: &'n [(Key, Node)],
    asked: Vec<&'static str>,
    /// Reported already, by something better than "unknown field".
    refused: Vec<&'static str>,
    /// Of `refused`, what is right in the format: a slip of the pen may have meant it.
    later: Vec<&'static str>,
}

impl<'n> Fields<'n> {
    /// The node's fields, if it is a mapping. Null is an empty mapping.
    pub fn of(node: &'n Node, place: impl Into<String>, problems: &mut Problems) -> Option<Self> {
        let place = place.into();
        let entries = match &node.value {
            Value::Mapping(entries) => entries.as_slice(),
            _ if node.is_null() => &[],
            _ => {
                let subject = if place.is_empty() { "the document".to_owned() } else { quoted(&place) };
                let what = format!("{subject} is {}", node.noun());
                problems.error(node.at, what, "a mapping is wanted", "write `name: value` lines, indented below it");
                return None;
            }
        };
        Some(Self { place, at: node.at, entries, asked: Vec::new(), refused: Vec::new(), later: Vec::new() })
    }

    /// The place of a field in this mapping.
    pub fn place_of(&self, name: &str) -> String {
        if self.place.is_empty() { name.to_owned() } else { format!("{}.{name}", self.place) }
    }

    /// The field's value, unless it is absent or null.
    pub fn get(&mut self, name: &'static str) -> Option<&'n Node> {
        self.asked.push(name);
        self.entry(name).map(|(_, node)| node).filter(|node| !node.is_null())
    }

    /// Whether the field is written, be it as null.
    pub fn has(&self, name: &str) -> bool {
        self.entry(name).is_some()
    }

    /// Whether a field is a mapping that has another.
    pub fn has_within(&self, outer: &str, inner: &str) -> bool {
        let Some((_, node)) = self.entry(outer) else { return false };
        matches!(&node.value, Value::Mapping(entries) if entries.iter().any(|(key, _)| key.text == inner))
    }

    fn entry(&self, name: &str) -> Option<&'n (Key, Node)> {
        self.entries.iter().find(|(key, _)| key.text == name)
    }

    /// The field's value; its absence is an error.
    pub fn require(&mut self, name: &'static str, instead: &str, problems: &mut Problems) -> Option<&'n Node> {
        let found = self.get(name);
        if found.is_none() {
            let at = self.entry(name).map_or(self.at, |(key, _)| key.at);
            let owner = if self.place.is_empty() { "the document".to_owned() } else { quoted(&self.place) };
            problems.error(at, format!("`{name}` is missing"), format!("{owner} needs it"), instead);
        }
        found
    }

    /// Fields that are right in their format but not held by this version; `instead` is what helps now.
    pub fn refuse_unsupported(&mut self, names: &[&'static str], instead: &str, problems: &mut Problems) {
        for &name in names {
            self.later.push(name);
            let place = self.place_of(name);
            if let Some(at) = self.refuse(name) {
                problems.unsupported(at, &quoted(&place), instead);
            }
        }
    }

    /// A field that is often written here but belongs elsewhere.
    pub fn refuse_misplaced(&mut self, name: &'static str, why: &str, instead: &str, problems: &mut Problems) {
        if let Some(at) = self.refuse(name) {
            problems.error(at, format!("`{name}` does not belong here"), why, instead);
        }
    }

    /// The place of a field that is present and not null, which from now on counts as reported.
    fn refuse(&mut self, name: &'static str) -> Option<Position> {
        self.refused.push(name);
        self.entry(name).filter(|(_, node)| !node.is_null()).map(|(key, _)| key.at)
    }

    /// All fields with any name, for maps whose keys are the user's.
    pub fn all(self) -> &'n [(Key, Node)] {
        self.entries
    }

    /// Reports what nobody asked for.
    pub fn close(self, problems: &mut Problems) {
        for (key, _) in self.entries {
            let name = key.text.as_str();
            if self.asked.contains(&name) || self.refused.contains(&name) {
                continue;
            }
            let owner = if self.place.is_empty() { "the document".to_owned() } else { quoted(&self.place) };
            let instead = match suggest::nearest(name, self.asked.iter().chain(&self.later).copied()) {
                Some(known) => format!("did you mean `{known}`?"),
                None => format!("remove it, or use one of {}", listed(&self.asked)),
            };
            problems.error(
                key.at,
                format!("unknown field {}", quoted(name)),
                format!("{owner} has no such field"),
                instead,
            );
        }
    }
}

/// The items of a text such as `tcp, udp`, as KubeArmor expands it.
pub(crate) fn comma_list(written: &str) -> impl Iterator<Item = &str> {
    written.split(',').map(str::trim)
}

/// Names for a message: `a`, `b`, `c`.
pub(crate) fn listed<'a>(names: impl IntoIterator<Item = &'a &'a str>) -> String {
    names.into_iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// Reports that the node is not what is wanted.
pub(crate) fn wrong_kind(node: &Node, place: &str, wanted: &str, instead: &str, problems: &mut Problems) {
    let what = format!("{} is {}", quoted(place), node.noun());
    problems.error(node.at, what, format!("{wanted} is wanted"), instead);
}

/// Text. A plain scalar that YAML reads as a number or boolean is refused, as Kubernetes refuses it.
pub(crate) fn text<'n>(node: &'n Node, place: &str, problems: &mut Problems) -> Option<&'n str> {
    match (&node.value, node.noun()) {
        (Value::Scalar { text, .. }, "text") => Some(text),
        (Value::Scalar { text, .. }, "a number" | "a boolean") => {
            let instead = format!("quote it: {}", quoted(&format!("\"{text}\"")));
            wrong_kind(node, place, "text", &instead, problems);
            None
        }
        (Value::Scalar { .. }, _) => {
            wrong_kind(node, place, "text", "write text, or remove the item", problems);
            None
        }
        _ => {
            wrong_kind(node, place, "text", "write one text value, in quotes if it begins with `[` or `{`", problems);
            None
        }
    }
}

/// Text of at most `max` bytes.
pub(crate) fn bounded_text(node: &Node, place: &str, max: usize, problems: &mut Problems) -> Option<String> {
    let text = text(node, place, problems)?;
    if text.len() > max {
        let what = format!("{} has {} bytes", quoted(place), text.len());
        problems.error(node.at, what, format!("at most {max} are carried"), "shorten it");
        return None;
    }
    Some(text.to_owned())
}

/// A boolean; YAML 1.1's `yes`, `no`, `on` and `off` as well, which Kubernetes' own parser takes for booleans.
pub(crate) fn boolean(node: &Node, place: &str, problems: &mut Problems) -> Option<bool> {
    if let Value::Scalar { text, plain: true } = &node.value {
        match text.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" => return Some(true),
            "false" | "no" | "off" => return Some(false),
            _ => {}
        }
    }
    wrong_kind(node, place, "a boolean", "write `true` or `false`, without quotes", problems);
    None
}

/// A whole number within bounds.
pub(crate) fn integer(node: &Node, place: &str, low: i64, high: i64, problems: &mut Problems) -> Option<i64> {
    let Value::Scalar { text, plain: true } = &node.value else {
        wrong_kind(node, place, "a number", "write a plain number, without quotes", problems);
        return None;
    };
    let digits = text.trim_start_matches(['+', '-']);
    if digits.len() > 1 && digits.starts_with('0') && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        let what = format!("{} is {}", quoted(place), quoted(text));
        let why = "a number that begins with 0 is octal for some readers and decimal for others";
        problems.error(node.at, what, why, "write it without");
        return None;
    }
    match text.parse::<i64>() {
        Ok(number) if (low..=high).contains(&number) => Some(number),
        _ => {
            let what = format!("{} is {}", quoted(place), quoted(text));
            let why = format!("a whole number from {low} to {high} is wanted");
            problems.error(node.at, what, why, format!("write a number from {low} to {high}"));
            None
        }
    }
}

/// The items of a list.
pub(crate) fn list<'n>(node: &'n Node, place: &str, problems: &mut Problems) -> &'n [Node] {
    match &node.value {
        Value::Sequence(items) => items,
        _ => {
            wrong_kind(node, place, "a list", "write each item on its own line after `- `", problems);
            &[]
        }
    }
}

/// A boolean field; absent is false.
pub(crate) fn flag(fields: &mut Fields<'_>, name: &'static str, problems: &mut Problems) -> bool {
    fields.get(name).and_then(|node| boolean(node, &fields.place_of(name), problems)).unwrap_or(false)
}

/// A map of text to text, such as labels.
pub(crate) fn text_map(node: &Node, place: &str, problems: &mut Problems) -> Vec<(Key, String)> {
    let Some(fields) = Fields::of(node, place, problems) else { return Vec::new() };
    let mut entries = Vec::new();
    for (key, value) in fields.all() {
        let place = format!("{place}.{}", key.text);
        if value.is_null() {
            let what = format!("{} has no value", quoted(&place));
            problems.error(key.at, what, "text is wanted", "write `\"\"` for the empty text");
        } else if let Some(value) = text(value, &place, problems) {
            entries.push((key.clone(), value.to_owned()));
        }
    }
    entries
}
