//! The server under test, in a process of its own, and what that takes.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

/// Name of the server's program.
const SERVER: &str = "earmark-server";
/// How long it may take until it listens: an index is there at once, but for what a killed server has left.
const START_TIME_MAX: Duration = Duration::from_secs(60);
/// How long it may take to stop: more than the server's own limit.
const STOP_TIME_MAX: Duration = Duration::from_secs(60);

/// What a process takes at one time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// Resident memory, in KiB.
    pub resident_kib: u64,
    /// Files that are open, connections among them.
    pub file_count: u64,
    /// Threads.
    pub thread_count: u64,
}

/// What the process `pid` takes now.
///
/// # Errors
///
/// If there is no such process.
pub fn look(pid: u32) -> Result<Taken> {
    let path = format!("/proc/{pid}/status");
    let status =
        fs::read_to_string(&path).with_context(|| format!("{path}: has the server died?"))?;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|rest| rest.split_whitespace().next()?.parse().ok())
            .with_context(|| format!("{path}: no {name}"))
    };
    let files = format!("/proc/{pid}/fd");
    Ok(Taken {
        resident_kib: field("VmRSS:")?,
        thread_count: field("Threads:")?,
        file_count: fs::read_dir(&files).with_context(|| files.clone())?.count() as u64,
    })
}

/// The lines of a server's log that a server never writes which does well, whatever it is asked.
pub fn complaints(log: &str) -> impl Iterator<Item = &str> {
    log.lines().filter(|line| line.contains(" ERROR ") || line.contains("panicked"))
}

/// A server. It is killed when it is dropped.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    address: String,
    /// What it logs, as a whole once it has ended.
    log: JoinHandle<String>,
}

impl Daemon {
    /// The server's program, which lies beside the one that runs, unless another is `given`.
    ///
    /// # Errors
    ///
    /// If it is not known where that lies.
    pub fn program(given: Option<&Path>) -> Result<PathBuf> {
        match given {
            Some(program) => Ok(program.to_owned()),
            None => Ok(std::env::current_exe()
                .context("the place of this program is not known; give --server FILE")?
                .with_file_name(SERVER)),
        }
    }

    /// Starts `program` over the index in `index`, with its usual settings, on a port that is free.
    ///
    /// # Errors
    ///
    /// If it cannot be started, ends early, or does not listen within a minute.
    pub fn start(program: &Path, index: &Path) -> Result<Self> {
        let mut command = Command::new(program);
        // Settings of the user's own must not decide what is measured: neither ours nor those of OpenTelemetry, which it reads.
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("EARMARK_") || text.starts_with("OTEL_") {
                command.env_remove(name);
            }
        }
        let mut child = command
            .args(["--listen", "127.0.0.1:0", "--index"])
            .arg(index)
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| {
                format!("{} cannot be started; build the workspace", program.display())
            })?;
        let stderr = child.stderr.take().context("the server has no standard error")?;
        let (addresses, told) = channel();
        // Read to its end: nobody may block on a full pipe.
        let log = std::thread::spawn(move || {
            let mut log = String::new();
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if let Some((_, rest)) = line.split_once("listening on ") {
                    let address = rest.split_whitespace().next().unwrap_or_default();
                    // Nobody waits any more if it took too long.
                    let _ = addresses.send(address.to_owned());
                }
                log += &line;
                log.push('\n');
            }
            log
        });
        let mut daemon = Self { child, address: String::new(), log };
        match told.recv_timeout(START_TIME_MAX) {
            Ok(address) => daemon.address = address,
            Err(RecvTimeoutError::Timeout) => bail!("the server does not listen"),
            Err(RecvTimeoutError::Disconnected) => {
                bail!("the server ended early:\n{}", daemon.take_log()?)
            }
        }
        Ok(daemon)
    }

    /// Its address and port.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Its address with the scheme.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Tells it to stop, and waits until it has. Gives what it has logged.
    ///
    /// # Errors
    ///
    /// If it has died, does not stop within a minute, or ends with an error.
    pub fn stop(mut self) -> Result<String> {
        let pid = self.child.id().to_string();
        let told = Command::new("kill").args(["-TERM", &pid]).status();
        ensure!(told.context("kill cannot be started")?.success(), "the server has died");
        let began = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait()? {
                break status;
            }
            ensure!(began.elapsed() < STOP_TIME_MAX, "the server does not stop");
            std::thread::sleep(Duration::from_millis(20));
        };
        ensure!(status.success(), "the server did not end well: {status}");
        self.take_log()
    }

    /// Its log, once it has ended.
    fn take_log(&mut self) -> Result<String> {
        let log = std::mem::replace(&mut self.log, std::thread::spawn(String::new));
        log.join().map_err(|_| anyhow::anyhow!("the server's log could not be read"))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
