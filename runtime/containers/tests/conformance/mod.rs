//! The simulated container runtime held to containerd: the same test bodies against both, through the port that the actors have.
//!
//! What is proved of actors over the simulated runtime holds for production as far as these bodies pass on both. When something is told is
//! left out (a runtime tells when it likes); what is told, in which order, and what is so by then is not.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    fs,
    future::Future,
    path::{Path, PathBuf},
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use palisade_domain::{CgroupId, ContainerId, Workload, WorkloadKind};
use palisade_simulation::{
    event::{Ears, Teller},
    journal::Journal,
    random::Random,
    world::{
        clock::SimClock,
        containers::{HOOK_PATIENCE, Runtime, described},
        kernel::Kernel,
        scheduler,
    },
};
use palisade_world::{Admission, Container, ContainerChange, Containers, ContainersError};
use tokio::time::{Instant, sleep, timeout};

use super::support::{self, PrivateContainerd, Run};

/// Longer than anything here takes on a busy machine of two cores.
const PATIENCE: Duration = Duration::from_secs(30);

type Soon<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// One machine's runtime, simulated or real.
trait Bed {
    /// The port, as a node opens it.
    fn connect(&self) -> Box<dyn Containers>;
    /// Runs a container of an image of its own labels; why it did not start, where it did not. A hook waits first, where one is asked for.
    fn run<'a>(&'a self, id: &'a str, hook: bool) -> Soon<'a, Result<(), String>>;
    /// Its init is killed, and what is left of it removed where the runtime is there to do it.
    fn end(&self, id: &str);
    /// The init and the cgroup of one that runs, as the machine itself shows them.
    fn place(&self, id: &str) -> (u32, CgroupId);
    /// Whether anything is in a cgroup.
    fn is_populated(&self, cgroup: CgroupId) -> bool;
    /// The runtime is away until it is [told to come back](Self::come_up); its containers live on.
    fn go_down(&self);
    fn come_up(&self);
}

struct Real {
    containerd: RefCell<PrivateContainerd>,
    cgroups: RefCell<BTreeMap<CgroupId, PathBuf>>,
}

impl Real {
    fn new() -> Self {
        Self { containerd: RefCell::new(PrivateContainerd::start()), cgroups: RefCell::default() }
    }
}

const LABELS: [(&str, &str); 4] = [
    ("io.kubernetes.pod.name", "web-1"),
    ("io.kubernetes.pod.namespace", "shop"),
    ("io.kubernetes.container.name", "main"),
    ("app", "web"),
];

/// The directory of the unified cgroup of a process.
fn cgroup_directory(pid: u32) -> PathBuf {
    let lines = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("it lives");
    let path = lines.lines().find_map(|line| line.strip_prefix("0::/")).expect("unified");
    let mounts = fs::read_to_string("/proc/mounts").expect("procfs");
    let point = mounts.lines().find(|line| line.starts_with("cgroup2 ")).and_then(|line| line.split(' ').nth(1));
    Path::new(point.expect("the unified hierarchy is mounted")).join(path)
}

impl Bed for Real {
    fn connect(&self) -> Box<dyn Containers> {
        Box::new(self.containerd.borrow().follow().0)
    }

    fn run<'a>(&'a self, id: &'a str, hook: bool) -> Soon<'a, Result<(), String>> {
        let run = Run { id, labels: &LABELS, hook, ..Run::default() };
        let mut command = self.containerd.borrow().run_command(&run);
        Box::pin(async move {
            let ctr = tokio::task::spawn_blocking(move || command.output().expect("ctr runs"));
            let output = ctr.await.expect("no panic there");
            if output.status.success() {
                return Ok(());
            }
            // Its container is left by `ctr`, and its name with it.
            self.containerd.borrow().ctr_command(&["containers", "delete", id]).output().expect("ctr runs");
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        })
    }

    fn end(&self, id: &str) {
        let containerd = self.containerd.borrow();
        if containerd.ctr_command(&["version"]).output().is_ok_and(|output| output.status.success()) {
            containerd.ctr(&["tasks", "delete", "--force", id]);
            containerd.ctr(&["containers", "delete", id]);
        }
    }

    fn place(&self, id: &str) -> (u32, CgroupId) {
        let pid = self.containerd.borrow().pid_of(id);
        let cgroup = CgroupId(support::cgroup_inode(pid));
        self.cgroups.borrow_mut().insert(cgroup, cgroup_directory(pid));
        (pid, cgroup)
    }

    fn is_populated(&self, cgroup: CgroupId) -> bool {
        let procs = self.cgroups.borrow()[&cgroup].join("cgroup.procs");
        fs::read_to_string(procs).is_ok_and(|procs| !procs.is_empty())
    }

    fn go_down(&self) {
        self.containerd.borrow_mut().kill();
    }

    fn come_up(&self) {
        self.containerd.borrow_mut().start_again();
    }
}

struct Simulated {
    runtime: Runtime,
    kernel: Kernel,
    /// The init and the cgroup of each that runs.
    running: RefCell<BTreeMap<String, (u32, CgroupId)>>,
    made: RefCell<u64>,
}

impl Simulated {
    fn new() -> Self {
        let ears = Arc::new(Mutex::new(Ears::new(Instant::now(), Journal::new(false), Vec::new())));
        let (teller, clock) = (Teller::new(0, &ears), SimClock::new(Instant::now(), 0));
        let kernel = Kernel::new(teller, clock, Random::stream(1, "kernel"), 4096, None);
        let runtime = Runtime::new(Random::stream(1, "runtime"), None);
        Self { runtime, kernel, running: RefCell::default(), made: RefCell::default() }
    }
}

fn workload(id: &str) -> Workload {
    Workload {
        kind: WorkloadKind::Container,
        name: LABELS[0].1.to_owned(),
        namespace: LABELS[1].1.to_owned(),
        container: LABELS[2].1.to_owned(),
        container_id: Some(ContainerId(id.to_owned())),
        image: support::IMAGE.to_owned(),
        labels: [("app".to_owned(), "web".to_owned())].into(),
    }
}

impl Bed for Simulated {
    fn connect(&self) -> Box<dyn Containers> {
        Box::new(self.runtime.connect())
    }

    fn run<'a>(&'a self, id: &'a str, hook: bool) -> Soon<'a, Result<(), String>> {
        Box::pin(async move {
            *self.made.borrow_mut() += 1;
            let (container, cgroup) = (ContainerId(id.to_owned()), CgroupId(1000 + *self.made.borrow()));
            let init = self.kernel.start_init(&container, cgroup, "/bin/sleep", 7);
            let described = described(&container, init, cgroup, &workload(id));
            if hook {
                let answer = match timeout(HOOK_PATIENCE, self.runtime.hook(&described)).await {
                    Ok(answer) => answer.unwrap_or_else(|_| Err("unanswered".to_owned())),
                    Err(_) => Err("no answer in time".to_owned()),
                };
                if let Err(refused) = answer {
                    self.kernel.kill(cgroup);
                    self.runtime.stopped(&container);
                    return Err(refused);
                }
            }
            self.running.borrow_mut().insert(id.to_owned(), (init, cgroup));
            self.runtime.started(&described);
            Ok(())
        })
    }

    fn end(&self, id: &str) {
        let (_, cgroup) = self.running.borrow_mut().remove(id).expect("it runs");
        self.kernel.kill(cgroup);
        self.runtime.stopped(&ContainerId(id.to_owned()));
    }

    fn place(&self, id: &str) -> (u32, CgroupId) {
        self.running.borrow()[id]
    }

    fn is_populated(&self, cgroup: CgroupId) -> bool {
        let namespaces = self.kernel.listed();
        let inits = self.running.borrow();
        inits.values().any(|(init, of)| *of == cgroup && namespaces.iter().any(|process| process.pid == *init))
    }

    fn go_down(&self) {
        self.runtime.go_down();
    }

    fn come_up(&self) {
        self.runtime.come_up();
    }
}

fn on_both(body: &impl AsyncFn(&dyn Bed)) {
    let real = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let bed = Real::new();
    real.block_on(body(&bed));
    drop(bed);
    scheduler::run(1, async |_| body(&Simulated::new()).await);
}

async fn next(containers: &mut dyn Containers) -> ContainerChange {
    timeout(PATIENCE, containers.next()).await.expect("a change in time").expect("the runtime is there")
}

/// The next change, in short, and the container and admission of it.
async fn told(containers: &mut dyn Containers) -> (String, Option<Container>, Option<Admission>) {
    match next(containers).await {
        ContainerChange::Starting(container, admission) => {
            (format!("?{}", container.id), Some(container), Some(admission))
        }
        ContainerChange::Started(container) => (format!("+{}", container.id), Some(container), None),
        ContainerChange::Stopped(id) => (format!("-{id}"), None, None),
        ContainerChange::Synchronized => ("=".to_owned(), None, None),
        ContainerChange::Limited(how) => panic!("nothing limits it here: {how:?}"),
    }
}

/// All that is told until all that runs has been, sorted (a list has no order); the runtime may not be there at first.
async fn synchronized(containers: &mut dyn Containers) -> Vec<String> {
    let mut all = Vec::new();
    let waits = async {
        loop {
            match containers.next().await {
                Ok(ContainerChange::Synchronized) => return,
                Ok(ContainerChange::Started(container)) => all.push(format!("+{}", container.id)),
                Ok(ContainerChange::Stopped(id)) => all.push(format!("-{id}")),
                Ok(starting) => panic!("no hook waits: {starting:?}"),
                Err(ContainersError::Unreachable { .. }) => sleep(Duration::from_millis(100)).await,
                Err(other) => panic!("{other}"),
            }
        }
    };
    timeout(PATIENCE, waits).await.expect("told in time");
    all.sort();
    all
}

/// What the port promises of a container, without what only one world has.
fn attributes(container: &Container) -> (u32, CgroupId, [&str; 4], &str) {
    let Container { pid, cgroup, pod, namespace, name, image, labels, .. } = container;
    (*pid, *cgroup, [pod, namespace, name, image].map(String::as_str), &labels["app"])
}

fn expected((pid, cgroup): (u32, CgroupId)) -> (u32, CgroupId, [&'static str; 4], &'static str) {
    (pid, cgroup, ["web-1", "shop", "main", support::IMAGE], "web")
}

#[test]
fn host_conformance_containers_are_told_as_they_are_and_their_end_when_nothing_of_them_is_left() {
    on_both(&async |bed| {
        let mut containers = bed.connect();
        assert_eq!(synchronized(&mut *containers).await, [""; 0]);
        bed.run("a", false).await.expect("it runs");
        let (what, started, _) = told(&mut *containers).await;
        let place = bed.place("a");
        assert_eq!((what.as_str(), attributes(&started.expect("a start"))), ("+a", expected(place)));
        assert!(bed.is_populated(place.1));
        bed.end("a");
        assert_eq!(told(&mut *containers).await.0, "-a");
        assert!(!bed.is_populated(place.1), "its cgroup is empty when its end is told");
    });
}

#[test]
fn host_conformance_containers_wait_in_their_hooks_and_run_once_admitted() {
    on_both(&async |bed| {
        let mut containers = bed.connect();
        synchronized(&mut *containers).await;
        let admits = async {
            let (what, announced, admission) = told(&mut *containers).await;
            assert_eq!(what, "?a");
            let quiet = timeout(Duration::from_millis(300), containers.next()).await;
            assert!(quiet.is_err(), "nothing is told of it while it waits: {quiet:?}");
            admission.expect("it waits").0.send(Ok(())).expect("it still does");
            let (what, started, _) = told(&mut *containers).await;
            assert_eq!((what.as_str(), &started), ("+a", &announced), "as it was announced");
            started.expect("a start")
        };
        let (ran, started) = tokio::join!(bed.run("a", true), admits);
        ran.expect("it was admitted");
        assert_eq!(attributes(&started), expected(bed.place("a")));
        bed.end("a");
        assert_eq!(told(&mut *containers).await.0, "-a");
    });
}

#[test]
fn host_conformance_containers_that_are_refused_or_not_answered_do_not_start_and_have_ended() {
    on_both(&async |bed| {
        let mut containers = bed.connect();
        synchronized(&mut *containers).await;
        for (answer, why) in [(Some("its policy is broken"), "its policy is broken"), (None, "unanswered")] {
            let refuses = async {
                let (what, _, admission) = told(&mut *containers).await;
                assert_eq!(what, "?a");
                if let (Some(answer), Some(Admission(admission))) = (answer, admission) {
                    admission.send(Err(answer.to_owned())).expect("it waits");
                }
                told(&mut *containers).await.0
            };
            let (ran, after) = tokio::join!(bed.run("a", true), refuses);
            let said = ran.expect_err("it was not admitted");
            assert!(said.contains(why), "{said}");
            assert_eq!(after, "-a");
        }
        bed.run("a", false).await.expect("its name is free");
        assert_eq!(told(&mut *containers).await.0, "+a");
        bed.end("a");
    });
}

#[test]
fn host_conformance_containers_of_one_id_end_before_the_next_one_starts_and_others_are_not_mixed_up() {
    on_both(&async |bed| {
        let mut containers = bed.connect();
        synchronized(&mut *containers).await;
        let (mut places, mut of_a, mut of_b) = (Vec::new(), Vec::new(), Vec::new());
        let mut tell = async |of_a: &mut Vec<_>, of_b: &mut Vec<_>, until: usize| {
            while of_a.len() + of_b.len() < until {
                let (what, container, _) = told(&mut *containers).await;
                let pid = container.map(|container| container.pid);
                if what.ends_with('a') { of_a.push((what, pid)) } else { of_b.push((what, pid)) }
            }
        };
        for life in 0..2 {
            bed.run("a", false).await.expect("it runs");
            bed.run("b", false).await.expect("it runs");
            places.extend([bed.place("a"), bed.place("b")]);
            // The ends of the first two are still untold when the next two start. Who ended before anybody looked would be told of nowhere.
            tell(&mut of_a, &mut of_b, 2 + 4 * life).await;
            bed.end("b");
            bed.end("a");
        }
        tell(&mut of_a, &mut of_b, 8).await;
        let lives = |id: &str, first: usize| {
            let life = |at: usize| [(format!("+{id}"), Some(places[at].0)), (format!("-{id}"), None)];
            [life(first), life(first + 2)].concat()
        };
        assert_eq!((of_a, of_b), (lives("a", 0), lives("b", 1)));
    });
}

#[test]
fn host_conformance_containers_are_told_anew_after_their_runtime_was_away_and_none_that_ended_meanwhile() {
    on_both(&async |bed| {
        bed.run("a", false).await.expect("it runs");
        bed.run("b", false).await.expect("it runs");
        let mut containers = bed.connect();
        assert_eq!(synchronized(&mut *containers).await, ["+a", "+b"], "also who ran before");
        bed.end("b");
        assert_eq!(told(&mut *containers).await.0, "-b");
        let place = bed.place("a");
        bed.go_down();
        let gone = timeout(PATIENCE, containers.next()).await.expect("it is noticed");
        assert!(matches!(gone, Err(ContainersError::Unreachable { .. })), "{gone:?}");
        let still = timeout(PATIENCE, containers.next()).await.expect("at once");
        assert!(matches!(still, Err(ContainersError::Unreachable { .. })), "{still:?}");
        assert!(bed.is_populated(place.1), "containers live on");
        bed.come_up();
        assert_eq!(synchronized(&mut *containers).await, ["+a"]);
        assert_eq!(bed.place("a"), place, "the same one");
        bed.end("a");
        assert_eq!(told(&mut *containers).await.0, "-a");
    });
}
