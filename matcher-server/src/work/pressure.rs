//! How much a pool has to do, and which jobs may still join its queue.
//!
//! A queue that is never empty only makes everybody wait: it takes nothing off the work, and adds its length to each
//! answer. So a pool that sheds lets a job wait for long only if a worker was free a moment ago (a burst); once none
//! was for [`CALM_MAX`], a job waits no longer than jobs themselves take, and whoever would wait longer is refused
//! at once. Accepted requests are then answered within about twice
//! the time that they take alone, however many more come.
//!
//! Who has nothing else in the server may wait longer: jobs of others that take long hold the workers now and then, though
//! none for more than [`BRIEF_MAX`], and whoever asks for one clip shall not pay for that.
//!
//! # Source
//!
//! "Controlled delay" in B. Maurer, *Fail at Scale*, ACM Queue 13 (8), 2015; after K. Nichols and V. Jacobson,
//! *Controlling Queue Delay*, ACM Queue 10 (5), 2012. Ours is to derive the patience from the jobs' own times.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::long::BRIEF_MAX;
use crate::metrics::Refusal;

/// If no worker was free for so long the queue stands.
const CALM_MAX: Duration = Duration::from_millis(100);
/// How long a job of a burst may wait.
const BURST_PATIENCE: Duration = Duration::from_secs(1);
/// What any job may wait: a tick of the timer and the hand-over take as long.
const LEAST_PATIENCE: Duration = Duration::from_millis(4);
/// What others' jobs may take longer than they should until they make way: they look at each chunk of audio.
const CHUNK_MAX: Duration = Duration::from_millis(50);
/// A job counts as no longer than this: one file of hours says nothing of the next clip.
const TIME_MAX: Duration = Duration::from_secs(2);
/// Share of a job's time in the mean: the last 50 count most.
const MEMORY: f64 = 0.02;

/// What a pool has measured of its jobs.
#[derive(Debug)]
pub(super) struct Pressure(Mutex<State>);

/// The queue as a job finds it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Queue {
    /// Jobs that wait and come before it.
    pub(super) ahead: usize,
    pub(super) workers: usize,
    /// Whether a worker is free.
    pub(super) is_free: bool,
    /// Whether it is the only job of its client.
    pub(super) is_only: bool,
}

#[derive(Debug)]
struct State {
    /// When a job last found a worker without waiting.
    calm_at: Instant,
    /// Jobs that were measured.
    count: u32,
    /// Mean time of a job, and mean of its square, in seconds.
    mean_s: f64,
    square_s2: f64,
}

impl Pressure {
    pub(super) fn new() -> Self {
        let calm_at = Instant::now();
        Self(Mutex::new(State { calm_at, count: 0, mean_s: 0.0, square_s2: 0.0 }))
    }

    /// A job has found a worker without waiting.
    pub(super) fn calm(&self, now: Instant) {
        self.lock().calm_at = now;
    }

    /// A job took so long.
    pub(super) fn took(&self, time: Duration) {
        let (mut state, time_s) = (self.lock(), time.min(TIME_MAX).as_secs_f64());
        state.count = state.count.saturating_add(1);
        let share = (1.0 / f64::from(state.count)).max(MEMORY);
        state.mean_s += share * (time_s - state.mean_s);
        state.square_s2 += share * (time_s * time_s - state.square_s2);
    }

    /// How long a job may wait that finds this queue.
    ///
    /// If a worker is free only a deadline that has passed is in the way: what jobs took before may not hold for
    /// this one, and if none were let in, nobody would ever learn.
    ///
    /// # Errors
    ///
    /// If it would wait longer than that, or not be done by `deadline`: which of these.
    pub(super) fn patience(
        &self,
        queue: Queue,
        now: Instant,
        deadline: Option<Instant>,
    ) -> Result<Duration, Refusal> {
        let left = match deadline {
            None => Duration::MAX,
            Some(deadline) => deadline.checked_duration_since(now).ok_or(Refusal::Deadline)?,
        };
        if queue.is_free {
            return Ok(left.min(BURST_PATIENCE));
        }
        let state = self.lock();
        let mean = Duration::from_secs_f64(state.mean_s);
        let stands = now.saturating_duration_since(state.calm_at) > CALM_MAX;
        let least = if stands && state.count > 0 { LEAST_PATIENCE } else { BURST_PATIENCE };
        let (patience, left) =
            (state.usual().max(least), left.checked_sub(mean).ok_or(Refusal::Deadline)?);
        let patience = patience.max(queue.share_of_others());
        let expected = mean.mul_f64(queue.ahead as f64 / queue.workers.max(1) as f64);
        match (expected <= patience, expected <= left) {
            (true, true) => Ok(patience.min(left)),
            (true, false) => Err(Refusal::Deadline),
            (false, _) => Err(Refusal::QueueSlow),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    /// What the only job of a client must put up with, if only few are before it: that each worker and each of those
    /// takes as long as it may.
    fn share_of_others(self) -> Duration {
        let workers = self.workers.max(1);
        if !self.is_only || self.ahead > workers {
            return Duration::ZERO;
        }
        (BRIEF_MAX + CHUNK_MAX).mul_f64(1.0 + self.ahead as f64 / workers as f64)
    }
}

impl State {
    /// What most jobs stay below: the mean and twice the deviation. With the mean alone the queue runs empty now and then,
    /// which looks like calm, and is followed by a burst: answers came later, not sooner.
    fn usual(&self) -> Duration {
        let variance = (self.square_s2 - self.mean_s * self.mean_s).max(0.0);
        Duration::from_secs_f64(self.mean_s + 2.0 * variance.sqrt())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A queue of a client that has more in the server.
    fn queue(ahead: usize) -> Queue {
        Queue { ahead, workers: 2, is_free: false, is_only: false }
    }

    fn pressure() -> (Pressure, Instant) {
        let (pressure, now) = (Pressure::new(), Instant::now());
        for _ in 0..100 {
            pressure.took(Duration::from_millis(10));
        }
        pressure.calm(now);
        (pressure, now)
    }

    #[test]
    fn a_burst_may_wait_and_a_standing_queue_may_not() {
        let (pressure, now) = pressure();
        assert_eq!(pressure.patience(queue(50), now, None), Ok(BURST_PATIENCE));
        let slow = Err(Refusal::QueueSlow);
        assert_eq!(pressure.patience(queue(300), now, None), slow, "1.5 s of work");
        let later = now + CALM_MAX + Duration::from_millis(1);
        let patience = pressure.patience(queue(2), later, None).unwrap();
        assert!(patience >= Duration::from_millis(10) && patience < Duration::from_millis(12));
        assert_eq!(pressure.patience(queue(3), later, None), slow);
        pressure.calm(later);
        assert!(pressure.patience(queue(3), later, None).is_ok());
    }

    #[test]
    fn the_only_job_of_a_client_outlasts_long_ones_of_others_but_no_crowd() {
        let (pressure, now) = pressure();
        let later = now + CALM_MAX + Duration::from_millis(1);
        let only = |ahead| {
            let queue = Queue { is_only: true, ..queue(ahead) };
            pressure.patience(queue, later, None)
        };
        assert_eq!(
            [0, 1, 2].map(only),
            [2, 3, 4].map(|halves| Ok((BRIEF_MAX + CHUNK_MAX) * halves / 2))
        );
        assert_eq!(only(3), Err(Refusal::QueueSlow));
    }

    #[test]
    fn what_cannot_be_done_by_its_deadline_is_not_begun() {
        let (pressure, now) = pressure();
        let by = |ms| Some(now + Duration::from_millis(ms));
        assert!(pressure.patience(queue(0), now, by(15)).unwrap() <= Duration::from_millis(5));
        let late = Err(Refusal::Deadline);
        assert_eq!(pressure.patience(queue(0), now, by(9)), late);
        assert_eq!(
            pressure.patience(queue(4), now, by(25)),
            late,
            "20 ms of waiting, and 10 of work"
        );
        assert_eq!(
            pressure.patience(queue(0), now + Duration::from_secs(1), by(9)),
            late,
            "it has passed"
        );
    }

    #[test]
    fn a_free_worker_takes_whatever_comes() {
        let pressure = Pressure::new();
        pressure.took(Duration::from_secs(3_600));
        let later = Instant::now() + Duration::from_secs(60);
        let soon = later + Duration::from_millis(5);
        let free = Queue { is_free: true, ..queue(0) };
        assert!(pressure.patience(free, later, Some(soon)).is_ok());
        let late = Err(Refusal::Deadline);
        assert_eq!(pressure.patience(free, soon, Some(later)), late, "it has passed");
        // One long job has not made the others long.
        for _ in 0..200 {
            pressure.took(Duration::from_millis(10));
        }
        let patience = pressure.patience(queue(0), later, None).unwrap();
        assert!(patience < Duration::from_millis(500), "{patience:?}");
    }

    #[test]
    fn before_anything_was_measured_a_job_may_wait() {
        let later = Instant::now() + Duration::from_secs(60);
        assert_eq!(Pressure::new().patience(queue(3), later, None), Ok(BURST_PATIENCE));
    }

    #[test]
    fn patience_follows_what_jobs_take() {
        let (pressure, now) = pressure();
        let later = now + Duration::from_secs(1);
        for i in 0..500 {
            pressure.took(Duration::from_millis(if i % 2 == 0 { 50 } else { 150 }));
        }
        let patience = pressure.patience(queue(0), later, None).unwrap();
        assert!((0.15..0.25).contains(&patience.as_secs_f64()), "{patience:?}");
    }
}
