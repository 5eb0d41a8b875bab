//! A container made by hand for the fanotify rings: a real overlay, a real cgroup, an init that pivots as runc does, and a
//! responder in its own process. What a test starts lives below its own names and is taken away when the bed is dropped.
//!
//! Root is needed; where it is missing the tests fail rather than pass unseen.
#![expect(dead_code, reason = "each test binary uses its part")]

pub mod faults;

use std::{
    ffi::OsString,
    fs,
    os::{fd::AsFd, unix::fs::MetadataExt},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use palisade_domain::{Action, CgroupId, Generation, PolicyKind, PolicyRef, Posture, Slot};
use palisade_kernel::fanotify::{FailMode, Responder, ResponderConfig};
use palisade_kernel_abi::blob::Blob;
use palisade_policy::ir::{Matcher, PathMatch, PathRule, Postures, Rule, WorkloadRules};
use palisade_policy_compiler::{automaton::AutomatonLimits, compile};
use palisade_world::{Gap, Membership};

static NEXT: AtomicU32 = AtomicU32::new(0);

/// One container and the responder that holds it.
pub struct Bed {
    pub responder: Responder,
    pub slot: Slot,
    pub gaps: Vec<Gap>,
    directory: PathBuf,
    cgroup: PathBuf,
    membership: Membership,
}

/// The responder as this test binary's hidden entry of the given name.
pub fn config(entry: &str) -> ResponderConfig {
    ResponderConfig {
        program: std::env::current_exe().expect("a path"),
        arguments: ["--ignored", "--exact", entry, "--nocapture", "--test-threads=1"].map(OsString::from).to_vec(),
        fail_mode: FailMode::Refuse,
        unattended: Duration::ZERO,
    }
}

impl Bed {
    /// An admitted container that has not run yet, watched by the ordinary responder.
    pub fn new() -> Self {
        Self::with(config("responder_process"))
    }

    pub fn with(config: ResponderConfig) -> Self {
        let number = NEXT.fetch_add(1, Ordering::Relaxed) + 1;
        let name = format!("palisade-fanotify-{}-{number}", std::process::id());
        let directory = PathBuf::from("/dev/shm").join(&name);
        for part in ["own", "upper", "work", "root"] {
            fs::create_dir_all(directory.join(part)).expect("tmpfs");
        }
        // The whole userland of this machine below, so that programs are dynamically linked and real.
        let layers = format!("lowerdir={0}/own:/,upperdir={0}/upper,workdir={0}/work", directory.display());
        let mounted = Command::new("mount")
            .args(["-t", "overlay", "overlay", "-o", &layers])
            .arg(directory.join("root"))
            .status();
        assert!(mounted.expect("mount(8)").success(), "an overlay can be mounted (is this root?)");
        // In the upper layer, for overlayfs renames no directory of a lower one.
        fs::create_dir_all(directory.join("root/vol/data")).expect("overlay");
        let cgroup = unified().join(&name);
        fs::create_dir(&cgroup).expect("a unified cgroup can be made");
        let slot = Slot(number);
        let membership = Membership {
            slot,
            cgroup: Some(CgroupId(fs::metadata(&cgroup).expect("just made").ino())),
            cgroup_path: Some(PathBuf::from("/").join(&name)),
            pid: 0,
            root: Some(directory.join("root")),
        };
        let responder = Responder::start(config).expect("the responder starts");
        let gaps = responder.admit(&membership).expect("admitted");
        Self { responder, slot, gaps, directory, cgroup, membership }
    }

    pub fn root(&self) -> PathBuf {
        self.directory.join("root")
    }

    /// What a process is put into the container's cgroup by.
    pub fn procs(&self) -> PathBuf {
        self.cgroup.join("cgroup.procs")
    }

    pub fn membership(&self) -> &Membership {
        &self.membership
    }

    /// Writes a file into the container's root from outside.
    pub fn put(&self, path: &str, content: &str) {
        let file = self.root().join(path.trim_start_matches('/'));
        fs::create_dir_all(file.parent().expect("not the root")).expect("overlay");
        fs::write(file, content).expect("overlay");
    }

    pub fn install(&self, generation: u32, rules: Vec<Rule>) {
        let blob = blob(rules, Posture::Block);
        self.responder.install(self.slot, Generation(generation), Some((7, &blob))).expect("installed");
    }

    /// A command of `sh -c` as the container's process: own mount namespace, pivoted, in the cgroup.
    pub fn command(&self, program: &[&str]) -> Command {
        let mut command = Command::new(std::env::current_exe().expect("a path"));
        command
            .args(["--ignored", "--exact", "container_init", "--nocapture", "--test-threads=1"])
            .env("BED_ROOT", self.root())
            .env("BED_CGROUP", self.cgroup.join("cgroup.procs"))
            .env("BED_COMMAND", program.join("\x1f"))
            .stdin(Stdio::null());
        command
    }

    /// Starts a container that stays, waits until its own program runs, and learns its mounts.
    pub fn start(&mut self) -> std::process::Child {
        let mut child =
            self.command(&["/bin/sleep", "600"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("starts");
        let exe = format!("/proc/{}/exe", child.id());
        for _ in 0..1000 {
            if fs::read_link(&exe).is_ok_and(|path| path.ends_with("sleep")) {
                self.gaps = self.responder.learn_mounts(self.slot, child.id()).expect("learnt");
                return child;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let _killed = child.kill();
        let _reaped = child.wait();
        panic!("the container did not start within 5 s");
    }

    /// Runs a shell script in the namespaces and the cgroup of a started container: its parent is outside, as with `exec`.
    pub fn sh_in(&self, container: &std::process::Child, script: &str) -> String {
        let enter = format!(
            "echo $$ >{}; exec nsenter -t {} -m /bin/sh -c 'echo BED; {script}' 2>&1",
            self.cgroup.join("cgroup.procs").display(),
            container.id()
        );
        let output = Command::new("/bin/sh").args(["-c", &enter]).stdin(Stdio::null()).output().expect("sh");
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        text.split_once("BED\n").map_or_else(|| format!("did not start: {text}"), |(_, rest)| rest.to_owned())
    }

    pub fn run(&self, program: &[&str]) -> Output {
        self.command(program).output().expect("the init starts")
    }

    /// Runs a shell script in the container; its own output, without that of the test harness.
    pub fn sh(&self, script: &str) -> String {
        let output = self.run(&["/bin/sh", "-c", &format!("echo BED; exec 2>&1; {script}")]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        text.split_once("BED\n").map_or_else(|| format!("did not start: {text}"), |(_, rest)| rest.to_owned())
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        let _killed = fs::write(self.cgroup.join("cgroup.kill"), "1");
        for _ in 0..200 {
            if fs::remove_dir(&self.cgroup).is_ok() || !self.cgroup.exists() {
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let _released = self.responder.release(self.slot);
        let unmounted = Command::new("umount").arg(self.root()).status();
        let _removed = fs::remove_dir_all(&self.directory);
        assert!(std::thread::panicking() || unmounted.is_ok_and(|status| status.success()), "nobody holds the overlay");
    }
}

fn unified() -> PathBuf {
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("procfs");
    let line = mounts.lines().find(|line| line.contains(" - cgroup2 ")).expect("the unified hierarchy is mounted");
    PathBuf::from(line.split(' ').nth(4).expect("mountinfo has a mountpoint"))
}

fn rule(matcher: Matcher, action: Action) -> Rule {
    let policy = PolicyRef { kind: PolicyKind::KubeArmorPolicy, namespace: "default".into(), name: "bed".into() };
    Rule {
        policy: Arc::new(policy),
        place: "bed".into(),
        matcher,
        sources: Default::default(),
        source_directories: Default::default(),
        action,
        severity: None,
        tags: Vec::new(),
        message: None,
    }
}

/// A rule on executing what `path` says.
pub fn exec(action: Action, path: PathMatch) -> Rule {
    rule(Matcher::Process(PathRule::of(path)), action)
}

/// A rule on opening what `path` says.
pub fn open(action: Action, path: PathMatch) -> Rule {
    rule(Matcher::File(PathRule::of(path)), action)
}

pub fn exact(path: &str) -> PathMatch {
    PathMatch::Exact(path.into())
}

pub fn below(directory: &str) -> PathMatch {
    PathMatch::Directory { directory: directory.into(), recursive: true }
}

pub fn blob(rules: Vec<Rule>, posture: Posture) -> Arc<Blob> {
    let postures = Postures { file: posture, ..Postures::default() };
    let rules =
        WorkloadRules { rules: rules.into_iter().map(Arc::new).collect(), postures, ..WorkloadRules::default() };
    compile(&rules, &AutomatonLimits::default(), &mut || false).expect("it compiles").blob
}

/// A program of the host in a memfd, as runc copies itself, by a path that stays good in the container.
fn in_memory(program: &Path) -> String {
    let content = fs::read(program).expect("the program is there");
    // SAFETY: the name is a literal that ends with NUL; the descriptor is left open for the exec that follows.
    let fd = unsafe { libc::memfd_create(c"program".as_ptr(), 0) };
    assert!(fd >= 0, "{}", std::io::Error::last_os_error());
    let path = format!("/proc/self/fd/{fd}");
    fs::write(&path, content).expect("a memfd takes it");
    path
}

/// What the hidden entry `container_init` does: as runc's init, in the container's cgroup before its root. By the bed's
/// wish it executes a copy of a host's program in memory, and reads a file of the container's before.
pub fn container_init() {
    let setting = |name: &str| std::env::var(name).unwrap_or_else(|_| panic!("{name} is set by the bed"));
    fs::write(setting("BED_CGROUP"), std::process::id().to_string()).expect("the cgroup takes this process");
    let command = setting("BED_COMMAND");
    let copy = std::env::var_os("BED_MEMFD").map(|program| in_memory(Path::new(&program)));
    enter_root(Path::new(&setting("BED_ROOT")));
    if let Some(file) = std::env::var_os("BED_READS") {
        println!("read {} bytes", fs::read(file).expect("the runtime may").len());
    }
    let mut words: Vec<&str> = command.split('\x1f').collect();
    if let Some(copy) = &copy {
        words[0] = copy;
    }
    let error = std::os::unix::process::CommandExt::exec(
        Command::new(words[0]).args(&words[1..]).env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
    );
    println!("BED\nexec: {error}");
}

fn enter_root(root: &Path) {
    let check = |what: &str, result: libc::c_int| assert!(result == 0, "{what}: {}", std::io::Error::last_os_error());
    let c = |path: &Path| std::ffi::CString::new(path.as_os_str().as_encoded_bytes()).expect("no NUL");
    // SAFETY: all names are literals or `root`, end with NUL and live over each call; where no source, type or data is wanted the kernel
    // reads none, so that null will do. What changes is this process's view of mounts and its directory: no memory of it.
    unsafe {
        check("unshare", libc::unshare(libc::CLONE_NEWNS));
        let none = std::ptr::null();
        check("private", libc::mount(none, c"/".as_ptr(), none, libc::MS_REC | libc::MS_PRIVATE, none.cast()));
        let root = c(root);
        check("bind", libc::mount(root.as_ptr(), root.as_ptr(), none, libc::MS_BIND, none.cast()));
        check("chdir", libc::chdir(root.as_ptr()));
        let proc = c"proc".as_ptr();
        check("proc", libc::mount(proc, c"proc".as_ptr(), proc, 0, none.cast()));
        let volume = libc::mount(c"volume".as_ptr(), c"vol/data".as_ptr(), c"tmpfs".as_ptr(), 0, none.cast());
        check("volume", volume);
        let pivoted = libc::syscall(libc::SYS_pivot_root, c".".as_ptr(), c".".as_ptr());
        check("pivot_root", libc::c_int::try_from(pivoted).unwrap_or(-1));
        check("umount", libc::umount2(c".".as_ptr(), libc::MNT_DETACH));
        check("chdir", libc::chdir(c"/".as_ptr()));
    }
}

/// What the hidden entry `responder_process` does.
pub fn responder_process(decide: impl palisade_kernel::fanotify::Decide) {
    let socket = std::io::stdin().as_fd().try_clone_to_owned().expect("the bed gave a socket");
    palisade_kernel::fanotify::responder::run(socket, decide).expect("the responder ends in order");
    std::process::exit(0);
}
