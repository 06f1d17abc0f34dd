//! What is read when metrics are asked for: the index and its cache, queues, streams, connections, certificates and
//! keys, the process.

use std::fmt;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use fingerprint_core::index::Index;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use rustix::process::{Resource, getrlimit};

use crate::security::Security;
use crate::stream::Streams;
use crate::traces::Traces;
use crate::transport::Transport;
use crate::transport::tls::Tls;
use crate::work::Work;

/// What there is once the index is open.
#[derive(Debug)]
pub(crate) struct Watched {
    pub(crate) index: Arc<dyn Index>,
    pub(crate) streams: Streams,
    pub(crate) transport: Arc<Transport>,
    pub(crate) work: Work,
    pub(crate) traces: Traces,
}

/// What there is from the start.
#[derive(Debug)]
pub(super) struct Standing {
    pub(super) security: Security,
    /// Requests are answered.
    pub(super) ready: Arc<AtomicBool>,
}

/// The process, in the names that all exporters use.
#[derive(Debug)]
pub(super) struct Process {
    started: SystemTime,
}

impl Process {
    /// One that has just begun.
    pub(super) fn begun_now() -> Self {
        Self { started: SystemTime::now() }
    }
}

impl Collector for Watched {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let mut page = Page(&mut encoder);
        page.gauge("connections_open", "Connections that are open", self.transport.open_count())?;
        let help = "Connections that were closed because as many were open as may be";
        page.counter("connections_turned_away", help, self.transport.turned_away_count())?;
        if self.transport.tls().is_some() {
            let help = "Connections that came to nothing because no encryption could be agreed on";
            page.counter("handshakes_failed", help, self.transport.failed_handshake_count())?;
        }
        page.gauge(
            "streams_open",
            "Streams that are followed or may come back",
            self.streams.open_count(),
        )?;
        let loads = self.work.loads();
        let help = "Jobs that run, by pool";
        page.gauges(
            "jobs_running",
            help,
            "pool",
            loads.iter().map(|l| (l.pool, l.running as u64)),
        )?;
        let help = "Jobs that wait for a worker, by pool";
        page.gauges(
            "jobs_waiting",
            help,
            "pool",
            loads.iter().map(|l| (l.pool, l.waiting as u64)),
        )?;
        match self.index.stats() {
            Ok(stats) => {
                page.gauge("index_tracks", "Tracks in the index", stats.track_count)?;
                page.gauge_f64("index_audio_seconds", "Their length together", stats.duration_s)?;
                page.gauge("index_postings", "Postings of these tracks", stats.posting_count)?;
                let help = "Postings of removed tracks that a merge will leave out";
                page.gauge("index_postings_purgeable", help, stats.purgeable_posting_count)?;
                let segments = stats.segments_by_size.iter().map(|class| class.segment_count).sum();
                page.gauge("index_segments", "Segments of postings", segments)?;
                let parts = stats.bytes_by_part.iter().map(|(part, bytes)| (part.as_str(), *bytes));
                page.gauges("index_bytes", "Bytes on disk, by part", "part", parts)?;
                if let Some(cache) = stats.block_cache {
                    page.counter(
                        "cache_hits",
                        "Blocks that were found in the cache",
                        cache.hit_count,
                    )?;
                    page.counter("cache_misses", "Blocks that were not", cache.miss_count)?;
                    page.gauge("cache_bytes", "Bytes in the cache of blocks", cache.bytes)?;
                    page.gauge("cache_bytes_max", "Bytes that it may hold", cache.bytes_max)?;
                }
            }
            // The page shall tell the rest.
            Err(error) => tracing::error!(%error, "the index could not be measured for metrics"),
        }
        if let Some(counts) = self.traces.counts() {
            let help = "Spans of traces, by what became of them: made, sent, or lost because they could not be sent";
            page.counters("spans", help, "outcome", counts.all().into_iter())?;
        }
        Ok(())
    }
}

impl Collector for Standing {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let mut page = Page(&mut encoder);
        let help =
            "1 if requests are answered, 0 while the index is being opened or the server stops";
        page.gauge("ready", help, self.ready.load(Ordering::Relaxed).into())?;
        let version = [("version", env!("CARGO_PKG_VERSION"))];
        page.gauges_of("build_info", "The release that runs", std::iter::once((version, 1)))?;
        let mut failures = self.security.reload_failures().peekable();
        if failures.peek().is_some() {
            let help = "1 if a file was changed and cannot be read, so that what it said before holds: certificates, keys";
            let failures = failures.map(|(what, failed)| (what, u64::from(failed)));
            page.gauges("reload_failed", help, "what", failures)?;
        }
        if let Some(end) = self.security.transport.tls().and_then(Tls::ends) {
            let help = "When the server's certificate, or one between it and its root, ends: the first of them, in seconds since 1970";
            page.gauge_f64("certificate_expires_timestamp_seconds", help, since_1970(end))?;
        }
        if let Some(keys) = self.security.access.key_counts(SystemTime::now()) {
            let counts =
                [("valid", keys.valid), ("expired", keys.expired), ("revoked", keys.revoked)];
            let counts = counts.map(|(state, count)| (state, count as u64));
            page.gauges("keys", "Keys in the file of keys, by state", "state", counts.into_iter())?;
            if let Some(end) = keys.next_end {
                let help = "When the first of the valid keys ends, in seconds since 1970";
                page.gauge_f64("keys_expire_timestamp_seconds", help, since_1970(end))?;
            }
        }
        Ok(())
    }
}

fn since_1970(time: SystemTime) -> f64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    since.as_ref().map_or_else(|before| -before.duration().as_secs_f64(), Duration::as_secs_f64)
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        // What the system does not tell is left out.
        process(&mut Page(&mut encoder), self.started)
    }
}

fn process(page: &mut Page<'_, '_>, started: SystemTime) -> fmt::Result {
    let help = "When the server started, in seconds since 1970";
    page.gauge_f64("process_start_time_seconds", help, since_1970(started))?;
    if let Ok(status) = fs::read_to_string("/proc/self/status") {
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().next()?.parse::<u64>().ok()
        };
        if let Some(kib) = field("VmRSS:") {
            page.gauge("process_resident_memory_bytes", "Memory that is resident", kib << 10)?;
        }
        if let Some(count) = field("Threads:") {
            page.gauge("process_threads", "Threads", count)?;
        }
    }
    if let Ok(files) = fs::read_dir("/proc/self/fd") {
        page.gauge("process_open_fds", "Files and sockets that are open", files.count() as u64)?;
    }
    if let Some(most) = getrlimit(Resource::Nofile).current {
        page.gauge("process_max_fds", "Files and sockets that may be open", most)?;
    }
    // User and system time are the 14th and 15th field, the second is a name in parentheses.
    let stat = fs::read_to_string("/proc/self/stat").ok();
    let ticks = stat.as_deref().and_then(|stat| stat.rsplit_once(')')).and_then(|(_, fields)| {
        let mut fields = fields.split_whitespace().skip(11).map(str::parse::<u64>);
        Some(fields.next()?.ok()? + fields.next()?.ok()?)
    });
    if let Some(ticks) = ticks {
        let seconds = ticks as f64 / rustix::param::clock_ticks_per_second() as f64;
        page.metric("process_cpu_seconds", "Processor time", &ConstCounter::new(seconds))?;
    }
    Ok(())
}

/// What is being written.
struct Page<'a, 'b>(&'a mut DescriptorEncoder<'b>);

impl Page<'_, '_> {
    fn metric(&mut self, name: &str, help: &str, metric: &impl EncodeMetric) -> fmt::Result {
        metric.encode(self.0.encode_descriptor(name, help, None, metric.metric_type())?)
    }

    fn gauge(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.metric(name, help, &ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX)))
    }

    fn gauge_f64(&mut self, name: &str, help: &str, value: f64) -> fmt::Result {
        self.metric(name, help, &ConstGauge::new(value))
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.metric(name, help, &ConstCounter::new(value))
    }

    fn counters<'v>(
        &mut self,
        name: &str,
        help: &str,
        label: &'static str,
        values: impl Iterator<Item = (&'v str, u64)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (which, value) in values {
            ConstCounter::new(value).encode(family.encode_family(&[(label, which)])?)?;
        }
        Ok(())
    }

    fn gauges<'v>(
        &mut self,
        name: &str,
        help: &str,
        label: &'static str,
        values: impl Iterator<Item = (&'v str, u64)>,
    ) -> fmt::Result {
        self.gauges_of(name, help, values.map(|(which, value)| ([(label, which)], value)))
    }

    fn gauges_of<'v>(
        &mut self,
        name: &str,
        help: &str,
        values: impl Iterator<Item = ([(&'static str, &'v str); 1], u64)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in values {
            let value = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            value.encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}
