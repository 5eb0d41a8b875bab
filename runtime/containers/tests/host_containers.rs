//! Real containers of a real containerd, started through the hook and without it. Ring: host (root).
#![forbid(unsafe_code)]

mod conformance;
mod kubelet;
mod pods;
#[expect(dead_code, reason = "shared with the tests of NRI")]
mod support;

use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Command, time::Duration};

use palisade_containers::Endpoint;
use palisade_world::{ContainerChange, Containers};
use support::{Follower, PrivateContainerd, Run, cgroup_inode, succeed};

/// Runs `ctr` and follows at once; what the follower is asked meanwhile is `$then`'s.
macro_rules! while_running {
    ($containerd:expr, $run:expr, $then:expr) => {{
        let run = $run;
        tokio::join!($containerd.run(&run), $then)
    }};
}

fn error_of(output: &std::process::Output) -> String {
    assert!(!output.status.success(), "the container started");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test]
async fn host_containers_tell_a_start_before_its_first_instruction() {
    let containerd = PrivateContainerd::start();
    let out = tempfile::tempdir().unwrap();
    let marker = out.path().join("ran");
    let mut follower = containerd.follow();
    assert_eq!(follower.synchronize().await, Vec::<String>::new());
    let run = Run {
        labels: &[("io.kubernetes.pod.name", "web-1"), ("io.kubernetes.pod.namespace", "shop"), ("app", "web")],
        out: Some(out.path()),
        command: &["/bin/sh", "-c", "echo yes >/out/ran; exec sleep 1000"],
        ..Run::default()
    };
    let (output, announced) = while_running!(containerd, run, async {
        let (container, admission) = follower.starting().await;
        assert!(!marker.exists());
        let inode = cgroup_inode(container.pid);
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert!(!marker.exists(), "nothing of the container runs while its hook waits");
        assert_eq!(container.cgroup.0, inode, "the cgroup is final");
        assert!(container.root.as_ref().unwrap().join("bin/busybox").exists(), "its root is mounted on the host");
        admission.0.send(Ok(())).unwrap();
        container
    });
    assert!(output.status.success(), "{output:?}");
    assert_eq!(
        (announced.pod.as_str(), announced.namespace.as_str(), announced.name.as_str()),
        ("web-1", "shop", "c1")
    );
    assert_eq!((announced.image.as_str(), announced.labels["app"].as_str()), (support::IMAGE, "web"));
    assert_eq!(announced.runtime_namespace, containerd.namespace);
    let started = follower.started().await;
    assert_eq!(started, announced);
    assert_eq!(started.pid, containerd.pid_of("c1"));
    assert_eq!(started.cgroup.0, cgroup_inode(started.pid), "the same cgroup after the start");
    let mut tries = 0..100;
    while !marker.exists() && tries.next().is_some() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(marker.exists(), "it ran once admitted");

    containerd.ctr(&["tasks", "exec", "--exec-id", "e1", "c1", "/bin/true"]);
    containerd.ctr(&["tasks", "kill", "--signal", "KILL", "c1"]);
    assert_eq!(follower.stopped().await, "c1", "the end of an exec is not the container's");
}

#[tokio::test]
async fn host_containers_that_are_refused_do_not_start() {
    let containerd = PrivateContainerd::start();
    let out = tempfile::tempdir().unwrap();
    let mut follower = containerd.follow();
    follower.synchronize().await;
    let run = |id| Run { id, out: Some(out.path()), command: &["/bin/touch", "/out/ran"], ..Run::default() };
    let (output, ()) = while_running!(containerd, run("c1"), async {
        let (_, admission) = follower.starting().await;
        admission.0.send(Err("its policy is broken".to_owned())).unwrap();
    });
    let said = error_of(&output);
    assert!(said.contains("container c1 is refused: its policy is broken"), "{said}");
    assert_eq!(follower.stopped().await, "c1");

    let (output, ()) = while_running!(containerd, run("c2"), async {
        let (_, admission) = follower.starting().await;
        drop(admission);
    });
    let said = error_of(&output);
    assert!(said.contains("unanswered"), "{said}");
    assert_eq!(follower.stopped().await, "c2");
    assert!(!out.path().join("ran").exists(), "neither ran");
}

#[tokio::test]
async fn host_containers_do_not_start_without_a_node_unless_told_to_fail_open() {
    let containerd = PrivateContainerd::start();
    let said = error_of(&containerd.run(&Run::default()).await);
    assert!(said.contains("no node at") && said.contains("hook.sock"), "{said}");
    containerd.write_hook(&["--fail-open"]);
    assert!(containerd.run(&Run { id: "c2", ..Run::default() }).await.status.success());
    let mut follower = containerd.follow();
    assert_eq!(follower.synchronize().await, ["+c2"], "it is found later, and the one that failed is not");
    let (output, ()) = while_running!(containerd, Run { id: "c3", ..Run::default() }, async {
        let (_, admission) = follower.starting().await;
        admission.0.send(Err("no".to_owned())).unwrap();
    });
    assert!(error_of(&output).contains("refused: no"), "a node that refuses is obeyed");
}

#[tokio::test]
async fn host_containers_whose_node_takes_too_long_do_not_start() {
    let containerd = PrivateContainerd::start();
    containerd.write_hook(&["--timeout-ms", "300"]);
    let mut follower = containerd.follow();
    follower.synchronize().await;
    let (output, admission) = while_running!(containerd, Run::default(), async { follower.starting().await.1 });
    assert!(error_of(&output).contains("did not answer in 300 ms"));
    assert_eq!(follower.stopped().await, "c1", "whoever prepared for it is told");
    assert!(admission.0.send(Ok(())).is_err(), "too late to admit");
}

#[tokio::test]
async fn host_containers_of_a_long_specification_hide_no_other() {
    let containerd = PrivateContainerd::start();
    // Past what gRPC libraries take by default, within what containerd sends; ctr reads lines of less than 64 KiB.
    let environment: String = (0..90).map(|n| format!("A{n}={}\n", "x".repeat(60 << 10))).collect();
    fs::write(containerd.path("env"), environment).unwrap();
    let file = containerd.path("env").display().to_string();
    containerd.ctr(&["containers", "create", "--env-file", &file, support::IMAGE, "long"]);
    assert!(containerd.run(&Run { hook: false, ..Run::default() }).await.status.success());
    assert_eq!(containerd.follow_without_hooks().synchronize().await, ["+c1"]);
}

#[tokio::test]
async fn host_containers_that_ran_before_are_told_at_connection() {
    let containerd = PrivateContainerd::start();
    for id in ["old-1", "old-2"] {
        assert!(
            containerd
                .run(&Run { id, hook: false, labels: &[("app", "web")], ..Run::default() })
                .await
                .status
                .success()
        );
    }
    let mut follower = containerd.follow();
    assert_eq!(follower.synchronize().await, ["+old-1", "+old-2"]);
    // Labels may change while it runs.
    containerd.ctr(&["containers", "label", "old-1", "app=api"]);
    let told = follower.started().await;
    assert_eq!((told.id.0.as_str(), told.labels["app"].as_str()), ("old-1", "api"));
    assert_eq!(told.cgroup.0, cgroup_inode(told.pid));
    assert!(told.root.unwrap().join("etc/bin/secret").exists());
    // One that no hook announces is told when it runs.
    assert!(containerd.run(&Run { id: "new", hook: false, ..Run::default() }).await.status.success());
    assert_eq!(follower.started().await.id.0, "new");
    containerd.ctr(&["tasks", "delete", "--force", "old-2"]);
    assert_eq!(follower.stopped().await, "old-2");
    containerd.ctr(&["containers", "delete", "old-2"]);
    containerd.ctr(&["tasks", "kill", "--signal", "KILL", "new"]);
    assert_eq!(follower.stopped().await, "new", "and nothing more of old-2");
}

#[tokio::test]
async fn host_containers_of_two_namespaces_with_one_id_are_two() {
    let containerd = PrivateContainerd::start();
    let image = containerd.path("image.tar");
    let other = format!("{}-b", containerd.namespace);
    assert!(containerd.run(&Run { hook: false, ..Run::default() }).await.status.success());
    succeed(containerd.ctr_command(&["--namespace", &other, "images", "import"]).arg(&image));
    succeed(&mut containerd.ctr_command(&[
        "--namespace",
        &other,
        "run",
        "--detach",
        support::IMAGE,
        "c1",
        "/bin/sleep",
        "1000",
    ]));
    let mut follower = containerd.follow();
    assert_eq!(follower.synchronize().await, ["+c1".to_owned(), format!("+{other}/c1")]);
    succeed(&mut containerd.ctr_command(&["--namespace", &other, "tasks", "kill", "--signal", "KILL", "c1"]));
    assert_eq!(follower.stopped().await, format!("{other}/c1"));
}

#[tokio::test]
async fn host_containers_are_told_anew_after_a_restart_of_containerd() {
    let mut containerd = PrivateContainerd::start();
    for id in ["stays", "ends"] {
        assert!(containerd.run(&Run { id, hook: false, ..Run::default() }).await.status.success());
    }
    let mut follower = containerd.follow();
    assert_eq!(follower.synchronize().await, ["+ends", "+stays"]);
    let ends = containerd.pid_of("ends");
    containerd.kill();
    assert!(follower.try_next().await.is_err(), "the loss of containerd is said");
    assert!(follower.try_next().await.is_err(), "and said again while it is away");
    succeed(Command::new("kill").args(["-KILL", &ends.to_string()]));
    containerd.start_again();
    assert_eq!(follower.synchronize().await, ["+stays", "-ends"]);
    let (output, announced) = while_running!(containerd, Run { id: "after", ..Run::default() }, async {
        let (container, admission) = follower.starting().await;
        admission.0.send(Ok(())).unwrap();
        container
    });
    assert!(output.status.success(), "{output:?}");
    assert_eq!(follower.started().await, announced, "hooks and events go on");
}

#[tokio::test]
async fn host_containers_of_a_containerd_that_hangs_are_kept_and_its_silence_is_said_in_time() {
    let containerd = PrivateContainerd::start();
    assert!(containerd.run(&Run { id: "stays", hook: false, ..Run::default() }).await.status.success());
    let mut follower = containerd.follow();
    assert_eq!(follower.synchronize().await, ["+stays"]);
    containerd.signal("STOP");
    let begun = tokio::time::Instant::now();
    let said =
        follower.try_next().await.expect_err("a runtime that hangs is not one where nothing happens").to_string();
    let silence = begun.elapsed();
    assert!(said.contains("no answer in time"), "{said}");
    assert!(silence < Duration::from_secs(9), "known after {silence:?}");
    let again = follower.try_next().await.expect_err("it still hangs").to_string();
    assert!(again.contains("no answer in time"), "{again}");
    containerd.signal("CONT");
    assert_eq!(follower.synchronize_over_errors().await, ["+stays"], "told anew, and not as ended in between");
    println!("silence known after {silence:?}");
}

/// Slower than the node's own looks at what has ended, which come each second.
#[tokio::test]
async fn host_containers_of_a_slow_containerd_are_told_and_start() {
    let containerd = PrivateContainerd::start();
    assert!(containerd.run(&Run { id: "before", hook: false, ..Run::default() }).await.status.success());
    let mut follower = containerd.follow_as_node_slowly(Duration::from_millis(300));
    assert_eq!(follower.synchronize().await, ["+before"]);
    let (started, id) = while_running!(containerd, Run { id: "hooked", ..Run::default() }, async {
        let (container, admission) = follower.starting().await;
        admission.0.send(Ok(())).unwrap();
        container.id.0
    });
    assert!(started.status.success(), "{}", String::from_utf8_lossy(&started.stderr));
    assert_eq!(id, "hooked");
}

#[tokio::test]
async fn host_containers_a_node_says_of_a_containerd_that_hangs_that_it_does() {
    let containerd = PrivateContainerd::start();
    let mut follower = containerd.follow_as_node(Endpoint::Containerd(containerd.socket()));
    assert_eq!(follower.synchronize().await, Vec::<String>::new());
    containerd.signal("STOP");
    let said =
        follower.try_next().await.expect_err("a runtime that hangs is not one where nothing happens").to_string();
    containerd.signal("CONT");
    assert!(said.contains("no answer in time"), "{said}");
}

#[tokio::test]
async fn host_containers_that_start_while_the_node_connects_are_told_once() {
    let containerd = PrivateContainerd::start();
    let ids: Vec<String> = (0..8).map(|n| format!("c{n}")).collect();
    let starts = async {
        for id in &ids {
            assert!(containerd.run(&Run { id, hook: false, ..Run::default() }).await.status.success());
        }
    };
    // Each connection is made at another moment of the starts, and is followed to the last of them.
    let follow = async |wait: u64| {
        tokio::time::sleep(Duration::from_millis(wait)).await;
        let mut follower = containerd.follow_without_hooks();
        let (mut told, mut synchronized) = (Vec::new(), 0);
        while told.len() < ids.len() || synchronized == 0 {
            match follower.next().await {
                ContainerChange::Started(container) => told.push(container.id.0),
                ContainerChange::Synchronized => synchronized += 1,
                other => panic!("unexpected: {other:?}"),
            }
        }
        told.sort();
        (told, synchronized, follower)
    };
    let ((), one, two, three) = tokio::join!(starts, follow(0), follow(400), follow(900));
    for (told, synchronized, mut follower) in [one, two, three] {
        assert_eq!(told, ids);
        assert_eq!(synchronized, 1);
        assert_quiet(&mut follower).await;
    }
}

/// Nothing more is told, duplicates above all.
async fn assert_quiet(follower: &mut Follower) {
    let more = tokio::time::timeout(Duration::from_millis(300), follower.next()).await;
    assert!(more.is_err(), "told once more: {more:?}");
}

#[tokio::test]
async fn host_containers_survive_a_call_that_is_dropped_at_every_await() {
    let containerd = PrivateContainerd::start();
    let mut follower = containerd.follow();
    follower.synchronize().await;
    let drop_often = async {
        loop {
            let Ok(change) = tokio::time::timeout(Duration::from_micros(200), follower.0.next()).await else {
                continue;
            };
            match change.expect("containerd is there") {
                ContainerChange::Starting(_, admission) => admission.0.send(Ok(())).unwrap(),
                ContainerChange::Started(container) => break container.id.0,
                other => panic!("unexpected: {other:?}"),
            }
        }
    };
    let (output, started) = while_running!(containerd, Run::default(), drop_often);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(started, "c1");
    let mode = fs::metadata(containerd.hook_socket()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "only root may ask");
}

/// 20 of them; `PALISADE_CHURN` says how many else.
#[tokio::test]
async fn host_containers_that_live_for_a_moment_are_told_to_their_end_and_leave_nothing() {
    let count: u32 = std::env::var("PALISADE_CHURN").ok().and_then(|count| count.parse().ok()).unwrap_or(20);
    let containerd = PrivateContainerd::start();
    let mut follower = containerd.follow_as_node(palisade_containers::Endpoint::Containerd(containerd.socket()));
    assert_eq!(follower.synchronize().await, Vec::<String>::new());
    let resident = || {
        let statm = fs::read_to_string("/proc/self/statm").unwrap();
        statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
    };
    let mut memory = 0;
    let begun = tokio::time::Instant::now();
    for number in 0..count {
        let id = format!("short-{number}");
        let (output, ()) =
            while_running!(containerd, Run { id: &id, command: &["/bin/true"], ..Run::default() }, async {
                let (container, admission) = follower.starting().await;
                assert_eq!(container.id.0, id);
                admission.0.send(Ok(())).unwrap();
            });
        assert!(output.status.success(), "{output:?}");
        // Its start may be told, or its end come first; told it is, once, and as the last word.
        loop {
            match follower.next().await {
                ContainerChange::Started(container) => assert_eq!(container.id.0, id),
                ContainerChange::Stopped(stopped) => break assert_eq!(stopped.0, id),
                other => panic!("unexpected: {other:?}"),
            }
        }
        containerd.ctr(&["tasks", "delete", &id]);
        containerd.ctr(&["containers", "delete", &id]);
        if number == count / 4 {
            memory = resident();
        }
    }
    let after = resident();
    println!("{count} containers in {:?}: resident {} -> {} KiB", begun.elapsed(), memory / 1024, after / 1024);
    assert!(after < memory + (4 << 20), "{memory} -> {after}");
    let more = tokio::time::timeout(Duration::from_millis(1500), follower.next()).await;
    assert!(more.is_err(), "nothing more: {more:?}");
}

#[test]
fn host_hook_wrapper_puts_the_hook_into_what_is_created_and_touches_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let wrapper = folder.path().join("runc-with-hook");
    let written = fs::canonicalize(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/hooks/runc-with-hook"));
    std::os::unix::fs::symlink(written.unwrap(), &wrapper).unwrap();
    fs::write(folder.path().join("hook.json"), r#"{"path": "/bin/palisade"}"#).unwrap();
    let bundle = folder.path().join("bundle");
    fs::create_dir(&bundle).unwrap();
    let run = |words: &[&str]| {
        fs::write(bundle.join("config.json"), r#"{"hooks": {"createRuntime": [{"path": "/bin/other"}]}}"#).unwrap();
        let mut runc = Command::new(&wrapper);
        let said = succeed(runc.env("RUNC", "echo").current_dir(folder.path()).args(words));
        assert_eq!(said.trim(), words.join(" "), "runc gets every word");
        fs::read_to_string(bundle.join("config.json")).unwrap().contains("/bin/palisade")
    };
    assert!(run(&["--root", "/run/runc", "create", "--bundle", "bundle", "c1"]));
    assert!(run(&["--log", "create", "run", "-b", "bundle", "c1"]), "a file called create");
    assert!(run(&["create", "--bundle=bundle", "kill"]));
    // There is no configuration where these run.
    assert!(!run(&["--root", "/run/runc", "kill", "create", "KILL"]));
    assert!(!run(&["--root", "run", "delete", "--force", "run"]));
    assert!(!run(&["state", "run"]));
}
