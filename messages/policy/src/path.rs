//! Absolute paths, directories and bare names as policies write them.
//!
//! Invariant: what is accepted is a path that the kernel can produce: absolute, without `//`, `.` or `..`, at most
//! [`MAX_PATH_BYTES`] long. Decision: a path that is not is refused and not normalised, because `..` cannot be resolved
//! without the workload's symbolic links, and a rule that matches another path than the written one surprises.
//! KubeArmor's bound of 200 bytes is the size of its map key; ours is the kernel's own.

use crate::{
    diagnostic::{Problems, quoted},
    fields,
    yaml::Node,
};

/// `PATH_MAX` without the final NUL.
pub const MAX_PATH_BYTES: usize = 4_095;
/// `NAME_MAX`.
pub const MAX_NAME_BYTES: usize = 255;

/// Any absolute path, without the trailing slash that only policies give a meaning.
pub(crate) fn absolute(node: &Node, place: &str, problems: &mut Problems) -> Option<String> {
    let path = fields::text(node, place, problems)?;
    let fault = if path == "/" { None } else { fault(path).or_else(|| slash_fault(path, false)) };
    accept(node, place, path, fault, problems)
}

/// The path of one file, in `matchPaths`.
pub(crate) fn file(node: &Node, place: &str, problems: &mut Problems) -> Option<String> {
    let path = fields::text(node, place, problems)?;
    let fault = fault(path).or_else(|| slash_fault(path, true));
    let path = accept(node, place, path, fault, problems)?;
    warn_of_wildcards(node, place, &path, "write it below `matchPatterns`", problems);
    Some(path)
}

/// The path of one executable, where there are no directories and no patterns.
pub(crate) fn executable(node: &Node, place: &str, problems: &mut Problems) -> Option<String> {
    let path = fields::text(node, place, problems)?;
    let fault = fault(path).or_else(|| slash_fault(path, false));
    let path = accept(node, place, path, fault, problems)?;
    warn_of_wildcards(node, place, &path, "name each executable in an item of its own", problems);
    Some(path)
}

/// A directory, with its trailing slash.
pub(crate) fn directory(node: &Node, place: &str, problems: &mut Problems) -> Option<String> {
    let path = fields::text(node, place, problems)?;
    let fault = fault(path).or_else(|| {
        (!path.ends_with('/'))
            .then(|| ("a directory ends in `/`".to_owned(), format!("write {}", quoted(&format!("{path}/")))))
    });
    let directory = accept(node, place, path, fault, problems)?;
    let instead = format!("write {} below `matchPatterns`", quoted(&format!("{directory}**")));
    warn_of_wildcards(node, place, &directory, &instead, problems);
    Some(directory)
}

/// A directory that may lack its trailing slash, where KubeArmor's schema takes any text and only a directory can be meant.
pub(crate) fn slashed_directory(node: &Node, place: &str, problems: &mut Problems) -> Option<String> {
    let written = fields::text(node, place, problems)?;
    if written.is_empty() || written.ends_with('/') {
        return directory(node, place, problems);
    }
    let value = crate::yaml::Value::Scalar { text: format!("{written}/"), plain: false };
    directory(&Node { at: node.at, value }, place, problems)
}

/// A bare executable name.
pub(crate) fn name(node: &Node, place: &str, problems: &mut Problems) -> Option<String> {
    let name = fields::text(node, place, problems)?;
    let fault = if name.contains('/') {
        Some((
            "a name has no `/`".to_owned(),
            "write `path:` for a whole path, or only what follows the last `/`".into(),
        ))
    } else if matches!(name, "" | "." | "..") {
        Some(("no executable has it".to_owned(), "write the executable's name".to_owned()))
    } else if name.len() > MAX_NAME_BYTES {
        Some((format!("a name has at most {MAX_NAME_BYTES} bytes"), "shorten it".to_owned()))
    } else {
        None
    };
    let name = accept(node, place, name, fault, problems)?;
    let instead = format!("write {} below `matchPatterns`", quoted(&format!("/**/{name}")));
    warn_of_wildcards(node, place, &name, &instead, problems);
    Some(name)
}

/// `*` and `?` may be in file names, so that this is no error; but AppArmor has taught people to write patterns anywhere.
fn warn_of_wildcards(node: &Node, place: &str, written: &str, instead: &str, problems: &mut Problems) {
    if written.contains(['*', '?']) {
        let why = "`*` and `?` are ordinary characters in a path";
        problems.warning(node.at, format!("{} has a wildcard", quoted(place)), why, instead);
    }
}

/// `has_lists`: directories have a list of their own here.
fn slash_fault(path: &str, has_lists: bool) -> Option<(String, String)> {
    let trimmed = path.strip_suffix('/')?;
    let instead = match (trimmed, has_lists) {
        ("", true) => "write `dir: /` below `matchDirectories`".to_owned(),
        ("", false) => "write the path of one file".to_owned(),
        (trimmed, true) => {
            format!("write {}, or {} below `matchDirectories`", quoted(trimmed), quoted(&format!("dir: {path}")))
        }
        (trimmed, false) => format!("write {}", quoted(trimmed)),
    };
    Some(("a path that ends in `/` is a directory".to_owned(), instead))
}

fn accept(
    node: &Node,
    place: &str,
    written: &str,
    fault: Option<(String, String)>,
    problems: &mut Problems,
) -> Option<String> {
    let Some((why, instead)) = fault else { return Some(written.to_owned()) };
    problems.error(node.at, format!("{} is {}", quoted(place), quoted(written)), why, instead);
    None
}

/// Why no kernel path is `path`, and what to write; shared by paths and directories.
fn fault(path: &str) -> Option<(String, String)> {
    if path.len() > MAX_PATH_BYTES {
        let why = format!("it has {} bytes, and no path has more than {MAX_PATH_BYTES}", path.len());
        return Some((why, "shorten it, or use a pattern".to_owned()));
    }
    if path.contains('\0') {
        return Some(("no path holds a NUL".to_owned(), "remove it".to_owned()));
    }
    if !path.starts_with('/') {
        return Some(("a path is absolute, it begins with `/`".to_owned(), absolute_instead(path)));
    }
    component_fault(path)
}

/// The path that was probably meant, if it is one that would be accepted.
fn absolute_instead(path: &str) -> String {
    let trimmed = path.trim();
    let meant = if trimmed.starts_with('/') { trimmed.to_owned() } else { format!("/{trimmed}") };
    // `~/x`, `$HOME/x` and `./x` stand for what only their writer knows.
    if trimmed.is_empty() || trimmed.starts_with(['~', '$', '.']) || component_fault(&meant).is_some() {
        return "write the whole path".to_owned();
    }
    format!("write {}", quoted(&meant))
}

fn component_fault(path: &str) -> Option<(String, String)> {
    let inner = path.strip_suffix('/').unwrap_or(path);
    let mut components = inner.split('/').skip(1);
    let odd = components.find(|c| matches!(*c, "" | "." | "..") || c.len() > MAX_NAME_BYTES)?;
    Some(match odd {
        "" => ("the kernel never gives a path with `//`".to_owned(), format!("write {}", quoted(&simplified(path)))),
        "." => ("the kernel never gives a path with `.`".to_owned(), format!("write {}", quoted(&simplified(path)))),
        ".." => {
            let why = "the kernel never gives a path with `..`, and what it means depends on symbolic links";
            (why.to_owned(), "write the path that `realpath` prints in the workload".to_owned())
        }
        _ => (format!("no file name has more than {MAX_NAME_BYTES} bytes"), "shorten it, or use a pattern".to_owned()),
    })
}

/// Without empty and `.` components.
fn simplified(path: &str) -> String {
    let directory = path.ends_with('/');
    let kept: Vec<&str> = path.split('/').filter(|component| !matches!(*component, "" | ".")).collect();
    match (kept.is_empty(), directory) {
        (true, _) => "/".to_owned(),
        (false, true) => format!("/{}/", kept.join("/")),
        (false, false) => format!("/{}", kept.join("/")),
    }
}
