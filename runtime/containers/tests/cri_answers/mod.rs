//! A CRI runtime that answers what a test tells it to, over a real socket: no runtime can be made to lie, hang and stream on demand.

use std::{
    collections::BTreeMap,
    path::Path,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use async_trait::async_trait;
use containerd_client::tonic::{
    Request, Response, Status,
    codegen::tokio_stream::{
        Stream,
        wrappers::{ReceiverStream, UnixListenerStream},
    },
    transport::Server,
};
use k8s_cri::v1::{
    Container, ContainerEventResponse, ContainerState, ContainerStatus, ContainerStatusRequest,
    ContainerStatusResponse, GetEventsRequest, ListContainersRequest, ListContainersResponse, ListPodSandboxRequest,
    ListPodSandboxResponse, PodSandbox, PodSandboxStatusRequest, PodSandboxStatusResponse, VersionRequest,
    VersionResponse,
    runtime_service_server::{RuntimeService, RuntimeServiceServer},
};
use tokio::{
    net::UnixListener,
    sync::{Notify, mpsc},
};

/// How one container is told of.
#[derive(Clone)]
pub enum Told {
    /// Whatever this is.
    Status(Box<ContainerStatusResponse>),
    /// The call fails, with this code's number.
    Fails,
    /// No answer comes.
    Hangs,
}

/// What is answered now.
#[derive(Default)]
pub struct Answers {
    pub listed: Vec<Container>,
    pub sandboxes: Vec<PodSandbox>,
    pub told: BTreeMap<String, Told>,
    /// Lists of containers answered.
    pub looks: usize,
    /// Subscriptions that were opened; `None` refuses them, as containerd 1.6 does.
    pub events: Option<Vec<mpsc::Sender<Result<ContainerEventResponse, Status>>>>,
}

impl Answers {
    /// A container that runs, rightly told.
    pub fn running(&mut self, id: &str, pid: u32) {
        self.list(id, ContainerState::ContainerRunning.into());
        self.told.insert(id.to_owned(), Told::Status(Box::new(status(id, &format!("{{\"pid\":{pid}}}")))));
    }

    pub fn list(&mut self, id: &str, state: i32) {
        self.listed.push(Container { id: id.to_owned(), state, ..Container::default() });
    }

    /// Says on every stream that something happened; how many streams there are.
    pub fn happen(&mut self) -> usize {
        let streams = self.events.iter_mut().flatten();
        streams.filter(|stream| stream.try_send(Ok(ContainerEventResponse::default())).is_ok()).count()
    }
}

pub fn status(id: &str, info: &str) -> ContainerStatusResponse {
    let state = ContainerState::ContainerRunning.into();
    let status = ContainerStatus { id: id.to_owned(), state, ..ContainerStatus::default() };
    ContainerStatusResponse { status: Some(status), info: [("info".to_owned(), info.to_owned())].into() }
}

/// The runtime; dropping it ends it, as a runtime that is stopped.
pub struct Runtime {
    answers: Arc<Mutex<Answers>>,
    looked: Arc<Notify>,
    serving: tokio::task::JoinHandle<()>,
}

impl Runtime {
    pub fn serve(socket: &Path, answers: Answers) -> Self {
        let listener = UnixListener::bind(socket).expect("the socket is free");
        let (answers, looked) = (Arc::new(Mutex::new(answers)), Arc::new(Notify::new()));
        let service = RuntimeServiceServer::new(Service { answers: Arc::clone(&answers), looked: Arc::clone(&looked) });
        let serving = Server::builder().add_service(service);
        let serving = async move { drop(serving.serve_with_incoming(UnixListenerStream::new(listener)).await) };
        Self { answers, looked, serving: tokio::spawn(serving) }
    }

    pub fn now(&self) -> MutexGuard<'_, Answers> {
        self.answers.lock().expect("no test panics while it answers")
    }

    /// Until the next look.
    pub async fn looked(&self) {
        tokio::time::timeout(Duration::from_secs(10), self.looked.notified()).await.expect("it is looked at");
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

struct Service {
    answers: Arc<Mutex<Answers>>,
    looked: Arc<Notify>,
}

impl Service {
    fn now(&self) -> MutexGuard<'_, Answers> {
        self.answers.lock().expect("no test panics while it answers")
    }
}

/// The whole service, of which what a node does not ask is not answered.
macro_rules! service {
    ({ $($own:tt)* } $($name:ident $request:ident $answer:ident;)*) => {
        #[async_trait]
        impl RuntimeService for Service {
            $($own)*
            $(async fn $name(&self, _: Request<k8s_cri::v1::$request>) -> Result<Response<k8s_cri::v1::$answer>, Status> {
                Err(Status::unimplemented(stringify!($name)))
            })*
        }
    };
}

service! {
    {
        type GetContainerEventsStream = Pin<Box<dyn Stream<Item = Result<ContainerEventResponse, Status>> + Send>>;

        async fn version(&self, _: Request<VersionRequest>) -> Result<Response<VersionResponse>, Status> {
            Ok(Response::new(VersionResponse::default()))
        }

        async fn list_containers(&self, _: Request<ListContainersRequest>) -> Result<Response<ListContainersResponse>, Status> {
            let mut now = self.now();
            now.looks += 1;
            self.looked.notify_waiters();
            Ok(Response::new(ListContainersResponse { containers: now.listed.clone() }))
        }

        async fn list_pod_sandbox(&self, _: Request<ListPodSandboxRequest>) -> Result<Response<ListPodSandboxResponse>, Status> {
            Ok(Response::new(ListPodSandboxResponse { items: self.now().sandboxes.clone() }))
        }

        async fn container_status(&self, request: Request<ContainerStatusRequest>) -> Result<Response<ContainerStatusResponse>, Status> {
            let told = self.now().told.get(&request.get_ref().container_id).cloned();
            match told {
                Some(Told::Status(status)) => Ok(Response::new(*status)),
                Some(Told::Fails) => Err(Status::internal("its shim is broken")),
                Some(Told::Hangs) => std::future::pending().await,
                None => Err(Status::not_found("no such container")),
            }
        }

        async fn pod_sandbox_status(&self, request: Request<PodSandboxStatusRequest>) -> Result<Response<PodSandboxStatusResponse>, Status> {
            Err(Status::not_found(request.get_ref().pod_sandbox_id.clone()))
        }

        async fn get_container_events(&self, _: Request<GetEventsRequest>) -> Result<Response<Self::GetContainerEventsStream>, Status> {
            let mut now = self.now();
            let Some(streams) = &mut now.events else { return Err(Status::unimplemented("no events")) };
            let (sender, receiver) = mpsc::channel(4096);
            streams.push(sender);
            Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
        }
    }
    run_pod_sandbox RunPodSandboxRequest RunPodSandboxResponse;
    stop_pod_sandbox StopPodSandboxRequest StopPodSandboxResponse;
    remove_pod_sandbox RemovePodSandboxRequest RemovePodSandboxResponse;
    create_container CreateContainerRequest CreateContainerResponse;
    start_container StartContainerRequest StartContainerResponse;
    stop_container StopContainerRequest StopContainerResponse;
    remove_container RemoveContainerRequest RemoveContainerResponse;
    update_container_resources UpdateContainerResourcesRequest UpdateContainerResourcesResponse;
    reopen_container_log ReopenContainerLogRequest ReopenContainerLogResponse;
    exec_sync ExecSyncRequest ExecSyncResponse;
    exec ExecRequest ExecResponse;
    attach AttachRequest AttachResponse;
    port_forward PortForwardRequest PortForwardResponse;
    container_stats ContainerStatsRequest ContainerStatsResponse;
    list_container_stats ListContainerStatsRequest ListContainerStatsResponse;
    pod_sandbox_stats PodSandboxStatsRequest PodSandboxStatsResponse;
    list_pod_sandbox_stats ListPodSandboxStatsRequest ListPodSandboxStatsResponse;
    update_runtime_config UpdateRuntimeConfigRequest UpdateRuntimeConfigResponse;
    status StatusRequest StatusResponse;
    checkpoint_container CheckpointContainerRequest CheckpointContainerResponse;
    list_metric_descriptors ListMetricDescriptorsRequest ListMetricDescriptorsResponse;
    list_pod_sandbox_metrics ListPodSandboxMetricsRequest ListPodSandboxMetricsResponse;
    runtime_config RuntimeConfigRequest RuntimeConfigResponse;
}
