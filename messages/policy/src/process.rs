//! The process family: which files may be executed.

use crate::{common::Common, draft::Draft, fields::Fields, ir::Matcher, path_family::PathFamily};

const PROCESS: PathFamily = PathFamily { bare_names: true, read_only: false, matcher: Matcher::Process };

/// Lowers `spec.process`.
pub(crate) fn read(spec: &mut Fields<'_>, outer: &Common, draft: &mut Draft<'_>) {
    draft.family(spec, "process", outer, |family, common, draft| PROCESS.read(family, common, draft));
}
