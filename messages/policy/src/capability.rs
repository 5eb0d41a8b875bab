//! The capabilities family: which of Linux's capabilities may be used.
//!
//! Decision: all 41 of Linux, where KubeArmor's schema names 34; with or without `cap_`, in upper or lower case, several with commas
//! between them, as there. KubeArmor's pattern is not anchored at its start, so that it takes `xchown`, and never matches it: refused
//! here, with the nearest name.

use palisade_domain::CAPABILITIES;

use crate::{
    common::Common,
    diagnostic::{Problems, quoted},
    draft::Draft,
    fields::{self, Fields},
    ir::{CapabilityMatch, Matcher},
    suggest,
    yaml::Node,
};

/// Lowers `spec.capabilities`.
pub(crate) fn read(spec: &mut Fields<'_>, outer: &Common, draft: &mut Draft<'_>) {
    draft.family(spec, "capabilities", outer, |family, common, draft| {
        draft.items(family, "matchCapabilities", common, |item, draft| {
            let sources = draft.sources(item);
            let place = item.fields.place_of("capability");
            let node = item.fields.require("capability", "write `- capability: net_raw`", draft.problems);
            let Some(node) = node else { return };
            for capability in each_named(node, &place, draft.problems) {
                draft.push(item, Matcher::Capability(capability), sources.clone());
            }
        });
    });
}

/// The capabilities of a field such as `net_raw` or `net_raw,net_admin`, in order, without repetition.
fn each_named(node: &Node, place: &str, problems: &mut Problems) -> Vec<CapabilityMatch> {
    let Some(written) = fields::text(node, place, problems) else { return Vec::new() };
    let mut capabilities: Vec<CapabilityMatch> = Vec::new();
    for name in fields::comma_list(written) {
        let capability = named_so(name, node, place, problems).filter(|one| !capabilities.contains(one));
        capabilities.extend(capability);
    }
    capabilities
}

/// The capability of a name.
pub(crate) fn named(node: &Node, place: &str, problems: &mut Problems) -> Option<CapabilityMatch> {
    let written = fields::text(node, place, problems)?;
    named_so(written, node, place, problems)
}

fn named_so(written: &str, node: &Node, place: &str, problems: &mut Problems) -> Option<CapabilityMatch> {
    let lower = written.to_ascii_lowercase();
    let name = lower.strip_prefix("cap_").unwrap_or(&lower);
    if let Some((number, name)) = (0..).zip(CAPABILITIES).find(|(_, known)| *known == name) {
        return Some(CapabilityMatch { name: name.to_owned(), number });
    }
    let instead = match suggest::nearest(name, CAPABILITIES) {
        Some(near) => format!("did you mean `{near}`?"),
        None => "write one such as `net_raw`: capabilities(7) lists them".to_owned(),
    };
    let what = format!("{} is {}", quoted(place), quoted(written));
    problems.error(node.at, what, "Linux has no such capability", instead);
    None
}
