//! A container of runc itself: its init's own work is exempt, its first exec is not, and `runc exec` works under an
//! allow-list.

mod fanotify_bed;

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use fanotify_bed::{Bed, below, blob, exact, exec, open};
use palisade_domain::{
    Action::{Allow, Block},
    CgroupId, Generation, Posture, Slot,
};
use palisade_kernel::fanotify::BlobDecides;
use palisade_policy::ir::Rule;
use palisade_world::Membership;

#[test]
#[ignore = "the responder's process, started by the bed"]
fn responder_process() {
    fanotify_bed::responder_process(BlobDecides);
}

/// A created container that is deleted in the end.
struct Container {
    name: String,
    state: PathBuf,
    bundle: tempfile::TempDir,
}

impl Container {
    fn create(bed: &Bed, name: &str, command: &[&str]) -> Self {
        let bundle = tempfile::tempdir().expect("a directory");
        let made =
            Command::new("runc").args(["spec", "--bundle"]).arg(bundle.path()).status().expect("runc is installed");
        assert!(made.success());
        let spec = bundle.path().join("config.json");
        let text = fs::read_to_string(&spec).expect("runc wrote it");
        let arguments = command.iter().map(|word| format!("{word:?}")).collect::<Vec<_>>().join(",");
        let text = text
            .replace("\"terminal\": true", "\"terminal\": false")
            .replace("\"path\": \"rootfs\"", &format!("\"path\": {:?}", bed.root()))
            .replace("\"readonly\": true", "\"readonly\": false")
            .replacen("\"sh\"", &arguments, 1);
        fs::write(&spec, text).expect("writable");
        let state = bundle.path().join("state");
        let container = Self { name: name.to_owned(), state, bundle };
        let log = fs::File::create(container.bundle.path().join("out")).expect("writable");
        let created = container
            .runc(&["create", "--bundle"])
            .arg(container.bundle.path())
            .arg(name)
            .stdout(log.try_clone().expect("a descriptor"))
            .stderr(log)
            .status()
            .expect("runc");
        assert!(created.success(), "{}", container.output());
        container
    }

    fn runc(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("runc");
        command.arg("--root").arg(&self.state).args(arguments).stdin(std::process::Stdio::null());
        command
    }

    fn output(&self) -> String {
        fs::read_to_string(self.bundle.path().join("out")).unwrap_or_default()
    }

    fn pid(&self) -> u32 {
        let state = self.runc(&["state", &self.name]).output().expect("runc");
        let text = String::from_utf8(state.stdout).expect("JSON");
        let digits = text.split_once("\"pid\": ").expect("it has a pid").1;
        digits.split(',').next().and_then(|digits| digits.trim().parse().ok()).expect("a number")
    }

    fn exec(&self, arguments: &[&str]) -> Output {
        self.runc(&["exec", &self.name]).args(arguments).output().expect("runc")
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _deleted = self.runc(&["delete", "--force", &self.name]).status();
    }
}

fn membership(slot: Slot, pid: u32, root: &Path) -> Membership {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("alive");
    let path = text.lines().find_map(|line| line.strip_prefix("0::")).expect("unified").to_owned();
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("procfs");
    let line = mounts.lines().find(|line| line.contains(" - cgroup2 ")).expect("mounted");
    let directory = format!("{}{path}", line.split(' ').nth(4).expect("a mountpoint"));
    assert_ne!(path, "/", "runc gives the container a cgroup of its own");
    Membership {
        slot,
        cgroup: Some(CgroupId(fs::metadata(directory).expect("a cgroup").ino())),
        cgroup_path: Some(PathBuf::from(path)),
        pid,
        root: Some(root.to_owned()),
    }
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn rules() -> Vec<Rule> {
    let allowed = ["/usr/bin/sleep", "/usr/bin/dash", "/usr/bin/cat"].map(|path| exec(Allow, exact(path)));
    // runc reads /etc/passwd and /etc/group inside the container; the workload may not.
    let hidden = ["/etc/passwd", "/etc/group"].map(|path| open(Block, exact(path)));
    allowed.into_iter().chain(hidden).chain([open(Block, below("/etc/palisade/"))]).collect()
}

#[test]
fn host_fanotify_holds_a_container_of_runc_from_its_first_exec() {
    let bed = Bed::new();
    bed.put("/etc/palisade/secret", "hidden\n");
    bed.put("/etc/open", "shown\n");
    let slot = Slot(1000);
    let name = format!("palisade-fanotify-{}", std::process::id());
    let container = Container::create(&bed, &name, &["sh", "-c", "cat /etc/open /etc/palisade/secret; exec sleep 600"]);
    let member = membership(slot, container.pid(), &bed.root());
    let gaps = bed.responder.admit(&member).expect("admitted");
    assert!(gaps.iter().all(|gap| gap.what != "paths below /"), "the overlay is watched: {gaps:?}");
    bed.responder.install(slot, Generation(1), Some((7, &blob(rules(), Posture::Block)))).expect("installed");
    assert!(container.runc(&["start", &name]).status().expect("runc").success(), "{}", container.output());
    for _ in 0..500 {
        if fs::read_link(format!("/proc/{}/exe", member.pid)).is_ok_and(|exe| exe.ends_with("sleep")) {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let said = container.output();
    assert!(said.contains("shown") && !said.contains("hidden"), "its first instructions were held: {said}");
    bed.responder.learn_mounts(slot, member.pid).expect("learnt");
    let permitted = container.exec(&["cat", "/etc/open"]);
    assert!(permitted.status.success() && text(&permitted).contains("shown"), "runc exec works: {}", text(&permitted));
    let as_user = container.exec(&["cat", "/etc/passwd"]);
    assert!(
        text(&as_user).contains("Operation not permitted"),
        "runc may read it, the workload not: {}",
        text(&as_user)
    );
    let refused = container.exec(&["touch", "/made"]);
    assert!(!refused.status.success() && !bed.root().join("made").exists(), "exec is judged: {}", text(&refused));
    bed.responder.release(slot).expect("released");
}
