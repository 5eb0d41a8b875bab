//! Pods by the CRI, as the kubelet makes them.
#![forbid(unsafe_code)]

use crate::{
    kubelet::{create, create_in, create_running, pod, run_sandbox, start},
    support::{IMAGE, PrivateContainerd, cgroup_inode},
};
use k8s_cri::v1::{
    NamespaceMode, NamespaceOption, RemovePodSandboxRequest, RunPodSandboxRequest, StartContainerRequest,
    StopPodSandboxRequest, runtime_service_client::RuntimeServiceClient,
};

#[tokio::test]
async fn host_pods_containers_are_held_by_the_base_specification_and_have_their_pods_labels() {
    let containerd = PrivateContainerd::start_with_cri();
    let mut cri = RuntimeServiceClient::new(containerd_client::connect(containerd.path("c.sock")).await.unwrap());
    let mut follower = containerd.follow();
    assert_eq!(follower.synchronize().await, Vec::<String>::new());

    let pod = pod(&containerd);
    let request = RunPodSandboxRequest { config: Some(pod.clone()), runtime_handler: String::new() };
    let sandbox = cri.run_pod_sandbox(request).await.expect("the pod's sandbox runs").into_inner().pod_sandbox_id;
    let paused = follower.started().await;
    assert_eq!(
        (paused.id.0.as_str(), paused.pod.as_str()),
        (sandbox.as_str(), "web-1"),
        "the CRI gives no hook to sandboxes"
    );

    let id = create(&mut cri, &sandbox, &pod, "main").await;
    let (started, announced) = start(&mut cri, &mut follower, &id, Ok(())).await;
    assert_eq!(started, Ok(()), "it starts once admitted");
    assert_eq!((announced.id.0.as_str(), announced.runtime_namespace.as_str()), (id.as_str(), "k8s.io"));
    assert_eq!(
        (announced.pod.as_str(), announced.namespace.as_str(), announced.name.as_str()),
        ("web-1", "shop", "main")
    );
    assert_eq!(announced.image, IMAGE);
    assert_eq!(announced.labels["app"], "web", "only the sandbox has the pod's labels");
    assert!(announced.root.as_ref().unwrap().join("bin/busybox").exists());
    assert_eq!(announced.cgroup.0, cgroup_inode(announced.pid));
    assert!(announced.cgroup_path.starts_with(format!("/{}", containerd.pods_cgroup())), "{:?}", announced.cgroup_path);
    assert_eq!(follower.started().await, announced);

    // A node that comes later finds the same, but for what only the hook tells.
    let mut late = containerd.follow_without_hooks();
    assert_eq!(late.synchronize().await.len(), 2);

    let second = create(&mut cri, &sandbox, &pod, "second").await;
    let (started, _) = start(&mut cri, &mut follower, &second, Err("not this one".to_owned())).await;
    let said = started.unwrap_err();
    assert!(said.contains("is refused: not this one"), "the kubelet hears why: {said}");
    assert_eq!(follower.stopped().await, second);

    cri.stop_pod_sandbox(StopPodSandboxRequest { pod_sandbox_id: sandbox.clone() }).await.unwrap();
    let mut stopped = [follower.stopped().await, follower.stopped().await];
    let mut expected = [id, sandbox.clone()];
    stopped.sort();
    expected.sort();
    assert_eq!(stopped, expected);
    cri.remove_pod_sandbox(RemovePodSandboxRequest { pod_sandbox_id: sandbox }).await.unwrap();
}

#[tokio::test]
async fn host_pods_are_followed_by_the_cri_alone_with_their_init_and_late_containers() {
    let containerd = PrivateContainerd::start_with_cri();
    let mut cri = RuntimeServiceClient::new(containerd_client::connect(containerd.path("c.sock")).await.unwrap());
    let pod = pod(&containerd);
    let sandbox = run_sandbox(&mut cri, &pod).await;
    let mut follower = containerd.follow_by_cri();
    assert_eq!(follower.synchronize().await, [format!("+{sandbox}")], "what ran before");

    // As the kubelet does with an init container: it runs to its end before the pod's main one is made.
    let init = create_running(&mut cri, &sandbox, &pod, "init", &["/bin/sleep", "2"]).await;
    let (started, announced) = start(&mut cri, &mut follower, &init, Ok(())).await;
    assert_eq!(started, Ok(()));
    assert_eq!(
        (announced.pod.as_str(), announced.namespace.as_str(), announced.name.as_str()),
        ("web-1", "shop", "init")
    );
    assert_eq!((announced.image.as_str(), announced.labels["app"].as_str()), (IMAGE, "web"));
    assert_eq!(announced.cgroup.0, cgroup_inode(announced.pid));
    assert_eq!(follower.started().await.id, announced.id);
    assert_eq!(follower.stopped().await, init, "its end is told");

    let id = create(&mut cri, &sandbox, &pod, "main").await;
    let (_, announced) = start(&mut cri, &mut follower, &id, Ok(())).await;
    let started = follower.started().await;
    assert_eq!((&started.id, started.cgroup, started.pid), (&announced.id, announced.cgroup, announced.pid));

    // An ephemeral container is one more in a pod that runs, in its target's PID namespace.
    let mut sharing = pod.clone();
    let target = NamespaceOption {
        network: NamespaceMode::Node.into(),
        pid: NamespaceMode::Target.into(),
        target_id: id.clone(),
        ..NamespaceOption::default()
    };
    let linux = sharing.linux.as_mut().unwrap();
    linux.security_context.as_mut().unwrap().namespace_options = Some(target.clone());
    let debugger = create_in(&mut cri, &sandbox, &sharing, "debugger", &["/bin/sleep", "1000"], Some(target)).await;
    let (started, ephemeral) = start(&mut cri, &mut follower, &debugger, Ok(())).await;
    assert_eq!(started, Ok(()));
    assert_eq!((ephemeral.pod.as_str(), ephemeral.name.as_str()), ("web-1", "debugger"));
    let pid_namespace = |pid: u32| std::fs::read_link(format!("/proc/{pid}/ns/pid")).unwrap();
    assert_eq!(follower.started().await.id, ephemeral.id);
    assert_eq!(pid_namespace(ephemeral.pid), pid_namespace(announced.pid), "it sees the target's processes");
    assert_ne!(ephemeral.cgroup, announced.cgroup, "and is a workload of its own");

    // A refusal by the CRI's hook is the same as by containerd's.
    let refused = create(&mut cri, &sandbox, &pod, "refused").await;
    let (started, _) = start(&mut cri, &mut follower, &refused, Err("not this one".to_owned())).await;
    assert!(started.unwrap_err().contains("is refused: not this one"));
    assert_eq!(follower.stopped().await, refused);

    cri.stop_pod_sandbox(StopPodSandboxRequest { pod_sandbox_id: sandbox.clone() }).await.unwrap();
    let mut stopped = [follower.stopped().await, follower.stopped().await, follower.stopped().await];
    let mut expected = [id, debugger, sandbox.clone()];
    stopped.sort();
    expected.sort();
    assert_eq!(stopped, expected);
    cri.remove_pod_sandbox(RemovePodSandboxRequest { pod_sandbox_id: sandbox }).await.unwrap();
}

#[tokio::test]
async fn host_pods_that_share_the_hosts_processes_are_containers_by_their_cgroups() {
    let containerd = PrivateContainerd::start_with_cri();
    let mut cri = RuntimeServiceClient::new(containerd_client::connect(containerd.path("c.sock")).await.unwrap());
    let mut pod = pod(&containerd);
    let host = NamespaceOption {
        network: NamespaceMode::Node.into(),
        pid: NamespaceMode::Node.into(),
        ipc: NamespaceMode::Node.into(),
        ..NamespaceOption::default()
    };
    pod.linux.as_mut().unwrap().security_context.as_mut().unwrap().namespace_options = Some(host.clone());
    let mut follower = containerd.follow_by_cri();
    follower.synchronize().await;
    let sandbox = run_sandbox(&mut cri, &pod).await;
    assert_eq!(follower.started().await.id.0, sandbox);
    let id = create_in(&mut cri, &sandbox, &pod, "agent", &["/bin/sleep", "1000"], Some(host)).await;
    let (started, announced) = start(&mut cri, &mut follower, &id, Ok(())).await;
    assert_eq!(started, Ok(()));
    for namespace in ["pid", "net"] {
        let of = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/{namespace}")).unwrap();
        assert_eq!(of(&announced.pid.to_string()), of("self"), "hostPID and hostNetwork");
    }
    assert_eq!((announced.pod.as_str(), announced.name.as_str()), ("web-1", "agent"));
    assert_eq!(announced.cgroup.0, cgroup_inode(announced.pid));
    assert_ne!(announced.cgroup.0, cgroup_inode(std::process::id()), "and yet not the host's");
    cri.stop_pod_sandbox(StopPodSandboxRequest { pod_sandbox_id: sandbox.clone() }).await.unwrap();
    cri.remove_pod_sandbox(RemovePodSandboxRequest { pod_sandbox_id: sandbox }).await.unwrap();
}

/// While a container waits in its hook, containerd's shim answers for none of its pod: what runs there must not be taken for ended.
#[tokio::test]
async fn host_pods_whose_shim_is_held_up_by_a_hook_are_not_forgotten_at_a_new_connection() {
    let mut containerd = PrivateContainerd::start_with_cri();
    let mut cri = RuntimeServiceClient::new(containerd_client::connect(containerd.path("c.sock")).await.unwrap());
    let pod = pod(&containerd);
    let mut follower = containerd.follow();
    follower.synchronize().await;
    let sandbox = run_sandbox(&mut cri, &pod).await;
    assert_eq!(follower.started().await.id.0, sandbox);
    let id = create(&mut cri, &sandbox, &pod, "main").await;
    let (started, _) = start(&mut cri, &mut follower, &id, Ok(())).await;
    assert_eq!(started, Ok(()));
    assert_eq!(follower.started().await.id.0, id);

    let late = create(&mut cri, &sandbox, &pod, "late").await;
    let request = StartContainerRequest { container_id: late.clone() };
    let waiting = tokio::spawn(async move { cri.start_container(request).await });
    let (container, admission) = follower.starting().await;
    assert_eq!(container.id.0, late);
    containerd.kill();
    assert!(follower.try_next().await.is_err());
    containerd.start_again();
    // Both are told again, none has stopped, though no shim says a word.
    let told = follower.synchronize_over_errors().await;
    assert!(!told.iter().any(|told| told.starts_with('-')), "{told:?}");
    for id in [&id, &sandbox] {
        assert!(told.contains(&format!("+{id}")), "{told:?}");
    }
    admission.0.send(Ok(())).unwrap();
    waiting.await.unwrap().unwrap_err();
}
