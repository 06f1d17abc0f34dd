//! The HTTP interface: JSON beside gRPC, on the same port and over the same services.
//!
//! ```text
//! request ─ admission, deadline, log line ─▶ handler ─▶ service ─▶ model (JSON) or problem
//! ```
//!
//! Handlers only translate: what a request means, and what is allowed, is decided by the services. The
//! OpenAPI document is made of the handlers.

mod admission;
mod body;
mod document;
mod drained;
mod fields;
mod form;
mod matching;
mod model;
mod options;
mod problem;
mod shapes;
mod tracks;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Json;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::handler::Handler;
use axum::http::{StatusCode, header};
use axum::middleware::{Next, from_fn, from_fn_with_state, map_request};
use axum::response::Response;
use serde::Serialize;
use tonic::Status;
use tonic::service::Routes;
use tonic_web::GrpcWebLayer;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use self::admission::{REQUEST_ID, request_id};
pub(crate) use self::admission::{told_path, told_request_id};
use self::document::Asked;
use self::drained::Drained;
pub(crate) use self::problem::Problem;
use crate::access::{self, Guard};
use crate::catalog_service::Catalog;
use crate::config::Config;
use crate::envelope::{self, Limits};
use crate::match_service::Matcher;

/// What handlers work with.
#[derive(Debug, Clone)]
pub(crate) struct Api {
    pub(crate) matcher: Matcher,
    pub(crate) catalog: Catalog,
    pub(crate) ready: Arc<AtomicBool>,
}

/// Whether the server is well.
#[derive(Debug, Serialize, ToSchema)]
struct Health {
    status: HealthStatus,
}

/// How the server is.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum HealthStatus {
    /// The process runs.
    Live,
    /// Requests are answered.
    Ready,
    /// The index is being opened, or the server is about to stop.
    NotReady,
}

/// All routes, those of `grpc` included, which gRPC-web reaches too. Each request for JSON passes the
/// admission of gRPC; asking for health, or for the document, does not.
pub(crate) fn router(
    api: Api,
    limits: Limits,
    config: &Config,
    guard: Guard,
    grpc: Routes,
) -> Routes {
    let has_client_ca = config.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some());
    let asked = Asked { key: guard.access.needs_key(), certificate: has_client_ca };
    let guard = from_fn_with_state(guard, access::guard);
    let stray = from_fn_with_state(limits.clone(), admission::stray);
    let only_grpc = from_fn_with_state(limits.clone(), admission::only_grpc);
    let clips = clip_calls().layer(DefaultBodyLimit::max(config.message_bytes_max));
    // Uploads have a limit of their own, which counts while they are received.
    let tracks = track_calls().layer(DefaultBodyLimit::disable());
    let served = clips
        .merge(tracks)
        .layer(from_fn_with_state(limits, admission::admit))
        .layer(guard.clone());
    let (router, document) = OpenApiRouter::with_openapi(document::begun())
        .merge(served)
        .merge(health_calls())
        .with_state(api)
        .split_for_parts();
    let router = router
        .merge(document::router(document, asked))
        .method_not_allowed_fallback(admission::other_method.layer(stray.clone()))
        .layer(from_fn(drained));
    // gRPC-web's layer refuses whatever is neither gRPC nor gRPC-web, without a word.
    let grpc = grpc.into_axum_router().layer(guard).layer(GrpcWebLayer::new()).layer(only_grpc);
    let router = router.merge(grpc).fallback(admission::nothing_here.layer(stray));
    Routes::from(router.layer(map_request(envelope::tell_ends)))
}

fn clip_calls() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(matching::match_clip))
}

fn track_calls() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(tracks::list, tracks::add))
        .routes(routes!(tracks::get, tracks::put, tracks::remove))
        .routes(routes!(tracks::stats))
}

fn health_calls() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(live)).routes(routes!(ready))
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

/// Whether the process runs
#[utoipa::path(get, path = "/health/live", tag = "health", operation_id = "health_live",
    responses((status = 200, description = "It runs", body = Health)))]
async fn live() -> Json<Health> {
    Json(Health { status: HealthStatus::Live })
}

/// Whether requests are answered: not while the index is being opened, nor once the server stops
#[utoipa::path(get, path = "/health/ready", tag = "health", operation_id = "health_ready", responses(
    (status = 200, description = "They are", body = Health),
    (status = 503, description = "Not yet, or no more", body = Health)))]
async fn ready(State(api): State<Api>) -> (StatusCode, Json<Health>) {
    if api.ready.load(Ordering::Relaxed) {
        (StatusCode::OK, Json(Health { status: HealthStatus::Ready }))
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, Json(Health { status: HealthStatus::NotReady }))
    }
}
