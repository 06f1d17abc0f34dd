//! One connection to a server, and what every call over it has in common: a deadline, patience
//! with a server that is busy or restarting, and errors that say what to do.

use std::time::Duration;

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
/// Waits before asking again when the server is busy or away; 12.6 s in all.
const RETRY_WAITS_MS: [u64; 6] = [200, 400, 800, 1_600, 3_200, 6_400];
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

    pub(super) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.set_timeout(self.timeout);
        request
    }

    /// Makes a call again while the server is busy or away, then reports its last answer.
    pub(super) async fn retry<T, F>(&self, mut call: impl FnMut() -> F) -> Result<T>
    where
        F: Future<Output = Result<tonic::Response<T>, Status>>,
    {
        let mut patience = Patience::default();
        loop {
            match call().await {
                Ok(response) => return Ok(response.into_inner()),
                Err(status) if patience.lasts(&status).await => {}
                Err(status) => return Err(self.explain(&status)),
            }
        }
    }

    /// What went wrong, and what to do about it.
    pub(super) fn explain(&self, status: &Status) -> anyhow::Error {
        let url = &self.url;
        let text = if status.message().is_empty() { "no reason given" } else { status.message() };
        // The transport's words, and no answer of the server.
        let is_broken = reason(status).is_none()
            && ["h2 protocol error", "transport error", "operation was canceled"]
                .iter()
                .any(|words| text.to_lowercase().contains(words));
        match status.code() {
            // What a server that wants TLS answers to a client without looks so.
            Code::Internal | Code::Unknown | Code::Unavailable | Code::Cancelled if is_broken => {
                let hint = if url.starts_with("http://") {
                    "is it an earmark-server, and does it want https://?"
                } else {
                    "if it asks for client certificates, give --client-cert and --client-key of one that it trusts"
                };
                anyhow!("the connection to {url} broke ({text}); {hint}")
            }
            Code::Unavailable => anyhow!("the server at {url} cannot be reached: {text}"),
            // What the server itself says of a limit of its own.
            Code::DeadlineExceeded if !text.is_empty() && !text.contains("Timeout expired") => {
                anyhow!("{text} (the server at {url})")
            }
            Code::DeadlineExceeded | Code::Cancelled => anyhow!(
                "the server at {url} did not answer within {}; raise --timeout",
                humantime::format_duration(self.timeout)
            ),
            Code::Unauthenticated => {
                anyhow!("{text} (the server at {url}; give a key with --key-file or {KEY_ENV})")
            }
            Code::Unimplemented => {
                anyhow!("{url} is no earmark-server, or one of another release: {text}")
            }
            code => anyhow!("{text} (the server at {url} answered {code:?})"),
        }
    }
}

/// How often a call was made again.
#[derive(Debug, Default)]
pub(super) struct Patience {
    waits: usize,
}

impl Patience {
    /// Waits, and says that the call shall be made again; or says that there is no point in it.
    pub(super) async fn lasts(&mut self, status: &Status) -> bool {
        let Some(wait_ms) = RETRY_WAITS_MS.get(self.waits).filter(|_| may_pass(status)) else {
            return false;
        };
        self.waits += 1;
        tokio::time::sleep(Duration::from_millis(*wait_ms)).await;
        true
    }
}

/// What the server gives as reason, for programs.
pub(crate) fn reason(status: &Status) -> Option<String> {
    status.get_error_details().error_info().map(|info| info.reason.clone())
}

/// True if the same call may succeed a little later.
fn may_pass(status: &Status) -> bool {
    match status.code() {
        Code::Unavailable => true,
        // Also the code for what is too large, which stays so.
        Code::ResourceExhausted => {
            reason(status).is_some_and(|reason| BUSY.contains(&reason.as_str()))
        }
        _ => false,
    }
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
    }
}
