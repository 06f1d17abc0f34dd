//! The arguments of `earmark bench-server`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::{ConnectArgs, SpeedSearchArg, TextFormat};

const BENCH_HELP: &str = "\
With --rate, clips are due at random times of that mean rate, and are sent when they are due, whatever
the server has answered; times count from then. Told are how many were answered, refused because the
server was busy, and failed, and how long answers and refusals took. --rate 50,100,200 measures one
rate after the other.

With --streams, streams of 16-bit samples at 16 kHz are sent as fast as they play, each by a schedule of its own that
does not wait for answers. Told are how long after its first sample a stream's first track was named,
and how far the search was behind the clock whenever the server told something.

Run it on the server's machine, and both share its processors; run it elsewhere, and the network is
measured too.";

#[derive(Debug, Args)]
#[command(after_help = BENCH_HELP)]
pub(crate) struct BenchServerArgs {
    /// Address of earmark-server, e.g. http://127.0.0.1:50051
    #[arg(long, value_name = "URL", env = super::SERVER_ENV)]
    pub(crate) server: String,
    #[command(flatten)]
    pub(crate) connect: ConnectArgs,
    /// Audio files that are sent; clips and streams begin at random places of them
    #[arg(value_name = "FILE", required = true)]
    pub(crate) files: Vec<PathBuf>,
    /// Clips a second; several rates, with commas, are measured one after the other
    #[arg(
        long, value_name = "N", value_delimiter = ',', value_parser = parse_rate,
        required_unless_present = "streams", conflicts_with = "streams"
    )]
    pub(crate) rate: Vec<f64>,
    /// Length of a clip that is made of a file
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = humantime::parse_duration)]
    pub(crate) clip: Duration,
    /// Send the files as they are, each a clip, instead of fingerprints of pieces of them
    #[arg(long, requires = "rate")]
    pub(crate) send_audio: bool,
    /// Whether clips are searched for tracks of changed speed, tempo or pitch
    #[arg(long, value_enum, default_value_t = SpeedSearchArg::Auto)]
    pub(crate) speed_search: SpeedSearchArg,
    /// Connections that share the clips
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    pub(crate) connections: u16,
    /// Time at each rate before anything is counted
    #[arg(long, value_name = "TIME", default_value = "3s", value_parser = humantime::parse_duration)]
    pub(crate) warm_up: Duration,
    /// Streams at a time
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=20_000))]
    pub(crate) streams: Option<u16>,
    /// How long each rate is kept up, or each stream lasts
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = humantime::parse_duration)]
    pub(crate) duration: Duration,
    /// Time over which the streams begin
    #[arg(long, value_name = "TIME", default_value = "20s", value_parser = humantime::parse_duration)]
    pub(crate) ramp: Duration,
    /// Length of a packet, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 250, value_parser = clap::value_parser!(u16).range(10..=5_000))]
    pub(crate) packet: u16,
    /// Send the files at their own sample rates instead of 16 kHz
    #[arg(long)]
    pub(crate) own_rate: bool,
    /// How to print the figures
    #[arg(long, value_enum, default_value_t = TextFormat::Human)]
    pub(crate) format: TextFormat,
}

fn parse_rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if (0.01..=1e5).contains(&rate) { Ok(rate) } else { Err("must be 0.01 to 100000".to_owned()) }
}
