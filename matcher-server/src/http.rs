//! The HTTP interface: JSON beside gRPC, on the same port and over the same services.
//!
//! ```text
//! request ─ admission, deadline, log line ─▶ handler ─▶ service ─▶ model (JSON) or problem
//! ```
//!
//! Handlers only translate: what a request means, and what is allowed, is decided by the services. The
//! OpenAPI document is made of the handlers.

mod body;
mod matching;
mod model;
mod problem;
mod tracks;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Json;
use axum::extract::{DefaultBodyLimit, MatchedPath, Request, State};
use axum::http::{StatusCode, Version, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use http_body_util::BodyExt;
use serde::Serialize;
use tonic::Status;
use tonic::service::Routes;
use tonic_web::GrpcWebLayer;
use utoipa::{OpenApi, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(crate) use self::problem::Problem;
use crate::access::{self, Guard};
use crate::catalog_service::Catalog;
use crate::config::Config;
use crate::envelope::{AccessLine, Limits};
use crate::match_service::Matcher;
use crate::metrics;
use crate::reason::Reason;

/// Most bytes, and longest time, that are spent on the rest of a refused request.
const DRAINED_BYTES_MAX: usize = 1 << 20;
const DRAIN_TIME_MAX: Duration = Duration::from_secs(1);

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
    let router = router.method_not_allowed_fallback(other_method);
    // gRPC-web's layer refuses whatever is neither gRPC nor gRPC-web.
    let grpc = grpc.into_axum_router().layer(guard).layer(GrpcWebLayer::new());
    let routes = router.route("/v1/openapi.json", get(document)).merge(grpc).fallback(nothing_here);
    Routes::from(routes)
}

/// What is told where the address exists, but not for this method.
async fn other_method() -> Response {
    let text = "this address knows other methods only; /v1/openapi.json tells which";
    let mut answer = Problem::new(Reason::ArgumentInvalid, text).into_response();
    *answer.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
    answer
}

/// What is told at addresses that do not exist, in the words of the request's protocol.
async fn nothing_here(request: Request) -> Response {
    if is_grpc(&request) {
        return grpc_answer(&Status::unimplemented(
            "there is no such method; is the client newer?",
        ));
    }
    let text = "there is nothing at this address; /v1/openapi.json tells what there is";
    let mut answer = Problem::new(Reason::ArgumentInvalid, text).into_response();
    *answer.status_mut() = StatusCode::NOT_FOUND;
    answer
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

/// Reads on, within limits, what comes of a request that is answered already: a client of HTTP/1.1 that still sends
/// when the connection is closed would see a broken connection, and not why it was refused.
pub(crate) async fn drain(request: Request) {
    let waits = request.headers().contains_key(header::EXPECT);
    if request.version() > Version::HTTP_11 || waits {
        return;
    }
    let mut body = request.into_body();
    let mut bytes_left = DRAINED_BYTES_MAX;
    let reading = async {
        while let Some(Ok(frame)) = body.frame().await {
            let bytes = frame.data_ref().map_or(0, Bytes::len);
            let Some(left) = bytes_left.checked_sub(bytes) else { return };
            bytes_left = left;
        }
    };
    // Whoever is slower has had its chance.
    let _ = tokio::time::timeout(DRAIN_TIME_MAX, reading).await;
}

/// Lets a request in if there is a place for it, ends it when its time is over, and logs it.
async fn admit(State(limits): State<Limits>, request: Request, next: Next) -> Response {
    let path = format!("{} {}", request.method(), request.uri().path());
    let route = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
    let call = metrics::route_of(request.method().as_str(), route);
    let place = limits.admit(&call);
    let mut line = AccessLine::new(path, call, request.extensions().get(), limits.metrics());
    let answer = match place {
        None => {
            drain(request).await;
            let text = "server is busy with other requests; try again in a moment";
            Problem::new(Reason::ServerBusy, text).into_response()
        }
        Some(_open) => {
            let limit = limits.request_time_max();
            tokio::time::timeout(limit, next.run(request)).await.unwrap_or_else(|_| {
                let text = format!(
                    "the request took longer than the server allows ({} s); send less audio",
                    limit.as_secs()
                );
                Problem::new(Reason::DeadlinePassed, text).into_response()
            })
        }
    };
    line.end(answer.status().as_u16().to_string(), answer.extensions().get().copied());
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
