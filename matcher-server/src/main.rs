//! `earmark-server`: answers match requests over gRPC.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use clap::Parser;
use fingerprint_core::index::RocksIndex;
use fingerprint_core::params::Params;
use matcher_server::{Limits, run};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// Matches audio against an Earmark index over gRPC (package earmark.v1).
#[derive(Debug, Parser)]
#[command(name = "earmark-server", version)]
struct Args {
    /// Folder of the index; made if there is none.
    #[arg(long, env = "EARMARK_SERVER_INDEX", value_name = "DIR")]
    index: PathBuf,
    /// Address to listen on; port 0 takes a free one.
    #[arg(long, env = "EARMARK_SERVER_LISTEN", default_value = "127.0.0.1:50051")]
    listen: SocketAddr,
    /// Largest request message or upload, in bytes.
    #[arg(long, env = "EARMARK_SERVER_UPLOAD_MAX_BYTES", default_value_t = 256 << 20)]
    upload_max_bytes: usize,
    /// Longest query, in seconds.
    #[arg(long, env = "EARMARK_SERVER_QUERY_MAX_S", default_value_t = 3600.0)]
    query_max_s: f64,
    /// Requests worked on at a time. Eight times as many may wait; more are refused.
    #[arg(long, env = "EARMARK_SERVER_WORKERS", default_value_t = 2)]
    workers: usize,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let index = RocksIndex::create_or_open(&args.index, &Params::default())
        .with_context(|| format!("--index {}", args.index.display()))?;
    let listener = TcpListener::bind(args.listen)
        .await
        .with_context(|| format!("--listen {}: could not be bound", args.listen))?;
    let (mut terminate, mut interrupt) =
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    // Said last: whoever waits for this line may connect, or end the server, at once.
    tracing::info!("listening on {}", listener.local_addr()?);
    let shutdown = async move {
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
        tracing::info!("shutting down");
    };
    let limits = Limits {
        upload_max_bytes: args.upload_max_bytes,
        query_max_s: args.query_max_s,
        workers: args.workers.max(1),
    };
    run(listener, limits, Arc::new(index), shutdown).await.map_err(anyhow::Error::from_boxed)
}
