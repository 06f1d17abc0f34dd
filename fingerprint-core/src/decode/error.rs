//! Why audio could not be decoded.

use std::io;

/// Why audio could not be decoded. `name` is the path as given, or says which input it was.
///
/// One variant per thing a caller can *do*: look at the file system ([`Io`](Self::Io)), find
/// another file ([`Unrecognised`](Self::Unrecognised), [`NoAudio`](Self::NoAudio),
/// [`Undecodable`](Self::Undecodable)), install a program
/// ([`NeedsFfmpeg`](Self::NeedsFfmpeg)), send a stream in another format
/// ([`NotStreamable`](Self::NotStreamable)), split the file or raise a limit
/// ([`TooLong`](Self::TooLong), [`TooLarge`](Self::TooLarge), [`TooSlow`](Self::TooSlow)).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// Reading failed.
    #[error("{name}: could not be read")]
    Io {
        /// The input.
        name: String,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// The input is no audio or video file that anything here knows.
    #[error("{name}: not an audio or video file that is known here: {reason}")]
    Unrecognised {
        /// The input.
        name: String,
        /// What it is instead, or what was tried.
        reason: String,
    },
    /// The container holds no audio track.
    #[error("{name}: the {container} container has no audio track")]
    NoAudio {
        /// The input.
        name: String,
        /// Short name of the container.
        container: String,
    },
    /// Only the external program could decode it, and it is not there.
    #[error(
        "{name}: {container}/{codec} is not built in ({reason}) and no ffmpeg was found on the PATH; install ffmpeg, or convert the file"
    )]
    NeedsFfmpeg {
        /// The input.
        name: String,
        /// Short name of the container.
        container: String,
        /// Short name of the codec.
        codec: String,
        /// Why the built-in decoders could not.
        reason: String,
    },
    /// Container and codec are known, but not one packet could be decoded.
    #[error("{name}: nothing in this {container}/{codec} file could be decoded: {reason}")]
    Undecodable {
        /// The input.
        name: String,
        /// Short name of the container.
        container: String,
        /// Short name of the codec.
        codec: String,
        /// What the decoder said.
        reason: String,
    },
    /// The audio goes on beyond the limit.
    #[error("{name}: longer than the limit of {limit_s:.0} s; split it")]
    TooLong {
        /// The input.
        name: String,
        /// The limit in seconds.
        limit_s: f64,
    },
    /// The input goes on beyond the limit.
    #[error("{name}: larger than the limit of {limit_bytes} bytes; split it")]
    TooLarge {
        /// The input.
        name: String,
        /// The limit in bytes.
        limit_bytes: u64,
    },
    /// A stream that may never end gives the built-in decoders nothing, and they are all there is: the
    /// external program is for whole files.
    #[error(
        "{name} cannot be followed: {reason}; send MP3, AAC-LC, Ogg, FLAC or WAV, or decode it before, with ffmpeg -i … -f wav - for instance"
    )]
    NotStreamable {
        /// The input.
        name: String,
        /// What it is, or how much of it was looked at.
        reason: String,
    },
    /// The external program did not come to an end. The sink has had what it decoded.
    #[error(
        "{name}: ffmpeg was stopped after {limit_s} s; convert the file, to WAV or FLAC for instance"
    )]
    TooSlow {
        /// The input.
        name: String,
        /// The limit in seconds.
        limit_s: f64,
    },
}
