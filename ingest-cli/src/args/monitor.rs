//! The arguments of `earmark monitor`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::{ReadingArgs, SpeedSearchArg, TargetArgs, TextFormat};

const MONITOR_HELP: &str = "\
Exit codes: 0 something was recognised, 1 nothing was, 2 an error. Ctrl-C ends the stream; the
playlist is still printed.

JSON (--format json): one object a line, as soon as it is known. Times count from the start of the
stream, in seconds.
  event      match_started, match_updated, match_ended, silence_started, silence_ended,
             unknown_started, unknown_ended (sound in which no track is heard), audio_lost,
             or summary, the last one
  heard_s    up to here the stream was searched when this became known
  match_id   number of the match in this stream; null unless the event is one of a match
  match      as of earmark match, query times being those of the stream; otherwise null
  start_s, end_s    of silence, unknown sound and lost audio; otherwise null
The summary has duration_s, recognised_s and matches, in the order of their beginnings; there is
none of a source that could not be read at all.";

/// Bits of a sample of --pcm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PcmArg {
    pub(crate) rate_hz: u32,
    pub(crate) channel_count: u16,
}

#[derive(Debug, Args)]
#[command(after_help = MONITOR_HELP)]
pub(crate) struct MonitorArgs {
    /// An audio file, an http(s) address of one or of a radio station, or - for standard input
    #[arg(value_name = "SOURCE", default_value = "-")]
    pub(crate) source: PathBuf,
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    /// How to print events
    #[arg(long, value_enum, default_value_t = TextFormat::Human)]
    pub(crate) format: TextFormat,
    /// Read a file as fast as it plays
    #[arg(long)]
    pub(crate) realtime: bool,
    /// The source is bare 16-bit little-endian samples: their rate in Hz and channels, e.g. 44100:2
    #[arg(long, value_name = "RATE:CHANNELS", value_parser = parse_pcm)]
    pub(crate) pcm: Option<PcmArg>,
    /// Most false events that are put up with, per hour of sound: above 0, at most 1000
    #[arg(long, value_name = "RATE", default_value_t = 0.002, value_parser = parse_rate)]
    pub(crate) max_false_events: f64,
    /// Least confidence of a reported match, 0 to 1
    #[arg(long, value_name = "P", default_value_t = 0.0, value_parser = super::parse_probability)]
    pub(crate) min_confidence: f64,
    /// Whether to search for tracks of changed speed, tempo or pitch
    #[arg(long, value_enum, default_value_t = SpeedSearchArg::Auto)]
    pub(crate) speed_search: SpeedSearchArg,
    /// Time between two updates of a match that only goes on, 1s to 1h
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = parse_update)]
    pub(crate) update_interval: Duration,
    /// A track that is not heard for so long has ended, 2s to 12s
    #[arg(long, value_name = "TIME", default_value = "6s", value_parser = parse_gap)]
    pub(crate) max_gap: Duration,
    #[command(flatten)]
    pub(crate) reading: ReadingArgs,
}

fn parse_pcm(text: &str) -> Result<PcmArg, String> {
    let parts = text.split_once(':').unwrap_or((text, "1"));
    let rate_hz = parts.0.parse().ok().filter(|rate| (1_000..=768_000).contains(rate));
    let channel_count = parts.1.parse().ok().filter(|count| (1..=8).contains(count));
    match (rate_hz, channel_count) {
        (Some(rate_hz), Some(channel_count)) => Ok(PcmArg { rate_hz, channel_count }),
        _ => Err("must be RATE:CHANNELS, 1000 to 768000 Hz and 1 to 8 channels".to_owned()),
    }
}

fn parse_rate(text: &str) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if value > 0.0 && value <= 1_000.0 {
        Ok(value)
    } else {
        Err("must be above 0 and at most 1000".into())
    }
}

fn parse_update(text: &str) -> Result<Duration, String> {
    parse_between(text, 1, 3_600)
}

fn parse_gap(text: &str) -> Result<Duration, String> {
    parse_between(text, 2, 12)
}

fn parse_between(text: &str, least_s: u64, most_s: u64) -> Result<Duration, String> {
    let time = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if (least_s..=most_s).contains(&time.as_secs()) && time.subsec_nanos() == 0 {
        Ok(time)
    } else {
        Err(format!("must be whole seconds, {least_s} to {most_s}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_and_channels_are_checked() {
        assert_eq!(parse_pcm("44100:2"), Ok(PcmArg { rate_hz: 44_100, channel_count: 2 }));
        assert_eq!(parse_pcm("16000"), Ok(PcmArg { rate_hz: 16_000, channel_count: 1 }));
        for bad in ["", "x", "999", "44100:0", "44100:9", "44100:", "-1:1"] {
            assert!(parse_pcm(bad).is_err(), "{bad}");
        }
        assert!(parse_gap("13s").is_err() && parse_gap("500ms").is_err());
    }
}
