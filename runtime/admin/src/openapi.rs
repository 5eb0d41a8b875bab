//! The OpenAPI document, made of the handlers' own annotations and the answers' own types.

use utoipa::{
    Modify, OpenApi,
    openapi::{
        OpenApi as OpenApiDocument,
        security::{Http, HttpAuthScheme, SecurityScheme},
    },
};

use crate::{answers, nodes, routes};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Palisade admin endpoint",
        description = "What a running node tells of itself. It changes nothing of what is enforced. On the Unix socket whoever can open it may ask; on loopback \
                       with the bearer token."
    ),
    paths(
        routes::alive,
        routes::readiness,
        routes::metrics,
        routes::openapi,
        routes::tree,
        routes::tree_events,
        routes::nodes,
        routes::workloads,
        routes::policies,
        routes::kernel,
        routes::activity,
        routes::processes,
        routes::alerts,
        routes::record,
        routes::end_recording
    ),
    components(schemas(answers::TreeChanges, answers::AlertAnswer, nodes::NodeMark)),
    security((), ("token" = [])),
    modifiers(&Token)
)]
struct Api;

struct Token;

impl Modify for Token {
    fn modify(&self, document: &mut OpenApiDocument) {
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("token", SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer)));
    }
}

/// The document.
pub(crate) fn document() -> OpenApiDocument {
    Api::openapi()
}
