//! What requests over HTTP go through: a place, a deadline, a log line that is counted, and the caller's name for
//! them. Also those that lead nowhere, whose calls are counted as one: nobody can make up labels.

use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tonic::Status;

use super::drained::Drained;
use super::problem::Problem;
use super::{grpc_answer, is_grpc};
use crate::envelope::{self, AccessLine, Answered, Asked, Limits};
use crate::reason::Reason;
use crate::{convert, metrics};

/// The caller's own name for a request, which comes back with the answer and stands in the log.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Most of a request's name that is logged, in characters.
const REQUEST_ID_MAX: usize = 128;

/// The caller's name for a request; empty if there is none.
///
/// # Errors
///
/// If it is no text: passed over, it would be no protection for a client that counts on it.
pub(super) fn request_id(headers: &HeaderMap) -> Result<String, Problem> {
    let mut values = headers.get_all(&REQUEST_ID).iter();
    let Some(value) = values.next() else { return Ok(String::new()) };
    if values.next().is_some() {
        let text = "the header X-Request-Id is there twice; send it once";
        return Err(Problem::new(Reason::ArgumentInvalid, text));
    }
    let name = value.to_str().map_err(|_| {
        let text = "the header X-Request-Id may have visible ASCII characters only";
        Problem::new(Reason::ArgumentInvalid, text)
    })?;
    convert::check_request_id(name)?;
    Ok(name.to_owned())
}

/// How a request's address is told in the log: with its method, unless it is one of gRPC.
pub(crate) fn told_path(request: &Request) -> String {
    let path = request.uri().path();
    if is_grpc(request) { path.to_owned() } else { format!("{} {path}", request.method()) }
}

/// The client's own name for a request, as it is told in the log.
pub(crate) fn told_request_id<B>(request: &axum::http::Request<B>) -> Option<String> {
    let request_id = request.headers().get(&REQUEST_ID).and_then(|id| id.to_str().ok());
    request_id.map(|id| id.chars().take(REQUEST_ID_MAX).collect())
}

/// Lets a request in if there is a place for it, ends it when its time is over, and logs it.
pub(super) async fn admit(State(limits): State<Limits>, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
    let call = metrics::route_of(request.method().as_str(), route);
    let place = limits.admit(&call, request.extensions());
    noted(&limits, call, request, async |request| match place {
        Err(why) => Problem::new(Reason::ServerBusy, why).into_response(),
        Ok(place) => {
            let limit = limits.request_time_max();
            let request = request.map(|body| place.receive(body, Body::new));
            tokio::time::timeout(limit, next.run(request)).await.unwrap_or_else(|_| {
                let text = format!(
                    "the request took longer than the server allows ({} s); send less audio",
                    limit.as_secs()
                );
                Problem::new(Reason::DeadlinePassed, text).into_response()
            })
        }
    })
    .await
}

/// Logs a request that leads nowhere. It needs no place: its answer is there.
pub(super) async fn stray(State(limits): State<Limits>, request: Request, next: Next) -> Response {
    let call = metrics::route_of(request.method().as_str(), None);
    noted(&limits.untraced(), call, request, async |request| next.run(request).await).await
}

/// Answers, logs and counts whatever comes to an address of gRPC and is none; tonic would answer it without
/// a word.
pub(super) async fn only_grpc(
    State(limits): State<Limits>,
    request: Request,
    next: Next,
) -> Response {
    let is_post = request.method() == Method::POST;
    let is_for_http_2 = is_grpc(&request) && !is_grpc_web(&request);
    let is_taken = !is_for_http_2 || request.version() >= Version::HTTP_2;
    if is_post && is_grpc(&request) && is_taken {
        return next.run(request).await;
    }
    let (status, text) = if !is_post {
        let text = "this is an address of gRPC, which is sent by POST; /v1/openapi.json tells those of HTTP";
        (StatusCode::METHOD_NOT_ALLOWED, text)
    } else if is_for_http_2 {
        let text = "gRPC takes HTTP/2, which the client, or something on the way, does not speak; gRPC-web does without";
        (StatusCode::BAD_REQUEST, text)
    } else {
        let text = "this is an address of gRPC, which is sent as application/grpc or application/grpc-web; /v1/openapi.json tells those of HTTP";
        (StatusCode::UNSUPPORTED_MEDIA_TYPE, text)
    };
    let call = metrics::route_of(request.method().as_str(), None);
    noted(&limits.untraced(), call, request, async |request| {
        drop(Drained::new(request.into_body()));
        let problem = Problem::new(Reason::ArgumentInvalid, text).with_status(status);
        let mut answer = problem.into_response();
        if status == StatusCode::METHOD_NOT_ALLOWED {
            answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
        }
        answer
    })
    .await
}

/// What is told where the address exists, but not for this method.
pub(super) async fn other_method() -> Response {
    let text = "this address knows other methods only; /v1/openapi.json tells which";
    Problem::new(Reason::ArgumentInvalid, text)
        .with_status(StatusCode::METHOD_NOT_ALLOWED)
        .into_response()
}

/// What is told at addresses that do not exist, in the words of the request's protocol.
pub(super) async fn nothing_here(request: Request) -> Response {
    if is_grpc(&request) {
        let text = "there is no such method; is the client newer?";
        let mut answer = grpc_answer(&Status::unimplemented(text));
        answer.extensions_mut().insert(Reason::ArgumentInvalid);
        return answer;
    }
    drop(Drained::new(request.into_body()));
    let text = "there is nothing at this address; /v1/openapi.json tells what there is";
    Problem::new(Reason::ArgumentInvalid, text).with_status(StatusCode::NOT_FOUND).into_response()
}

/// Has a request answered, then logs and counts it, and gives it its name back.
async fn noted(
    limits: &Limits,
    call: String,
    request: Request,
    answer: impl AsyncFnOnce(Request) -> Response,
) -> Response {
    let path = format!("{} {}", request.method(), request.uri().path());
    let mut line = AccessLine::new(Asked { path, call, service: None }, &request, limits);
    let request_id = request.headers().get(&REQUEST_ID).cloned();
    let mut answer = line.trace().around(answer(request)).await;
    let answered = if answer.headers().contains_key("grpc-status") {
        Answered::Grpc(envelope::code(answer.headers()))
    } else {
        Answered::Http(answer.status())
    };
    line.end(answered, answer.extensions().get().copied());
    if let Some(request_id) = request_id {
        answer.headers_mut().entry(&REQUEST_ID).or_insert(request_id);
    }
    answer
}

fn is_grpc_web(request: &Request) -> bool {
    let kind = request.headers().get(header::CONTENT_TYPE);
    kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc-web"))
}
