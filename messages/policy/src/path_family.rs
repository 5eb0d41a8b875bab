//! The three lists that the process and file families share: `matchPaths`, `matchDirectories`, `matchPatterns`.

use std::collections::BTreeSet;

use palisade_domain::PolicyKind;

use crate::{
    common::Common,
    draft::{Draft, Item},
    fields::{self, Fields},
    ir::{Matcher, PathMatch, PathRule},
    path, pattern,
};

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
            self.refuse_later_fields(item, draft);
            let path = self.path(item, draft);
            self.finish(item, path, true, draft);
        });
        draft.items(family, "matchDirectories", outer, |item, draft| {
            self.refuse_later_fields(item, draft);
            let directory = directory(item, draft);
            self.finish(item, directory, true, draft);
        });
        draft.items(family, "matchPatterns", outer, |item, draft| {
            let place = item.fields.place_of("pattern");
            let node = item.fields.require("pattern", "write `- pattern: /usr/**/name`", draft.problems);
            let pattern = node.and_then(|node| pattern::pattern(node, &place, draft.problems)).map(PathMatch::Pattern);
            // KubeArmor's kinds have no source for patterns; our own kind extends them.
            self.finish(item, pattern, draft.kind() == PolicyKind::PalisadePolicy, draft);
        });
    }

    fn refuse_later_fields(self, item: &mut Item<'_>, draft: &mut Draft<'_>) {
        item.fields.refuse_unsupported(&["pts"], "remove `pts`", draft.problems);
        if self.bare_names {
            let instead = "remove `allowedArgs`; the rule then holds for any arguments";
            item.fields.refuse_unsupported(&["allowedArgs"], instead, draft.problems);
        }
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
    fn finish(self, item: &mut Item<'_>, path: Option<PathMatch>, has_source: bool, draft: &mut Draft<'_>) {
        let owner_only = fields::flag(&mut item.fields, "ownerOnly", draft.problems);
        let read_only = if self.read_only {
            fields::flag(&mut item.fields, "readOnly", draft.problems)
        } else {
            let instead = "remove it, or write the rule below `file`";
            item.fields.refuse_misplaced("readOnly", "execution has no write mode", instead, draft.problems);
            false
        };
        let sources = if has_source {
            draft.sources(item)
        } else {
            let why = "KubeArmor's patterns have no source";
            let instead = "use `matchPaths` or `matchDirectories`, or a PalisadePolicy";
            item.fields.refuse_misplaced("fromSource", why, instead, draft.problems);
            BTreeSet::new()
        };
        if let Some(path) = path {
            draft.push(item, (self.matcher)(PathRule { owner_only, read_only, ..PathRule::of(path) }), sources);
        }
    }
}

fn directory(item: &mut Item<'_>, draft: &mut Draft<'_>) -> Option<PathMatch> {
    let recursive = fields::flag(&mut item.fields, "recursive", draft.problems);
    let node = item.fields.require("dir", "write `- dir: /etc/`", draft.problems)?;
    let directory = path::directory(node, &item.fields.place_of("dir"), draft.problems)?;
    Some(PathMatch::Directory { directory, recursive })
}
