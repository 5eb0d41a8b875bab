//! `palisade doctor`: what would keep the node from working, each with what to do about it.

mod held;
mod links;
mod own;

use std::{fmt::Write as _, os::unix::net::UnixStream, path::Path, process::ExitCode};

use palisade_containers::{
    Endpoint,
    nri::{self, NriConfig, NriSocket},
};
use palisade_domain::{Family, Tier};
use palisade_policy::PolicySet;
use palisade_store::FileDirectory;
use palisade_world::{Capability, CapabilityState, KernelMatrix, PolicyDirectory as _};
use serde::Serialize;
use serde_json::json;

use super::Outcome;
use crate::{
    admin_client,
    arguments::{DoctorArguments, Output},
    render,
};

/// How a check went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Health {
    Good,
    /// It works with less.
    Weak,
    /// The node cannot do its work.
    Bad,
}

#[derive(Debug, Serialize)]
struct Check {
    name: &'static str,
    health: Health,
    found: String,
    /// What to do; empty where all is well.
    advice: String,
}

impl Check {
    fn good(name: &'static str, found: impl Into<String>) -> Self {
        Self { name, health: Health::Good, found: found.into(), advice: String::new() }
    }

    fn of(name: &'static str, health: Health, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { name, health, found: found.into(), advice: advice.into() }
    }
}

/// Looks, and prints what it found; exit status 1 if something is bad.
///
/// # Errors
/// Standard output cannot be written.
pub fn run(arguments: &DoctorArguments) -> Outcome {
    let mut checks = vec![root()];
    if checks[0].health == Health::Good {
        checks.extend(kernel());
    }
    checks.push(containers(arguments.runtime.endpoint()));
    checks.extend(arguments.nri.config().map(|config| of_nri(&config)));
    checks.push(policies(&arguments.policy_dir));
    let (answer, of_links, of_node) = super::block_on_local(async {
        let answer = admin_client::document(&arguments.admin_socket, "/readyz").await;
        let of_links = links::checks(&arguments.links, answer.as_ref().ok()).await;
        // A node that does not answer at once is not asked twice more.
        let of_node = match answer.is_ok() {
            true => {
                let kernel = admin_client::document(&arguments.admin_socket, "/v1/kernel").await.ok();
                let workloads = admin_client::document(&arguments.admin_socket, "/v1/workloads").await.ok();
                held::checks(kernel.as_ref(), workloads.as_ref())
            }
            false => Vec::new(),
        };
        (answer, of_links, of_node)
    })?;
    checks.extend(of_links);
    checks.push(left(&arguments.pin_root, answer.is_ok()));
    checks.extend(node(answer, &arguments.policy_dir));
    checks.extend(of_node);
    let bad = checks.iter().any(|check| check.health == Health::Bad);
    let text = match arguments.output {
        Output::Text => text(&checks),
        output => render::document(output, &json!({ "healthy": !bad, "checks": checks })),
    };
    super::print(&text)?;
    Ok(if bad { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn text(checks: &[Check]) -> String {
    let mut text = String::new();
    for check in checks {
        let mark = match check.health {
            Health::Good => "good",
            Health::Weak => "weak",
            Health::Bad => "BAD ",
        };
        // Writing to a string cannot fail.
        // Conditions may tell names that a workload chose.
        let _ = writeln!(text, "{mark} {:<16} {}", check.name, render::printable(&check.found));
        if !check.advice.is_empty() {
            let _ = writeln!(text, "     {:<16} -> {}", "", render::printable(&check.advice));
        }
    }
    text
}

fn root() -> Check {
    if rustix::process::geteuid().is_root() {
        Check::good("root", "yes")
    } else {
        Check::of(
            "root",
            Health::Bad,
            "no",
            "run it as root (sudo palisade doctor): loading BPF programs and following containerd need it",
        )
    }
}

fn kernel() -> Vec<Check> {
    let matrix = palisade_kernel::matrix::probe();
    let missing: Vec<String> = matrix
        .capabilities
        .iter()
        .filter_map(|(capability, state)| match state {
            // Profiles are a means beside fanotify, and each of the two means on hooks does what the other would.
            _ if is_spare(*capability) && matrix.judges_on_hooks() => None,
            // A kernel has one of the two active.
            _ if *capability == Capability::AppArmor && matrix.has(Capability::SeLinux) => None,
            _ if *capability == Capability::SeLinux && matrix.has(Capability::AppArmor) => None,
            CapabilityState::Available => None,
            CapabilityState::Missing(reason) => Some(format!("{capability:?} ({reason})")),
        })
        .collect();
    let mut checks = vec![if missing.is_empty() {
        Check::good("kernel", matrix.release.clone())
    } else {
        let advice = "see `palisade probe` for which tier holds what without them";
        Check::of("kernel", Health::Weak, format!("{} without {}", matrix.release, missing.join(", ")), advice)
    }];
    checks.extend(undenied(&matrix));
    checks.extend(profiles(&matrix));
    checks.extend(constraints(&matrix, palisade_kernel::selinux::is_enforcing()));
    checks.push(own::check(&matrix));
    checks
}

/// Nobody misses it where BPF programs judge on hooks.
fn is_spare(capability: Capability) -> bool {
    matches!(capability, Capability::AppArmor | Capability::SeLinux | Capability::BpfLsm | Capability::ModifyReturn)
}

/// Where profiles are a means, somebody must put containers under them: only who starts them can.
fn profiles(matrix: &KernelMatrix) -> Option<Check> {
    let is_means = matrix.has(Capability::AppArmor) && !matrix.judges_on_hooks();
    let advice = "start containers by deploy/hooks/runc-with-hook with a file `apparmor` beside it (its head says how): what runs under another \
                  profile is named in /v1/workloads with what is not held of it";
    is_means.then(|| {
        Check::of(
            "apparmor",
            Health::Weak,
            "holds capabilities, readOnly and more, of containers under their profile",
            advice,
        )
    })
}

/// Where constraints are a means, the node must be told the base policy, and who starts containers give them a user of ours.
fn constraints(matrix: &KernelMatrix, is_enforcing: bool) -> Option<Check> {
    let has = |capability| matrix.has(capability);
    let is_means = has(Capability::SeLinux) && !has(Capability::AppArmor) && !matrix.judges_on_hooks();
    let found = if is_enforcing {
        "holds capabilities and more, of containers under a user of ours, where the node is told --selinux"
    } else {
        "is permissive: constraints would tell of acts, and deny none"
    };
    let advice = "tell the node the host's base policy (--selinux), and give a pod a user (securityContext.seLinuxOptions.user: palisade_7_u), or \
                  start containers by deploy/hooks/runc-with-hook with a file `selinux` beside it: deploy/selinux.md";
    is_means.then(|| Check::of("selinux", Health::Weak, found, advice))
}

/// What another kernel would deny; what none does (system calls, devices) is no finding about this one.
fn undenied(matrix: &KernelMatrix) -> Option<Check> {
    let weak = matrix
        .families
        .iter()
        .filter(|(family, held)| held.tier >= Tier::Kill && !matches!(family, Family::Syscalls | Family::Device));
    let words: Vec<String> =
        weak.map(|(family, held)| format!("{family:?} (held by {:?})", held.tier).to_lowercase()).collect();
    let advice = if matrix.lsms.iter().any(|lsm| lsm == "bpf") {
        "`bpf` is in the kernel's `lsm=` list, and its programs are refused for the reason above: `palisade probe` says what holds instead"
    } else {
        "boot with `bpf` in the kernel's `lsm=` list to have them denied"
    };
    (!words.is_empty())
        .then(|| Check::of("enforcement", Health::Weak, format!("not denied: {}", words.join(", ")), advice))
}

/// `told`: by an argument; otherwise it is what is found.
fn containers(told: Option<Endpoint>) -> Check {
    let endpoint = told.unwrap_or_else(Endpoint::detect);
    let Some(socket) = endpoint.socket() else {
        let advice = "pods then have no labels, and containers of `ctr` and nerdctl are the host's: name the runtime's socket with \
                      --containerd or --cri-socket if there is one";
        return Check::of("containers", Health::Weak, format!("known by {endpoint}"), advice);
    };
    match UnixStream::connect(socket) {
        Ok(_) => Check::good("containers", format!("known by {endpoint}, which answers")),
        Err(error) => {
            let advice = "start it (`systemctl start containerd`; `apt-get install containerd` if it is missing), name its socket with \
                          --containerd or --cri-socket, or run the node with --by-cgroups or --no-containers";
            Check::of("containers", Health::Weak, format!("known by {endpoint}: {error}"), advice)
        }
    }
}

/// Whether the runtime can add the hook. That it does, a node that runs says by its condition.
fn of_nri(config: &NriConfig) -> Check {
    let (socket, program) = (config.socket.path().display(), config.program.display());
    if !config.socket.is_there() {
        let advice = "switch NRI on in the runtime (containerd: `disable = false` of its plugin io.containerd.nri.v1.nri), or say `--nri-socket none`";
        return match config.socket {
            NriSocket::Auto => Check::good(
                "nri",
                format!("none at {socket}: containers get the hook by a base specification, or not at all"),
            ),
            NriSocket::At(_) => Check::of("nri", Health::Weak, format!("no socket at {socket}"), advice),
        };
    }
    match nri::executable_on_host(&config.program) {
        Ok(()) => Check::good("nri", format!("{socket} is there: the runtime adds {program} to what it creates")),
        Err(reason) => {
            let advice =
                "put palisade-hook where the host's programs are, and name it by its path there with --nri-hook";
            Check::of("nri", Health::Weak, format!("{socket} is there, and no hook to add: {reason}"), advice)
        }
    }
}

fn policies(directory: &Path) -> Check {
    let reading = match FileDirectory::new(directory).read() {
        Ok(reading) => reading,
        Err(error) => {
            return Check::of(
                "policies",
                Health::Bad,
                error.to_string(),
                format!("`mkdir -p {}`, or name another with --policy-dir", directory.display()),
            );
        }
    };
    let files = reading.files.iter().map(|file| (file.name.as_str(), file.content.as_slice()));
    let (set, found) = PolicySet::parse_good(files);
    let refused = found.iter().filter(|found| found.severity.refuses()).count();
    if let [first, ..] = reading.unreadable.as_slice() {
        let found =
            format!("{} files cannot be read, first {}: {}", reading.unreadable.len(), first.name, first.reason);
        Check::of("policies", Health::Bad, found, "make it readable, or take it out of the directory")
    } else if refused == 0 {
        Check::good("policies", format!("{} in {}", set.len(), directory.display()))
    } else {
        let advice = format!("palisade policy validate {}", directory.display());
        Check::of("policies", Health::Bad, format!("{refused} problems in {}", directory.display()), advice)
    }
}

/// What is pinned while no node answers denies all the same, and nobody explains it.
fn left(pin_root: &Path, node_answers: bool) -> Check {
    let root = pin_root.display();
    let there = match std::fs::read_dir(pin_root) {
        Ok(entries) => entries.count(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => 0,
        Err(error) => {
            return Check::of("pins", Health::Weak, format!("{root} cannot be looked at: {error}"), "run it as root");
        }
    };
    match (there, node_answers) {
        (0, _) => Check::good("pins", format!("nothing is left below {root}")),
        (_, true) => Check::good("pins", format!("{root}, of the node that runs")),
        (_, false) => {
            let found = format!(
                "{there} entries are left below {root}, and no node answers: what they hold is denied still, and nobody tells of it"
            );
            let advice = format!(
                "start a node (`palisade node --pin-root {root}`), which takes it over, or take it away (`palisade unload --pin-root {root}`)"
            );
            Check::of("pins", Health::Weak, found, advice)
        }
    }
}

fn node(answer: anyhow::Result<serde_json::Value>, policies: &Path) -> Vec<Check> {
    match answer {
        Ok(value) => readiness(&value, policies),
        // What is said elsewhere sends people here.
        Err(error) => {
            let found =
                format!("{error:#}").replace(", or see `palisade doctor`", "").replace(" and `palisade doctor`", "");
            vec![Check::of("node", Health::Weak, found, "")]
        }
    }
}

/// A node that is ready may yet hold less than was asked of it: each condition that is not good is said, with what to type about it.
fn readiness(value: &serde_json::Value, policies: &Path) -> Vec<Check> {
    let conditions = value["conditions"].as_object().cloned().unwrap_or_default();
    let wanting: Vec<Check> = conditions
        .iter()
        .filter(|(_, condition)| condition["state"] != "good")
        .map(|(name, condition)| {
            let state = condition["state"].as_str().unwrap_or("?");
            let health = if state == "degraded" { Health::Weak } else { Health::Bad };
            let found = format!("{name} is {state}: {}", condition["reason"].as_str().unwrap_or("no reason given"));
            Check::of("condition", health, found, advice(name, policies))
        })
        .collect();
    let node = match (value["ready"] == true, wanting.is_empty()) {
        (true, true) => Check::good("node", "ready"),
        (true, false) => Check::of("node", Health::Weak, "ready, with less than was asked", ""),
        (false, _) => Check::of(
            "node",
            Health::Bad,
            "not ready",
            "`palisade tree` shows what restarts, `palisade top` what is lost",
        ),
    };
    std::iter::once(node).chain(wanting).collect()
}

/// What to type about a condition.
fn advice(condition: &str, policies: &Path) -> String {
    let policies = policies.display();
    match condition {
        "policies" => format!("`palisade policy validate {policies}` names each problem with its place"),
        "containers" => {
            "see that the runtime answers (`systemctl status containerd`), or run the node with --no-containers; where it is NRI, with `--nri-socket none`".into()
        }
        "records" => "`palisade top` shows what is lost and why; fewer rules that audit make fewer records".into(),
        "alerts" => {
            "see the disk and the reader that the alerts go to (`df`); `palisade top` counts what is not written".into()
        }
        "enforcement" => {
            "`palisade probe` tells what this kernel can do; restart the node if what it names does not come back"
                .into()
        }
        "configuration" => {
            "`palisade config validate` names each problem; what needs a restart takes effect with the node's next"
                .into()
        }
        "links" => "`palisade nodes` tells of each node how its link is and why; `palisade certificate show FILE` what a file says".into(),
        "actors" => "`palisade tree` shows which actor restarts, and over what".into(),
        slot if slot.starts_with("slot ") => {
            format!(
                "`curl --unix-socket SOCKET http://node/v1/workloads` tells who that is; `palisade policy validate {policies}` whether its policy can be compiled"
            )
        }
        _ => "the node's log says more; `palisade tree` shows what restarts".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use palisade_world::HeldFamily;

    #[test]
    fn unit_doctor_tells_of_policy_that_is_in_force_without_a_node() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let pins = root.path().join("pins");
        assert_eq!(left(&pins, false).health, Health::Good);
        std::fs::create_dir(&pins).expect("made");
        assert_eq!(left(&pins, false).health, Health::Good, "nothing is in it");
        std::fs::create_dir(pins.join("maps")).expect("as after a crash");
        assert_eq!(left(&pins, true).health, Health::Good);
        let weak = left(&pins, false);
        let unload = format!("palisade unload --pin-root {}", pins.display());
        assert!(weak.health == Health::Weak && weak.advice.contains(&unload), "{weak:?}");
    }

    #[test]
    fn unit_doctor_advises_to_boot_with_bpf_only_where_that_would_help() {
        let held = |tier| HeldFamily { tier, gaps: Vec::new() };
        let matrix = |lsms: &[&str], ptrace| KernelMatrix {
            release: "6.18".into(),
            lsms: lsms.iter().map(|lsm| (*lsm).to_owned()).collect(),
            capabilities: [].into(),
            families: [
                (Family::Ptrace, held(ptrace)),
                (Family::Syscalls, held(Tier::Audit)),
                (Family::Device, held(Tier::Audit)),
            ]
            .into(),
        };
        let without = undenied(&matrix(&["landlock"], Tier::Kill)).expect("ptrace is killed only");
        assert_eq!(without.found, "not denied: ptrace (held by kill)");
        assert!(without.advice.contains("boot with `bpf`"), "{without:?}");
        let refused = undenied(&matrix(&["landlock", "bpf"], Tier::Kill)).expect("ptrace is killed only");
        assert!(!refused.advice.contains("boot"), "it is booted with it: {refused:?}");
        assert!(undenied(&matrix(&["bpf"], Tier::BpfLsm)).is_none(), "no kernel denies system calls and devices");
        let with = |capabilities: &[Capability]| KernelMatrix {
            capabilities: capabilities.iter().map(|one| (*one, CapabilityState::Available)).collect(),
            ..matrix(&["apparmor"], Tier::Kill)
        };
        assert!(profiles(&with(&[Capability::AppArmor])).is_some(), "somebody must start containers under them");
        assert!(
            profiles(&with(&[Capability::AppArmor, Capability::BpfLsm])).is_none() && profiles(&with(&[])).is_none()
        );
        assert!(profiles(&with(&[Capability::AppArmor, Capability::ModifyReturn])).is_none(), "hooks hold more");
        let said = |capabilities: &[Capability], enforcing| constraints(&with(capabilities), enforcing);
        assert!(said(&[Capability::SeLinux], true).is_some_and(|check| check.advice.contains("seLinuxOptions.user")));
        assert!(said(&[Capability::SeLinux], false).is_some_and(|check| check.found.contains("permissive")));
        for stronger in [Capability::AppArmor, Capability::BpfLsm, Capability::ModifyReturn] {
            assert!(said(&[Capability::SeLinux, stronger], true).is_none(), "{stronger:?} is the means");
        }
        assert!(said(&[], true).is_none());
    }

    #[test]
    fn unit_doctor_says_whether_the_runtime_can_add_the_hook() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let socket = root.path().join("nri.sock");
        let config = |program: &str| NriConfig { socket: NriSocket::At(socket.clone()), program: program.into() };
        let absent = of_nri(&config("/bin/sh"));
        assert!(absent.health == Health::Weak && absent.advice.contains("io.containerd.nri.v1.nri"), "{absent:?}");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).expect("bound");
        let missing = of_nri(&config("/nonexistent/palisade"));
        assert!(missing.health == Health::Weak && missing.advice.contains("--nri-hook"), "{missing:?}");
        // Only root may look at the host's files by its init.
        if rustix::process::geteuid().is_root() {
            let there = of_nri(&config("/bin/sh"));
            assert!(there.health == Health::Good && there.found.contains("/bin/sh"), "{there:?}");
        }
    }

    #[test]
    fn unit_doctor_sends_nobody_to_itself() {
        let answer = super::super::runtime()
            .expect("a loop")
            .block_on(admin_client::document(Path::new("/nonexistent/admin.sock"), "/readyz"));
        let checks = node(answer, Path::new("/p"));
        assert!(checks[0].found.contains("palisade node") && !checks[0].found.contains("doctor"), "{checks:?}");
    }

    #[test]
    fn unit_doctor_names_a_policy_file_that_cannot_be_read() {
        let root = tempfile::tempdir().expect("a temporary directory");
        std::fs::write(root.path().join("a.yaml"), "").expect("written");
        assert_eq!(policies(root.path()).health, Health::Good);
        std::os::unix::fs::symlink("nowhere", root.path().join("b.yaml")).expect("linked");
        let bad = policies(root.path());
        assert!(bad.health == Health::Bad && bad.found.contains("b.yaml: No such file"), "{bad:?}");
    }

    #[test]
    fn unit_doctor_calls_a_node_good_only_if_every_condition_is() {
        let checks = |ready, state: &str| {
            let conditions = json!({ "policies": { "state": "good" }, "slot 4": { "state": state, "reason": "full" } });
            readiness(&json!({ "ready": ready, "conditions": conditions }), Path::new("/p"))
        };
        let good = checks(true, "good");
        assert!(good.len() == 1 && good[0].health == Health::Good, "{good:?}");
        let weak = checks(true, "degraded");
        assert_eq!((weak[0].health, weak[1].health), (Health::Weak, Health::Weak));
        assert_eq!(weak[1].found, "slot 4 is degraded: full");
        let bad = checks(false, "failed");
        assert_eq!((bad[0].health, bad[1].health), (Health::Bad, Health::Bad));
    }

    #[test]
    fn unit_doctor_knows_what_to_type_about_each_condition_that_a_node_has() {
        let known = [
            palisade_policy_keeper::actor::CONDITION,
            palisade_probe::actor::CONDITION,
            palisade_alerts::actor::CONDITION,
            palisade_workloads::actor::CONDITION,
            palisade_health::state::ENFORCEMENT,
            palisade_peers::actor::CONDITION,
            crate::node::reload::actor::CONDITION,
            "actors",
            "slot 7",
        ];
        let unknown = advice("something else", Path::new("/p"));
        for name in known {
            let advice = advice(name, Path::new("/p"));
            assert!(advice != unknown && advice.contains('`'), "{name}: {advice}");
        }
    }
}
