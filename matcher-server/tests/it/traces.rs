//! Traces, as a collector receives them.

use std::net::TcpListener as Socket;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use earmark_proto::v1::BatchMatchRequest;
use earmark_proto::v1::match_service_client::MatchServiceClient;
use matcher_server::keys::Scope;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

use crate::metrics::scrape;
use crate::security::{Keys, with_key};
use crate::support::{Process, Server, add, cut, find, query, tune, wav};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

/// A collector that keeps what it is sent.
#[derive(Debug, Clone, Default)]
struct Collector(Arc<Mutex<Vec<ExportTraceServiceRequest>>>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.0.lock().unwrap().push(request.into_inner());
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    /// One that listens, and the setting that names it.
    async fn start() -> (Self, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let setting = format!("otlp_endpoint = 'http://{}'\n", listener.local_addr().unwrap());
        let collector = Self::default();
        let service = TraceServiceServer::new(collector.clone());
        let server = tonic::transport::Server::builder().add_service(service);
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        (collector, setting)
    }

    fn spans(&self) -> Vec<Span> {
        let received = self.0.lock().unwrap();
        let resources = received.iter().flat_map(|request| &request.resource_spans);
        let scopes = resources.flat_map(|resource| &resource.scope_spans);
        scopes.flat_map(|scope| scope.spans.clone()).collect()
    }
}

fn attribute(attributes: &[KeyValue], key: &str) -> String {
    let found = attributes.iter().find(|attribute| attribute.key == key);
    match found.and_then(|found| found.value.clone()) {
        Some(AnyValue { value: Some(Value::StringValue(text)) }) => text,
        Some(AnyValue { value: Some(Value::IntValue(number)) }) => number.to_string(),
        other => panic!("{key} is {other:?} in {attributes:#?}"),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A request that is part of a client's trace, which is kept or not.
fn traced<T>(mut request: Request<T>, is_kept: bool) -> Request<T> {
    let header = format!("00-{TRACE}-{PARENT}-0{}", u8::from(is_kept));
    request.metadata_mut().insert("traceparent", header.parse().unwrap());
    request
}

/// The one span of that name.
fn one<'s>(spans: &'s [Span], name: &str) -> &'s Span {
    let mut found = spans.iter().filter(|span| span.name == name);
    let span = found.next().unwrap_or_else(|| panic!("no {name} in {spans:#?}"));
    assert!(found.next().is_none(), "{name} is there twice");
    span
}

/// Checks that the stages of a clip are parts of a span.
fn check_stages(spans: &[Span], of: &Span) {
    let parts: Vec<_> = spans.iter().filter(|span| span.parent_span_id == of.span_id).collect();
    let mut names: Vec<_> = parts.iter().map(|span| span.name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["decode", "fingerprint", "lookup", "queue", "verify", "vote"]);
    // Clocks of a span and of its parts are read one after the other.
    let slack = 5_000_000;
    for part in parts {
        assert_eq!(part.trace_id, of.trace_id);
        assert!(part.start_time_unix_nano + slack >= of.start_time_unix_nano, "{part:?} {of:?}");
        assert!(part.end_time_unix_nano <= of.end_time_unix_nano + slack, "{part:?} {of:?}");
        assert!(part.start_time_unix_nano <= part.end_time_unix_nano, "{part:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_trace_of_a_client_goes_on_in_ours() {
    let (collector, setting) = Collector::start().await;
    let keys = Keys::new();
    let token = keys.create(Scope::Admin, |_| {});
    // Of what is not a client's trace nothing is kept.
    let mut server = Server::start(&format!("{setting}otlp_sample = 0\n{}", keys.setting())).await;
    let mut matcher = server.matcher().await;
    let clip = || with_key(query(wav(&tune(1, 5))), &token);
    let mut request = traced(clip(), true);
    request.metadata_mut().insert("x-request-id", "upload 7".parse().unwrap());
    matcher.r#match(request).await.unwrap();
    matcher.r#match(clip()).await.unwrap();
    matcher.r#match(traced(clip(), false)).await.unwrap();
    // Whoever shows no key fills no collector.
    matcher.r#match(traced(Request::new(query(Vec::new())), true)).await.unwrap_err();
    drop(matcher);
    server.stop();
    server.ended().await;

    let spans = collector.spans();
    let span = one(&spans, "earmark.v1.MatchService/Match");
    assert_eq!((hex(&span.trace_id), hex(&span.parent_span_id)), (TRACE.into(), PARENT.into()));
    assert_eq!(span.kind(), SpanKind::Server);
    for (key, value) in [
        ("rpc.system", "grpc"),
        ("rpc.service", "earmark.v1.MatchService"),
        ("rpc.method", "Match"),
        ("rpc.grpc.status_code", "0"),
        ("earmark.request_id", "upload 7"),
        ("earmark.key_id", token.id()),
    ] {
        assert_eq!(attribute(&span.attributes, key), value, "{key}");
    }
    check_stages(&spans, span);
    assert_eq!(spans.len(), 7, "{spans:#?}");
    let received = collector.0.lock().unwrap();
    let resource = received[0].resource_spans[0].resource.clone().unwrap();
    assert_eq!(attribute(&resource.attributes, "service.name"), "earmark-server");
    let secret = token.reveal().rsplit('_').next().unwrap();
    assert!(!format!("{received:?}").contains(secret), "the key is in a trace");
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_http_and_failures_are_traced() {
    let (collector, setting) = Collector::start().await;
    let mut server = Server::start(&format!("{setting}metrics_listen = '127.0.0.1:0'")).await;
    let mut matcher = server.matcher().await;
    let batch = BatchMatchRequest { requests: vec![query(wav(&tune(1, 4))); 2] };
    matcher.batch_match(batch).await.unwrap();
    find(&mut matcher, b"no audio".to_vec()).await.unwrap_err();
    drop(matcher);
    let (url, metrics) = (server.url.clone(), server.metrics.clone().unwrap());
    let over_http = move || {
        let header = format!("00-{TRACE}-{PARENT}-01");
        let post = ureq::post(format!("{url}/v1/match")).header("traceparent", header);
        post.send(&wav(&tune(1, 4))[..]).unwrap();
        scrape(&metrics)
    };
    let told = tokio::task::spawn_blocking(over_http).await.unwrap();
    assert!(told["earmark_spans_total{outcome=\"made\"}"] >= 24.0, "{told:#?}");
    assert_eq!(told["earmark_spans_total{outcome=\"lost\"}"], 0.0);
    server.stop();
    server.ended().await;

    let spans = collector.spans();
    let batch = one(&spans, "earmark.v1.MatchService/BatchMatch");
    assert!(batch.parent_span_id.is_empty() && hex(&batch.trace_id) != TRACE);
    let clips: Vec<_> = spans.iter().filter(|span| span.name == "clip").collect();
    let mut numbers: Vec<_> =
        clips.iter().map(|clip| attribute(&clip.attributes, "earmark.clip")).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, ["0", "1"]);
    for clip in clips {
        assert_eq!(clip.parent_span_id, batch.span_id);
        check_stages(&spans, clip);
    }
    let failed = one(&spans, "earmark.v1.MatchService/Match");
    assert_eq!(attribute(&failed.attributes, "error.type"), "AUDIO_UNDECODABLE");
    assert_eq!(attribute(&failed.attributes, "rpc.grpc.status_code"), "3");
    let status = failed.status.as_ref().map(|status| status.code());
    assert_ne!(status, Some(StatusCode::Error), "it was the client's fault");
    let http = one(&spans, "POST /v1/match");
    assert_eq!((hex(&http.trace_id), hex(&http.parent_span_id)), (TRACE.into(), PARENT.into()));
    assert_eq!(attribute(&http.attributes, "http.route"), "/v1/match");
    assert_eq!(attribute(&http.attributes, "http.response.status_code"), "200");
    check_stages(&spans, http);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_away_or_silent_is_missed_by_nobody() {
    let silent = Socket::bind("127.0.0.1:0").unwrap();
    // Nobody listens at a port that was just given back.
    let away = Socket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for address in [away, silent.local_addr().unwrap()] {
        let folder = tempfile::tempdir().unwrap();
        let endpoint = format!("http://{address}");
        let server = Process::start(folder.path(), &["--otlp-endpoint", &endpoint]);
        let mut matcher = MatchServiceClient::connect(server.url()).await.unwrap();
        let mut catalog =
            earmark_proto::v1::catalog_service_client::CatalogServiceClient::connect(server.url())
                .await
                .unwrap();
        let audio = tune(1, 20);
        add(&mut catalog, "x", &wav(&audio)).await.unwrap();
        // More spans than one batch has.
        for from_s in 0..80 {
            let clip = wav(cut(&audio, from_s % 10, from_s % 10 + 4));
            assert_eq!(find(&mut matcher, clip).await.unwrap().matches.len(), 1);
        }
        drop((matcher, catalog));
        server.signal("-TERM");
        let begin = Instant::now();
        let log = server.ended_with_log().await;
        // Two seconds for the last traces, and what stopping takes without them.
        assert!(begin.elapsed() < Duration::from_secs(8), "{:?}", begin.elapsed());
        assert!(log.contains("stopped"), "{log}");
        assert!(log.contains("the last traces could not be sent"), "{log}");
        assert!(log.matches("traces cannot be sent").count() <= 1, "{log}");
        assert!(!log.contains("panicked"), "{log}");
        assert_eq!(log.matches("trace_id=").count(), 81, "each request names its trace:\n{log}");
    }
}
