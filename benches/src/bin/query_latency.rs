//! Latency of single queries against an index of any size, embedded or through the real server.
//!
//! Criterion shows what a search costs on the small catalog of the checkout; what a user waits for
//! depends on the index. Clips are decoded and fingerprinted first, outside the timing. Then all
//! of them are matched once to warm up, and then in rounds, one query after the other on one
//! thread: rounds, and not each clip many times in a row, because a clip that was asked for just
//! before finds its own postings in the processor's cache.
//!
//! Through a server, a query is the whole call: encoding the message, the way there and back, and
//! the search. The fingerprint is in the request, so that no decoding is timed there either.

use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::{Args, Parser, ValueEnum};
use earmark_benches::percentile;
use earmark_proto::v1;
use earmark_proto::v1::match_service_client::MatchServiceClient;
use fingerprint_core::decode::{DecodeOptions, Input, decode};
use fingerprint_core::fingerprint::{Fingerprint, Fingerprinter};
use fingerprint_core::index::RocksIndex;
use fingerprint_core::matching::{MatchOptions, MatchStatus, SpeedSearch, match_fingerprint};
use fingerprint_core::params::{Params, Role};
use tokio::runtime;
use tonic::transport::Endpoint;

/// Measures how long single queries take: median and percentiles, for matched and unmatched
/// queries apart.
///
/// A clip that is too short or silent is not searched; it is counted as refused and not timed.
#[derive(Debug, Parser)]
#[command(name = "query_latency", max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    target: Target,
    /// Rounds of all clips that are timed, after one that is not
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    repeat: u32,
    /// Length that clips are cut to, in seconds; shorter ones stay as they are
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = positive)]
    seconds: f64,
    /// Whether tracks of changed speed, tempo or pitch are searched for
    #[arg(long, value_enum, value_name = "WHEN", default_value_t = Changed::Auto)]
    speed_search: Changed,
    /// Audio or video files
    #[arg(value_name = "CLIP", required = true)]
    clips: Vec<PathBuf>,
}

/// What is asked.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Target {
    /// Folder of the index, which no other process may have open
    #[arg(long, value_name = "DIR")]
    index: Option<PathBuf>,
    /// Address of earmark-server, e.g. http://127.0.0.1:50051
    #[arg(long, value_name = "URL")]
    server: Option<String>,
}

/// [`SpeedSearch`] as a flag.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Changed {
    /// Never
    Off,
    /// Where no unchanged track is found beyond doubt
    Auto,
    /// Always
    Full,
}

/// How a query ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Matched,
    Unmatched,
    /// Too short or silent: nothing was searched.
    Refused,
}

/// What was measured.
#[derive(Debug, Default)]
struct Latencies {
    matched: Vec<Duration>,
    unmatched: Vec<Duration>,
    /// Clips, not queries.
    refused_count: usize,
}

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // If standard error is gone, there is nowhere left to complain to.
            let _ = writeln!(io::stderr().lock(), "query_latency: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> Result<()> {
    let latencies = match (&cli.target.index, &cli.target.server) {
        (Some(dir), _) => embedded(dir, cli)?,
        (None, Some(url)) => remote(url, cli)?,
        (None, None) => bail!("give --index DIR or --server URL"),
    };
    io::stdout().lock().write_all(table(latencies).as_bytes())?;
    Ok(())
}

fn positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() && number > 0.0 => Ok(number),
        _ => Err("give a number above 0".to_owned()),
    }
}

/// The fingerprints of all clips.
fn fingerprints(cli: &Cli, params: &Params) -> Result<Vec<Fingerprint>> {
    cli.clips.iter().map(|path| fingerprint(path, cli.seconds, params)).collect()
}

/// The fingerprint of the first `seconds` of a file. Cutting comes before the fingerprint, because
/// that is what a client with a short recording has.
fn fingerprint(path: &Path, seconds: f64, params: &Params) -> Result<Fingerprint> {
    let mut fingerprinter = Fingerprinter::new(params, Role::Query);
    let mut pushed = Ok(());
    decode(Input::Path(path), &DecodeOptions::default(), &mut |samples, rate_hz| {
        let left_s = seconds - fingerprinter.duration_s();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "`as` from float saturates, and a negative rest is none"
        )]
        let wanted = (left_s * f64::from(rate_hz)).round() as usize;
        let taken = &samples[..samples.len().min(wanted)];
        pushed = fingerprinter.push(taken, rate_hz);
        if pushed.is_ok() && samples.len() < wanted {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    })?;
    pushed.with_context(|| format!("{} cannot be resampled", path.display()))?;
    Ok(fingerprinter.finish())
}

fn embedded(dir: &Path, cli: &Cli) -> Result<Latencies> {
    let params = Params::default();
    // Before the clips, which may take minutes: it tells at once what is wrong with the folder.
    let index = RocksIndex::open(dir, &params)?;
    let clips = fingerprints(cli, &params)?;
    let options = MatchOptions { speed_search: cli.speed_search.into(), ..MatchOptions::default() };
    measure(&clips, cli.repeat, |clip| {
        let report = match_fingerprint(&index, clip, &options, &params, &|| false)?;
        Ok(match report.status {
            MatchStatus::Matched => Answer::Matched,
            MatchStatus::NoMatch => Answer::Unmatched,
            MatchStatus::TooShort | MatchStatus::Silent => Answer::Refused,
        })
    })
}

fn remote(url: &str, cli: &Cli) -> Result<Latencies> {
    let params = Params::default();
    let url = if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
    let endpoint = Endpoint::from_shared(url.clone())
        .with_context(|| format!("{url:?} is not an address; try http://127.0.0.1:50051"))?
        .tcp_nodelay(true);
    // One thread drives the connection and waits for the answer: no hand-over is timed.
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("the connection cannot be driven")?;
    let channel = runtime
        .block_on(endpoint.connect())
        .with_context(|| format!("no server answers at {url}; is earmark-server running?"))?;
    let mut client = MatchServiceClient::new(channel);
    let requests: Vec<_> = fingerprints(cli, &params)?
        .iter()
        .map(|clip| request(clip, cli.speed_search, &params))
        .collect();
    measure(&requests, cli.repeat, |request| {
        // The fingerprint inside is shared, not copied.
        let response = runtime.block_on(client.r#match(request.clone()))?.into_inner();
        Ok(match response.status() {
            v1::MatchStatus::Matched => Answer::Matched,
            v1::MatchStatus::NoMatch => Answer::Unmatched,
            v1::MatchStatus::TooShort | v1::MatchStatus::Silent => Answer::Refused,
            v1::MatchStatus::Unspecified => {
                bail!("the server at {url} is one of another release: its answer has no status")
            }
        })
    })
}

fn request(clip: &Fingerprint, changed: Changed, params: &Params) -> v1::MatchRequest {
    let source = v1::audio::Source::Fingerprint(clip.to_bytes(params).into());
    v1::MatchRequest {
        audio: Some(v1::Audio { source: Some(source) }),
        options: Some(v1::MatchOptions {
            speed_search: v1::SpeedSearch::from(changed).into(),
            ..v1::MatchOptions::default()
        }),
        ..v1::MatchRequest::default()
    }
}

/// Asks all queries once, untimed, and then `repeat` times those that were searched.
fn measure<Q>(
    queries: &[Q],
    repeat: u32,
    mut ask: impl FnMut(&Q) -> Result<Answer>,
) -> Result<Latencies> {
    let mut latencies = Latencies::default();
    let mut searched = Vec::with_capacity(queries.len());
    for query in queries {
        match ask(query)? {
            Answer::Refused => latencies.refused_count += 1,
            Answer::Matched | Answer::Unmatched => searched.push(query),
        }
    }
    for _ in 0..repeat {
        for query in &searched {
            let started = Instant::now();
            let answer = ask(query)?;
            let elapsed = started.elapsed();
            match answer {
                Answer::Matched => latencies.matched.push(elapsed),
                Answer::Unmatched => latencies.unmatched.push(elapsed),
                Answer::Refused => bail!("a clip that was searched before is refused now"),
            }
        }
    }
    Ok(latencies)
}

/// The table that is printed.
fn table(latencies: Latencies) -> String {
    let Latencies { matched, unmatched, refused_count } = latencies;
    let mut table = row("", "queries", ["p50 ms", "p90 ms", "p99 ms", "max ms"].map(str::to_owned));
    for (name, mut times) in [("matched", matched), ("unmatched", unmatched)] {
        times.sort_unstable();
        let cells = [50, 90, 99, 100].map(|percent| {
            percentile(&times, percent)
                .map_or_else(|| "-".to_owned(), |time| format!("{:.2}", time.as_secs_f64() * 1e3))
        });
        table += &row(name, &times.len().to_string(), cells);
    }
    if refused_count > 0 {
        table += &row("refused", &refused_count.to_string(), ["-"; 4].map(str::to_owned));
    }
    table
}

fn row(name: &str, count: &str, cells: [String; 4]) -> String {
    let [p50, p90, p99, max] = cells;
    format!("{name:<10} {count:>8} {p50:>9} {p90:>9} {p99:>9} {max:>9}\n")
}

impl From<Changed> for SpeedSearch {
    fn from(changed: Changed) -> Self {
        match changed {
            Changed::Off => Self::Off,
            Changed::Auto => Self::Auto,
            Changed::Full => Self::Full,
        }
    }
}

impl From<Changed> for v1::SpeedSearch {
    fn from(changed: Changed) -> Self {
        match changed {
            Changed::Off => Self::Off,
            Changed::Auto => Self::Auto,
            Changed::Full => Self::Full,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_follow_a_warm_up_that_is_not_timed() {
        let mut asked = Vec::new();
        let answers = [Answer::Matched, Answer::Refused, Answer::Unmatched];
        let latencies = measure(&[0, 1, 2], 2, |query| {
            asked.push(*query);
            Ok(answers[*query])
        })
        .unwrap();
        assert_eq!(asked, [0, 1, 2, 0, 2, 0, 2]);
        assert_eq!((latencies.matched.len(), latencies.unmatched.len()), (2, 2));
        assert_eq!(latencies.refused_count, 1);
    }

    #[test]
    fn clips_are_cut_before_they_are_fingerprinted() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/codecs/pcm_s16.wav");
        let duration_ms =
            |seconds| fingerprint(&path, seconds, &Params::default()).unwrap().duration_ms;
        assert_eq!([0.001, 1.5, 3.0, 60.0].map(duration_ms), [1, 1_500, 3_000, 6_000]);
    }
}
