//! `fromSource`: the executables that must be acting for a rule to apply.
//!
//! Only whole paths: KubeArmor took directories once and removed them.

use std::collections::BTreeSet;

use crate::{draft::Draft, fields, fields::Fields, path};

/// The paths of the item's `fromSource`; absent and empty mean any executable.
pub(crate) fn read(item: &mut Fields<'_>, draft: &mut Draft<'_>) -> BTreeSet<String> {
    let mut sources = BTreeSet::new();
    let Some(node) = item.get("fromSource") else { return sources };
    let place = item.place_of("fromSource");
    for (index, node) in fields::list(node, &place, draft.problems).iter().enumerate() {
        let Some(mut source) = Fields::of(node, format!("{place}[{index}]"), draft.problems) else { continue };
        draft.refuse_ancestors(&mut source);
        let gone = "KubeArmor has removed directories as sources";
        source.refuse_misplaced("dir", gone, "name each executable: `- path: /usr/bin/x`", draft.problems);
        source.refuse_misplaced("recursive", gone, "name each executable: `- path: /usr/bin/x`", draft.problems);
        if source.has("dir") {
            // The missing `path` is not a second fault.
            source.get("path");
        } else if let Some(node) = source.require("path", "write `- path: /usr/bin/x`", draft.problems) {
            sources.extend(path::executable(node, &source.place_of("path"), draft.problems));
        }
        source.close(draft.problems);
    }
    sources
}
