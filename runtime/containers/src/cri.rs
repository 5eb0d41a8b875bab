//! The Kubernetes Container Runtime Interface (CRI, `runtime.v1`), as far as it is needed: what CRI-O speaks, and containerd too.
//!
//! Sandboxes are containers here as well: they run a process of their own, in a cgroup of their own.
//!
//! Decisions:
//! - Looked at every [`POLL`], events or not. `GetContainerEvents` is not there before containerd 1.7 and is off in CRI-O by default; where
//!   it is there, nothing says when a subscription has begun. So its events only make the looks earlier, and no start is ever missed
//!   for their sake. Two lists every half second cost the runtime less than the kubelet does, which asks the same every second.
//! - A sandbox's verbose status is asked for once, with a short deadline, and never for the sake of a hook: containerd asks the pod's shim
//!   for it, and a shim answers nothing while it creates a container, which waits in its hook.
//! - The init's pid comes from the verbose status, where containerd and CRI-O both give it as `pid`. Of a runtime that does not this is
//!   said, and its containers are known by their cgroups (`tree`).
//! - A container whose status fails or does not come is that container's trouble: it is asked again in [`TROUBLED`], and the others are told.
//! - What has no container's id is not asked for; ids go into paths, tables and logs.
//!
//! Source: kubernetes/cri-api, `pkg/apis/runtime/v1/api.proto`.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt,
    path::{Path, PathBuf},
    pin::Pin,
    time::Duration,
};

use async_trait::async_trait;
use containerd_client::{
    connect,
    tonic::{Code, Response, Status, Streaming, transport::Channel},
};
use k8s_cri::v1::{
    ContainerEventResponse, ContainerFilter, ContainerStateValue, ContainerStatusRequest, ContainerStatusResponse,
    GetEventsRequest, ListContainersRequest, ListPodSandboxRequest, PodSandboxFilter, PodSandboxState,
    PodSandboxStateValue, PodSandboxStatusRequest, VersionRequest, runtime_service_client::RuntimeServiceClient,
};
use palisade_world::ContainersError;
use prost::Message as _;
use serde::Deserialize;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, sleep, timeout};

use crate::{
    api::{CALL_TIMEOUT, MAX_MESSAGE_BYTES, root_cause, told, too_slow, unreachable},
    bundle,
    identity::{CONTAINER_NAME, Metadata, POD_NAME, POD_NAMESPACE, POD_UID},
    oci::{Spec, is_id},
    roster::Key,
    runtime::{Event, Runtime, Task, Tasks},
};

/// Between two looks: a container without hook runs without policy for so long at most.
pub(crate) const POLL: Duration = Duration::from_millis(500);

/// Between two looks that events asked for: a storm of them (each exec of a probe is one) is no storm of lists.
const PACE: Duration = Duration::from_millis(20);

/// How long a verbose status may take in a look.
const STATUS_TIMEOUT: Duration = Duration::from_millis(500);

/// Until one whose status failed is asked again: each costs a look [`STATUS_TIMEOUT`], and all others wait for the look.
const TROUBLED: Duration = Duration::from_secs(2);

/// The CRI has no namespaces of its own: all is the kubelet's.
const NAMESPACE: &str = "cri";

type Opening = Pin<Box<dyn Future<Output = Result<Response<Streaming<ContainerEventResponse>>, Status>>>>;

/// The event stream, which only says that it is worth looking now.
enum Stream {
    /// Asked for. No answer comes before the first event.
    Opening(Opening),
    Open(Box<Streaming<ContainerEventResponse>>),
    /// It ended, as one does whose reader was slow: the next look asks for another.
    Ended,
    /// The runtime has none.
    None,
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Opening(_) => "Opening",
            Self::Open(_) => "Open",
            Self::Ended => "Ended",
            Self::None => "None",
        })
    }
}

impl Stream {
    fn opening(client: &RuntimeServiceClient<Channel>) -> Self {
        let mut events = client.clone();
        Self::Opening(Box::pin(async move { events.get_container_events(GetEventsRequest {}).await }))
    }

    /// Until something happened; for ever where there are no events. Cancel safe.
    async fn something(&mut self) {
        loop {
            match self {
                Self::Opening(opening) => match opening.await {
                    Ok(stream) => *self = Self::Open(Box::new(stream.into_inner())),
                    Err(status) => {
                        tracing::debug!(code = ?status.code(), "no container events by the CRI: it is asked every half second");
                        *self = Self::None;
                    }
                },
                Self::Open(stream) => match stream.message().await {
                    Ok(Some(_)) => return,
                    // If the runtime went away, the next look says so.
                    Ok(None) | Err(_) => *self = Self::Ended,
                },
                Self::Ended | Self::None => std::future::pending().await,
            }
        }
    }

    /// Takes what has come already: one look sees all of it.
    async fn drain(&mut self) {
        while timeout(Duration::ZERO, self.something()).await.is_ok() {}
    }
}

/// The CRI of a runtime, connected.
#[derive(Debug)]
pub(crate) struct Cri {
    address: PathBuf,
    client: RuntimeServiceClient<Channel>,
    stream: Stream,
    looks: Interval,
    /// What the last look saw, by id: pids.
    seen: BTreeMap<String, u32>,
    /// The sandboxes that it saw: containerd calls it an error, in its log, to be asked of one as of a container.
    sandboxes: BTreeSet<String>,
    /// Of what is listed: whose status failed, and when it is asked again.
    troubled: BTreeMap<String, Instant>,
    /// Found by a look, not told yet.
    found: VecDeque<Event>,
}

/// What a look sees: ids of containers that have an init, and of ready sandboxes.
#[derive(Debug, Default)]
struct Look {
    containers: BTreeSet<String>,
    sandboxes: BTreeSet<String>,
}

/// The JSON in `info` of a verbose status.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Info {
    pid: u32,
    runtime_spec: Option<Spec>,
}

/// A status, whichever of the two it is of.
struct Known {
    /// 0 where it has none; the error says why it is not told.
    pid: Result<u32, String>,
    alive: bool,
    metadata: Metadata,
}

impl Cri {
    async fn look(&self) -> Result<Look, ContainersError> {
        let mut client = self.client.clone();
        // Without a filter on the state: a container that is created and waits to be started has an init already.
        let listed = self.call(
            "list containers",
            client.list_containers(ListContainersRequest { filter: Some(ContainerFilter::default()) }),
        );
        let containers = listed.await?.map(|list| list.containers).unwrap_or_default();
        let ready = PodSandboxStateValue { state: PodSandboxState::SandboxReady.into() };
        let filter = Some(PodSandboxFilter { state: Some(ready), ..PodSandboxFilter::default() });
        let listed = self.call("list sandboxes", client.list_pod_sandbox(ListPodSandboxRequest { filter }));
        let sandboxes = listed.await?.map(|list| list.items).unwrap_or_default();
        let alive = |state: i32| {
            let of = |value: ContainerStateValue| value.state == state;
            of(ContainerStateValue { state: k8s_cri::v1::ContainerState::ContainerRunning.into() })
                || of(ContainerStateValue { state: k8s_cri::v1::ContainerState::ContainerCreated.into() })
        };
        Ok(Look {
            containers: containers.into_iter().filter(|one| alive(one.state)).map(|one| one.id).collect(),
            sandboxes: sandboxes.into_iter().map(|one| one.id).collect(),
        })
    }

    /// The init's pid of one that is listed; 0 where it has none yet, or is over again.
    async fn pid(&self, id: &str, sandbox: bool) -> Result<u32, ContainersError> {
        if !is_id(id) {
            return Err(unreachable(&self.address, "what is listed has no container's id".to_owned()));
        }
        let asked = async { if sandbox { self.sandbox_pid(id).await } else { self.container_pid(id).await } };
        timeout(STATUS_TIMEOUT, asked).await.unwrap_or_else(|_| Err(unreachable(&self.address, too_slow("status"))))
    }

    async fn container(&self, id: &str) -> Result<Option<Known>, ContainersError> {
        let mut client = self.client.clone();
        let request = ContainerStatusRequest { container_id: id.to_owned(), verbose: true };
        let Some(answer) = self.call("container status", client.container_status(request)).await? else {
            return Ok(None);
        };
        Ok(known(id, answer))
    }

    /// The pid of a sandbox that is ready; 0 where it is over again.
    async fn sandbox_pid(&self, id: &str) -> Result<u32, ContainersError> {
        let mut client = self.client.clone();
        let request = PodSandboxStatusRequest { pod_sandbox_id: id.to_owned(), verbose: true };
        let Some(answer) = self.call("sandbox status", client.pod_sandbox_status(request)).await? else {
            return Ok(0);
        };
        info(answer.info.get("info")).map(|info| info.pid).map_err(|reason| unreachable(&self.address, reason))
    }

    /// The init's pid of a container; 0 where it has none.
    async fn container_pid(&self, id: &str) -> Result<u32, ContainersError> {
        let known = self.container(id).await?.filter(|known| known.alive);
        known.map_or(Ok(0), |known| known.pid).map_err(|reason| unreachable(&self.address, reason))
    }

    /// Without its pid.
    async fn sandbox(&self, id: &str) -> Result<Option<Known>, ContainersError> {
        let mut client = self.client.clone();
        let request = PodSandboxStatusRequest { pod_sandbox_id: id.to_owned(), verbose: false };
        let Some(answer) = self.call("sandbox status", client.pod_sandbox_status(request)).await? else {
            return Ok(None);
        };
        let Some(status) = answer.status.filter(|status| status.id == id) else { return Ok(None) };
        let mut labels: BTreeMap<String, String> = status.labels.into_iter().collect();
        if let Some(pod) = status.metadata {
            labels.entry(POD_NAME.to_owned()).or_insert(pod.name);
            labels.entry(POD_NAMESPACE.to_owned()).or_insert(pod.namespace);
            labels.entry(POD_UID.to_owned()).or_insert(pod.uid);
        }
        let ready = status.state == i32::from(PodSandboxState::SandboxReady);
        let metadata = Metadata { id: status.id, labels, ..Metadata::default() };
        Ok(Some(Known { pid: Ok(0), alive: ready, metadata }))
    }

    /// What came and went since the look before; nothing is kept of a look that does not end.
    async fn compare(&mut self) -> Result<(), ContainersError> {
        if matches!(self.stream, Stream::Ended) {
            self.stream = Stream::opening(&self.client);
        }
        let look = self.look().await?;
        let there = |id: &String| look.containers.contains(id) || look.sandboxes.contains(id);
        self.troubled.retain(|id, _| there(id));
        let mut started = Vec::new();
        let all: BTreeSet<&String> = look.containers.iter().chain(&look.sandboxes).collect();
        for id in all.into_iter().filter(|id| !self.seen.contains_key(*id)) {
            let rests = self.troubled.get(id).copied();
            if rests.is_some_and(|until| Instant::now() < until) {
                continue;
            }
            match self.pid(id, look.sandboxes.contains(id)).await {
                // Created and without init yet (CRI-O makes it later), or over again: the next look sees.
                Ok(0) => drop(self.troubled.remove(id)),
                Ok(pid) => {
                    self.troubled.remove(id);
                    started.push((id.clone(), pid));
                }
                Err(error) => {
                    self.alive().await?;
                    if rests.is_none() {
                        tracing::warn!(container = ?id, %error, "its process is not known by the CRI; asked again every {TROUBLED:?}");
                    }
                    self.troubled.insert(id.clone(), Instant::now() + TROUBLED);
                }
            }
        }
        let gone: Vec<(String, u32)> =
            self.seen.iter().filter(|(id, _)| !there(id)).map(|(id, pid)| (id.clone(), *pid)).collect();
        for (id, pid) in gone {
            self.seen.remove(&id);
            self.found.push_back(Event::Ended { key: key(id), pid });
        }
        self.sandboxes = look.sandboxes;
        for (id, pid) in started {
            self.seen.insert(id.clone(), pid);
            self.found.push_back(Event::Started { key: key(id), pid });
        }
        Ok(())
    }

    async fn call<T>(
        &self,
        what: &str,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<Option<T>, ContainersError> {
        match timeout(CALL_TIMEOUT, call).await {
            Ok(Ok(response)) => Ok(Some(response.into_inner())),
            Ok(Err(status)) if status.code() == Code::NotFound => Ok(None),
            Ok(Err(status)) => Err(unreachable(&self.address, told(what, &status))),
            Err(_) => Err(unreachable(&self.address, too_slow(what))),
        }
    }
}

#[async_trait(?Send)]
impl Runtime for Cri {
    const TELLS_EVERY_END: bool = false;
    const NAME: &'static str = "the CRI runtime";

    async fn connect(address: &Path) -> Result<Self, ContainersError> {
        let channel = match timeout(CALL_TIMEOUT, connect(address)).await {
            Ok(Ok(channel)) => channel,
            Ok(Err(error)) => return Err(unreachable(address, root_cause(&error))),
            Err(_) => return Err(unreachable(address, too_slow("connect"))),
        };
        // The kubelet's own bound, for lists carry the labels and annotations of all.
        let client = RuntimeServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES);
        let mut looks = interval_at(Instant::now() + POLL, POLL);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let cri = Self {
            address: address.to_owned(),
            stream: Stream::opening(&client),
            client,
            looks,
            seen: BTreeMap::new(),
            sandboxes: BTreeSet::new(),
            troubled: BTreeMap::new(),
            found: VecDeque::new(),
        };
        // Whether it speaks this version at all: said by the runtime's own words if not.
        cri.alive().await?;
        Ok(cri)
    }

    async fn alive(&self) -> Result<(), ContainersError> {
        let mut client = self.client.clone();
        self.call("version", client.version(VersionRequest { version: "v1".to_owned() })).await.map(|_| ())
    }

    async fn tasks(&mut self) -> Result<Tasks, ContainersError> {
        self.compare().await?;
        self.found.clear();
        let known = self.seen.iter().map(|(id, pid)| Task { key: key(id.clone()), pid: *pid }).collect();
        // Whatever the list has and no look has met is met by a later one.
        let unsure = self.sandboxes.iter().chain(self.troubled.keys()).filter(|id| !self.seen.contains_key(*id));
        Ok(Tasks { known, unsure: unsure.filter(|id| is_id(id)).map(|id| key(id.clone())).collect() })
    }

    async fn init_pid(&self, key: &Key) -> Result<Option<u32>, ContainersError> {
        if self.sandboxes.contains(&key.id) {
            // It has one init for its whole life, and that lives while it is ready.
            let ready = self.sandbox(&key.id).await?.is_some_and(|known| known.alive);
            return Ok(self.seen.get(&key.id).copied().filter(|_| ready));
        }
        Ok(Some(self.container_pid(&key.id).await?).filter(|pid| *pid != 0))
    }

    async fn metadata(&self, key: &Key) -> Result<Option<Metadata>, ContainersError> {
        let known = if self.sandboxes.contains(&key.id) { None } else { self.container(&key.id).await? };
        match known {
            Some(known) => Ok(Some(known.metadata)),
            None => Ok(self.sandbox(&key.id).await?.map(|known| known.metadata)),
        }
    }

    /// CRI-O tells nothing of a container before it is created, and its hook runs while it is: then its bundle says who it is.
    async fn announced(&self, key: &Key, bundle: &Path) -> Result<Option<Metadata>, ContainersError> {
        let Some(own) = bundle::metadata(&key.id, bundle).filter(|metadata| metadata.spec.of_cri()) else {
            return self.metadata(key).await;
        };
        match self.metadata(key).await? {
            // In the bundle is what the runtime executes, its cgroup among it; with the runtime are the labels.
            Some(told) => Ok(Some(Metadata { spec: own.spec, ..told })),
            None => Ok(Some(own)),
        }
    }

    async fn next(&mut self) -> Result<Event, ContainersError> {
        loop {
            if let Some(event) = self.found.pop_front() {
                return Ok(event);
            }
            tokio::select! {
                biased;
                _ = self.looks.tick() => {}
                () = self.stream.something() => {
                    sleep(PACE).await;
                    self.stream.drain().await;
                }
            }
            self.compare().await?;
        }
    }

    fn key_of(_: &str, id: &str) -> Key {
        key(id.to_owned())
    }
}

/// Who a container is by its status; `None` where that is another's. Pure.
fn known(id: &str, answer: ContainerStatusResponse) -> Option<Known> {
    let status = answer.status.filter(|status| status.id == id)?;
    let (pid, spec) = match info(answer.info.get("info")) {
        Ok(info) => (Ok(info.pid), info.runtime_spec.unwrap_or_default()),
        // Who it is, is known all the same.
        Err(reason) => (Err(reason), Spec::default()),
    };
    let sandbox = sandbox_of(answer.info.get("info")).or_else(|| spec.sandbox_id().map(str::to_owned));
    let mut labels: BTreeMap<String, String> = status.labels.into_iter().collect();
    if let Some(metadata) = status.metadata {
        labels.entry(CONTAINER_NAME.to_owned()).or_insert(metadata.name);
    }
    let image = status.image.map(|image| image.image).filter(|image| !image.is_empty()).unwrap_or(status.image_ref);
    let exited = status.state == i32::from(k8s_cri::v1::ContainerState::ContainerExited);
    let metadata = Metadata { id: status.id, image, labels, spec, sandbox: sandbox.unwrap_or_default() };
    let alive = !exited && pid != Ok(0);
    Some(Known { pid, alive, metadata })
}

/// Who a container is by the bytes of its status, as far as they tell; the process, where they name one.
pub(crate) fn of_bytes(id: &str, bytes: &[u8]) -> Option<(u32, Metadata)> {
    let known = known(id, ContainerStatusResponse::decode(bytes).ok()?)?;
    Some((known.pid.unwrap_or(0), known.metadata))
}

fn key(id: String) -> Key {
    Key { namespace: NAMESPACE.to_owned(), id }
}

fn info(json: Option<&String>) -> Result<Info, String> {
    let json = json.ok_or("its verbose status has no `info`")?;
    serde_json::from_str(json).map_err(|error| format!("its verbose status cannot be read: {error}"))
}

/// `sandboxID`, as both runtimes spell it.
fn sandbox_of(json: Option<&String>) -> Option<String> {
    #[derive(Deserialize)]
    struct Of {
        #[serde(rename = "sandboxID")]
        sandbox_id: String,
    }
    json.and_then(|json| serde_json::from_str::<Of>(json).ok()).map(|of| of.sandbox_id).filter(|id| !id.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unit_cri_status_of_containerd_and_of_crio_tell_the_process_and_the_sandbox() {
        let containerd = r#"{"sandboxID":"s1","pid":41,"removing":false,"config":{"metadata":{"name":"main"}},
            "runtimeSpec":{"ociVersion":"1.0.2","linux":{"cgroupsPath":"/kubepods/pod1/c1"},"annotations":{"io.kubernetes.cri.sandbox-id":"s1"}}}"#;
        let crio = r#"{"sandboxID":"s2","pid":42,"privileged":false,
            "runtimeSpec":{"linux":{"cgroupsPath":"kubepods-pod1.slice:crio:c2"},"annotations":{"io.kubernetes.cri-o.SandboxID":"s2"}}}"#;
        for (json, pid, sandbox) in [(containerd, 41, "s1"), (crio, 42, "s2")] {
            let json = json.to_owned();
            let told = info(Some(&json)).expect("it can be read");
            assert_eq!(told.pid, pid);
            let spec = told.runtime_spec.expect("a spec");
            assert!(spec.cgroups_path().is_some());
            assert_eq!(spec.sandbox_id(), Some(sandbox));
            assert_eq!(sandbox_of(Some(&json)).as_deref(), Some(sandbox));
        }
    }

    #[test]
    fn unit_cri_status_without_a_process_is_no_process() {
        for json in [None, Some("{}"), Some("{"), Some(r#"{"pid":-1}"#), Some(r#"{"pid":"7"}"#)] {
            let told = info(json.map(str::to_owned).as_ref());
            assert!(told.is_err() || told.is_ok_and(|told| told.pid == 0), "{json:?}");
        }
        assert_eq!(sandbox_of(Some(&r#"{"sandboxID":""}"#.to_owned())), None);
    }
}
