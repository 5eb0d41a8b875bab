//! The syscalls family: which system calls are audited, on what, and by whom.
//!
//! Invariant: its rules audit, whatever action is written: KubeArmor's do. A written `Block` or `Allow` is said to be unheld, once a
//! document, and the calls are audited all the same. The numbers of a name are those of x86-64 and of i386, for a 64-bit kernel serves
//! both, and a rule that knows one table only is evaded by `int $0x80`.
//!
//! Decision: names and numbers come from the crate `syscalls`, whose tables are generated from the kernel's own. KubeArmor's schema has
//! about 330 names of x86-64, of which its monitor sees 18; here every name of both tables is taken.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
};

use palisade_domain::Action;
use syscalls::{x86, x86_64};

use crate::{
    common::Common,
    diagnostic::{Problems, quoted},
    draft::{Draft, Item, Sources},
    fields::{self, Fields},
    ir::{Matcher, PathMatch, SourceDirectory, SyscallMatch},
    path, suggest,
    yaml::Node,
};

/// Past it numbers have no place in the decision table: both tables end below 470.
const NUMBERS: u16 = 512;

/// Of x86-64, and of i386.
type Numbers = (Option<u16>, Option<u16>);

/// By name.
static TABLE: LazyLock<BTreeMap<&'static str, Numbers>> = LazyLock::new(|| {
    let number = |id: i32| u16::try_from(id).ok().filter(|number| *number < NUMBERS);
    let mut table: BTreeMap<&'static str, Numbers> = BTreeMap::new();
    for call in x86_64::Sysno::iter() {
        table.entry(call.name()).or_default().0 = number(call.id());
    }
    for call in x86::Sysno::iter() {
        table.entry(call.name()).or_default().1 = number(call.id());
    }
    table.retain(|_, numbers| *numbers != (None, None));
    table
});

/// Lowers `spec.syscalls`.
pub(crate) fn read(spec: &mut Fields<'_>, outer: &Common, draft: &mut Draft<'_>) {
    draft.family(spec, "syscalls", outer, |family, common, draft| {
        let (at, mut asked) = (family.at, None);
        draft.items(family, "matchSyscalls", common, |item, draft| item_of_calls(item, false, &mut asked, draft));
        draft.items(family, "matchPaths", common, |item, draft| item_of_calls(item, true, &mut asked, draft));
        let reason = match asked {
            Some(Action::Block) => "KubeArmor's syscalls family only audits: the calls are audited and go on",
            Some(Action::Allow) => {
                "KubeArmor's syscalls family only audits, and makes no allow-list: the calls are audited"
            }
            _ => return,
        };
        draft.unheld(at, "syscalls", "syscalls", reason, "write `action: Audit`, which is what holds");
    });
}

fn item_of_calls(item: &mut Item<'_>, has_path: bool, asked: &mut Option<Action>, draft: &mut Draft<'_>) {
    let sources = sources(item, draft);
    let path = if has_path { Some(path(item, draft)) } else { None };
    let place = item.fields.place_of("syscall");
    let node = item.fields.require("syscall", "write `syscall: [ptrace]`", draft.problems);
    let Some(names) = node.map(|node| names(node, &place, draft.problems)).filter(|names| !names.is_empty()) else {
        return;
    };
    // A path that could not be read is reported.
    let path = match path {
        Some(None) => return,
        Some(Some(path)) => Some(path),
        None => None,
    };
    let numbers = |of: fn(&Numbers) -> Option<u16>| -> BTreeSet<u16> {
        names.iter().filter_map(|name| TABLE.get(name.as_str()).and_then(of)).collect()
    };
    let (numbers, numbers32) = (numbers(|numbers| numbers.0), numbers(|numbers| numbers.1));
    *asked = (*asked).max(item.common.action.filter(|action| *action != Action::Audit));
    let call = SyscallMatch { names, numbers, numbers32, path };
    draft.push_auditing(item, Matcher::Syscall(call), sources);
}

/// A file, or a directory with its trailing slash.
fn path(item: &mut Item<'_>, draft: &mut Draft<'_>) -> Option<PathMatch> {
    let recursive = fields::flag(&mut item.fields, "recursive", draft.problems);
    let place = item.fields.place_of("path");
    let node =
        item.fields.require("path", "write `- path: /etc/passwd`, or `/etc/` for a directory", draft.problems)?;
    let written = fields::text(node, &place, draft.problems)?;
    if written.ends_with('/') {
        let directory = path::directory(node, &place, draft.problems)?;
        return Some(PathMatch::Directory { directory, recursive });
    }
    let file = path::file(node, &place, draft.problems)?;
    if recursive {
        let why = "it is a file, which has nothing below it";
        let instead = format!("write {}, or remove `recursive`", quoted(&format!("{file}/")));
        draft.problems.error(node.at, format!("{} is `recursive`", quoted(&place)), why, instead);
        return None;
    }
    Some(PathMatch::Exact(file))
}

fn names(node: &Node, place: &str, problems: &mut Problems) -> Vec<String> {
    let items = fields::list(node, place, problems);
    if items.is_empty() && matches!(node.value, crate::yaml::Value::Sequence(_)) {
        let what = format!("{} has no items", quoted(place));
        problems.error(
            node.at,
            what,
            "a rule about no system call never matches",
            "add `- ptrace`, or remove the item",
        );
    }
    let mut names: Vec<String> = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let place = format!("{place}[{index}]");
        let Some((name, _)) = named(item, &place, problems) else { continue };
        if !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
    }
    names
}

/// A system call's name, and its numbers.
pub(crate) fn named<'n>(node: &'n Node, place: &str, problems: &mut Problems) -> Option<(&'n str, Numbers)> {
    let written = fields::text(node, place, problems)?;
    if let Some(numbers) = TABLE.get(written) {
        return Some((written, *numbers));
    }
    let instead = match suggest::nearest(written, TABLE.keys().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => "write a name of syscalls(2), lower case".to_owned(),
    };
    let what = format!("{} is {}", quoted(place), quoted(written));
    problems.error(node.at, what, "Linux has no such system call on x86-64 or i386", instead);
    None
}

/// `fromSource`, which has directories in this family only.
fn sources(item: &mut Item<'_>, draft: &mut Draft<'_>) -> Sources {
    let mut sources = Sources::default();
    let Some(node) = item.fields.get("fromSource") else { return sources };
    let place = item.fields.place_of("fromSource");
    for (index, node) in fields::list(node, &place, draft.problems).iter().enumerate() {
        let Some(mut source) = Fields::of(node, format!("{place}[{index}]"), draft.problems) else { continue };
        draft.refuse_ancestors(&mut source);
        one_source(&mut source, &mut sources, draft);
        source.close(draft.problems);
    }
    sources
}

fn one_source(source: &mut Fields<'_>, sources: &mut Sources, draft: &mut Draft<'_>) {
    let recursive = fields::flag(source, "recursive", draft.problems);
    match (source.get("path"), source.get("dir")) {
        (Some(_), Some(dir)) => {
            let what = "both `path` and `dir`";
            draft.problems.error(dir.at, what, "a source is one of them", "remove one, or write two items");
        }
        (Some(path), None) => sources.paths.extend(path::executable(path, &source.place_of("path"), draft.problems)),
        (None, Some(dir)) => {
            let directory = path::slashed_directory(dir, &source.place_of("dir"), draft.problems);
            sources.directories.extend(directory.map(|directory| SourceDirectory { directory, recursive }));
        }
        (None, None) => {
            source.require("path", "write `- path: /usr/bin/x` or `- dir: /usr/bin/`", draft.problems);
        }
    }
}

/// Whether Linux has a system call of this name, and its numbers on x86-64 and i386.
#[must_use]
pub fn syscall_numbers(name: &str) -> Option<(Option<u16>, Option<u16>)> {
    TABLE.get(name).copied()
}
