//! Bounded work: everything that takes processor time or waits for the disk runs here, never on
//! the threads that serve connections.
//!
//! A [`Pool`] runs at most `workers` jobs and lets at most `queue_len` more wait; whoever comes
//! then is refused at once, because a queue without end would only turn overload into memory and
//! timeouts. There are five pools, so that one kind of work cannot keep another waiting: long
//! uploads do not delay queries or streams, none delays looking a track up, and a backup delays nothing.
//! Uploads and backups also get only the processor time that the others leave.
//!
//! Queries are of many clients at once. No client has more than half of their queue, and workers go around among the
//! clients ([`turns`]); who would wait longer than queries take is refused ([`pressure`]), and those that take long make way
//! for the others ([`long`]).
//!
//! A job learns through [`Cancel`] that nobody waits for its answer any more: the request's
//! future was dropped (the client hung up, or its deadline passed), or the server gives up. Jobs
//! ask at each chunk of audio.

mod cancel;
mod long;
mod pressure;
mod turns;

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use fingerprint_core::background;
use opentelemetry::Context;
use tokio::sync::oneshot;
use tonic::Status;

use self::cancel::AbandonOnDrop;
pub(crate) use self::cancel::Cancel;
use self::long::{Lane, Pace};
use self::pressure::{Pressure, Queue};
use self::turns::Jobs;
pub(crate) use self::turns::Turns;
use crate::client::Client;
use crate::config::Config;
use crate::metrics::{Metrics, Refusal, Stage};
use crate::places::Places;
use crate::reason::Reason;
use crate::traces;

/// Jobs of streams that run at a time, for each worker: they last a millisecond, and handing the next one
/// over takes a tenth of that, in which the processor shall not be idle.
const STREAM_JOBS_PER_WORKER: usize = 2;

/// How often it is looked whether all jobs have ended, when the server stops.
const IDLE_LOOK_PERIOD: Duration = Duration::from_millis(5);
/// Longer than any request lasts.
const PATIENCE_MAX: Duration = Duration::from_secs(30 * 24 * 3_600);

/// A clip that is larger takes long, most likely: it is two minutes of MP3. Of uncompressed audio it is twelve seconds,
/// which would not, but is as much as each request has memory for.
const LONG_BYTES: usize = 2 << 20;

/// The pools of one server.
#[derive(Debug, Clone)]
pub(crate) struct Work {
    /// Decoding and matching queries.
    pub(crate) queries: Pool,
    /// Decoding and storing uploads.
    pub(crate) uploads: Pool,
    /// Short reads and writes of the index.
    pub(crate) lookups: Pool,
    /// Searching what came of streams, each of which has one job at a time.
    pub(crate) streams: Pool,
    /// Making backups, one at a time.
    pub(crate) backups: Pool,
    /// Where jobs count what they take.
    pub(crate) metrics: Metrics,
}

impl Work {
    pub(crate) fn new(config: &Config, metrics: &Metrics) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let pool = |name, workers, urgency| {
            Pool::new(name, workers, config.queue_len, urgency, Arc::clone(&stop), metrics.clone())
        };
        Self {
            queries: pool("queries", config.workers, Urgency::Now).of_clips(config.queue_len),
            uploads: pool("uploads", config.upload_workers, Urgency::CanWait),
            lookups: pool("lookups", config.workers.max(4), Urgency::Now),
            streams: Pool::new(
                "streams",
                config.workers * STREAM_JOBS_PER_WORKER,
                config.streams_max,
                Urgency::Now,
                Arc::clone(&stop),
                metrics.clone(),
            ),
            backups: pool("backups", 1, Urgency::CanWait),
            metrics: metrics.clone(),
        }
    }

    /// What runs and waits in each pool.
    pub(crate) fn loads(&self) -> [Load; 6] {
        let pools = [&self.queries, &self.uploads, &self.lookups, &self.streams, &self.backups];
        let [queries, uploads, lookups, streams, backups] = pools.map(Pool::load);
        [queries, self.queries.long_load(), uploads, lookups, streams, backups]
    }

    /// Tells all running jobs to end, and waits at most `limit` for them. True if all have ended.
    pub(crate) async fn stop(&self, limit: Duration) -> bool {
        self.queries.stop.store(true, Ordering::Relaxed);
        let all_idle = async {
            self.queries.idle().await;
            self.uploads.idle().await;
            self.lookups.idle().await;
            self.streams.idle().await;
            self.backups.idle().await;
        };
        tokio::time::timeout(limit, all_idle).await.is_ok()
    }
}

/// Whether a job may be made to wait.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Manner {
    /// Somebody waits for it.
    Prompt,
    /// It has time.
    #[default]
    Patient,
}

/// For whom a job is done, and by when.
#[derive(Debug, Clone, Default)]
pub(crate) struct Terms {
    /// Whose turn is meant.
    pub(crate) client: Client,
    /// Until when its answer is of use.
    pub(crate) deadline: Option<Instant>,
    pub(crate) manner: Manner,
}

/// What a pool has to do.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    pub(crate) pool: &'static str,
    pub(crate) running: usize,
    pub(crate) waiting: usize,
}

/// One kind of work.
#[derive(Debug, Clone)]
pub(crate) struct Pool {
    name: &'static str,
    workers: usize,
    urgency: Urgency,
    /// Places for jobs that wait.
    queue: Arc<Places<Client>>,
    /// Workers, and who waits for one.
    running: Arc<Turns<Client>>,
    /// Set when the server gives up on what still runs.
    stop: Arc<AtomicBool>,
    metrics: Metrics,
    /// Where it is known, jobs are refused that would wait for too long.
    pressure: Option<Arc<Pressure>>,
    /// Where jobs go that take long, if they make way.
    lane: Option<Arc<Lane>>,
}

/// Which work goes first where processors are short.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Urgency {
    Now,
    CanWait,
}

impl Urgency {
    /// Runs `job` on a thread for blocking work; `None` if the runtime or the system has none.
    async fn spawn<T: Send + 'static>(self, job: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        match self {
            Self::Now => tokio::task::spawn_blocking(job).await.ok(),
            Self::CanWait => {
                let (sender, result) = oneshot::channel();
                let job = move || {
                    background::step_back();
                    // Nobody may be waiting any more.
                    let _ = sender.send(job());
                };
                // Of its own, because a thread that has stepped back is of no use to others.
                thread::Builder::new().name("earmark-can-wait".to_owned()).spawn(job).ok()?;
                result.await.ok()
            }
        }
    }
}

impl Pool {
    fn new(
        name: &'static str,
        workers: usize,
        queue_len: usize,
        urgency: Urgency,
        stop: Arc<AtomicBool>,
        metrics: Metrics,
    ) -> Self {
        let workers = workers.max(1);
        Self {
            name,
            workers,
            urgency,
            queue: Places::new(queue_len, queue_len),
            running: Turns::new(workers),
            stop,
            metrics,
            pressure: None,
            lane: None,
        }
    }

    /// The same pool, that sheds what would make everybody wait, and whose long jobs make way. One client may have
    /// `queue_len` jobs wait, all together twice as many.
    fn of_clips(self, queue_len: usize) -> Self {
        let lane = Some(Lane::new(self.workers));
        let queue = Places::shared(2 * queue_len);
        Self { pressure: Some(Arc::new(Pressure::new())), lane, queue, ..self }
    }

    /// Why a job of the client that came now would be refused, if it would; so that nobody need send one.
    pub(crate) fn refusal(&self, client: &Client) -> Option<Refusal> {
        let is_busy = self.running.jobs().running >= self.workers;
        if is_busy && !self.queue.has_one_for(client) {
            return Some(Refusal::QueueFull);
        }
        let client = client.clone();
        self.patience(&Terms { client, deadline: None, manner: Manner::Prompt }).err()
    }

    /// Refuses a clip of so many bytes if it would most likely take long, and there is no place for that.
    ///
    /// # Errors
    ///
    /// `RESOURCE_EXHAUSTED`.
    pub(crate) fn check_size(&self, bytes: usize, terms: &Terms) -> Result<(), Status> {
        let is_prompt = terms.manner == Manner::Prompt;
        let is_full = || self.lane.as_ref().is_some_and(|lane| lane.is_full_for(&terms.client));
        if bytes > LONG_BYTES && is_prompt && is_full() {
            return Err(self.refuse(Refusal::LongFull));
        }
        Ok(())
    }

    /// How long a job may wait that comes now, or why it is refused.
    fn patience(&self, terms: &Terms) -> Result<Duration, Refusal> {
        let now = Instant::now();
        match (&self.pressure, terms.manner) {
            (Some(pressure), Manner::Prompt) => {
                let client = &terms.client;
                let is_long = self.lane.as_ref().is_some_and(|lane| lane.is_known(client));
                let queue = Queue {
                    ahead: self.running.ahead(client),
                    workers: self.workers,
                    is_free: self.running.jobs().running < self.workers,
                    is_only: !is_long && !self.running.is_known(client),
                };
                pressure.patience(queue, now, terms.deadline)
            }
            _ => {
                let left = terms.deadline.map(|at| at.checked_duration_since(now));
                left.unwrap_or(Some(PATIENCE_MAX)).ok_or(Refusal::Deadline)
            }
        }
    }

    fn load(&self) -> Load {
        let Jobs { running, waiting } = self.running.jobs();
        Load { pool: self.name, running, waiting }
    }

    fn long_jobs(&self) -> Jobs {
        self.lane.as_ref().map_or(Jobs { running: 0, waiting: 0 }, |lane| lane.jobs())
    }

    /// What runs and waits in the long places.
    fn long_load(&self) -> Load {
        let Jobs { running, waiting } = self.long_jobs();
        Load { pool: "long_queries", running, waiting }
    }

    /// Runs `job` on a thread for blocking work, as soon as a worker is free.
    ///
    /// Its worker is held until the job itself has ended or made way, also when the caller is gone by then:
    /// otherwise clients that hang up could start more work than there are workers.
    ///
    /// # Errors
    ///
    /// `RESOURCE_EXHAUSTED` at once if the queue is full, `INTERNAL` if the job panicked, or what
    /// the job returns.
    pub(crate) fn run<T, F>(
        &self,
        job: F,
    ) -> impl Future<Output = Result<T, Status>> + Send + 'static
    where
        T: Send + 'static,
        F: FnOnce(&Cancel) -> Result<T, Status> + Send + 'static,
    {
        self.run_for(Terms::default(), job)
    }

    /// The same for a job on terms of its own.
    ///
    /// # Errors
    ///
    /// As of [`Pool::run`]; a pool that sheds also refuses prompt jobs that would wait for too long, or be done too
    /// late.
    pub(crate) fn run_for<T, F>(
        &self,
        terms: Terms,
        job: F,
    ) -> impl Future<Output = Result<T, Status>> + Send + 'static
    where
        T: Send + 'static,
        F: FnOnce(&Cancel) -> Result<T, Status> + Send + 'static,
    {
        let pool = self.clone();
        async move {
            let context = traces::current();
            if terms.deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                let text = "the deadline has passed; send less audio or allow more time";
                return Err(Reason::DeadlinePassed.status(text));
            }
            let patience = pool.patience(&terms).map_err(|refusal| pool.refuse(refusal))?;
            let queued = Instant::now();
            let abandon = AbandonOnDrop(Arc::default());
            let (abandoned, stop) = (Arc::clone(&abandon.0), Arc::clone(&pool.stop));
            let running = if let Some(running) = pool.running.try_take(&terms.client) {
                if let Some(pressure) = &pool.pressure {
                    pressure.calm(queued);
                }
                running
            } else {
                let waits = pool.queue.take(terms.client.clone());
                let _waits = waits.map_err(|_| pool.refuse(Refusal::QueueFull))?;
                let turn = pool.running.wait(terms.client.clone());
                let running = tokio::time::timeout(patience, turn).await;
                running.map_err(|_| pool.refuse(Refusal::QueueSlow))?
            };
            let task = pool.urgency.spawn(move || {
                let (pace, _running) = match &pool.lane {
                    None => (None, Some(running)),
                    Some(lane) => {
                        let (lane, workers) = (Arc::clone(lane), Arc::clone(&pool.running));
                        (Some(Arc::new(Pace::new(lane, workers, terms, running))), None)
                    }
                };
                let cancel = Cancel { abandoned, stop, pace };
                let _part_of = context.map(Context::attach);
                if pool.pressure.is_some() {
                    pool.metrics.spent(queued, &[(Stage::Queue, queued.elapsed())]);
                }
                cancel.check()?;
                let begun = Instant::now();
                let done = std::panic::catch_unwind(AssertUnwindSafe(|| job(&cancel)));
                if let Some(pressure) = &pool.pressure {
                    let worked = cancel.pace.as_ref().map(|pace| pace.worked());
                    pressure.took(worked.unwrap_or_else(|| begun.elapsed()));
                }
                if !cancel.waited().is_zero() {
                    pool.metrics.spent(begun, &[(Stage::Queue, cancel.waited())]);
                }
                // Whatever the job makes of it that it had to end.
                if cancel.pace.as_ref().is_some_and(|pace| pace.is_refused())
                    && !cancel.is_cancelled()
                {
                    return Err(pool.refuse(Refusal::LongFull));
                }
                done.unwrap_or_else(|_| {
                    // The hook has logged message and place.
                    Err(Reason::Internal
                        .status("the server failed on this request; it has been logged"))
                })
            });
            let result = task.await;
            drop(abandon);
            result.unwrap_or_else(|| {
                Err(Reason::Unavailable
                    .status("server is shutting down, or has no thread left; try again"))
            })
        }
    }

    fn refuse(&self, refusal: Refusal) -> Status {
        tracing::debug!(pool = self.name, cause = refusal.name(), "refused");
        self.metrics.refused(refusal);
        Reason::ServerBusy.status(match refusal {
            Refusal::LongFull => {
                "server is busy with long clips; send fewer of them at a time, or in a BatchMatch, or shorter ones, or try again in a moment"
            }
            _ => "server is busy; try again in a moment",
        })
    }

    /// What tells work outside of the pool that the server gives up.
    pub(crate) fn cancel(&self) -> Cancel {
        Cancel { abandoned: Arc::default(), stop: Arc::clone(&self.stop), pace: None }
    }

    /// Waits until nothing runs.
    async fn idle(&self) {
        let is_busy = |jobs: Jobs| jobs.running + jobs.waiting > 0;
        while is_busy(self.running.jobs()) || is_busy(self.long_jobs()) {
            tokio::time::sleep(IDLE_LOOK_PERIOD).await;
        }
    }
}

#[cfg(test)]
mod tests;
