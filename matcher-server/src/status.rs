//! Core errors → gRPC status: the only place where a `Status` is made of an error.
//!
//! A status says what the caller can do about it. What the caller cannot change (the disk, a
//! damaged index) is logged with all its causes and sent as a short `INTERNAL`, without paths or
//! other details of this machine.

use std::error::Error;
use std::fmt::Write;

use fingerprint_core::decode::DecodeError;
use fingerprint_core::fingerprint::FingerprintError;
use fingerprint_core::index::IndexError;
use fingerprint_core::index::backup::BackupError;
use fingerprint_core::matching::MatchError;
use fingerprint_core::resample::RateError;
use fingerprint_core::units::TrackIdError;
use tonic::Status;

use crate::reason::Reason;

/// What the caller sees of an error that is ours.
const INTERNAL: &str = "the server failed on this request; it has been logged";

/// Audio that could not be decoded. `name` replaces the input's name in the message: what the
/// core was given may be a temporary file of this machine.
pub(crate) fn from_decode(error: DecodeError, name: &str) -> Status {
    tracing::debug!(%error, "not decoded");
    let error = without_paths(error, name);
    match &error {
        DecodeError::Io { .. } => internal("audio could not be read", &error),
        DecodeError::Unrecognised { .. }
        | DecodeError::NoAudio { .. }
        | DecodeError::NeedsFfmpeg { .. }
        | DecodeError::Undecodable { .. }
        | DecodeError::NotStreamable { .. } => Reason::AudioUndecodable.status(error.to_string()),
        DecodeError::TooLong { .. }
        | DecodeError::TooLarge { .. }
        | DecodeError::TooSlow { .. } => Reason::TooLarge.status(error.to_string()),
        // The enum is open to new variants of a later core.
        _ => internal("an error of a kind unknown to the server", &error),
    }
}

/// Puts `name` in the place of the input's name, and of every path in what a decoder said: an
/// external program names the temporary file that it was given.
fn without_paths(mut error: DecodeError, to: &str) -> DecodeError {
    if let DecodeError::Io { name, .. }
    | DecodeError::Unrecognised { name, .. }
    | DecodeError::NoAudio { name, .. }
    | DecodeError::NeedsFfmpeg { name, .. }
    | DecodeError::Undecodable { name, .. }
    | DecodeError::NotStreamable { name, .. }
    | DecodeError::TooLong { name, .. }
    | DecodeError::TooLarge { name, .. }
    | DecodeError::TooSlow { name, .. } = &mut error
    {
        to.clone_into(name);
    }
    if let DecodeError::Unrecognised { reason, .. }
    | DecodeError::NeedsFfmpeg { reason, .. }
    | DecodeError::Undecodable { reason, .. } = &mut error
    {
        let is_path = |word: &str| word.starts_with('/') || word.contains(":/");
        let words = reason.split(' ').map(|word| if is_path(word) { to } else { word });
        *reason = words.collect::<Vec<_>>().join(" ");
    }
    error
}

/// A fingerprint that is not one, or of another release.
pub(crate) fn from_fingerprint(error: FingerprintError) -> Status {
    match error {
        FingerprintError::Malformed { .. } => {
            Reason::FingerprintMalformed.status(error.to_string())
        }
        FingerprintError::Version { .. } | FingerprintError::Params { .. } => {
            Reason::FingerprintOtherRelease.status(error.to_string())
        }
        _ => internal("an error of a kind unknown to the server", &error),
    }
}

/// What the index could not do.
pub(crate) fn from_index(error: IndexError) -> Status {
    match &error {
        IndexError::RepeatedId { .. } => Reason::ArgumentInvalid.status(error.to_string()),
        IndexError::Full { .. } => Reason::StorageFull.status(error.to_string()),
        IndexError::DiskFull { .. } => {
            internal("the disk of the index is full", &error);
            Reason::StorageFull.status("the server's disk is full; what was acknowledged is safe")
        }
        IndexError::ReadOnly { .. } => read_only(),
        IndexError::Exchanged { .. } => {
            let text =
                "the folder of the server's index was moved or exchanged; start the server again";
            logged("the index failed", &error, Reason::ReadOnly.status(text))
        }
        IndexError::Storage { .. }
        | IndexError::InUse { .. }
        | IndexError::Missing { .. }
        | IndexError::NotAnIndex { .. }
        | IndexError::Occupied { .. }
        | IndexError::NothingToReindex { .. }
        | IndexError::FormatVersion { .. }
        | IndexError::NewerFormat { .. }
        | IndexError::PeaksUnfit { .. }
        | IndexError::Incomplete { .. }
        | IndexError::ParamsMismatch { .. }
        | IndexError::Corrupt { .. }
        | IndexError::BeyondRepair { .. } => internal("the index failed", &error),
        _ => internal("an error of a kind unknown to the server", &error),
    }
}

/// A change that was sent to a server that follows an index.
pub(crate) fn read_only() -> Status {
    Reason::ReadOnly.status(
        "this server only follows an index that another process writes; send changes to the server that writes it",
    )
}

/// A backup that was not made. Paths are for the log.
pub(crate) fn from_backup(error: BackupError) -> Status {
    let error = match error {
        BackupError::Index(error) => return from_index(error),
        error => error,
    };
    let text = match &error {
        BackupError::Busy { .. } => {
            return Reason::Conflict
                .status("another backup is at work; try again when it has ended");
        }
        BackupError::Full { .. } => {
            let status = "no space is left for the backup; free some on the server";
            return logged("the backup failed", &error, Reason::StorageFull.status(status));
        }
        BackupError::Damaged { .. } => {
            let status = "the backup is damaged; the server's log names the file";
            return logged("the backup failed", &error, Reason::DataDamaged.status(status));
        }
        BackupError::OtherIndex { .. } => "the backup folder holds backups of another index",
        BackupError::NotABackupFolder { .. } => "the backup folder holds other files",
        BackupError::InsideIndex { .. } => "the backup folder is in the folder of the index",
        _ => return internal("the backup failed", &error),
    };
    let status = Reason::NotConfigured.status(format!("{text}; start the server with another"));
    logged("the backup failed", &error, status)
}

/// A search without an answer.
pub(crate) fn from_match(error: MatchError) -> Status {
    match error {
        MatchError::Index(error) => from_index(error),
        MatchError::Cancelled => cancelled(),
        _ => internal("an error of a kind unknown to the server", &error),
    }
}

/// Work that was given up because nobody waits for its answer any more. Only a client of a
/// stopping server can read this.
pub(crate) fn cancelled() -> Status {
    Reason::Unavailable.status("server is shutting down; try again elsewhere or later")
}

/// A sample rate that cannot be resampled.
pub(crate) fn from_rate(error: &RateError) -> Status {
    Reason::ArgumentInvalid.status(error.to_string())
}

/// A text that is no track id.
pub(crate) fn from_track_id(error: &TrackIdError) -> Status {
    Reason::ArgumentInvalid.status(error.to_string())
}

/// The server's own file system failed.
pub(crate) fn from_io(what: &str, error: &std::io::Error) -> Status {
    internal(what, error)
}

fn internal(what: &str, error: &(dyn Error + 'static)) -> Status {
    logged(what, error, Reason::Internal.status(INTERNAL))
}

/// Logs an error with all its causes, and passes the answer on.
fn logged(what: &str, error: &(dyn Error + 'static), status: Status) -> Status {
    let mut causes = String::new();
    let mut cause = Some(error);
    while let Some(error) = cause {
        let separator = if causes.is_empty() { "" } else { ": " };
        // Writing to a String cannot fail.
        let _ = write!(causes, "{separator}{error}");
        cause = error.source();
    }
    tracing::error!(error = causes, "{what}");
    status
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::path::PathBuf;

    use tonic::Code;

    use super::*;

    #[test]
    fn causes_and_paths_of_this_machine_are_not_sent() {
        let source = Box::new(io::Error::other("/var/lib/earmark: disk on fire"));
        let status = from_index(IndexError::Storage { action: "read a track", source });
        assert_eq!((status.code(), status.message()), (Code::Internal, INTERNAL));
        let status = from_index(IndexError::Missing { path: PathBuf::from("/secret") });
        assert!(!status.message().contains("secret"));
        let name = "/tmp/spool7".to_owned();
        let status = from_decode(DecodeError::TooLong { name, limit_s: 60.0 }, "the clip");
        assert_eq!(status.code(), Code::ResourceExhausted);
        assert!(status.message().starts_with("the clip: longer than"), "{status}");
    }

    #[test]
    fn what_an_external_program_says_is_sent_without_paths() {
        let reason = "unknown; ffmpeg says: file:/tmp/.tmpX1: Invalid data; /var/x: No ogg/vorbis";
        let (name, reason) = ("/tmp/.tmpX1".to_owned(), reason.to_owned());
        let status = from_decode(DecodeError::Unrecognised { name, reason }, "the clip");
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(!status.message().contains("/tmp") && !status.message().contains("/var"));
        assert!(status.message().contains("the clip Invalid data; the clip No ogg/vorbis"));
    }

    #[test]
    fn codes_say_who_can_help() {
        let malformed = FingerprintError::Malformed { what: "it is cut off" };
        assert_eq!(from_fingerprint(malformed).code(), Code::InvalidArgument);
        let params = FingerprintError::Params { expected: 1, actual: 2 };
        assert_eq!(from_fingerprint(params).code(), Code::FailedPrecondition);
        assert_eq!(from_index(IndexError::Full { hours: 1.0 }).code(), Code::ResourceExhausted);
        let path = PathBuf::from("/secret");
        let status = from_index(IndexError::ReadOnly { path: path.clone() });
        assert_eq!(status.code(), Code::FailedPrecondition);
        assert!(!status.message().contains("secret"));
        for (error, code) in [
            (BackupError::Busy { path: path.clone() }, Code::Aborted),
            (BackupError::Full { action: "write", path: path.clone() }, Code::ResourceExhausted),
            (BackupError::Damaged { file: path.clone(), what: String::new() }, Code::DataLoss),
            (BackupError::OtherIndex { path: path.clone() }, Code::FailedPrecondition),
            (BackupError::NoName { path }, Code::Internal),
        ] {
            let status = from_backup(error);
            assert!(status.code() == code && !status.message().contains("secret"), "{status}");
        }
        assert_eq!(from_track_id(&TrackIdError::Empty).code(), Code::InvalidArgument);
    }
}
