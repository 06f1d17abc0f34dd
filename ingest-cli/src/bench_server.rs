//! `earmark bench-server`: loads a server with clips at given rates, or with many streams, and says how it does.
//!
//! The load is open: everything is sent when it is due, whatever the server has answered, and times count from
//! then. A server that stalls cannot slow its load down and so look better (coordinated omission: G. Tene,
//! *How NOT to Measure Latency*, 2013). Times are kept in HDR histograms, and none is left out.

mod clips;
mod streams;

use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use fingerprint_core::decode::{DecodeOptions, Input, decode};

use crate::args::BenchServerArgs;
use crate::report;

/// Longest time to connect.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(10);
/// Seconds of each file that are used.
const FILE_S_MAX: f64 = 300.0;

/// Runs the command and gives its exit code.
pub(crate) fn run(args: &BenchServerArgs) -> Result<u8> {
    let runtime = tokio::runtime::Runtime::new().context("the threads cannot be started")?;
    let failed_count = if let Some(count) = args.streams {
        let read = |path| streams::read(path, args.own_rate);
        let audio = args.files.iter().map(|path| read(path)).collect::<Result<Vec<_>>>()?;
        let figures = runtime.block_on(streams::run(args, count.into(), audio))?;
        report::bench_server::streams(&figures, args.format)?;
        figures.failed_count
    } else {
        let clips = clips::read(args)?;
        let figures = runtime.block_on(clips::run(args, &clips))?;
        report::bench_server::clips(&figures, args.format)?;
        figures.iter().map(|figures| figures.failed_count).sum()
    };
    Ok(if failed_count > 0 { 2 } else { 0 })
}

/// The first minutes of a file, and their sample rate.
fn samples_of(path: &Path) -> Result<(Vec<f32>, u32)> {
    let (mut samples, mut rate) = (Vec::new(), 1);
    decode(Input::Path(path), &DecodeOptions::default(), &mut |more, rate_hz| {
        rate = rate_hz;
        samples.extend_from_slice(more);
        if samples.len() as f64 / f64::from(rate_hz) < FILE_S_MAX {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    })?;
    Ok((samples, rate))
}
