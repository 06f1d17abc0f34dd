//! What the settings add up to, checked.

use std::path::PathBuf;
use std::time::Duration;

use super::{ByteSize, LogFormat, Otlp, Settings, Span};

/// Memory for requests, unless their messages may be larger, in bytes.
const REQUESTS_MEMORY: usize = 1 << 30;

/// Most workers of a pool, most jobs in its queue, and so on.
const COUNT_MAX: usize = 100_000;

/// All settings, checked; field by field as in [`Settings`].
#[derive(Debug, Clone)]
pub struct Config {
    /// Folder of the index.
    pub index: PathBuf,
    /// The index is another process's: how often to look for changes.
    pub follow: Option<Duration>,
    /// Folder for backups, if clients may have some made.
    pub backup_dir: Option<PathBuf>,
    /// Address and port to listen on.
    pub listen: String,
    /// That address may be reached from other machines without TLS or keys.
    pub allow_insecure: bool,
    /// Certificates, if connections are encrypted.
    pub tls: Option<TlsFiles>,
    /// The file of keys, if clients need one.
    pub keys: Option<PathBuf>,
    /// Connections at a time, at least 1.
    pub connections_max: usize,
    /// Connections at a time from one address, at least 1.
    pub connections_per_address_max: usize,
    /// Where metrics are served, if they are.
    pub metrics_listen: Option<String>,
    /// Where traces are sent, if they are.
    pub otlp: Option<Otlp>,
    /// Largest message in bytes.
    pub message_bytes_max: usize,
    /// Largest upload in bytes.
    pub upload_bytes_max: u64,
    /// Longest query.
    pub query_duration_max: Duration,
    /// Longest track.
    pub track_duration_max: Duration,
    /// Longest request.
    pub request_time_max: Duration,
    /// Longest pause between two pieces of an upload or of a clip.
    pub upload_pause_max: Duration,
    /// Queries worked on at a time, at least 1.
    pub workers: usize,
    /// Uploads worked on at a time, at least 1.
    pub upload_workers: usize,
    /// Requests open at a time, at least 1.
    pub requests_open_max: usize,
    /// Bytes of the messages of all of them, at least two of the largest.
    pub requests_memory_max: usize,
    /// Uploads received at a time, at least 1.
    pub uploads_open_max: usize,
    /// Streams followed at a time, at least 1.
    pub streams_max: usize,
    /// Streams of encoded audio, of these.
    pub encoded_streams_max: usize,
    /// Longest pause of a stream between two packets.
    pub stream_pause_max: Duration,
    /// Jobs of each kind that may wait.
    pub queue_len: usize,
    /// Program for codecs that are not built in.
    pub ffmpeg: Option<PathBuf>,
    /// Longest run of that program.
    pub ffmpeg_time_max: Duration,
    /// How long to go on serving, but not ready, when the server is told to stop.
    pub drain_delay: Duration,
    /// How long running requests may take to finish after that.
    pub shutdown_time_max: Duration,
    /// How log lines look.
    pub log_format: LogFormat,
    /// Filter of log lines.
    pub log_level: String,
}

/// Files of certificates and keys (PEM).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The server's certificate, and those between it and its root.
    pub cert: PathBuf,
    /// The key of that certificate.
    pub key: PathBuf,
    /// Roots of the certificates that clients must show, if they must.
    pub client_ca: Option<PathBuf>,
}

impl TlsFiles {
    /// Every file that there is.
    pub(crate) fn all(&self) -> impl Iterator<Item = &PathBuf> {
        [&self.cert, &self.key].into_iter().chain(&self.client_ca)
    }
}

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file could not be read.
    #[error("configuration {}: could not be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: std::io::Error,
    },
    /// The file is no TOML, has an unknown name in it, or a value of the wrong kind.
    #[error("configuration {}: {message}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Line, name and what is wrong.
        message: String,
    },
    /// No index was named.
    #[error("no index is set; give --index DIR, EARMARK_SERVER_INDEX or index in the file")]
    NoIndex,
    /// Backups of an index that another process writes.
    #[error(
        "follow and backup_dir are both set; back up through the server that writes the index, and unset one here"
    )]
    FollowerBackup,
    /// Some of the files of TLS are missing.
    #[error(
        "tls_cert and tls_key must both be set, or neither; tls_client_ca (client certificates) needs both"
    )]
    TlsHalf,
    /// Traces cannot be sent there.
    #[error(
        "otlp-endpoint is no address of a collector; write http://HOST:4317 (gRPC; no path, no user), or \"none\""
    )]
    OtlpEndpoint,
    /// A number is out of its range.
    #[error("{name} is {actual}, it must be {expected}")]
    OutOfRange {
        /// The setting.
        name: &'static str,
        /// Its value.
        actual: String,
        /// What is allowed.
        expected: &'static str,
    },
}

impl Settings {
    /// Fills in the defaults and checks every value.
    ///
    /// # Errors
    ///
    /// [`ConfigError`].
    pub fn resolve(self) -> Result<Config, ConfigError> {
        let set = self.or(Self::defaults());
        let index = set.index.ok_or(ConfigError::NoIndex)?;
        if set.follow.is_some() && set.backup_dir.is_some() {
            return Err(ConfigError::FollowerBackup);
        }
        let tls = match (set.tls_cert, set.tls_key, set.tls_client_ca) {
            (None, None, None) => None,
            (Some(cert), Some(key), client_ca) => Some(TlsFiles { cert, key, client_ca }),
            _ => return Err(ConfigError::TlsHalf),
        };
        let span = |span: Option<Span>| span.unwrap_or_default().0;
        let size = |size: Option<ByteSize>| size.unwrap_or_default().0;
        let count = |name, value: Option<usize>, least: usize| {
            let value = value.unwrap_or_default();
            let expected = if least == 0 { "0 to 100000" } else { "1 to 100000" };
            let actual = value.to_string();
            let error = ConfigError::OutOfRange { name, actual, expected };
            (least..=COUNT_MAX).contains(&value).then_some(value).ok_or(error)
        };
        // A message lies in memory as a whole, and its length has 32 bits on the wire.
        let message_bytes = size(set.message_max);
        let message_bytes_max = usize::try_from(message_bytes)
            .ok()
            .filter(|bytes| (1024..=2 << 30).contains(bytes))
            .ok_or_else(|| ConfigError::OutOfRange {
                name: "message-max",
                actual: ByteSize(message_bytes).to_string(),
                expected: "1KiB to 2GiB",
            })?;
        let requests_memory_max = match set.requests_memory_max {
            None => REQUESTS_MEMORY.max(2 * message_bytes_max),
            Some(bytes) => usize::try_from(bytes.0)
                .ok()
                .filter(|bytes| *bytes / 2 >= message_bytes_max)
                .ok_or_else(|| ConfigError::OutOfRange {
                    name: "requests-memory-max",
                    actual: bytes.to_string(),
                    expected: "at least twice message-max",
                })?,
        };
        let times = [
            ("query-duration-max", set.query_duration_max),
            ("track-duration-max", set.track_duration_max),
            ("request-time-max", set.request_time_max),
            ("upload-pause-max", set.upload_pause_max),
            ("stream-pause-max", set.stream_pause_max),
            ("ffmpeg-time-max", set.ffmpeg_time_max),
            ("follow", set.follow.or(Some(Span(Duration::MAX)))),
        ];
        if let Some((name, _)) = times.iter().find(|(_, time)| span(*time) == Duration::ZERO) {
            return Err(ConfigError::OutOfRange {
                name,
                actual: "0s".to_owned(),
                expected: "more than 0s",
            });
        }
        let connections_max = count("connections-max", set.connections_max, 1)?;
        Ok(Config {
            index,
            follow: set.follow.map(|span| span.0),
            backup_dir: set.backup_dir,
            listen: set.listen.unwrap_or_default(),
            allow_insecure: set.allow_insecure.unwrap_or_default(),
            tls,
            keys: set.keys,
            connections_max,
            connections_per_address_max: match set.connections_per_address_max {
                None => connections_max.div_ceil(2),
                set => count("connections-per-address-max", set, 1)?,
            },
            metrics_listen: set.metrics_listen,
            otlp: Otlp::of(set.otlp_endpoint, set.otlp_sample.unwrap_or_default())?,
            message_bytes_max,
            upload_bytes_max: size(set.upload_max),
            query_duration_max: span(set.query_duration_max),
            track_duration_max: span(set.track_duration_max),
            request_time_max: span(set.request_time_max),
            upload_pause_max: span(set.upload_pause_max),
            workers: count("workers", set.workers, 1)?,
            upload_workers: count("upload-workers", set.upload_workers, 1)?,
            requests_open_max: count("requests-open-max", set.requests_open_max, 1)?,
            requests_memory_max,
            uploads_open_max: count("uploads-open-max", set.uploads_open_max, 1)?,
            streams_max: count("streams-max", set.streams_max, 1)?,
            encoded_streams_max: count("encoded-streams-max", set.encoded_streams_max, 0)?,
            stream_pause_max: span(set.stream_pause_max),
            queue_len: count("queue-len", set.queue_len, 0)?,
            ffmpeg: set.ffmpeg.filter(|program| program.as_os_str() != "none"),
            ffmpeg_time_max: span(set.ffmpeg_time_max),
            drain_delay: span(set.drain_delay),
            shutdown_time_max: span(set.shutdown_time_max),
            log_format: set.log_format.unwrap_or(LogFormat::Text),
            log_level: set.log_level.unwrap_or_default(),
        })
    }
}
