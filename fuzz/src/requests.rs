//! Requests of every kind, as they come off a connection: gRPC, gRPC-web and HTTP.
//!
//! The first byte of an input chooses the call: every method of the interface, as its descriptors list them,
//! and every address of the HTTP interface. Then follow
//!
//! - for gRPC: a byte that says how the rest is sent (see `Framing`), and the rest;
//! - for HTTP: a line that ends the address, a line with the media type, and the body.

use std::iter;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{Request, Response, StatusCode, Version};
use fingerprint_core::decode::{DecodeOptions, Input};
use fingerprint_core::fingerprint::Fingerprint;
use fingerprint_core::index::{Index, MemoryIndex, Metadata, NewTrack};
use fingerprint_core::params::{Params, Role};
use fingerprint_core::units::TrackId;
use http_body_util::BodyExt;
use matcher_server::Served;
use matcher_server::config::{Config, Settings};
use matcher_server::security::Security;
use prost::Message;
use prost_types::FileDescriptorSet;
use tokio::runtime::{Builder, Runtime};
use tower::ServiceExt;

/// A track of the index, of which the corpus has excerpts.
pub const TRACK: &[u8] = include_bytes!("../../testdata/catalog/cold_day.mp3");
/// Small limits, so that a run is short.
const SETTINGS: &str = r#"
index = "not used"
ffmpeg = "none"
query_duration_max = "10s"
track_duration_max = "10s"
message_max = "1MiB"
upload_max = "1MiB"
request_time_max = "20s"
"#;
/// Addresses of the HTTP interface, to which a line is appended.
const ADDRESSES: [(&str, &str); 8] = [
    ("POST", "/v1/match"),
    ("POST", "/v1/tracks"),
    ("GET", "/v1/tracks"),
    ("GET", "/v1/tracks/"),
    ("PUT", "/v1/tracks/"),
    ("DELETE", "/v1/tracks/"),
    ("GET", "/v1/stats"),
    ("GET", "/"),
];
/// Nothing may hang: longer than any limit of the server.
const TIME_MAX: Duration = Duration::from_secs(60);
/// Tracks that inputs have added are removed when there are as many.
const TRACKS_MAX: usize = 32;

/// How the bytes of an input become the body of a request of gRPC.
#[derive(Debug, Clone, Copy)]
enum Framing {
    /// As one message.
    One,
    /// As messages, before each of which its length is written in two bytes, little-endian.
    Several,
    /// As they are.
    Bare,
    /// As one message, over gRPC-web.
    Web,
}

impl Framing {
    fn of(byte: u8) -> Self {
        match byte % 4 {
            0 => Self::One,
            1 => Self::Several,
            2 => Self::Bare,
            _ => Self::Web,
        }
    }

    fn body(self, bytes: &[u8]) -> Vec<u8> {
        match self {
            Self::One | Self::Web => framed(bytes),
            Self::Bare => bytes.to_vec(),
            Self::Several => messages(bytes).flat_map(framed).collect(),
        }
    }
}

/// A message behind its head: not compressed, and its length.
fn framed(message: &[u8]) -> Vec<u8> {
    let len = u32::try_from(message.len()).unwrap_or(u32::MAX);
    [&[0][..], &len.to_be_bytes(), message].concat()
}

fn messages(mut bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    iter::from_fn(move || {
        let (len, rest) = bytes.split_first_chunk()?;
        let len = usize::from(u16::from_le_bytes(*len)).min(rest.len());
        let (message, rest) = rest.split_at(len);
        bytes = rest;
        Some(message)
    })
}

/// A server without a socket.
struct World {
    runtime: Runtime,
    router: Router,
    index: Arc<MemoryIndex>,
    /// Paths of all methods.
    methods: Vec<String>,
}

impl World {
    fn get() -> &'static Self {
        static WORLD: OnceLock<World> = OnceLock::new();
        WORLD.get_or_init(Self::new)
    }

    fn new() -> Self {
        let params = Params::default();
        let index = Arc::new(MemoryIndex::new(&params));
        let (options, input) = (DecodeOptions::default(), Input::Bytes(TRACK));
        let (fingerprint, _) = Fingerprint::from_audio(input, &options, &params, Role::Track)
            .expect("the track can be decoded");
        let id = TrackId::new("cold_day").expect("a good id");
        let track = NewTrack { id, metadata: Metadata::default(), fingerprint };
        index.add(&[track]).expect("there is room");
        let runtime =
            Builder::new_current_thread().enable_all().build().expect("a runtime can be made");
        let served = Served::Other(Arc::clone(&index) as Arc<dyn Index>);
        let config = config();
        let security = Security::load(&config).expect("there are no files to read");
        let routes = runtime.block_on(matcher_server::routes(config, &security, &served));
        let router = routes.expect("the descriptors are good").into_axum_router();
        let set = FileDescriptorSet::decode(earmark_proto::FILE_DESCRIPTOR_SET);
        let set = set.expect("the descriptors are good");
        let methods = set.file.iter().flat_map(|file| {
            file.service.iter().flat_map(|service| {
                let name = format!("/{}.{}", file.package(), service.name());
                service.method.iter().map(move |method| format!("{name}/{}", method.name()))
            })
        });
        Self { runtime, router, index, methods: methods.collect() }
    }

    fn request(&self, call: u8, rest: &[u8]) -> Option<Request<Body>> {
        let call = usize::from(call) % (self.methods.len() + ADDRESSES.len());
        let request = Request::builder();
        if let Some(path) = self.methods.get(call) {
            let (framing, rest) = rest.split_first()?;
            let framing = Framing::of(*framing);
            let (kind, version) = match framing {
                Framing::Web => ("application/grpc-web+proto", Version::HTTP_11),
                _ => ("application/grpc", Version::HTTP_2),
            };
            let request = request.method("POST").uri(path).version(version);
            let request = request.header("content-type", kind).header("te", "trailers");
            return request.body(Body::from(framing.body(rest))).ok();
        }
        let (method, path) = ADDRESSES[call - self.methods.len()];
        let mut lines = rest.splitn(3, |byte| *byte == b'\n');
        let (end, kind, body) = (lines.next()?, lines.next()?, lines.next()?);
        let address = [path.as_bytes(), end].concat();
        let request = request.method(method).uri(&address[..]).header("content-type", kind);
        request.body(Body::from(body.to_vec())).ok()
    }

    fn call_number(&self, method: &str) -> Option<usize> {
        let end = format!("/{method}");
        if method.is_empty() {
            return Some(self.methods.len());
        }
        self.methods.iter().position(|path| path.ends_with(&end))
    }

    async fn answer(&self, request: Request<Body>) -> Response<Bytes> {
        let answer = async {
            let response = self.router.clone().oneshot(request).await;
            let Ok(response) = response.map_err(|never| match never {});
            let (parts, body) = response.into_parts();
            // A body that breaks off is an answer, too.
            let body = body.collect().await.map_or_else(|_| Bytes::new(), |all| all.to_bytes());
            Response::from_parts(parts, body)
        };
        tokio::time::timeout(TIME_MAX, answer).await.expect("a request is answered in time")
    }

    fn forget_tracks(&self) {
        let tracks = self.index.tracks(None, usize::MAX).expect("memory can be read");
        if tracks.len() > TRACKS_MAX {
            for track in tracks.iter().filter(|track| track.id.as_str() != "cold_day") {
                self.index.remove(&track.id).expect("memory can be written");
            }
        }
    }
}

/// What the server is set to.
fn config() -> Config {
    let settings: Settings = toml::from_str(SETTINGS).expect("the settings are good");
    settings.or(Settings::defaults()).resolve().expect("the settings are good")
}

/// The first byte of an input that calls a method of this name, or, for "", the first address of HTTP.
#[must_use]
pub fn call_number(method: &str) -> Option<u8> {
    World::get().call_number(method)?.try_into().ok()
}

/// Sends `data` as a request, and reads the answer to its end.
///
/// # Panics
///
/// If it is not answered in time, or with 500.
pub fn run(data: &[u8]) {
    let Some((call, rest)) = data.split_first() else { return };
    let world = World::get();
    let Some(request) = world.request(*call, rest) else { return };
    let place = format!("{} {}", request.method(), request.uri());
    let response = world.runtime.block_on(world.answer(request));
    assert_ne!(response.status(), StatusCode::INTERNAL_SERVER_ERROR, "{place}");
    world.forget_tracks();
}
