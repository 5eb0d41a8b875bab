//! `presets` and `apparmor`: what stands in a spec beside its families.
//!
//! A preset audits or blocks; an Allow of one changes nothing, for presets are no allow-list, and is warned of. Raw AppArmor lines are
//! checked for being text and said to be unheld: no tier of this version loads profiles.

use palisade_domain::Action;

use crate::{
    common::Common,
    diagnostic::{Problems, quoted},
    draft::{Draft, Item},
    fields::{self, Fields},
    ir::{Matcher, Preset},
    suggest,
    yaml::Node,
};

/// Lowers `spec.presets`.
pub(crate) fn read(spec: &mut Fields<'_>, outer: &Common, draft: &mut Draft<'_>) {
    let Some(node) = spec.get("presets") else { return };
    for (index, node) in fields::list(node, "presets", draft.problems).iter().enumerate() {
        draft.item(node, format!("presets[{index}]"), outer, item);
    }
}

fn item(item: &mut Item<'_>, draft: &mut Draft<'_>) {
    let place = item.fields.place_of("name");
    let node = item.fields.require("name", "write `- name: filelessExec`", draft.problems);
    let Some(preset) = node.and_then(|node| named(node, &place, draft.problems)) else { return };
    if item.common.action == Some(Action::Allow) {
        let what = format!("{} is allowed", quoted(&item.fields.place));
        let why = "a preset audits or blocks, and to allow it changes nothing";
        draft.problems.warning(item.fields.at, what, why, "write `action: Audit` or `Block`, or remove it");
    }
    draft.push(item, Matcher::Preset(preset), Default::default());
}

pub(crate) fn named(node: &Node, place: &str, problems: &mut Problems) -> Option<Preset> {
    let written = fields::text(node, place, problems)?;
    let found = Preset::ALL.into_iter().find(|preset| preset.name() == written);
    if found.is_none() {
        let names = Preset::ALL.map(Preset::name);
        let instead = match suggest::nearest(written, names) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("write one of {}", fields::listed(&names)),
        };
        problems.error(
            node.at,
            format!("{} is {}", quoted(place), quoted(written)),
            "there is no such preset",
            instead,
        );
    }
    found
}

/// Reads `spec.apparmor`.
pub(crate) fn read_apparmor(spec: &mut Fields<'_>, draft: &mut Draft<'_>) {
    let Some(node) = spec.get("apparmor") else { return };
    let Some(lines) = fields::text(node, "spec.apparmor", draft.problems) else { return };
    if !lines.trim().is_empty() {
        let reason = "this version loads no AppArmor profiles, on any kernel: the lines are read by nobody";
        draft.unheld(node.at, "apparmor", "apparmor", reason, "write what they say as rules of the other families");
    }
}
