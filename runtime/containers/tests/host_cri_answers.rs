//! What a node makes of a CRI runtime's answers, whatever they are, and of its events. Ring: host (root), for the cgroups of real processes.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod cri_answers;

use std::{
    collections::BTreeSet,
    fs,
    path::PathBuf,
    process::{Child, Command},
    time::Duration,
};

use cri_answers::{Answers, Runtime, Told, status};
use k8s_cri::v1::ContainerState;
use palisade_containers::{Cri, RuntimeConfig};
use palisade_world::{ContainerChange, Containers as _};
use tokio::time::{Instant, timeout};

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A process in a cgroup of its own.
struct Init {
    process: Child,
    directory: PathBuf,
}

impl Init {
    fn start(name: &str) -> Self {
        let mounts = fs::read_to_string("/proc/mounts").unwrap();
        let unified = mounts.lines().find(|line| line.starts_with("cgroup2 ")).unwrap().split(' ').nth(1).unwrap();
        let directory = PathBuf::from(unified).join(format!("palisade-cri-{}-{name}", std::process::id()));
        fs::create_dir(&directory).unwrap();
        let process = Command::new("sleep").arg("1000").spawn().unwrap();
        fs::write(directory.join("cgroup.procs"), process.id().to_string()).unwrap();
        Self { process, directory }
    }

    fn pid(&self) -> u32 {
        self.process.id()
    }
}

impl Drop for Init {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
        for _ in 0..100 {
            if fs::remove_dir(&self.directory).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

struct Bed {
    _folder: tempfile::TempDir,
    runtime: Runtime,
    cri: Cri,
}

fn serve(answers: Answers) -> Bed {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("cri.sock");
    let runtime = Runtime::serve(&socket, answers);
    let cri = Cri::new(RuntimeConfig { address: socket, hook_socket: None });
    Bed { _folder: folder, runtime, cri }
}

async fn next(cri: &mut Cri) -> ContainerChange {
    timeout(PATIENCE, cri.next()).await.expect("a change in time").expect("the runtime is there")
}

/// The ids that are told until all are.
async fn synchronize(cri: &mut Cri) -> BTreeSet<String> {
    let mut told = BTreeSet::new();
    loop {
        match next(cri).await {
            ContainerChange::Started(container) => drop(told.insert(container.id.0)),
            ContainerChange::Synchronized => return told,
            other => panic!("unexpected: {other:?}"),
        }
    }
}

#[tokio::test]
async fn host_cri_answers_about_one_container_take_no_other_out_of_sight() {
    let (good, late) = (Init::start("good"), Init::start("late"));
    let mut answers = Answers::default();
    let running = i32::from(ContainerState::ContainerRunning);
    for id in ["", "../..", "/etc", "a\nb", "\u{1b}[2J"] {
        answers.running(id, good.pid());
    }
    for id in ["fails", "hangs", "of-another", "without-status", "without-info", "no-json", "pid-0", "pid-2", "absent"]
    {
        answers.list(id, running);
    }
    answers.list("state-99", 99);
    answers.running("good", good.pid());
    answers.running("good", good.pid());
    answers.told.insert("fails".into(), Told::Fails);
    answers.told.insert("hangs".into(), Told::Hangs);
    let said = |of: &str, info: &str| Told::Status(Box::new(status(of, info)));
    answers.told.insert("of-another".into(), said("good", &format!("{{\"pid\":{}}}", good.pid())));
    let mut empty = status("", "");
    empty.status = None;
    answers.told.insert("without-status".into(), Told::Status(Box::new(empty)));
    let mut without = status("without-info", "");
    without.info.clear();
    answers.told.insert("without-info".into(), Told::Status(Box::new(without)));
    answers.told.insert("no-json".into(), said("no-json", "\u{0}{"));
    answers.told.insert("pid-0".into(), said("pid-0", "{\"pid\":0}"));
    // A kernel thread's, of which there is no cgroup but the root.
    answers.told.insert("pid-2".into(), said("pid-2", "{\"pid\":2}"));
    let mut bed = serve(answers);
    assert_eq!(synchronize(&mut bed.cri).await, BTreeSet::from(["good".to_owned()]));

    // And they take nothing from those that come later, or from one that gets well.
    bed.runtime.now().running("late", late.pid());
    let ContainerChange::Started(told) = next(&mut bed.cri).await else { panic!("not started") };
    assert_eq!((told.id.0.as_str(), told.pid), ("late", late.pid()));
    let well = said("fails", &format!("{{\"pid\":{}}}", good.pid()));
    bed.runtime.now().told.insert("fails".into(), well);
    let ContainerChange::Started(told) = next(&mut bed.cri).await else { panic!("not started") };
    assert_eq!(told.id.0, "fails");
}

#[tokio::test]
async fn host_cri_events_make_a_look_earlier_and_a_stream_that_ended_is_opened_again() {
    let init = Init::start("events");
    let mut bed = serve(Answers { events: Some(Vec::new()), ..Answers::default() });
    assert!(synchronize(&mut bed.cri).await.is_empty());
    // Looks are half a second apart: a start just after one, told in less than half of that, was told for its event's sake.
    let mut soonest = PATIENCE;
    for number in 0..6 {
        if number == 3 {
            bed.runtime.now().events.as_mut().unwrap().clear();
            let reopened = async {
                while bed.runtime.now().events.as_ref().unwrap().is_empty() {
                    bed.runtime.looked().await;
                }
            };
            tokio::select! {
                change = bed.cri.next() => panic!("unexpected: {change:?}"),
                () = reopened => {}
            }
            soonest = PATIENCE;
        }
        let id = format!("c{number}");
        let happened = async {
            bed.runtime.looked().await;
            // The look that is under way has its list already.
            tokio::time::sleep(Duration::from_millis(50)).await;
            let mut now = bed.runtime.now();
            now.running(&id, init.pid());
            assert!(now.happen() > 0, "a stream is open");
            Instant::now()
        };
        let (change, happened) = tokio::join!(next(&mut bed.cri), happened);
        let ContainerChange::Started(told) = change else { panic!("not started: {change:?}") };
        assert_eq!(told.id.0, id);
        soonest = soonest.min(happened.elapsed());
        if number % 3 == 2 {
            assert!(soonest < Duration::from_millis(250), "the event did nothing: {soonest:?}");
        }
    }
}

#[tokio::test]
async fn host_cri_events_in_a_storm_are_a_few_looks() {
    let mut bed = serve(Answers { events: Some(Vec::new()), ..Answers::default() });
    assert!(synchronize(&mut bed.cri).await.is_empty());
    let before = bed.runtime.now().looks;
    let begun = Instant::now();
    let storm = async {
        for _ in 0..2000 {
            bed.runtime.now().happen();
            tokio::task::yield_now().await;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    };
    tokio::select! {
        change = bed.cri.next() => panic!("unexpected: {change:?}"),
        () = storm => {}
    }
    let looks = bed.runtime.now().looks - before;
    let most = begun.elapsed().as_millis() / 20 + 2;
    assert!(looks > 0 && (looks as u128) <= most, "{looks} looks in {:?}", begun.elapsed());
}
