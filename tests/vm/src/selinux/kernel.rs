//! What Palisade's use of SELinux stands on, shown without Palisade: this kernel takes the guest's policy, constrains by the user of a task, and
//! says so in its audit records.

use std::{fs, process::Command, thread, time::Duration};

use libtest_mimic::Failed;
use palisade_kernel::audit::{AuditEvents, Heard};

use super::{
    Checked, ensure,
    fixture::{Constrained, DENIED, acts_of, context, context_of, judged, user},
};
use crate::{
    act::{Act, Outcome},
    judged::{Call, Judged},
};

const TRIES: u32 = 100;
const PAUSE: Duration = Duration::from_millis(20);
const HELD: &str = "palisade_7_u";
const OTHER: &str = "palisade_8_u";

fn users() -> String {
    user(HELD) + &user(OTHER)
}

/// A constraint: who is of [`HELD`] does not get the permission of the class.
fn without(class: &str, permission: &str) -> String {
    format!("(constrain ({class} ({permission})) (neq u1 {HELD}))\n")
}

pub fn ground() -> Checked {
    let active = fs::read_to_string("/sys/kernel/security/lsm")?;
    let has = |name: &str| active.split(',').any(|lsm| lsm.trim() == name);
    ensure(has("selinux") && !has("bpf") && !has("apparmor"), || format!("active: {active}"))?;
    for (file, wanted) in [("enforce", "1"), ("mls", "1"), ("deny_unknown", "0")] {
        let said = fs::read_to_string(format!("/sys/fs/selinux/{file}"))?;
        ensure(said == wanted, || format!("{file}: {said}"))?;
    }
    let own = context(std::process::id())?;
    ensure(own == "system_u:system_r:kernel_t:s0", || own)?;
    all_classes_are_known()
}

/// The kernel names those that it misses while it loads a policy. Its own count of capabilities shows that the log reaches back to that.
fn all_classes_are_known() -> Checked {
    let output = Command::new("dmesg").output()?;
    let log = String::from_utf8_lossy(&output.stdout);
    let of_loading: Vec<&str> = log.lines().filter(|line| line.contains("SELinux:")).collect();
    ensure(of_loading.iter().any(|line| line.contains("policy capability open_perms=1")), || {
        format!("{of_loading:#?}")
    })?;
    let missing: Vec<&&str> = of_loading.iter().filter(|line| line.contains("not defined in policy")).collect();
    ensure(missing.is_empty(), || format!("{missing:#?}"))
}

pub fn denies_a_user() -> Checked {
    fs::write("/owned", "x")?;
    let constraints = without("capability", "chown")
        + &without("process", "ptrace")
        + &without("process", "execmem")
        + &without("rawip_socket", "create")
        + &without("packet_socket", "create");
    let _constrained = Constrained::load(&(users() + &constraints))?;
    let acts = [Act::Chown("/owned".into()), Act::PtraceChild, Act::ExecCode, Act::Open("/owned".into())];
    let (held, other) = (acts_of(HELD, &acts)?, acts_of(OTHER, &acts)?);
    let denied: Vec<bool> = held.iter().map(|outcome| outcome.is_denied()).collect();
    ensure(denied == [true, true, true, false] && held[3].is_permitted(), || format!("held: {held:?}"))?;
    ensure(other.iter().all(|outcome: &Outcome| outcome.is_permitted()), || format!("other: {other:?}"))?;
    let sockets = ["raw", "packet", "inet-dgram", "unix-stream"];
    let (held, other) = (opened(&mut judged(HELD)?, &sockets)?, opened(&mut judged(OTHER)?, &sockets)?);
    ensure((&held[..], &other[..]) == (&[DENIED, DENIED, 0, 0], &[0; 4]), || format!("{held:?}, other: {other:?}"))
}

fn opened(process: &mut Judged, sockets: &[&str]) -> Result<Vec<i32>, Failed> {
    Ok(sockets.iter().map(|socket| process.call(Call::Socket, socket)).collect::<Result<_, _>>()?)
}

/// Two constraints that change at once: neither stays, and neither comes late.
pub fn holds_who_runs() -> Checked {
    let known = Constrained::load(&users())?;
    let mut process = judged(HELD)?;
    let sockets = ["raw", "packet"];
    let mut seen = vec![opened(&mut process, &sockets)?];
    for held in ["rawip_socket", "packet_socket", "rawip_socket"] {
        // What is dropped loads the guest's own policy: not in between, where the user would be gone.
        std::mem::forget(Constrained::load(&(users() + &without(held, "create")))?);
        seen.push(opened(&mut process, &sockets)?);
    }
    std::mem::forget(Constrained::load(&users())?);
    seen.push(opened(&mut process, &sockets)?);
    drop(known);
    ensure(seen == [[0, 0], [DENIED, 0], [0, DENIED], [DENIED, 0], [0, 0]], || format!("{seen:?}"))
}

pub fn tells() -> Checked {
    let constraints = without("packet_socket", "create") + &without("udp_socket", "create");
    let _constrained = Constrained::load(&(users() + &constraints))?;
    let mut events = AuditEvents::open()?;
    let (mut held, mut other) = (judged(HELD)?, judged(OTHER)?);
    for socket in ["packet", "inet-dgram"] {
        ensure(other.call(Call::Socket, socket)? == 0, || format!("{socket} is denied to the other"))?;
        ensure(held.call(Call::Socket, socket)? == DENIED, || format!("{socket} is not denied"))?;
    }
    let lines = denials(&mut events, 2)?;
    for (line, class) in lines.iter().zip(["packet_socket", "udp_socket"]) {
        let wanted = [
            "avc:  denied  { create } ".to_owned(),
            format!(" pid={} ", held.pid()),
            format!(" scontext={} ", context_of(HELD)),
            format!(" tclass={class} "),
            " permissive=0".to_owned(),
        ];
        ensure(wanted.iter().all(|part| line.contains(part)), || format!("{lines:#?}: not {wanted:?}"))?;
    }
    ensure(lines.len() == 2, || format!("{lines:#?}"))
}

/// The next so many records of denials, and those that are there beside them.
pub fn denials(events: &mut AuditEvents, count: usize) -> Result<Vec<String>, Failed> {
    let mut lines = Vec::new();
    for _ in 0..TRIES {
        while let Some(heard) = events.hear()? {
            match heard {
                Heard::Record(text) => lines.push(String::from_utf8_lossy(text).into_owned()),
                Heard::Other => {}
                Heard::Lost => return Err("records were lost".into()),
            }
        }
        if lines.len() >= count {
            return Ok(lines);
        }
        thread::sleep(PAUSE);
    }
    Err(format!("{count} denials did not come: {lines:#?}").into())
}

/// Why a user must stay in the policy while a task has it: without it the kernel takes the task for unlabelled, whatever its type was.
pub fn runs_on_unlabelled() -> Checked {
    let constrained = Constrained::load(&(user(HELD) + &without("packet_socket", "create")))?;
    let mut process = judged(HELD)?;
    // The answer comes first: only then it has surely been executed.
    let mut state =
        || -> Result<(i32, String), Failed> { Ok((process.call(Call::Socket, "packet")?, context(process.pid())?)) };
    let before = state()?;
    ensure(before == (DENIED, context_of(HELD)), || format!("{before:?}"))?;
    drop(constrained);
    let after = state()?;
    ensure(after == (0, "system_u:object_r:unlabeled_t:s0".to_owned()), || format!("{after:?}"))?;
    let refused = acts_of(HELD, &[Act::Open("/".into())]).err();
    let said = refused.as_ref().and_then(Failed::message).unwrap_or_default();
    ensure(said.contains("Invalid argument"), || format!("a context of a user that is gone was taken: {said}"))?;
    // Known again, it is held again, by what it had been all the time.
    let _again = Constrained::load(&(user(HELD) + &without("packet_socket", "create")))?;
    let again = state()?;
    ensure(again == before, || format!("{again:?}"))
}
