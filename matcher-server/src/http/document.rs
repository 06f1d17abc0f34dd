//! The OpenAPI document: what handlers say of themselves, completed by what is true of many calls.
//!
//! ```text
//! handlers ─ parameters, bodies, answers ─┐
//! access/rules.rs ─ keys and their scopes ─┼─▶ document, the same for as long as the server runs
//! reasons below ─ problems by status ─────┘
//! ```
//!
//! Which key a call takes is read from where it is decided, so that the document cannot tell otherwise.

use std::collections::BTreeMap;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{Method, header};
use axum::response::IntoResponse;
use axum::routing::get;
use utoipa::OpenApi;
use utoipa::openapi::header::{Header, HeaderBuilder};
use utoipa::openapi::link::LinkBuilder;
use utoipa::openapi::path::Operation;
use utoipa::openapi::response::{Response, ResponseBuilder};
use utoipa::openapi::schema::{Object, Type};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{Content, Ref, RefOr};

use super::problem::{PROBLEM, Problem};
use crate::access::{Need, need};
use crate::reason::Reason;

/// Name of the scheme for keys.
const KEY: &str = "key";
/// Name of the scheme for client certificates.
const CERTIFICATE: &str = "certificate";

/// What is true of the whole.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Earmark",
        description = "Which recordings are in a piece of audio, where, and how surely. The same as earmark.v1 over gRPC, as JSON.\n\nErrors are problems (RFC 9457) with a `reason` for programs and a `detail` that says what to do, also at addresses that there are not (404) and for methods that an address does not know (405, with `Allow`). A caller's name for a request, sent as the header `X-Request-Id`, comes back with the answer and stands in the server's log.",
        license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0")
    ),
    tags(
        (name = "match", description = "Recognising clips"),
        (name = "tracks", description = "Keeping the catalog"),
        (name = "health", description = "For whoever watches the server; takes no key"),
        (name = "document", description = "This document; takes no key")
    ),
    paths(openapi),
    components(schemas(Problem))
)]
struct Document;

/// What a server asks of its clients.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked {
    /// A key, for calls that take one.
    pub(super) key: bool,
    /// A certificate, for every connection.
    pub(super) certificate: bool,
}

/// The document, without the calls that its router adds.
pub(super) fn begun() -> utoipa::openapi::OpenApi {
    Document::openapi()
}

/// Serves the document once it is completed.
pub(super) fn router(mut document: utoipa::openapi::OpenApi, asked: Asked) -> Router {
    complete(&mut document, asked);
    let json = document.to_json().expect("all of its keys are texts");
    Router::new().route("/v1/openapi.json", get(openapi)).with_state(Bytes::from(json))
}

/// This document
#[utoipa::path(get, path = "/v1/openapi.json", tag = "document", operation_id = "get_document",
    responses((status = 200, description = "OpenAPI 3.1", body = inline(serde_json::Value),
        content_type = "application/json")))]
async fn openapi(State(json): State<Bytes>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], json)
}

/// Adds to each call its problems, and what a client must show.
fn complete(document: &mut utoipa::openapi::OpenApi, asked: Asked) {
    for (path, item) in &mut document.paths.paths {
        let operations = [
            (Method::GET, &mut item.get),
            (Method::POST, &mut item.post),
            (Method::PUT, &mut item.put),
            (Method::DELETE, &mut item.delete),
        ];
        for (method, operation) in operations {
            let Some(operation) = operation else { continue };
            let need = need(&method, path);
            operation.security = Some(requirements(need, asked));
            if need != Need::Nothing {
                add_problems(operation);
            }
            add_links(operation);
        }
    }
    let key = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .bearer_format("earmark_ID_SECRET")
        .description(Some(
            "A key, made by `earmark keys create`. Each call names the scope that it takes; a key of scope `admin` may do everything. A server without keys takes none.",
        ))
        .build();
    let certificate = SecurityScheme::MutualTls {
        description: Some(
            "A certificate of one of the roots that the server was given.".to_owned(),
        ),
        deprecated: None,
        extensions: None,
    };
    let schemes = &mut document.components.get_or_insert_default().security_schemes;
    schemes.insert(KEY.to_owned(), SecurityScheme::Http(key).into());
    if asked.certificate {
        schemes.insert(CERTIFICATE.to_owned(), certificate.into());
    }
}

/// What a client must show: all of one of these.
fn requirements(need: Need, asked: Asked) -> Vec<SecurityRequirement> {
    let mut all: Vec<_> = match need {
        Need::Nothing => vec![SecurityRequirement::default()],
        Need::Scopes(scopes) => {
            let keys = scopes.iter().map(|scope| SecurityRequirement::new(KEY, [scope.name()]));
            // Without keys everybody may do everything, and a key does no harm.
            let nothing = (!asked.key).then(SecurityRequirement::default);
            keys.chain(nothing).collect()
        }
    };
    if asked.certificate {
        let with = |one: SecurityRequirement| one.add(CERTIFICATE, [] as [&str; 0]);
        all = all.into_iter().map(with).collect();
    } else if need == Need::Nothing {
        all.clear();
    }
    all
}

/// Why each call may fail that takes a key.
const OF_ALL: [Reason; 9] = [
    Reason::KeyMissing,
    Reason::KeyInvalid,
    Reason::ScopeMissing,
    Reason::KeyLimit,
    Reason::ServerBusy,
    Reason::DataDamaged,
    Reason::Internal,
    Reason::Unavailable,
    Reason::DeadlinePassed,
];
/// Why a call may fail that brings a recording.
const OF_AUDIO: [Reason; 5] = [
    Reason::ArgumentInvalid,
    Reason::FingerprintMalformed,
    Reason::FingerprintOtherRelease,
    Reason::TooLarge,
    Reason::AudioUndecodable,
];
/// Why a call may fail that adds a track.
const OF_ADDING: [Reason; 4] =
    [Reason::ClientStalled, Reason::RequestIdReused, Reason::ReadOnly, Reason::StorageFull];

/// Why a call may fail, besides [`OF_ALL`].
fn reasons(operation_id: &str) -> Vec<Reason> {
    match operation_id {
        "match_clip" => OF_AUDIO.to_vec(),
        "add_track" | "put_track" => [&OF_AUDIO[..], &OF_ADDING].concat(),
        "list_tracks" => vec![Reason::ArgumentInvalid],
        "get_track" => vec![Reason::ArgumentInvalid, Reason::TrackNotFound],
        "remove_track" => vec![
            Reason::ArgumentInvalid,
            Reason::TrackNotFound,
            Reason::RequestIdReused,
            Reason::ReadOnly,
            Reason::StorageFull,
        ],
        _ => Vec::new(),
    }
}

/// Adds a response for each status that a call may fail with.
fn add_problems(operation: &mut Operation) {
    let own = reasons(operation.operation_id.as_deref().unwrap_or_default());
    let mut by_status = BTreeMap::<u16, Vec<String>>::new();
    for reason in own.into_iter().chain(OF_ALL) {
        by_status.entry(reason.http_status()).or_default().push(format!("`{}`", reason.name()));
    }
    for (status, names) in by_status {
        let response = problem(status, &names.join(", "));
        operation.responses.responses.insert(status.to_string(), response.into());
    }
}

/// Where answers lead: from a call, through a parameter of another, by what in the answer.
const LINKS: [(&str, &str, &str, &str); 4] = [
    ("add_track", "get_track", "track_id", "$response.body#/track/track_id"),
    ("add_track", "put_track", "track_id", "$response.body#/track/track_id"),
    ("add_track", "remove_track", "track_id", "$response.body#/track/track_id"),
    ("list_tracks", "list_tracks", "page_token", "$response.body#/next_page_token"),
];

/// Adds to each answer of a call where it leads.
fn add_links(operation: &mut Operation) {
    let id = operation.operation_id.as_deref().unwrap_or_default();
    for (_, to, parameter, value) in LINKS.into_iter().filter(|(from, ..)| *from == id) {
        let link = LinkBuilder::new().operation_id(to).parameter(parameter, value).build();
        for (status, response) in &mut operation.responses.responses {
            if let (RefOr::T(response), true) = (response, status.starts_with('2')) {
                response.links.insert(to.to_owned(), link.clone().into());
            }
        }
    }
}

/// A problem under a status, with the headers that tell what to do.
fn problem(status: u16, description: &str) -> Response {
    let schema = Ref::from_schema_name("Problem");
    let response = ResponseBuilder::new()
        .description(description)
        .content(PROBLEM, Content::new(Some(schema)));
    match status {
        401 => response.header("WWW-Authenticate", described(Type::String, "`Bearer`")),
        429 | 503 => response.header(
            "Retry-After",
            described(Type::Integer, "Seconds after which the request may be sent again"),
        ),
        _ => response,
    }
    .build()
}

fn described(kind: Type, text: &str) -> Header {
    HeaderBuilder::new().schema(Some(Object::with_type(kind))).description(Some(text)).build()
}

#[cfg(test)]
mod tests;
