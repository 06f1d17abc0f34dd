//! Why a request failed, for programs: each error carries one of these, whatever its text says.
//!
//! Over gRPC it is `google.rpc.ErrorInfo.reason` of domain `earmark`, over HTTP `reason` of the problem.
//! Names are a contract: one may be added, none is renamed.

use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

/// Domain of all reasons.
const DOMAIN: &str = "earmark";
/// When it is worth asking a busy server again.
const BUSY_PAUSE: Duration = Duration::from_secs(1);

/// Why a request failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    /// A field is missing, out of range or not understood; the text names it.
    ArgumentInvalid,
    /// The audio cannot be decoded, or is none.
    AudioUndecodable,
    /// More bytes, or more seconds, than the server takes.
    TooLarge,
    /// The fingerprint is none.
    FingerprintMalformed,
    /// The fingerprint was made by another release.
    FingerprintOtherRelease,
    /// There is no such track.
    TrackNotFound,
    /// The server wants a key, and the request shows none.
    KeyMissing,
    /// The key is not known, was revoked or has expired.
    KeyInvalid,
    /// The key does not allow this.
    ScopeMissing,
    /// The key's limits are reached.
    KeyLimit,
    /// All places are taken; the same request may succeed a moment later.
    ServerBusy,
    /// The deadline has passed, the client's or the server's.
    DeadlinePassed,
    /// The client has stopped sending.
    ClientStalled,
    /// Another request came in between.
    Conflict,
    /// The request has the name of another one.
    RequestIdReused,
    /// The server only reads its index.
    ReadOnly,
    /// The server is not set up for this.
    NotConfigured,
    /// The disk, or the index, is full.
    StorageFull,
    /// A stored file is damaged.
    DataDamaged,
    /// The server is starting or stopping.
    Unavailable,
    /// The server failed.
    Internal,
}

impl Reason {
    /// All of them.
    pub(crate) const ALL: [Self; 21] = [
        Self::ArgumentInvalid,
        Self::AudioUndecodable,
        Self::TooLarge,
        Self::FingerprintMalformed,
        Self::FingerprintOtherRelease,
        Self::TrackNotFound,
        Self::KeyMissing,
        Self::KeyInvalid,
        Self::ScopeMissing,
        Self::KeyLimit,
        Self::ServerBusy,
        Self::DeadlinePassed,
        Self::ClientStalled,
        Self::Conflict,
        Self::RequestIdReused,
        Self::ReadOnly,
        Self::NotConfigured,
        Self::StorageFull,
        Self::DataDamaged,
        Self::Unavailable,
        Self::Internal,
    ];

    /// Its name on the wire.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::ArgumentInvalid => "ARGUMENT_INVALID",
            Self::AudioUndecodable => "AUDIO_UNDECODABLE",
            Self::TooLarge => "TOO_LARGE",
            Self::FingerprintMalformed => "FINGERPRINT_MALFORMED",
            Self::FingerprintOtherRelease => "FINGERPRINT_OTHER_RELEASE",
            Self::TrackNotFound => "TRACK_NOT_FOUND",
            Self::KeyMissing => "KEY_MISSING",
            Self::KeyInvalid => "KEY_INVALID",
            Self::ScopeMissing => "SCOPE_MISSING",
            Self::KeyLimit => "KEY_LIMIT",
            Self::ServerBusy => "SERVER_BUSY",
            Self::DeadlinePassed => "DEADLINE_PASSED",
            Self::ClientStalled => "CLIENT_STALLED",
            Self::Conflict => "CONFLICT",
            Self::RequestIdReused => "REQUEST_ID_REUSED",
            Self::ReadOnly => "READ_ONLY",
            Self::NotConfigured => "NOT_CONFIGURED",
            Self::StorageFull => "STORAGE_FULL",
            Self::DataDamaged => "DATA_DAMAGED",
            Self::Unavailable => "UNAVAILABLE",
            Self::Internal => "INTERNAL",
        }
    }

    fn code(self) -> Code {
        match self {
            Self::ArgumentInvalid
            | Self::AudioUndecodable
            | Self::FingerprintMalformed
            | Self::RequestIdReused => Code::InvalidArgument,
            Self::KeyMissing | Self::KeyInvalid => Code::Unauthenticated,
            Self::ScopeMissing => Code::PermissionDenied,
            Self::TooLarge | Self::KeyLimit | Self::ServerBusy | Self::StorageFull => {
                Code::ResourceExhausted
            }
            Self::FingerprintOtherRelease | Self::ReadOnly | Self::NotConfigured => {
                Code::FailedPrecondition
            }
            Self::TrackNotFound => Code::NotFound,
            Self::DeadlinePassed | Self::ClientStalled => Code::DeadlineExceeded,
            Self::Conflict => Code::Aborted,
            Self::DataDamaged => Code::DataLoss,
            Self::Unavailable => Code::Unavailable,
            Self::Internal => Code::Internal,
        }
    }

    /// Status over HTTP.
    pub(crate) fn http_status(self) -> u16 {
        match self {
            Self::ArgumentInvalid | Self::FingerprintMalformed => 400,
            Self::AudioUndecodable => 422,
            Self::TooLarge => 413,
            Self::TrackNotFound => 404,
            Self::ClientStalled => 408,
            Self::FingerprintOtherRelease
            | Self::Conflict
            | Self::ReadOnly
            | Self::NotConfigured
            | Self::RequestIdReused => 409,
            Self::KeyMissing | Self::KeyInvalid => 401,
            Self::ScopeMissing => 403,
            Self::KeyLimit | Self::ServerBusy => 429,
            Self::StorageFull => 507,
            Self::Unavailable => 503,
            Self::DeadlinePassed => 504,
            Self::DataDamaged | Self::Internal => 500,
        }
    }

    /// When the same request may be sent again, if there is a point in it.
    pub(crate) fn retry_after(self) -> Option<Duration> {
        matches!(self, Self::ServerBusy | Self::Unavailable).then_some(BUSY_PAUSE)
    }

    /// A status that says so, and in words what to do.
    pub(crate) fn status(self, text: impl Into<String>) -> Status {
        self.status_retried_after(text, self.retry_after())
    }

    /// The same, where it is known when the request may be sent again.
    pub(crate) fn status_retried_after(
        self,
        text: impl Into<String>,
        pause: Option<Duration>,
    ) -> Status {
        let mut details = ErrorDetails::new();
        details.set_error_info(self.name(), DOMAIN, []);
        if pause.is_some() {
            details.set_retry_info(pause);
        }
        Status::with_error_details(self.code(), text, details)
    }

    /// Why a request failed. What the transport says has no reason of ours.
    pub(crate) fn of(status: &Status) -> Self {
        let details = status.get_error_details();
        let named = details.error_info().filter(|info| info.domain == DOMAIN);
        let reason = named.and_then(|info| Self::ALL.into_iter().find(|r| r.name() == info.reason));
        reason.unwrap_or(match status.code() {
            Code::DeadlineExceeded | Code::Cancelled => Self::DeadlinePassed,
            Code::OutOfRange => Self::TooLarge,
            Code::Unavailable => Self::Unavailable,
            // What is no message of ours, or a method that there is not. Whatever this server itself fails at has a
            // reason.
            Code::InvalidArgument | Code::Internal | Code::Unimplemented => Self::ArgumentInvalid,
            _ => Self::Internal,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_tells_its_reason_and_busy_ones_when_to_come_back() {
        for reason in Reason::ALL {
            let status = reason.status("the text");
            assert_eq!(Reason::of(&status), reason);
            assert_eq!((status.code(), status.message()), (reason.code(), "the text"));
            let retry = status.get_error_details().retry_info().and_then(|info| info.retry_delay);
            assert_eq!(retry, reason.retry_after(), "{reason:?}");
        }
        assert_eq!(Reason::of(&Status::cancelled("")), Reason::DeadlinePassed);
        assert_eq!(Reason::of(&Status::internal("no protobuf")), Reason::ArgumentInvalid);
    }
}
