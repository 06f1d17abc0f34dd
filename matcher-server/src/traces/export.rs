//! From spans that have ended to the collector: a queue, a thread that empties it, and what became of them.
//!
//! A span that finds the queue full (2,048 of them, some 2 MiB) is dropped, so that no request ever waits for a
//! collector. The thread, the batch processor of OpenTelemetry's SDK, sends up to 512 at a time, every five seconds or
//! when there are as many, and tries a batch again for some seconds before it gives it up. That it failed is logged now
//! and then, and counted. OpenTelemetry's variables OTEL_BSP_… change these numbers.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use opentelemetry::trace::TracerProvider;
use opentelemetry::{Key, KeyValue};
use opentelemetry_otlp::{WithExportConfig, WithTonicConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    BatchSpanProcessor, Sampler, SdkTracerProvider, SpanData, SpanExporter,
};
use tonic::transport::{ClientTlsConfig, Endpoint};

use super::Maker;
use crate::config::Otlp;

/// Longest time for a batch, attempts to send it again included.
const BATCH_TIME_MAX: Duration = Duration::from_secs(5);
/// It is logged at the first failure, and then at most this often, that the collector cannot be reached.
const TOLD_INTERVAL: Duration = Duration::from_secs(600);

/// Why traces cannot be sent at all.
#[derive(Debug, thiserror::Error)]
pub enum TracesError {
    /// The address is none.
    #[error("{0}")]
    Endpoint(#[from] tonic::transport::Error),
    /// OpenTelemetry does not take a setting, perhaps one of its own variables.
    #[error("{0}; is one of the variables OTEL_EXPORTER_OTLP_… wrong?")]
    Exporter(#[from] opentelemetry_otlp::ExporterBuildError),
}

/// What became of spans; they are dropped, or wait, that were made and neither sent nor lost.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    made: AtomicU64,
    sent: AtomicU64,
    lost: AtomicU64,
}

impl Counts {
    pub(super) fn made(&self, count: u64) {
        self.made.fetch_add(count, Ordering::Relaxed);
    }

    /// All of them, by name.
    pub(crate) fn all(&self) -> [(&'static str, u64); 3] {
        [("made", &self.made), ("sent", &self.sent), ("lost", &self.lost)]
            .map(|(name, count)| (name, count.load(Ordering::Relaxed)))
    }
}

/// What sends spans.
#[derive(Debug)]
pub(super) struct Export {
    provider: SdkTracerProvider,
    pub(super) maker: Maker,
}

impl Export {
    /// Sends to a collector, which need not be there. Within a runtime only.
    pub(super) fn start(otlp: &Otlp) -> Result<Self, TracesError> {
        let mut endpoint = Endpoint::from_shared(otlp.endpoint.clone())?
            .connect_timeout(BATCH_TIME_MAX)
            .timeout(BATCH_TIME_MAX);
        if otlp.endpoint.starts_with("https:") {
            endpoint = endpoint.tls_config(ClientTlsConfig::new().with_enabled_roots())?;
        }
        let exporter = opentelemetry_otlp::SpanExporter::builder()
            .with_tonic()
            .with_channel(endpoint.connect_lazy())
            .with_timeout(BATCH_TIME_MAX)
            .build()?;
        tracing::info!(endpoint = otlp.endpoint, sample = otlp.sample, "traces are sent");
        Ok(Self::to(exporter, otlp.sample))
    }

    /// Sends to whatever `exporter` is this share of the traces about which no client has decided.
    pub(super) fn to<E: SpanExporter + 'static>(exporter: E, share: f64) -> Self {
        let counts = Arc::new(Counts::default());
        let exporter =
            Counted { inner: exporter, counts: Arc::clone(&counts), failure: Mutex::default() };
        // With what OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES say; the name is ours if they say none.
        let mut resource = Resource::builder()
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")));
        let named = Resource::builder().build().get(&Key::from_static_str("service.name"));
        if named.is_none_or(|name| name.as_str().starts_with("unknown_service")) {
            resource = resource.with_service_name("earmark-server");
        }
        let provider = SdkTracerProvider::builder()
            .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(share))))
            .with_resource(resource.build())
            .with_span_processor(BatchSpanProcessor::builder(exporter).build())
            .build();
        let maker = Maker { tracer: provider.tracer("earmark-server"), counts };
        Self { provider, maker }
    }

    /// Sends what waits and ends, within `limit`; false if it was too little, or the collector is away.
    pub(super) fn stop(&self, limit: Duration) -> bool {
        let lost = || self.maker.counts.lost.load(Ordering::Relaxed);
        let before = lost();
        self.provider.shutdown_with_timeout(limit).is_ok() && lost() == before
    }

    /// Sends what waits.
    #[cfg(test)]
    pub(super) fn flush(&self) {
        self.provider.force_flush().unwrap();
    }
}

/// An exporter of which is counted, and now and then logged, how it does.
#[derive(Debug)]
struct Counted<E> {
    inner: E,
    counts: Arc<Counts>,
    /// When failures were last logged; nothing while all goes well.
    failure: Mutex<Option<Instant>>,
}

impl<E> Counted<E> {
    fn tell(&self, result: &OTelSdkResult, count: u64) {
        let Counts { sent, lost, .. } = &*self.counts;
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        match result {
            Ok(()) => {
                sent.fetch_add(count, Ordering::Relaxed);
                if failure.take().is_some() {
                    tracing::info!("traces are sent again");
                }
            }
            Err(error) => {
                let lost = lost.fetch_add(count, Ordering::Relaxed) + count;
                if failure.is_none_or(|at| at.elapsed() >= TOLD_INTERVAL) {
                    *failure = Some(Instant::now());
                    tracing::warn!(
                        %error,
                        lost,
                        "traces cannot be sent, and are lost; is the collector of otlp-endpoint there, and is that its port of gRPC?"
                    );
                }
            }
        }
    }
}

impl<E: SpanExporter> SpanExporter for Counted<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let count = batch.len() as u64;
        let result = self.inner.export(batch).await;
        self.tell(&result, count);
        result
    }

    fn shutdown_with_timeout(&self, limit: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(limit)
    }

    fn shutdown(&self) -> OTelSdkResult {
        self.inner.shutdown()
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}
