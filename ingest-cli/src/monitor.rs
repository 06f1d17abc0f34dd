//! `earmark monitor`: a file, standard input or a radio station is followed, and what is heard in it is
//! told as soon as it is known; at the end, the playlist.

mod playlist;
mod source;

use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use fingerprint_core::matching::live::LiveOptions;

use self::playlist::Playlist;
use self::source::{Ended, Source};
use crate::args::{MonitorArgs, TextFormat};
use crate::catalog::{self, Follower};
use crate::contract::live::LiveRow;
use crate::interrupt::{self, Stop};
use crate::report;

/// Waits before a radio station is called again that has hung up.
const RETRY_WAITS_S: [u64; 5] = [1, 2, 4, 8, 16];
/// A call that lasted so long was no failure: waits begin anew.
const RETRY_AFRESH: Duration = Duration::from_secs(60);

/// Runs the command and gives its exit code.
pub(crate) fn run(args: &MonitorArgs) -> Result<u8> {
    let source = Source::new(&args.source, args.pcm)?;
    if args.realtime && !source.is_file() {
        bail!("--realtime is for files; {} comes as fast as it comes", args.source.display());
    }
    let target = args.target.resolve()?;
    let catalog = catalog::open(&target, args.reading.access(), "monitor")?;
    let ms = |time: Duration| u32::try_from(time.as_millis()).unwrap_or(u32::MAX);
    let options = LiveOptions {
        false_events_max: args.max_false_events,
        confidence_min: args.min_confidence,
        speed_search: args.speed_search.into(),
        update_ms: ms(args.update_interval),
        gap_max_ms: ms(args.max_gap),
        ..LiveOptions::default()
    };
    let stop = Arc::new(Stop::default());
    interrupt::watch(&stop, || {})?;
    let monitor = Monitor {
        follower: catalog.follow(options)?,
        playlist: Playlist::default(),
        format: args.format,
        pace: args.realtime.then(Instant::now),
        taken_s: 0.0,
        stop,
        failed: None,
    };
    monitor.run(&source)
}

/// A stream that is being followed.
struct Monitor<'a> {
    follower: Box<dyn Follower + 'a>,
    playlist: Playlist,
    format: TextFormat,
    /// When a file began that is read as fast as it plays.
    pace: Option<Instant>,
    taken_s: f64,
    stop: Arc<Stop>,
    failed: Option<anyhow::Error>,
}

impl Monitor<'_> {
    fn run(mut self, source: &Source) -> Result<u8> {
        let heard = self.listen(source);
        // Whatever ended the stream: what was heard is told.
        let mut rows = Vec::new();
        let finished = self.follower.finish(&mut rows);
        let told = tell(rows, self.format, &mut self.playlist);
        let summary = self.playlist.summary(self.taken_s);
        // Of what could not be read at all there is nothing to sum up.
        if heard.is_ok() || self.taken_s > 0.0 {
            report::monitor::summary(&summary, self.format)?;
        }
        heard.and(told).and(finished)?;
        Ok(u8::from(summary.matches.is_empty()))
    }

    /// Takes the source to its end, calling again if it is a station that has hung up.
    fn listen(&mut self, source: &Source) -> Result<()> {
        let mut failures = 0;
        loop {
            let began = Instant::now();
            let ended = source.read(&mut |samples, rate_hz| self.take(samples, rate_hz));
            if let Some(error) = self.failed.take() {
                return Err(error);
            }
            let lost = match ended {
                _ if self.stop.is_requested() => return Ok(()),
                Ok(Ended::AtItsEnd) => return Ok(()),
                Ok(Ended::HungUp) => "the station has hung up".to_owned(),
                // Nothing at all was heard: it will not be better the next time.
                Err(error) if !source.is_station() || self.taken_s <= 0.0 => return Err(error),
                Err(error) => format!("{error:#}"),
            };
            if began.elapsed() > RETRY_AFRESH {
                failures = 0;
            }
            let Some(wait_s) = RETRY_WAITS_S.get(failures) else {
                bail!("{lost}, and did not answer {} more times", RETRY_WAITS_S.len());
            };
            failures += 1;
            report::note(&format!("{lost}; calling again in {wait_s} s"));
            let silence = Instant::now();
            while silence.elapsed() < Duration::from_secs(*wait_s) && !self.stop.is_requested() {
                thread::sleep(Duration::from_millis(50));
            }
            let lost_s = silence.elapsed().as_secs_f64();
            self.taken_s += lost_s;
            let mut rows = Vec::new();
            let lost_ms = u32::try_from(silence.elapsed().as_millis())?;
            let lost = self.follower.lose(lost_ms, &mut rows);
            tell(rows, self.format, &mut self.playlist).and(lost)?;
        }
    }

    fn take(&mut self, samples: &[f32], rate_hz: u32) -> ControlFlow<()> {
        if self.stop.is_requested() {
            return ControlFlow::Break(());
        }
        self.taken_s += samples.len() as f64 / f64::from(rate_hz.max(1));
        let mut rows = Vec::new();
        let taken = self.follower.take(samples, rate_hz, &mut rows);
        if let Err(error) = tell(rows, self.format, &mut self.playlist).and(taken) {
            self.failed = Some(error);
            return ControlFlow::Break(());
        }
        if let Some(began) = self.pace {
            let due = Duration::from_secs_f64(self.taken_s);
            thread::sleep(due.saturating_sub(began.elapsed()));
        }
        ControlFlow::Continue(())
    }
}

fn tell(rows: Vec<LiveRow>, format: TextFormat, playlist: &mut Playlist) -> Result<()> {
    for row in rows {
        report::monitor::event(&row, format)?;
        playlist.note(row);
    }
    Ok(())
}

/// An error of the operating system about something that is named.
fn of(name: &str, error: io::Error) -> anyhow::Error {
    anyhow::Error::new(error).context(name.to_owned())
}
