//! What changes files by their names, and writes, mappings, code and mounts that no open or execve(2) names: on real containers, each
//! by its errno, its effect and its one record.

use std::{fmt, fs, path::Path, thread, time::Duration};

use libtest_mimic::{Failed, Trial};
use palisade_kernel_abi::record::{Body, FileOperation, MountOperation, Outcome as Became, Tier};
use palisade_protocol::CompiledPolicy;

use super::{
    Checked, ensure,
    fixture::{Subject, by_hooks, ensure_outcomes, policy, subject, told},
};
use crate::{
    act::{Act, Change, GO, READY},
    containerd::Container,
};

pub fn trials() -> Vec<Trial> {
    vec![
        Trial::test("vm_lsm_holds_changes_that_rules_block_and_tells_each_once", blocked),
        Trial::test("vm_lsm_holds_up_no_audited_change_and_tells_each_once", audited),
        Trial::test("vm_lsm_holds_read_only_files_against_every_change", read_only),
        Trial::test("vm_lsm_holds_read_only_files_against_descriptors_that_were_open_before", open_before),
        Trial::test("vm_lsm_holds_a_descriptor_that_is_passed_in_for_an_open_of_its_file", passed),
        Trial::test("vm_lsm_holds_code_that_another_program_loads_to_block_rules", loaded),
        Trial::test("vm_lsm_holds_directories_above_files_that_rules_block_against_being_moved", moved),
        Trial::test("vm_lsm_holds_mounts_for_writes_to_what_they_cover", mounts),
    ]
}

fn change(how: Change, path: &str) -> Act {
    Act::Change(how, path.into(), "".into())
}

fn both(how: Change, path: &str, to: &str) -> Act {
    Act::Change(how, path.into(), to.into())
}

/// Files to change in a directory that rules name, and in one that they do not.
fn lay_out(container: &Container) -> Checked {
    for directory in ["/kept", "/free"] {
        let at = |name: &str| container.outside(&format!("{directory}/{name}"));
        if at("").exists() {
            fs::remove_dir_all(at(""))?;
        }
        for below in ["empty", "place", "other"] {
            fs::create_dir_all(at(below))?;
        }
        for name in ["a", "b", "c", "d", "e", "f", "g", "h"] {
            fs::write(at(name), "content")?;
        }
    }
    Ok(())
}

/// Every change of the directory, by one name or the other of those that have two.
fn changes(directory: &str, other: &str) -> Vec<(Act, FileOperation)> {
    let (at, beside) = (|name: &str| format!("{directory}/{name}"), |name: &str| format!("{other}/{name}"));
    vec![
        (both(Change::Link, &at("a"), &beside("link-out")), FileOperation::Link),
        (both(Change::Link, &beside("a"), &at("link-in")), FileOperation::Link),
        (both(Change::Symlink, &beside("a"), &at("symlink")), FileOperation::Symlink),
        (change(Change::Mkdir, &at("made")), FileOperation::Mkdir),
        (change(Change::Rmdir, &at("empty")), FileOperation::Rmdir),
        (change(Change::Chmod, &at("b")), FileOperation::Chmod),
        (Act::Chown(at("c").into()), FileOperation::Chown),
        (change(Change::Truncate, &at("d")), FileOperation::Truncate),
        (change(Change::SetAttribute, &at("e")), FileOperation::SetXattr),
        (both(Change::Rename, &at("f"), &beside("moved-out")), FileOperation::Rename),
        (both(Change::Rename, &beside("h"), &at("moved-in")), FileOperation::Rename),
        (change(Change::Unlink, &at("g")), FileOperation::Unlink),
    ]
}

type Told = (FileOperation, String, String, Tier, Became);

/// Decided changes since the last question; anything else that was decided is an error.
fn told_changes() -> Result<Vec<Told>, Failed> {
    let all = told(|record| {
        let decision = record.decision?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Some(match &record.body {
            Body::FileChange(change) => {
                let names = (text(change.path.bytes), text(change.new_path.bytes));
                Ok((change.operation, names.0, names.1, decision.tier, decision.outcome))
            }
            other => Err(format!("{other:?}")),
        })
    })?;
    all.into_iter().collect::<Result<_, String>>().map_err(Failed::from)
}

/// As the record has them: a symbolic link's first text is what it leads to.
fn names_of(act: &Act) -> (String, String) {
    let text = |path: &Path| path.display().to_string();
    match act {
        Act::Change(_, path, to) => (text(path), text(to)),
        Act::Chown(path) => (text(path), String::new()),
        other => (other.to_string(), String::new()),
    }
}

fn ensure_told(wanted: &[(Act, FileOperation)], became: Became) -> Checked {
    let tier = by_hooks()?;
    let expected: Vec<Told> = wanted
        .iter()
        .map(|(act, operation)| {
            let (path, to) = names_of(act);
            (*operation, path, to, tier, became)
        })
        .collect();
    ensure_alike(told_changes()?, expected)
}

/// Each CPU's records come by themselves: in whatever order.
fn ensure_alike<T: fmt::Debug>(told: Vec<T>, expected: Vec<T>) -> Checked {
    let sorted = |all: Vec<T>| {
        let mut lines: Vec<String> = all.iter().map(|one| format!("{one:?}")).collect();
        lines.sort();
        lines
    };
    let (told, expected) = (sorted(told), sorted(expected));
    ensure(told == expected, || format!("told:\n{}\nexpected:\n{}", told.join("\n"), expected.join("\n")))
}

fn acts_of(changes: &[(Act, FileOperation)]) -> Vec<Act> {
    changes.iter().map(|(act, _)| act.clone()).collect()
}

/// What is in the directory, and how large it is.
fn inventory(container: &Container, directory: &str) -> Result<Vec<(String, u64)>, Failed> {
    let mut all = Vec::new();
    for entry in fs::read_dir(container.outside(directory))? {
        let entry = entry?;
        all.push((entry.file_name().to_string_lossy().into_owned(), entry.metadata()?.len()));
    }
    all.sort();
    Ok(all)
}

fn kept(action: &str) -> Result<CompiledPolicy, Failed> {
    policy(&format!("file:\n  matchDirectories: [ {{ dir: /kept/, recursive: true }} ]\naction: {action}"))
}

fn blocked() -> Checked {
    let subject = subject()?;
    lay_out(&subject.container)?;
    let before = inventory(&subject.container, "/kept")?;
    let denied = changes("/kept", "/free");
    told_changes().ok();
    subject.ensure(&kept("Block")?, &acts_of(&denied), &acts_of(&changes("/free", "/free")))?;
    ensure_told(&denied, Became::Denied)?;
    let after = inventory(&subject.container, "/kept")?;
    ensure(before == after, || format!("{before:?} {after:?}"))
}

/// An open that truncates is one act, told by the open.
fn audited() -> Checked {
    let subject = subject()?;
    lay_out(&subject.container)?;
    let wanted = changes("/kept", "/free");
    let acts = acts_of(&wanted);
    told_changes().ok();
    subject.ensure(&kept("Audit")?, &[], &acts)?;
    ensure_told(&wanted, Became::Observed)?;
    let overwrite = [change(Change::Overwrite, "/kept/a")];
    subject.ensure(&kept("Audit")?, &[], &overwrite)?;
    let all = told(|record| record.decision.map(|_| matches!(record.body, Body::Open(_))))?;
    ensure(all == [true], || format!("{all:?}"))
}

fn read_only() -> Checked {
    let subject = subject()?;
    lay_out(&subject.container)?;
    let policy =
        policy("file:\n  matchDirectories: [ { dir: /kept/, recursive: true, readOnly: true } ]\naction: Block")?;
    let mut denied = acts_of(&changes("/kept", "/free"));
    denied.push(change(Change::Overwrite, "/kept/a"));
    let mut permitted = acts_of(&changes("/free", "/free"));
    permitted.push(Act::Open("/kept/a".into()));
    subject.ensure(&policy, &denied, &permitted)
}

/// By the rule of the file below, told once; a directory without such files goes where it is moved, and so does one that goes to where the
/// same is denied.
fn moved() -> Checked {
    let subject = subject()?;
    lay_out(&subject.container)?;
    for directory in ["/kept/other/deep", "/free/other/deep", "/kept/place/deep"] {
        fs::create_dir_all(subject.container.outside(directory))?;
    }
    let policy = policy(
        "file:\n  matchPaths: [ { path: /kept/other/deep/key } ]\n  matchPatterns: [ { pattern: /**/secret } ]\naction: Block",
    )?;
    let rename = |path: &str, to: &str| (both(Change::Rename, path, to), FileOperation::Rename);
    let denied = [
        rename("/kept/other/deep", "/kept/place/elsewhere"),
        rename("/kept/other", "/free/moved"),
        rename("/kept", "/free/moved"),
    ];
    let permitted = [
        rename("/kept/place/deep", "/kept/place/moved"),
        rename("/free/other", "/kept/brought"),
        rename("/kept/a", "/free/moved-file"),
    ];
    told_changes().ok();
    subject.ensure(&policy, &acts_of(&denied), &acts_of(&permitted))?;
    ensure_told(&denied, Became::Denied)
}

/// The act begins without a policy and ends under it.
fn across(subject: &Subject, policy: &CompiledPolicy, how: Change, path: &str) -> Result<crate::act::Outcome, Failed> {
    let (ready, go) = (subject.container.outside(READY), subject.container.outside(GO));
    for file in [&ready, &go] {
        fs::remove_file(file).ok();
    }
    let act = change(how, path);
    thread::scope(|scope| {
        let acting = scope.spawn(|| subject.container.exec(std::slice::from_ref(&act)));
        while !ready.exists() && !acting.is_finished() {
            thread::sleep(Duration::from_millis(20));
        }
        told(|_| None::<()>)?;
        let mut outcomes = Ok(Vec::new());
        subject.meanwhile(policy, || {
            let told = fs::write(&go, "");
            outcomes = told.map_err(Failed::from).and_then(|()| {
                acting.join().map_err(|_| Failed::from("the act's thread panicked"))?.map_err(Failed::from)
            });
        })?;
        outcomes?.first().copied().ok_or_else(|| "no outcome".into())
    })
}

fn open_before() -> Checked {
    let subject = subject()?;
    lay_out(&subject.container)?;
    let policy =
        policy("file:\n  matchDirectories: [ { dir: /kept/, recursive: true, readOnly: true } ]\naction: Block")?;
    for (how, operation) in [
        (Change::WriteLater, FileOperation::Write),
        (Change::MapLater, FileOperation::MapWrite),
        (Change::ProtectLater, FileOperation::MapWrite),
    ] {
        let free = across(subject, &policy, how, "/free/a")?;
        ensure(free.is_permitted() && told_changes()?.is_empty(), || format!("{how}: {free}"))?;
        let kept = across(subject, &policy, how, "/kept/a")?;
        ensure(kept.is_denied(), || format!("{how}: {kept}"))?;
        ensure_told(&[(change(how, "/kept/a"), operation)], Became::Denied)?;
    }
    let pins = Path::new(super::fixture::PIN_ROOT).join("writes/judge_write");
    ensure(!pins.exists(), || "it stays attached without a policy that needs it".to_owned())
}

fn passed() -> Checked {
    let subject = subject()?;
    lay_out(&subject.container)?;
    let free = across(subject, &kept("Block")?, Change::ReceiveLater, "/free/a")?;
    ensure(free.is_permitted(), || free.to_string())?;
    let kept = across(subject, &kept("Block")?, Change::ReceiveLater, "/kept/a")?;
    ensure(kept.is_denied(), || kept.to_string())?;
    let all = told(|record| match &record.body {
        Body::Open(open) => Some((record.decision?.outcome, String::from_utf8_lossy(open.path.bytes).into_owned())),
        _ => None,
    })?;
    ensure(all == [(Became::Denied, "/kept/a".to_owned())], || format!("{all:?}"))
}

fn loaded() -> Checked {
    let block = policy("process:\n  matchPaths: [ { path: /bin/forbidden } ]\naction: Block")?;
    told(|_| None::<()>)?;
    let denied = [change(Change::Load, "/bin/forbidden"), Act::Exec("/bin/forbidden".into())];
    subject()?.ensure(&block, &denied, &[change(Change::Load, "/bin/permitted")])?;
    let all = told(|record| match &record.body {
        Body::Exec(exec) => Some((String::from_utf8_lossy(exec.path.bytes).into_owned(), record.header.call.is_some())),
        _ => None,
    })?;
    let forbidden = |mapped| ("/bin/forbidden".to_owned(), mapped);
    ensure_alike(all, vec![forbidden(true), forbidden(false)])
}

fn mounts() -> Checked {
    let subject = Subject::start("mounting", &["--privileged"])?;
    lay_out(&subject.container)?;
    let mounted = ["/kept/other", "/free/other", "/free/empty"].map(|path| change(Change::Mount, path));
    ensure_outcomes(&mounted, &subject.container.exec(&mounted)?, 0)?;
    told(|_| None::<()>)?;
    let denied = [
        change(Change::Mount, "/kept/place"),
        both(Change::Bind, "/free/place", "/kept/place"),
        change(Change::Umount, "/kept/other"),
        both(Change::MoveMount, "/free/empty", "/kept/place"),
        both(Change::PivotRoot, "/free/empty", "/kept/place"),
    ];
    let permitted = [
        change(Change::Mount, "/free/place"),
        change(Change::Umount, "/free/other"),
        both(Change::MoveMount, "/free/empty", "/free/other"),
    ];
    subject.ensure(&kept("Block")?, &denied, &permitted)?;
    let all = told(|record| match &record.body {
        Body::Mount(mount) => {
            Some((mount.operation, String::from_utf8_lossy(mount.target.bytes).into_owned(), record.decision?.outcome))
        }
        _ => None,
    })?;
    let at = |operation, path: &str| (operation, path.to_owned(), Became::Denied);
    let expected = vec![
        at(MountOperation::Mount, "/kept/place"),
        at(MountOperation::Mount, "/kept/place"),
        at(MountOperation::Umount, "/kept/other"),
        at(MountOperation::MoveMount, "/kept/place"),
        at(MountOperation::PivotRoot, "/kept/place"),
    ];
    ensure_alike(all, expected)?;
    subject.remove()
}
