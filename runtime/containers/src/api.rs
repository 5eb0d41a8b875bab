//! containerd's gRPC API, as far as it is needed, with a bound on the time of every call.
//!
//! Sources: containerd's `api/services/{events,namespaces,tasks,containers}/v1/*.proto` and `api/events/*.proto`.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    time::Duration,
};

use async_trait::async_trait;
use containerd_client::{
    connect,
    events::{ContainerDelete, ContainerUpdate, TaskDelete, TaskExit, TaskStart},
    services::v1::{
        GetContainerRequest, GetRequest, ListContainersRequest, ListNamespacesRequest, ListTasksRequest,
        PublishRequest, SubscribeRequest, containers_client::ContainersClient, events_client::EventsClient,
        namespaces_client::NamespacesClient, tasks_client::TasksClient,
    },
    tonic::{Code, Request, Status, Streaming, metadata::MetadataValue, transport::Channel},
    types::{Envelope, v1::Status as TaskStatus},
};
use palisade_world::ContainersError;
use prost::Message;
use tokio::time::{sleep, timeout};

use crate::{
    identity::Metadata,
    oci::{Spec, is_id},
    roster::Key,
    runtime::{Event, Runtime, Task, Tasks},
};

/// Longest a call may take: containerd answers in about a millisecond, and a hook that waits for it has seconds.
pub(crate) const CALL_TIMEOUT: Duration = Duration::from_secs(3);

/// Longest the subscription may take to be confirmed.
const SUBSCRIBE_TIMEOUT: Duration = Duration::from_secs(10);

/// How often the probe of the subscription is published until it comes back.
const PROBE_INTERVAL: Duration = Duration::from_millis(20);

/// Topic of that probe; of no meaning to anyone else.
const PROBE_TOPIC: &str = "/palisade/subscribed";

/// containerd wants a namespace with everything that is published; this one holds nothing and need not exist.
const PROBE_NAMESPACE: &str = "palisade";

/// One connection.
#[derive(Debug, Clone)]
pub(crate) struct Api {
    address: PathBuf,
    channel: Channel,
}

/// The event stream.
#[derive(Debug)]
pub(crate) struct Events {
    address: PathBuf,
    stream: Streaming<Envelope>,
}

/// What is known of a container's init.
enum Process {
    Of(u32),
    None,
    /// Its shim does not answer.
    Unsure,
}

/// Most bytes of an answer: what containerd sends at most. tonic's own bound is a quarter of it, and a container whose specification is longer
/// (its environment is a user's to choose) would be read by containerd's other clients and not by this one.
pub(crate) const MAX_MESSAGE_BYTES: usize = 16 << 20;

/// How long a shim may take to answer when all tasks are looked for.
const SHIM_TIMEOUT: Duration = Duration::from_millis(500);

/// containerd, connected.
#[derive(Debug)]
pub(crate) struct ContainerdRuntime {
    api: Api,
    events: Events,
}

#[async_trait(?Send)]
impl Runtime for ContainerdRuntime {
    const TELLS_EVERY_END: bool = true;
    const NAME: &'static str = "containerd";

    async fn connect(address: &Path) -> Result<Self, ContainersError> {
        let api = Api::connect(address).await?;
        let events = api.subscribe().await?;
        Ok(Self { api, events })
    }

    async fn alive(&self) -> Result<(), ContainersError> {
        self.api.namespaces().await.map(|_| ())
    }

    /// containerd leaves out of its list of tasks, without a word, those whose shim does not answer: each container that is not in it is
    /// asked for by itself. (One that has no task is answered at once.)
    async fn tasks(&mut self) -> Result<Tasks, ContainersError> {
        let mut tasks = Tasks::default();
        for namespace in self.api.namespaces().await? {
            let known = self.api.tasks(&namespace).await?;
            let listed: BTreeSet<String> = known.iter().map(|task| task.key.id.clone()).collect();
            tasks.known.extend(known);
            for id in self.api.containers(&namespace).await?.into_iter().filter(|id| !listed.contains(id)) {
                let key = Key { namespace: namespace.clone(), id };
                match self.api.process(&key, SHIM_TIMEOUT).await? {
                    Process::Of(pid) => tasks.known.push(Task { key, pid }),
                    Process::None => {}
                    Process::Unsure => tasks.unsure.push(key),
                }
            }
        }
        Ok(tasks)
    }

    async fn init_pid(&self, key: &Key) -> Result<Option<u32>, ContainersError> {
        self.api.init_pid(key).await
    }

    async fn metadata(&self, key: &Key) -> Result<Option<Metadata>, ContainersError> {
        self.api.metadata(key).await
    }

    async fn announced(&self, key: &Key, _: &Path) -> Result<Option<Metadata>, ContainersError> {
        self.api.metadata(key).await
    }

    async fn next(&mut self) -> Result<Event, ContainersError> {
        self.events.next().await
    }

    fn key_of(namespace: &str, id: &str) -> Key {
        Key { namespace: namespace.to_owned(), id: id.to_owned() }
    }
}

impl Api {
    pub(crate) async fn connect(address: &Path) -> Result<Self, ContainersError> {
        match timeout(CALL_TIMEOUT, connect(address)).await {
            Ok(Ok(channel)) => Ok(Self { address: address.to_owned(), channel }),
            Ok(Err(error)) => Err(unreachable(address, root_cause(&error))),
            Err(_) => Err(unreachable(address, too_slow("connect"))),
        }
    }

    /// Subscribes to events, and returns when every later event is sure to come.
    ///
    /// containerd sends nothing on the stream, not even headers, before the first event, so a fresh subscription cannot be told from
    /// one that is still on its way. An event of our own is therefore published until the stream speaks: without it a container that
    /// starts between the list and the subscription would be missed.
    pub(crate) async fn subscribe(&self) -> Result<Events, ContainersError> {
        let topics =
            ["/tasks/start", "/tasks/exit", "/tasks/delete", "/containers/update", "/containers/delete", PROBE_TOPIC];
        let filters = topics.iter().map(|topic| format!("topic=={topic:?}")).collect();
        let mut events = EventsClient::new(self.channel.clone());
        let subscribed = async {
            tokio::select! {
                biased;
                subscribed = events.subscribe(SubscribeRequest { filters }) => subscribed,
                failed = self.publish_probes() => Err(failed),
            }
        };
        match timeout(SUBSCRIBE_TIMEOUT, subscribed).await {
            Ok(Ok(response)) => Ok(Events { address: self.address.clone(), stream: response.into_inner() }),
            Ok(Err(status)) => Err(unreachable(&self.address, told("subscribe", &status))),
            Err(_) => Err(unreachable(&self.address, too_slow("subscribe"))),
        }
    }

    /// Goes on until it fails or is dropped.
    async fn publish_probes(&self) -> Status {
        let mut events = EventsClient::new(self.channel.clone());
        loop {
            let probe = prost_types::Any { type_url: "google.protobuf.Empty".to_owned(), value: Vec::new() };
            let request = PublishRequest { topic: PROBE_TOPIC.to_owned(), event: Some(probe) };
            let published = match in_namespace(request, PROBE_NAMESPACE) {
                Ok(request) => events.publish(request).await,
                Err(status) => Err(status),
            };
            if let Err(status) = published {
                return status;
            }
            sleep(PROBE_INTERVAL).await;
        }
    }

    pub(crate) async fn namespaces(&self) -> Result<Vec<String>, ContainersError> {
        let mut namespaces = NamespacesClient::new(self.channel.clone());
        let request = ListNamespacesRequest { filter: String::new() };
        let listed = self.call("list namespaces", namespaces.list(request)).await?;
        Ok(listed.map(|list| list.namespaces.into_iter().map(|namespace| namespace.name).collect()).unwrap_or_default())
    }

    /// Tasks that have an init process: created (it waits to be let go), running, paused.
    pub(crate) async fn tasks(&self, namespace: &str) -> Result<Vec<Task>, ContainersError> {
        let mut tasks = TasksClient::new(self.channel.clone()).max_decoding_message_size(MAX_MESSAGE_BYTES);
        let request = self.namespaced(ListTasksRequest { filter: String::new() }, namespace)?;
        let listed = self.call("list tasks", tasks.list(request)).await?;
        let of_init = |task: &containerd_client::types::v1::Process| alive(task.status()) && task.pid != 0;
        let alive = listed.into_iter().flat_map(|list| list.tasks).filter(|task| of_init(task) && is_id(&task.id));
        // In a list the container's id is in `id`; `container_id` is for processes of `exec`.
        Ok(alive
            .map(|task| Task { key: Key { namespace: namespace.to_owned(), id: task.id }, pid: task.pid })
            .collect())
    }

    /// Ids of all containers, those without a task as well. As a stream: in one message their specs go past gRPC's bound at some hundred.
    async fn containers(&self, namespace: &str) -> Result<Vec<String>, ContainersError> {
        let mut containers = self.containers_client();
        let request = self.namespaced(ListContainersRequest::default(), namespace)?;
        let mut ids = Vec::new();
        let Some(mut listed) = self.call("list containers", containers.list_stream(request)).await? else {
            return Ok(ids);
        };
        while let Some(message) = match timeout(CALL_TIMEOUT, listed.message()).await {
            Ok(Ok(message)) => message,
            Ok(Err(status)) => return Err(unreachable(&self.address, told("list containers", &status))),
            Err(_) => return Err(unreachable(&self.address, too_slow("list containers"))),
        } {
            ids.extend(message.container.map(|container| container.id).filter(|id| is_id(id)));
        }
        Ok(ids)
    }

    /// The pid of the container's init; `None` where it has no task, or its init has ended, or its shim does not answer.
    pub(crate) async fn init_pid(&self, key: &Key) -> Result<Option<u32>, ContainersError> {
        match self.process(key, CALL_TIMEOUT).await? {
            Process::Of(pid) => Ok(Some(pid)),
            Process::None => Ok(None),
            Process::Unsure => Err(unreachable(&self.address, too_slow("get task"))),
        }
    }

    /// The container's init; `within` bounds what is waited for its shim.
    async fn process(&self, key: &Key, within: Duration) -> Result<Process, ContainersError> {
        let mut tasks = TasksClient::new(self.channel.clone());
        let request = GetRequest { container_id: key.id.clone(), exec_id: String::new() };
        let request = self.namespaced(request, &key.namespace)?;
        let got = match timeout(within, tasks.get(request)).await {
            Ok(Ok(response)) => response.into_inner().process,
            Ok(Err(status)) if status.code() == Code::NotFound => None,
            Err(_) => return Ok(Process::Unsure),
            Ok(Err(status)) if status.code() == Code::DeadlineExceeded => return Ok(Process::Unsure),
            Ok(Err(status)) => return Err(unreachable(&self.address, told("get task", &status))),
        };
        let task = got.filter(|task| alive(task.status()) && task.pid != 0);
        Ok(task.map_or(Process::None, |task| Process::Of(task.pid)))
    }

    /// What containerd holds of a container; `None` where there is none of the id.
    pub(crate) async fn metadata(&self, key: &Key) -> Result<Option<Metadata>, ContainersError> {
        let mut containers = self.containers_client();
        let request = self.namespaced(GetContainerRequest { id: key.id.clone() }, &key.namespace)?;
        let got = self.call("get container", containers.get(request)).await?;
        Ok(got.and_then(|got| got.container).map(metadata))
    }

    fn containers_client(&self) -> ContainersClient<Channel> {
        ContainersClient::new(self.channel.clone()).max_decoding_message_size(MAX_MESSAGE_BYTES)
    }

    fn namespaced<T>(&self, message: T, namespace: &str) -> Result<Request<T>, ContainersError> {
        in_namespace(message, namespace).map_err(|status| unreachable(&self.address, told("request", &status)))
    }

    /// `None` for what does not exist (any more): containers come and go between two calls.
    async fn call<T>(
        &self,
        what: &str,
        call: impl Future<Output = Result<containerd_client::tonic::Response<T>, Status>>,
    ) -> Result<Option<T>, ContainersError> {
        match timeout(CALL_TIMEOUT, call).await {
            Ok(Ok(response)) => Ok(Some(response.into_inner())),
            Ok(Err(status)) if status.code() == Code::NotFound => Ok(None),
            Ok(Err(status)) => Err(unreachable(&self.address, told(what, &status))),
            Err(_) => Err(unreachable(&self.address, too_slow(what))),
        }
    }
}

impl Events {
    /// The next event that matters; an error ends the stream. Cancel safe.
    pub(crate) async fn next(&mut self) -> Result<Event, ContainersError> {
        loop {
            match self.stream.message().await {
                Ok(Some(envelope)) => match event(&envelope) {
                    Ok(Some(event)) => return Ok(event),
                    Ok(None) => {}
                    Err(error) => tracing::error!(topic = envelope.topic, %error, "containerd's event cannot be read"),
                },
                Ok(None) => return Err(unreachable(&self.address, "it closed the event stream".to_owned())),
                Err(status) => return Err(unreachable(&self.address, told("events", &status))),
            }
        }
    }
}

/// `None` for events of processes other than init, of what has no name, and for the subscription's probe.
fn event(envelope: &Envelope) -> Result<Option<Event>, prost::DecodeError> {
    let value = envelope.event.as_ref().map_or(&[][..], |event| event.value.as_slice());
    let key = |id: String| Key { namespace: envelope.namespace.clone(), id };
    let event = match envelope.topic.as_str() {
        "/tasks/start" => {
            let TaskStart { container_id, pid } = TaskStart::decode(value)?;
            Some(Event::Started { key: key(container_id), pid })
        }
        "/tasks/exit" => {
            let TaskExit { container_id, id, pid, .. } = TaskExit::decode(value)?;
            (id.is_empty() || id == container_id).then(|| Event::Ended { key: key(container_id), pid })
        }
        "/tasks/delete" => {
            let TaskDelete { container_id, id, pid, .. } = TaskDelete::decode(value)?;
            (id.is_empty() || id == container_id).then(|| Event::Ended { key: key(container_id), pid })
        }
        "/containers/update" => Some(Event::Updated { key: key(ContainerUpdate::decode(value)?.id) }),
        "/containers/delete" => Some(Event::Deleted { key: key(ContainerDelete::decode(value)?.id) }),
        _ => None,
    };
    Ok(event.filter(|event| is_id(&event.key().id)))
}

fn metadata(container: containerd_client::services::v1::Container) -> Metadata {
    let spec =
        container.spec.map(|spec| serde_json::from_slice::<Spec>(&spec.value)).transpose().unwrap_or_else(|error| {
            // Another platform's or a sandbox API's spec: the labels still say who it is.
            tracing::warn!(container = container.id, %error, "its OCI spec cannot be read");
            None
        });
    Metadata {
        id: container.id,
        image: container.image,
        labels: container.labels.into_iter().collect(),
        spec: spec.unwrap_or_default(),
        sandbox: container.sandbox,
    }
}

fn alive(status: TaskStatus) -> bool {
    matches!(status, TaskStatus::Created | TaskStatus::Running | TaskStatus::Paused | TaskStatus::Pausing)
}

fn in_namespace<T>(message: T, namespace: &str) -> Result<Request<T>, Status> {
    let value = MetadataValue::try_from(namespace)
        .map_err(|_| Status::invalid_argument(format!("{namespace:?} is not a namespace of containerd")))?;
    let mut request = Request::new(message);
    request.metadata_mut().insert("containerd-namespace", value);
    Ok(request)
}

pub(crate) fn unreachable(address: &Path, reason: String) -> ContainersError {
    ContainersError::Unreachable { address: address.display().to_string(), reason }
}

pub(crate) fn told(what: &str, status: &Status) -> String {
    format!("{what}: {:?}: {}", status.code(), status.message())
}

pub(crate) fn too_slow(what: &str) -> String {
    format!("{what}: no answer in time")
}

/// tonic says "transport error"; what failed is at the end of the chain.
pub(crate) fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn envelope(topic: &str, event: &impl Message) -> Envelope {
        let event = prost_types::Any { type_url: "ignored".into(), value: event.encode_to_vec() };
        Envelope { timestamp: None, namespace: "k8s.io".into(), topic: topic.into(), event: Some(event) }
    }

    fn key() -> Key {
        Key { namespace: "k8s.io".into(), id: "c1".into() }
    }

    #[test]
    fn unit_api_exits_of_exec_processes_are_not_the_containers() {
        let exit = |id: &str| TaskExit { container_id: "c1".into(), id: id.into(), pid: 7, ..TaskExit::default() };
        assert_eq!(event(&envelope("/tasks/exit", &exit("c1"))), Ok(Some(Event::Ended { key: key(), pid: 7 })));
        assert_eq!(event(&envelope("/tasks/exit", &exit("exec-1"))), Ok(None));
        let delete = TaskDelete { container_id: "c1".into(), pid: 7, ..TaskDelete::default() };
        assert_eq!(event(&envelope("/tasks/delete", &delete)), Ok(Some(Event::Ended { key: key(), pid: 7 })));
    }

    #[test]
    fn unit_api_events_that_cannot_be_read_are_errors_and_unknown_ones_nothing() {
        let mut broken = envelope("/tasks/start", &TaskStart { container_id: "c1".into(), pid: 7 });
        assert_eq!(event(&broken), Ok(Some(Event::Started { key: key(), pid: 7 })));
        broken.event.as_mut().unwrap().value.truncate(3);
        assert!(event(&broken).is_err());
        assert_eq!(event(&envelope(PROBE_TOPIC, &())), Ok(None));
        let nameless = TaskStart { container_id: "../..".into(), pid: 7 };
        assert_eq!(event(&envelope("/tasks/start", &nameless)), Ok(None));
    }

    #[test]
    fn unit_api_namespaces_that_no_header_can_carry_are_refused() {
        assert!(in_namespace((), "k8s.io").is_ok());
        assert_eq!(in_namespace((), "a\nb").unwrap_err().code(), Code::InvalidArgument);
    }
}
