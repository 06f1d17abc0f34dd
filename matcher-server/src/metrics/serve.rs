//! The page for Prometheus, on a port of its own: who may see how the server does is not who may use it.

use std::sync::Arc;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::encoding::text;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tonic::service::Routes;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;

const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Serves the page until it is dropped.
pub(crate) async fn serve(listener: TcpListener, registry: Registry) {
    let registry = Arc::new(registry);
    let page = move || page(Arc::clone(&registry));
    let router = Router::new().route("/metrics", get(page));
    let served = Server::builder()
        .accept_http1(true)
        .add_routes(Routes::from(router))
        .serve_with_incoming(TcpIncoming::from(listener))
        .await;
    if let Err(error) = served {
        tracing::error!(%error, "metrics are no longer served");
    }
}

async fn page(registry: Arc<Registry>) -> Response {
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
