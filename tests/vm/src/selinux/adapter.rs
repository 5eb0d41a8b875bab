//! What the kernel's adapter says of the policy in force and does with it, against a kernel that has one: levels, contexts, the answers by which
//! it proves that a constraint holds, and refusals that leave what was in force.

use palisade_kernel::selinux::{Answer, PolicyError, user_of};
use palisade_selinux::{Levels, Lowered, UserNumber, module};

use super::{
    Checked, ensure,
    fixture::{Constrained, context_of, judged, selinux},
    lowered::user,
};
use crate::{judged::Call, suite::fixture::policy};

const DENIED: Answer = Answer { allowed: false, told: true, permissive: false };
const ALLOWED: Answer = Answer { allowed: true, told: true, permissive: false };

pub fn knows_the_policy_in_force() -> Checked {
    let (selinux, _) = selinux()?;
    // The guest's has four.
    let levels = selinux.levels()?;
    ensure(levels == Levels { last_category: Some(3) }, || format!("{levels:?}"))?;
    for (context, is_known) in [
        ("system_u:system_r:container_t:s0", true),
        ("system_u:system_r:container_t:s0:c0,c3", true),
        ("system_u:system_r:container_t:s0:c4", false),
        ("system_u:system_r:container_t", false),
        ("system_u:system_r:no_such_t:s0", false),
        ("palisade_7_u:system_r:container_t:s0", false),
        ("", false),
    ] {
        ensure(selinux.is_context(context) == is_known, || format!("`{context}` should be known: {is_known}"))?;
    }
    let classes = selinux.classes()?;
    for (class, permission, has) in
        [("capability", "chown", true), ("capability2", "chown", false), ("file", "execmod", true), ("x", "y", false)]
    {
        ensure(classes.has(class, permission) == has, || format!("{class}:{permission}"))?;
    }
    ensure(classes.extended_sockets, || "sockets of each family have classes of their own here".to_owned())
}

pub fn asks_the_policy_in_force() -> Checked {
    let (selinux, source) = selinux()?;
    let of = |number| -> Result<String, libtest_mimic::Failed> { Ok(context_of(&user(number)?.to_string())) };
    let (held, other) = (of(7)?, of(8)?);
    let chown = policy("capabilities:\n  matchCapabilities: [ { capability: chown } ]\naction: Block")?;
    let lowered = Lowered::of(&chown.blob, &palisade_selinux::FAMILIES, &selinux.classes()?);
    let with = |denied: &[(UserNumber, &Lowered)]| -> Result<String, libtest_mimic::Failed> {
        Ok(module(selinux.levels()?, denied.iter().copied()))
    };
    let constrained = with(&[(user(7)?, &lowered)])?;
    let _base = Constrained::load(&with(&[])?)?;
    for (text, wanted) in [
        (with(&[])?, ALLOWED),
        (constrained.clone(), DENIED),
        (format!("{constrained}(dontaudit container_t self (capability (chown)))\n"), Answer { told: false, ..DENIED }),
        (format!("{constrained}(typepermissive container_t)\n"), Answer { permissive: true, ..DENIED }),
        (with(&[])?, ALLOWED),
    ] {
        source.load(&text)?;
        let asked = [(&held, "capability"), (&held, "cap_userns"), (&other, "capability")]
            .map(|(context, class)| selinux.ask(context, class, "chown").map_err(|error| error.to_string()));
        let answers: Vec<Answer> = asked.into_iter().collect::<Result<_, _>>()?;
        // Of another class a `dontaudit` is another.
        let of_userns = Answer { told: true, ..wanted };
        let of_other = Answer { allowed: true, ..wanted };
        ensure(answers == [wanted, of_userns, of_other], || format!("{answers:?}, not {wanted:?} first: {text}"))?;
        ensure(answers[0].denies() == (!wanted.allowed && !wanted.permissive), || format!("{answers:?}"))?;
        ensure(selinux.ask(&held, "capability", "kill")?.allowed, || "kill is denied, too".to_owned())?;
    }
    for (context, class, permission) in [
        (held.as_str(), "capability", "fly"),
        (held.as_str(), "no_such_class", "chown"),
        ("palisade_128_u:system_r:container_t:s0", "capability", "chown"),
    ] {
        let answer = selinux.ask(context, class, permission);
        ensure(answer.is_err(), || format!("{context} {class} {permission}: {answer:?}"))?;
    }
    Ok(())
}

pub fn keeps_what_was_in_force() -> Checked {
    let (selinux, _) = selinux()?;
    let held = user(7)?;
    let packet = policy("network:\n  matchProtocols: [ { protocol: packet } ]\naction: Block")?;
    let lowered = Lowered::of(&packet.blob, &palisade_selinux::FAMILIES, &selinux.classes()?);
    let text = module(selinux.levels()?, [(held, &lowered)]);
    let (_, source) = self::selinux()?;
    let constrained = Constrained::load(&text)?;
    source.load(&text)?;
    let mut process = judged(&held.to_string())?;
    let mut ensure_held = |when: &str| -> Checked {
        let errno = process.call(Call::Socket, "packet")?;
        let found = user_of(process.pid())?;
        ensure(errno == super::fixture::DENIED && found == Ok(held), || format!("{when}: errno {errno}, {found:?}"))
    };
    ensure_held("before")?;
    let loads = selinux.loads()?;
    for (wrong, words) in [
        ("(constrain (capability (no_such)) (neq u1 system_u))", "no_such"),
        ("(user palisade_7_u)", "palisade_7_u"),
        ("(constrain (capability", "Open parenthesis"),
        ("(userrole nobody_u system_r)", "userrole"),
    ] {
        match source.load(&format!("{text}{wrong}\n")) {
            Err(PolicyError::Refused { said, .. }) if said.contains(words) => {}
            other => return Err(format!("{wrong}: {other:?}").into()),
        }
        ensure_held(wrong)?;
    }
    let (no_policy, cut) =
        (selinux.load(b"no policy"), selinux.load(&std::fs::read(super::fixture::BASE_POLICY)?[..4000]));
    ensure(no_policy.is_err() && cut.is_err(), || format!("{no_policy:?}, {cut:?}"))?;
    ensure_held("after what the kernel does not take")?;
    ensure(selinux.loads()? == loads && source.in_force() == Some(loads), || "something was loaded".to_owned())?;
    drop(constrained);
    ensure(source.in_force().is_none(), || "another's load is not seen".to_owned())
}
