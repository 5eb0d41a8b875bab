//! The three lists that the process and file families share: `matchPaths`, `matchDirectories`, `matchPatterns`.

use std::collections::BTreeSet;

use palisade_domain::PolicyKind;

use crate::{
    common::Common,
    diagnostic::{Problems, quoted},
    draft::{Draft, Item},
    fields::{self, Fields},
    ir::{Matcher, PathMatch, PathRule},
    path, pattern,
    yaml::Node,
};

/// Most items of `allowedArgs`: KubeArmor's schema has 20.
pub const MAX_ALLOWED_ARGUMENTS: usize = 64;
/// Longest item of `allowedArgs`, in bytes; KubeArmor cuts after 104.
pub const MAX_ARGUMENT_BYTES: usize = 255;

/// What tells the two families apart.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PathFamily {
    /// Items of `matchPaths` may name a bare executable (`execname`).
    pub bare_names: bool,
    /// Items may be `readOnly`.
    pub read_only: bool,
    /// What the rules are about.
    pub matcher: fn(PathRule) -> Matcher,
}

impl PathFamily {
    /// Reads the three lists of a family.
    pub fn read<'n>(self, family: &mut Fields<'n>, outer: &Common, draft: &mut Draft<'_>) {
        draft.items(family, "matchPaths", outer, |item, draft| {
            let path = self.path(item, draft);
            let arguments = self.arguments(item, draft);
            self.finish(item, path, arguments, true, draft);
        });
        draft.items(family, "matchDirectories", outer, |item, draft| {
            self.refuse_arguments(item, draft);
            let directory = directory(item, draft);
            self.finish(item, directory, BTreeSet::new(), true, draft);
        });
        draft.items(family, "matchPatterns", outer, |item, draft| {
            let place = item.fields.place_of("pattern");
            let node = item.fields.require("pattern", "write `- pattern: /usr/**/name`", draft.problems);
            let pattern = node.and_then(|node| pattern::pattern(node, &place, draft.problems)).map(PathMatch::Pattern);
            self.refuse_arguments(item, draft);
            // KubeArmor's kinds have neither source nor terminal for patterns; our own kind extends them.
            self.finish(item, pattern, BTreeSet::new(), draft.kind() == PolicyKind::PalisadePolicy, draft);
        });
    }

    /// `allowedArgs`, of what is executed by its path or name.
    fn arguments(self, item: &mut Item<'_>, draft: &mut Draft<'_>) -> BTreeSet<String> {
        if !self.bare_names {
            self.refuse_arguments(item, draft);
            return BTreeSet::new();
        }
        let place = item.fields.place_of("allowedArgs");
        item.fields.get("allowedArgs").map(|node| arguments(node, &place, draft.problems)).unwrap_or_default()
    }

    fn refuse_arguments(self, item: &mut Item<'_>, draft: &mut Draft<'_>) {
        let instead = "remove it, or name the executables below `process.matchPaths`";
        let why = "arguments are held of executables that `process.matchPaths` names";
        item.fields.refuse_misplaced("allowedArgs", why, instead, draft.problems);
    }

    /// `path`, or `execname` where there are bare names; exactly one.
    fn path(self, item: &mut Item<'_>, draft: &mut Draft<'_>) -> Option<PathMatch> {
        if !self.bare_names {
            let instead = "write `path:`, or `pattern: /**/name` below `matchPatterns`";
            item.fields.refuse_misplaced(
                "execname",
                "only execution is matched by a bare name",
                instead,
                draft.problems,
            );
            if item.fields.has("execname") {
                // The missing `path` is not a second fault.
                item.fields.get("path");
                return None;
            }
            let node = item.fields.require("path", "write `- path: /etc/passwd`", draft.problems)?;
            return path::file(node, &item.fields.place_of("path"), draft.problems).map(PathMatch::Exact);
        }
        let name = item.fields.get("execname");
        let Some(name) = name else {
            let instead = "write `- path: /usr/bin/x` or `- execname: x`";
            let node = item.fields.require("path", instead, draft.problems)?;
            return path::file(node, &item.fields.place_of("path"), draft.problems).map(PathMatch::Exact);
        };
        if item.fields.get("path").is_some() {
            let what = "both `path` and `execname`";
            draft.problems.error(name.at, what, "a rule matches by one of them", "remove one, or write two items");
            return None;
        }
        path::name(name, &item.fields.place_of("execname"), draft.problems).map(PathMatch::Name)
    }

    /// Modifiers, source, and the rule if its path was readable.
    fn finish(
        self,
        item: &mut Item<'_>,
        path: Option<PathMatch>,
        allowed_arguments: BTreeSet<String>,
        has_source: bool,
        draft: &mut Draft<'_>,
    ) {
        let owner_only = fields::flag(&mut item.fields, "ownerOnly", draft.problems);
        let read_only = if self.read_only {
            fields::flag(&mut item.fields, "readOnly", draft.problems)
        } else {
            let instead = "remove it, or write the rule below `file`";
            item.fields.refuse_misplaced("readOnly", "execution has no write mode", instead, draft.problems);
            false
        };
        let (sources, pts) = if has_source {
            (draft.sources(item), pts(item, draft))
        } else {
            let why = "KubeArmor's patterns do not look at terminals";
            let instead = "use `matchPaths` or `matchDirectories`, or a PalisadePolicy";
            item.fields.refuse_misplaced("pts", why, instead, draft.problems);
            let why = "KubeArmor's patterns have no source";
            let instead = "use `matchPaths` or `matchDirectories`, or a PalisadePolicy";
            item.fields.refuse_misplaced("fromSource", why, instead, draft.problems);
            (BTreeSet::new(), None)
        };
        if let Some(path) = path {
            draft.push(item, (self.matcher)(PathRule { path, owner_only, read_only, pts, allowed_arguments }), sources);
        }
    }
}

/// `pts`; only `false` changes anything, and KubeArmor's schema makes `true` of an absent one.
pub(crate) fn pts(item: &mut Item<'_>, draft: &mut Draft<'_>) -> Option<bool> {
    let place = item.fields.place_of("pts");
    item.fields.get("pts").and_then(|node| fields::boolean(node, &place, draft.problems))
}

fn arguments(node: &Node, place: &str, problems: &mut Problems) -> BTreeSet<String> {
    let items = fields::list(node, place, problems);
    if items.len() > MAX_ALLOWED_ARGUMENTS {
        let what = format!("{} has {} items", quoted(place), items.len());
        let why = format!("at most {MAX_ALLOWED_ARGUMENTS} are held of one rule");
        problems.error(
            node.at,
            what,
            why,
            "leave `allowedArgs` out for any arguments, or split the rule by `fromSource`",
        );
        return BTreeSet::new();
    }
    let mut arguments = BTreeSet::new();
    for (index, item) in items.iter().enumerate() {
        let place = format!("{place}[{index}]");
        let Some(argument) = fields::bounded_text(item, &place, MAX_ARGUMENT_BYTES, problems) else { continue };
        if argument.contains('\0') {
            problems.error(item.at, format!("{} holds a NUL", quoted(&place)), "no argument does", "remove it");
        }
        arguments.insert(argument);
    }
    arguments
}

fn directory(item: &mut Item<'_>, draft: &mut Draft<'_>) -> Option<PathMatch> {
    let recursive = fields::flag(&mut item.fields, "recursive", draft.problems);
    let node = item.fields.require("dir", "write `- dir: /etc/`", draft.problems)?;
    let directory = path::directory(node, &item.fields.place_of("dir"), draft.problems)?;
    Some(PathMatch::Directory { directory, recursive })
}
