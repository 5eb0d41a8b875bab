//! What a loss of power leaves of a file of lines: on the simulated disk, and on a file system of its own, whose disk is looked at as it was
//! at that moment. That disk's own writing back is far off, so that what is there was synced.

use std::{
    cell::RefCell,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use palisade_simulation::{
    random::Random,
    world::{policies::Disk, scheduler, sinks::SimSink},
};
use palisade_sinks::{Queued, RotatingFile};
use palisade_world::{AlertSink, SYNC_EVERY};
use tempfile::TempDir;
use tokio::time::sleep;

/// What a disk on a busy machine takes for a sync.
const DISK: Duration = Duration::from_secs(2);

/// One machine, simulated or real.
trait Bed {
    fn sink(&self) -> Box<dyn AlertSink>;
    /// The power goes: what is in the file then. Asked once.
    fn lose_power(&self) -> Vec<u8>;
}

fn succeed(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A file system in a file. Its directory goes with it.
struct Mounted {
    root: TempDir,
    at: RefCell<Vec<PathBuf>>,
}

impl Mounted {
    fn mount(&self, image: &Path, name: &str) -> PathBuf {
        let at = self.root.path().join(name);
        fs::create_dir(&at).expect("made");
        // No commit for minutes, so that nothing but a sync writes.
        succeed(Command::new("mount").args(["-t", "ext4", "-o", "loop,commit=300"]).arg(image).arg(&at));
        self.at.borrow_mut().push(at.clone());
        at
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        for at in self.at.borrow().iter() {
            let unmounted = Command::new("umount").arg("-l").arg(at).status();
            assert!(std::thread::panicking() || unmounted.is_ok_and(|status| status.success()));
        }
    }
}

struct Real {
    mounted: Mounted,
    image: PathBuf,
    disk: PathBuf,
    max_bytes: u64,
}

impl Real {
    fn new() -> Option<Self> {
        let root = crate::is_root().then(|| tempfile::tempdir().expect("a temporary directory"))?;
        let image = root.path().join("image");
        fs::File::create(&image).and_then(|file| file.set_len(16 << 20)).expect("made");
        succeed(Command::new("mkfs.ext4").arg("-q").arg(&image));
        let mounted = Mounted { root, at: RefCell::default() };
        let disk = mounted.mount(&image, "disk");
        Some(Self { mounted, image, disk, max_bytes: 1 << 20 })
    }
}

impl Bed for Real {
    fn sink(&self) -> Box<dyn AlertSink> {
        let file = RotatingFile::new(self.disk.join("alerts"), self.max_bytes, 3);
        Box::new(Queued::start(Box::new(file)).expect("a thread"))
    }
    fn lose_power(&self) -> Vec<u8> {
        let then = self.mounted.root.path().join("then");
        fs::copy(&self.image, &then).expect("the disk as it is");
        let found = self.mounted.mount(&then, "found");
        // The newest last.
        let names = ["alerts.3", "alerts.2", "alerts.1", "alerts"];
        names.iter().flat_map(|name| fs::read(found.join(name)).unwrap_or_default()).collect()
    }
}

struct Simulated(Disk);

impl Bed for Simulated {
    fn sink(&self) -> Box<dyn AlertSink> {
        Box::new(SimSink::open(0, crate::teller(), self.0.clone(), None, Random::stream(1, "sink"), false))
    }
    fn lose_power(&self) -> Vec<u8> {
        self.0.lose_power();
        self.0.lines("file 0")
    }
}

fn on_both(body: &impl AsyncFn(&dyn Bed)) {
    if let Some(bed) = Real::new() {
        crate::really(body(&bed));
    }
    scheduler::run(1, async |_| body(&Simulated(Disk::new(crate::teller(), Random::stream(1, "disk"), None))).await);
}

#[test]
fn host_conformance_lines_are_there_after_a_loss_of_power_a_second_after_they_were_written() {
    on_both(&async |bed| {
        let mut sink = bed.sink();
        sink.append(b"one\n").expect("taken");
        sleep(SYNC_EVERY / 2).await;
        sink.append(b"two\n").expect("taken");
        sleep(SYNC_EVERY + DISK).await;
        // One sync is not the last.
        sink.append(b"three\n").expect("taken");
        sleep(SYNC_EVERY + DISK).await;
        sink.append(b"four\n").expect("taken");
        let found = bed.lose_power();
        let text = String::from_utf8_lossy(&found);
        assert!(text.starts_with("one\ntwo\nthree\n"), "{text:?}");
        assert_eq!(sink.health().failing, None);
    });
}

#[test]
fn host_sinks_have_all_on_the_disk_at_their_end_and_what_was_rotated_too() {
    let Some(bed) = Real::new() else { return };
    let bed = Real { max_bytes: 20, ..bed };
    let mut sink = bed.sink();
    let lines = ["number one\n", "number two\n", "number three\n"];
    lines.iter().for_each(|line| sink.append(line.as_bytes()).expect("taken"));
    // An ordered stop.
    drop(sink);
    assert_eq!(String::from_utf8_lossy(&bed.lose_power()), lines.concat());
}
