//! What answers requests, without a socket: the services, their limits and pools, and the routes to them.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use earmark_proto::v1::backup_service_server::BackupServiceServer;
use earmark_proto::v1::catalog_service_server::CatalogServiceServer;
use earmark_proto::v1::match_service_server::MatchServiceServer;
use fingerprint_core::index::Index;
use fingerprint_core::params::Params;
use tonic::body::Body;
use tonic::codegen::http::{Request, Response};
use tonic::codegen::{BoxFuture, Service};
use tonic::server::NamedService;
use tonic::service::Routes;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;
use tonic_reflection::server::Builder as Reflection;

use crate::access::Guard;
use crate::backup_service::Backups;
use crate::catalog_service::Catalog;
use crate::config::Config;
use crate::envelope::{Envelope, Limits};
use crate::http::{self, Api};
use crate::match_service::Matcher;
use crate::metrics::{self, Metrics, Watched};
use crate::security::Security;
use crate::stream::{self, Streams};
use crate::traces::Traces;
use crate::work::{Turns, Work};
use crate::{Served, ServerError};

/// Largest message with a piece of an upload, in bytes: 4 MiB of it; the same for all that keep the catalog.
const PIECE_BYTES_MAX: usize = (4 << 20) + 1_024;
/// Services of which health is told; the last name stands for all of them.
const SERVICE_NAMES: [&str; 4] = [
    MatchServiceServer::<Matcher>::NAME,
    CatalogServiceServer::<Catalog>::NAME,
    BackupServiceServer::<Backups>::NAME,
    "",
];

/// What answers the requests of one server.
pub(crate) struct Answering {
    pub(crate) routes: Routes,
    pub(crate) work: Work,
    pub(crate) streams: Streams,
    pub(crate) metrics: Metrics,
    pub(crate) traces: Traces,
    /// To be set when requests that are not answered yet are ended.
    pub(crate) cuts_off: Arc<AtomicBool>,
    index: Arc<dyn Index>,
    health: HealthReporter,
    ready: Arc<AtomicBool>,
}

impl Answering {
    /// Everything that is ready to answer, which it says in `ready`.
    pub(crate) async fn new(
        config: &Arc<Config>,
        security: &Security,
        served: &Served,
        ready: Arc<AtomicBool>,
    ) -> Result<Self, ServerError> {
        let index = served.index();
        let params = Params::default();
        let metrics = Metrics::new();
        let traces = Traces::start(config).map_err(ServerError::Traces)?;
        let work = Work::new(config, &metrics);
        let streams = Streams::new(Arc::clone(&index), params, Arc::clone(config), work.clone());
        let matcher = Matcher {
            streams: streams.clone(),
            batch_turns: Turns::new(config.workers),
            index: Arc::clone(&index),
            params,
            config: Arc::clone(config),
            work: work.clone(),
        };
        let catalog = Catalog::new(Arc::clone(&index), params, Arc::clone(config), work.clone());
        let api =
            Api { matcher: matcher.clone(), catalog: catalog.clone(), ready: Arc::clone(&ready) };
        let limits = Limits::new(config, &metrics, &traces, &work);
        let matcher = ClipsAndStreams {
            clips: MatchServiceServer::new(matcher.clone())
                .max_decoding_message_size(config.message_bytes_max),
            streams: MatchServiceServer::new(matcher)
                .max_decoding_message_size(stream::MESSAGE_BYTES_MAX),
        };
        let pieces = limits.clone().with_message_max(PIECE_BYTES_MAX);
        let catalog = CatalogServiceServer::new(catalog)
            .max_decoding_message_size(config.message_bytes_max.min(PIECE_BYTES_MAX));
        let backups = BackupServiceServer::new(Backups::new(served, config, work.clone()));
        let (health, health_service) = tonic_health::server::health_reporter();
        report(&health, ServingStatus::Serving).await;
        let grpc = Routes::default()
            .add_service(Envelope::new(matcher, limits.clone()))
            .add_service(Envelope::new(catalog, pieces))
            .add_service(Envelope::new(backups, limits.clone().without_time_limit()))
            .add_service(health_service)
            .add_service(reflection().build_v1().map_err(ServerError::Descriptors)?)
            // grpcio's and other clients of before 2023 know only this one.
            .add_service(reflection().build_v1alpha().map_err(ServerError::Descriptors)?);
        let guard = Guard { access: Arc::clone(&security.access), metrics: metrics.clone() };
        let cuts_off = limits.cuts_off();
        let routes = http::router(api, limits, config, guard, grpc);
        ready.store(true, Ordering::Relaxed);
        Ok(Self { routes, work, streams, metrics, traces, cuts_off, index, health, ready })
    }

    /// What is read when metrics are asked for.
    pub(crate) fn watched(&self, security: &Security) -> Watched {
        Watched {
            index: Arc::clone(&self.index),
            streams: self.streams.clone(),
            transport: Arc::clone(&security.transport),
            work: self.work.clone(),
            traces: self.traces.clone(),
        }
    }

    /// Tells whoever asks for health that this server is about to stop.
    pub(crate) async fn tell_of_the_end(&self) {
        self.ready.store(false, Ordering::Relaxed);
        report(&self.health, ServingStatus::NotServing).await;
    }

    /// Ends all streams.
    pub(crate) async fn end_streams(&mut self) {
        // Those of clients that watch our health, too; they would hold the server up.
        for name in SERVICE_NAMES {
            self.health.clear_service_status(name).await;
        }
        self.streams.stop();
    }
}

/// The service of clips and streams, whose messages have limits of their own: a clip is one message, a stream many, and
/// as many streams are open as clips never are.
#[derive(Debug, Clone)]
struct ClipsAndStreams {
    clips: MatchServiceServer<Matcher>,
    streams: MatchServiceServer<Matcher>,
}

impl NamedService for ClipsAndStreams {
    const NAME: &'static str = MatchServiceServer::<Matcher>::NAME;
}

impl Service<Request<Body>> for ClipsAndStreams {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Response<Body>, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // As those of both.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let is_stream = metrics::call_of(request.uri().path()) == "MatchStream";
        if is_stream { self.streams.call(request) } else { self.clips.call(request) }
    }
}

async fn report(health: &HealthReporter, status: ServingStatus) {
    for name in SERVICE_NAMES {
        health.set_service_status(name, status).await;
    }
}

fn reflection() -> Reflection<'static> {
    Reflection::configure()
        .register_encoded_file_descriptor_set(earmark_proto::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
}
