//! The node as a plugin of a real containerd's NRI. Ring: host (root).
//!
//! Debian 12's containerd has none: `tests/containerd/fetch.sh` unpacks a newer one. Where it cannot be had, what needs it is skipped, with the
//! reason; what happens without any runtime is tested all the same.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[expect(dead_code, reason = "shared with the tests of the APIs")]
mod kubelet;
#[expect(dead_code, reason = "shared with the tests of the APIs")]
mod support;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use containerd_client::tonic::transport::Channel;
use k8s_cri::v1::{
    PodSandboxConfig, RemovePodSandboxRequest, StartContainerRequest, StopContainerRequest, StopPodSandboxRequest,
    runtime_service_client::RuntimeServiceClient,
};
use kubelet::{create_running, pod, run_sandbox};
use palisade_containers::{
    Endpoint, NodeConfig, NodeContainers,
    nri::{NriConfig, NriSocket},
};
use palisade_world::{Admission, Container, ContainerChange};
use support::{Follower, NodeFollower, PrivateContainerd, cgroup_inode};
use tokio::time::{Instant, sleep};

/// It does not listen to SIGTERM: a container of a pod is not the first of its PID namespace.
const ECHO: [&str; 3] = ["/bin/sh", "-c", "trap '' TERM; echo ran; exec sleep 1000"];

/// The folder of a containerd with NRI; `None`, and the reason printed, where there is none.
fn programs() -> Option<PathBuf> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/containerd/fetch.sh");
    let fetched = Command::new(script).output().unwrap();
    if !fetched.status.success() {
        println!("skipped: no containerd with NRI: {}", String::from_utf8_lossy(&fetched.stderr));
        return None;
    }
    Some(String::from_utf8(fetched.stdout).unwrap().trim().into())
}

struct Bed {
    containerd: PrivateContainerd,
    cri: RuntimeServiceClient<Channel>,
    follower: NodeFollower,
    pod: PodSandboxConfig,
    sandbox: String,
}

impl Bed {
    /// A pod without containers, and a node that is registered.
    async fn start(programs: &Path, base_specification: bool, endpoint: impl FnOnce(PathBuf) -> Endpoint) -> Self {
        let containerd = PrivateContainerd::start_with_nri(programs, base_specification);
        let mut cri = RuntimeServiceClient::new(containerd_client::connect(containerd.socket()).await.unwrap());
        let pod = pod(&containerd);
        let sandbox = run_sandbox(&mut cri, &pod).await;
        let mut follower = containerd.follow_as_plugin(endpoint(containerd.socket()));
        synchronized(&mut follower).await;
        let mut this = Self { containerd, cri, follower, pod, sandbox };
        this.registered(1).await;
        this
    }

    /// Until containerd has registered the plugin so often, by its own words.
    async fn registered(&mut self, times: usize) {
        for _ in 0..1000 {
            let log = self.containerd.log();
            if log.lines().filter(|line| line.contains("90-palisade") && line.contains("connected")).count() >= times {
                return;
            }
            sleep(Duration::from_millis(20)).await;
        }
        panic!("not registered: {}", self.containerd.log());
    }

    async fn create(&mut self, name: &str, command: &[&str]) -> String {
        create_running(&mut self.cri, &self.sandbox, &self.pod, name, command).await
    }

    /// Lets it start, and what the kubelet hears in the end.
    fn begin(&self, id: &str) -> tokio::task::JoinHandle<Result<(), String>> {
        let (mut cri, request) = (self.cri.clone(), StartContainerRequest { container_id: id.to_owned() });
        tokio::spawn(async move {
            cri.start_container(request).await.map(|_| ()).map_err(|status| status.message().to_owned())
        })
    }

    /// The announcement of this container, whatever else is told. A start that ends before it was not waited for.
    async fn starting(
        &mut self,
        id: &str,
        kubelet: &mut tokio::task::JoinHandle<Result<(), String>>,
    ) -> (Container, Admission) {
        loop {
            let change = tokio::select! {
                change = self.follower.try_next() => change,
                ended = &mut *kubelet => panic!("not waited for: {ended:?}: {}", self.containerd.log()),
            };
            match change {
                Ok(ContainerChange::Starting(container, admission)) if container.id.0 == id => {
                    break (container, admission);
                }
                Ok(ContainerChange::Starting(container, _)) => panic!("another starts: {container:?}"),
                _ => {}
            }
        }
    }

    /// The first that is told of this container.
    async fn next_of(&mut self, id: &str) -> ContainerChange {
        loop {
            let change = self.follower.next().await;
            let of = match &change {
                ContainerChange::Starting(container, _) | ContainerChange::Started(container) => &container.id.0,
                ContainerChange::Stopped(stopped) => &stopped.0,
                ContainerChange::Synchronized | ContainerChange::Limited(_) => continue,
            };
            if of == id {
                return change;
            }
        }
    }

    fn output(&self, name: &str) -> String {
        fs::read_to_string(self.containerd.path("logs").join(format!("{name}.log"))).unwrap_or_default()
    }

    /// Hooks of createRuntime in what runc was given.
    fn hooks(&self, id: &str) -> usize {
        let config = self.containerd.path("state/io.containerd.runtime.v2.task/k8s.io").join(id).join("config.json");
        let config: serde_json::Value = serde_json::from_slice(&fs::read(config).unwrap()).unwrap();
        config["hooks"]["createRuntime"].as_array().map_or(0, Vec::len)
    }

    async fn end(mut self) {
        let pod_sandbox_id = self.sandbox.clone();
        self.cri.stop_pod_sandbox(StopPodSandboxRequest { pod_sandbox_id: pod_sandbox_id.clone() }).await.unwrap();
        self.cri.remove_pod_sandbox(RemovePodSandboxRequest { pod_sandbox_id }).await.unwrap();
    }
}

async fn synchronized(follower: &mut NodeFollower) {
    while !matches!(follower.next().await, ContainerChange::Synchronized) {}
}

#[tokio::test]
async fn host_nri_container_without_a_base_specification_is_admitted_before_its_first_instruction() {
    let Some(programs) = programs() else { return };
    let mut bed = Bed::start(&programs, false, Endpoint::Containerd).await;
    let id = bed.create("main", &ECHO).await;
    let mut kubelet = bed.begin(&id);
    let (announced, admission) = bed.starting(&id, &mut kubelet).await;
    assert_eq!(
        (announced.pod.as_str(), announced.namespace.as_str(), announced.name.as_str()),
        ("web-1", "shop", "main")
    );
    assert_eq!(announced.labels["app"], "web");
    assert_eq!(announced.cgroup.0, cgroup_inode(announced.pid));
    assert_eq!(bed.hooks(&id), 1);
    sleep(Duration::from_millis(500)).await;
    let process = fs::read_to_string(format!("/proc/{}/comm", announced.pid)).unwrap();
    assert!(process.starts_with("runc"), "it is the runtime's still: {process}");
    assert!(!kubelet.is_finished() && bed.output("main").is_empty(), "and nothing of it ran");
    admission.0.send(Ok(())).unwrap();
    assert!(matches!(bed.next_of(&id).await, ContainerChange::Started(_)));
    assert_eq!(kubelet.await.unwrap(), Ok(()));
    for _ in 0..100 {
        sleep(Duration::from_millis(20)).await;
        if bed.output("main").contains("ran") {
            break;
        }
    }
    assert!(bed.output("main").contains("ran"), "it ran once admitted: {:?}", bed.output("main"));

    let refused = bed.create("refused", &ECHO).await;
    let mut kubelet = bed.begin(&refused);
    let (_, admission) = bed.starting(&refused, &mut kubelet).await;
    admission.0.send(Err("not this one".to_owned())).unwrap();
    let said = kubelet.await.unwrap().unwrap_err();
    assert!(said.contains("is refused: not this one"), "{said}");
    assert!(matches!(bed.next_of(&refused).await, ContainerChange::Stopped(_)));
    assert_eq!(bed.output("refused"), "");

    // It is held through its whole time of grace.
    let (mut cri, asked) = (bed.cri.clone(), StopContainerRequest { container_id: id.clone(), timeout: 3 });
    let begun = Instant::now();
    let stop = tokio::spawn(async move { cri.stop_container(asked).await });
    assert!(matches!(bed.next_of(&id).await, ContainerChange::Stopped(_)));
    assert!(begun.elapsed() > Duration::from_millis(2500), "let go at the beginning of its end: {:?}", begun.elapsed());
    stop.await.unwrap().unwrap();
    bed.end().await;
}

#[tokio::test]
async fn host_nri_container_whose_base_specification_has_the_hook_gets_it_once() {
    let Some(programs) = programs() else { return };
    let mut bed = Bed::start(&programs, true, Endpoint::Containerd).await;
    let id = bed.create("main", &ECHO).await;
    let mut kubelet = bed.begin(&id);
    let (_, admission) = bed.starting(&id, &mut kubelet).await;
    assert_eq!(bed.hooks(&id), 1);
    admission.0.send(Ok(())).unwrap();
    assert!(matches!(bed.next_of(&id).await, ContainerChange::Started(_)), "announced once");
    assert_eq!(kubelet.await.unwrap(), Ok(()));
    bed.end().await;
}

#[tokio::test]
async fn host_nri_plugin_comes_back_with_its_runtime_and_says_meanwhile_what_is_lacking() {
    let Some(programs) = programs() else { return };
    let mut bed = Bed::start(&programs, false, Endpoint::Containerd).await;
    bed.containerd.kill();
    let lacking = bed.follower.limited().await.expect("something is lacking");
    assert!(lacking.contains("nri.sock") && lacking.contains("gets no hook"), "{lacking}");
    bed.containerd.start_again();
    let begun = Instant::now();
    // By the API, too: while a container waits in its hook its pod's shim answers nobody, and a node that connects only then is late.
    let (mut is_registered, mut is_told) = (false, false);
    while !(is_registered && is_told) {
        match bed.follower.try_next().await {
            Ok(ContainerChange::Limited(lacking)) => is_registered = lacking.is_none(),
            Ok(ContainerChange::Synchronized) => is_told = true,
            Ok(_) => {}
            Err(_) => sleep(Duration::from_millis(250)).await,
        }
    }
    println!("registered and told again {:?} after containerd answers", begun.elapsed());
    bed.registered(2).await;
    bed.cri = RuntimeServiceClient::new(containerd_client::connect(bed.containerd.socket()).await.unwrap());
    let id = bed.create("main", &ECHO).await;
    let mut kubelet = bed.begin(&id);
    let (_, admission) = bed.starting(&id, &mut kubelet).await;
    admission.0.send(Ok(())).unwrap();
    assert!(matches!(bed.next_of(&id).await, ContainerChange::Started(_)));
    assert_eq!(kubelet.await.unwrap(), Ok(()), "hooked again");
    bed.end().await;
}

#[tokio::test]
async fn host_nri_names_pods_by_their_labels_where_no_api_tells() {
    let Some(programs) = programs() else { return };
    let mut bed = Bed::start(&programs, false, |_| Endpoint::Cgroups).await;
    let id = bed.create("main", &ECHO).await;
    let mut kubelet = bed.begin(&id);
    let (announced, admission) = bed.starting(&id, &mut kubelet).await;
    assert_eq!(
        (announced.pod.as_str(), announced.namespace.as_str(), announced.name.as_str()),
        ("web-1", "shop", "main")
    );
    assert_eq!(announced.labels.get("app").map(String::as_str), Some("web"), "no file of the bundle has it");
    admission.0.send(Ok(())).unwrap();
    // The reader goes on meanwhile: the hook's answer is a task of its own.
    assert_eq!(kubelet.await.unwrap(), Ok(()));
    bed.end().await;
}

/// What a node says that is to be a plugin by this.
async fn lacks(nri: NriConfig) -> String {
    let folder = tempfile::tempdir().unwrap();
    let hook_socket = Some(folder.path().join("hook.sock"));
    let config = NodeConfig { endpoint: Some(Endpoint::Cgroups), hook_socket, nri: Some(nri) };
    Follower(NodeContainers::new(config)).limited().await.expect("something is lacking")
}

#[tokio::test]
async fn host_nri_plugin_that_cannot_be_one_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let socket = NriSocket::At(folder.path().join("nri.sock"));
    let own = PathBuf::from(env!("CARGO_BIN_EXE_palisade-hook"));
    let said = lacks(NriConfig { socket: socket.clone(), program: own.clone() }).await;
    assert!(said.contains("No such file") && said.contains("nri.sock"), "{said}");
    // Before it is registered: a hook that cannot be executed keeps every container from starting.
    let listener = std::os::unix::net::UnixListener::bind(socket.path()).unwrap();
    listener.set_nonblocking(true).unwrap();
    let said = lacks(NriConfig { socket: socket.clone(), program: "/nonexistent/palisade".into() }).await;
    assert!(said.contains("/nonexistent/palisade on the host") && said.contains("--nri-hook"), "{said}");
    assert!(listener.accept().is_err(), "nobody came");
    let unlike = fs::File::create(folder.path().join("plain")).map(|_| folder.path().join("plain")).unwrap();
    let said = lacks(NriConfig { socket: socket.clone(), program: unlike }).await;
    assert!(said.contains("is not a program"), "{said}");
    // One that takes the connection and closes it.
    listener.set_nonblocking(false).unwrap();
    let closing = std::thread::spawn(move || drop(listener.accept()));
    let said = lacks(NriConfig { socket, program: own }).await;
    let ends = ["closed the connection", "Connection reset", "Broken pipe"];
    assert!(ends.iter().any(|end| said.contains(end)), "{said}");
    closing.join().unwrap();
}
