//! Ctrl-C and SIGTERM: the first asks the job to end well, the second ends it at once.
//!
//! Ending at once is safe too: the index takes whole batches or nothing, and the journal names
//! only what it has taken.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread;

use anyhow::{Context, Result};
use tokio::runtime;

/// Exit codes say by which signal: 128 and its number.
const SIGNAL_EXIT_BASE: u8 = 128;
const SIGINT: u8 = 2;
#[cfg(unix)]
const SIGTERM: u8 = 15;

/// Tells the threads of a job that it shall end.
#[derive(Debug, Default)]
pub(crate) struct Stop {
    /// Number of the first signal; 0 before.
    signal: AtomicU8,
    /// True once the job cannot go on for a reason of its own.
    failed: std::sync::atomic::AtomicBool,
}

impl Stop {
    /// True once no new work shall be started.
    pub(crate) fn is_requested(&self) -> bool {
        self.signal.load(Ordering::Relaxed) != 0 || self.failed.load(Ordering::Relaxed)
    }

    /// Ends the job because it cannot go on.
    pub(crate) fn fail(&self) {
        self.failed.store(true, Ordering::Relaxed);
    }

    /// The exit code after a signal, 130 for Ctrl-C; `None` without one.
    pub(crate) fn exit_code(&self) -> Option<u8> {
        match self.signal.load(Ordering::Relaxed) {
            0 => None,
            signal => Some(SIGNAL_EXIT_BASE + signal),
        }
    }
}

/// Waits for signals on a thread of its own; `on_first` is called there at the first one.
///
/// # Errors
///
/// If the signals cannot be waited for.
pub(crate) fn watch(stop: &Arc<Stop>, on_first: impl Fn() + Send + 'static) -> Result<()> {
    let stop = Arc::clone(stop);
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("the thread that waits for Ctrl-C cannot be started")?;
    let (ready, is_ready) = crossbeam_channel::bounded(1);
    thread::Builder::new()
        .name("earmark-signals".into())
        .spawn(move || {
            runtime.block_on(async {
                let mut signals = match Signals::register() {
                    Ok(signals) => signals,
                    Err(error) => return drop(ready.send(Err(error))),
                };
                if ready.send(Ok(())).is_err() {
                    return;
                }
                let first = signals.next().await;
                stop.signal.store(first, Ordering::Relaxed);
                on_first();
                let second = signals.next().await;
                std::process::exit(i32::from(SIGNAL_EXIT_BASE + second));
            });
        })
        .context("the thread that waits for Ctrl-C cannot be started")?;
    is_ready
        .recv()
        .context("the thread that waits for Ctrl-C has ended")?
        .context("Ctrl-C cannot be waited for")
}

#[cfg(unix)]
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn register() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// Number of the next signal.
    async fn next(&mut self) -> u8 {
        tokio::select! {
            _ = self.interrupt.recv() => SIGINT,
            _ = self.terminate.recv() => SIGTERM,
        }
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn register() -> io::Result<Self> {
        Ok(Self)
    }

    async fn next(&mut self) -> u8 {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
        SIGINT
    }
}
