//! This machine's kernel: the adapter with pins of its own, cgroups, and a container made by `unshare` and `pivot_root`.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs,
    os::{fd::AsFd as _, unix::fs::MetadataExt as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use palisade_domain::{CgroupId, Slot};
use palisade_kernel::{
    KernelAdapter, KernelConfig,
    fanotify::{BlobDecides, FailMode, ResponderConfig, responder},
    records::KernelRecords,
    unload,
};
use palisade_world::{Enforcement, Loss, Membership, RecordBatch, RecordSource};

use crate::{Act, Bed};

/// Bytes of a ring: the least that there is.
const RING: u32 = 4096;

/// What the hidden entry does.
pub fn responder_process() {
    let socket = std::io::stdin().as_fd().try_clone_to_owned().expect("the bed gave a socket");
    responder::run(socket, BlobDecides).expect("the responder ends in order");
    std::process::exit(0);
}

struct Container {
    procs: PathBuf,
    directory: PathBuf,
    root: PathBuf,
}

pub struct Real {
    pins: PathBuf,
    /// `None` only while another one opens.
    adapter: Option<KernelAdapter>,
    records: Vec<Box<dyn RecordSource>>,
    containers: BTreeMap<CgroupId, Container>,
}

fn unified() -> PathBuf {
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("procfs");
    let line = mounts.lines().find(|line| line.contains(" - cgroup2 ")).expect("the unified hierarchy is mounted");
    PathBuf::from(line.split(' ').nth(4).expect("mountinfo has a mountpoint"))
}

fn own_name(what: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("palisade-conformance-{}-{}-{what}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

impl Real {
    /// `None`: this is not root.
    pub fn open() -> Option<Self> {
        if fs::metadata("/proc/self").ok()?.uid() != 0 {
            println!("skipped: needs root");
            return None;
        }
        let pins = Path::new("/sys/fs/bpf").join(own_name("pins"));
        let mut bed = Self { pins, adapter: None, records: Vec::new(), containers: BTreeMap::new() };
        bed.restart();
        Some(bed)
    }

    /// Runs a program as a new process of the container, with its root where it has one.
    fn runs(&self, cgroup: CgroupId, program: &str) -> bool {
        let Container { procs, root, .. } = &self.containers[&cgroup];
        let enter = format!(
            "echo $$ >{procs} && exec unshare -m /bin/sh -c 'mount --make-rprivate / && mount --bind {root} {root} && cd {root} && \
             mount -t proc proc proc && pivot_root . . && umount -l . && cd / && exec {program}'",
            procs = procs.display(),
            root = root.display(),
        );
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", &enter]).stdin(Stdio::null()).stdout(Stdio::null());
        if std::env::var_os("PALISADE_LOUD").is_none() {
            shell.stderr(Stdio::null());
        }
        shell.status().expect("sh").success()
    }
}

impl Bed for Real {
    fn enforcement(&self) -> &dyn Enforcement {
        self.adapter.as_ref().expect("it is open")
    }

    fn restart(&mut self) {
        self.records.clear();
        self.adapter = None;
        let arguments = ["--ignored", "--exact", "responder_process", "--nocapture", "--test-threads=1"];
        let responder = ResponderConfig {
            program: std::env::current_exe().expect("a path"),
            arguments: arguments.map(OsString::from).to_vec(),
            fail_mode: FailMode::Refuse,
            unattended: Duration::ZERO,
        };
        let config = KernelConfig {
            pin_root: self.pins.clone(),
            fail_mode: FailMode::Refuse,
            responder: Some(responder),
            ..KernelConfig::default()
        };
        let adapter = KernelAdapter::open(config).expect("the adapter opens");
        self.records.push(Box::new(KernelRecords::open(&self.pins, RING).expect("rings")));
        if let Some(responder) = adapter.responder() {
            self.records.push(Box::new(responder.records()));
        }
        self.adapter = Some(adapter);
    }

    fn cgroup(&mut self, name: &str, slot: u32) -> Membership {
        let name = own_name(name);
        let path = unified().join(&name);
        fs::create_dir(&path).expect("a unified cgroup");
        let directory = Path::new("/dev/shm").join(&name);
        for part in ["own/etc", "own/data/deep", "upper", "work", "root"] {
            fs::create_dir_all(directory.join(part)).expect("tmpfs");
        }
        for file in ["own/etc/secret", "own/etc/public", "own/data/deep/secret"] {
            fs::write(directory.join(file), "content\n").expect("tmpfs");
        }
        let layers = format!("lowerdir={0}/own:/,upperdir={0}/upper,workdir={0}/work", directory.display());
        let root = directory.join("root");
        let mounted = Command::new("mount").args(["-t", "overlay", "overlay", "-o", &layers]).arg(&root).status();
        assert!(mounted.expect("mount(8)").success(), "an overlay");
        let cgroup = CgroupId(fs::metadata(&path).expect("just made").ino());
        let container = Container { procs: path.join("cgroup.procs"), directory, root: root.clone() };
        self.containers.insert(cgroup, container);
        let cgroup_path = Some(Path::new("/").join(name));
        Membership { slot: Slot(slot), cgroup: Some(cgroup), cgroup_path, pid: 0, root: Some(root) }
    }

    fn remove(&mut self, cgroup: CgroupId) {
        let Some(Container { procs, directory, root }) = self.containers.remove(&cgroup) else { return };
        let path = procs.parent().expect("a directory");
        for _ in 0..200 {
            if fs::remove_dir(path).is_ok() || !path.exists() {
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let unmounted = Command::new("umount").arg("-l").arg(root).status();
        let _removed = fs::remove_dir_all(directory);
        assert!(std::thread::panicking() || unmounted.is_ok_and(|status| status.success()));
    }

    fn act(&mut self, cgroup: CgroupId, act: &Act) -> bool {
        match act {
            Act::Connect(to) => {
                self.runs(cgroup, &format!("/usr/bin/bash -c \": 3<>/dev/tcp/{}/{}\"", to.ip(), to.port()))
            }
            Act::DatagramSocket => self.runs(cgroup, "/usr/bin/bash -c \": 3<>/dev/udp/127.0.0.1/9\""),
            Act::Execute(path) => self.runs(cgroup, &format!("{path} --version")),
            Act::Read(path) => self.runs(cgroup, &format!("/usr/bin/cat {path}")),
        }
    }

    fn read(&mut self, hear: &mut dyn FnMut(&RecordBatch)) {
        let mut batch = RecordBatch::default();
        // The responder tells a moment after it answered.
        for _ in 0..20 {
            for source in &mut self.records {
                while source.read(&mut batch).expect("readable") || batch.records > 0 {
                    hear(&batch);
                }
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn loss(&mut self) -> Loss {
        let mut total = Loss::default();
        for source in &mut self.records {
            let Loss { counts, produced } = source.loss().expect("counted");
            counts.into_iter().for_each(|(key, count)| *total.counts.entry(key).or_default() += count);
            total.produced.extend(produced);
        }
        total
    }

    fn flood(&mut self, cgroup: CgroupId, act: &Act) {
        let Act::Connect(to) = act else { panic!("a flood is of connections") };
        let connect = format!(": 3<>/dev/tcp/{}/{}", to.ip(), to.port());
        self.runs(cgroup, &format!("/usr/bin/bash -c \"for _ in {{1..500}}; do {connect}; done\""));
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        let cgroups: Vec<CgroupId> = self.containers.keys().copied().collect();
        self.records.clear();
        self.adapter = None;
        if let Err(error) = unload(&self.pins) {
            eprintln!("pins stay: {error}");
        }
        cgroups.into_iter().for_each(|cgroup| self.remove(cgroup));
    }
}
