//! The ptrace family of a PalisadePolicy: which processes may be traced, by the path of their executable.

use crate::{
    common::Common,
    draft::Draft,
    fields::Fields,
    ir::{Matcher, PathMatch},
    path,
};

/// Lowers `spec.ptrace`. An item without a target is about every process.
pub(crate) fn read(spec: &mut Fields<'_>, outer: &Common, draft: &mut Draft<'_>) {
    draft.family(spec, "ptrace", outer, |family, common, draft| {
        draft.items(family, "match", common, |item, draft| {
            let sources = draft.sources(item);
            let target = match item.fields.get("target") {
                Some(node) => {
                    path::executable(node, &item.fields.place_of("target"), draft.problems).map(PathMatch::Exact)
                }
                None => Some(PathMatch::Any),
            };
            if let Some(target) = target {
                draft.push(item, Matcher::Ptrace(target), sources);
            }
        });
    });
}
