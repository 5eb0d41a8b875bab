//! The file family: which files may be opened.

use crate::{common::Common, draft::Draft, fields::Fields, ir::Matcher, path_family::PathFamily};

const FILE: PathFamily = PathFamily { bare_names: false, read_only: true, matcher: Matcher::File };

/// Lowers `spec.file`.
pub(crate) fn read(spec: &mut Fields<'_>, outer: &Common, draft: &mut Draft<'_>) {
    draft.family(spec, "file", outer, |family, common, draft| FILE.read(family, common, draft));
}
