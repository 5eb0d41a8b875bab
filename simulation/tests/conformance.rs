//! The simulated ports held to the real ones: the same test bodies against the simulated disk and against a file system.
//!
//! What is proved of actors over simulated ports holds for production as far as these bodies pass on both.
#![forbid(unsafe_code)]

use std::{
    fs,
    os::unix::fs::symlink,
    path::PathBuf,
    sync::{Arc, Mutex},
    thread::sleep,
    time::Duration,
};

use palisade_simulation::{
    checkers::Checker,
    event::{Ears, Event, Teller},
    journal::Journal,
    random::Random,
    world::{policies::Disk, sinks::SimSink},
};
use palisade_sinks::RotatingFile;
use palisade_store::{FileDirectory, LastGoodFiles};
use palisade_world::{AlertSink, LastGood, PolicyDirectory, PolicyFile};
use tempfile::TempDir;
use tokio::time::Instant;

/// One world, simulated or real.
trait Bed {
    fn directory(&self) -> Box<dyn PolicyDirectory>;
    fn last_good(&self) -> Box<dyn LastGood>;
    fn sink(&self) -> Box<dyn AlertSink>;
    fn write(&self, name: &str, content: &str);
    fn remove(&self, name: &str);
    /// A file that is there and that nobody can read.
    fn hide(&self, name: &str);
    /// What was kept of a file is damaged.
    fn tear(&self, name: &str);
    /// Whether the sink's disk takes anything.
    fn set_sink_works(&self, works: bool);
    /// Containers named by the lines that were taken.
    fn lines(&self) -> Vec<String>;
}

struct Real {
    root: TempDir,
}

impl Real {
    fn new() -> Self {
        let root = tempfile::tempdir().expect("a temporary directory");
        fs::create_dir(root.path().join("policies")).expect("made");
        fs::create_dir(root.path().join("alerts")).expect("made");
        Self { root }
    }

    fn policy(&self, name: &str) -> PathBuf {
        self.root.path().join("policies").join(name)
    }
}

impl Bed for Real {
    fn directory(&self) -> Box<dyn PolicyDirectory> {
        Box::new(FileDirectory::new(self.root.path().join("policies")))
    }
    fn last_good(&self) -> Box<dyn LastGood> {
        Box::new(LastGoodFiles::new(self.root.path().join("kept")))
    }
    fn sink(&self) -> Box<dyn AlertSink> {
        Box::new(RotatingFile::new(self.root.path().join("alerts/file"), 1 << 20, 1))
    }
    fn write(&self, name: &str, content: &str) {
        // Time stamps do not tell apart what changes within a few milliseconds.
        sleep(Duration::from_millis(20));
        fs::write(self.policy(name), content).expect("written");
    }
    fn remove(&self, name: &str) {
        fs::remove_file(self.policy(name)).expect("removed");
    }
    fn hide(&self, name: &str) {
        self.remove(name);
        symlink("nowhere", self.policy(name)).expect("linked");
    }
    fn tear(&self, name: &str) {
        for entry in fs::read_dir(self.root.path().join("kept")).expect("listed") {
            let path = entry.expect("an entry").path();
            let bytes = fs::read(&path).expect("readable");
            if bytes.windows(name.len()).any(|window| window == name.as_bytes()) {
                fs::write(&path, &bytes[..bytes.len() - 3]).expect("cut");
            }
        }
    }
    fn set_sink_works(&self, works: bool) {
        let (here, away) = (self.root.path().join("alerts"), self.root.path().join("away"));
        let (from, to) = if works { (away, here) } else { (here, away) };
        fs::rename(from, to).expect("moved");
    }
    fn lines(&self) -> Vec<String> {
        let text = fs::read_to_string(self.root.path().join("alerts/file")).unwrap_or_default();
        let said = |line: &str| palisade_simulation::world::sinks::said(line.as_bytes()).expect("a line").container;
        text.lines().map(said).collect()
    }
}

/// Keeps what sinks took.
struct Taken(Arc<Mutex<Vec<String>>>);

impl Checker for Taken {
    fn name(&self) -> &'static str {
        "taken"
    }
    fn hear(&mut self, _: Duration, _: usize, event: &Event) -> Result<(), String> {
        if let Event::Lines { said, taken: true } = event {
            self.0.lock().expect("whole").extend(said.iter().map(|said| said.container.clone()));
        }
        Ok(())
    }
}

struct Simulated {
    disk: Disk,
    teller: Teller,
    taken: Arc<Mutex<Vec<String>>>,
}

impl Simulated {
    fn new() -> Self {
        let taken = Arc::default();
        let checkers: Vec<Box<dyn Checker>> = vec![Box::new(Taken(Arc::clone(&taken)))];
        let ears = Arc::new(Mutex::new(Ears::new(Instant::now(), Journal::new(false), checkers)));
        let teller = Teller::new(0, &ears);
        let disk = Disk::new(teller.clone(), Random::stream(1, "disk"), None);
        Self { disk, teller, taken }
    }
}

impl Bed for Simulated {
    fn directory(&self) -> Box<dyn PolicyDirectory> {
        Box::new(self.disk.directory())
    }
    fn last_good(&self) -> Box<dyn LastGood> {
        Box::new(self.disk.last_good())
    }
    fn sink(&self) -> Box<dyn AlertSink> {
        Box::new(SimSink::open(0, self.teller.clone(), self.disk.clone(), None, Random::stream(1, "sink")))
    }
    fn write(&self, name: &str, content: &str) {
        self.disk.write(name, content.into());
    }
    fn remove(&self, name: &str) {
        self.disk.remove(name);
    }
    fn hide(&self, name: &str) {
        self.disk.forbid(name);
    }
    fn tear(&self, name: &str) {
        self.disk.tear(name);
    }
    fn set_sink_works(&self, works: bool) {
        self.disk.disturb(|disk| disk.full = !works);
    }
    fn lines(&self) -> Vec<String> {
        self.taken.lock().expect("whole").clone()
    }
}

fn on_both(body: impl Fn(&dyn Bed)) {
    body(&Real::new());
    body(&Simulated::new());
}

fn file(name: &str, content: &str) -> PolicyFile {
    PolicyFile { name: name.to_owned(), content: content.into() }
}

#[test]
fn unit_conformance_directory_is_read_sorted_and_whole_and_by_its_last_content() {
    on_both(|bed| {
        bed.write("b.yaml", "two");
        bed.write("a.yaml", "one");
        bed.write("b.yaml", "three");
        let mut directory = bed.directory();
        let reading = directory.read().expect("readable");
        assert_eq!(reading.files, [file("a.yaml", "one"), file("b.yaml", "three")]);
        assert!(reading.unreadable.is_empty());
        bed.remove("a.yaml");
        assert_eq!(directory.read().expect("readable").files, [file("b.yaml", "three")]);
    });
}

#[test]
fn unit_conformance_directory_tells_a_change_once_whoever_reads() {
    on_both(|bed| {
        bed.write("a.yaml", "one");
        let mut directory = bed.directory();
        assert!(directory.changed(), "it was never looked at");
        assert!(directory.settled());
        directory.read().expect("readable");
        assert!(!directory.changed());
        bed.write("a.yaml", "longer");
        assert!(directory.changed());
        directory.read().expect("readable");
        assert!(!directory.changed());
        bed.remove("a.yaml");
        assert!(directory.changed());
    });
}

#[test]
fn unit_conformance_directory_is_settled_once_nothing_changes_between_two_looks() {
    on_both(|bed| {
        bed.write("a.yaml", "one");
        let mut directory = bed.directory();
        assert!(directory.changed());
        bed.write("a.yaml", "longer");
        assert!(!directory.settled(), "it changed since");
        assert!(directory.settled());
        bed.write("b.yaml", "another");
        assert!(!directory.settled());
        assert!(directory.settled());
    });
}

#[test]
fn unit_conformance_directory_names_a_file_that_cannot_be_read_and_reads_all_others() {
    on_both(|bed| {
        bed.write("a.yaml", "one");
        bed.write("b.yaml", "two");
        let mut directory = bed.directory();
        directory.read().expect("readable");
        directory.changed();
        bed.hide("a.yaml");
        assert!(directory.changed());
        let reading = directory.read().expect("a fault of a file is none of the directory");
        assert_eq!(reading.files, [file("b.yaml", "two")]);
        let named: Vec<&str> = reading.unreadable.iter().map(|file| file.name.as_str()).collect();
        assert_eq!(named, ["a.yaml"]);
        assert!(!reading.unreadable[0].reason.is_empty());
    });
}

#[test]
fn unit_conformance_last_good_versions_outlive_who_kept_them() {
    on_both(|bed| {
        assert_eq!(bed.last_good().recall().0, []);
        let mut last_good = bed.last_good();
        last_good.keep(&file("b.yaml", "two")).expect("kept");
        last_good.keep(&file("a.yaml", "one")).expect("kept");
        last_good.keep(&file("a.yaml", "three")).expect("kept in place of the one before");
        last_good.keep(&file("c.yaml", "four")).expect("kept");
        last_good.forget("c.yaml").expect("forgotten");
        last_good.forget("never.yaml").expect("forgotten already");
        let (files, errors) = bed.last_good().recall();
        assert_eq!(files, [file("a.yaml", "three"), file("b.yaml", "two")]);
        assert!(errors.is_empty());
    });
}

#[test]
fn unit_conformance_last_good_version_that_is_damaged_is_reported_and_takes_no_other_along() {
    on_both(|bed| {
        let mut last_good = bed.last_good();
        last_good.keep(&file("a.yaml", "one and more")).expect("kept");
        last_good.keep(&file("b.yaml", "two and more")).expect("kept");
        bed.tear("a.yaml");
        let (files, errors) = bed.last_good().recall();
        assert_eq!((files, errors.len()), (vec![file("b.yaml", "two and more")], 1));
        last_good.keep(&file("a.yaml", "mended")).expect("kept");
        assert_eq!(bed.last_good().recall().0.len(), 2);
    });
}

#[test]
fn unit_conformance_sink_takes_all_lines_or_none_and_goes_on_when_its_disk_does() {
    let lines = |containers: &[&str]| -> Vec<u8> {
        let line = |id: &&str| format!("{{\"time\":1,\"workload\":{{\"containerId\":\"{id}\"}}}}\n");
        containers.iter().map(line).collect::<String>().into_bytes()
    };
    on_both(|bed| {
        let mut sink = bed.sink();
        sink.append(&lines(&["a", "b"])).expect("taken");
        bed.set_sink_works(false);
        assert!(sink.append(&lines(&["c", "d"])).is_err());
        bed.set_sink_works(true);
        sink.append(&lines(&["e"])).expect("taken");
        assert_eq!(bed.lines(), ["a", "b", "e"]);
        assert_eq!(sink.health().lost, 0, "what was refused is the caller's to count");
    });
}
