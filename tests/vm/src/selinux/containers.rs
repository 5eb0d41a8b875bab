//! Real containers in contexts of their own, without Palisade: runc puts them there, and they live as others do.

use std::{fs, path::Path};

use libtest_mimic::Failed;

use super::{
    Checked, ensure,
    fixture::{Constrained, context, context_of, user},
};
use crate::{
    act::Act,
    containerd::Container,
    suite::fixture::{containerd, ensure_outcomes},
};

/// `deploy/hooks/runc-with-hook`, the hook that it puts in, and the context that it gives.
const RUNC: &str = "/hooks/runc-with-hook";
const HOOK: &str = "/hooks/hook.json";
const LABEL: &str = "/hooks/selinux";
const HOOK_THAT_PERMITS: &str = r#"{"path": "/bin/true"}"#;

/// What runc's wrapper gives to whatever it starts, until it is dropped.
pub struct Labelled(());

impl Labelled {
    pub fn with(user: &str) -> Result<Self, Failed> {
        fs::write(LABEL, format!("{}\n", context_of(user)))?;
        Ok(Self(()))
    }
}

impl Drop for Labelled {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(LABEL) {
            eprintln!("{LABEL} stays: {error}");
        }
    }
}

/// Starts a container of the user, with a hook that permits it.
fn hold(id: &str, user: &str) -> Result<Container, Failed> {
    fs::write(HOOK, HOOK_THAT_PERMITS)?;
    let _labelled = Labelled::with(user)?;
    Ok(containerd()?.hold(id, &["--runc-binary", RUNC])?)
}

pub fn live() -> Checked {
    let (held, other) = ("palisade_7_u", "palisade_8_u");
    let constraint = format!("(constrain (capability (chown)) (neq u1 {held}))\n");
    let _constrained = Constrained::load(&(user(held) + &user(other) + &constraint))?;
    let acts = [Act::Chown("/etc/passwd".into()), Act::Open("/etc/public".into()), Act::Create("/tmp/new".into())];
    for (id, user, denied) in [("held", held, 1), ("other", other, 0)] {
        let container = hold(id, user)?;
        let found = context(container.pid)?;
        ensure(found == context_of(user), || format!("{id} runs in {found}"))?;
        // What is executed in it without a context of its own has the container's; with one, that.
        ensure_outcomes(&acts, &container.exec(&acts)?, denied)?;
        let _labelled = Labelled::with(user)?;
        ensure_outcomes(&acts[..2], &container.exec(&acts[..2])?, denied)?;
        ensure(container.enter(true, "/tmp/marker")?, || format!("{id} has no terminal"))?;
        let process = format!("/proc/{}", container.pid);
        container.remove()?;
        ensure(!Path::new(&process).exists(), || format!("{id} was not stopped"))?;
    }
    Ok(())
}

pub fn refused() -> Checked {
    fs::write(HOOK, HOOK_THAT_PERMITS)?;
    let _labelled = Labelled::with("palisade_9_u")?;
    let act = Act::Create("/tmp/new".into());
    let started = containerd()?.run("stranger", &["--runc-binary", RUNC], &[act]);
    let Err(error) = started else { return Err(format!("it started: {started:?}").into()) };
    ensure(error.to_string().contains("invalid argument"), || error.to_string())
}
