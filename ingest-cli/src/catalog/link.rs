//! One connection to a server, and what every call over it has in common: a deadline, patience
//! with a server that is busy or restarting, and errors that say what to do.

use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use earmark_proto::v1::backup_service_client::BackupServiceClient;
use earmark_proto::v1::catalog_service_client::CatalogServiceClient;
use earmark_proto::v1::match_service_client::MatchServiceClient;
use fingerprint_core::params::Params;
use tonic::{Code, Request, Status};
use tonic_types::StatusExt;

use crate::args::KEY_ENV;

use super::dial::{Calls, Dial};

/// Largest answer: 1000 matches or tracks with 64 KiB of metadata each.
const ANSWER_BYTES_MAX: usize = 72 << 20;
/// Longest wait of our own before a call is made again: the first, and any. What the server says comes on top.
const WAIT_FIRST: Duration = Duration::from_millis(200);
const WAIT_MAX: Duration = Duration::from_millis(6_400);
/// Longer than anybody waits, and short enough for every clock.
const LIMIT_MAX: Duration = Duration::from_secs(365 * 24 * 3_600);
/// Reasons of a server that may have time a moment later.
const BUSY: [&str; 2] = ["SERVER_BUSY", "KEY_LIMIT"];

/// What one call needs; cheap to clone.
#[derive(Clone)]
pub(super) struct Link {
    calls: Calls,
    url: String,
    timeout: Duration,
    pub(super) params: Params,
}

impl Link {
    /// Connects to a server.
    ///
    /// # Errors
    ///
    /// If nobody answers there.
    pub(super) async fn connect(dial: &Dial, timeout: Duration) -> Result<Self> {
        let calls = dial.connect(timeout).await?;
        Ok(Self { calls, url: dial.url().to_owned(), timeout, params: Params::default() })
    }

    pub(super) fn catalog(&self) -> CatalogServiceClient<Calls> {
        CatalogServiceClient::new(self.calls.clone()).max_decoding_message_size(ANSWER_BYTES_MAX)
    }

    pub(super) fn matcher(&self) -> MatchServiceClient<Calls> {
        MatchServiceClient::new(self.calls.clone()).max_decoding_message_size(ANSWER_BYTES_MAX)
    }

    pub(super) fn backups(&self) -> BackupServiceClient<Calls> {
        BackupServiceClient::new(self.calls.clone())
    }

    /// Longest wait for one answer.
    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// A call that may take as long as any.
    pub(super) fn request<T>(&self, message: T) -> Request<T> {
        request_within(self.timeout, message)
    }

    /// Makes a call again while the server is busy or away, until the time of all its tries together is over; then
    /// reports the last answer. `call` is given the time that is left. Changes must carry a request id.
    pub(super) async fn retry<T, F>(&self, mut call: impl FnMut(Duration) -> F) -> Result<T>
    where
        F: Future<Output = Result<tonic::Response<T>, Status>>,
    {
        let mut patience = Patience::of(self.timeout);
        loop {
            match call(patience.left()).await {
                Ok(response) => return Ok(response.into_inner()),
                Err(status) if patience.lasts(&status).await => {}
                Err(status) => return Err(self.explain_last(&status, &patience)),
            }
        }
    }

    /// What went wrong the last time that patience allowed.
    pub(super) fn explain_last(&self, status: &Status, patience: &Patience) -> anyhow::Error {
        let error = self.explain(status);
        if !may_pass(status) {
            return error;
        }
        let way_out =
            if patience.limit < self.timeout { "" } else { "; raise --timeout to wait longer" };
        let limit = humantime::format_duration(patience.limit);
        let outcome = if retry_delay(status).is_zero() {
            "did not pass within"
        } else {
            "would take longer than"
        };
        anyhow!("{error:#}; it {outcome} {limit}{way_out}")
    }

    /// What went wrong, and what to do about it.
    pub(super) fn explain(&self, status: &Status) -> anyhow::Error {
        let url = &self.url;
        let text = if status.message().is_empty() { "no reason given" } else { status.message() };
        match status.code() {
            _ if is_broken(status) => anyhow!("the connection to {url} broke ({text})"),
            Code::Unavailable => anyhow!("the server at {url} cannot be reached: {text}"),
            // What the server itself says of a limit of its own.
            Code::DeadlineExceeded if !text.is_empty() && !text.contains("Timeout expired") => {
                anyhow!("{text} (the server at {url})")
            }
            Code::DeadlineExceeded | Code::Cancelled => anyhow!(
                "the server at {url} did not answer within {}; raise --timeout",
                humantime::format_duration(self.timeout)
            ),
            Code::Unauthenticated if reason(status).as_deref() == Some("KEY_INVALID") => anyhow!(
                "{text} (the server at {url}; give another key with --key-file or {KEY_ENV}; there, `earmark keys list` tells what became of this one, and `earmark keys create` makes one)"
            ),
            Code::Unauthenticated => anyhow!(
                "{text} (the server at {url}; give a key with --key-file or {KEY_ENV}; there, `earmark keys create` makes one)"
            ),
            Code::PermissionDenied => anyhow!(
                "{text} (the server at {url}; give such a key with --key-file or {KEY_ENV}; there, `earmark keys create --scope …` makes one)"
            ),
            Code::Unimplemented => {
                anyhow!("{url} is no earmark-server, or one of another release: {text}")
            }
            code => anyhow!("{text} (the server at {url} answered {code:?})"),
        }
    }
}

/// A message that may be answered for so long.
pub(super) fn request_within<T>(limit: Duration, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(limit);
    request
}

/// A name for a call that changes something: with it a repeat is told from another call, so that it may be made again
/// though its answer was lost.
pub(super) fn new_request_id() -> Result<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| {
        anyhow!("the system gave no random bytes for the name of a request: {error}")
    })?;
    Ok(format!("{:032x}", u128::from_be_bytes(bytes)))
}

/// For how long a call is made again.
#[derive(Debug)]
pub(super) struct Patience {
    limit: Duration,
    end: Instant,
    wait: Duration,
}

impl Patience {
    /// For so long from now on.
    pub(super) fn of(limit: Duration) -> Self {
        let limit = limit.min(LIMIT_MAX);
        Self { limit, end: Instant::now() + limit, wait: WAIT_FIRST }
    }

    /// What is left of it.
    pub(super) fn left(&self) -> Duration {
        self.end.saturating_duration_since(Instant::now())
    }

    /// Waits, and says that the call shall be made again; or says that there is no point in it.
    pub(super) async fn lasts(&mut self, status: &Status) -> bool {
        let Some(wait) = self.wait_for(status) else { return false };
        tokio::time::sleep(wait).await;
        true
    }

    /// How long to wait: as the server says, and a little longer, so that those who were refused together do not come
    /// back together.
    fn wait_for(&mut self, status: &Status) -> Option<Duration> {
        if !may_pass(status) {
            return None;
        }
        let jitter = self.wait.mul_f64(0.5 + 0.5 * fastrand::f64());
        let wait = retry_delay(status).saturating_add(jitter);
        self.wait = WAIT_MAX.min(2 * self.wait);
        (wait < self.left()).then_some(wait)
    }
}

/// What the server gives as reason, for programs.
pub(crate) fn reason(status: &Status) -> Option<String> {
    status.get_error_details().error_info().map(|info| info.reason.clone())
}

/// How long the server asks to wait; zero if it does not say.
fn retry_delay(status: &Status) -> Duration {
    let details = status.get_error_details();
    details.retry_info().and_then(|info| info.retry_delay).unwrap_or_default()
}

/// True if the same call may succeed a little later.
fn may_pass(status: &Status) -> bool {
    match status.code() {
        Code::Unavailable => true,
        _ if is_broken(status) => true,
        // Also the code for what is too large, which stays so.
        Code::ResourceExhausted => {
            reason(status).is_some_and(|reason| BUSY.contains(&reason.as_str()))
        }
        _ => false,
    }
}

/// True if the words are the transport's, and no answer of the server.
fn is_broken(status: &Status) -> bool {
    let text = status.message().to_lowercase();
    let is_of_transport = matches!(
        status.code(),
        Code::Internal | Code::Unknown | Code::Unavailable | Code::Cancelled
    );
    is_of_transport
        && reason(status).is_none()
        && ["h2 protocol error", "transport error", "operation was canceled"]
            .iter()
            .any(|words| text.contains(words))
}

#[cfg(test)]
mod tests {
    use tonic_types::ErrorDetails;

    use super::*;

    #[test]
    fn only_what_may_pass_is_tried_again() {
        assert!(may_pass(&Status::unavailable("")));
        let with_reason = |reason: &str| {
            let details = ErrorDetails::with_error_info(reason, "earmark", []);
            Status::with_error_details(Code::ResourceExhausted, "busy", details)
        };
        assert!(may_pass(&with_reason("SERVER_BUSY")));
        assert!(!may_pass(&with_reason("TOO_LARGE")));
        assert!(!may_pass(&Status::resource_exhausted("upload is larger than 1 GiB")));
        assert!(!may_pass(&Status::invalid_argument("busy")));
        assert!(may_pass(&Status::unknown("h2 protocol error: connection reset")));
        assert!(!may_pass(&Status::unknown("what it is")));
    }

    #[test]
    fn the_server_says_how_long_to_wait_and_the_timeout_when_to_give_up() {
        let busy = |retry_ms| {
            let mut details = ErrorDetails::with_error_info("KEY_LIMIT", "earmark", []);
            details.set_retry_info(Some(Duration::from_millis(retry_ms)));
            Status::with_error_details(Code::ResourceExhausted, "busy", details)
        };
        let mut patience = Patience::of(Duration::from_secs(60));
        for longest_ms in [200, 400, 800, 1_600, 3_200, 6_400, 6_400, 6_400] {
            let wait = patience.wait_for(&busy(5_000)).unwrap();
            let ms = (wait - Duration::from_secs(5)).as_millis();
            assert!(ms >= longest_ms / 2 && ms <= longest_ms, "{ms} of {longest_ms}");
        }
        assert!(patience.wait_for(&busy(60_000)).is_none(), "it would come too late");
        assert_eq!(retry_delay(&busy(60_000)), Duration::from_secs(60));
        assert!(retry_delay(&Status::unavailable("")).is_zero());
        assert!(patience.wait_for(&busy(5_000)).is_some());
        assert!(Patience::of(Duration::ZERO).wait_for(&busy(0)).is_none());
        assert!(Patience::of(Duration::MAX).wait_for(&busy(60_000)).is_some());
    }

    #[test]
    fn names_of_requests_are_long_and_differ() {
        let (a, b) = (new_request_id().unwrap(), new_request_id().unwrap());
        assert!(a.len() == 32 && a != b);
    }
}
