//! The page for Prometheus, on a port of its own: who may see how the server does is not who may use it.

use std::sync::Arc;
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

use crate::transport::Transport;

const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Connections at a time: a few collectors, and somebody who looks.
const CONNECTIONS_MAX: usize = 16;
/// A collector comes back within a minute or so, or connects anew.
const IDLE_MAX: Duration = Duration::from_secs(120);

/// Serves the page until it is dropped.
pub(crate) async fn serve(listener: TcpListener, registry: Registry) {
    let transport = Arc::new(Transport::plain(CONNECTIONS_MAX, IDLE_MAX));
    // One page is made at a time.
    let registry = Arc::new(Mutex::new(registry));
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
