//! The name that was probably meant: smallest edit distance, ignoring case.
//!
//! Decision: at most one edit for each three characters, so that `paht` finds `path` and `foo` finds nothing.

/// The candidate nearest to `written`, if one is near enough. Of equally near ones the first.
pub(crate) fn nearest<'c>(written: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    /// Longer than any name that we know: no suggestion, and no quadratic work.
    const MAX_CHARS: usize = 64;
    let written: Vec<char> = written.chars().flat_map(char::to_lowercase).take(MAX_CHARS + 1).collect();
    if written.len() > MAX_CHARS {
        return None;
    }
    candidates
        .into_iter()
        .map(|candidate| {
            let lower: Vec<char> = candidate.chars().flat_map(char::to_lowercase).collect();
            (edits(&written, &lower), lower.len(), candidate)
        })
        .filter(|(edits, length, _)| *edits <= (length.max(&written.len()) / 3).max(1) && *edits < *length)
        .min_by_key(|(edits, _, _)| *edits)
        .map(|(_, _, candidate)| candidate)
}

/// Optimal string alignment: insertions, deletions, substitutions and swaps of neighbours.
fn edits(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = vec![0; b.len() + 1];
    let mut previous: Vec<usize> = (0..=b.len()).collect();
    for i in 0..a.len() {
        let mut current = vec![i + 1; b.len() + 1];
        for j in 0..b.len() {
            let substituted = previous[j] + usize::from(a[i] != b[j]);
            let mut best = substituted.min(previous[j + 1] + 1).min(current[j] + 1);
            if i > 0 && j > 0 && a[i] == b[j - 1] && a[i - 1] == b[j] {
                best = best.min(before[j - 1] + 1);
            }
            current[j + 1] = best;
        }
        before = std::mem::replace(&mut previous, current);
    }
    previous[b.len()]
}
