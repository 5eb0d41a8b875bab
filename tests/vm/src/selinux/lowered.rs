//! Policies lowered to constraints, loaded as a node's module would be: what the kernel denies by them, and which rule its record is of.

use std::{fs, process::Command};

use libtest_mimic::Failed;
use palisade_kernel::audit::AuditEvents;
use palisade_kernel_abi::blob::Effect;
use palisade_selinux::{FAMILIES, Line, Lowered, UserNumber, module};

use super::{
    Checked, ensure,
    fixture::{Constrained, DENIED, acts_of, context_of, judged, selinux},
    kernel::denials,
};
use crate::{
    act::Act,
    judged::{Call, IN_CONTEXT},
    suite::fixture::policy,
};

/// A user of the pool.
pub fn user(number: u8) -> Result<UserNumber, Failed> {
    Ok(UserNumber::new(number).ok_or("no such user")?)
}

/// To be denied first, with the beginning of the rule's place; the others go through.
pub fn holds_and_names_the_rule() -> Checked {
    let spec = "network:\n  matchProtocols: [ { protocol: packet } ]\ncapabilities:\n  matchCapabilities: [ { capability: chown } ]\n\
                ptrace:\n  match: [ {} ]\nfile:\n  matchPaths: [ { path: /lowered } ]\naction: Block";
    let policy = policy(spec)?;
    let (selinux, _) = selinux()?;
    let classes = selinux.classes()?;
    let lowered = Lowered::of(&policy.blob, &FAMILIES, &classes);
    let (held, other) = (user(7)?, user(8)?);
    fs::write("/lowered", "x")?;
    let denied = [
        (Act::Socket("packet".into()), "network."),
        (Act::Chown("/lowered".into()), "capabilities."),
        (Act::PtraceChild, "ptrace."),
    ];
    // A path is nothing that a constraint could say.
    let permitted = [Act::Open("/lowered".into()), Act::Socket("raw".into()), Act::Socket("unix-stream".into())];
    let acts: Vec<Act> = denied.iter().map(|(act, _)| act).chain(&permitted).cloned().collect();
    let _module = Constrained::load(&module(selinux.levels()?, [(held, &lowered)]))?;
    let mut events = AuditEvents::open()?;
    let (inside, outside) = (acts_of(&held.to_string(), &acts)?, acts_of(&other.to_string(), &acts)?);
    let as_wanted = |(place, outcome): (usize, &crate::act::Outcome)| {
        if place < denied.len() { outcome.is_denied() } else { outcome.is_permitted() }
    };
    ensure(inside.iter().enumerate().all(as_wanted), || format!("{inside:?}, lowered to {lowered:?}"))?;
    ensure(outside.iter().all(|outcome| outcome.is_permitted()), || format!("outside: {outside:?}"))?;
    let lines = denials(&mut events, denied.len())?;
    ensure(lines.len() == denied.len(), || format!("{lines:#?}"))?;
    for (text, (_, family)) in lines.iter().zip(denied) {
        let line = Line::parse(text.as_bytes()).map_err(|error| format!("{error}: {text}"))?;
        let decision = line.judge(&policy.blob, None, classes.extended_sockets);
        let place = decision.rule.map(|rule| policy.rules[rule as usize].place.clone()).unwrap_or_default();
        ensure(
            line.denied && line.user == held && decision.effect == Effect::Block && place.starts_with(family),
            || format!("{text}: {line:?}, {decision:?} by {place}, not by {family}"),
        )?;
    }
    Ok(())
}

/// By an execution, and without one. The guest's own policy allows both.
pub fn keeps_its_user() -> Checked {
    let (selinux, _) = selinux()?;
    let policy = policy("capabilities:\n  matchCapabilities: [ { capability: chown } ]\naction: Block")?;
    let lowered = Lowered::of(&policy.blob, &FAMILIES, &selinux.classes()?);
    let (held, free) = (user(7)?.to_string(), user(8)?.to_string());
    let _module = Constrained::load(&module(selinux.levels()?, [(user(7)?, &lowered)]))?;
    fs::write("/labelled", "x")?;
    for (from, to, is_permitted) in [(&held, &free, false), (&free, &held, true), (&held, &held, true)] {
        let (to, mut process) = (context_of(to), judged(from)?);
        let errno = process.call(Call::ChangeContext, &to)?;
        let executed = Command::new("/bin/vm_actor")
            .args([IN_CONTEXT, &context_of(from), IN_CONTEXT, &to, &Act::Open("/labelled".into()).to_string()])
            .output()?;
        let said = [executed.stdout, executed.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        let (with, without) = (said.contains(&Act::Open("/labelled".into()).to_string()), errno == 0);
        ensure((with, without) == (is_permitted, is_permitted), || {
            format!("{from} takes {to}: errno {errno}, and by an execution: {said}")
        })?;
    }
    // Nor by way of a user that is none of ours.
    let errno = judged(&held)?.call(Call::ChangeContext, "system_u:system_r:container_t:s0")?;
    ensure(errno == DENIED, || format!("it takes the system's: {errno}"))
}

/// A label is valid before there is any rule for it, at each level of containers.
pub fn knows_every_user() -> Checked {
    let (selinux, _) = selinux()?;
    let _module = Constrained::load(&module(selinux.levels()?, []))?;
    for user in UserNumber::all() {
        let context = context_of(&user.to_string());
        let is_known = selinux.is_context(&context) && selinux.is_context(&format!("{context}:c1,c3"));
        ensure(is_known, || format!("{context} is not valid"))?;
    }
    let stranger = context_of("palisade_128_u");
    ensure(!selinux.is_context(&stranger), || format!("{stranger} is valid"))
}
