//! How a job learns that it is to end, or to make way.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tonic::Status;

use super::long::Pace;
use super::turns::Place;
use crate::client::Client;
use crate::status;

/// Whether a job is to go on.
#[derive(Debug, Clone)]
pub(crate) struct Cancel {
    pub(super) abandoned: Arc<AtomicBool>,
    pub(super) stop: Arc<AtomicBool>,
    /// Of jobs that make way when they take long.
    pub(super) pace: Option<Arc<Pace<Place<Client>>>>,
}

impl Cancel {
    /// True if the job shall end: its answer is not wanted any more, or there is no place for a job as long. In between
    /// it makes way for others, if it has to, and may wait for that.
    pub(crate) fn is_over(&self) -> bool {
        let Some(pace) = &self.pace else { return self.is_cancelled() };
        pace.make_way(|| self.is_cancelled());
        self.is_cancelled() || pace.is_refused()
    }

    /// How long the job has waited since it made way.
    pub(crate) fn waited(&self) -> Duration {
        self.pace.as_ref().map_or(Duration::ZERO, |pace| pace.waited())
    }

    /// True if the answer is not wanted any more.
    pub(super) fn is_cancelled(&self) -> bool {
        self.abandoned.load(Ordering::Relaxed) || self.stop.load(Ordering::Relaxed)
    }

    /// One that was cancelled before the job began, or never is.
    #[cfg(test)]
    pub(crate) fn preset(cancelled: bool) -> Self {
        let abandoned = Arc::new(AtomicBool::new(cancelled));
        Self { abandoned, stop: Arc::default(), pace: None }
    }

    /// An error if the job shall end.
    pub(crate) fn check(&self) -> Result<(), Status> {
        if self.is_over() { Err(status::cancelled()) } else { Ok(()) }
    }
}

/// Cancels a job when the request that waits for it is dropped.
pub(super) struct AbandonOnDrop(pub(super) Arc<AtomicBool>);

impl Drop for AbandonOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
