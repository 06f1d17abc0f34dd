//! Keeps a follower up with the process that writes its index.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::Served;
use crate::task::Task;

/// Catching up takes at most one in this many parts of the time, however much there is to do.
const COST_SHARE: u32 = 5;

/// Looks for changes every `interval`, if the index is a follower.
pub(crate) fn keep_up(served: &Served, interval: Option<Duration>) -> Option<Task> {
    let (Served::Follower(index), Some(interval)) = (served, interval) else { return None };
    let index = Arc::clone(index);
    Some(Task::spawn(async move {
        let mut pause = interval;
        let mut is_well = true;
        loop {
            tokio::time::sleep(pause).await;
            let started = Instant::now();
            let index = Arc::clone(&index);
            let caught_up = tokio::task::spawn_blocking(move || index.catch_up()).await;
            pause = interval.max(started.elapsed() * COST_SHARE);
            match &caught_up {
                Ok(Ok(_)) if !is_well => tracing::info!("keeping up with the index again"),
                // Once, not every second.
                Ok(Err(error)) if is_well => {
                    let source = std::error::Error::source(error).map(ToString::to_string);
                    tracing::warn!(%error, source, "could not keep up with the index; trying again");
                }
                // A panic has been reported already.
                Ok(_) | Err(_) => {}
            }
            is_well = matches!(caught_up, Ok(Ok(_)));
        }
    }))
}
