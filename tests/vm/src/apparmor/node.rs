//! The whole node where AppArmor is a means: real containers that runc starts under the profile of the node.

use std::{
    fs,
    sync::{Mutex, MutexGuard},
};

use libtest_mimic::Failed;
use palisade_kernel::apparmor::{Confinement, confinement};
use serde_json::Value;

use super::{Checked, ensure, fixture::apparmor};
use crate::{
    act::Act,
    suite::{
        fixture::{containerd, ensure_outcomes},
        node::{Node, started},
    },
};

/// Makes runc's wrapper put containers under their profiles.
const MARK: &str = "/hooks/apparmor";

fn policy() -> String {
    "apiVersion: security.kubearmor.com/v1\nkind: KubeArmorPolicy\nmetadata: { name: blocks, namespace: shop }\nspec:\n  \
     selector: { matchLabels: { app: held } }\n  file:\n    matchPaths: [ { path: /etc/secret } ]\n    matchDirectories: [ { dir: \
     /etc/bin/, readOnly: true, recursive: true } ]\n  capabilities:\n    matchCapabilities: [ { capability: chown } ]\n  action: Block\n"
        .to_owned()
}

/// To be denied, and permitted.
fn acts() -> [Act; 5] {
    [
        Act::Open("/etc/secret".into()),
        Act::Create("/etc/bin/new".into()),
        Act::Chown("/etc/passwd".into()),
        Act::Open("/etc/bin/tool".into()),
        Act::Create("/tmp/new".into()),
    ]
}
const DENIED: usize = 3;

/// One for all tests: it starts in a minute of emulated time. The last test ends it.
fn node() -> Result<MutexGuard<'static, Option<Node>>, Failed> {
    static NODE: Mutex<Option<Node>> = Mutex::new(None);
    containerd()?;
    let mut node = NODE.lock().map_err(|_| "an earlier test left it broken")?;
    if node.is_none() {
        *node = Some(Node::start("apparmor", &policy())?);
    }
    Ok(node)
}

pub fn holds_and_explains() -> Checked {
    let node = node()?;
    let node = node.as_ref().ok_or("no node")?;
    fs::write(MARK, "")?;
    let container = started("held", "held")?;
    let found = confinement(container.pid)?;
    ensure(matches!(&found, Confinement::Ours(name) if name.container() == "held"), || format!("{found:?}"))?;
    let acts = acts();
    ensure_outcomes(&acts, &container.exec(&acts)?, DENIED)?;
    node.wait_for("three alerts", || node.alerts().len() >= DENIED)?;
    let alerts = node.alerts();
    for resource in ["/etc/secret", "/etc/bin/new", "CAP_CHOWN"] {
        let about = |alert: &&Value| alert.to_string().contains(resource);
        let alert = alerts.iter().find(about).ok_or_else(|| format!("nothing about {resource}: {alerts:#?}"))?;
        for (pointer, wanted) in [
            ("/workload/name", "held-pod"),
            ("/verdict", "denied"),
            ("/tier", "apparmor"),
            ("/rule/policyName", "blocks"),
        ] {
            let said = alert.pointer(pointer).and_then(Value::as_str);
            ensure(said == Some(wanted), || format!("{pointer} should be {wanted}: {alert:#}"))?;
        }
    }
    ensure(alerts.len() == DENIED, || format!("an act was told of twice: {alerts:#?}"))?;
    node.wait_for("that all of it is held", || {
        node.workloads().is_ok_and(|all| all.to_string().contains("apparmor") && !all.to_string().contains("readOnly"))
    })?;
    container.remove()?;
    let none = || apparmor().is_ok_and(|apparmor| apparmor.ours().is_ok_and(|ours| ours.is_empty()));
    node.wait_for("the profile's removal", none)
}

pub fn says_what_is_not_held() -> Checked {
    let node = node()?;
    let node = node.as_ref().ok_or("no node")?;
    fs::remove_file(MARK).ok();
    let container = started("unheld", "held")?;
    let acts = acts();
    // What fanotify holds is held all the same.
    ensure_outcomes(&acts[..1], &container.exec(&acts[..1])?, 1)?;
    node.wait_for("what is not held", || {
        node.workloads().is_ok_and(|all| {
            let text = all.to_string();
            text.contains("it runs under `unconfined`") && text.contains("readOnly")
        })
    })?;
    container.remove()?;
    Ok(())
}

pub fn stands() -> Checked {
    let mut node = node()?;
    let mut node = node.take().ok_or("no node")?;
    fs::write(MARK, "")?;
    let container = started("stands", "held")?;
    let acts = [Act::Chown("/etc/passwd".into()), Act::Open("/etc/public".into())];
    ensure_outcomes(&acts, &container.exec(&acts)?, 1)?;
    node.kill()?;
    ensure_outcomes(&acts, &container.exec(&acts)?, 1)?;
    // It unloads what the node left.
    drop(node);
    ensure_outcomes(&acts, &container.exec(&acts)?, 0)?;
    container.remove()?;
    fs::remove_file(MARK)?;
    Ok(())
}
