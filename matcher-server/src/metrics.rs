//! What the server does, in numbers: counted where it happens, told to Prometheus.
//!
//! ```text
//! requests, stages, errors, refusals ─ counted here ┐
//! index, cache, queues, keys, process ──────────────┴ read when asked (watched.rs) ─▶ text (OpenMetrics 1.0) at /metrics
//! ```
//!
//! Labels come from closed lists, so that no client can make the server keep ever more series. Names and labels
//! are a contract: dashboards and alerts of others rely on them. They are listed in `deploy/README.md`.

mod refusal;
mod serve;
mod watched;

use std::time::{Duration, Instant};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

pub(crate) use self::refusal::Refusal;
pub use self::serve::MetricsPage;
pub(crate) use self::watched::Watched;
use crate::reason::Reason;
use crate::traces;

/// From a quarter of a millisecond to two minutes, each twice the one before.
const BUCKETS: (f64, f64, u16) = (0.000_25, 2.0, 20);
/// Calls that are told apart; others are one.
const CALLS: [&str; 10] = [
    "Match",
    "BatchMatch",
    "MatchStream",
    "AddTrack",
    "GetTrack",
    "ListTracks",
    "RemoveTrack",
    "GetStats",
    "CreateBackup",
    "ListBackups",
];
/// Whatever is not in a closed list.
const OTHER: &str = "other";

/// A stage of a request's way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Waiting for a worker; queries only, as who uploads has time.
    Queue,
    /// Bytes to samples.
    Decode,
    /// Samples to peaks and landmarks.
    Fingerprint,
    /// Reading postings.
    Lookup,
    /// From postings to candidates.
    Vote,
    /// Comparing candidates peak by peak.
    Verify,
    /// All of these for what came of a stream: too short to be told apart.
    Stream,
}

impl Stage {
    /// Its name in metrics and traces.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Decode => "decode",
            Self::Fingerprint => "fingerprint",
            Self::Lookup => "lookup",
            Self::Vote => "vote",
            Self::Verify => "verify",
            Self::Stream => "stream",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallCode {
    call: String,
    code: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Call {
    call: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Why {
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Cause {
    cause: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AtStage {
    stage: &'static str,
}

type Times<L> = Family<L, Histogram, fn() -> Histogram>;

/// Everything that is counted; clones count together.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    requests: Family<CallCode, Counter>,
    request_times: Times<Call>,
    errors: Family<Why, Counter>,
    refusals: Family<Cause, Counter>,
    stages: Times<AtStage>,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let errors = Family::<Why, Counter>::default();
        // The first error of a kind is seen as one more than none.
        for reason in Reason::ALL {
            drop(errors.get_or_create(&Why { reason: reason.name() }));
        }
        let refusals = Family::<Cause, Counter>::default();
        for refusal in Refusal::ALL {
            drop(refusals.get_or_create(&Cause { cause: refusal.name() }));
        }
        Self {
            requests: Family::default(),
            request_times: Family::new_with_constructor(times),
            errors,
            refusals,
            stages: Family::new_with_constructor(times),
        }
    }

    /// A request has ended; one whose client hung up has the code `hung_up`.
    pub(crate) fn request_ended(&self, call: &str, code: &str, elapsed: Duration) {
        let call = call.to_owned();
        self.request_times
            .get_or_create(&Call { call: call.clone() })
            .observe(elapsed.as_secs_f64());
        self.requests.get_or_create(&CallCode { call, code: code.to_owned() }).inc();
    }

    /// A request was answered with an error.
    pub(crate) fn failed(&self, reason: Reason) {
        self.errors.get_or_create(&Why { reason: reason.name() }).inc();
    }

    /// Something was at its limit; that the request failed is counted by itself.
    pub(crate) fn refused(&self, refusal: Refusal) {
        self.refusals.get_or_create(&Cause { cause: refusal.name() }).inc();
    }

    /// Stages, which alternated from `began` on, took so long for one request.
    pub(crate) fn spent(&self, began: Instant, stages: &[(Stage, Duration)]) {
        for (stage, time) in stages {
            let stage = AtStage { stage: stage.name() };
            self.stages.get_or_create(&stage).observe(time.as_secs_f64());
        }
        traces::stages(began, stages);
    }

    /// Has everything told that is counted, and what is read when it is.
    fn register(&self, registry: &mut Registry, watched: Watched) {
        let help = "Requests by call and code: a gRPC code, an HTTP status, hung_up, or cut_off when the server stopped";
        registry.register("requests", help, self.requests.clone());
        let help = "Time from a request's head to the head of its answer, in seconds";
        registry.register("request_seconds", help, self.request_times.clone());
        let help = "Requests, clips of batches and streams that ended with an error, by reason; SERVER_BUSY are those that were shed";
        registry.register("errors", help, self.errors.clone());
        let help =
            "Requests, clips of batches and streams that were refused, by what was at its limit";
        registry.register("refused", help, self.refusals.clone());
        let help = "Time that a stage took of one request, in seconds";
        registry.register("stage_seconds", help, self.stages.clone());
        registry.register_collector(Box::new(watched));
    }
}

fn times() -> Histogram {
    let (first, factor, count) = BUCKETS;
    Histogram::new(exponential_buckets(first, factor, count))
}

/// The call of a gRPC path.
pub(crate) fn call_of(path: &str) -> &'static str {
    let name = path.strip_prefix("/earmark.v1.").and_then(|path| path.split_once('/'));
    let known = |(_, name): (&str, &str)| CALLS.into_iter().find(|call| *call == name);
    name.and_then(known).unwrap_or(OTHER)
}

/// The call of an HTTP request, by the pattern of the route that it took.
pub(crate) fn route_of(method: &str, route: Option<&str>) -> String {
    let known = ["GET", "HEAD", "POST", "PUT", "DELETE"].into_iter().find(|known| *known == method);
    match (known, route) {
        (Some(method), Some(route)) => format!("{method} {route}"),
        _ => OTHER.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;
    use prost_types::FileDescriptorSet;

    use super::*;

    #[test]
    fn every_call_is_told_apart_and_made_up_ones_are_not() {
        let set = FileDescriptorSet::decode(earmark_proto::FILE_DESCRIPTOR_SET).unwrap();
        let services = set.file.iter().flat_map(|file| &file.service);
        let mut names: Vec<_> =
            services.flat_map(|service| &service.method).map(|method| method.name()).collect();
        let mut calls = CALLS.to_vec();
        names.sort_unstable();
        calls.sort_unstable();
        assert_eq!(names, calls);
        assert_eq!(call_of("/earmark.v1.MatchService/Match"), "Match");
        for other in ["/earmark.v1.MatchService/X", "/Match", "Match", "/a.B/Match"] {
            assert_eq!(call_of(other), OTHER, "{other}");
        }
        assert_eq!(route_of("POST", Some("/v1/match")), "POST /v1/match");
        assert_eq!(route_of("BREW", Some("/v1/match")), OTHER);
        assert_eq!(route_of("POST", None), OTHER);
    }
}
