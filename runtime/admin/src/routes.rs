//! Routes, in the order of the table in the crate's doc.

use std::{collections::VecDeque, convert::Infallible, sync::Arc};

use actix_web::{
    HttpRequest, HttpResponse, HttpResponseBuilder,
    http::{StatusCode, header},
    web::{self, Bytes, Data, Query, ServiceConfig},
};
use futures_util::{StreamExt as _, stream};
use palisade_domain::text::printable_json;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::IntoParams;

use crate::{
    AdminView, AlertLines, Document, Exposition, LineFilter, RecordingRequest, TraceBytes, ViewError, answers,
    exposition,
    filter::Filter,
    nodes::{AllLine, AllLines, Nodes, TreeOrTrees},
    openapi as description, tree_events,
};

/// The view as the handlers share it.
pub(crate) type View = Data<dyn AdminView>;

/// All routes; a test holds them and the OpenAPI document to each other.
pub(crate) const ROUTES: [&str; 15] = [
    "/healthz",
    "/readyz",
    "/metrics",
    "/v1/openapi.json",
    "/v1/tree",
    "/v1/tree/events",
    "/v1/nodes",
    "/v1/workloads",
    "/v1/policies",
    "/v1/kernel",
    "/v1/activity",
    "/v1/processes",
    "/v1/alerts",
    "/v1/record",
    "/v1/record/end",
];

/// The routes that are not asked by GET: they make the node do something.
const RECORD: &str = "/v1/record";
const END_RECORDING: &str = "/v1/record/end";
/// The header of a trace that says what ends it.
const RECORDING_ID: &str = "palisade-recording";

/// Which alerts. All that is given must hold; `*` is any text, and commas part alternatives (not in `source` and `resource`).
#[derive(Debug, Deserialize, Serialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct AlertQuery {
    /// Past alerts to begin with, the last of those that the filters let through.
    #[serde(default = "AlertQuery::default_recent")]
    pub(crate) recent: usize,
    /// Go on with alerts as they come.
    #[serde(default)]
    pub(crate) follow: bool,
    /// Which lines.
    #[serde(default)]
    pub(crate) filter: LineFilter,
    /// Whose.
    #[serde(default)]
    pub(crate) nodes: NodesChoice,
    /// End after so many.
    pub(crate) limit: Option<u64>,
    /// Namespace of the workload.
    pub(crate) namespace: Option<String>,
    /// Pod, or container outside Kubernetes, or host.
    pub(crate) pod: Option<String>,
    /// Container in its pod.
    pub(crate) container: Option<String>,
    /// Kind of act.
    pub(crate) operation: Option<String>,
    /// Executable that acted.
    pub(crate) source: Option<String>,
    /// What was acted on.
    pub(crate) resource: Option<String>,
    /// Name of the policy that decided.
    pub(crate) policy: Option<String>,
    /// Least severity of the rule.
    pub(crate) severity: Option<u8>,
    /// What became of the act.
    pub(crate) verdict: Option<String>,
    /// `app=web,tier=front`: all of them.
    pub(crate) labels: Option<String>,
    /// Nanoseconds since 1970: not older than this.
    pub(crate) since: Option<u64>,
}

/// What to record.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct RecordQuery {
    /// Seconds of the past that come first, as far as they are kept.
    #[serde(default)]
    last: u64,
    /// Seconds from now on; until the client goes away, if not given.
    duration: Option<u64>,
    /// Bytes at which the trace ends; 0: no bound.
    #[serde(default)]
    limit_bytes: u64,
    /// Keep the arguments of processes, from now on.
    #[serde(default)]
    arguments: bool,
    /// Names of workloads between commas; all, if not given.
    workload: Option<String>,
}

/// Which recording.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct EndQuery {
    /// As the header `Palisade-Recording` of its trace has it.
    id: u64,
}

/// Whose tree or alerts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum NodesChoice {
    /// This node's.
    #[default]
    Own,
    /// Those of all nodes that are linked, or were.
    All,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct TreeQuery {
    /// Whose: with `all` the answer is Trees.
    #[serde(default)]
    nodes: NodesChoice,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ProcessQuery {
    /// `NAME`, `NAMESPACE/NAME`, `NAMESPACE/NAME/CONTAINER` or `host`.
    workload: String,
}

impl AlertQuery {
    fn default_recent() -> usize {
        100
    }
}

impl Default for AlertQuery {
    fn default() -> Self {
        Self {
            recent: Self::default_recent(),
            follow: false,
            filter: LineFilter::default(),
            nodes: NodesChoice::default(),
            limit: None,
            namespace: None,
            pod: None,
            container: None,
            operation: None,
            source: None,
            resource: None,
            policy: None,
            severity: None,
            verdict: None,
            labels: None,
            since: None,
        }
    }
}

/// JSON of which nothing is obeyed by a terminal: people ask by curl, and names are what workloads chose.
pub(crate) fn json(mut response: HttpResponseBuilder, body: &impl Serialize) -> HttpResponse {
    match serde_json::to_string(body) {
        Ok(text) => response.content_type("application/json").body(printable_json(&text)),
        Err(error) => HttpResponse::InternalServerError().body(error.to_string()),
    }
}

pub(crate) fn configure(service: &mut ServiceConfig) {
    service
        .route("/healthz", web::get().to(alive))
        .route("/readyz", web::get().to(readiness))
        .route("/metrics", web::get().to(metrics))
        .route("/v1/openapi.json", web::get().to(openapi))
        .route("/v1/tree", web::get().to(tree))
        .route("/v1/tree/events", web::get().to(tree_events))
        .route("/v1/nodes", web::get().to(nodes))
        .route("/v1/workloads", web::get().to(workloads))
        .route("/v1/policies", web::get().to(policies))
        .route("/v1/kernel", web::get().to(kernel))
        .route("/v1/activity", web::get().to(activity))
        .route("/v1/processes", web::get().to(processes))
        .route("/v1/alerts", web::get().to(alerts))
        .route(RECORD, web::post().to(record))
        .route(END_RECORDING, web::post().to(end_recording))
        .app_data(web::QueryConfig::default().error_handler(|error, request| {
            let response = wrong_query(&error.to_string(), request.path());
            actix_web::error::InternalError::from_response(error, response).into()
        }))
        .default_service(web::to(unknown));
}

fn wrong_query(why: &str, path: &str) -> HttpResponse {
    let instead = match path {
        "/v1/processes" => "/v1/processes?workload=host",
        END_RECORDING => "/v1/record/end?id=0",
        RECORD => "/v1/record?last=300&duration=60&workload=default/web",
        "/v1/tree" => "/v1/tree?nodes=all",
        _ => "/v1/alerts?recent=100&follow=true&verdict=denied",
    };
    let body = json!({ "error": format!("query: {why}"), "try": instead });
    json(HttpResponse::BadRequest(), &body)
}

/// The process turns its loop.
#[utoipa::path(get, path = "/healthz", responses((status = 200, description = "It does.", body = answers::Alive)))]
pub(crate) async fn alive() -> HttpResponse {
    json(HttpResponse::Ok(), &answers::Alive { alive: true })
}

/// Conditions by name.
#[utoipa::path(get, path = "/readyz", responses(
    (status = 200, description = "Ready: nothing is pending or failed.", body = answers::Readiness),
    (status = 503, description = "Not ready; or nobody could say.", body = answers::NotReady),
))]
pub(crate) async fn readiness(view: View) -> HttpResponse {
    match view.readiness().await {
        Ok((true, conditions)) => json(HttpResponse::Ok(), &json!({ "ready": true, "conditions": conditions })),
        Ok((false, conditions)) => {
            json(HttpResponse::ServiceUnavailable(), &json!({ "ready": false, "conditions": conditions }))
        }
        Err(error) => unavailable(&error),
    }
}

/// OpenMetrics for who asks for it, as Prometheus does; the older text format, which every scraper reads, for all others.
#[utoipa::path(get, path = "/metrics", responses(
    (status = 200, description = "Prometheus text, or OpenMetrics for who accepts it.", body = String, content_type = "text/plain"),
))]
pub(crate) async fn metrics(view: View, request: HttpRequest) -> HttpResponse {
    let accepted = request.headers().get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let form =
        if accepted.contains("application/openmetrics-text") { Exposition::OpenMetrics } else { Exposition::Text };
    match exposition(view.metrics().await, form) {
        Ok(text) => HttpResponse::Ok().insert_header((header::CONTENT_TYPE, form.content_type())).body(text),
        Err(error) => json(HttpResponse::InternalServerError(), &json!({ "error": error.to_string() })),
    }
}

/// This description.
#[utoipa::path(get, path = "/v1/openapi.json", responses((status = 200, description = "OpenAPI 3.1.", body = Object)))]
pub(crate) async fn openapi() -> HttpResponse {
    json(HttpResponse::Ok(), &description::document())
}

/// The supervision tree, live.
#[utoipa::path(get, path = "/v1/tree", params(TreeQuery), responses(
    (status = 200, description = "The root; with `nodes=all` those of all nodes.", body = TreeOrTrees),
    (status = 400, description = "A parameter is wrong.", body = answers::Refusal),
    (status = 503, description = "Nobody could say.", body = answers::Refusal),
))]
pub(crate) async fn tree(view: View, query: Query<TreeQuery>) -> HttpResponse {
    let which = match query.nodes {
        NodesChoice::Own => Document::Tree,
        NodesChoice::All => Document::TreeOfAll,
    };
    document(&view, which).await
}

/// The nodes that are linked, or should be, and who was turned away.
#[utoipa::path(get, path = "/v1/nodes", responses(
    (status = 200, description = "This node first.", body = Nodes),
    (status = 503, description = "Nobody could say.", body = answers::Refusal),
))]
pub(crate) async fn nodes(view: View) -> HttpResponse {
    document(&view, Document::Nodes).await
}

/// The supervision tree as server-sent events: `tree` with all of it, then `changes` (TreeChanges), at most one a second.
#[utoipa::path(get, path = "/v1/tree/events", responses(
    (status = 200, description = "Events.", body = String, content_type = "text/event-stream"),
    (status = 503, description = "Too many listen already.", body = answers::Refusal),
))]
pub(crate) async fn tree_events(view: View, places: Data<tree_events::Places>) -> HttpResponse {
    let Some(place) = places.take() else {
        let error = format!("{} listen already, at most", tree_events::LISTENERS);
        return json(HttpResponse::ServiceUnavailable(), &json!({ "error": error, "try": "/v1/tree" }));
    };
    HttpResponse::Ok()
        .insert_header((header::CONTENT_TYPE, "text/event-stream"))
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .streaming(tree_events::events(view, place))
}

/// Workloads by slot, with the policy that each is held to.
#[utoipa::path(get, path = "/v1/workloads", responses(
    (status = 200, description = "All of them.", body = answers::Workloads),
    (status = 503, description = "Nobody could say.", body = answers::Refusal),
))]
pub(crate) async fn workloads(view: View) -> HttpResponse {
    document(&view, Document::Workloads).await
}

/// The policy set in force, and what is wrong with the directory.
#[utoipa::path(get, path = "/v1/policies", responses(
    (status = 200, description = "The set.", body = answers::Policies),
    (status = 503, description = "Nobody could say.", body = answers::Refusal),
))]
pub(crate) async fn policies(view: View) -> HttpResponse {
    document(&view, Document::Policies).await
}

/// What the kernel can do, and which tier is used.
#[utoipa::path(get, path = "/v1/kernel", responses(
    (status = 200, description = "The matrix.", body = answers::Kernel),
    (status = 503, description = "Nobody could say.", body = answers::Refusal),
))]
pub(crate) async fn kernel(view: View) -> HttpResponse {
    document(&view, Document::Kernel).await
}

/// Cumulative counts of records and alerts, in all and by workload.
#[utoipa::path(get, path = "/v1/activity", responses(
    (status = 200, description = "The counts.", body = answers::Activity),
    (status = 503, description = "Nobody could say.", body = answers::Refusal),
))]
pub(crate) async fn activity(view: View) -> HttpResponse {
    document(&view, Document::Activity).await
}

/// The living processes of a workload.
#[utoipa::path(get, path = "/v1/processes", params(ProcessQuery), responses(
    (status = 200, description = "By workload of that name.", body = answers::Processes),
    (status = 400, description = "No workload is named.", body = answers::Refusal),
    (status = 503, description = "Nobody could say.", body = answers::Refusal),
))]
pub(crate) async fn processes(view: View, query: Query<ProcessQuery>) -> HttpResponse {
    match view.processes(&query.workload).await {
        Ok(processes) => json(HttpResponse::Ok(), &processes),
        Err(error) => unavailable(&error),
    }
}

async fn document(view: &View, which: Document) -> HttpResponse {
    match view.document(which).await {
        Ok(document) => json(HttpResponse::Ok(), &document),
        Err(error) => unavailable(&error),
    }
}

/// Alerts as JSON lines, past ones first.
#[utoipa::path(get, path = "/v1/alerts", params(AlertQuery), responses(
    (status = 200, description = "A line for each (AlertAnswer); with `nodes=all` marks of nodes among them (NodeMark).", body = String, content_type = "application/jsonl"),
    (status = 400, description = "A parameter is wrong.", body = answers::Refusal),
    (status = 503, description = "Nobody could say, or too many follow already.", body = answers::Refusal),
))]
pub(crate) async fn alerts(view: View, query: Query<AlertQuery>) -> HttpResponse {
    let filter = match Filter::of(&query) {
        Ok(filter) => filter,
        Err(error) => return wrong_query(&error.to_string(), "/v1/alerts"),
    };
    if query.nodes == NodesChoice::All {
        return alerts_of_all(&view, &query, filter).await;
    }
    // Of past alerts as many are asked for as there are: which of them count is said here.
    let recent = if filter.is_open() { query.recent } else { usize::MAX };
    match view.alerts(query.filter, recent, query.follow).await {
        Ok(lines) => {
            let listener = Listener::new(lines, filter, query.recent, query.limit);
            HttpResponse::Ok().insert_header((header::CONTENT_TYPE, "application/jsonl")).streaming(body(listener))
        }
        Err(error) => unavailable(&error),
    }
}

/// A trace, as it is made; guarded like everything here, and by POST because the node works for it.
#[utoipa::path(post, path = "/v1/record", params(RecordQuery), responses(
    (status = 200, description = "The trace's bytes (messages/wire, trace).", body = String, content_type = "application/vnd.palisade.trace"),
    (status = 400, description = "A parameter is wrong.", body = answers::Refusal),
    (status = 503, description = "Nobody could say, or too many record already.", body = answers::Refusal),
))]
pub(crate) async fn record(view: View, query: Query<RecordQuery>) -> HttpResponse {
    let RecordQuery { last, duration, limit_bytes, arguments, workload } = query.into_inner();
    let names = workload.iter().flat_map(|names| names.split(',')).filter(|name| !name.is_empty());
    let request = RecordingRequest {
        workloads: names.map(str::to_owned).collect(),
        last_seconds: last,
        duration_seconds: duration,
        limit_bytes,
        arguments,
    };
    match view.record(request).await {
        Ok(begun) => HttpResponse::Ok()
            .insert_header((header::CONTENT_TYPE, "application/vnd.palisade.trace"))
            .insert_header((header::CACHE_CONTROL, "no-store"))
            .insert_header((RECORDING_ID, begun.id.to_string()))
            .streaming(chunks(begun.trace)),
        Err(error) => unavailable(&error),
    }
}

/// Ends a trace that is being made: what is there until now, then its index.
#[utoipa::path(post, path = "/v1/record/end", params(EndQuery), responses(
    (status = 200, description = "Whether it was being made.", body = answers::RecordingEnded),
    (status = 400, description = "A parameter is wrong.", body = answers::Refusal),
    (status = 503, description = "Nobody could say.", body = answers::Refusal),
))]
pub(crate) async fn end_recording(view: View, query: Query<EndQuery>) -> HttpResponse {
    match view.end_recording(query.id).await {
        Ok(ended) => json(HttpResponse::Ok(), &answers::RecordingEnded { ended }),
        Err(error) => unavailable(&error),
    }
}

/// Ends when the recorder does; each poll takes one chunk, so that a slow client holds back its own recording, and no memory.
fn chunks(trace: TraceBytes) -> impl futures_util::Stream<Item = Result<Bytes, Infallible>> {
    stream::unfold(trace, async |mut trace| {
        let chunk = trace.recv().await?;
        Some((Ok(Bytes::copy_from_slice(&chunk)), trace))
    })
}

/// A mark for each node, then those of the last alerts of all that are let through.
async fn alerts_of_all(view: &View, query: &AlertQuery, filter: Filter) -> HttpResponse {
    if query.filter != LineFilter::Policy {
        return wrong_query("of all nodes only alerts are told, and no logs", "/v1/alerts");
    }
    if query.follow {
        return match view.follow_all(if filter.is_open() { query.recent } else { usize::MAX }).await {
            Ok(lines) => HttpResponse::Ok()
                .insert_header((header::CONTENT_TYPE, "application/jsonl"))
                .streaming(body_of_all(lines, filter, query.limit)),
            Err(error) => unavailable(&error),
        };
    }
    let all = match view.alerts_of_all(if filter.is_open() { query.recent } else { usize::MAX }).await {
        Ok(all) => all,
        Err(error) => return unavailable(&error),
    };
    let mut text: String = all.marks.iter().map(|mark| json!(mark).to_string() + "\n").collect();
    let admitted: Vec<&String> = all.lines.iter().filter(|line| filter.admits(line)).collect();
    let limit = query.limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    for line in admitted.iter().skip(admitted.len().saturating_sub(query.recent)).take(limit) {
        text += line;
        text.push('\n');
    }
    HttpResponse::Ok().insert_header((header::CONTENT_TYPE, "application/jsonl")).body(text)
}

/// Each poll takes one line. Marks are no alerts: no filter keeps them back, and no limit counts them.
fn body_of_all(
    lines: AllLines,
    filter: Filter,
    limit: Option<u64>,
) -> impl futures_util::Stream<Item = Result<Bytes, Infallible>> {
    stream::unfold((lines, filter, limit), async |(mut lines, filter, left)| {
        if left == Some(0) {
            return None;
        }
        loop {
            match lines.next().await? {
                AllLine::Mark(mark) => {
                    let text = json!(mark).to_string() + "\n";
                    return Some((Ok(Bytes::from(text)), (lines, filter, left)));
                }
                AllLine::Alert(line) if filter.admits(&line) => {
                    let text = format!("{line}\n");
                    return Some((Ok(Bytes::from(text)), (lines, filter, left.map(|left| left - 1))));
                }
                AllLine::Alert(_) => {}
            }
        }
    })
}

/// Who reads alerts.
struct Listener {
    /// Past ones that are let through.
    past: VecDeque<Arc<str>>,
    lines: AlertLines,
    filter: Filter,
    left: Option<u64>,
}

impl Listener {
    fn new(mut lines: AlertLines, filter: Filter, recent: usize, limit: Option<u64>) -> Self {
        let mut past = VecDeque::new();
        if !filter.is_open() {
            // What waits now is the past, and perhaps an alert that came this moment.
            for _ in 0..lines.len() {
                let Ok(line) = lines.try_recv() else { break };
                if filter.admits(&line) {
                    past.push_back(line);
                    if past.len() > recent {
                        past.pop_front();
                    }
                }
            }
        }
        Self { past, lines, filter, left: limit }
    }

    async fn next(&mut self) -> Option<Arc<str>> {
        if self.left == Some(0) {
            return None;
        }
        let line = match self.past.pop_front() {
            Some(line) => line,
            None => loop {
                let line = self.lines.recv().await?;
                if self.filter.admits(&line) {
                    break line;
                }
            },
        };
        self.left = self.left.map(|left| left - 1);
        Some(line)
    }
}

/// Ends when the sender does; each poll takes one line, so that a slow client holds back the bounded queue, not memory.
fn body(listener: Listener) -> impl futures_util::Stream<Item = Result<Bytes, Infallible>> {
    stream::unfold(listener, async |mut listener| {
        let line = listener.next().await?;
        Some((Ok(Bytes::copy_from_slice(line.as_bytes())), listener))
    })
}

fn unavailable(error: &ViewError) -> HttpResponse {
    json(HttpResponse::ServiceUnavailable(), &json!({ "error": error.to_string(), "try": "/v1/tree" }))
}

async fn unknown(request: HttpRequest) -> HttpResponse {
    let allowed = if [RECORD, END_RECORDING].contains(&request.path()) { "POST" } else { "GET" };
    let (status, error) = if ROUTES.contains(&request.path()) {
        (StatusCode::METHOD_NOT_ALLOWED, format!("{} is not possible here: only {allowed}", request.method()))
    } else {
        (StatusCode::NOT_FOUND, format!("there is nothing at {}", request.path()))
    };
    let mut response = HttpResponseBuilder::new(status);
    if status == StatusCode::METHOD_NOT_ALLOWED {
        response.insert_header((header::ALLOW, allowed));
    }
    json(response, &json!({ "error": error, "routes": ROUTES }))
}
