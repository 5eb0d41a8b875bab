//! Whether a path is one of a [`PathMatch`], for explanations and for what is matched in user space.
//!
//! Decision: by the text of the rule itself, and not by an automaton: it is asked once for a person, or for a system call that has a rule on
//! its path already. A property holds it equal to what is compiled. Time is bounded by pattern bytes x path bytes for each alternative.

use crate::ir::PathMatch;

impl PathMatch {
    /// Whether it matches the absolute path.
    #[must_use]
    pub fn matches(&self, path: &[u8]) -> bool {
        match self {
            Self::Exact(exact) => exact.as_bytes() == path,
            Self::Name(name) => {
                path.iter().rposition(|byte| *byte == b'/').is_some_and(|at| &path[at + 1..] == name.as_bytes())
            }
            Self::Directory { directory, recursive } => in_directory(directory.as_bytes(), *recursive, path),
            Self::Pattern(pattern) => alternatives(pattern.as_bytes()).iter().any(|glob| glob_matches(glob, path)),
            Self::Any => true,
        }
    }
}

/// The directory itself, but for `/`, which has no name without its slash, and what is in it.
fn in_directory(directory: &[u8], recursive: bool, path: &[u8]) -> bool {
    let itself = directory.strip_suffix(b"/").unwrap_or(directory);
    let inside = path.strip_prefix(directory);
    (!itself.is_empty() && path == itself) || inside.is_some_and(|rest| recursive || !rest.contains(&b'/'))
}

/// One step of a glob without braces.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Step<'p> {
    Byte(u8),
    /// `?`.
    One,
    /// `*`.
    Some,
    /// `**`.
    All,
    /// What `/**/` is after its first slash: nothing, or anything that ends in a slash.
    Between,
    /// The same once it has begun, so that it is no longer nothing.
    Within,
    /// The inside of `[...]`.
    Class(&'p [u8]),
}

/// The pattern with each of its ways through braces; their number and size are bounded where patterns are read.
fn alternatives(pattern: &[u8]) -> Vec<Vec<u8>> {
    let (mut at, mut depth, mut open, mut cuts) = (0, 0_usize, 0, Vec::new());
    while at < pattern.len() {
        match pattern[at] {
            b'\\' => at += 1,
            b'[' => at = class_end(pattern, at) - 1,
            b'{' => {
                depth += 1;
                if depth == 1 {
                    open = at;
                }
            }
            b',' if depth == 1 => cuts.push(at),
            b'}' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    cuts.push(at);
                    break;
                }
            }
            _ => {}
        }
        at += 1;
    }
    if cuts.is_empty() {
        return vec![pattern.to_vec()];
    }
    let starts = std::iter::once(open).chain(cuts.iter().copied()).map(|cut| cut + 1);
    let rest = &pattern[(at + 1).min(pattern.len())..];
    let one = |(start, end): (usize, &usize)| [&pattern[..open], &pattern[start..*end], rest].concat();
    starts.zip(&cuts).map(one).flat_map(|one| alternatives(&one)).collect()
}

/// The byte after the `]` of the class at `at`; a `]` in first place is a member.
fn class_end(pattern: &[u8], at: usize) -> usize {
    let first = at + 1 + usize::from(matches!(pattern.get(at + 1), Some(b'!' | b'^')));
    let mut end = first;
    while end < pattern.len() && (pattern[end] != b']' || end == first) {
        end += if pattern[end] == b'\\' { 2 } else { 1 };
    }
    (end + 1).min(pattern.len())
}

fn steps(glob: &[u8]) -> Vec<Step<'_>> {
    let mut steps = Vec::new();
    let mut rest = glob;
    while let Some(byte) = rest.first() {
        let length = match rest {
            [b'/', b'*', b'*', b'/', ..] => {
                steps.extend([Step::Byte(b'/'), Step::Between, Step::Within]);
                4
            }
            [b'*', b'*', ..] => {
                steps.push(Step::All);
                2
            }
            [b'[', ..] => {
                let end = class_end(rest, 0);
                steps.push(Step::Class(&rest[1..end - 1]));
                end
            }
            [b'\\', escaped, ..] => {
                steps.push(Step::Byte(*escaped));
                2
            }
            _ => {
                steps.push(match byte {
                    b'*' => Step::Some,
                    b'?' => Step::One,
                    byte => Step::Byte(*byte),
                });
                1
            }
        };
        rest = &rest[length..];
    }
    steps
}

/// Whether the glob matches the whole path: the set of steps that may come next, byte by byte.
fn glob_matches(glob: &[u8], path: &[u8]) -> bool {
    let steps = steps(glob);
    let mut may: Vec<bool> = vec![false; steps.len() + 1];
    may[0] = true;
    skip_empty(&steps, &mut may);
    for byte in path {
        let mut next = vec![false; steps.len() + 1];
        let is_slash = *byte == b'/';
        for (at, step) in steps.iter().enumerate().filter(|(at, _)| may[*at]) {
            match step {
                Step::Byte(wanted) => next[at + 1] |= wanted == byte,
                Step::One => next[at + 1] |= !is_slash,
                Step::Some => next[at] |= !is_slash,
                Step::All => next[at] = true,
                Step::Class(class) => next[at + 1] |= in_class(class, *byte),
                Step::Between => {
                    next[at + 1] = true;
                    next[at + 2] |= is_slash;
                }
                Step::Within => {
                    next[at] = true;
                    next[at + 1] |= is_slash;
                }
            }
        }
        skip_empty(&steps, &mut next);
        may = next;
    }
    may[steps.len()]
}

/// `*`, `**` and what is between the slashes of `/**/` may be nothing.
fn skip_empty(steps: &[Step<'_>], may: &mut [bool]) {
    for (at, step) in steps.iter().enumerate() {
        if !may[at] {
            continue;
        }
        match step {
            Step::Some | Step::All => may[at + 1] = true,
            Step::Between => may[at + 2] = true,
            _ => {}
        }
    }
}

/// Whether a class holds the byte; it never holds a slash, nor the NUL that no path has.
fn in_class(class: &[u8], byte: u8) -> bool {
    let (negated, mut members) = match class {
        [b'!' | b'^', rest @ ..] => (true, rest),
        _ => (false, class),
    };
    let mut found = false;
    while let Some((low, rest)) = member(members) {
        members = rest;
        let mut high = low;
        if let [b'-', rest @ ..] = rest
            && let Some((to, rest)) = member(rest)
        {
            (high, members) = (to, rest);
        }
        found |= (low..=high).contains(&byte);
    }
    byte != b'/' && byte != 0 && found != negated
}

fn member(class: &[u8]) -> Option<(u8, &[u8])> {
    match class {
        [b'\\', byte, rest @ ..] | [byte, rest @ ..] => Some((*byte, rest)),
        [] => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unit_path_match_matches_what_its_text_says() {
        let pattern = |text: &str| PathMatch::Pattern(text.to_owned());
        let directory =
            |directory: &str, recursive| PathMatch::Directory { directory: directory.to_owned(), recursive };
        let table: [(PathMatch, &[&str], &[&str]); 16] = [
            (PathMatch::Exact("/a/b".into()), &["/a/b"], &["/a", "/a/b/c"]),
            (PathMatch::Name("b".into()), &["/b", "/a/b"], &["/b/a", "/ab"]),
            (directory("/a/", false), &["/a", "/a/b"], &["/a/b/c", "/ab"]),
            (directory("/a/", true), &["/a", "/a/b/c"], &["/b"]),
            (directory("/", false), &["/a", "/"], &["/a/b"]),
            (PathMatch::Any, &["/", "/x"], &[]),
            (pattern("/a/*"), &["/a/b", "/a/"], &["/a/b/c", "/a"]),
            (pattern("/a/**"), &["/a/b/c", "/a/b"], &["/a", "/b"]),
            (pattern("/a/**/c"), &["/a/c", "/a/b/c", "/a/b/b/c"], &["/a/bc", "/ac"]),
            (pattern("**/c"), &["/c", "/a/c"], &["/cc"]),
            (pattern("/a?c"), &["/abc"], &["/a/c", "/ac"]),
            (pattern("/[a-c]x"), &["/ax", "/cx"], &["/dx"]),
            (pattern("/[!a]"), &["/b"], &["/a", "//"]),
            (pattern("/{a,b{c,d}}/x"), &["/a/x", "/bc/x", "/bd/x"], &["/b/x", "/c/x"]),
            (pattern("/\\*[]x]"), &["/*]", "/*x"], &["/a]"]),
            (pattern("/{,a}b"), &["/b", "/ab"], &["/aab"]),
        ];
        for (matcher, yes, no) in table {
            yes.iter().for_each(|path| assert!(matcher.matches(path.as_bytes()), "{matcher:?} {path}"));
            no.iter().for_each(|path| assert!(!matcher.matches(path.as_bytes()), "{matcher:?} {path}"));
        }
    }
}
