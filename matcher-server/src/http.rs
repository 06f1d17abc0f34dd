//! The HTTP interface: JSON beside gRPC, on the same port and over the same services.
//!
//! ```text
//! request ─ admission, deadline, log line ─▶ handler ─▶ service ─▶ model (JSON) or problem
//! ```
//!
//! Handlers only translate: what a request means, and what is allowed, is decided by the services. The
//! OpenAPI document is made of the handlers.

mod body;
mod drained;
mod matching;
mod model;
mod problem;
mod tracks;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Json;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, MatchedPath, Request, State};
use axum::http::{HeaderName, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Serialize;
use tonic::Status;
use tonic::service::Routes;
use tonic_web::GrpcWebLayer;
use utoipa::{OpenApi, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use self::drained::Drained;
pub(crate) use self::problem::Problem;
use crate::access::{self, Guard};
use crate::catalog_service::Catalog;
use crate::config::Config;
use crate::envelope::{AccessLine, Answered, Asked, Limits};
use crate::match_service::Matcher;
use crate::metrics;
use crate::reason::Reason;

/// The caller's own name for a request, which comes back with the answer and stands in the log.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What handlers work with.
#[derive(Debug, Clone)]
pub(crate) struct Api {
    pub(crate) matcher: Matcher,
    pub(crate) catalog: Catalog,
    pub(crate) ready: Arc<AtomicBool>,
}

#[derive(OpenApi)]
#[openapi(info(
    title = "Earmark",
    description = "Which recordings are in a piece of audio, where, and how surely. The same as earmark.v1 over gRPC, as JSON.",
    license(name = "MIT OR Apache-2.0")
))]
struct Document;

/// Whether the server is well.
#[derive(Debug, Serialize, ToSchema)]
struct Health {
    /// `live`, `ready` or `not_ready`.
    status: &'static str,
}

/// All routes, those of `grpc` included, which gRPC-web reaches too. Each request for JSON passes the
/// admission of gRPC; asking for health does not.
pub(crate) fn router(
    api: Api,
    limits: Limits,
    config: &Config,
    guard: Guard,
    grpc: Routes,
) -> Routes {
    let guard = axum::middleware::from_fn_with_state(guard, access::guard);
    let clips = OpenApiRouter::new()
        .routes(routes!(matching::match_clip))
        .layer(DefaultBodyLimit::max(config.message_bytes_max));
    // Uploads have a limit of their own, which counts while they are received.
    let tracks = OpenApiRouter::new()
        .routes(routes!(tracks::list, tracks::add))
        .routes(routes!(tracks::get, tracks::put, tracks::remove))
        .routes(routes!(tracks::stats))
        .layer(DefaultBodyLimit::disable());
    let served = clips
        .merge(tracks)
        .layer(axum::middleware::from_fn_with_state(limits, admit))
        .layer(guard.clone());
    let health = OpenApiRouter::new().routes(routes!(live)).routes(routes!(ready));
    let (router, document) = OpenApiRouter::with_openapi(Document::openapi())
        .merge(served)
        .merge(health)
        .with_state(api)
        .split_for_parts();
    let document = Arc::new(document);
    let document = move || {
        let document = Arc::clone(&document);
        async move { Json((*document).clone()) }
    };
    let router = router
        .method_not_allowed_fallback(other_method)
        .route("/v1/openapi.json", get(document))
        .layer(axum::middleware::from_fn(drained));
    // gRPC-web's layer refuses whatever is neither gRPC nor gRPC-web.
    let grpc = grpc.into_axum_router().layer(guard).layer(GrpcWebLayer::new());
    Routes::from(router.merge(grpc).fallback(nothing_here))
}

/// What is told where the address exists, but not for this method.
async fn other_method() -> Response {
    let text = "this address knows other methods only; /v1/openapi.json tells which";
    Problem::new(Reason::ArgumentInvalid, text)
        .with_status(StatusCode::METHOD_NOT_ALLOWED)
        .into_response()
}

/// What is told at addresses that do not exist, in the words of the request's protocol.
async fn nothing_here(request: Request) -> Response {
    if is_grpc(&request) {
        return grpc_answer(&Status::unimplemented(
            "there is no such method; is the client newer?",
        ));
    }
    drop(Drained::new(request.into_body()));
    let text = "there is nothing at this address; /v1/openapi.json tells what there is";
    Problem::new(Reason::ArgumentInvalid, text).with_status(StatusCode::NOT_FOUND).into_response()
}

/// True if a request speaks gRPC or gRPC-web.
pub(crate) fn is_grpc(request: &Request) -> bool {
    let media_type = request.headers().get(header::CONTENT_TYPE);
    media_type.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

/// A status as an answer without a message.
pub(crate) fn grpc_answer(status: &Status) -> Response {
    status.clone().into_http::<tonic::body::Body>().map(axum::body::Body::new)
}

/// Sees to it that the rest of the body of a request is read when nobody else does.
async fn drained(request: Request, next: Next) -> Response {
    next.run(request.map(|body| Body::new(Drained::new(body)))).await
}

/// Lets a request in if there is a place for it, ends it when its time is over, and logs it.
async fn admit(State(limits): State<Limits>, request: Request, next: Next) -> Response {
    let path = format!("{} {}", request.method(), request.uri().path());
    let route = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
    let call = metrics::route_of(request.method().as_str(), route);
    let place = limits.admit(&call);
    let mut line = AccessLine::new(Asked { path, call, service: None }, &request, &limits);
    let request_id = request.headers().get(&REQUEST_ID).cloned();
    let mut answer = match place {
        None => {
            let text = "server is busy with other requests; try again in a moment";
            Problem::new(Reason::ServerBusy, text).into_response()
        }
        Some(_open) => {
            let limit = limits.request_time_max();
            let answer = line.trace().around(next.run(request));
            tokio::time::timeout(limit, answer).await.unwrap_or_else(|_| {
                let text = format!(
                    "the request took longer than the server allows ({} s); send less audio",
                    limit.as_secs()
                );
                Problem::new(Reason::DeadlinePassed, text).into_response()
            })
        }
    };
    line.end(Answered::Http(answer.status()), answer.extensions().get().copied());
    if let Some(request_id) = request_id {
        answer.headers_mut().entry(&REQUEST_ID).or_insert(request_id);
    }
    answer
}

/// Whether the process runs.
#[utoipa::path(get, path = "/health/live", tag = "health", responses((status = 200, body = Health)))]
async fn live() -> Json<Health> {
    Json(Health { status: "live" })
}

/// Whether requests are answered: not while the index is being opened, nor once the server stops.
#[utoipa::path(get, path = "/health/ready", tag = "health",
    responses((status = 200, body = Health), (status = 503, body = Health)))]
async fn ready(State(api): State<Api>) -> (StatusCode, Json<Health>) {
    if api.ready.load(Ordering::Relaxed) {
        (StatusCode::OK, Json(Health { status: "ready" }))
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, Json(Health { status: "not_ready" }))
    }
}
