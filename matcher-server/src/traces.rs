//! Traces: what one request went through, stage by stage, for a collector of OpenTelemetry.
//!
//! ```text
//! traceparent ─▶ span of the request ─ its context goes along with the work ─▶ spans of stages
//!                               spans that have ended ─ queue (export.rs) ─▶ OTLP over gRPC
//! ```
//!
//! Off unless an endpoint is set: a request then only finds that there is none. Spans are made with OpenTelemetry's
//! API, not out of spans of `tracing`: stages alternate thousands of times in a search, and are known by their
//! sums when it has ended, while a span of `tracing` lasts from when it is made until it is dropped.
//!
//! A span tells what the log line tells: call, code, reason, the names of request and key. No audio, no metadata, no
//! secret.

mod export;

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use opentelemetry::context::FutureExt;
use opentelemetry::propagation::{Extractor, TextMapPropagator};
use opentelemetry::trace::{Span, SpanKind, Status, TraceContextExt, Tracer};
use opentelemetry::{Context, KeyValue, Value};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracer;
use tonic::codegen::http::HeaderMap;

pub(crate) use self::export::Counts;
use self::export::Export;
pub use self::export::TracesError;
use crate::config::Config;
use crate::metrics::Stage;

/// Longest header of a trace that is read: what the specification wants to be passed on at least.
///
/// # Source
///
/// W3C Trace Context, section 3.3.1.5, "tracestate Limits".
const HEADER_BYTES_MAX: usize = 512;

/// What makes spans, if any are made; clones send to the same collector.
#[derive(Debug, Clone, Default)]
pub(crate) struct Traces(Option<Arc<Export>>);

/// What makes spans within a request; stands in its context.
#[derive(Debug, Clone)]
struct Maker {
    tracer: SdkTracer,
    counts: Arc<Counts>,
}

impl Traces {
    /// Sends traces from now on, if the settings say where. Within a runtime only.
    pub(crate) fn start(config: &Config) -> Result<Self, TracesError> {
        let export = config.otlp.as_ref().map(Export::start).transpose()?;
        Ok(Self(export.map(Arc::new)))
    }

    /// What was made and sent, if anything is.
    pub(crate) fn counts(&self) -> Option<Arc<Counts>> {
        self.0.as_ref().map(|export| Arc::clone(&export.maker.counts))
    }

    /// The span of a request for a call, of a service if it is of gRPC, that comes with these headers.
    pub(crate) fn begin(&self, service: Option<&str>, call: &str, headers: &HeaderMap) -> Trace {
        let Some(export) = &self.0 else { return Trace::default() };
        let name = service.map_or_else(|| call.to_owned(), |service| format!("{service}/{call}"));
        let maker = &export.maker;
        let parent =
            TraceContextPropagator::new().extract_with_context(&Context::new(), &Incoming(headers));
        let builder = maker.tracer.span_builder(name).with_kind(SpanKind::Server);
        let span = builder.start_with_context(&maker.tracer, &parent);
        if !span.is_recording() {
            return Trace::default();
        }
        Trace(Some(Context::new().with_value(maker.clone()).with_span(span)))
    }

    /// Sends what waits, for as long as `limit`, and then makes no spans any more.
    pub(crate) async fn stop(&self, limit: Duration) {
        if let Some(export) = self.0.clone() {
            // It waits for its thread, which talks through this runtime.
            let stopped = tokio::task::spawn_blocking(move || export.stop(limit)).await;
            if !matches!(stopped, Ok(true)) {
                tracing::warn!("the last traces could not be sent");
            }
        }
    }
}

/// A span that goes on; it ends when it is dropped. Nothing if the request is not traced.
#[derive(Debug, Default)]
pub(crate) struct Trace(Option<Context>);

impl Trace {
    /// A part of the request that runs here.
    pub(crate) fn part(name: &'static str) -> Self {
        let Some(context) = current() else { return Self::default() };
        let Some(maker) = context.get::<Maker>() else { return Self::default() };
        let span = maker.tracer.start_with_context(name, &context);
        Self(Some(context.with_span(span)))
    }

    /// Runs `work` as what the span is about.
    pub(crate) async fn around<F: Future>(&self, work: F) -> F::Output {
        match &self.0 {
            None => work.await,
            Some(context) => work.with_context(context.clone()).await,
        }
    }

    /// The name of the whole trace, in hexadecimal digits.
    pub(crate) fn id(&self) -> Option<String> {
        self.0.as_ref().map(|context| context.span().span_context().trace_id().to_string())
    }

    /// Says something about it, if it is known.
    pub(crate) fn note(&self, key: &'static str, value: Option<impl Into<Value>>) {
        if let (Some(context), Some(value)) = (&self.0, value) {
            context.span().set_attribute(KeyValue::new(key, value));
        }
    }

    /// The server was at fault.
    pub(crate) fn failed(&self) {
        if let Some(context) = &self.0 {
            context.span().set_status(Status::error(""));
        }
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        if let Some(context) = &self.0 {
            context.span().end();
            if let Some(maker) = context.get::<Maker>() {
                maker.counts.made(1);
            }
        }
    }
}

/// The context of the request that runs here, if it is traced: for the thread that goes on with it.
pub(crate) fn current() -> Option<Context> {
    Context::map_current(|context| context.has_active_span().then(|| context.clone()))
}

/// Makes spans of stages of the request that runs here. They alternated from `began` on, and are shown one after the
/// other, each as long as it took together.
pub(crate) fn stages(began: Instant, stages: &[(Stage, Duration)]) {
    let Some(context) = current() else { return };
    let Some(maker) = context.get::<Maker>() else { return };
    let mut begin = SystemTime::now() - began.elapsed();
    for (stage, time) in stages {
        let end = begin + *time;
        let builder = maker.tracer.span_builder(stage.name()).with_start_time(begin);
        builder.start_with_context(&maker.tracer, &context).end_with_timestamp(end);
        begin = end;
    }
    maker.counts.made(stages.len() as u64);
}

/// Headers in which the client's trace is.
struct Incoming<'a>(&'a HeaderMap);

impl Extractor for Incoming<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        let value = self.0.get(key)?;
        (value.len() <= HEADER_BYTES_MAX).then(|| value.to_str().ok()).flatten()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(|name| name.as_str()).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, PoisonError, mpsc};

    use opentelemetry_sdk::error::OTelSdkResult;
    use opentelemetry_sdk::trace::{SpanData, SpanExporter};

    use super::*;

    /// Keeps what it is sent.
    #[derive(Debug, Clone, Default)]
    struct Memory(Arc<Mutex<Vec<SpanData>>>);

    impl SpanExporter for Memory {
        async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(batch);
            Ok(())
        }
    }

    fn headers(traceparent: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert("traceparent", traceparent.parse().unwrap());
        headers
    }

    #[tokio::test]
    async fn without_an_endpoint_nothing_is_made() {
        let traces = Traces::default();
        let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let trace = traces.begin(None, "call", &headers(parent));
        assert!(trace.id().is_none() && traces.counts().is_none());
        assert!(trace.around(async { current().is_none() }).await);
        stages(Instant::now(), &[(Stage::Decode, Duration::from_secs(1))]);
    }

    #[tokio::test]
    async fn what_a_client_decided_holds_and_a_malformed_header_is_none() {
        let kept = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let left = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";
        let begin = |share: f64, header: &str| {
            let export = Export::to(Memory::default(), share);
            let traces = Traces(Some(Arc::new(export)));
            traces.begin(None, "call", &headers(header)).id()
        };
        let id = "0af7651916cd43dd8448eb211c80319c";
        assert_eq!(begin(0.0, kept).as_deref(), Some(id));
        assert_eq!(begin(1.0, left), None);
        for malformed in [
            "",
            "-",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            &format!("{kept}{}", "-".repeat(HEADER_BYTES_MAX)),
        ] {
            assert_eq!(begin(0.0, malformed), None, "{malformed:?}");
            let own = begin(1.0, malformed).unwrap();
            assert!(own != id && own.len() == 32, "{malformed:?}: {own}");
        }
    }

    #[tokio::test]
    async fn stages_are_parts_of_their_request_one_after_the_other() {
        let memory = Memory::default();
        let export = Arc::new(Export::to(memory.clone(), 1.0));
        let traces = Traces(Some(Arc::clone(&export)));
        let trace = traces.begin(None, "call", &HeaderMap::new());
        let began = Instant::now();
        let work = async {
            let context = current().unwrap();
            let on_a_worker = move || {
                let _part_of = context.attach();
                let (one, two) = (Duration::from_millis(30), Duration::from_millis(20));
                stages(began, &[(Stage::Lookup, one), (Stage::Verify, two)]);
            };
            tokio::task::spawn_blocking(on_a_worker).await.unwrap();
        };
        trace.around(work).await;
        assert!(current().is_none());
        trace.note("earmark.key_id", Some("k"));
        drop(trace);
        let counts = traces.counts().unwrap();
        assert_eq!(counts.all(), [("made", 3), ("sent", 0), ("lost", 0)]);
        export.flush();
        assert_eq!(counts.all(), [("made", 3), ("sent", 3), ("lost", 0)]);
        let spans = memory.0.lock().unwrap().clone();
        let [lookup, verify, call] = &spans[..] else { panic!("{spans:?}") };
        assert_eq!((&*lookup.name, &*verify.name, &*call.name), ("lookup", "verify", "call"));
        assert_eq!(lookup.parent_span_id, call.span_context.span_id());
        assert_eq!(lookup.end_time, verify.start_time);
        assert_eq!(
            verify.end_time.duration_since(lookup.start_time).unwrap(),
            Duration::from_millis(50)
        );
        assert_eq!(call.attributes, [KeyValue::new("earmark.key_id", "k")]);
    }

    /// Waits until it is let go, and says when it is told to end.
    #[derive(Debug)]
    struct Hanging {
        wait: Mutex<mpsc::Receiver<()>>,
        ended: mpsc::Sender<()>,
    }

    impl SpanExporter for Hanging {
        async fn export(&self, _batch: Vec<SpanData>) -> OTelSdkResult {
            let _ = self.wait.lock().unwrap_or_else(PoisonError::into_inner).recv();
            Ok(())
        }

        fn shutdown_with_timeout(&self, _limit: Duration) -> OTelSdkResult {
            self.ended.send(()).unwrap();
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_collector_that_hangs_holds_nobody_up() {
        let ((let_go, wait), (ended, is_ended)) = (mpsc::channel(), mpsc::channel());
        let hanging = Hanging { wait: Mutex::new(wait), ended };
        let traces = Traces(Some(Arc::new(Export::to(hanging, 1.0))));
        for _ in 0..10_000 {
            drop(traces.begin(None, "call", &HeaderMap::new()));
        }
        let counts = traces.counts().unwrap();
        assert_eq!(counts.all(), [("made", 10_000), ("sent", 0), ("lost", 0)]);
        let begin = Instant::now();
        traces.stop(Duration::from_millis(50)).await;
        assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
        assert!(traces.begin(None, "call", &HeaderMap::new()).id().is_none(), "it has ended");
        drop(let_go);
        is_ended.recv().unwrap();
        // What waited, and the batch that the thread had taken before; the rest was dropped.
        let [_, (_, sent), _] = counts.all();
        assert!((2_048..=2_048 + 512).contains(&sent), "{sent}");
    }
}
