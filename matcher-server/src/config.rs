//! The server's settings: flags, then environment, then a TOML file, then defaults.
//!
//! [`Settings`] lists every setting once, for the command line, the environment and the file;
//! [`Config`] is what they add up to.

use std::fmt;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};

/// Most workers of a pool, and most jobs in its queue.
const WORK_MAX: usize = 10_000;

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
    /// Longest pause between two pieces of an upload [default: 30s].
    #[arg(long, env = "EARMARK_SERVER_UPLOAD_PAUSE_MAX", value_name = "TIME")]
    upload_pause_max: Option<Span>,
    /// Queries worked on at a time [default: one a processor].
    #[arg(long, env = "EARMARK_SERVER_WORKERS", value_name = "N")]
    workers: Option<usize>,
    /// Uploads decoded at a time [default: half as many as workers].
    #[arg(long, env = "EARMARK_SERVER_UPLOAD_WORKERS", value_name = "N")]
    upload_workers: Option<usize>,
    /// Requests open at a time, those still being received included; together they hold at most
    /// this many messages in memory [default: 128].
    #[arg(long, env = "EARMARK_SERVER_REQUESTS_OPEN_MAX", value_name = "N")]
    requests_open_max: Option<usize>,
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
    /// Requests that may wait for a worker; more are refused as busy [default: 64].
    #[arg(long, env = "EARMARK_SERVER_QUEUE_LEN", value_name = "N")]
    queue_len: Option<usize>,
    /// Program for codecs that are not built in, or "none" [default: ffmpeg, from the PATH].
    #[arg(long, env = "EARMARK_SERVER_FFMPEG", value_name = "PROGRAM")]
    ffmpeg: Option<PathBuf>,
    /// Longest run of that program [default: 2m].
    #[arg(long, env = "EARMARK_SERVER_FFMPEG_TIME_MAX", value_name = "TIME")]
    ffmpeg_time_max: Option<Span>,
    /// On SIGTERM or SIGINT, how long running requests may take to finish [default: 10s].
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
    /// Longest pause between two pieces of an upload.
    pub upload_pause_max: Duration,
    /// Queries worked on at a time, at least 1.
    pub workers: usize,
    /// Uploads worked on at a time, at least 1.
    pub upload_workers: usize,
    /// Requests open at a time, at least 1.
    pub requests_open_max: usize,
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
    /// How long running requests may take to finish when the server is told to stop.
    pub shutdown_time_max: Duration,
    /// How log lines look.
    pub log_format: LogFormat,
    /// Filter of log lines.
    pub log_level: String,
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
            message_max: self.message_max.or(weaker.message_max),
            upload_max: self.upload_max.or(weaker.upload_max),
            query_duration_max: self.query_duration_max.or(weaker.query_duration_max),
            track_duration_max: self.track_duration_max.or(weaker.track_duration_max),
            request_time_max: self.request_time_max.or(weaker.request_time_max),
            upload_pause_max: self.upload_pause_max.or(weaker.upload_pause_max),
            workers: self.workers.or(weaker.workers),
            upload_workers: self.upload_workers.or(weaker.upload_workers),
            requests_open_max: self.requests_open_max.or(weaker.requests_open_max),
            uploads_open_max: self.uploads_open_max.or(weaker.uploads_open_max),
            streams_max: self.streams_max.or(weaker.streams_max),
            encoded_streams_max: self.encoded_streams_max.or(weaker.encoded_streams_max),
            stream_pause_max: self.stream_pause_max.or(weaker.stream_pause_max),
            queue_len: self.queue_len.or(weaker.queue_len),
            ffmpeg: self.ffmpeg.or(weaker.ffmpeg),
            ffmpeg_time_max: self.ffmpeg_time_max.or(weaker.ffmpeg_time_max),
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
            message_max: Some(ByteSize(32 << 20)),
            upload_max: Some(ByteSize(2 << 30)),
            query_duration_max: seconds(3_600),
            track_duration_max: seconds(30 * 3_600),
            request_time_max: seconds(600),
            upload_pause_max: seconds(30),
            workers: Some(processors),
            upload_workers: Some(processors.div_ceil(2)),
            requests_open_max: Some(128),
            uploads_open_max: Some(16),
            streams_max: Some(1_000),
            encoded_streams_max: Some(64),
            stream_pause_max: seconds(60),
            queue_len: Some(64),
            ffmpeg: Some(PathBuf::from("ffmpeg")),
            ffmpeg_time_max: seconds(120),
            shutdown_time_max: seconds(10),
            log_format: Some(LogFormat::Text),
            log_level: Some("warn,matcher_server=info,earmark_server=info".to_owned()),
        }
    }

    /// Fills in the defaults and checks every value.
    ///
    /// # Errors
    ///
    /// [`ConfigError::NoIndex`], [`ConfigError::FollowerBackup`], [`ConfigError::OutOfRange`].
    pub fn resolve(self) -> Result<Config, ConfigError> {
        let set = self.or(Self::defaults());
        let index = set.index.ok_or(ConfigError::NoIndex)?;
        if set.follow.is_some() && set.backup_dir.is_some() {
            return Err(ConfigError::FollowerBackup);
        }
        let span = |span: Option<Span>| span.unwrap_or_default().0;
        let size = |size: Option<ByteSize>| size.unwrap_or_default().0;
        let count = |name, value: Option<usize>, least: usize| {
            let value = value.unwrap_or_default();
            let expected = if least == 0 { "0 to 10000" } else { "1 to 10000" };
            let actual = value.to_string();
            let error = ConfigError::OutOfRange { name, actual, expected };
            (least..=WORK_MAX).contains(&value).then_some(value).ok_or(error)
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
        Ok(Config {
            index,
            follow: set.follow.map(|span| span.0),
            backup_dir: set.backup_dir,
            listen: set.listen.unwrap_or_default(),
            message_bytes_max,
            upload_bytes_max: size(set.upload_max),
            query_duration_max: span(set.query_duration_max),
            track_duration_max: span(set.track_duration_max),
            request_time_max: span(set.request_time_max),
            upload_pause_max: span(set.upload_pause_max),
            workers: count("workers", set.workers, 1)?,
            upload_workers: count("upload-workers", set.upload_workers, 1)?,
            requests_open_max: count("requests-open-max", set.requests_open_max, 1)?,
            uploads_open_max: count("uploads-open-max", set.uploads_open_max, 1)?,
            streams_max: count("streams-max", set.streams_max, 1)?,
            encoded_streams_max: count("encoded-streams-max", set.encoded_streams_max, 0)?,
            stream_pause_max: span(set.stream_pause_max),
            queue_len: count("queue-len", set.queue_len, 0)?,
            ffmpeg: set.ffmpeg.filter(|program| program.as_os_str() != "none"),
            ffmpeg_time_max: span(set.ffmpeg_time_max),
            shutdown_time_max: span(set.shutdown_time_max),
            log_format: set.log_format.unwrap_or(LogFormat::Text),
            log_level: set.log_level.unwrap_or_default(),
        })
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

/// Bytes, written as a number with `KiB`, `MiB`, `GiB` or nothing behind it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ByteSize(u64);

const UNITS: [(&str, u32); 4] = [("GiB", 30), ("MiB", 20), ("KiB", 10), ("", 0)];

impl FromStr for ByteSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let (digits, shift) =
                UNITS.iter().find_map(|(unit, shift)| Some((text.strip_suffix(unit)?, *shift)))?;
            let number: u64 = digits.trim_end().parse().ok()?;
            number.checked_mul(1 << shift).map(Self)
        };
        parse().ok_or_else(|| format!("{text:?} is no size; write for example 32MiB"))
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = |shift: u32| self.0 >= 1 << shift && self.0.trailing_zeros() >= shift;
        let (unit, shift) = UNITS.iter().find(|(_, shift)| whole(*shift)).unwrap_or(&UNITS[3]);
        write!(f, "{}{unit}", self.0 >> shift)
    }
}

impl TryFrom<String> for ByteSize {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<ByteSize> for String {
    fn from(size: ByteSize) -> Self {
        size.to_string()
    }
}

/// A length of time, written as `90s`, `10m`, `1h 30m`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Span(Duration);

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        humantime::parse_duration(text)
            .map(Self)
            .map_err(|error| format!("{text:?} is no time ({error}); write for example 90s or 1h"))
    }
}

impl TryFrom<String> for Span {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Span> for String {
    fn from(span: Span) -> Self {
        humantime::format_duration(span.0).to_string()
    }
}

#[cfg(test)]
mod tests;
