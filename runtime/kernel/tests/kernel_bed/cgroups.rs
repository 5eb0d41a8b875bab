//! Cgroups of a test, and who the kernel takes this process for in them.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use palisade_domain::{CgroupId, Slot};
use palisade_kernel_abi::blob::Blob;
use palisade_world::Membership;

use super::{Checks, Random, random_blob};

/// Tests that move this process between cgroups run one after the other: the others would move along.
pub fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

pub fn unified() -> PathBuf {
    let mountinfo = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let line = mountinfo.lines().find(|line| line.contains(" - cgroup2 ")).expect("a unified hierarchy");
    PathBuf::from(line.split(' ').nth(4).unwrap())
}

/// A cgroup of a test, removed with it.
pub struct Cgroup(pub PathBuf);

impl Cgroup {
    pub fn new(name: &str) -> Self {
        let path = unified().join(format!("palisade-test-{}-{name}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub fn child(&self, name: &str) -> Self {
        let path = self.0.join(name);
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub fn membership(&self, slot: u32) -> Membership {
        Membership {
            slot: Slot(slot),
            cgroup: Some(CgroupId(fs::metadata(&self.0).unwrap().ino())),
            cgroup_path: Some(Path::new("/").join(self.0.strip_prefix(unified()).unwrap())),
            pid: 0,
            root: None,
        }
    }

    pub fn enter(&self) {
        fs::write(self.0.join("cgroup.procs"), "0").unwrap();
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let left = fs::write(unified().join("cgroup.procs"), "0").and_then(|()| fs::remove_dir(&self.0));
        // A test that fails leaves processes there: a second panic would end the tests after it, too.
        assert!(std::thread::panicking() || left.is_ok(), "{}: {left:?}", self.0.display());
    }
}

/// A blob that decides in every family.
pub fn blob(random: &mut Random) -> Arc<Blob> {
    loop {
        let blob = random_blob(random, 20);
        if blob.head().families & 31 == 31 {
            return Arc::new(blob);
        }
    }
}

/// The slot that the kernel finds for this process, if it has a policy on executables.
pub fn own_slot(checks: &Checks) -> i32 {
    checks.run("check_own_executable", &[0])
}
