//! Somebody who has nothing to do with it all, and asks for a clip now and then, over a connection of its own each time.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use earmark_benches::percentile;
use ureq::Agent;

/// Pause between two clips.
const PAUSE: Duration = Duration::from_millis(300);
/// Longest wait for an answer.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(30);
/// What a busy server answers.
const BUSY: [u16; 2] = [429, 503];

/// Somebody with a clip.
pub(crate) struct Guest {
    clip: Vec<u8>,
}

/// A guest at work.
pub(crate) struct Visit(Arc<Mutex<Answers>>);

/// What it got.
#[derive(Default)]
pub(crate) struct Answers {
    pub(crate) asked: usize,
    /// How long the right answers took.
    times: Vec<Duration>,
    /// How often it was told to come back later.
    refused: usize,
    /// What it got instead of answers, and how often.
    pub(crate) wrong: BTreeMap<String, usize>,
}

impl Guest {
    pub(crate) fn new(clip: &Path) -> Result<Self> {
        let clip = std::fs::read(clip).with_context(|| format!("clip {}", clip.display()))?;
        Ok(Self { clip })
    }

    /// Asks until the process ends.
    pub(crate) fn visit(self, url: String) -> Visit {
        let answers = Arc::new(Mutex::default());
        let visit = Visit(Arc::clone(&answers));
        std::thread::spawn(move || {
            loop {
                let began = Instant::now();
                let answer = self.ask(&url);
                let mut answers = answers.lock().unwrap_or_else(PoisonError::into_inner);
                answers.asked += 1;
                let wrong = match answer {
                    Ok((200, true)) => {
                        answers.times.push(began.elapsed());
                        None
                    }
                    Ok((status, _)) if BUSY.contains(&status) => {
                        answers.refused += 1;
                        None
                    }
                    Ok((200, false)) => Some("the clip was not recognised".to_owned()),
                    Ok((status, _)) => Some(format!("status {status}")),
                    Err(error) => Some(format!("{error:#}")),
                };
                if let Some(wrong) = wrong {
                    *answers.wrong.entry(wrong).or_default() += 1;
                }
                drop(answers);
                std::thread::sleep(PAUSE);
            }
        });
        visit
    }

    /// Status of the answer, and whether the clip was recognised.
    fn ask(&self, url: &str) -> Result<(u16, bool)> {
        let agent: Agent = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(ANSWER_TIME_MAX))
            .build()
            .into();
        let answer = agent.post(format!("{url}/v1/match")).send(&self.clip[..])?;
        let status = answer.status().as_u16();
        let body: serde_json::Value =
            serde_json::from_str(&answer.into_body().read_to_string()?).unwrap_or_default();
        Ok((status, body["status"] == "matched"))
    }
}

impl Visit {
    /// What it got since it was last asked.
    pub(crate) fn answers(&self) -> Answers {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Answers {
    pub(crate) fn answered(&self) -> usize {
        self.times.len()
    }
}

impl fmt::Display for Answers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut times = self.times.clone();
        times.sort_unstable();
        let ms =
            |percent| percentile(&times, percent).map_or(f64::NAN, |time| time.as_secs_f64() * 1e3);
        write!(
            f,
            "{} of {} clips answered, p50 {:.0}, p90 {:.0}, at most {:.0} ms; {} refused",
            self.answered(),
            self.asked,
            ms(50),
            ms(90),
            ms(100),
            self.refused
        )
    }
}
