//! The whole node where SELinux enforces a distribution's own policy, and the node's module is one of the store that it is made of: Debian's
//! `selinux-policy-default`, its tools, and files that have its labels. The node and the container runtime are services (`initrc_t`), an
//! administrator's shell is in `unconfined_t`.
//!
//! Each load is more than a minute of emulated time (`semodule` compiles more than 300 modules), so that tests go on from what the one before left.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use libtest_mimic::{Failed, Trial};
use palisade_kernel::selinux::SeLinux;

use super::{
    Checked, ensure,
    fixture::{context, context_of},
    node::{HELD, hold, status, wait_until_held},
};
use crate::{
    act::Act,
    containerd::Container,
    judged::IN_CONTEXT,
    suite::{
        fixture::{containerd, ensure_outcomes},
        node::Node,
    },
};

const FLAGS: [&str; 2] = ["--selinux", "store"];
const OTHER: &str = "palisade_8_u";
const ADMINISTRATOR: &str = "unconfined_u:unconfined_r:unconfined_t:s0";
const STORE: &str = "/var/lib/selinux";
const LOADED: &str = "SELinux policy loaded";
/// How long a thread of a node that runs may be silent (`palisade_node`).
const STALL: Duration = Duration::from_secs(30);
/// Longer than the tool waits for the store's own lock (5 s), on a busy machine.
const LOCKED: Duration = Duration::from_secs(30);
/// From a node's start until it has begun to load the rules of a container.
const WITHIN: Duration = Duration::from_secs(300);
/// Between two looks for the tool.
const LOOK: Duration = Duration::from_millis(20);

pub fn trials() -> Vec<Trial> {
    vec![
        Trial::test("vm_selinux_store_guest_enforces_the_distributions_policy", ground),
        Trial::test("vm_selinux_store_node_holds_a_container_and_no_other_and_names_the_rule", holds_and_explains),
        Trial::test("vm_selinux_store_second_node_of_the_host_is_refused_and_says_so", refuses_a_second),
        Trial::test(
            "vm_selinux_store_that_cannot_be_written_is_said_and_what_changed_is_in_force_once_it_can",
            changes_when_it_can,
        ),
        Trial::test("vm_selinux_store_policy_that_another_makes_of_it_has_the_module_in_it", survives_a_rebuild),
        Trial::test("vm_selinux_store_module_that_outlived_a_reboot_is_taken_for_what_is_in_force", outlives_a_reboot),
        Trial::test("vm_selinux_store_node_that_stops_waits_for_the_tool_and_denies_nothing_any_more", stops),
        Trial::test("vm_selinux_store_unload_waits_for_the_tool_of_a_node_that_was_killed", is_unloaded),
        Trial::test("vm_selinux_store_unload_leaves_nothing_where_nobody_runs_under_a_user", leaves_nothing),
    ]
}

/// Of pods with the label `app: held`.
fn policy(capability: &str) -> String {
    super::node::policy("held", capability)
}

/// What the two policies of these tests deny, and what neither does. A file that was taken has had its owner changed already.
fn acts(file: &str) -> [Act; 3] {
    [Act::Chown(file.into()), Act::Socket("raw".into()), Act::Open("/etc/public".into())]
}

fn reversed(file: &str) -> [Act; 3] {
    let [chown, socket, open] = acts(file);
    [socket, chown, open]
}

/// The node and the container that it holds, of all tests from the one that starts them to the one that ends both.
struct Held {
    node: Node,
    container: Container,
}

fn shared() -> Result<MutexGuard<'static, Option<Held>>, Failed> {
    static HELD: Mutex<Option<Held>> = Mutex::new(None);
    Ok(HELD.lock().map_err(|_| "an earlier test left it broken")?)
}

const MISSING: &str = "an earlier test did not start it";

fn loads() -> Result<u32, Failed> {
    Ok(SeLinux::open()?.loads()?)
}

/// From an administrator's shell. A tool in a domain of its own may not write to what a service reads.
fn administrator(program: &str, arguments: &[&str]) -> Result<Output, Failed> {
    let shell = r#"printf %s "$0" >/proc/$$/attr/exec && exec /bin/busybox sh -c 'exec "$@"' sh "$@""#;
    let command =
        Command::new("/bin/busybox").args(["sh", "-c", shell, ADMINISTRATOR, program]).args(arguments).output();
    Ok(command?)
}

fn modules() -> Result<String, Failed> {
    let output = Command::new("/usr/sbin/semodule").arg("-lfull").output()?;
    let listed = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure(output.status.success() && listed.contains("base"), || {
        format!("{listed}{}", String::from_utf8_lossy(&output.stderr))
    })?;
    let ours = listed.lines().filter(|line| line.split_whitespace().nth(1) == Some("palisade"));
    Ok(ours.collect::<Vec<_>>().join("\n"))
}

fn ground() -> Checked {
    let selinux = SeLinux::open()?;
    ensure(selinux.is_enforcing()?, || "it is permissive".to_owned())?;
    let own = context(std::process::id())?;
    ensure(own == "system_u:system_r:initrc_t:s0", || own.clone())?;
    for (known, context) in [
        (true, ADMINISTRATOR),
        (true, "system_u:system_r:semanage_t:s0"),
        (false, "system_u:system_r:container_t:s0"),
        (false, "palisade_7_u:system_r:initrc_t:s0"),
    ] {
        ensure(selinux.is_context(context) == known, || format!("{context}: {}", !known))?;
    }
    // What it does not allow is denied: a service does not change to the domain that manages policies.
    for (context, is_entered) in [(own.as_str(), true), ("system_u:system_r:semanage_t:s0", false)] {
        let output = Command::new("/bin/vm_actor").args([IN_CONTEXT, context, "open:/image.tar"]).output()?;
        let (said, why) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        let has_read = said.contains("effect=yes");
        let is_refused = why.contains("Permission denied");
        ensure((has_read, is_refused) == (is_entered, !is_entered), || format!("{context}: {said}{why}"))?;
    }
    let ours = modules()?;
    ensure(ours.is_empty(), || ours)
}

fn holds_and_explains() -> Checked {
    containerd()?;
    let node = Node::start_with("selinux", &policy("chown"), &FLAGS)?;
    node.wait_for("the users", || node.log().contains(LOADED))?;
    let container = hold("held", "held", HELD)?;
    wait_until_held(&node, "held")?;
    let other = hold("other", "other", OTHER)?;
    ensure_outcomes(&acts("/etc/passwd"), &container.exec(&acts("/etc/passwd"))?, 1)?;
    ensure_outcomes(&acts("/etc/passwd"), &other.exec(&acts("/etc/passwd"))?, 0)?;
    other.remove()?;
    fs::write("/root/owned", "x")?;
    std::os::unix::fs::chown("/root/owned", Some(1), None)?;
    node.wait_for("an alert", || node.alerts().iter().any(|alert| alert["verdict"] == "denied"))?;
    let denials: Vec<_> = node.alerts().into_iter().filter(|alert| alert["verdict"] == "denied").collect();
    let [alert] = &denials[..] else { return Err(format!("one act was denied: {denials:#?}").into()) };
    for (pointer, wanted) in [("/workload/name", "held-pod"), ("/tier", "selinux"), ("/rule/policyName", "blocks-held")]
    {
        let said = alert.pointer(pointer).and_then(serde_json::Value::as_str);
        ensure(said == Some(wanted), || format!("{pointer} should be {wanted}: {alert:#}"))?;
    }
    *shared()? = Some(Held { node, container });
    let ours = modules()?;
    ensure(ours.starts_with("400 palisade"), || format!("the store has: {ours}"))
}

/// Its own end takes nothing of the first one's away.
fn refuses_a_second() -> Checked {
    let held = shared()?;
    let Held { node, container } = held.as_ref().ok_or(MISSING)?;
    let before = loads()?;
    let mut second = Node::start_beside("second", &FLAGS)?;
    let words = format!(
        "another node of this host holds containers by SELinux, the one with the pins {}",
        node.pins().display()
    );
    let says = || second.document("/v1/kernel").is_ok_and(|kernel| kernel.to_string().contains(&words));
    second.wait_for("the refusal", || second.log().contains(&words) && says())?;
    second.stop()?;
    ensure_outcomes(&acts("/etc/public"), &container.exec(&acts("/etc/public"))?, 1)?;
    ensure(loads()? == before, || "it loaded a policy".to_owned())
}

/// Until the node has it, whether or not it is in force.
fn change(node: &Node, capability: &str) -> Checked {
    let before = status(node, "held")["generation"].clone();
    fs::write(node.folder.join("policies/suite.yaml"), policy(capability))?;
    node.wait_for("the changed policy", || status(node, "held")["generation"] != before)
}

/// A store whose file system is read-only, until it is dropped.
struct ReadOnly(());

impl ReadOnly {
    fn make() -> Result<Self, Failed> {
        for options in ["bind", "remount,bind,ro"] {
            let status = Command::new("/bin/busybox").args(["mount", "-o", options, STORE, STORE]).status()?;
            ensure(status.success(), || format!("mount -o {options}: {status}"))?;
        }
        Ok(Self(()))
    }
}

impl Drop for ReadOnly {
    fn drop(&mut self) {
        let status = Command::new("/bin/busybox").args(["umount", STORE]).status();
        if !status.is_ok_and(|status| status.success()) {
            eprintln!("{STORE} stays read-only");
        }
    }
}

/// It is tried again without any further change.
fn changes_when_it_can() -> Checked {
    let held = shared()?;
    let Held { node, container } = held.as_ref().ok_or(MISSING)?;
    let (before, read_only) = (loads()?, ReadOnly::make()?);
    change(node, "net_raw")?;
    node.wait_for("that it failed", || status(node, "held").to_string().contains("semodule failed"))?;
    let admin = node.folder.join("admin.sock").display().to_string();
    let doctor = Command::new("/bin/palisade").args(["doctor", "--admin-socket", &admin]).output()?;
    let (said, log) = (String::from_utf8_lossy(&doctor.stdout).into_owned(), node.log());
    ensure(said.contains("semodule failed"), || said)?;
    ensure(log.contains("is not loaded; what was in force stays"), || log)?;
    ensure_outcomes(&acts("/etc/binary"), &container.exec(&acts("/etc/binary"))?, 1)?;
    ensure(loads()? == before, || "a policy was loaded".to_owned())?;
    drop(read_only);
    wait_until_held(node, "held")?;
    ensure_outcomes(&reversed("/etc/binary"), &container.exec(&reversed("/etc/binary"))?, 1)
}

fn survives_a_rebuild() -> Checked {
    let held = shared()?;
    let Held { node, container } = held.as_ref().ok_or(MISSING)?;
    let (before, of_node) = (loads()?, node.log().matches(LOADED).count());
    let output = administrator("/usr/sbin/semodule", &["-B"])?;
    ensure(output.status.success(), || String::from_utf8_lossy(&output.stderr).into_owned())?;
    let after = loads()?;
    ensure(after != before, || "nothing was loaded".to_owned())?;
    ensure_outcomes(&reversed("/etc/public"), &container.exec(&reversed("/etc/public"))?, 1)?;
    // It looks every two seconds.
    thread::sleep(Duration::from_secs(6));
    let status = status(node, "held");
    ensure(status["notHeld"].as_array().is_some_and(Vec::is_empty), || format!("{status:#}"))?;
    let same = node.log().matches(LOADED).count() == of_node && loads()? == after;
    ensure(same, || format!("what stood was loaded again: {}", node.log()))
}

/// As a boot leaves it: what is in force was made of the store, and nothing is remembered.
fn outlives_a_reboot() -> Checked {
    let mut held = shared()?;
    let Held { node, container } = held.as_mut().ok_or(MISSING)?;
    let before = loads()?;
    node.kill()?;
    fs::remove_dir_all("/run/palisade")?;
    node.again(&policy("net_raw"), &FLAGS)?;
    wait_until_held(node, "held")?;
    ensure_outcomes(&reversed("/etc/public"), &container.exec(&reversed("/etc/public"))?, 1)?;
    ensure(loads()? == before, || format!("what stood was loaded again: {}", node.log()))
}

/// The tool takes longer than a thread of a node that runs may be silent.
fn stops() -> Checked {
    let mut held = shared()?;
    let Held { node, container } = held.as_mut().ok_or(MISSING)?;
    let ended = AtomicBool::new(false);
    let (stopped, slowed) = thread::scope(|scope| {
        let slow = scope.spawn(|| {
            let tool = Paused::found(|| ended.load(Ordering::Relaxed));
            thread::sleep(tool.as_ref().map_or(Duration::ZERO, |_| STALL + Duration::from_secs(15)));
            tool.is_ok()
        });
        let stopped = node.stop();
        ended.store(true, Ordering::Relaxed);
        (stopped, slow.join())
    });
    stopped?;
    ensure(slowed.is_ok_and(|slowed| slowed), || "no tool was started".to_owned())?;
    ensure_outcomes(&reversed("/etc/private.key"), &container.exec(&reversed("/etc/private.key"))?, 0)?;
    keeps_its_user(container)
}

fn keeps_its_user(container: &Container) -> Checked {
    let found = context(container.pid)?;
    ensure(found == context_of(HELD), || format!("the users went, too: it runs in {found}"))
}

/// By an administrator. The tool's domain may not read what a service keeps.
fn unload(pins: &Path) -> Result<String, Failed> {
    let output = administrator("/bin/palisade", &["unload", "--pin-root", &pins.display().to_string()])?;
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure(output.status.success(), || said.clone())?;
    Ok(said)
}

/// The tool that puts a module into the store, which does not go on before this is dropped.
struct Paused(String);

impl Paused {
    /// Waits until there is one, or nobody will start it any more.
    fn found(mut is_over: impl FnMut() -> bool) -> Result<Self, Failed> {
        loop {
            let processes = fs::read_dir("/proc")?.flatten();
            let mut tools = processes.filter(|process| {
                let command = fs::read(process.path().join("cmdline")).unwrap_or_default();
                command.starts_with(b"semodule\0-X\x00400\0-i\0")
            });
            if let Some(tool) = tools.next() {
                let pid = tool.file_name().to_string_lossy().into_owned();
                signal("STOP", &pid)?;
                return Ok(Self(pid));
            }
            ensure(!is_over(), || "no tool was started".to_owned())?;
            thread::sleep(LOOK);
        }
    }

    fn is_there(&self) -> bool {
        fs::read(format!("/proc/{}/cmdline", self.0)).is_ok_and(|command| !command.is_empty())
    }
}

impl Drop for Paused {
    fn drop(&mut self) {
        if let Err(error) = signal("CONT", &self.0) {
            eprintln!("semodule stays stopped: {}", error.message().unwrap_or_default());
        }
    }
}

fn signal(name: &str, pid: &str) -> Checked {
    let status = Command::new("kill").args(["-s", name, pid]).status()?;
    ensure(status.success(), || format!("kill -s {name} {pid}: {status}"))
}

/// What the stop left is taken for what is in force, and what the tool was about to put there denies nothing in the end.
fn is_unloaded() -> Checked {
    let mut held = shared()?;
    let Held { node, container } = held.as_mut().ok_or(MISSING)?;
    let before = loads()?;
    node.again(&policy("chown"), &FLAGS)?;
    let mut looks = WITHIN.as_millis() / LOOK.as_millis();
    let tool = Paused::found(|| {
        looks = looks.saturating_sub(1);
        looks == 0
    })?;
    node.kill()?;
    ensure(tool.is_there() && loads()? == before, || "it ended with the node, or was another".to_owned())?;
    let pins = node.pins();
    let said = thread::scope(|scope| {
        let unloads = scope.spawn(|| unload(&pins));
        thread::sleep(LOCKED);
        let waits = !unloads.is_finished();
        drop(tool);
        let said = unloads.join().map_err(|_| "it panicked")??;
        ensure(waits, || format!("it did not wait for the tool: {said}"))?;
        Ok::<_, Failed>(said)
    })?;
    ensure(said.contains("run under users of Palisade"), || said)?;
    let since = loads()?.wrapping_sub(before);
    ensure(since == 2, || format!("{since} policies were loaded, not the node's and then one that denies nothing"))?;
    ensure_outcomes(&acts("/etc/bin/tool"), &container.exec(&acts("/etc/bin/tool"))?, 0)?;
    keeps_its_user(container)
}

/// As after a boot: that the module is there, nothing but the store says.
fn leaves_nothing() -> Checked {
    let Held { node, container } = shared()?.take().ok_or(MISSING)?;
    container.remove()?;
    fs::remove_dir_all("/run/palisade").ok();
    let said = unload(&node.pins())?;
    ensure(!said.contains("run under users of Palisade"), || said)?;
    let ours = modules()?;
    ensure(ours.is_empty(), || format!("the store has: {ours}"))?;
    ensure(!SeLinux::open()?.is_context(&context_of(HELD)), || "the kernel knows the users".to_owned())?;
    let left: Vec<_> = fs::read_dir("/tmp")?.flatten().map(|entry| entry.file_name()).collect();
    let ours = |name: &std::ffi::OsString| name.to_string_lossy().starts_with("palisade-");
    ensure(!left.iter().any(ours), || format!("{left:?}"))
}
