//! Pods by the CRI, as the kubelet makes them.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a panic is how a test's bed says that it cannot be made")]

use std::collections::HashMap;

use crate::support::{Follower, IMAGE, PrivateContainerd, cgroup_inode};
use containerd_client::tonic::transport::Channel;
use k8s_cri::v1::{
    ContainerConfig, ContainerMetadata, CreateContainerRequest, ImageSpec, LinuxPodSandboxConfig,
    LinuxSandboxSecurityContext, NamespaceMode, NamespaceOption, PodSandboxConfig, PodSandboxMetadata,
    RemovePodSandboxRequest, RunPodSandboxRequest, StartContainerRequest, StopPodSandboxRequest,
    runtime_service_client::RuntimeServiceClient,
};
use palisade_world::Container;

/// The labels that the kubelet puts on sandbox and container alike.
const KUBELET: [(&str, &str); 2] = [("io.kubernetes.pod.name", "web-1"), ("io.kubernetes.pod.namespace", "shop")];

fn labels(own: &[(&str, &str)]) -> HashMap<String, String> {
    KUBELET.iter().chain(own).map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// In the host's network namespace: no CNI is needed.
fn pod(containerd: &PrivateContainerd) -> PodSandboxConfig {
    let network = NamespaceOption { network: NamespaceMode::Node.into(), ..NamespaceOption::default() };
    let security =
        LinuxSandboxSecurityContext { namespace_options: Some(network), ..LinuxSandboxSecurityContext::default() };
    PodSandboxConfig {
        metadata: Some(PodSandboxMetadata {
            name: "web-1".into(),
            uid: "u1".into(),
            namespace: "shop".into(),
            attempt: 0,
        }),
        log_directory: containerd.path("logs").display().to_string(),
        labels: labels(&[("app", "web")]),
        linux: Some(LinuxPodSandboxConfig {
            cgroup_parent: format!("/{}", containerd.pods_cgroup()),
            security_context: Some(security),
            ..LinuxPodSandboxConfig::default()
        }),
        ..PodSandboxConfig::default()
    }
}

async fn create(cri: &mut RuntimeServiceClient<Channel>, sandbox: &str, pod: &PodSandboxConfig, name: &str) -> String {
    let config = ContainerConfig {
        metadata: Some(ContainerMetadata { name: name.into(), attempt: 0 }),
        image: Some(ImageSpec { image: IMAGE.into(), ..ImageSpec::default() }),
        command: vec!["/bin/sleep".into(), "1000".into()],
        labels: labels(&[("io.kubernetes.container.name", name)]),
        log_path: format!("{name}.log"),
        ..ContainerConfig::default()
    };
    let request = CreateContainerRequest {
        pod_sandbox_id: sandbox.into(),
        config: Some(config),
        sandbox_config: Some(pod.clone()),
    };
    cri.create_container(request).await.expect("the container is created").into_inner().container_id
}

/// Starts a container and answers its hook: what the kubelet hears, and what the node heard.
async fn start(
    cri: &mut RuntimeServiceClient<Channel>,
    follower: &mut Follower,
    id: &str,
    answer: Result<(), String>,
) -> (Result<(), String>, Container) {
    let request = StartContainerRequest { container_id: id.to_owned() };
    let (started, announced) = tokio::join!(cri.start_container(request), async {
        let (container, admission) = follower.starting().await;
        admission.0.send(answer).unwrap();
        container
    });
    (started.map(|_| ()).map_err(|status| status.message().to_owned()), announced)
}

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
