//! The server: gRPC requests → core → answers. No algorithm lives here.
//!
//! `work` bounds what runs at a time, `match_service` and `catalog_service` answer, `convert` and
//! `status` translate.

mod catalog_service;
mod convert;
mod match_service;
mod status;
mod work;

use std::future::Future;
use std::sync::Arc;

use earmark_proto::v1::catalog_service_server::CatalogServiceServer;
use earmark_proto::v1::match_service_server::MatchServiceServer;
use fingerprint_core::index::Index;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;

use crate::catalog_service::Catalog;
use crate::match_service::Matcher;
use crate::work::Work;

/// What a request may cost.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Largest request message, and largest upload, in bytes.
    pub upload_max_bytes: usize,
    /// Longest query, in seconds.
    pub query_max_s: f64,
    /// Requests worked on at a time.
    pub workers: usize,
}

/// Serves until `shutdown` ends, then lets running requests finish.
///
/// # Errors
///
/// The transport failed, or the reflection service could not be made.
pub async fn run(
    listener: TcpListener,
    limits: Limits,
    index: Arc<dyn Index>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let work = Work::new(index, limits.clone());
    let matcher = MatchServiceServer::new(Matcher { work: work.clone() })
        .max_decoding_message_size(limits.upload_max_bytes);
    let catalog = CatalogServiceServer::new(Catalog { work })
        .max_decoding_message_size(limits.upload_max_bytes);
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_serving::<MatchServiceServer<Matcher>>().await;
    health.set_serving::<CatalogServiceServer<Catalog>>().await;
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(earmark_proto::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let stopping = async move {
        shutdown.await;
        health.set_not_serving::<MatchServiceServer<Matcher>>().await;
        health.set_not_serving::<CatalogServiceServer<Catalog>>().await;
    };
    Server::builder()
        .add_service(health_service)
        .add_service(reflection().build_v1()?)
        .add_service(reflection().build_v1alpha()?)
        .add_service(matcher)
        .add_service(catalog)
        .serve_with_incoming_shutdown(TcpListenerStream::new(listener), stopping)
        .await?;
    Ok(())
}
