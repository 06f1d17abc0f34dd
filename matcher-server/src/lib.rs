//! The server of Earmark: `earmark.v1` over gRPC and gRPC-web, health and reflection, and the same over
//! HTTP as JSON, on one port.
//!
//! ```text
//! connection ─ transport ─ access ─ envelope ─▶ service ─ work ─▶ core ─ convert, status ─▶ answer
//! ```
//!
//! [`run`] serves until it is told to stop. Services decode requests, call the core on a
//! `work` pool and encode its answers; no algorithm lives here.

pub mod access;
mod analysis;
mod answering;
mod backup_service;
mod catalog_service;
mod client;
pub mod config;
mod convert;
mod envelope;
mod follow;
mod http;
pub mod keys;
mod match_service;
mod metrics;
pub mod opening;
mod places;
mod reason;
mod repeats;
pub mod security;
mod status;
mod stream;
mod task;
pub mod telemetry;
mod traces;
pub mod transport;
mod upload;
mod work;

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use fingerprint_core::index::{FollowerIndex, Index, RocksIndex};
use tokio::net::TcpListener;
use tonic::service::Routes;
use tonic::transport::Server;

use crate::answering::Answering;
use crate::config::Config;
pub use crate::metrics::MetricsPage;
use crate::security::Security;
pub use crate::traces::TracesError;

/// How long the last traces may take to be sent.
const LAST_TRACES_TIME_MAX: Duration = Duration::from_secs(2);
/// How long cancelled work may take to notice it.
const STOP_TIME_MAX: Duration = Duration::from_secs(2);
/// Peers that have vanished without a word are found out by pings.
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PING_TIME_MAX: Duration = Duration::from_secs(20);
/// What a connection may have sent that is not read yet: more than one of its streams may, or one that is slowed down
/// would hold the others up.
const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;
/// A connection may have one in this many of the requests that may be open: one client alone cannot
/// keep the others out.
const STREAMS_SHARE: usize = 4;

/// Why the server could not serve.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// The listening socket is no good.
    #[error("the listening socket failed")]
    Socket(#[source] io::Error),
    /// Nobody can be told metrics.
    #[error("metrics cannot be served at {address}; choose another address with --metrics-listen")]
    MetricsSocket {
        /// Where they would be.
        address: String,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// Traces cannot be sent.
    #[error("traces cannot be sent; look at --otlp-endpoint")]
    Traces(#[source] TracesError),
    /// The reflection service could not read the descriptors of the interface.
    #[error("the descriptors of the interface are damaged")]
    Descriptors(#[source] tonic_reflection::server::Error),
    /// The transport failed.
    #[error("serving failed")]
    Transport(#[source] tonic::transport::Error),
}

/// What is served.
#[derive(Debug, Clone)]
pub enum Served {
    /// An index that this process writes, and may back up.
    Writer(Arc<RocksIndex>),
    /// An index that another process writes.
    Follower(Arc<FollowerIndex>),
    /// An index of any other kind.
    Other(Arc<dyn Index>),
}

impl Served {
    fn index(&self) -> Arc<dyn Index> {
        match self {
            Self::Writer(index) => Arc::clone(index) as Arc<dyn Index>,
            Self::Follower(index) => Arc::clone(index) as Arc<dyn Index>,
            Self::Other(index) => Arc::clone(index),
        }
    }
}

/// How the server ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// All requests were answered.
    Finished,
    /// Requests that took longer than allowed were cut off.
    CutOff,
}

/// Serves an index on `listener` until `shutdown` is ready; then reports `NOT_SERVING`, goes on serving for
/// [`Config::drain_delay`], stops accepting, and lets running requests finish within
/// [`Config::shutdown_time_max`].
///
/// It must have been opened with [`fingerprint_core::params::Params::default`], as queries are analysed with
/// them. Of a follower changes are looked for all the while, as often as [`Config::follow`] says. The page of metrics
/// tells from now on what the server does.
///
/// # Errors
///
/// [`ServerError`].
pub async fn run(
    listener: TcpListener,
    config: Config,
    security: Security,
    page: Option<MetricsPage>,
    served: Served,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<Ending, ServerError> {
    let config = Arc::new(config);
    let ready = page.as_ref().map(MetricsPage::ready).unwrap_or_default();
    let mut answering = Answering::new(&config, &security, &served, ready).await?;
    if let Some(page) = &page {
        page.tell(&answering.metrics, answering.watched(&security)).await;
    }
    let streams_max =
        u32::try_from(config.requests_open_max.div_ceil(STREAMS_SHARE)).unwrap_or(u32::MAX);

    let address = listener.local_addr().map_err(ServerError::Socket)?;
    let incoming = security.transport.accept(listener);
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let server = Server::builder()
        .http2_keepalive_interval(Some(PING_INTERVAL))
        .http2_keepalive_timeout(Some(PING_TIME_MAX))
        .max_concurrent_streams(streams_max)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        // JSON and gRPC-web come over HTTP/1.1, too.
        .accept_http1(true)
        .add_routes(answering.routes.clone())
        .serve_with_incoming_shutdown(incoming, async {
            // An error means that the sender is gone, which is a reason to stop as well.
            let _ = stopped.await;
        });
    let mut server = std::pin::pin!(server);
    tracing::info!("listening on {address}");
    let _fresh = security.keep_fresh();
    let _keeping_up = follow::keep_up(&served, config.follow);
    let until_stop = async {
        shutdown.await;
        answering.tell_of_the_end().await;
        if !config.drain_delay.is_zero() {
            let delay_s = config.drain_delay.as_secs_f64();
            tracing::info!(delay_s, "told to stop: not ready any more, and still serving");
            tokio::time::sleep(config.drain_delay).await;
        }
    };
    tokio::select! {
        ended = &mut server => {
            answering.traces.stop(LAST_TRACES_TIME_MAX).await;
            ended.map_err(ServerError::Transport)?;
            return Ok(Ending::Finished);
        }
        () = until_stop => {}
    }
    tracing::info!(limit_s = config.shutdown_time_max.as_secs(), "stopping");
    answering.end_streams().await;
    let _ = stop.send(());
    let finished = tokio::time::timeout(config.shutdown_time_max, server).await;
    answering.cuts_off.store(true, Ordering::Relaxed);
    // Work whose clients have gone may still run, and must not outlive the index.
    let idle = answering.work.stop(STOP_TIME_MAX).await;
    answering.traces.stop(LAST_TRACES_TIME_MAX).await;
    let in_time = finished.is_ok();
    if let Ok(ended) = finished {
        ended.map_err(ServerError::Transport)?;
    }
    if !in_time || !idle {
        tracing::warn!(
            requests_ended = in_time,
            work_ended = idle,
            "cut off what took longer than shutdown-time-max"
        );
        return Ok(Ending::CutOff);
    }
    Ok(Ending::Finished)
}

/// All that [`run`] serves, without a socket: requests of gRPC, gRPC-web and HTTP go in, and answers come
/// out. For whoever has a transport of their own.
///
/// # Errors
///
/// [`ServerError::Descriptors`].
pub async fn routes(
    config: Config,
    security: &Security,
    served: &Served,
) -> Result<Routes, ServerError> {
    let ready = Arc::default();
    let answering = Answering::new(&Arc::new(config), security, served, ready).await?;
    Ok(answering.routes)
}
