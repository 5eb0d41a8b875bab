//! Real containers without any policy: the baseline that makes a denial elsewhere mean something.

use std::fs;

use libtest_mimic::Trial;

use super::{Checked, ensure, fixture};
use crate::{act::Act, greeter::Greeter};

pub fn trials() -> Vec<Trial> {
    vec![
        Trial::test("vm_container_without_policy_may_do_every_act", every_act_is_permitted),
        Trial::test("vm_container_lives_on_overlayfs_in_its_own_cgroup", overlayfs_and_cgroup),
        Trial::test("vm_exec_into_a_container_acts_inside_it", exec_acts_inside),
    ]
}

fn every_act_is_permitted() -> Checked {
    let greeter = Greeter::start()?;
    let acts = [
        Act::Open("/etc/secret".into()),
        Act::Create("/tmp/created".into()),
        Act::Exec("/bin/forbidden".into()),
        Act::Connect(greeter.address()),
        Act::PtraceChild,
    ];
    let outcomes = fixture::containerd()?.run("baseline", &[], &acts)?;
    for (act, outcome) in acts.iter().zip(outcomes) {
        ensure(outcome.is_permitted(), || format!("{act}: {outcome}"))?;
    }
    ensure(greeter.greeted() == 1, || format!("{} connections were greeted", greeter.greeted()))
}

fn overlayfs_and_cgroup() -> Checked {
    let container = fixture::containerd()?.hold("ground", &[])?;
    let mounts = fs::read_to_string(format!("/proc/{}/mounts", container.pid))?;
    ensure(mounts.starts_with("overlay / overlay "), || mounts.clone())?;
    let cgroup = container.cgroup()?;
    ensure(cgroup.ends_with("default/ground"), || cgroup.display().to_string())?;
    let members = fs::read_to_string(cgroup.join("cgroup.procs"))?;
    ensure(members.lines().any(|pid| pid == container.pid.to_string()), || members.clone())?;
    container.remove()?;
    Ok(())
}

fn exec_acts_inside() -> Checked {
    let container = fixture::containerd()?.hold("executed", &[])?;
    let outcomes = container.exec(&[Act::Create("/tmp/by-exec".into())])?;
    ensure(outcomes[0].is_permitted(), || outcomes[0].to_string())?;
    let seen = container.outside("/tmp/by-exec");
    ensure(seen.exists(), || format!("{} is absent", seen.display()))?;
    ensure(!fs::exists("/tmp/by-exec")?, || "the file came to be outside the container".to_owned())?;
    container.remove()?;
    Ok(())
}
