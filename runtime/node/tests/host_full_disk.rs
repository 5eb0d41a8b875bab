//! Host ring: a file system that is full, and has room again. Needs root, to mount one of 64 KiB.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::{fs, path::Path, process::Command, thread, time::Duration};

use palisade_sinks::{Queued, RotatingFile};
use palisade_world::AlertSink as _;

/// A tmpfs that is gone with the test.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mounted() -> Self {
        let at = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=64k,mode=700", "palisade-test"]).arg(at.path());
        assert!(mount.status().unwrap().success(), "needs root");
        Self(at)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

fn line(number: usize) -> String {
    format!("{{\"line\":{number},\"padding\":\"{}\"}}\n", "x".repeat(1000))
}

/// The numbers of the lines of the newest file and those before it, oldest first; each line must be whole.
fn numbers(disk: &Path) -> Vec<usize> {
    let names = ["alerts.2", "alerts.1", "alerts"];
    let text: String = names.iter().map(|name| fs::read_to_string(disk.join(name)).unwrap_or_default()).collect();
    assert!(text.ends_with('\n'));
    let number = |line: &str| {
        assert!(line.starts_with("{\"line\":") && line.ends_with("x\"}"), "whole: {line}");
        line[8..line.find(',').unwrap()].parse().unwrap()
    };
    text.lines().map(number).collect()
}

fn until(mut done: impl FnMut() -> bool) {
    (0..200)
        .find(|_| {
            done() || {
                thread::sleep(Duration::from_millis(50));
                false
            }
        })
        .expect("within ten seconds");
}

#[test]
fn host_sinks_full_disk_keeps_lines_waiting_and_loses_none_that_it_took() {
    let disk = SmallDisk::mounted();
    let ballast = disk.path().join("ballast");
    fs::write(&ballast, vec![0; 40 << 10]).unwrap();
    let mut sink = Queued::start(Box::new(RotatingFile::new(disk.path().join("alerts"), 1 << 20, 2))).unwrap();
    // 24 KiB are free; 30 lines are 30 KiB.
    (0..30).for_each(|number| sink.append(line(number).as_bytes()).unwrap());
    until(|| sink.health().failing.is_some());
    assert!(sink.health().failing.unwrap().contains("No space left"), "a degraded condition with its reason");
    let before = numbers(disk.path());
    assert!((10..24).contains(&before.len()), "what fitted, and nothing of the next: {}", before.len());
    fs::remove_file(&ballast).unwrap();
    until(|| sink.health().failing.is_none() && numbers(disk.path()).len() == 30);
    assert_eq!(numbers(disk.path()), (0..30).collect::<Vec<_>>());
    assert_eq!(sink.health().lost, 0);
}

#[test]
fn host_sinks_full_disk_makes_room_for_itself_by_rotation() {
    let disk = SmallDisk::mounted();
    // Three files of 12 KiB fit; with pages of 4 KiB.
    let mut sink = RotatingFile::new(disk.path().join("alerts"), 12 << 10, 2);
    (0..100).for_each(|number| sink.append(line(number).as_bytes()).unwrap());
    let kept = numbers(disk.path());
    assert_eq!(kept, (100 - kept.len()..100).collect::<Vec<_>>(), "the newest, none missing");
    assert!(kept.len() >= 22, "{}", kept.len());
}
