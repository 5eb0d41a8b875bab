//! What the kubelet asks of a runtime by the CRI, for one pod.
#![expect(clippy::unwrap_used, reason = "a panic is how a test's bed says that it cannot be made")]

use std::collections::HashMap;

use containerd_client::tonic::transport::Channel;
use k8s_cri::v1::{
    ContainerConfig, ContainerMetadata, CreateContainerRequest, ImageSpec, LinuxContainerConfig,
    LinuxContainerSecurityContext, LinuxPodSandboxConfig, LinuxSandboxSecurityContext, NamespaceMode, NamespaceOption,
    PodSandboxConfig, PodSandboxMetadata, RunPodSandboxRequest, StartContainerRequest,
    runtime_service_client::RuntimeServiceClient,
};
use palisade_world::Container;

use crate::support::{Follower, IMAGE, PrivateContainerd};

/// The labels that the kubelet puts on sandbox and container alike.
const KUBELET: [(&str, &str); 2] = [("io.kubernetes.pod.name", "web-1"), ("io.kubernetes.pod.namespace", "shop")];

fn labels(own: &[(&str, &str)]) -> HashMap<String, String> {
    KUBELET.iter().chain(own).map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// In the host's network namespace: no CNI is needed.
pub fn pod(containerd: &PrivateContainerd) -> PodSandboxConfig {
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

pub async fn create(
    cri: &mut RuntimeServiceClient<Channel>,
    sandbox: &str,
    pod: &PodSandboxConfig,
    name: &str,
) -> String {
    create_running(cri, sandbox, pod, name, &["/bin/sleep", "1000"]).await
}

pub async fn create_running(
    cri: &mut RuntimeServiceClient<Channel>,
    sandbox: &str,
    pod: &PodSandboxConfig,
    name: &str,
    command: &[&str],
) -> String {
    create_in(cri, sandbox, pod, name, command, None).await
}

pub async fn create_in(
    cri: &mut RuntimeServiceClient<Channel>,
    sandbox: &str,
    pod: &PodSandboxConfig,
    name: &str,
    command: &[&str],
    namespaces: Option<NamespaceOption>,
) -> String {
    let security = namespaces.map(|options| LinuxContainerSecurityContext {
        namespace_options: Some(options),
        ..LinuxContainerSecurityContext::default()
    });
    let config = ContainerConfig {
        metadata: Some(ContainerMetadata { name: name.into(), attempt: 0 }),
        image: Some(ImageSpec { image: IMAGE.into(), ..ImageSpec::default() }),
        command: command.iter().map(|word| (*word).to_owned()).collect(),
        linux: security.map(|security_context| LinuxContainerConfig {
            security_context: Some(security_context),
            ..LinuxContainerConfig::default()
        }),
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
pub async fn start<C: palisade_world::Containers>(
    cri: &mut RuntimeServiceClient<Channel>,
    follower: &mut Follower<C>,
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

pub async fn run_sandbox(cri: &mut RuntimeServiceClient<Channel>, pod: &PodSandboxConfig) -> String {
    let request = RunPodSandboxRequest { config: Some(pod.clone()), runtime_handler: String::new() };
    cri.run_pod_sandbox(request).await.expect("the pod's sandbox runs").into_inner().pod_sandbox_id
}
