//! The server under test, in a process of its own.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

/// How long it may take until it listens: an empty index is there at once.
const START_TIME_MAX: Duration = Duration::from_secs(60);
/// How long it may take to stop: more than the server's own limit.
const STOP_TIME_MAX: Duration = Duration::from_secs(60);

/// A server over a new index. It is killed when it is dropped.
pub(crate) struct Daemon {
    child: Child,
    address: String,
    /// What it logs, as a whole once it has ended.
    log: JoinHandle<String>,
}

impl Daemon {
    /// Starts `program` over the index in `index`, on a port that is free.
    pub(crate) fn start(program: &Path, index: &Path) -> Result<Self> {
        let mut command = Command::new(program);
        // Settings of the user's own must not decide the soak: neither ours nor those of OpenTelemetry, which it reads.
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

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Tells it to stop, and waits until it has. Gives what it has logged.
    pub(crate) fn stop(mut self) -> Result<String> {
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
