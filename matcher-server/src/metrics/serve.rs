//! The page for Prometheus, on a port of its own: who may see how the server does is not who may use it.
//!
//! It is there before the index is, so that a server that takes minutes to open one is seen to be at it. What an index
//! has is told as soon as there is one.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::encoding::text;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::sync::Mutex;
use tonic::service::Routes;
use tonic::transport::Server;

use super::watched::{Process, Standing};
use super::{Metrics, Watched};
use crate::ServerError;
use crate::config::Config;
use crate::security::Security;
use crate::task::Task;
use crate::transport::Transport;

const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What all names of ours begin with.
const PREFIX: &str = "earmark";
/// Connections at a time: a few collectors, and somebody who looks.
const CONNECTIONS_MAX: usize = 16;
/// A collector comes back within a minute or so, or connects anew.
const IDLE_MAX: Duration = Duration::from_secs(120);

/// The page, which is served until it is dropped.
#[derive(Debug)]
pub struct MetricsPage {
    address: SocketAddr,
    /// One page is made at a time.
    registry: Arc<Mutex<Registry>>,
    ready: Arc<AtomicBool>,
    _serving: Task,
}

impl MetricsPage {
    /// Serves the page, if the settings say where; until there is an index it tells of the process, certificates and
    /// keys, and that the server is not ready.
    ///
    /// # Errors
    ///
    /// [`ServerError::MetricsSocket`].
    pub async fn open(config: &Config, security: &Security) -> Result<Option<Self>, ServerError> {
        let Some(address) = &config.metrics_listen else { return Ok(None) };
        let failed = |source| ServerError::MetricsSocket { address: address.clone(), source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        if !address.ip().is_loopback() {
            tracing::warn!("whoever reaches {address} sees the metrics");
        }
        tracing::info!("metrics at http://{address}/metrics");
        let ready = Arc::new(AtomicBool::new(false));
        let standing = Standing { security: security.clone(), ready: Arc::clone(&ready) };
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Process::begun_now()));
        registry.sub_registry_with_prefix(PREFIX).register_collector(Box::new(standing));
        let registry = Arc::new(Mutex::new(registry));
        let serving = Task::spawn(serve(listener, Arc::clone(&registry)));
        Ok(Some(Self { address, registry, ready, _serving: serving }))
    }

    /// Where it is served.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether requests are answered, as the page tells it.
    pub(crate) fn ready(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.ready)
    }

    /// Tells from now on what is counted, and what is read when somebody asks.
    pub(crate) async fn tell(&self, metrics: &Metrics, watched: Watched) {
        let mut registry = self.registry.lock().await;
        metrics.register(registry.sub_registry_with_prefix(PREFIX), watched);
    }
}

async fn serve(listener: TcpListener, registry: Arc<Mutex<Registry>>) {
    let transport = Arc::new(Transport::plain(CONNECTIONS_MAX, IDLE_MAX));
    let page = move || page(Arc::clone(&registry));
    let router = Router::new().route("/metrics", get(page));
    let served = Server::builder()
        .accept_http1(true)
        .add_routes(Routes::from(router))
        .serve_with_incoming(transport.accept(listener))
        .await;
    if let Err(error) = served {
        tracing::error!(%error, "metrics are no longer served");
    }
}

async fn page(registry: Arc<Mutex<Registry>>) -> Response {
    let registry = registry.lock_owned().await;
    // Sizes of the index come from files.
    let written = tokio::task::spawn_blocking(move || {
        let mut page = String::new();
        text::encode(&mut page, &registry).map(|()| page)
    });
    match written.await {
        Ok(Ok(page)) => ([(header::CONTENT_TYPE, MEDIA_TYPE)], page).into_response(),
        _ => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
