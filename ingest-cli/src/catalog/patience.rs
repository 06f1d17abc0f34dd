//! Patience with a server that is busy, or away for a moment: what may pass, and how long to wait for it.

use std::time::{Duration, Instant};

use tonic::{Code, Status};
use tonic_types::StatusExt;

/// Longest wait of our own before a call is made again: the first, and any. What the server says comes on top.
const WAIT_FIRST: Duration = Duration::from_millis(200);
const WAIT_MAX: Duration = Duration::from_millis(6_400);
/// Longer than anybody waits, and short enough for every clock.
const LIMIT_MAX: Duration = Duration::from_secs(365 * 24 * 3_600);
/// Reasons of a server that may have time a moment later.
const BUSY: [&str; 2] = ["SERVER_BUSY", "KEY_LIMIT"];

/// For how long a call is made again.
#[derive(Debug)]
pub(super) struct Patience {
    /// All of it.
    pub(super) limit: Duration,
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
        sleep(self.wait_for(status)).await
    }

    /// The same after a failure of which it is known already that it may pass.
    pub(super) async fn lasts_for_another(&mut self) -> bool {
        sleep(self.wait_at_least(Duration::ZERO)).await
    }

    fn wait_for(&mut self, status: &Status) -> Option<Duration> {
        if !may_pass(status) {
            return None;
        }
        self.wait_at_least(retry_delay(status))
    }

    /// How long to wait: as the server says, and a little longer, so that those who were refused together do not come
    /// back together.
    fn wait_at_least(&mut self, told: Duration) -> Option<Duration> {
        let wait = told.saturating_add(self.wait.mul_f64(0.5 + 0.5 * fastrand::f64()));
        self.wait = WAIT_MAX.min(2 * self.wait);
        (wait < self.left()).then_some(wait)
    }
}

async fn sleep(wait: Option<Duration>) -> bool {
    let Some(wait) = wait else { return false };
    tokio::time::sleep(wait).await;
    true
}

/// What the server gives as reason, for programs.
pub(crate) fn reason(status: &Status) -> Option<String> {
    status.get_error_details().error_info().map(|info| info.reason.clone())
}

/// How long the server asks to wait; zero if it does not say.
pub(super) fn retry_delay(status: &Status) -> Duration {
    let details = status.get_error_details();
    details.retry_info().and_then(|info| info.retry_delay).unwrap_or_default()
}

/// True if the same call may succeed a little later.
pub(super) fn may_pass(status: &Status) -> bool {
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
pub(super) fn is_broken(status: &Status) -> bool {
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
}
