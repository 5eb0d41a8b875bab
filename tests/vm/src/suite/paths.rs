//! Paths that need every later iteration of the climb, and mounts on the way.
//!
//! On 6.1 the verifier checks a `bpf_loop` callback as if it ran once, so a loop may be wrong in its second iteration and
//! still load: each loop is driven here far past its first.

use std::path::PathBuf;

use libtest_mimic::{Failed, Trial};

use super::{
    Checked,
    fixture::{Subject, ensure_outcomes, policy, subject},
};
use crate::act::{Act, Change};

pub fn trials() -> Vec<Trial> {
    vec![
        Trial::test("vm_lsm_names_paths_of_more_than_a_hundred_components", deep),
        Trial::test("vm_lsm_names_paths_of_64_to_4000_bytes_to_the_last_byte", long),
        Trial::test("vm_lsm_takes_the_fail_mode_past_the_longest_path", beyond),
        Trial::test("vm_lsm_names_paths_across_many_nested_mounts", mounts),
        Trial::test("vm_lsm_refuses_what_goes_by_a_bind_of_after_the_start_and_before_the_policy", bound_before),
        Trial::test(
            "vm_lsm_judges_a_file_of_two_names_from_before_the_policy_by_the_one_it_is_opened_by",
            linked_before,
        ),
    ]
}

/// A path below `/tmp` of about so many bytes, of components of `width` bytes; its name is `last`.
fn path(below: &str, bytes: usize, width: usize, last: &str) -> PathBuf {
    let mut path = format!("/tmp/{below}");
    while path.len() + width + last.len() + 2 <= bytes {
        path.push('/');
        path.push_str(&"d".repeat(width));
    }
    // The last directory takes up the remaining bytes, so that every length is met exactly.
    let left = bytes.saturating_sub(path.len() + last.len() + 2);
    if left > 0 {
        path.push('/');
        path.push_str(&"e".repeat(left));
    }
    PathBuf::from(format!("{path}/{last}"))
}

/// Of each path one is forbidden and its neighbour, which differs in its last byte alone, is not.
fn ensure_last_byte_decides(subject: &Subject, paths: &[(PathBuf, PathBuf)]) -> Checked {
    let all = || paths.iter().flat_map(|(forbidden, neighbour)| [forbidden, neighbour]);
    let made: Vec<Act> = all().map(|path| Act::CreateFar(path.clone())).collect();
    let rules: String = paths.iter().map(|(forbidden, _)| format!("  - path: {}\n", forbidden.display())).collect();
    let policy = policy(&format!("file:\n  matchPaths:\n{rules}  action: Block"))?;
    let nothing = self::policy("file:\n  matchPaths: [ { path: /nothing } ]\naction: Block")?;
    subject.ensure(&nothing, &[], &made)?;
    let denied: Vec<Act> = paths.iter().map(|(forbidden, _)| Act::OpenFar(forbidden.clone())).collect();
    let permitted: Vec<Act> = paths.iter().map(|(_, neighbour)| Act::OpenFar(neighbour.clone())).collect();
    subject.ensure(&policy, &denied, &permitted)
}

fn deep() -> Checked {
    let pair = |components: usize| {
        let below = format!("deep-{components}");
        let bytes = "/tmp/".len() + below.len() + 2 * components + "/file-0".len();
        (path(&below, bytes, 1, "file-0"), path(&below, bytes, 1, "file-1"))
    };
    ensure_last_byte_decides(subject()?, &[pair(2), pair(17), pair(64), pair(100), pair(120)])
}

fn long() -> Checked {
    let pair = |bytes: usize| {
        let below = format!("long-{bytes}");
        (path(&below, bytes, 200, "file-0"), path(&below, bytes, 200, "file-1"))
    };
    let lengths = [63, 64, 65, 199, 200, 201, 254, 255, 256, 257, 1023, 1024, 4000];
    ensure_last_byte_decides(subject()?, &lengths.map(pair))
}

/// A path that no rule can name and no walk can hold is not permitted for want of a name.
fn beyond() -> Checked {
    let (too_long, too_deep) = (path("beyond", 4300, 200, "file"), path("abyss", 900, 1, "file"));
    let nothing = policy("file:\n  matchPaths: [ { path: /nothing } ]\naction: Block")?;
    let made = [Act::CreateFar(too_long.clone()), Act::CreateFar(too_deep.clone())];
    subject()?.container.exec(&made)?;
    subject()?.ensure(&nothing, &[Act::OpenFar(too_long), Act::OpenFar(too_deep)], &[Act::Open("/etc/public".into())])
}

/// Each mount is inside the one before: as many crossings as mounts.
fn mounts() -> Checked {
    const NESTED: usize = 24;
    let places: Vec<String> = (1..=NESTED).map(|depth| format!("/m{}", "/m".repeat(depth - 1))).collect();
    let options: Vec<String> = places
        .iter()
        .flat_map(|place| ["--mount".to_owned(), format!("type=tmpfs,src=tmpfs,dst={place},options=rw")])
        .collect();
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let subject = Subject::start("mounted", &options)?;
    let pair = |place: &String| (PathBuf::from(format!("{place}/file-0")), PathBuf::from(format!("{place}/file-1")));
    let deepest = places.iter().skip(NESTED - 1).map(pair);
    let pairs: Vec<_> = places.iter().take(2).map(pair).chain(deepest).collect();
    ensure_last_byte_decides(&subject, &pairs)?;
    subject.remove()
}

const KEPT: &str = "/tmp/kept";
const FORBIDS_KEPT: &str = "file:\n  matchPaths: [ { path: /tmp/kept/secret } ]\naction: Block";

fn change(change: Change, path: &str, to: &str) -> Act {
    Act::Change(change, path.into(), to.into())
}

fn open(path: &str) -> Act {
    Act::Open(path.into())
}

/// A container with two files in [`KEPT`], which then did something more.
fn with_kept(id: &str, more: &[Act]) -> Result<Subject, Failed> {
    let subject = Subject::start(id, &["--privileged"])?;
    let first = [change(Change::Mkdir, KEPT, "")];
    let files = ["secret", "public"].map(|name| Act::Create(format!("{KEPT}/{name}").into()));
    let all: Vec<Act> = first.into_iter().chain(files).chain(more.iter().cloned()).collect();
    ensure_outcomes(&all, &subject.container.exec(&all)?, 0)?;
    Ok(subject)
}

/// Its mount table is of its start: by a mount that is not in it nobody can tell what a file's name is, so that none goes by it.
fn bound_before() -> Checked {
    let bound = [change(Change::Mkdir, "/tmp/bound", ""), change(Change::Bind, KEPT, "/tmp/bound")];
    let subject = with_kept("bound", &bound)?;
    let denied = ["/tmp/kept/secret", "/tmp/bound/secret", "/tmp/bound/public"].map(open);
    subject.ensure(&policy(FORBIDS_KEPT)?, &denied, &[open("/tmp/kept/public")])?;
    subject.remove()
}

/// README.md says so, and why.
fn linked_before() -> Checked {
    let subject = with_kept("linked", &[change(Change::Link, "/tmp/kept/secret", "/tmp/linked")])?;
    subject.ensure(&policy(FORBIDS_KEPT)?, &[open("/tmp/kept/secret")], &[open("/tmp/linked")])?;
    subject.remove()
}
