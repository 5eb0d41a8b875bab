//! A policy holds until the last task of its container is gone, and whatever of the host's namespaces the container shares.
#![forbid(unsafe_code)]

mod node_bed;

use std::{
    fs,
    io::Write,
    net::TcpListener,
    path::PathBuf,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use node_bed::{NodeBed, Pod, eventually};

const FORBIDS: &str = "apiVersion: palisade.dev/v1alpha1
kind: PalisadePolicy
metadata: {name: no-port, namespace: example}
spec:
  selector: {matchLabels: {app: client}}
  network: {destinations: [{ports: [PORT], protocol: TCP}]}
  action: Block
";

fn knows(bed: &NodeBed, name: &str) -> bool {
    bed.get("/v1/workloads").is_some_and(|(_, body)| body.contains(&format!("\"{name}\"")))
}

#[test]
fn host_last_task_of_a_container_is_held_after_its_first_process_is_gone_and_the_container_ends_with_it() {
    let mut bed = NodeBed::new(&[("no-port.yaml", &FORBIDS.replace("PORT", "5000"))]);
    bed.start_node();
    let client = bed.pod("client", "sleep 1000");
    // In the container's cgroup, mounts and network, and in the host's process namespace: its end is not that of the first process.
    let procs = client.cgroup().join("cgroup.procs");
    let tries = "while true; do act connect 127.0.0.1 5000 >>/tmp/tries; sleep 0.2; done";
    let enter = format!(
        "echo $$ >{} && exec nsenter --target {} --mount --net /bin/sh -c '{tries}'",
        procs.display(),
        client.pid
    );
    let mut survivor = Command::new("sh").args(["-c", &enter]).stdin(Stdio::null()).spawn().unwrap();
    let file = format!("/proc/{}/root/tmp/tries", survivor.id());
    let tries = || fs::read_to_string(&file).unwrap_or_default().lines().map(str::to_owned).collect::<Vec<_>>();
    eventually("it tries", || tries().len() > 2);
    bed.kill_pod("client");
    eventually("the first process is gone", || !PathBuf::from(format!("/proc/{}/root", client.pid)).exists());
    let before = tries().len();
    // Well beyond the second within which an end is told.
    thread::sleep(Duration::from_secs(4));
    let all = tries();
    assert!(all.len() > before + 5, "it goes on: {} tries, then {}", before, all.len());
    assert!(all.iter().all(|line| line == "result=EPERM effect=absent"), "{all:?}");
    assert!(knows(&bed, "client"), "it is still told among the workloads");
    assert!(bed.log_end("node").contains("held until the last one is gone"), "{}", bed.log_end("node"));
    survivor.kill().unwrap();
    survivor.wait().unwrap();
    eventually("the container has ended", || !knows(&bed, "client"));
}

#[test]
fn host_last_task_a_container_with_the_hosts_network_is_held_as_any_other() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    // Whoever connects waits for a greeting. The thread ends with the test's process.
    thread::spawn(move || listener.incoming().flatten().for_each(|mut peer| drop(peer.write_all(b"greetings\n"))));
    let mut bed = NodeBed::new(&[("no-port.yaml", &FORBIDS.replace("PORT", &port.to_string()))]);
    bed.start_node();
    let client = bed.pod_with("client", "sleep 1000", &["--net-host"]);
    let other = bed.pod_with("other", "sleep 1000", &["--net-host"]);
    let says = |pod: &Pod, result: &str| {
        bed.run_in(pod, "try", &["sh", "-c", &format!("act connect 127.0.0.1 {port} | grep -q result={result}")])
    };
    assert!(says(&client, "EPERM"));
    assert!(says(&other, "ok"), "in the same network, and no policy is about it");
}
