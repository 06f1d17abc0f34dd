//! The server's settings: flags, then environment, then a TOML file, then OpenTelemetry's own variables, then
//! defaults.
//!
//! [`Settings`] lists every setting once, for the command line, the environment and the file;
//! [`Config`] is what they add up to.

mod environment;
mod otlp;
mod resolved;
mod units;

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};

pub use self::environment::unknown_variables;
pub use self::otlp::Otlp;
pub use self::resolved::{Config, ConfigError, TlsFiles};
pub use self::units::{ByteSize, Span};

/// What was set, in one place. Names in the file are those of the flags with `_` for `-`.
#[derive(Debug, Clone, Default, PartialEq, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Folder of the index; made if there is none. Required.
    #[arg(long, env = "EARMARK_SERVER_INDEX", value_name = "DIR")]
    index: Option<PathBuf>,
    /// Serve an index that another process writes, for reading only, and look for changes this
    /// often [--follow alone: 1s]. Changes are refused.
    #[arg(
        long, env = "EARMARK_SERVER_FOLLOW", value_name = "TIME",
        num_args = 0..=1, require_equals = true, default_missing_value = "1s"
    )]
    follow: Option<Span>,
    /// Folder for backups; without it clients cannot have any made.
    #[arg(long, env = "EARMARK_SERVER_BACKUP_DIR", value_name = "DIR")]
    backup_dir: Option<PathBuf>,
    /// Address and port to listen on; port 0 takes any free one [default: 127.0.0.1:50051].
    #[arg(long, env = "EARMARK_SERVER_LISTEN", value_name = "ADDR:PORT")]
    listen: Option<String>,
    /// Certificate of the server and those between it and its root (PEM); connections are then
    /// encrypted. It, the key and the roots are read again when they change, and on SIGHUP.
    #[arg(long, env = "EARMARK_SERVER_TLS_CERT", value_name = "FILE")]
    tls_cert: Option<PathBuf>,
    /// Key of that certificate (PEM).
    #[arg(long, env = "EARMARK_SERVER_TLS_KEY", value_name = "FILE")]
    tls_key: Option<PathBuf>,
    /// Clients must show a certificate of one of these roots (PEM).
    #[arg(long, env = "EARMARK_SERVER_TLS_CLIENT_CA", value_name = "FILE")]
    tls_client_ca: Option<PathBuf>,
    /// File of keys, one of which clients must show; made by `earmark keys create`, and read again
    /// when it changes.
    #[arg(long, env = "EARMARK_SERVER_KEYS", value_name = "FILE")]
    keys: Option<PathBuf>,
    /// Serve other machines even without TLS, or without keys or client certificates: something in front of
    /// the server encrypts, and decides who gets in.
    #[arg(
        long, env = "EARMARK_SERVER_ALLOW_INSECURE", value_name = "BOOL",
        num_args = 0..=1, require_equals = true, default_missing_value = "true"
    )]
    allow_insecure: Option<bool>,
    /// Connections at a time; more are closed at once [default: 10000].
    #[arg(long, env = "EARMARK_SERVER_CONNECTIONS_MAX", value_name = "N")]
    connections_max: Option<usize>,
    /// Connections at a time from one address, or one /64 network of IPv6, so that one client cannot take all; behind
    /// a proxy all have its address [default: half of connections-max].
    #[arg(long, env = "EARMARK_SERVER_CONNECTIONS_PER_ADDRESS_MAX", value_name = "N")]
    connections_per_address_max: Option<usize>,
    /// Address and port of metrics for Prometheus, at /metrics; for everybody who can reach it.
    #[arg(long, env = "EARMARK_SERVER_METRICS_LISTEN", value_name = "ADDR:PORT")]
    metrics_listen: Option<String>,
    /// Collector of OpenTelemetry to which traces are sent (OTLP over gRPC, usually port 4317), or "none"
    /// [default: none, or what OTEL_EXPORTER_OTLP_ENDPOINT says].
    #[arg(long, env = "EARMARK_SERVER_OTLP_ENDPOINT", value_name = "URL")]
    otlp_endpoint: Option<String>,
    /// Share of traces that is kept, 0 to 1. A request that comes with a trace (traceparent) follows what its
    /// client has decided [default: 1].
    #[arg(long, env = "EARMARK_SERVER_OTLP_SAMPLE", value_name = "SHARE")]
    otlp_sample: Option<f64>,
    /// Largest message, and so largest clip, e.g. 32MiB [default: 32MiB].
    #[arg(long, env = "EARMARK_SERVER_MESSAGE_MAX", value_name = "SIZE")]
    message_max: Option<ByteSize>,
    /// Largest upload of a track [default: 2GiB].
    #[arg(long, env = "EARMARK_SERVER_UPLOAD_MAX", value_name = "SIZE")]
    upload_max: Option<ByteSize>,
    /// Longest clip that is matched, e.g. 90m [default: 1h].
    #[arg(long, env = "EARMARK_SERVER_QUERY_DURATION_MAX", value_name = "TIME")]
    query_duration_max: Option<Span>,
    /// Longest track that is added [default: 30h].
    #[arg(long, env = "EARMARK_SERVER_TRACK_DURATION_MAX", value_name = "TIME")]
    track_duration_max: Option<Span>,
    /// Longest time for one request, if the client sets no shorter deadline [default: 10m].
    #[arg(long, env = "EARMARK_SERVER_REQUEST_TIME_MAX", value_name = "TIME")]
    request_time_max: Option<Span>,
    /// Longest pause between two pieces of an upload or of a clip [default: 30s].
    #[arg(long, env = "EARMARK_SERVER_UPLOAD_PAUSE_MAX", value_name = "TIME")]
    upload_pause_max: Option<Span>,
    /// Queries worked on at a time [default: one a processor].
    #[arg(long, env = "EARMARK_SERVER_WORKERS", value_name = "N")]
    workers: Option<usize>,
    /// Uploads decoded at a time [default: half as many as workers].
    #[arg(long, env = "EARMARK_SERVER_UPLOAD_WORKERS", value_name = "N")]
    upload_workers: Option<usize>,
    /// Requests open at a time, those still being received included; three quarters of them may bring audio, at most half
    /// of these of one client, which is a key, or without keys an address [default: 256].
    #[arg(long, env = "EARMARK_SERVER_REQUESTS_OPEN_MAX", value_name = "N")]
    requests_open_max: Option<usize>,
    /// Memory for the messages of all open requests together. Each has its part of half of it for sure (2 MiB by
    /// default); larger clips are refused as busy when the other half is taken [default: 1GiB, or twice message-max].
    #[arg(long, env = "EARMARK_SERVER_REQUESTS_MEMORY_MAX", value_name = "SIZE")]
    requests_memory_max: Option<ByteSize>,
    /// Uploads received at a time [default: 16].
    #[arg(long, env = "EARMARK_SERVER_UPLOADS_OPEN_MAX", value_name = "N")]
    uploads_open_max: Option<usize>,
    /// Streams that are followed at a time, those included whose client may come back within a
    /// minute [default: 1000].
    #[arg(long, env = "EARMARK_SERVER_STREAMS_MAX", value_name = "N")]
    streams_max: Option<usize>,
    /// Of these, streams of encoded audio, each of which has a thread of its own [default: 64].
    #[arg(long, env = "EARMARK_SERVER_ENCODED_STREAMS_MAX", value_name = "N")]
    encoded_streams_max: Option<usize>,
    /// Longest pause of a stream between two packets [default: 1m].
    #[arg(long, env = "EARMARK_SERVER_STREAM_PAUSE_MAX", value_name = "TIME")]
    stream_pause_max: Option<Span>,
    /// Requests that may wait for a worker, of clips those of one client, and twice as many of all; more are refused as
    /// busy [default: 64].
    #[arg(long, env = "EARMARK_SERVER_QUEUE_LEN", value_name = "N")]
    queue_len: Option<usize>,
    /// Program for codecs that are not built in, or "none" [default: ffmpeg, from the PATH].
    #[arg(long, env = "EARMARK_SERVER_FFMPEG", value_name = "PROGRAM")]
    ffmpeg: Option<PathBuf>,
    /// Longest run of that program [default: 2m].
    #[arg(long, env = "EARMARK_SERVER_FFMPEG_TIME_MAX", value_name = "TIME")]
    ffmpeg_time_max: Option<Span>,
    /// On SIGTERM or SIGINT, how long to go on serving while health already says otherwise, so that
    /// a load balancer sends requests elsewhere [default: 0s].
    #[arg(long, env = "EARMARK_SERVER_DRAIN_DELAY", value_name = "TIME")]
    drain_delay: Option<Span>,
    /// After that, how long running requests may take to finish [default: 10s].
    #[arg(long, env = "EARMARK_SERVER_SHUTDOWN_TIME_MAX", value_name = "TIME")]
    shutdown_time_max: Option<Span>,
    /// How log lines look [default: text].
    #[arg(long, env = "EARMARK_SERVER_LOG_FORMAT", value_name = "FORMAT")]
    log_format: Option<LogFormat>,
    /// Least level that is logged: error, warn, info, debug, trace, or a list such as
    /// "info,matcher_server=debug" [default: info for the server, warn for libraries].
    #[arg(long, env = "EARMARK_SERVER_LOG_LEVEL", value_name = "LEVEL")]
    log_level: Option<String>,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl Settings {
    /// Reads a TOML file.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Read`], [`ConfigError::Parse`].
    pub fn from_file(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        toml::from_str(&text).map_err(|error| ConfigError::Parse {
            path: path.to_owned(),
            message: error.to_string().trim_end().to_owned(),
        })
    }

    /// These settings, and those of `weaker` where these say nothing.
    #[must_use]
    pub fn or(self, weaker: Self) -> Self {
        Self {
            index: self.index.or(weaker.index),
            follow: self.follow.or(weaker.follow),
            backup_dir: self.backup_dir.or(weaker.backup_dir),
            listen: self.listen.or(weaker.listen),
            tls_cert: self.tls_cert.or(weaker.tls_cert),
            tls_key: self.tls_key.or(weaker.tls_key),
            tls_client_ca: self.tls_client_ca.or(weaker.tls_client_ca),
            keys: self.keys.or(weaker.keys),
            allow_insecure: self.allow_insecure.or(weaker.allow_insecure),
            connections_max: self.connections_max.or(weaker.connections_max),
            connections_per_address_max: self
                .connections_per_address_max
                .or(weaker.connections_per_address_max),
            metrics_listen: self.metrics_listen.or(weaker.metrics_listen),
            otlp_endpoint: self.otlp_endpoint.or(weaker.otlp_endpoint),
            otlp_sample: self.otlp_sample.or(weaker.otlp_sample),
            message_max: self.message_max.or(weaker.message_max),
            upload_max: self.upload_max.or(weaker.upload_max),
            query_duration_max: self.query_duration_max.or(weaker.query_duration_max),
            track_duration_max: self.track_duration_max.or(weaker.track_duration_max),
            request_time_max: self.request_time_max.or(weaker.request_time_max),
            upload_pause_max: self.upload_pause_max.or(weaker.upload_pause_max),
            workers: self.workers.or(weaker.workers),
            upload_workers: self.upload_workers.or(weaker.upload_workers),
            requests_open_max: self.requests_open_max.or(weaker.requests_open_max),
            requests_memory_max: self.requests_memory_max.or(weaker.requests_memory_max),
            uploads_open_max: self.uploads_open_max.or(weaker.uploads_open_max),
            streams_max: self.streams_max.or(weaker.streams_max),
            encoded_streams_max: self.encoded_streams_max.or(weaker.encoded_streams_max),
            stream_pause_max: self.stream_pause_max.or(weaker.stream_pause_max),
            queue_len: self.queue_len.or(weaker.queue_len),
            ffmpeg: self.ffmpeg.or(weaker.ffmpeg),
            ffmpeg_time_max: self.ffmpeg_time_max.or(weaker.ffmpeg_time_max),
            drain_delay: self.drain_delay.or(weaker.drain_delay),
            shutdown_time_max: self.shutdown_time_max.or(weaker.shutdown_time_max),
            log_format: self.log_format.or(weaker.log_format),
            log_level: self.log_level.or(weaker.log_level),
        }
    }

    /// What is set when nobody says anything; all but the index.
    #[must_use]
    pub fn defaults() -> Self {
        let processors = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let seconds = |s| Some(Span(Duration::from_secs(s)));
        Self {
            index: None,
            follow: None,
            backup_dir: None,
            listen: Some("127.0.0.1:50051".to_owned()),
            tls_cert: None,
            tls_key: None,
            tls_client_ca: None,
            keys: None,
            allow_insecure: Some(false),
            connections_max: Some(10_000),
            connections_per_address_max: None,
            metrics_listen: None,
            otlp_endpoint: None,
            otlp_sample: Some(1.0),
            message_max: Some(ByteSize(32 << 20)),
            upload_max: Some(ByteSize(2 << 30)),
            query_duration_max: seconds(3_600),
            track_duration_max: seconds(30 * 3_600),
            request_time_max: seconds(600),
            upload_pause_max: seconds(30),
            workers: Some(processors),
            upload_workers: Some(processors.div_ceil(2)),
            requests_open_max: Some(256),
            requests_memory_max: None,
            uploads_open_max: Some(16),
            streams_max: Some(1_000),
            encoded_streams_max: Some(64),
            stream_pause_max: seconds(60),
            queue_len: Some(64),
            ffmpeg: Some(PathBuf::from("ffmpeg")),
            ffmpeg_time_max: seconds(120),
            drain_delay: seconds(0),
            shutdown_time_max: seconds(10),
            log_format: Some(LogFormat::Text),
            log_level: Some("warn,matcher_server=info,earmark_server=info".to_owned()),
        }
    }

    /// As a TOML file that says the same.
    ///
    /// # Errors
    ///
    /// If a path is not UTF-8, which TOML cannot hold.
    pub fn to_toml(&self) -> Result<String, toml::ser::Error> {
        toml::to_string(self)
    }
}

#[cfg(test)]
mod tests;
