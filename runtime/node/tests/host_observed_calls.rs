//! Rules on system calls on a path, which no table of the kernel decides, through a whole node; and who the alerts of a container name.
#![forbid(unsafe_code)]

mod node_bed;

use std::fs;

use node_bed::{NodeBed, eventually};
use serde_json::Value;

const WATCHES_TMP: &str = "apiVersion: security.kubearmor.com/v1
kind: KubeArmorPolicy
metadata: {name: watch-tmp, namespace: example}
spec:
  selector: {matchLabels: {app: client}}
  severity: 4
  syscalls:
    matchPaths:
      - {path: /tmp/watched/, recursive: true, syscall: [unlink], fromSource: [{path: /bin/busybox}]}
      - {path: /tmp/watched/, syscall: [stat]}
";

/// Until told to stop it makes a directory and files there and beside it, and takes them away.
const WORKS: &str = "echo captain:x:0:0::/:/bin/sh >/etc/passwd
    mkdir /tmp/watched /tmp/other
    until [ -e /tmp/go ]; do sleep 0.05; done
    while [ ! -e /tmp/stop ]; do
        touch /tmp/watched/a /tmp/other/b
        rm /tmp/watched/a /tmp/other/b
        sleep 0.5
    done
    sleep 1000";

fn of<'a>(lines: &'a [Value], policy: &str) -> Vec<&'a Value> {
    lines.iter().filter(|line| line["policyName"] == policy && line["verdict"] == "observed").collect()
}

#[test]
fn host_rule_on_a_call_on_a_path_raises_alerts_that_name_the_containers_own_user_and_makes_no_logs() {
    let mut bed = NodeBed::new(&[("watch.yaml", WATCHES_TMP)]);
    let log = bed.path("logs.jsonl");
    bed.node_arguments = vec!["--log-file".into(), log.display().to_string()];
    bed.start_node();
    let pod = bed.pod("client", WORKS);
    eventually("the container has its own users", || pod.file("/tmp/other").exists());
    // Names of users are kept for a minute; another node reads them anew.
    assert!(bed.kill_node(), "the node had ended by itself");
    bed.start_node();
    fs::write(pod.file("/tmp/go"), "").unwrap();
    eventually("an alert names the container's user", || {
        let lines = bed.alerts();
        println!("{:?}", of(&lines, "watch-tmp").iter().map(|line| line["username"].as_str()).collect::<Vec<_>>());
        of(&lines, "watch-tmp").iter().any(|line| line["username"] == "captain")
    });
    fs::write(pod.file("/tmp/stop"), "").unwrap();

    let lines = bed.alerts();
    let seen = of(&lines, "watch-tmp");
    for line in &seen {
        assert_eq!(line["resource"], "/tmp/watched/a", "{line}");
        assert_eq!(line["processName"], "/bin/busybox", "{line}");
        assert_eq!((&line["tier"], &line["action"]), (&"audit".into(), &"Audit".into()), "{line}");
        assert_eq!(line["rule"]["place"], "syscalls.matchPaths[0]", "{line}");
    }
    let is_unheld = |line: &Value| line["operation"] == "PolicyNotHeld";
    eventually("no record tells of stat(2), which is said", || bed.alerts().iter().any(is_unheld));
    let lines = bed.alerts();
    let unheld = lines.iter().find(|line| is_unheld(line)).unwrap();
    assert_eq!((&unheld["type"], &unheld["verdict"]), (&"SystemEvent".into(), &"unenforceable".into()), "{unheld}");
    assert_eq!(unheld["rule"]["place"], "syscalls.matchPaths[1]", "{unheld}");
    let logs = fs::read_to_string(&log).unwrap_or_default();
    assert_eq!(logs, "", "nobody asked to see files");
}
