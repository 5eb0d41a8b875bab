//! Programs on LSM hooks, by the means that the boot offers (BPF LSM or fmod_ret), on real containers: what rules block is denied,
//! its neighbours go on, and nobody else is touched.

use libtest_mimic::Trial;

use super::{
    Checked, ensure,
    fixture::{containerd, ensure_outcomes, policy, subject},
};
use crate::{act::Act, greeter::Greeter};

pub fn trials() -> Vec<Trial> {
    vec![
        Trial::test("vm_lsm_denies_files_and_executables_that_rules_block", files_and_executables),
        Trial::test("vm_lsm_leaves_no_file_behind_where_it_denies_its_creation", creation),
        Trial::test("vm_lsm_denies_a_destination_and_permits_the_next_port", destinations),
        Trial::test("vm_lsm_denies_ptrace", ptrace),
        Trial::test("vm_lsm_permits_reading_and_denies_writing_of_read_only_files", read_only),
        Trial::test("vm_lsm_holds_a_rule_with_a_source_for_that_executable_alone", sources),
        Trial::test("vm_lsm_audits_without_denying", audits),
        Trial::test("vm_lsm_denies_nothing_in_a_container_without_policy", neighbours),
        Trial::test("vm_lsm_lets_none_of_thousands_of_concurrent_opens_through", concurrent_opens),
    ]
}

fn open(path: &str) -> Act {
    Act::Open(path.into())
}

fn files_and_executables() -> Checked {
    let policy = policy(
        "file:\n  matchPaths: [ { path: /etc/secret } ]\n  matchDirectories: [ { dir: /etc/bin/, recursive: true } ]\n  \
         matchPatterns: [ { pattern: /etc/*.key } ]\nprocess:\n  matchPaths: [ { path: /bin/forbidden } ]\naction: Block",
    )?;
    let denied = [
        open("/etc/secret"),
        open("/etc/../etc/./secret"),
        open("/proc/self/root/etc/secret"),
        open("/etc/bin/tool"),
        open("/etc/bin/deeper/tool"),
        open("/etc/private.key"),
        Act::Exec("/bin/forbidden".into()),
    ];
    let permitted = [
        open("/etc/public"),
        open("/etc/binary"),
        Act::Create("/tmp/by-files".into()),
        Act::Exec("/bin/permitted".into()),
        open("/bin/forbidden"),
    ];
    subject()?.ensure(&policy, &denied, &permitted)
}

fn creation() -> Checked {
    let policy = policy("file:\n  matchDirectories: [ { dir: /etc/bin/, recursive: true } ]\naction: Block")?;
    subject()?.ensure(&policy, &[Act::Create("/etc/bin/created".into())], &[Act::Create("/etc/created".into())])?;
    let left = subject()?.container.outside("/etc/bin/created");
    ensure(!left.exists(), || format!("{} was created", left.display()))
}

fn destinations() -> Checked {
    let (forbidden, permitted) = (Greeter::start()?, Greeter::start()?);
    let port = forbidden.address().port();
    let policy = policy(&format!(
        "network:\n  destinations: [ {{ cidr: 127.0.0.0/8, ports: [{port}], protocol: TCP }} ]\naction: Block"
    ))?;
    let mapped = format!("[::ffff:127.0.0.1]:{port}").parse()?;
    let unspecified = format!("0.0.0.0:{port}").parse()?;
    let denied = [Act::Connect(forbidden.address()), Act::Connect(mapped), Act::Connect(unspecified)];
    subject()?.ensure(&policy, &denied, &[Act::Connect(permitted.address())])?;
    ensure(forbidden.greeted() == 0, || format!("the forbidden server greeted {}", forbidden.greeted()))?;
    ensure(permitted.greeted() == 1, || format!("the permitted server greeted {}", permitted.greeted()))
}

fn ptrace() -> Checked {
    let policy = policy("ptrace:\n  match: [ { target: /bin/vm_actor } ]\naction: Block")?;
    subject()?.ensure(&policy, &[Act::PtraceChild], &[open("/etc/public")])
}

fn read_only() -> Checked {
    let policy = policy("file:\n  matchDirectories: [ { dir: /etc/bin/, readOnly: true } ]\naction: Block")?;
    subject()?.ensure(&policy, &[Act::Create("/etc/bin/written".into())], &[open("/etc/bin/tool")])
}

fn sources() -> Checked {
    let rule = |source: &str| {
        policy(&format!(
            "file:\n  matchPaths: [ {{ path: /etc/secret, fromSource: [ {{ path: {source} }} ] }} ]\naction: Block"
        ))
    };
    subject()?.ensure(&rule("/bin/vm_actor")?, &[open("/etc/secret")], &[open("/etc/public")])?;
    subject()?.ensure(&rule("/bin/permitted")?, &[], &[open("/etc/secret")])
}

fn audits() -> Checked {
    let policy = policy("file:\n  matchPaths: [ { path: /etc/secret } ]\naction: Audit")?;
    subject()?.ensure(&policy, &[], &[open("/etc/secret")])
}

fn neighbours() -> Checked {
    let policy = policy("file:\n  matchPaths: [ { path: /etc/secret } ]\naction: Block")?;
    let acts = [open("/etc/secret")];
    let mut outside = Err("the container outside did not run".into());
    subject()?.meanwhile(&policy, || {
        outside = containerd().and_then(|containerd| Ok(containerd.run("outsider", &[], &acts)?));
    })?;
    ensure_outcomes(&acts, &outside?, 0)
}

/// Scratch memory is where preemption and interrupts would let a decision be overwritten by another.
fn concurrent_opens() -> Checked {
    let policy = policy("file:\n  matchPaths: [ { path: /etc/secret } ]\naction: Block")?;
    subject()?.ensure(&policy, &[Act::OpenOften("/etc/secret".into())], &[Act::OpenOften("/etc/public".into())])
}
