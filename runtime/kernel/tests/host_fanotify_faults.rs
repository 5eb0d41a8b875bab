//! The node's side under faults: a stuck responder at the end, none to be had, a container that is gone, one that is told twice.

mod fanotify_bed;

use std::{
    fs,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use fanotify_bed::{
    Bed, below, config, exact, exec,
    faults::{Hangs, eventually, now},
    open,
};
use palisade_domain::{Action::Block, CgroupId, Slot};
use palisade_kernel::fanotify::{BlobDecides, Responder, ResponderConfig};
use palisade_world::Membership;

#[test]
#[ignore = "the responder's process, started by the bed"]
fn responder_process() {
    fanotify_bed::responder_process(BlobDecides);
}

#[test]
#[ignore = "a responder with a fault, started by the bed"]
fn responder_that_hangs() {
    fanotify_bed::responder_process(Hangs);
}

#[test]
#[ignore = "the container's init, started by the bed"]
fn container_init() {
    fanotify_bed::container_init();
}

fn signal_responder(bed: &Bed, signal: libc::c_int) {
    let pid = libc::pid_t::try_from(bed.responder.health().pid).expect("a pid");
    // SAFETY: takes two numbers; nothing of this process's memory is concerned.
    assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
    if signal == libc::SIGSTOP {
        // It stops when each of its threads next comes by, and until then one may still answer.
        eventually("the responder stands still", || {
            let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("it is there").flatten();
            tasks
                .map(|task| std::fs::read_to_string(task.path().join("stat")).unwrap_or_default())
                .all(|stat| stat.contains(") T "))
        });
    }
}

fn end(mut child: Child) {
    child.kill().expect("alive");
    child.wait().expect("mine");
}

fn bed_with_secret(config: ResponderConfig) -> Bed {
    let bed = Bed::with(config);
    bed.put("/etc/palisade/secret", "hidden\n");
    bed.put("/etc/open", "shown\n");
    bed.install(1, vec![open(Block, below("/etc/palisade/")), exec(Block, exact("/usr/bin/touch"))]);
    bed
}

fn assert_held(bed: &Bed) {
    let said = bed.sh("cat /etc/palisade/secret; cat /etc/open");
    assert!(!said.contains("hidden") && said.contains("shown"), "{said}");
}

#[test]
fn host_fanotify_node_that_ends_waits_for_no_stuck_responder() {
    let mut bed = bed_with_secret(config("responder_that_hangs"));
    bed.put("/etc/trigger", "x");
    let mut before = bed.responder.health();
    eventually("nothing waits", || {
        before = bed.responder.health();
        before.taken == before.answered
    });
    let waiting = bed.command(&["/bin/cat", "/etc/trigger"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    eventually("an event is stuck", || {
        let (one, other) = (bed.responder.health(), bed.responder.health());
        one.taken > one.answered && one == other && one.taken > before.taken + 20
    });
    let next = Responder::start(config("responder_process")).expect("another one starts");
    let stuck = std::mem::replace(&mut bed.responder, next);
    let start = now();
    drop(stuck);
    let took = start.elapsed();
    assert!(took < Duration::from_secs(10), "{took:?}");
    assert!(
        waiting.expect("started").wait().expect("it waits no more").success(),
        "the kernel permits what nobody answers"
    );
}

/// A program that can be taken away and put back.
struct Removable(PathBuf);

impl Removable {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("palisade-responder-{}", std::process::id()));
        let removable = Self(path);
        removable.put_back();
        removable
    }

    fn put_back(&self) {
        std::os::unix::fs::symlink(std::env::current_exe().expect("a path"), &self.0).expect("a link");
    }

    fn take_away(&self) {
        fs::remove_file(&self.0).expect("it is there");
    }
}

impl Drop for Removable {
    fn drop(&mut self) {
        let _gone_already = fs::remove_file(&self.0);
    }
}

#[test]
fn host_fanotify_time_without_a_responder_is_counted_also_between_attempts() {
    let program = Removable::new();
    let bed = bed_with_secret(ResponderConfig { program: program.0.clone(), ..config("responder_process") });
    program.take_away();
    signal_responder(&bed, libc::SIGKILL);
    eventually("it is missed", || bed.responder.health().pid == 0);
    std::thread::sleep(Duration::from_secs(2));
    let [impairment] = &bed.responder.impairments()[..] else { panic!("{:?}", bed.responder.impairments()) };
    assert!(impairment.what == "process, file" && impairment.reason.contains("permitted"), "{impairment:?}");
    let absent = Duration::from_nanos(bed.responder.health().absent_nanos);
    assert!(absent > Duration::from_millis(1900), "while it lasts: {absent:?}");
    program.put_back();
    eventually("a new responder stands", || bed.responder.health().restarts == 1);
    let counted = bed.responder.health().absent_nanos;
    assert!(Duration::from_nanos(counted) >= absent);
    assert_eq!(bed.responder.health().absent_nanos, counted, "it is over");
    eventually("it is old news", || bed.responder.impairments().is_empty());
    assert_held(&bed);
}

#[test]
fn host_fanotify_absence_that_is_over_at_once_is_told_to_who_asks_every_second() {
    let bed = bed_with_secret(config("responder_process"));
    assert_eq!(bed.responder.impairments(), []);
    signal_responder(&bed, libc::SIGKILL);
    eventually("a new responder stands", || bed.responder.health().restarts == 1);
    std::thread::sleep(Duration::from_secs(1));
    let told = bed.responder.impairments();
    assert!(matches!(&told[..], [gap] if gap.reason.contains("was replaced")), "{told:?}");
    eventually("it is old news", || bed.responder.impairments().is_empty());
}

#[test]
fn host_fanotify_responders_that_end_at_once_are_started_ever_further_apart() {
    let bed = bed_with_secret(config("responder_process"));
    let start = now();
    while start.elapsed() < Duration::from_secs(3) {
        if let Ok(pid @ 1..) = libc::pid_t::try_from(bed.responder.health().pid) {
            // SAFETY: takes two numbers; the process is not waited for but by the thread that replaces it under the lock that its
            // number was read by, and where that was quicker the number is of nobody yet.
            unsafe { libc::kill(pid, libc::SIGKILL) };
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    let restarts = bed.responder.health().restarts;
    assert!((2..=9).contains(&restarts), "{restarts} in 3 s");
    eventually("the next one stands", || bed.responder.health().pid != 0);
    assert_held(&bed);
}

#[test]
fn host_fanotify_container_that_ended_does_not_keep_the_others_from_their_policy() {
    let bed = bed_with_secret(config("responder_process"));
    let mut other = Command::new("sleep").arg("600").spawn().expect("sleep");
    let membership = Membership {
        slot: Slot(bed.slot.0 + 1000),
        cgroup: Some(CgroupId(1)),
        cgroup_path: Some(PathBuf::from("/palisade-no-such-cgroup")),
        pid: other.id(),
        root: Some(bed.root()),
    };
    bed.responder.admit(&membership).expect("admitted");
    other.kill().expect("alive");
    other.wait().expect("mine");
    signal_responder(&bed, libc::SIGKILL);
    eventually("a new responder stands", || bed.responder.health().restarts == 1);
    assert_eq!(bed.responder.health().unrestored, 1, "it is told of");
    assert!(bed.responder.impairments().iter().any(|gap| gap.what.contains("some containers")));
    assert_held(&bed);
    bed.responder.release(membership.slot).expect("released");
    eventually("with the container goes what was missing of it", || bed.responder.impairments().is_empty());
}

#[test]
fn host_fanotify_container_that_is_admitted_again_keeps_its_policy() {
    let mut bed = bed_with_secret(config("responder_process"));
    let container = bed.start();
    for _ in 0..3 {
        bed.responder.admit(bed.membership()).expect("admitted again");
        let said = bed.sh_in(&container, "cat /etc/palisade/secret; cat /etc/open; touch /vol/data/made");
        assert!(!said.contains("hidden") && said.contains("shown"), "{said}");
        assert_eq!(said.matches("Operation not permitted").count(), 2, "{said}");
    }
    // What cannot be admitted again is held as before.
    signal_responder(&bed, libc::SIGSTOP);
    bed.responder.admit(bed.membership()).expect_err("nobody answers");
    eventually("a new responder stands", || bed.responder.health().restarts == 1);
    let said = bed.sh_in(&container, "cat /etc/palisade/secret; cat /etc/open");
    assert!(!said.contains("hidden") && said.contains("shown"), "the journal has it too: {said}");
    end(container);
}

#[test]
fn host_fanotify_what_is_missing_is_told_while_the_responder_is_busy() {
    let bed = bed_with_secret(config("responder_process"));
    signal_responder(&bed, libc::SIGSTOP);
    let slowest = std::thread::scope(|scope| {
        scope.spawn(|| bed.responder.admit(bed.membership()).expect_err("nobody answers"));
        let mut slowest = Duration::ZERO;
        for _ in 0..300 {
            let start = now();
            let _missing = bed.responder.impairments();
            slowest = slowest.max(start.elapsed());
            std::thread::sleep(Duration::from_millis(10));
        }
        slowest
    });
    assert!(slowest < Duration::from_millis(500), "{slowest:?}");
    eventually("a new responder stands", || {
        bed.responder.health().restarts == 1 && bed.responder.impairments().is_empty()
    });
}

/// The most descriptors that this process may open, and what it was before.
fn limit_descriptors(most: u64) -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel writes one `rlimit` to `limit`, then reads it; it lives over both calls.
    unsafe {
        assert_eq!(libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit), 0);
        let before = std::mem::replace(&mut limit.rlim_cur, most.min(limit.rlim_max));
        assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit), 0);
        before
    }
}

#[test]
fn host_fanotify_node_without_descriptors_lets_a_good_responder_be() {
    let bed = bed_with_secret(config("responder_process"));
    let before = limit_descriptors(3);
    std::thread::sleep(Duration::from_millis(2500));
    let health = bed.responder.health();
    limit_descriptors(before);
    assert_eq!((health.restarts, health.absent_nanos), (0, 0), "{health:?}");
    assert_held(&bed);
}

#[test]
fn host_fanotify_program_of_the_host_in_the_containers_cgroup_does_not_name_its_files() {
    let bed = bed_with_secret(config("responder_process"));
    let run = format!("echo $$ >{}; exec {}/usr/bin/true", bed.procs().display(), bed.root().display());
    let status = Command::new("/bin/sh").args(["-c", &run]).status().expect("sh");
    assert!(status.success());
    assert_held(&bed);
    assert!(bed.sh("exec touch /made").contains("Operation not permitted"));
}
