//! Names of users.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::MetadataExt as _,
    process::{Child, Command, Stdio},
    thread::sleep,
    time::Duration,
};

use palisade_domain::{CgroupId, ContainerId};
use palisade_simulation::world::{kernel::Kernel, sinks::SimPasswd};
use palisade_users::PasswdFiles;
use palisade_world::{PasswdAnswer, PasswdCandidate, PasswdOf, PasswdReader};
use tokio::time::Instant;

/// More than any machine here needs.
const PATIENCE: Duration = Duration::from_secs(30);
/// More than any reader keeps.
const MANY: usize = 5000;

/// One machine, simulated or real, with one container that a process lives in.
trait Bed {
    fn reader(&self) -> Box<dyn PasswdReader>;
    /// The container's mount namespace, and its process.
    fn process(&self) -> (u32, PasswdCandidate);
    fn end(&mut self);
}

struct Real(Child);

fn mount_namespace(pid: u32) -> Option<u32> {
    u32::try_from(fs::metadata(format!("/proc/{pid}/ns/mnt")).ok()?.ino()).ok()
}

impl Real {
    fn new() -> Option<Self> {
        let own = mount_namespace(std::process::id());
        let mut shell = Command::new("unshare");
        shell.args(["-m", "sleep", "1000"]).stdin(Stdio::null());
        let bed = crate::is_root().then(|| Self(shell.spawn().expect("unshare(1)")))?;
        let begun = Instant::now();
        while mount_namespace(bed.0.id()) == own {
            assert!(begun.elapsed() < PATIENCE, "it is in no namespace of its own");
            sleep(Duration::from_millis(1));
        }
        Some(bed)
    }
}

impl Bed for Real {
    fn reader(&self) -> Box<dyn PasswdReader> {
        Box::new(PasswdFiles::default())
    }
    fn process(&self) -> (u32, PasswdCandidate) {
        let pid = self.0.id();
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("it lives");
        let after_name = stat.rsplit_once(')').expect("a name").1;
        let start = after_name.split_ascii_whitespace().nth(19).expect("a start").parse().expect("ticks");
        (mount_namespace(pid).expect("it lives"), (pid, start))
    }
    fn end(&mut self) {
        self.0.kill().expect("it lives");
        self.0.wait().expect("it ended");
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

struct Simulated {
    kernel: Kernel,
    init: u32,
}

const CGROUP: CgroupId = CgroupId(7);

impl Simulated {
    fn new() -> Self {
        let kernel = crate::kernel();
        let init = kernel.start_init(&ContainerId("c".to_owned()), CGROUP, "/bin/sleep", 4_026_000_000);
        Self { kernel, init }
    }
}

impl Bed for Simulated {
    fn reader(&self) -> Box<dyn PasswdReader> {
        Box::new(SimPasswd::new(self.kernel.clone()))
    }
    fn process(&self) -> (u32, PasswdCandidate) {
        let listed = self.kernel.listed();
        let init = listed.iter().find(|process| process.pid == self.init).expect("it lives");
        (init.pid_namespace, (init.pid, init.start_ticks))
    }
    fn end(&mut self) {
        self.kernel.kill(CGROUP);
    }
}

fn on_both(body: impl Fn(&mut dyn Bed)) {
    if let Some(mut bed) = Real::new() {
        body(&mut bed);
    }
    body(&mut Simulated::new());
}

/// The next answer. Time here is real: a simulated reader has it at once.
fn answer(reader: &mut dyn PasswdReader) -> PasswdAnswer {
    let begun = Instant::now();
    loop {
        if let Some(answer) = reader.answer() {
            return answer;
        }
        assert!(begun.elapsed() < PATIENCE, "no answer");
        sleep(Duration::from_millis(1));
    }
}

fn knows_root(answer: &PasswdAnswer) -> bool {
    answer.names.as_ref().is_some_and(|names| names.contains(&(0, "root".to_owned())))
}

#[test]
fn host_conformance_each_question_for_names_has_one_answer_that_says_whose_they_are() {
    on_both(|bed| {
        let (namespace, process) = bed.process();
        let (mut reader, container) = (bed.reader(), PasswdOf::MountNamespace(namespace));
        assert_eq!(reader.answer(), None, "nothing was asked");
        assert!(reader.ask(PasswdOf::Host, &[]));
        assert!(reader.ask(container, &[process]));
        let answers = [answer(&mut *reader), answer(&mut *reader)];
        assert!(answers.iter().all(knows_root), "{answers:?}");
        let of: BTreeSet<PasswdOf> = answers.iter().map(|answer| answer.of).collect();
        assert_eq!(of, [PasswdOf::Host, container].into());
        assert_eq!(reader.answer(), None, "once each");
    });
}

#[test]
fn host_conformance_names_of_a_container_are_those_of_its_own_living_processes_and_else_unknown() {
    on_both(|bed| {
        let (namespace, (pid, start)) = bed.process();
        let (mut reader, container) = (bed.reader(), PasswdOf::MountNamespace(namespace));
        let mut names = |of: PasswdOf, candidates: &[PasswdCandidate]| {
            assert!(reader.ask(of, candidates));
            let answer = answer(&mut *reader);
            assert_eq!(answer.of, of);
            answer.names.is_some()
        };
        assert!(names(container, &[(pid, start)]));
        assert!(names(container, &[(pid, start + 1), (pid, start)]), "any of them will do");
        assert!(!names(container, &[]), "by nobody its root is found");
        assert!(!names(container, &[(pid, start + 1)]), "another had that number");
        assert!(!names(PasswdOf::MountNamespace(1), &[(pid, start)]), "another container's");
        bed.end();
        assert!(!names(container, &[(pid, start)]), "it is over");
    });
}

#[test]
fn host_conformance_questions_for_names_are_bounded_and_none_that_was_taken_is_forgotten() {
    on_both(|bed| {
        let mut reader = bed.reader();
        let taken = (0..MANY).filter(|_| reader.ask(PasswdOf::Host, &[])).count();
        assert!((100..MANY).contains(&taken), "{taken} of {MANY}");
        for _ in 0..taken {
            assert_eq!(answer(&mut *reader).of, PasswdOf::Host);
        }
        assert_eq!(reader.answer(), None);
        assert!(reader.ask(PasswdOf::Host, &[]), "there is room again");
        answer(&mut *reader);
    });
}
