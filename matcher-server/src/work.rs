//! Work that takes a processor: off the async threads, and bounded.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use fingerprint_core::decode::{DecodeOptions, Input, decode};
use fingerprint_core::fingerprint::{Fingerprint, Fingerprinter};
use fingerprint_core::index::Index;
use fingerprint_core::params::Params;
use tokio::sync::Semaphore;
use tonic::Status;

use crate::{Limits, status};

/// Requests that may wait for each one that runs.
const QUEUE_PER_WORKER: usize = 8;

/// Audio of a request.
pub(crate) enum Audio {
    Encoded(bytes::Bytes),
    Fingerprint(bytes::Bytes),
}

/// The index and the right to work on it.
#[derive(Clone)]
pub(crate) struct Work {
    pub(crate) index: Arc<dyn Index>,
    pub(crate) params: Params,
    pub(crate) limits: Limits,
    running: Arc<Semaphore>,
    admitted: Arc<Semaphore>,
}

/// Set when the caller hung up or its deadline passed: dropping a request's future drops this.
struct CancelOnDrop(Arc<AtomicBool>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Work {
    pub(crate) fn new(index: Arc<dyn Index>, limits: Limits) -> Self {
        let admitted = limits.workers * (1 + QUEUE_PER_WORKER);
        Self {
            index,
            params: Params::default(),
            running: Arc::new(Semaphore::new(limits.workers)),
            admitted: Arc::new(Semaphore::new(admitted)),
            limits,
        }
    }

    /// Runs `job` on a blocking thread when its turn comes. The flag it gets turns true when
    /// nobody waits for the answer any more.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Self, &AtomicBool) -> Result<T, Status> + Send + 'static,
    ) -> Result<T, Status> {
        let busy = || Status::resource_exhausted("the server is busy; try again in a moment");
        let admitted = Arc::clone(&self.admitted).try_acquire_owned().map_err(|_| busy())?;
        let running = Arc::clone(&self.running).acquire_owned().await.map_err(|_| busy())?;
        let cancelled = Arc::new(AtomicBool::new(false));
        let _guard = CancelOnDrop(Arc::clone(&cancelled));
        let this = self.clone();
        let task = tokio::task::spawn_blocking(move || {
            let answer = job(&this, &cancelled);
            drop((admitted, running));
            answer
        });
        task.await.unwrap_or_else(|error| {
            tracing::error!(%error, "a request failed unexpectedly");
            Err(Status::internal("the request failed unexpectedly; the server's log says why"))
        })
    }

    /// Decodes and fingerprints, at most `duration_max_s` seconds.
    pub(crate) fn fingerprint(
        &self,
        audio: &Audio,
        duration_max_s: f64,
        cancelled: &AtomicBool,
    ) -> Result<Fingerprint, Status> {
        match audio {
            Audio::Fingerprint(bytes) => {
                let fingerprint = Fingerprint::from_bytes(bytes, &self.params)
                    .map_err(|e| status::fingerprint(&e))?;
                if fingerprint.duration_s() > duration_max_s {
                    return Err(status::too_long(duration_max_s));
                }
                Ok(fingerprint)
            }
            Audio::Encoded(bytes) => {
                let options = DecodeOptions { duration_max_s, ..DecodeOptions::default() };
                let mut fingerprinter = Fingerprinter::new(&self.params);
                decode(Input::Bytes(bytes), &options, &mut |samples, rate_hz| {
                    if cancelled.load(Ordering::Relaxed) {
                        return ControlFlow::Break(());
                    }
                    match fingerprinter.push(samples, rate_hz) {
                        Ok(()) => ControlFlow::Continue(()),
                        Err(_) => ControlFlow::Break(()),
                    }
                })
                .map_err(|e| status::decode(&e))?;
                if cancelled.load(Ordering::Relaxed) {
                    return Err(Status::cancelled("the caller is gone"));
                }
                Ok(fingerprinter.finish())
            }
        }
    }
}
