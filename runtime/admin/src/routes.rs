//! Routes, in the order of the table in the crate's doc.

use std::{convert::Infallible, sync::Arc};

use actix_web::{
    HttpRequest, HttpResponse, HttpResponseBuilder,
    http::{StatusCode, header},
    web::{self, Bytes, Data, Query, ServiceConfig},
};
use futures_util::stream;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{AdminView, AlertLines, Document, Exposition, LineFilter, ViewError, exposition};

/// The view as the handlers share it.
pub(crate) type View = Data<dyn AdminView>;

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct AlertQuery {
    #[serde(default = "AlertQuery::default_recent")]
    recent: usize,
    #[serde(default)]
    follow: bool,
    #[serde(default)]
    filter: LineFilter,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ProcessQuery {
    workload: String,
}

impl AlertQuery {
    fn default_recent() -> usize {
        100
    }
}

pub(crate) fn configure(service: &mut ServiceConfig) {
    service
        .route("/healthz", web::get().to(async || HttpResponse::Ok().json(json!({ "alive": true }))))
        .route("/readyz", web::get().to(readiness))
        .route("/metrics", web::get().to(metrics))
        .route("/v1/tree", web::get().to(async |view: View| document(&view, Document::Tree).await))
        .route("/v1/workloads", web::get().to(async |view: View| document(&view, Document::Workloads).await))
        .route("/v1/policies", web::get().to(async |view: View| document(&view, Document::Policies).await))
        .route("/v1/kernel", web::get().to(async |view: View| document(&view, Document::Kernel).await))
        .route("/v1/processes", web::get().to(processes))
        .route("/v1/alerts", web::get().to(alerts))
        .app_data(web::QueryConfig::default().error_handler(|error, _| {
            let body = json!({ "error": format!("query: {error}"), "try": "/v1/alerts?recent=100&follow=true" });
            actix_web::error::InternalError::from_response(error, HttpResponse::BadRequest().json(body)).into()
        }))
        .default_service(web::to(unknown));
}

async fn document(view: &View, which: Document) -> HttpResponse {
    match view.document(which).await {
        Ok(document) => HttpResponse::Ok().json(document),
        Err(error) => unavailable(&error),
    }
}

async fn readiness(view: View) -> HttpResponse {
    match view.readiness().await {
        Ok((true, conditions)) => HttpResponse::Ok().json(json!({ "ready": true, "conditions": conditions })),
        Ok((false, conditions)) => {
            HttpResponse::ServiceUnavailable().json(json!({ "ready": false, "conditions": conditions }))
        }
        Err(error) => unavailable(&error),
    }
}

/// OpenMetrics for who asks for it, as Prometheus does; the older text format, which every scraper reads, for all others.
async fn metrics(view: View, request: HttpRequest) -> HttpResponse {
    let accepted = request.headers().get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let form =
        if accepted.contains("application/openmetrics-text") { Exposition::OpenMetrics } else { Exposition::Text };
    match exposition(view.metrics().await, form) {
        Ok(text) => HttpResponse::Ok().insert_header((header::CONTENT_TYPE, form.content_type())).body(text),
        Err(error) => HttpResponse::InternalServerError().json(json!({ "error": error.to_string() })),
    }
}

async fn processes(view: View, query: Query<ProcessQuery>) -> HttpResponse {
    match view.processes(&query.workload).await {
        Ok(processes) => HttpResponse::Ok().json(processes),
        Err(error) => unavailable(&error),
    }
}

async fn alerts(view: View, query: Query<AlertQuery>) -> HttpResponse {
    match view.alerts(query.filter, query.recent, query.follow).await {
        Ok(lines) => {
            HttpResponse::Ok().insert_header((header::CONTENT_TYPE, "application/jsonl")).streaming(body(lines))
        }
        Err(error) => unavailable(&error),
    }
}

/// Ends when the sender does; each poll takes one line, so that a slow client holds back the bounded queue, not memory.
fn body(lines: AlertLines) -> impl futures_util::Stream<Item = Result<Bytes, Infallible>> {
    stream::unfold(lines, async |mut lines| {
        let line: Arc<str> = lines.recv().await?;
        Some((Ok(Bytes::copy_from_slice(line.as_bytes())), lines))
    })
}

fn unavailable(error: &ViewError) -> HttpResponse {
    HttpResponse::ServiceUnavailable().json(json!({ "error": error.to_string(), "try": "/v1/tree" }))
}

async fn unknown(request: HttpRequest) -> HttpResponse {
    const ROUTES: [&str; 9] = [
        "/healthz",
        "/readyz",
        "/metrics",
        "/v1/tree",
        "/v1/workloads",
        "/v1/policies",
        "/v1/kernel",
        "/v1/processes",
        "/v1/alerts",
    ];
    let (status, error) = if ROUTES.contains(&request.path()) {
        (StatusCode::METHOD_NOT_ALLOWED, format!("{} is not possible here: only GET", request.method()))
    } else {
        (StatusCode::NOT_FOUND, format!("there is nothing at {}", request.path()))
    };
    let mut response = HttpResponseBuilder::new(status);
    if status == StatusCode::METHOD_NOT_ALLOWED {
        response.insert_header((header::ALLOW, "GET"));
    }
    response.json(json!({ "error": error, "routes": ROUTES }))
}
