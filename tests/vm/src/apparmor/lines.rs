//! What the kernel tells of acts, and which rule a line is of.

use std::{fs, thread, time::Duration};

use libtest_mimic::Failed;
use palisade_apparmor::{Line, Subject};
use palisade_kernel::audit::{AuditEvents, AuditLosses, Heard};
use palisade_kernel_abi::blob::Effect;
use palisade_protocol::CompiledPolicy;

use super::{
    Checked, ensure,
    fixture::{DENIED, Profiled, policy},
};
use crate::{act::Act, judged::Call};

const TRIES: u32 = 100;
const PAUSE: Duration = Duration::from_millis(20);

/// The next so many lines of ours.
fn next_lines(events: &mut AuditEvents, count: usize) -> Result<Vec<Line>, Failed> {
    let (mut lines, mut others) = (Vec::new(), Vec::new());
    for _ in 0..TRIES {
        while let Some(heard) = events.hear()? {
            match heard {
                Heard::Record(text) => match Line::parse(text) {
                    Ok(line) => lines.push(line),
                    Err(error) => others.push(format!("{error}: {}", String::from_utf8_lossy(text))),
                },
                Heard::Other => {}
                Heard::Lost => return Err("records were lost".into()),
            }
        }
        if lines.len() >= count {
            return Ok(lines);
        }
        thread::sleep(PAUSE);
    }
    Err(format!("{lines:?}, and not of ours: {others:#?}").into())
}

/// Effect and the place of the rule that decides the line's act.
fn judged(policy: &CompiledPolicy, line: &Line) -> (Effect, Option<String>) {
    let decision = line.judge(&policy.blob, None, false);
    (decision.effect, decision.rule.map(|rule| policy.rules[rule as usize].place.clone()))
}

pub fn names_the_rule() -> Checked {
    fs::create_dir_all("/told")?;
    fs::write("/told/a \"b=", "x")?;
    fs::write("/told/plain", "x")?;
    let spec = "file:\n  matchPaths: [ { path: /told/plain } ]\n  matchDirectories: [ { dir: /told/ } ]\nprocess:\n  matchPaths: [ { path: /bin/busybox } ]\n\
                network:\n  matchProtocols: [ { protocol: dgram } ]\naction: Block";
    let policy = policy(spec)?;
    let confined = Profiled::start("told", &policy)?;
    let mut events = AuditEvents::open()?;
    let mut process = confined.judged()?;
    let calls = [
        (Call::Read, "/told/plain", "file.matchPaths[0]"),
        (Call::Append, "/told/a \"b=", "file.matchDirectories[0]"),
        (Call::Read, "/told", "file.matchDirectories[0]"),
        (Call::Exec, "/bin/busybox", "process.matchPaths[0]"),
        (Call::Socket, "unix-dgram", "network.matchProtocols[0]"),
    ];
    for (call, object, _) in calls {
        ensure(process.call(call, object)? == DENIED, || format!("{call:?} {object} was not denied"))?;
    }
    let lines = next_lines(&mut events, calls.len())?;
    ensure(lines.len() == calls.len(), || format!("{lines:#?}"))?;
    for (line, (call, object, place)) in lines.iter().zip(calls) {
        let found = judged(&policy, line);
        let about = match &line.subject {
            Subject::File { path, .. } => path == object.as_bytes(),
            other => matches!(other, Subject::Socket { domain: 1, kind: 2, .. }),
        };
        // An execution is tried by a child.
        let by = line.pid == process.pid() || call == Call::Exec;
        let is_told = line.denied && about && by && line.profile == confined.name;
        ensure(is_told && found == (Effect::Block, Some(place.to_owned())), || {
            format!("{line:?}: {found:?}, not {place}")
        })?;
    }
    Ok(())
}

pub fn audits() -> Checked {
    fs::write("/audited", "x")?;
    let policy = policy("file:\n  matchPaths: [ { path: /audited } ]\naction: Audit")?;
    let confined = Profiled::start("audited", &policy)?;
    let mut events = AuditEvents::open()?;
    let errno = confined.judged()?.call(Call::Read, "/audited")?;
    let lines = next_lines(&mut events, 1)?;
    let told = matches!(lines.as_slice(), [line] if !line.denied && judged(&policy, line).0 == Effect::Audit);
    ensure(errno == 0 && told, || format!("errno {errno}, {lines:?}"))
}

/// How many records the kernel has dropped so far.
fn dropped(losses: &mut AuditLosses) -> Result<u32, Failed> {
    // An answer of before is read first.
    losses.ask()?;
    let mut last = None;
    for _ in 0..3 {
        thread::sleep(PAUSE);
        last = losses.ask()?;
    }
    Ok(last.ok_or("the kernel says nothing of what it dropped")?)
}

pub fn flood() -> Checked {
    const DENIALS: u32 = 1500;
    fs::write("/flooded", "x")?;
    let confined = Profiled::start("flooded", &policy("file:\n  matchPaths: [ { path: /flooded } ]\naction: Block")?)?;
    let (mut events, mut losses) = (AuditEvents::open()?, AuditLosses::open()?);
    let before = dropped(&mut losses)?;
    let acts = vec![Act::Open("/flooded".into()); DENIALS as usize];
    confined.acts(&acts)?;
    let (mut told, mut quiet) = (0, 0);
    while quiet < 10 {
        match events.hear()? {
            Some(Heard::Record(text)) if Line::parse(text).is_ok() => (told, quiet) = (told + 1, 0),
            Some(Heard::Lost) => return Err("the socket's buffer was full".into()),
            Some(_) => {}
            None => {
                quiet += 1;
                thread::sleep(PAUSE);
            }
        }
    }
    let lost = dropped(&mut losses)?.wrapping_sub(before);
    println!("{DENIALS} denials: {told} told, {lost} dropped by the kernel");
    ensure(told + lost == DENIALS && told > 0, || format!("{DENIALS} denials, {told} told, {lost} dropped"))
}
