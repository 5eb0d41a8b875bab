//! What is changed while a real node runs, and hostile names through a real kernel: every line in exactly one place, and none of them more
//! than a line.
//!
//! As root; the host is the workload. Policies audit, and name a folder of the test's own.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod lone_node;

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use lone_node::Node;
use rustix::process::Signal;
use serde_json::Value;

/// Execs and opens are all sent, none folded nor held back by its rate.
const ALL: &str = "foldWindow: 0\nobservationRate: 0\n";

fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

fn execute(program: &Path, argument: &OsStr) {
    Command::new(program).arg(argument).stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
}

/// Exec logs by their last argument, of those that begin with `mark`, and how often each stands in these files.
fn marked(files: &[PathBuf], mark: &str) -> BTreeMap<String, u32> {
    let mut found = BTreeMap::new();
    for line in files.iter().flat_map(|file| lines(file)) {
        let argument = line["processChain"][0]["arguments"].as_array().and_then(|all| all.last()?.as_str());
        if let Some(argument) =
            argument.filter(|argument| argument.starts_with(mark) && line["subject"]["operation"] == "exec")
        {
            *found.entry(argument.to_owned()).or_default() += 1;
        }
    }
    found
}

#[test]
fn host_node_moves_its_logs_to_another_file_while_it_writes_and_each_line_is_in_exactly_one() {
    let node = Node::start("move", ALL);
    let files = ["a", "b", "c"].map(|name| node.path(name));
    let name_file = |file: &Path| format!("visibility: process\nlogFile: {}\n", file.display());
    node.change("nodeName: here\n", &format!("nodeName: here\n{}", name_file(&files[0])));
    node.signal(Signal::HUP);
    // Both live: what is seen, and where it is written.
    node.until("the host's execs are logged", |_| {
        execute(Path::new("/bin/true"), OsStr::new("probe"));
        !marked(&files[..1], "probe").is_empty()
    });
    let mut at = 0;
    for number in 0..240 {
        execute(Path::new("/bin/true"), OsStr::new(&format!("storm-{number:03}")));
        if number % 40 == 20 {
            let next = (at + 1) % files.len();
            node.change(&name_file(&files[at]), &name_file(&files[next]));
            node.signal(Signal::HUP);
            at = next;
        }
    }
    node.until("the last line is written", |_| marked(&files, "storm-239").len() == 1);
    let found = marked(&files, "storm-");
    let expected: BTreeMap<String, u32> = (0..240).map(|number| (format!("storm-{number:03}"), 1)).collect();
    assert_eq!(found, expected, "none twice, none lost");
    assert!(files.iter().all(|file| !marked(std::slice::from_ref(file), "storm-").is_empty()), "in every file some");
    assert!(!node.log().contains("not written"), "{}", node.log());
    node.change("visibility: process", "visibility: none");
    node.signal(Signal::HUP);
    node.until("nothing is seen any more", |_| {
        let before = marked(&files, "after").len();
        execute(Path::new("/bin/true"), OsStr::new(&format!("after-{before}")));
        std::thread::sleep(std::time::Duration::from_millis(500));
        marked(&files, "after").len() == before
    });
    node.until("all is well", |node| node.condition("configuration")["state"] == "good");
}

#[test]
fn host_node_takes_another_throttle_at_once_and_says_what_the_last_one_held_back() {
    let node = Node::start("throttle", "maxAlertPerSec: 3\nthrottleSec: 3600\nalertFileKeep: 1\nnoAlertStdout: true\n");
    let (file, folder) = (node.path("alerts"), node.path("watched"));
    fs::create_dir(&folder).unwrap();
    node.change("nodeName: here\n", &format!("nodeName: here\nalertFile: {}\n", file.display()));
    let policy = format!(
        "apiVersion: security.kubearmor.com/v1\nkind: KubeArmorHostPolicy\nmetadata: {{ name: unlinks }}\nspec:\n  \
         nodeSelector: {{ matchLabels: {{ kubernetes.io/hostname: here }} }}\n  \
         syscalls: {{ matchPaths: [{{ path: {}/, recursive: true, syscall: [unlink, unlinkat] }}] }}\n  action: Audit\n",
        folder.display()
    );
    fs::write(node.path("policies/p.yaml"), policy).unwrap();
    node.signal(Signal::HUP);
    node.until("the policy is in force", |node| {
        node.get("/v1/workloads").1["workloads"][0]["policy"]["generation"] == 2
    });
    let unlink = |name: &str| {
        fs::write(folder.join(name), "").unwrap();
        fs::remove_file(folder.join(name)).unwrap();
    };
    let of = |mark: &str| {
        let is_of = |line: &&Value| line["subject"]["resource"].as_str().is_some_and(|path| path.contains(mark));
        lines(&file).iter().filter(is_of).count()
    };
    (0..40).for_each(|number| unlink(&format!("held-{number}")));
    node.until("silence begins", |_| lines(&file).iter().any(|line| line["operation"] == "AlertThreshold"));
    node.change("throttleSec: 3600", "noAlertThrottling: true");
    node.signal(Signal::HUP);
    node.until("what was held back is told an hour before its time", |_| {
        lines(&file).iter().any(|line| line["heldBackTotal"].as_u64().is_some_and(|held| held > 0))
    });
    let held = lines(&file).iter().filter_map(|line| line["heldBackTotal"].as_u64()).sum::<u64>();
    assert_eq!(of("held-") as u64 + held, 40, "said and held back");
    (0..40).for_each(|number| unlink(&format!("said-{number}")));
    node.until("none is held back", |_| of("said-") == 40);
}

fn hostile(text: &str) -> bool {
    text.chars().any(|c| c != '\n' && palisade_domain::text::hostile(c))
}

#[test]
fn host_node_shows_programs_with_hostile_names_and_arguments_in_every_form_as_names() {
    let node = Node::start("hostile", &format!("{ALL}visibility: process\n"));
    let logs = node.path("logs");
    node.change("nodeName: here\n", &format!("nodeName: here\nlogFile: {}\n", logs.display()));
    node.signal(Signal::HUP);
    node.until("the host's execs are logged", |_| {
        execute(Path::new("/bin/true"), OsStr::new("probe"));
        !marked(std::slice::from_ref(&logs), "probe").is_empty()
    });
    let names: [&[u8]; 9] = [
        b"\x1b[2J\x1b]0;owned\x07",
        b"nl\n{\"verdict\":\"observed\"}\n",
        "\u{202e}gpj.exe\u{2066}".as_bytes(),
        "\u{9b}31m\u{85}\u{2028}".as_bytes(),
        b"\xff\xfe\xc2\\xff",
        b"x[1] < -sshd[1]",
        b"\"},\"a\":{\"",
        b"%s%n,=cmd|'!A0",
        &[b'A'; 255],
    ];
    let bash = fs::read("/bin/true").unwrap();
    let mut follower = node.follow(&["logs", "--follow", "--filter", "system", "--recent", "0"]);
    node.until("the follower follows", |node| {
        execute(Path::new("/bin/true"), OsStr::new("probe"));
        fs::read_to_string(node.path("followed")).unwrap().contains("/true")
    });
    for name in names {
        let program = node.path("").join(OsStr::from_bytes(name));
        fs::write(&program, &bash).unwrap();
        fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        execute(&program, OsStr::from_bytes(&[name, b"\r\x08\x7f"].concat()));
    }
    let executed = || -> Vec<Vec<u8>> {
        let resources = lines(&logs).into_iter().filter_map(|line| {
            let resource = palisade_domain::text::bytes(line["subject"]["resource"].as_str()?);
            Some(resource.strip_prefix(node.path("").as_os_str().as_bytes())?.to_vec())
        });
        resources.collect()
    };
    node.until("all are logged", |_| executed().len() >= names.len());
    assert_eq!(executed(), names, "each can be found again, whatever its bytes");
    let file = fs::read_to_string(&logs).unwrap();
    assert!(!hostile(&file), "{file:?}");
    node.until("the follower has them", |_| fs::read_to_string(node.path("followed")).unwrap().contains("AAAAAAAA"));
    follower.kill().unwrap();
    follower.wait().unwrap();
    let followed = fs::read_to_string(node.path("followed")).unwrap();
    let forged = followed.lines().filter(|line| !line.contains("Z log           here ")).count();
    assert_eq!((hostile(&followed), forged), (false, 0), "{followed:?}");
    for route in ["/v1/processes?workload=host", "/v1/tree", "/v1/activity", "/metrics"] {
        let text = node.text(route);
        assert!(
            text.len() > 100 && !text.replace('\r', "").chars().any(|c| c != '\n' && palisade_domain::text::hostile(c)),
            "{route}: {text:?}"
        );
    }
}
