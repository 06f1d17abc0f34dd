//! What every request goes through before and after its service: admission, its deadline, the
//! code for messages that are too large, one log line.
//!
//! Admission comes before the first byte of a message is read: tonic collects a message before it
//! calls the service, so the pools of [`crate::work`] could not bound what is still arriving. Nor could admission alone:
//! a message takes from a budget as it comes ([`intake`]).
//!
//! tonic answers a deadline that has passed with `CANCELLED` and a message beyond the limit with
//! `OUT_OF_RANGE`; both would send a client looking in the wrong place. And a request that is broken off is taken for one
//! that has ended ([`broken_off`]).

mod broken_off;
mod intake;
mod line;

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::body::Body;
use tonic::codegen::http::{Extensions, HeaderMap, Request, Response};
use tonic::codegen::{BoxFuture, Service};
use tonic::server::NamedService;
use tonic::{Code, Status};

use self::broken_off::HungUp;
pub(crate) use self::broken_off::tell_ends;
use self::intake::{Budget, Intake, Received};
pub(crate) use self::line::{AccessLine, Answered, Asked};
use crate::client::Client;
use crate::config::Config;
use crate::metrics::{self, Metrics, Refusal};
use crate::places::{self, Full, Places};
use crate::reason::Reason;
use crate::traces::Traces;
use crate::work::{Pool, Work};

/// How much earlier than tonic's own timer ours rings. Both are set from one header, and the
/// first to ring answers; timers tick in milliseconds.
const DEADLINE_LEAD: Duration = Duration::from_millis(3);

/// Calls that bring a clip.
const CLIP_CALLS: [&str; 2] = ["Match", "POST /v1/match"];

/// Calls whose messages are worked on or spooled as they come, and do not lie in memory until the answer.
const PASSING_CALLS: [&str; 4] =
    ["MatchStream", "AddTrack", "POST /v1/tracks", "PUT /v1/tracks/{track_id}"];

/// Other calls that bring more than a few words.
const LARGE_CALLS: [&str; 1] = ["BatchMatch"];

/// Of the places for requests these are for such calls: who reads, or asks how the server does, finds one though all who
/// send audio are slow.
const BRINGING_SHARE: (usize, usize) = (3, 4);

/// Longer than any backup takes, and short enough for every timer.
const NO_TIME_LIMIT: Duration = Duration::from_secs(30 * 24 * 3_600);

/// What a request may cost; clones share one count of open requests.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    request_time_max: Duration,
    message_bytes_max: usize,
    metrics: Metrics,
    traces: Traces,
    /// The server has stopped, and whatever still runs is cut off.
    cuts_off: Arc<AtomicBool>,
    /// One permit for each request that is being received, worked on or answered.
    open: Arc<Semaphore>,
    /// The same of those that bring audio.
    bringing: Arc<Places<Client>>,
    /// Memory for their messages.
    budget: Budget,
    queries: Pool,
}

/// When a client stops waiting: an extension of requests that say so.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline(pub(crate) Instant);

impl Limits {
    pub(crate) fn new(config: &Config, metrics: &Metrics, traces: &Traces, work: &Work) -> Self {
        Self {
            metrics: metrics.clone(),
            traces: traces.clone(),
            cuts_off: Arc::default(),
            request_time_max: config.request_time_max,
            message_bytes_max: config.message_bytes_max,
            open: Arc::new(Semaphore::new(config.requests_open_max)),
            bringing: {
                let (part, whole) = BRINGING_SHARE;
                Places::shared((config.requests_open_max * part).div_ceil(whole))
            },
            budget: Budget::new(
                config.requests_memory_max,
                config.requests_open_max,
                config.upload_pause_max,
                metrics,
            ),
            queries: work.queries.clone(),
        }
    }
}

impl Limits {
    /// A place for a request, or words for why there is none. A clip that would not be searched is not received either.
    pub(crate) fn admit(&self, call: &str, extensions: &Extensions) -> Result<Place, &'static str> {
        let place = self.place_of(call, extensions);
        place.map_err(|refusal| {
            self.metrics.refused(refusal);
            match refusal {
                Refusal::ClientRequestsOpen => {
                    "this client (a key; without keys, an address) has as many requests with audio open as are left for all others (of three quarters of requests-open-max); try again when one of them has ended"
                }
                _ => "server is busy with other requests; try again in a moment",
            }
        })
    }

    fn place_of(&self, call: &str, extensions: &Extensions) -> Result<Place, Refusal> {
        let is_clip = CLIP_CALLS.contains(&call);
        let client = Client::of(extensions);
        if let Some(refusal) = is_clip.then(|| self.queries.refusal(&client)).flatten() {
            return Err(refusal);
        }
        let passes = PASSING_CALLS.contains(&call);
        let brings = is_clip || passes || LARGE_CALLS.contains(&call);
        let bringing = brings.then(|| self.bringing.take(client));
        let bringing = bringing.transpose().map_err(|full| match full {
            Full::All => Refusal::RequestsOpen,
            Full::OfClient => Refusal::ClientRequestsOpen,
        })?;
        let open = Arc::clone(&self.open).try_acquire_owned();
        let open = open.map_err(|_| Refusal::RequestsOpen)?;
        let intake = (!passes).then(|| self.budget.begin());
        Ok(Place { intake, _open: open, _bringing: bringing })
    }

    /// Set when the server ends requests that are not answered: nobody has hung up then.
    pub(crate) fn cuts_off(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.cuts_off)
    }

    /// The same, for requests that need no key: nobody without one may fill the collector of traces.
    pub(crate) fn untraced(&self) -> Self {
        Self { traces: Traces::default(), ..self.clone() }
    }

    /// The same for a service whose messages are shorter.
    pub(crate) fn with_message_max(self, bytes: usize) -> Self {
        Self { message_bytes_max: self.message_bytes_max.min(bytes), ..self }
    }

    /// Longest time for one request.
    pub(crate) fn request_time_max(&self) -> Duration {
        self.request_time_max
    }

    /// The same, for requests that may take as long as their client waits.
    pub(crate) fn without_time_limit(self) -> Self {
        Self { request_time_max: NO_TIME_LIMIT, ..self }
    }
}

/// The place of a request among those that are open, with the memory for what it brings.
#[derive(Debug)]
pub(crate) struct Place {
    intake: Option<Intake>,
    _open: OwnedSemaphorePermit,
    _bringing: Option<places::Place<Client>>,
}

impl Place {
    /// The body of the request, which fails with `SERVER_BUSY` where there is no memory for it, and with
    /// `CLIENT_STALLED` if it does not come.
    pub(crate) fn receive<B>(&self, body: B, boxed: impl FnOnce(Received<B>) -> B) -> B {
        match &self.intake {
            Some(intake) => boxed(intake.of(body)),
            None => body,
        }
    }
}

/// A service in its envelope.
#[derive(Debug, Clone)]
pub(crate) struct Envelope<S> {
    inner: S,
    limits: Limits,
}

impl<S> Envelope<S> {
    pub(crate) fn new(inner: S, limits: Limits) -> Self {
        Self { inner, limits }
    }
}

impl<S: NamedService> NamedService for Envelope<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<Request<Body>> for Envelope<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + NamedService,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Response<Body>, Infallible>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let Limits { request_time_max, message_bytes_max: bytes_max, .. } = self.limits;
        let timeout = client_timeout(request.headers());
        let limit = timeout.map_or(request_time_max, |timeout| timeout.min(request_time_max));
        let path = request.uri().path().to_owned();
        let call = metrics::call_of(&path).to_owned();
        let place = self.limits.admit(&call, request.extensions());
        let asked = Asked { path, call, service: Some(S::NAME) };
        // Dropped unfinished when the client hangs up.
        let mut line = AccessLine::new(asked, &request, &self.limits);
        let place = match place {
            Ok(place) => place,
            Err(why) => {
                line.end(Answered::Grpc(Code::ResourceExhausted), Some(Reason::ServerBusy));
                return Box::pin(async move { Ok(Reason::ServerBusy.status(why).into_http()) });
            }
        };
        if let Some(deadline) = timeout.and_then(|_| Instant::now().checked_add(limit)) {
            request.extensions_mut().insert(Deadline(deadline));
        }
        let answer = self.inner.call(request.map(|body| place.receive(body, Body::new)));
        Box::pin(async move {
            let (_place, mut line) = (place, line);
            let answer = line.trace().around(answer);
            let limited = tokio::time::timeout(limit.saturating_sub(DEADLINE_LEAD), answer).await;
            let response = match limited {
                Ok(Ok(response)) => explain_size(response, bytes_max),
                Ok(Err(never)) => match never {},
                Err(_) => late(timeout, limit).into_http(),
            };
            let failed = Status::from_header_map(response.headers());
            let failed = failed.filter(|status| status.code() != Code::Ok);
            let answered = Answered::Grpc(code(response.headers()));
            line.end(answered, failed.as_ref().map(Reason::of));
            Ok(response)
        })
    }
}

fn late(asked: Option<Duration>, limit: Duration) -> Status {
    Reason::DeadlinePassed.status(match asked {
        Some(asked) if asked <= limit => {
            "the deadline of the call passed; send less audio or allow more time".to_owned()
        }
        _ => format!(
            "the request took longer than the server allows ({} s); send less audio",
            limit.as_secs()
        ),
    })
}

/// Says what to do about a message that is larger than the limit.
fn explain_size(response: Response<Body>, bytes_max: usize) -> Response<Body> {
    // Our services never answer OUT_OF_RANGE themselves.
    if code(response.headers()) != Code::OutOfRange {
        return response;
    }
    let text = format!(
        "the message is larger than the limit of {bytes_max} bytes; send a shorter clip or a fingerprint, or raise message-max of the server; an upload: smaller pieces (4 MiB at most, whatever message-max is)"
    );
    Reason::TooLarge.status(text).into_http()
}

/// The status of an answer: in the headers if it failed at once, else it is `OK` so far.
pub(crate) fn code(headers: &HeaderMap) -> Code {
    headers.get("grpc-status").map_or(Code::Ok, |value| Code::from_bytes(value.as_bytes()))
}

/// Reads the header `grpc-timeout`: up to 8 digits and a unit. `None` if there is none, or if it
/// is malformed, which the specification leaves open.
///
/// # Source
///
/// gRPC over HTTP2, section "Requests": the grammar of `Timeout`.
fn client_timeout(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|digit| digit.is_ascii_digit())
    {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(number * 3_600)),
        "M" => Some(Duration::from_secs(number * 60)),
        "S" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_millis(number)),
        "u" => Some(Duration::from_micros(number)),
        "n" => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_by_the_grammar() {
        let read = |text: &str| {
            let headers = HeaderMap::from_iter([(
                tonic::codegen::http::HeaderName::from_static("grpc-timeout"),
                text.parse().unwrap(),
            )]);
            client_timeout(&headers)
        };
        assert_eq!(read("1H"), Some(Duration::from_secs(3_600)));
        assert_eq!(read("2M"), Some(Duration::from_secs(120)));
        assert_eq!(read("99999999S"), Some(Duration::from_secs(99_999_999)));
        assert_eq!(read("5m"), Some(Duration::from_millis(5)));
        assert_eq!(read("6u"), Some(Duration::from_micros(6)));
        assert_eq!(read("7n"), Some(Duration::from_nanos(7)));
        for bad in ["", "S", "1", "1s", "100000000S", "-1S", "+1S", "1.5S"] {
            assert_eq!(read(bad), None, "{bad}");
        }
        assert_eq!(client_timeout(&HeaderMap::new()), None);
    }
}
