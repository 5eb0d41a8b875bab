//! `fromSource`: the executables that must be acting for a rule to apply.
//!
//! Only whole paths: KubeArmor took directories once and removed them.

use std::collections::BTreeSet;

use crate::{diagnostic::Problems, fields, fields::Fields, path};

/// The paths of the item's `fromSource`; absent and empty mean any executable.
pub(crate) fn read(item: &mut Fields<'_>, problems: &mut Problems) -> BTreeSet<String> {
    let mut sources = BTreeSet::new();
    let Some(node) = item.get("fromSource") else { return sources };
    let place = item.place_of("fromSource");
    for (index, node) in fields::list(node, &place, problems).iter().enumerate() {
        let Some(mut source) = Fields::of(node, format!("{place}[{index}]"), problems) else { continue };
        let gone = "KubeArmor has removed directories as sources";
        source.refuse_misplaced("dir", gone, "name each executable: `- path: /usr/bin/x`", problems);
        source.refuse_misplaced("recursive", gone, "name each executable: `- path: /usr/bin/x`", problems);
        if source.has("dir") {
            // The missing `path` is not a second fault.
            source.get("path");
        } else if let Some(node) = source.require("path", "write `- path: /usr/bin/x`", problems) {
            sources.extend(path::executable(node, &source.place_of("path"), problems));
        }
        source.close(problems);
    }
    sources
}
