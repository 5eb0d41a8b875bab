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
    let fault = if path == "/" { None } else { fault(path).or_else(|| slash_fault(path)) };
    accept(node, place, path, fault, problems)
}

/// The path of one file.
pub(crate) fn file(node: &Node, place: &str, problems: &mut Problems) -> Option<String> {
    let path = fields::text(node, place, problems)?;
    let fault = fault(path).or_else(|| slash_fault(path));
    accept(node, place, path, fault, problems)?;
    if path.contains(['*', '?']) {
        let why = "`*` and `?` are ordinary characters in a path";
        problems.warning(node.at, format!("{} has a wildcard", quoted(place)), why, "write it below `matchPatterns`");
    }
    Some(path.to_owned())
}

/// A directory, with its trailing slash.
pub(crate) fn directory(node: &Node, place: &str, problems: &mut Problems) -> Option<String> {
    let path = fields::text(node, place, problems)?;
    let fault = fault(path).or_else(|| {
        (!path.ends_with('/'))
            .then(|| ("a directory ends in `/`".to_owned(), format!("write {}", quoted(&format!("{path}/")))))
    });
    accept(node, place, path, fault, problems)
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
    accept(node, place, name, fault, problems)
}

fn slash_fault(path: &str) -> Option<(String, String)> {
    let trimmed = path.strip_suffix('/')?;
    let instead = match trimmed {
        "" => "write `dir: /` below `matchDirectories`".to_owned(),
        trimmed => {
            format!("write {}, or {} below `matchDirectories`", quoted(trimmed), quoted(&format!("dir: {path}")))
        }
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
        let why = "a path is absolute, it begins with `/`".to_owned();
        let instead = if path.is_empty() {
            "write the whole path".to_owned()
        } else {
            format!("write {}", quoted(&format!("/{path}")))
        };
        return Some((why, instead));
    }
    component_fault(path)
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
