//! Containers of every kind that a pod may have, and tasks that do not stay where they began: each held by its own pod's policy, and nobody else
//! by it.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod node_bed;

use std::{
    fs,
    io::Write as _,
    net::{TcpListener, TcpStream},
    thread,
};

use node_bed::{Labels, NodeBed, Pod, eventually, unified};

const FORBIDS: &str = "apiVersion: palisade.dev/v1alpha1
kind: PalisadePolicy
metadata: {name: web, namespace: example}
spec:
  selector: {matchLabels: {app: web}}
  file: {matchPaths: [{path: /etc/bin/secret}]}
  network: {destinations: [{ports: [PORT], protocol: TCP}]}
  action: Block
";

/// Both acts as a container's very first ones, told in a file; then it stays.
const TRIES_AT_ONCE: &str =
    "{ cat /etc/bin/secret; act connect 127.0.0.1 PORT; } >/tmp/first 2>&1; echo over >>/tmp/first; sleep 1000";

/// What stands at this port of the host greets whoever comes; until the test's process ends.
fn greeter() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || listener.incoming().flatten().for_each(|mut peer| drop(peer.write_all(b"greetings\n"))));
    port
}

/// What a container's first acts came to.
fn first_acts(pod: &Pod) -> String {
    let file = pod.file("/tmp/first");
    let read = || fs::read_to_string(&file).unwrap_or_default();
    eventually("its first acts are over", || read().contains("over"));
    read()
}

/// Connects to the port and opens the file once more, from each CPU; says how many there are.
fn try_again_on_each_cpu(bed: &NodeBed, pod: &Pod, port: u16) -> usize {
    let cpus = thread::available_parallelism().unwrap().get();
    for cpu in 0..cpus {
        let words = format!(
            "busybox taskset -c {cpu} act connect 127.0.0.1 {port}; busybox taskset -c {cpu} cat /etc/bin/secret; true"
        );
        assert!(bed.run_in(pod, &format!("again-{cpu}"), &["sh", "-c", &words]));
    }
    cpus
}

fn assert_held(pod: &Pod) {
    let first = first_acts(pod);
    assert!(!first.contains("nobody reads this") && first.contains("not permitted"), "{}: {first}", pod.name);
    assert!(first.contains("result=EPERM effect=absent"), "{}: {first}", pod.name);
}

#[test]
fn host_kinds_init_and_ephemeral_containers_are_held_by_their_pods_policy_from_their_first_instruction() {
    let port = greeter().to_string();
    let mut bed = NodeBed::new(&[("web.yaml", &FORBIDS.replace("PORT", &port))]);
    bed.start_node();
    let tries = TRIES_AT_ONCE.replace("PORT", &port);
    let of_pod = |container: &'static str| Labels { app: "web", pod: "web-1", container };

    // It runs to its end before the pod's main one is made.
    let init = bed.container("c-init", of_pod("init"), &tries, &["--net-host"]);
    assert_held(&init);
    bed.remove_pod("c-init");
    let main = bed.container("c-main", of_pod("main"), &tries, &["--net-host"]);
    assert_held(&main);
    // One more in a pod that runs, in its target's PID namespace.
    let target = format!("pid:/proc/{}/ns/pid", main.pid);
    let debugger = bed.container("c-debugger", of_pod("debugger"), &tries, &["--net-host", "--with-ns", &target]);
    assert_held(&debugger);
    let pid_namespace = |pid: u32| fs::read_link(format!("/proc/{pid}/ns/pid")).unwrap();
    assert_eq!(pid_namespace(debugger.pid), pid_namespace(main.pid), "it sees the target's processes");

    eventually("each is told of by its own name", || {
        let alerts = bed.alerts();
        ["init", "main", "debugger"].iter().all(|container| {
            ["file", "network"].iter().all(|family| {
                alerts.iter().any(|alert| {
                    alert["verdict"] == "denied"
                        && alert["family"] == *family
                        && alert["workload"]["name"] == "web-1"
                        && alert["workload"]["container"] == *container
                        && alert["rule"]["policyName"] == "web"
                })
            })
        })
    });
}

#[test]
fn host_kinds_a_pod_in_the_hosts_namespaces_is_held_by_its_own_policy_and_the_host_is_not() {
    let port = greeter();
    let mut bed = NodeBed::new(&[("web.yaml", &FORBIDS.replace("PORT", &port.to_string()))]);
    bed.start_node();
    let tries = TRIES_AT_ONCE.replace("PORT", &port.to_string());
    let namespaces = ["--net-host"];
    let agent = bed.container_with_host_pid(
        "c-agent",
        Labels { app: "web", pod: "agent-1", container: "agent" },
        &tries,
        &namespaces,
    );
    for namespace in ["pid", "net"] {
        let of = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/{namespace}")).unwrap();
        assert_eq!(of(&agent.pid.to_string()), of("self"), "hostPID and hostNetwork");
    }
    assert_held(&agent);
    // Nobody's policy is about this one, in the same namespaces.
    let other = bed.container_with_host_pid(
        "c-other",
        Labels { app: "other", pod: "other-1", container: "main" },
        &tries,
        &namespaces,
    );
    let first = first_acts(&other);
    assert!(first.contains("nobody reads this") && first.contains("result=ok"), "{first}");
    // Nor about the host's own processes, which are in them, too: the very file, the very port.
    assert!(fs::read_to_string(agent.file("/etc/bin/secret")).unwrap().contains("nobody reads this"));
    TcpStream::connect(("127.0.0.1", port)).unwrap();
    // What it tried first, and this for each CPU's ring: what was told before has come by then.
    let tries = 1 + try_again_on_each_cpu(&bed, &agent, port);
    eventually("the agent's last tries are told", || {
        let alerts = bed.alerts();
        let told = |family: &str| alerts.iter().filter(|alert| alert["family"] == family).count();
        told("network") >= tries && told("file") >= tries
    });
    let of_others = bed.alerts().into_iter().find(|alert| alert["workload"]["name"] != "agent-1");
    assert_eq!(of_others, None);
}

#[test]
fn host_kinds_tasks_are_held_in_child_cgroups_and_after_somebody_moved_them_out() {
    let port = greeter().to_string();
    let mut bed = NodeBed::new(&[("web.yaml", &FORBIDS.replace("PORT", &port))]);
    bed.start_node();
    let words = format!(
        "while true; do act connect 127.0.0.1 {port} >>/tmp/connects; cat /etc/bin/secret >>/tmp/reads 2>&1; sleep 0.1; done"
    );
    let web = bed.container("c-web", Labels { app: "web", pod: "web-1", container: "main" }, &words, &["--net-host"]);
    let lines = |name: &str| {
        let text = fs::read_to_string(web.file(name)).unwrap_or_default();
        text.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let goes_on = |what: &str| {
        let before = (lines("/tmp/connects").len(), lines("/tmp/reads").len());
        eventually(what, || lines("/tmp/connects").len() > before.0 + 5 && lines("/tmp/reads").len() > before.1 + 5);
    };
    let all_connects_denied = |what: &str| {
        let connects = lines("/tmp/connects");
        assert!(connects.iter().all(|line| line == "result=EPERM effect=absent"), "{what}: {connects:?}");
    };
    let all_reads_denied = |what: &str| {
        let reads = lines("/tmp/reads");
        assert!(reads.iter().all(|line| line.contains("not permitted")), "{what}: {reads:?}");
    };
    goes_on("it tries where it began");
    let child = web.cgroup().join("child");
    fs::create_dir(&child).unwrap();
    fs::write(child.join("cgroup.procs"), web.pid.to_string()).unwrap();
    goes_on("it tries in a child cgroup");
    all_connects_denied("a child cgroup is the workload's");
    all_reads_denied("a child cgroup is the workload's");

    let outside = unified().join(format!("palisade-outside-{}", std::process::id()));
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("cgroup.procs"), web.pid.to_string()).unwrap();
    goes_on("it tries outside");
    all_connects_denied("who was moved out is who it was");
    // Of opens, fanotify knows a thread by its cgroup, which is said; programs on hooks know it by itself.
    let kernel = bed.document("/v1/kernel");
    let file = kernel["families"].as_array().unwrap().iter().find(|family| family["family"] == "file").unwrap();
    if file["tier"] == "fanotify" {
        assert!(file.to_string().contains("who leaves the cgroup"), "{file}");
    } else {
        all_reads_denied("who was moved out is who it was");
    }
    bed.remove_pod("c-web");
    eventually("it is gone", || fs::remove_dir(&outside).is_ok());
}
