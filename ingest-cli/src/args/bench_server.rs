//! The arguments of `earmark bench-server`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::{ConnectArgs, TextFormat};

const BENCH_HELP: &str = "\
Streams of 16-bit samples at 16 kHz are sent as fast as they play, each by a schedule of its own that
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
    /// Audio files that are sent; streams begin at random places of them
    #[arg(value_name = "FILE", required = true)]
    pub(crate) files: Vec<PathBuf>,
    /// Streams at a time
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=20_000))]
    pub(crate) streams: u16,
    /// How long each stream lasts
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
