//! `earmark-server`: reads the settings, opens the index, binds, and calls the library.

use std::env;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::{CommandFactory, Parser};
use fingerprint_core::index::{Index, IndexError, RocksIndex};
use fingerprint_core::params::Params;
use matcher_server::config::{Config, Settings, unknown_variables};
use matcher_server::security::Security;
use matcher_server::{MetricsPage, Served, opening, run, telemetry};
use rustix::process::{Resource, getrlimit, setrlimit};
use tempfile::TempDir;
use tikv_jemallocator::Jemalloc;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// A search takes thousands of pieces of memory and gives them back; this allocator wastes little of it.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// How long threads that still run may hold up the end of the process.
const EXIT_TIME_MAX: Duration = Duration::from_secs(1);
/// Files that an index may have open, and what else the process needs.
const INDEX_FILES: u64 = 1_024;
/// Exit code after a second signal.
const EXIT_AT_ONCE: i32 = 130;

/// Match audio against an Earmark index over gRPC.
///
/// Every setting can be given as a flag, in the environment, or in the configuration file, in
/// that order of strength.
#[derive(Debug, Parser)]
#[command(name = "earmark-server", version)]
struct Cli {
    /// Configuration file (TOML); its names are those of the flags with _ for -.
    #[arg(long, env = "EARMARK_SERVER_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print all settings as a configuration file, and exit.
    #[arg(long)]
    print_config: bool,
    #[command(flatten)]
    settings: Settings,
}

fn main() -> ExitCode {
    match start() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Not through the log, which may not be there yet. If this fails too, nothing is left.
            let _ = writeln!(std::io::stderr(), "earmark-server: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start() -> anyhow::Result<()> {
    let cli = Cli::parse();
    let file = cli.config.as_deref().map(Settings::from_file).transpose()?.unwrap_or_default();
    let settings = cli.settings.or(file).or(Settings::of_opentelemetry(|name| env::var(name).ok()));
    if cli.print_config {
        let text = settings.or(Settings::defaults()).to_toml()?;
        std::io::stdout().write_all(text.as_bytes())?;
        return Ok(());
    }
    // What is missing may be misspelt.
    let unknown = unknown_variables(&Cli::command(), env::vars_os());
    let config = settings.resolve().map_err(|error| {
        let error = anyhow::Error::new(error);
        match unknown.first() {
            None => error,
            Some(name) => error.context(format!("{name} is no setting; is it misspelt?")),
        }
    })?;
    telemetry::start(config.log_format, &config.log_level)
        .with_context(|| format!("log-level {:?} is not understood", config.log_level))?;
    for name in unknown {
        tracing::warn!("{name} is no setting, and does nothing; is it misspelt? --help names them");
    }
    // For what a follower writes; deleted in the end.
    let scratch = config.follow.map(|_| tempfile::tempdir()).transpose();
    let scratch = scratch.context("no folder for temporary files could be made")?;
    let runtime = tokio::runtime::Runtime::new().context("could not start the async runtime")?;
    let ended = runtime.block_on(serve(config, scratch.as_ref()));
    // The index is closed when nothing works on it any more.
    runtime.shutdown_timeout(EXIT_TIME_MAX);
    tracing::info!("stopped");
    ended.map(drop)
}

fn open_index(path: &Path, params: &Params) -> anyhow::Result<RocksIndex> {
    let new = !path.exists();
    let index = RocksIndex::create_or_open(path, params).map_err(|error| match error {
        // RocksDB's own words do not always name the folder.
        IndexError::Storage { .. } | IndexError::Corrupt { .. } => {
            anyhow::Error::new(error).context(format!("index {}", path.display()))
        }
        error => error.into(),
    })?;
    let track_count = index.stats()?.track_count;
    let state = if new { "index created" } else { "index opened" };
    tracing::info!(path = %path.display(), track_count, "{state}");
    Ok(index)
}

fn follow_index(path: &Path, scratch: &Path, params: &Params) -> anyhow::Result<Served> {
    let index = RocksIndex::follow(path, scratch, params)
        .with_context(|| format!("index {}", path.display()))?;
    let track_count = index.stats()?.track_count;
    tracing::info!(path = %path.display(), track_count, "index followed, for reading only");
    Ok(Served::Follower(Arc::new(index)))
}

fn open(config: &Config, scratch: Option<&Path>) -> anyhow::Result<Served> {
    let params = Params::default();
    match scratch {
        None => Ok(Served::Writer(Arc::new(open_index(&config.index, &params)?))),
        Some(scratch) => follow_index(&config.index, scratch, &params),
    }
}

/// Raises the limit of open files as far as the process may: the usual one of 1,024 is for old programs.
fn allow_files(connections_max: usize) {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "the limit of open files could not be raised");
    }
    let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let wanted = connections_max as u64 + INDEX_FILES;
    if files < wanted {
        tracing::warn!(
            files,
            wanted,
            "the process may open fewer files than connections-max takes; raise `ulimit -n` (LimitNOFILE in a unit)"
        );
    }
}

/// Serves until it is told to stop. The index is given back, so that it outlives all that works on it.
async fn serve(config: Config, scratch: Option<&TempDir>) -> anyhow::Result<Option<Served>> {
    // Before the first wait: nothing else stops the first process of a container, and a SIGHUP would end it.
    let mut stop = Stop::listen()?;
    let _hangup = signal(SignalKind::hangup())?;
    let security = Security::load(&config)?;
    allow_files(config.connections_max);
    let listener = TcpListener::bind(&config.listen).await.with_context(|| {
        format!("could not listen on {}; choose another address with --listen", config.listen)
    })?;
    security.check_address(listener.local_addr()?, &config)?;
    // Before the index is open, which may take minutes: a server that is at it is not a dead one.
    let page = MetricsPage::open(&config, &security).await?;
    let (settings, scratch) = (config.clone(), scratch.map(|folder| folder.path().to_owned()));
    let opening = tokio::task::spawn_blocking(move || open(&settings, scratch.as_deref()));
    let opened = tokio::select! {
        opened = opening::answer_until(listener, &security.transport, opening) => opened,
        () = stop.asked() => {
            tracing::info!("stopped while the index was being opened");
            return Ok(None);
        }
    };
    let (listener, served) = opened?;
    let served = served.context("opening the index broke down")??;
    let shutdown = async move {
        stop.asked().await;
        // Whoever asks twice does not want to wait; what is acknowledged is on disk.
        tokio::spawn(async move {
            stop.asked().await;
            tracing::warn!("stopped at once by a second signal");
            std::process::exit(EXIT_AT_ONCE);
        });
    };
    run(listener, config, security, page, served.clone(), shutdown).await?;
    Ok(Some(served))
}

/// The signals that stop the server.
struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

impl Stop {
    fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Waits for the next one.
    async fn asked(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
