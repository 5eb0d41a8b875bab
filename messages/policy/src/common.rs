//! The fields that spec, family and item share: `severity`, `tags`, `message`, `action`.
//!
//! Invariant: inheritance is by field, and the nearest level that sets a field wins: item, family, spec. An empty list of
//! tags and an empty message count as unset. A spec without an action blocks, as KubeArmor's does.

use palisade_domain::Action;

use crate::{
    diagnostic::{Problems, quoted},
    fields::{self, Fields},
    suggest,
    yaml::Node,
};

/// Longest message, in bytes; it travels in each alert.
pub const MAX_MESSAGE_BYTES: usize = 4_096;
/// Most tags on one level.
pub const MAX_TAGS: usize = 32;
/// Longest tag, in bytes.
pub const MAX_TAG_BYTES: usize = 256;

/// Where the fields stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
    /// In `spec`, where KubeArmor takes lower-case actions too.
    Spec,
    /// In a family or an item.
    Inner,
}

/// What a level sets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Common {
    pub severity: Option<u8>,
    pub tags: Vec<String>,
    pub message: Option<String>,
    pub action: Option<Action>,
}

impl Common {
    /// What the mapping itself sets.
    pub fn read(fields: &mut Fields<'_>, level: Level, problems: &mut Problems) -> Self {
        let severity = fields
            .get("severity")
            .and_then(|node| fields::integer(node, &fields.place_of("severity"), 1, 10, problems))
            .and_then(|severity| u8::try_from(severity).ok());
        let tags = fields.get("tags").map(|node| tags(node, &fields.place_of("tags"), problems)).unwrap_or_default();
        let message = fields
            .get("message")
            .and_then(|node| fields::bounded_text(node, &fields.place_of("message"), MAX_MESSAGE_BYTES, problems))
            .filter(|message| !message.is_empty());
        let action = fields.get("action").and_then(|node| action(node, &fields.place_of("action"), level, problems));
        Self { severity, tags, message, action }
    }

    /// With what it leaves unset taken from the level around it.
    pub fn within(self, outer: &Self) -> Self {
        Self {
            severity: self.severity.or(outer.severity),
            tags: if self.tags.is_empty() { outer.tags.clone() } else { self.tags },
            message: self.message.or_else(|| outer.message.clone()),
            action: self.action.or(outer.action),
        }
    }
}

fn tags(node: &Node, place: &str, problems: &mut Problems) -> Vec<String> {
    let items = fields::list(node, place, problems);
    if items.len() > MAX_TAGS {
        let what = format!("{} has {} items", quoted(place), items.len());
        problems.error(node.at, what, format!("at most {MAX_TAGS} are carried"), "remove some");
        return Vec::new();
    }
    let tag = |(index, item)| fields::bounded_text(item, &format!("{place}[{index}]"), MAX_TAG_BYTES, problems);
    items.iter().enumerate().filter_map(tag).collect()
}

fn action(node: &Node, place: &str, level: Level, problems: &mut Problems) -> Option<Action> {
    const ACTIONS: [(&str, &str, Action); 3] =
        [("Allow", "allow", Action::Allow), ("Audit", "audit", Action::Audit), ("Block", "block", Action::Block)];
    let written = fields::text(node, place, problems)?;
    let found =
        ACTIONS.iter().find(|(exact, lower, _)| written == *exact || (level == Level::Spec && written == *lower));
    if let Some((_, _, action)) = found {
        return Some(*action);
    }
    let instead = match suggest::nearest(written, ACTIONS.iter().map(|(exact, ..)| *exact)) {
        Some(near) => format!("write `{near}`"),
        None => "write `Allow`, `Audit` or `Block`".to_owned(),
    };
    let what = format!("{} is {}", quoted(place), quoted(written));
    problems.error(node.at, what, "an action is `Allow`, `Audit` or `Block`", instead);
    None
}
