//! Starting a container, and `exec` into it, under an allow-list: the runtime's own work inside the cgroup goes on, and the
//! container's own code is held from its first instruction.

use std::{fs, path::Path};

use libtest_mimic::Trial;
use palisade_kernel_abi::record::{Body, Outcome};
use palisade_world::Enforcement;

use super::{
    Checked, ensure,
    fixture::{containerd, ensure_outcomes, kernel, membership, next_generation, next_slot, policy, subject, told},
};
use crate::act::Act;

/// What the actor itself needs, and one file.
const ALLOW_LIST: &str = "process:\n  matchPaths: [ { path: /bin/vm_actor } ]\nfile:\n  matchPaths: [ { path: /etc/public } ]\n  \
                          matchDirectories: [ { dir: /lib/, recursive: true }, { dir: /lib64/, recursive: true }, \
                          { dir: /proc/, recursive: true }, { dir: /sys/, recursive: true } ]\naction: Allow";

pub fn trials() -> Vec<Trial> {
    vec![
        Trial::test("vm_phase_exec_works_under_an_allow_list_and_is_held_by_it", exec_under_allow_list),
        Trial::test("vm_phase_start_works_under_an_allow_list_and_is_held_by_it", start_under_allow_list),
        Trial::test("vm_phase_a_forbidden_entrypoint_never_starts", forbidden_entrypoint),
    ]
}

fn acts() -> [Act; 4] {
    [
        Act::Open("/etc/secret".into()),
        Act::Exec("/bin/permitted".into()),
        Act::Create("/tmp/by-phase".into()),
        Act::Open("/etc/public".into()),
    ]
}

fn exec_under_allow_list() -> Checked {
    let acts = acts();
    let outcomes = subject()?.under(&policy(ALLOW_LIST)?, &acts)?;
    ensure_outcomes(&acts, &outcomes, 3)
}

/// Runs a container whose cgroup is admitted, with the policy in force, before containerd hears of it: what the hook brings
/// about in production.
fn started_under<T>(id: &str, spec: &str, run: impl FnOnce() -> T) -> Result<T, libtest_mimic::Failed> {
    let cgroup = Path::new("/sys/fs/cgroup/default").join(id);
    fs::create_dir_all(&cgroup)?;
    let slot = next_slot();
    kernel()?.admit(&membership(slot, &cgroup, 0)?)?;
    kernel()?.install(slot, next_generation(), Some(&policy(spec)?.blob))?;
    let result = run();
    kernel()?.release(slot)?;
    Ok(result)
}

fn start_under_allow_list() -> Checked {
    let containerd = containerd()?;
    let acts = acts();
    let outcomes = started_under("started", ALLOW_LIST, || containerd.run("started", &[], &acts))??;
    ensure_outcomes(&acts, &outcomes, 3)
}

fn forbidden_entrypoint() -> Checked {
    let containerd = containerd()?;
    let spec = "process:\n  matchPaths: [ { path: /bin/vm_actor } ]\naction: Block";
    told(|_| None::<()>)?;
    let ran = started_under("refused", spec, || containerd.run("refused", &[], &[Act::Open("/etc/public".into())]))?;
    // Whether ctr says so depends on whether the runtime has told it that the container runs when it executes the entry point.
    let error = match ran {
        Ok(outcomes) => return Err(format!("it started: {outcomes:?}").into()),
        Err(error) => error,
    };
    let denials = told(|record| match &record.body {
        Body::Exec(exec) => {
            Some((String::from_utf8_lossy(exec.path.bytes).into_owned(), record.decision?.outcome == Outcome::Denied))
        }
        _ => None,
    })?;
    ensure(denials == [("/bin/vm_actor".to_owned(), true)], || format!("{error}: {denials:?}"))
}
