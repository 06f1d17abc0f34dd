//! What is told of one request: a line of the log, a count, and a span if it is traced.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use tonic::Code;
use tonic::codegen::http::{Request, StatusCode};

use super::{HungUp, Limits};
use crate::access::Caller;
use crate::http;
use crate::metrics::Metrics;
use crate::reason::Reason;
use crate::traces::Trace;
use crate::transport::{self, Peer};

/// What was asked for.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    /// As the client wrote it.
    pub(crate) path: String,
    /// The same of a closed list.
    pub(crate) call: String,
    /// The service, of gRPC.
    pub(crate) service: Option<&'static str>,
}

/// How a request was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answered {
    Grpc(Code),
    Http(StatusCode),
}

impl Answered {
    /// Whether the server was at fault, by the conventions of OpenTelemetry.
    fn is_fault(self) -> bool {
        match self {
            Self::Grpc(code) => matches!(
                code,
                Code::Unknown
                    | Code::DeadlineExceeded
                    | Code::Unimplemented
                    | Code::Internal
                    | Code::Unavailable
                    | Code::DataLoss
            ),
            Self::Http(status) => status.is_server_error(),
        }
    }
}

impl fmt::Display for Answered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Grpc(code) => write!(f, "{code:?}"),
            Self::Http(status) => f.write_str(status.as_str()),
        }
    }
}

/// Writes the log line of one request, counts it and ends its span when it ends, however it ends.
#[derive(Debug)]
pub(crate) struct AccessLine {
    asked: Asked,
    metrics: Metrics,
    trace: Trace,
    /// Id of the key that was shown.
    key: Option<String>,
    peer: Option<Peer>,
    /// The client's own name for it.
    request_id: Option<String>,
    hung_up: HungUp,
    cuts_off: Arc<AtomicBool>,
    started: Instant,
    answered: Option<Answered>,
    /// Why it failed.
    reason: Option<Reason>,
}

impl AccessLine {
    pub(crate) fn new<B>(asked: Asked, request: &Request<B>, limits: &Limits) -> Self {
        let caller = request.extensions().get::<Caller>();
        Self {
            trace: limits.traces.begin(asked.service, &asked.call, request.headers()),
            asked,
            metrics: limits.metrics.clone(),
            key: caller.map(|caller| caller.id().to_owned()),
            peer: transport::peer(request).cloned(),
            request_id: http::told_request_id(request),
            hung_up: request.extensions().get().cloned().unwrap_or_default(),
            cuts_off: limits.cuts_off(),
            started: Instant::now(),
            answered: None,
            reason: None,
        }
    }

    /// What the work for the request is part of.
    pub(crate) fn trace(&self) -> &Trace {
        &self.trace
    }

    /// How it ended. Without a word it did because its client hung up, and whatever is told to one that has is no
    /// answer either.
    pub(crate) fn end(&mut self, answered: Answered, failed: Option<Reason>) {
        if self.hung_up.is_known() {
            return;
        }
        self.answered = Some(answered);
        self.reason = failed;
        if let Some(reason) = failed {
            self.metrics.failed(reason);
        }
    }

    /// Why it has no answer.
    fn unanswered(&self) -> &'static str {
        if self.cuts_off.load(Ordering::Relaxed) { "cut_off" } else { "hung_up" }
    }

    fn end_trace(&self, certificate: Option<&str>) {
        let Self { trace, asked, answered, reason, .. } = self;
        let method = asked.call.split_once(' ');
        match (asked.service, method) {
            (Some(service), _) => {
                trace.note("rpc.system", Some("grpc"));
                trace.note("rpc.service", Some(service));
                trace.note("rpc.method", Some(asked.call.clone()));
            }
            (None, Some((method, route))) => {
                trace.note("http.request.method", Some(method.to_owned()));
                trace.note("http.route", Some(route.to_owned()));
            }
            (None, None) => {}
        }
        match answered {
            None => trace.note("error.type", Some(self.unanswered())),
            Some(Answered::Grpc(code)) => {
                trace.note("rpc.grpc.status_code", Some(i64::from(i32::from(*code))));
            }
            Some(Answered::Http(status)) => {
                trace.note("http.response.status_code", Some(i64::from(status.as_u16())));
            }
        }
        trace.note("error.type", reason.map(Reason::name));
        trace.note("earmark.request_id", self.request_id.clone());
        trace.note("earmark.key_id", self.key.clone());
        trace.note("earmark.certificate", certificate.map(str::to_owned));
        if answered.is_some_and(Answered::is_fault) {
            trace.failed();
        }
    }
}

impl Drop for AccessLine {
    fn drop(&mut self) {
        let elapsed = self.started.elapsed();
        let elapsed_ms = (elapsed.as_secs_f64() * 1e5).round() / 1e2;
        let peer = self.peer.as_ref();
        let client: Option<SocketAddr> = peer.and_then(Peer::address);
        let certificate = peer.and_then(Peer::certificate);
        let trace_id = self.trace.id();
        if trace_id.is_some() {
            self.end_trace(certificate);
        }
        let unanswered = || self.unanswered().to_owned();
        let code = self.answered.map_or_else(unanswered, |answer| answer.to_string());
        self.metrics.request_ended(&self.asked.call, &code, elapsed);
        tracing::info!(
            path = self.asked.path,
            client = client.map(tracing::field::display),
            key = self.key.as_deref(),
            certificate,
            request_id = self.request_id.as_deref(),
            trace_id,
            code,
            reason = self.reason.map(Reason::name),
            elapsed_ms,
            "request"
        );
    }
}
