//! Core errors → gRPC status: the only place that decides on codes. Messages of errors that are
//! the caller's to mend are sent; causes inside the server are logged.

use fingerprint_core::decode::DecodeError;
use fingerprint_core::fingerprint::FingerprintError;
use fingerprint_core::index::IndexError;
use tonic::Status;

pub(crate) fn decode(error: &DecodeError) -> Status {
    match error {
        DecodeError::Io { .. } => {
            tracing::error!(?error, "decoding failed");
            Status::internal("the audio could not be read; the server's log says why")
        }
        DecodeError::TooLong { .. } | DecodeError::TooLarge { .. } => {
            Status::resource_exhausted(error.to_string())
        }
        _ => Status::invalid_argument(error.to_string()),
    }
}

pub(crate) fn fingerprint(error: &FingerprintError) -> Status {
    match error {
        FingerprintError::Version { .. } | FingerprintError::Params { .. } => {
            Status::failed_precondition(error.to_string())
        }
        _ => Status::invalid_argument(error.to_string()),
    }
}

pub(crate) fn index(error: &IndexError) -> Status {
    match error {
        IndexError::TooLong { .. } | IndexError::Full { .. } => {
            Status::resource_exhausted(error.to_string())
        }
        IndexError::RepeatedId { .. } => Status::invalid_argument(error.to_string()),
        _ => {
            tracing::error!(?error, "the index failed");
            Status::internal("the index failed; the server's log says why")
        }
    }
}

pub(crate) fn too_long(limit_s: f64) -> Status {
    Status::resource_exhausted(format!("audio is longer than the limit of {limit_s} s; split it"))
}
