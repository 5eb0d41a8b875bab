//! Containers while no node runs, by BPF LSM: those that a policy holds until it lapses, and those that nobody knows.

use std::{thread, time::Duration};

use libtest_mimic::Trial;

use super::{
    Checked, ensure,
    fixture::{containerd, ensure_outcomes},
    node::{Node, blocks, pod, started},
};
use crate::act::Act;

/// Policy stands for so long without a node: an `exec` in emulation, several times over.
const SPAN: Duration = Duration::from_secs(45);

pub fn trials() -> Vec<Trial> {
    vec![Trial::test(
        "vm_unattended_policy_lapses_and_who_is_unknown_is_audited_or_does_not_start_until_the_next_node",
        lapses,
    )]
}

/// The options of a pod, without the hook.
fn unhooked() -> Vec<String> {
    pod("held").into_iter().take(8).collect()
}

fn lapses() -> Checked {
    containerd()?;
    let seconds = SPAN.as_secs().to_string();
    let audits = ["--max-unattended", &seconds, "--on-unknown-workload", "audit"];
    let mut node = Node::start_with("node-lapses", &blocks("/etc/secret"), &audits)?;
    let known = started("known", "held")?;
    let acts = [Act::Open("/etc/secret".into()), Act::Open("/etc/public".into())];
    node.kill()?;
    // It goes on from here at the latest: the last sign of life was before.
    let span = thread::spawn(|| thread::sleep(SPAN));
    ensure_outcomes(&acts, &known.exec(&acts)?, 1)?;
    let options = unhooked();
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let stray = containerd()?.hold("stray", &options).map_err(|error| format!("{error}\n{}", node.log()))?;
    ensure_outcomes(&acts, &stray.exec(&acts)?, 0)?;
    span.join().map_err(|_| "the span was not waited for")?;
    ensure_outcomes(&acts, &known.exec(&acts)?, 0)?;
    // The second time nobody starts whom no node has admitted.
    node.again(&blocks("/etc/secret"), &["--on-unknown-workload", "block"])?;
    for container in [&known, &stray] {
        // Its own policy, for who was unknown as well.
        node.wait_for("its policy", || container.exec(&acts[..1]).is_ok_and(|outcomes| outcomes[0].is_denied()))?;
        ensure_outcomes(&acts, &container.exec(&acts)?, 1)?;
    }
    ensure(node.log().contains("policy had lapsed"), || format!("it does not say so:\n{}", node.log()))?;
    let unknown = || {
        let alerts = node.alerts();
        let of_unknown = |alert: &&serde_json::Value| alert["workload"]["name"] == "unknown";
        alerts
            .iter()
            .filter(of_unknown)
            .any(|alert| alert["verdict"] == "observed" && (alert["tier"] == "bpf-lsm" || alert["tier"] == "fmod-ret"))
    };
    node.wait_for("an alert about who was unknown", unknown)?;
    let late = started("late", "held").map_err(|failed| format!("{:?}\n{}", failed.message(), node.log()))?;
    node.kill()?;
    match containerd()?.run("refused-stray", &options, &acts) {
        Err(error) if error.to_string().contains("permission denied") => {}
        other => return Err(format!("it should not start: {other:?}").into()),
    }
    ensure_outcomes(&acts, &late.exec(&acts)?, 1)?;
    late.remove()?;
    known.remove()?;
    stray.remove()?;
    Ok(())
}
