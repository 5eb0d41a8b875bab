//! The whole node where SELinux is a means: real containers that runc starts in contexts whose users are of the pool.

use std::{
    fs,
    process::Command,
    sync::{Mutex, MutexGuard},
};

use libtest_mimic::Failed;
use palisade_kernel::selinux::SeLinux;
use serde_json::Value;

use super::{
    Checked,
    containers::Labelled,
    ensure,
    fixture::{BASE, BASE_POLICY, context, context_of},
};
use crate::{
    act::Act,
    containerd::Container,
    suite::{
        fixture::{containerd, ensure_outcomes},
        node::{Node, started},
    },
};

pub(super) const HELD: &str = "palisade_7_u";
const FLAGS: [&str; 2] = ["--selinux", BASE];

/// Of the pods with the label.
pub(super) fn policy(app: &str, capability: &str) -> String {
    format!(
        "apiVersion: security.kubearmor.com/v1\nkind: KubeArmorPolicy\nmetadata: {{ name: blocks-{app}, namespace: shop }}\nspec:\n  \
         selector: {{ matchLabels: {{ app: {app} }} }}\n  capabilities:\n    matchCapabilities: [ {{ capability: {capability} }} ]\n  \
         action: Block\n"
    )
}

fn policies() -> String {
    [policy("held", "chown"), policy("other", "mknod")].join("---\n")
}

/// What a policy denies, and what none does.
fn acts() -> [Act; 2] {
    acts_on("/etc/passwd")
}

/// The same with another file: one that was permitted would have had its effect already.
fn acts_on(file: &str) -> [Act; 2] {
    [Act::Chown(file.into()), Act::Open("/etc/public".into())]
}

/// A pod with the label, in the context of the user.
pub(super) fn hold(id: &str, app: &str, user: &str) -> Result<Container, Failed> {
    let _labelled = Labelled::with(user)?;
    let container = started(id, app)?;
    let found = context(container.pid)?;
    ensure(found == context_of(user), || format!("{id} runs in {found}"))?;
    Ok(container)
}

/// One for all tests: it starts in a minute of emulated time. The last test ends it.
fn node() -> Result<MutexGuard<'static, Option<Node>>, Failed> {
    static NODE: Mutex<Option<Node>> = Mutex::new(None);
    containerd()?;
    let mut node = NODE.lock().map_err(|_| "an earlier test left it broken")?;
    if node.is_none() {
        *node = Some(Node::start_with("selinux", &policies(), &FLAGS)?);
    }
    Ok(node)
}

/// What the node says of the container's policy.
pub(super) fn status(node: &Node, id: &str) -> Value {
    let Ok(mut all) = node.workloads() else { return Value::Null };
    let all = all["workloads"].as_array_mut().map(std::mem::take).unwrap_or_default();
    let of_id = all.into_iter().find(|one| one.to_string().contains(&format!("\"{id}\"")));
    of_id.map_or(Value::Null, |mut workload| workload["policy"].take())
}

/// The policy is compiled and loaded by and by: until the node says that it is.
pub(super) fn wait_until_held(node: &Node, id: &str) -> Checked {
    node.wait_for(&format!("that {id} is held"), || {
        let said = status(node, id);
        said["families"][0]["tier"] == "selinux" && said["notHeld"].as_array().is_some_and(Vec::is_empty)
    })
}

pub fn holds_and_explains() -> Checked {
    let node = node()?;
    let node = node.as_ref().ok_or("no node")?;
    let container = hold("held", "held", HELD)?;
    wait_until_held(node, "held")?;
    ensure_outcomes(&acts(), &container.exec(&acts())?, 1)?;
    // What is not in force yet is told, too.
    let denials = || node.alerts().into_iter().filter(|alert| alert["verdict"] == "denied").collect::<Vec<_>>();
    node.wait_for("an alert", || !denials().is_empty())?;
    let alerts = denials();
    let [alert] = &alerts[..] else { return Err(format!("one act was denied: {alerts:#?}").into()) };
    for (pointer, wanted) in [
        ("/workload/name", "held-pod"),
        ("/verdict", "denied"),
        ("/tier", "selinux"),
        ("/rule/policyName", "blocks-held"),
    ] {
        let said = alert.pointer(pointer).and_then(Value::as_str);
        ensure(said == Some(wanted), || format!("{pointer} should be {wanted}: {alert:#}"))?;
    }
    ensure(alert.to_string().contains("CAP_CHOWN"), || format!("{alert:#}"))?;
    // Replicas of a pod have its user and its policy.
    let replica = hold("replica", "held", HELD)?;
    wait_until_held(node, "replica")?;
    ensure_outcomes(&acts(), &replica.exec(&acts())?, 1)?;
    replica.remove()?;
    container.remove()?;
    Ok(())
}

pub fn says_what_is_not_held() -> Checked {
    let node = node()?;
    let node = node.as_ref().ok_or("no node")?;
    let says = |id: &'static str, words: &'static str| {
        node.wait_for(&format!("`{words}` of {id}"), || status(node, id).to_string().contains(words))
    };
    let unlabelled = started("unlabelled", "held")?;
    says("unlabelled", "whose user is none of ours")?;
    ensure_outcomes(&acts(), &unlabelled.exec(&acts())?, 0)?;
    unlabelled.remove()?;
    let first = hold("first", "held", HELD)?;
    wait_until_held(node, "first")?;
    let second = hold("second", "other", HELD)?;
    says("second", "palisade_7_u has the rules of ")?;
    // It is held to the first one's.
    ensure_outcomes(&acts(), &second.exec(&acts())?, 1)?;
    first.remove()?;
    wait_until_held(node, "second")?;
    ensure_outcomes(&acts(), &second.exec(&acts())?, 0)?;
    second.remove()?;
    Ok(())
}

/// Another's load takes the constraints away, and the users; then the node's follows.
pub fn follows_another_load() -> Checked {
    let node = node()?;
    let node = node.as_ref().ok_or("no node")?;
    let container = hold("reloaded", "held", HELD)?;
    wait_until_held(node, "reloaded")?;
    let loads = || node.log().matches("SELinux policy loaded").count();
    let before = loads();
    SeLinux::open()?.load(&fs::read(BASE_POLICY)?)?;
    node.wait_for("a load after another's", || loads() > before)?;
    wait_until_held(node, "reloaded")?;
    let found = context(container.pid)?;
    ensure(found == context_of(HELD), || format!("it runs in {found}"))?;
    ensure_outcomes(&acts(), &container.exec(&acts())?, 1)?;
    container.remove()?;
    Ok(())
}

pub fn changes() -> Checked {
    let node = node()?;
    let node = node.as_ref().ok_or("no node")?;
    let container = hold("changing", "held", HELD)?;
    wait_until_held(node, "changing")?;
    ensure_outcomes(&acts(), &container.exec(&acts())?, 1)?;
    for (policies, denied, file) in [(policy("held", "mknod"), 0, "/etc/passwd"), (policies(), 1, "/etc/public")] {
        let before = status(node, "changing")["generation"].clone();
        fs::write(node.folder.join("policies/suite.yaml"), policies)?;
        node.wait_for("the changed policy", || status(node, "changing")["generation"] != before)?;
        wait_until_held(node, "changing")?;
        let acts = acts_on(file);
        ensure_outcomes(&acts, &container.exec(&acts)?, denied)?;
    }
    container.remove()?;
    Ok(())
}

/// While SELinux enforces nothing, nothing is said to be held.
pub fn says_when_selinux_is_permissive() -> Checked {
    let node = node()?;
    let node = node.as_ref().ok_or("no node")?;
    let container = hold("permitted", "held", HELD)?;
    wait_until_held(node, "permitted")?;
    fs::write("/sys/fs/selinux/enforce", "0")?;
    let said = node
        .wait_for("that it is permissive", || status(node, "permitted").to_string().contains("SELinux is permissive"));
    let outcomes = container.exec(&acts());
    fs::write("/sys/fs/selinux/enforce", "1")?;
    said?;
    ensure_outcomes(&acts(), &outcomes?, 0)?;
    wait_until_held(node, "permitted")?;
    let acts = acts_on("/etc/public");
    ensure_outcomes(&acts, &container.exec(&acts)?, 1)?;
    container.remove()?;
    Ok(())
}

pub fn stands() -> Checked {
    let mut node = node()?;
    let node = node.as_mut().ok_or("no node")?;
    let container = hold("stands", "held", HELD)?;
    wait_until_held(node, "stands")?;
    let loads = SeLinux::open()?.loads()?;
    node.kill()?;
    ensure_outcomes(&acts(), &container.exec(&acts())?, 1)?;
    node.again(&policies(), &FLAGS)?;
    wait_until_held(node, "stands")?;
    ensure_outcomes(&acts(), &container.exec(&acts())?, 1)?;
    ensure(SeLinux::open()?.loads()? == loads, || "what stood was loaded again".to_owned())?;
    container.remove()?;
    Ok(())
}

pub fn is_unloaded() -> Checked {
    let mut node = node()?;
    let mut node = node.take().ok_or("no node")?;
    let container = hold("unloaded", "held", HELD)?;
    wait_until_held(&node, "unloaded")?;
    ensure_outcomes(&acts(), &container.exec(&acts())?, 1)?;
    node.kill()?;
    let pins = node.pins().display().to_string();
    let output = Command::new("/bin/palisade").args(["unload", "--pin-root", &pins]).output()?;
    ensure(output.status.success(), || String::from_utf8_lossy(&output.stderr).into_owned())?;
    ensure_outcomes(&acts(), &container.exec(&acts())?, 0)?;
    let found = context(container.pid)?;
    ensure(found == context_of(HELD), || format!("the users went, too: it runs in {found}"))?;
    container.remove()?;
    Ok(())
}
