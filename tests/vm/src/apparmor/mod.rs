//! The suite of the boot where AppArmor is active: profiles that are lowered from real policies, in force in this kernel.
//!
//! Most tests need no container runtime: a process takes its profile as runc's does (`/proc/self/attr`). The last ones run a node with containerd.
//!
//! Invariant: nothing is only denied under the profile: the same call by a process outside of it goes through.

mod fixture;
mod generated;
mod lines;
mod node;

use std::fs;

use fixture::{DENIED, Profiled, apparmor, call_both, policy};
use libtest_mimic::{Failed, Trial};
use palisade_apparmor::{ProfileName, Share, lower};
use palisade_kernel::apparmor::{Confinement, confinement};

use crate::{
    act::{Act, Outcome},
    judged::{Call, Judged, UNDER},
    suite::{Checked, attacks, ensure},
};

/// Every test of this boot.
#[must_use]
pub fn trials() -> Vec<Trial> {
    vec![
        Trial::test("vm_apparmor_is_active_and_bpf_is_not_among_the_lsms", ground),
        crate::suite::ground::tiers(),
        Trial::test("vm_apparmor_profile_denies_a_confined_process_and_nobody_else", confined_only),
        Trial::test("vm_apparmor_profile_lets_a_more_specific_allow_stand_in_a_blocked_directory", more_specific_allow),
        Trial::test("vm_apparmor_profile_holds_read_only_against_every_way_to_change_a_file", read_only),
        Trial::test("vm_apparmor_profile_holds_an_allow_list_of_executables_by_its_posture", allow_list),
        Trial::test("vm_apparmor_profile_denies_sockets_capabilities_and_tracing", other_families),
        Trial::test("vm_apparmor_profile_of_a_new_generation_holds_who_runs_already", new_generation),
        Trial::test("vm_apparmor_profile_goes_on_unload_and_others_stay", unload),
        Trial::test("vm_apparmor_profile_stacks_on_the_one_that_a_container_has", stacked),
        Trial::test("vm_apparmor_profile_of_a_thousand_rules_is_taken_and_holds", thousand_rules),
        Trial::test("vm_apparmor_denial_is_told_and_names_the_rule_of_its_generation", lines::names_the_rule),
        Trial::test("vm_apparmor_audit_is_told_and_denies_nothing", lines::audits),
        Trial::test("vm_apparmor_denials_of_a_flood_are_told_or_counted_as_dropped", lines::flood),
        Trial::test("vm_apparmor_decides_generated_cases_as_the_naive_evaluator_does_whoever_acts", generated::agrees),
        Trial::test("vm_apparmor_differs_from_the_walker_as_is_declared", declared),
        Trial::test("vm_apparmor_attacks_come_to_what_the_table_says", || attacks::beside_fanotify(None, 70)),
        Trial::test("vm_apparmor_node_holds_a_container_and_explains_the_denial", node::holds_and_explains),
        Trial::test(
            "vm_apparmor_node_says_of_a_container_without_its_profile_what_is_not_held",
            node::says_what_is_not_held,
        ),
        Trial::test("vm_apparmor_node_that_was_killed_leaves_profiles_in_force_until_they_are_unloaded", node::stands),
    ]
}

fn ground() -> Checked {
    let active = fs::read_to_string("/sys/kernel/security/lsm")?;
    let has = |name: &str| active.split(',').any(|lsm| lsm.trim() == name);
    ensure(has("apparmor") && !has("bpf"), || format!("active: {active}"))?;
    apparmor().map(drop)
}

fn confined_only() -> Checked {
    fs::create_dir_all("/data/deep/er")?;
    for file in ["/data/secret", "/data/public", "/data/deep/er/x"] {
        fs::write(file, "x")?;
    }
    let spec = "file:\n  matchPaths: [ { path: /data/secret } ]\n  matchDirectories: [ { dir: /data/deep/, recursive: true } ]\naction: Block";
    let confined = Profiled::start("confined", &policy(spec)?)?;
    let denied = [
        (Call::Read, "/data/secret"),
        (Call::Append, "/data/secret"),
        (Call::Read, "/data/deep/er/x"),
        (Call::Read, "/data/deep"),
        (Call::MakeDirectory, "/data/deep/new"),
        (Call::Remove, "/data/deep/er/x"),
    ];
    call_both(&confined, &denied, &[(Call::Read, "/data/public"), (Call::Read, "/data")])
}

fn more_specific_allow() -> Checked {
    fs::create_dir_all("/conf/app")?;
    for file in ["/conf/shadow", "/conf/app/one", "/conf/app/two"] {
        fs::write(file, "x")?;
    }
    let spec = "file:\n  matchDirectories:\n  - { dir: /conf/, recursive: true, action: Block }\n  - { dir: /, recursive: true, \
                action: Allow }\n  matchPaths: [ { path: /conf/app/one, action: Allow } ]";
    let confined = Profiled::start("specific", &policy(spec)?)?;
    let denied = [(Call::Read, "/conf/shadow"), (Call::Read, "/conf/app/two"), (Call::Append, "/conf/app/two")];
    call_both(
        &confined,
        &denied,
        &[(Call::Read, "/conf/app/one"), (Call::Append, "/conf/app/one"), (Call::Read, "/bin")],
    )
}

fn read_only() -> Checked {
    fs::create_dir_all("/guarded")?;
    for number in 0..7 {
        fs::write(format!("/guarded/{number}"), "kept")?;
    }
    let spec = "file:\n  matchDirectories: [ { dir: /guarded/, recursive: true, readOnly: true } ]\naction: Block";
    let confined = Profiled::start("readonly", &policy(spec)?)?;
    let changes = [
        (Call::Append, "/guarded/0"),
        (Call::Truncate, "/guarded/1"),
        (Call::Chmod, "/guarded/2"),
        (Call::Rename, "/guarded/3"),
        (Call::Link, "/guarded/4"),
        (Call::Remove, "/guarded/5"),
        (Call::MakeDirectory, "/guarded/d"),
    ];
    let before = |number: u32| fs::read_to_string(format!("/guarded/{number}")).is_ok_and(|content| content == "kept");
    let mut process = confined.judged()?;
    for (call, path) in changes {
        ensure(process.call(call, path)? == DENIED, || format!("{call:?} {path} was not denied"))?;
    }
    ensure((0..7).all(before) && fs::read_dir("/guarded")?.count() == 7, || "something was changed".to_owned())?;
    drop(process);
    call_both(&confined, &changes, &[(Call::Read, "/guarded/6")])
}

fn allow_list() -> Checked {
    fs::create_dir_all("/tools")?;
    for name in ["one", "two"] {
        let place = format!("/tools/{name}");
        if fs::metadata(&place).is_err() {
            fs::hard_link("/bin/vm_actor", &place)?;
        }
    }
    let confined =
        Profiled::start("allowlist", &policy("process:\n  matchPaths: [ { path: /tools/one } ]\naction: Allow")?)?;
    call_both(&confined, &[(Call::Exec, "/tools/two"), (Call::Exec, "/bin/vm_actor")], &[(Call::Exec, "/tools/one")])
}

fn other_families() -> Checked {
    fs::write("/owned", "x")?;
    let spec = "network:\n  matchProtocols: [ { protocol: dgram }, { protocol: packet } ]\ncapabilities:\n  matchCapabilities: [ { capability: chown } ]\n\
                ptrace:\n  match: [ {} ]\naction: Block";
    let confined = Profiled::start("families", &policy(spec)?)?;
    call_both(
        &confined,
        &[(Call::Socket, "unix-dgram"), (Call::Socket, "inet-dgram")],
        &[(Call::Socket, "unix-stream")],
    )?;
    let acts = [Act::Chown("/owned".into()), Act::PtraceChild];
    for (act, outcome) in acts.iter().zip(confined.acts(&acts)?) {
        ensure(outcome.is_denied(), || format!("{act} under the profile: {outcome}"))?;
    }
    let child = std::process::Command::new("/bin/vm_actor").args(acts.iter().map(ToString::to_string)).output()?;
    let outside = String::from_utf8_lossy(&child.stdout).into_owned();
    ensure(outside.matches("errno=0 effect=yes").count() == acts.len(), || format!("outside: {outside}"))
}

fn new_generation() -> Checked {
    for file in ["/first", "/second"] {
        fs::write(file, "x")?;
    }
    let only = |path: &str| policy(&format!("file:\n  matchPaths: [ {{ path: {path} }} ]\naction: Block"));
    let confined = Profiled::start("generations", &only("/first")?)?;
    let mut process = confined.judged()?;
    let calls = |process: &mut Judged| -> Result<[i32; 2], Failed> {
        Ok([process.call(Call::Read, "/first")?, process.call(Call::Read, "/second")?])
    };
    let first = calls(&mut process)?;
    confined.replace(&only("/second")?)?;
    let second = calls(&mut process)?;
    ensure((first, second) == ([DENIED, 0], [0, DENIED]), || format!("{first:?}, then {second:?}"))
}

fn unload() -> Checked {
    fs::write("/unloaded", "x")?;
    let (apparmor, foreign) = (apparmor()?, "host-own-1");
    // One that the host has loaded: the form is the same, the name is not ours.
    let policy = policy("file:\n  matchPaths: [ { path: /unloaded } ]\naction: Block")?;
    let made = lower(&policy.blob, &ProfileName::of_container("o")?, Share::ALL)?;
    let renamed = replace_name(&made.bytes, made.name.as_str(), foreign);
    fs::write("/sys/kernel/security/apparmor/.replace", &renamed)?;
    let confined = Profiled::start("unloaded", &policy)?;
    let mut process = confined.judged()?;
    ensure(process.call(Call::Read, "/unloaded")? == DENIED, || "it was not in force".to_owned())?;
    let unused = Profiled::start("unused", &policy)?;
    apparmor.stand_down()?;
    ensure(process.call(Call::Read, "/unloaded")? == 0, || "it is still in force".to_owned())?;
    // Its container may yet be executed in, by the name.
    ensure(apparmor.ours()? == [confined.name.clone()], || format!("{:?} and not only what is used", apparmor.ours()))?;
    ensure(confined.judged()?.call(Call::Read, "/unloaded")? == 0, || "it is in force anew".to_owned())?;
    let mut other = Judged::start(Some(foreign))?;
    ensure(other.call(Call::Read, "/unloaded")? == DENIED, || "the host's own profile went, too".to_owned())?;
    ensure(apparmor.remove(&unused.name).is_ok(), || "removing what is gone is an error".to_owned())
}

/// The same stream with a name of the same length, so that all lies where it lay.
fn replace_name(bytes: &[u8], from: &str, to: &str) -> Vec<u8> {
    assert_eq!(from.len(), to.len(), "offsets would change");
    let at = bytes.windows(from.len()).position(|part| part == from.as_bytes());
    let mut bytes = bytes.to_vec();
    if let Some(at) = at {
        bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
    }
    bytes
}

fn stacked() -> Checked {
    for file in ["/by-one", "/by-other"] {
        fs::write(file, "x")?;
    }
    let only = |path: &str| policy(&format!("file:\n  matchPaths: [ {{ path: {path} }} ]\naction: Block"));
    let (one, other) = (Profiled::start("one", &only("/by-one")?)?, Profiled::start("other", &only("/by-other")?)?);
    let label = format!("{}//&{}", one.name, other.name);
    let acts = ["/by-one", "/by-other", "/bin/vm_actor"].map(|path| Act::Open(path.into()));
    let outcomes = fixture::acts_under(&label, &acts)?;
    let denied: Vec<bool> = outcomes.iter().map(|outcome: &Outcome| outcome.is_denied()).collect();
    ensure(denied == [true, true, false], || format!("{outcomes:?}"))?;
    let mut process = Judged::start(Some(&label))?;
    process.call(Call::Read, "/bin")?;
    let found = confinement(process.pid())?;
    ensure(matches!(&found, Confinement::Ours(name) if *name == one.name || *name == other.name), || {
        format!("{found:?}")
    })?;
    ensure(confinement(std::process::id())? == Confinement::Others("unconfined".to_owned()), || UNDER.to_owned())
}

fn thousand_rules() -> Checked {
    fs::create_dir_all("/many")?;
    let path = |number: u32| format!("/many/{:08x}-file", number.wrapping_mul(0x9e37_79b9));
    let rules: String = (0..1000).map(|number| format!("  - {{ path: {} }}\n", path(number))).collect();
    let policy = policy(&format!("file:\n  matchPaths:\n{rules}action: Block"))?;
    let confined = Profiled::start("many", &policy)?;
    println!("1,000 rules: {} states, {} bytes", confined.states, confined.bytes);
    for file in [path(0), path(500), path(999), "/many/other".to_owned()] {
        fs::write(file, "x")?;
    }
    let denied = [path(0), path(500), path(999)];
    let denied: Vec<(Call, &str)> = denied.iter().map(|path| (Call::Read, path.as_str())).collect();
    call_both(&confined, &denied, &[(Call::Read, "/many/other")])
}

/// What `tests/differential/differences.yaml` says apart from what [`generated`] shows.
fn declared() -> Checked {
    let spec = "process:\n  matchPaths: [ { path: /bin/vm_actor } ]\n  matchPatterns: [ { pattern: '/memfd:**' } ]\naction: Block";
    let confined = Profiled::start("declared", &policy(spec)?)?;
    // The first program runs although it is blocked, and what it executes does not. What has no name is executed by none.
    let acts = [Act::Exec("/bin/vm_actor".into()), Act::ExecMemory("/bin/busybox".into())];
    let errnos = |outcomes: Vec<Outcome>| outcomes.iter().map(|outcome| outcome.errno).collect::<Vec<_>>();
    let (blocked, listed) =
        (errnos(confined.acts(&acts)?), policy("process:\n  matchPaths: [ { path: /bin/busybox } ]\naction: Allow")?);
    let listed = errnos(Profiled::start("listed", &listed)?.acts(&acts)?);
    ensure((&blocked[..], &listed[..]) == (&[DENIED, 0][..], &[DENIED, DENIED][..]), || {
        format!("{blocked:?} {listed:?}")
    })?;
    let mut process = confined.judged()?;
    let changes =
        [process.call(Call::ChangeProfile, "unconfined")?, process.call(Call::ChangeProfile, confined.name.as_str())?];
    ensure(changes == [DENIED, DENIED], || format!("it could take another profile: {changes:?}"))
}
