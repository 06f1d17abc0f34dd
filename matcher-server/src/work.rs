//! Bounded work: everything that takes processor time or waits for the disk runs here, never on
//! the threads that serve connections.
//!
//! A [`Pool`] runs at most `workers` jobs and lets at most `queue_len` more wait; whoever comes
//! then is refused at once, because a queue without end would only turn overload into memory and
//! timeouts. Of clips no client has more than half of the queue, and workers go around among the clients ([`turns`]). Queries are also refused that would wait longer than queries take ([`pressure`]), and those that take long
//! make way for the others ([`long`]). There are five pools, so that one kind of work cannot keep another waiting: long
//! uploads do not delay queries or streams, none delays looking a track up, and a backup delays nothing.
//! Uploads and backups also get only the processor time that the others leave.
//!
//! A job learns through [`Cancel`] that nobody waits for its answer any more: the request's
//! future was dropped (the client hung up, or its deadline passed), or the server gives up. Jobs
//! ask at each chunk of audio.

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

use self::long::{Lane, Pace};
use self::pressure::{Pressure, Queue};
pub(crate) use self::turns::Turns;
use self::turns::{Jobs, Place};
use crate::client::Client;
use crate::config::Config;
use crate::metrics::{Metrics, Refusal, Stage};
use crate::places::Places;
use crate::reason::Reason;
use crate::status;
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
    workers: u32,
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

/// Whether a job is to go on.
#[derive(Debug, Clone)]
pub(crate) struct Cancel {
    abandoned: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
    /// Of jobs that make way when they take long.
    pace: Option<Arc<Pace<Place<Client>>>>,
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
    fn is_cancelled(&self) -> bool {
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
struct AbandonOnDrop(Arc<AtomicBool>);

impl Drop for AbandonOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
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
        // Config::check keeps both far below this.
        let workers = u32::try_from(workers.max(1)).unwrap_or(u32::MAX);
        Self {
            name,
            workers,
            urgency,
            queue: Places::new(queue_len, queue_len),
            running: Turns::new(workers as usize),
            stop,
            metrics,
            pressure: None,
            lane: None,
        }
    }

    /// The same pool, that sheds what would make everybody wait, and whose long jobs make way. One client may have
    /// `queue_len` jobs wait, all together twice as many.
    fn of_clips(self, queue_len: usize) -> Self {
        let lane = Some(Lane::new(self.workers as usize));
        let queue = Places::shared(2 * queue_len);
        Self { pressure: Some(Arc::new(Pressure::new())), lane, queue, ..self }
    }

    /// Why a job of the client that came now would be refused, if it would; so that nobody need send one.
    pub(crate) fn refusal(&self, client: &Client) -> Option<Refusal> {
        let is_busy = self.running.jobs().running >= self.workers as usize;
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
                    workers: self.workers as usize,
                    is_free: self.running.jobs().running < self.workers as usize,
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
mod tests {
    use std::sync::mpsc;

    use super::*;

    fn pool(workers: usize, queue_len: usize) -> Pool {
        Pool::new("test", workers, queue_len, Urgency::Now, Arc::default(), Metrics::new())
    }

    #[tokio::test]
    async fn the_first_job_beyond_the_queue_is_refused_and_the_next_ones_run_again() {
        let pool = pool(1, 1);
        let (release, wait) = mpsc::channel::<()>();
        let running = tokio::spawn(pool.run(move |_| {
            wait.recv().ok();
            Ok(1)
        }));
        while pool.running.jobs().running == 0 {
            tokio::task::yield_now().await;
        }
        let queued = tokio::spawn(pool.run(|_| Ok(2)));
        while pool.running.jobs().waiting == 0 {
            tokio::task::yield_now().await;
        }
        let refused = pool.run(|_| Ok(3)).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::ResourceExhausted);
        release.send(()).unwrap();
        assert_eq!(running.await.unwrap().unwrap(), 1);
        assert_eq!(queued.await.unwrap().unwrap(), 2);
        assert_eq!(pool.run(|_| Ok(4)).await.unwrap(), 4);
    }

    #[tokio::test]
    async fn a_job_learns_that_its_caller_is_gone_and_keeps_its_worker_until_it_ends() {
        let pool = pool(1, 1);
        let (started, is_started) = tokio::sync::oneshot::channel();
        let (ended, is_ended) = tokio::sync::oneshot::channel();
        let request = tokio::spawn(pool.run(move |cancel| {
            started.send(()).unwrap();
            while !cancel.is_cancelled() {
                std::thread::sleep(Duration::from_millis(1));
            }
            ended.send(()).unwrap();
            Ok(())
        }));
        is_started.await.unwrap();
        assert_eq!(pool.running.jobs().running, 1);
        request.abort();
        is_ended.await.unwrap();
        pool.idle().await;
        assert_eq!(pool.running.jobs().running, 0);
    }

    /// Files of hours, or of days of silence, must not hold the workers that clips of seconds need.
    #[tokio::test]
    async fn a_long_job_makes_way_and_more_than_there_is_room_for_are_refused() {
        let pool =
            Pool::new("test", 1, 4, Urgency::Now, Arc::default(), Metrics::new()).of_clips(4);
        let of = |client: &str| {
            let client = Client::Key(client.to_owned());
            Terms { client, deadline: None, manner: Manner::Prompt }
        };
        let ended = Arc::new(AtomicBool::new(false));
        let long = || {
            let ended = Arc::clone(&ended);
            tokio::spawn(pool.run_for(of("a"), move |cancel| {
                while !ended.load(Ordering::Relaxed) {
                    cancel.check()?;
                    thread::sleep(Duration::from_millis(1));
                }
                Ok(1)
            }))
        };
        let begun = async || {
            while pool.load().running == 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let mut jobs = Vec::new();
        for long_jobs in [(1, 0), (1, 1), (1, 1)] {
            jobs.push(long());
            begun().await;
            // Of somebody who asks for nothing else.
            assert_eq!(pool.run_for(of("b"), |_| Ok(2)).await.unwrap(), 2);
            let Jobs { running, waiting } = pool.long_jobs();
            assert_eq!((running, waiting), long_jobs);
        }
        let refused = jobs.pop().unwrap().await.unwrap().unwrap_err();
        assert_eq!(refused.code(), tonic::Code::ResourceExhausted, "{refused:?}");
        assert!(pool.check_size(LONG_BYTES, &of("a")).is_ok());
        assert!(pool.check_size(LONG_BYTES + 1, &of("a")).is_err());
        assert!(pool.check_size(LONG_BYTES + 1, &of("b")).is_ok());
        let patient = Terms { manner: Manner::Patient, ..of("a") };
        assert!(pool.check_size(LONG_BYTES + 1, &patient).is_ok());
        ended.store(true, Ordering::Relaxed);
        for job in jobs {
            assert_eq!(job.await.unwrap().unwrap(), 1);
        }
        pool.idle().await;
        assert_eq!(pool.long_load().running, 0);
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn what_can_wait_runs_behind_the_rest() {
        let nice = |_: &Cancel| {
            let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
            // The 19th field; the second is the name in parentheses.
            let fields = stat.rsplit_once(')').unwrap().1;
            Ok(fields.split_whitespace().nth(16).unwrap().parse::<i32>().unwrap())
        };
        let pool = |urgency| Pool::new("test", 1, 0, urgency, Arc::default(), Metrics::new());
        let now = pool(Urgency::Now).run(nice).await.unwrap();
        let can_wait = pool(Urgency::CanWait).run(nice).await.unwrap();
        assert!(can_wait > now || now >= 10, "{can_wait}, {now}");
    }

    #[tokio::test]
    async fn a_panic_is_an_internal_error_and_frees_the_worker() {
        let pool = pool(1, 0);
        let status = pool.run::<(), _>(|_| panic!("a decoder's bug")).await.unwrap_err();
        assert_eq!(status.code(), tonic::Code::Internal);
        assert!(!status.message().contains("decoder"));
        assert_eq!(pool.run(|_| Ok(7)).await.unwrap(), 7);
    }
}
