//! One connection to a server, and what every call over it has in common: a deadline, patience
//! with a server that is busy or restarting, and errors that say what to do.

use std::time::Duration;

use anyhow::{Result, anyhow};
use earmark_proto::v1::backup_service_client::BackupServiceClient;
use earmark_proto::v1::catalog_service_client::CatalogServiceClient;
use earmark_proto::v1::match_service_client::MatchServiceClient;
use fingerprint_core::params::Params;
use tonic::{Code, Request, Status};

use crate::args::KEY_ENV;

use super::dial::{Calls, Dial};
use super::patience::{Patience, is_broken, may_pass, reason, retry_delay};

/// Largest answer: 1000 matches or tracks with 64 KiB of metadata each.
const ANSWER_BYTES_MAX: usize = 72 << 20;

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
        let outcome = if retry_delay(status) < patience.limit {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_requests_are_long_and_differ() {
        let (a, b) = (new_request_id().unwrap(), new_request_id().unwrap());
        assert!(a.len() == 32 && a != b);
    }
}
