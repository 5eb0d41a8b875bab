//! The simulated ports held to the real ones: the same test bodies against the simulated disk and against a file system.
//!
//! What is proved of actors over simulated ports holds for production as far as these bodies pass on both.
#![forbid(unsafe_code)]

use std::{
    fs::{self, OpenOptions},
    os::unix::fs::{FileExt as _, symlink},
    path::PathBuf,
    sync::{Arc, Mutex},
    thread::sleep,
    time::Duration,
};

use palisade_simulation::{
    event::{Ears, Teller},
    journal::Journal,
    random::Random,
    world::{
        policies::{Disk, MOST_LINE_BYTES},
        sinks::SimSink,
    },
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
    /// The sink's file loses its last bytes, or what was in them, as when the power goes.
    fn tear_lines(&self, bytes: usize, zeros: bool);
    /// What is in it.
    fn written(&self) -> Vec<u8>;
    /// Containers named by the whole lines in it.
    fn lines(&self) -> Vec<String> {
        let said = |line: &[u8]| Some(palisade_simulation::world::sinks::said(line)?.container);
        self.written().split(|byte| *byte == b'\n').filter_map(said).collect()
    }
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
        Box::new(RotatingFile::new(self.root.path().join("alerts/file"), MOST_LINE_BYTES as u64, 0))
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
    fn tear_lines(&self, bytes: usize, zeros: bool) {
        let path = self.root.path().join("alerts/file");
        let file = OpenOptions::new().write(true).open(path).expect("there");
        let length = file.metadata().expect("there").len();
        if zeros {
            file.write_all_at(&vec![0; bytes], length - bytes as u64).expect("written");
        } else {
            file.set_len(length - bytes as u64).expect("cut");
        }
    }
    fn written(&self) -> Vec<u8> {
        fs::read(self.root.path().join("alerts/file")).unwrap_or_default()
    }
}

struct Simulated {
    disk: Disk,
    teller: Teller,
}

impl Simulated {
    fn new() -> Self {
        let ears = Arc::new(Mutex::new(Ears::new(Instant::now(), Journal::new(false), Vec::new())));
        let teller = Teller::new(0, &ears);
        let disk = Disk::new(teller.clone(), Random::stream(1, "disk"), None);
        Self { disk, teller }
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
        Box::new(SimSink::open(0, self.teller.clone(), self.disk.clone(), None, Random::stream(1, "sink"), false))
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
    fn tear_lines(&self, bytes: usize, zeros: bool) {
        self.disk.tear_lines("file 0", bytes, zeros);
    }
    fn written(&self) -> Vec<u8> {
        self.disk.lines("file 0")
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

/// A line about each of these containers.
fn lines(containers: &[&str]) -> Vec<u8> {
    let line = |id: &&str| format!("{{\"time\":1,\"workload\":{{\"containerId\":\"{id}\"}}}}\n");
    containers.iter().map(line).collect::<String>().into_bytes()
}

#[test]
fn unit_conformance_sink_begins_the_next_line_on_its_own_after_one_that_the_powers_loss_tore() {
    for (bytes, zeros) in [(1, false), (7, false), (9, true), (1, true)] {
        on_both(|bed| {
            bed.sink().append(&lines(&["a", "b"])).expect("taken");
            bed.tear_lines(bytes, zeros);
            bed.sink().append(&lines(&["c"])).expect("taken");
            // Of the torn one only the line feed may be missing: then it is whole.
            let whole = if (bytes, zeros) == (1, false) { vec!["a", "b", "c"] } else { vec!["a", "c"] };
            assert_eq!(bed.lines(), whole, "{bytes} {zeros}");
            assert_eq!(bed.written().iter().filter(|byte| **byte == b'\n').count(), 3, "{bytes} {zeros}");
        });
    }
}

#[test]
fn unit_conformance_sink_that_is_full_begins_anew_with_a_whole_line() {
    on_both(|bed| {
        let mut sink = bed.sink();
        let name = "x".repeat(100_000);
        for number in 0..6 {
            sink.append(&lines(&[&format!("{number}{name}")])).expect("taken");
        }
        let first: Vec<char> = bed.lines().iter().filter_map(|line| line.chars().next()).collect();
        assert_eq!(first, ['5'], "the oldest are put away");
        assert!(bed.written().len() < MOST_LINE_BYTES);
    });
}

#[test]
fn unit_conformance_sink_takes_all_lines_or_none_and_goes_on_when_its_disk_does() {
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
