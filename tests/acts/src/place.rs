//! A workload's place without a container runtime: a cgroup of the unified hierarchy, and an overlay of this machine's whole file system below a
//! writable layer.
//!
//! Invariant: everything has the place's own name and goes with it, the processes in its cgroup and below it too.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use palisade_domain::{CgroupId, Slot};
use palisade_world::Membership;

/// The place; it goes when this is dropped.
#[derive(Debug)]
pub struct Place {
    directory: PathBuf,
    cgroup: PathBuf,
    unified: PathBuf,
}

impl Place {
    /// Makes it, of a name that is nobody else's; `fill` puts into a directory what its lowest layer has beside this machine's files.
    ///
    /// # Errors
    /// Without root, on another machine than x86-64, for which the programs are that are executed here, or where something cannot be made.
    pub fn new(name: &str, fill: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<Self> {
        if !cfg!(target_arch = "x86_64") {
            return Err(io::Error::other("the programs that are executed are for x86-64"));
        }
        let directory = Path::new("/dev/shm").join(name);
        for part in ["own", "upper", "work", "root"] {
            fs::create_dir_all(directory.join(part))?;
        }
        fill(&directory.join("own"))?;
        let unified = unified()?;
        let cgroup = unified.join(name);
        let place = Self { directory, cgroup, unified };
        let shown = place.directory.display();
        let layers = format!("lowerdir={shown}/own:/,upperdir={shown}/upper,workdir={shown}/work");
        mount(Some("overlay"), &place.root(), Some("overlay"), MsFlags::empty(), Some(layers.as_str()))?;
        fs::create_dir(&place.cgroup)?;
        Ok(place)
    }

    /// Its root file system, on the host.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        self.directory.join("root")
    }

    /// A path of the place on the host.
    #[must_use]
    pub fn inside(&self, path: &str) -> PathBuf {
        self.root().join(path.trim_start_matches('/'))
    }

    /// Where its cgroup takes processes.
    #[must_use]
    pub fn procs(&self) -> PathBuf {
        self.cgroup.join("cgroup.procs")
    }

    /// The same of the cgroup that all others are below.
    #[must_use]
    pub fn procs_of_all(&self) -> PathBuf {
        self.unified.join("cgroup.procs")
    }

    /// Who belongs to the slot.
    ///
    /// # Errors
    /// Where the cgroup is gone.
    pub fn membership(&self, slot: Slot) -> io::Result<Membership> {
        let below = self.cgroup.strip_prefix(&self.unified).map_err(io::Error::other)?;
        Ok(Membership {
            slot,
            cgroup: Some(CgroupId(fs::metadata(&self.cgroup)?.ino())),
            cgroup_path: Some(Path::new("/").join(below)),
            pid: 0,
            root: Some(self.root()),
        })
    }

    /// Kills who is in its cgroup, and below.
    pub fn kill(&self) {
        let _killed = fs::write(self.cgroup.join("cgroup.kill"), "1");
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.kill();
        for _ in 0..400 {
            let children = fs::read_dir(&self.cgroup).into_iter().flatten().flatten();
            for child in children.filter(|entry| entry.path().is_dir()) {
                let _removed = fs::remove_dir(child.path());
            }
            if fs::remove_dir(&self.cgroup).is_ok() || !self.cgroup.exists() {
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        if let Err(error) = umount2(&self.root(), MntFlags::MNT_DETACH) {
            eprintln!("{} stays: {error}", self.root().display());
        }
        let _removed = fs::remove_dir_all(&self.directory);
    }
}

fn unified() -> io::Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let line = mounts.lines().find(|line| line.split(' ').nth(2) == Some("cgroup2"));
    let place = line.and_then(|line| line.split(' ').nth(1));
    place.map(PathBuf::from).ok_or_else(|| io::Error::other("no unified hierarchy is mounted"))
}
