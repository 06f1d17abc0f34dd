//! The server under test, in a process of its own.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

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
        // Settings of the user's own must not decide the soak.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("EARMARK_") {
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
        let mut lines = BufReader::new(stderr).lines();
        let mut log = String::new();
        let address = loop {
            let Some(Ok(line)) = lines.next() else {
                bail!("the server ended early:\n{log}");
            };
            writeln!(log, "{line}")?;
            if let Some((_, rest)) = line.split_once("listening on ") {
                break rest.split_whitespace().next().unwrap_or_default().to_owned();
            }
        };
        // Nobody may block on a full pipe.
        let log = std::thread::spawn(move || {
            lines.map_while(Result::ok).fold(log, |log, line| log + &line + "\n")
        });
        Ok(Self { child, address, log })
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
