//! While the index is being opened, which after a crash of a large one takes a while: the port answers
//! already that the server lives, and is not ready.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tonic::service::Routes;
use tonic::transport::Server;
use tonic_health::ServingStatus;

use crate::http::{self, Problem};
use crate::reason::Reason;
use crate::transport::Transport;

/// How long whoever asks for health may hold the server up once it is ready.
const HANGUP_MAX: Duration = Duration::from_millis(500);

/// Answers on `listener` that the server is not ready until `open` is, whose result is returned with a
/// listener of the same port.
///
/// # Errors
///
/// If the listener is no good.
pub async fn answer_until<T>(
    listener: TcpListener,
    transport: &Arc<Transport>,
    open: impl Future<Output = T>,
) -> io::Result<(TcpListener, T)> {
    let listener = listener.into_std()?;
    let ours = TcpListener::from_std(listener.try_clone()?)?;
    let (mut health, health_service) = tonic_health::server::health_reporter();
    health.set_service_status("", ServingStatus::NotServing).await;
    let (stop, stopped) = oneshot::channel::<()>();
    let answering = Server::builder()
        .accept_http1(true)
        .add_routes(Routes::from(router()))
        .add_service(health_service)
        .serve_with_incoming_shutdown(transport.accept(ours), async {
            // An error means that the sender is gone, which is a reason to stop as well.
            let _ = stopped.await;
        });
    let answering = tokio::spawn(answering);
    let opened = open.await;
    health.clear_service_status("").await;
    let _ = stop.send(());
    let abort = answering.abort_handle();
    if tokio::time::timeout(HANGUP_MAX, answering).await.is_err() {
        abort.abort();
    }
    Ok((TcpListener::from_std(listener)?, opened))
}

fn router() -> Router {
    let live = || async { Json(serde_json::json!({ "status": "live" })) };
    let ready = || async {
        let body = Json(serde_json::json!({ "status": "not_ready" }));
        (axum::http::StatusCode::SERVICE_UNAVAILABLE, body)
    };
    Router::new()
        .route("/health/live", get(live))
        .route("/health/ready", get(ready))
        .method_not_allowed_fallback(later)
        .fallback(later)
}

/// What every other request is told, in the words of its protocol.
async fn later(request: Request) -> Response {
    let text = "the index is being opened; try again in a moment";
    if http::is_grpc(&request) {
        return http::grpc_answer(&Reason::Unavailable.status(text));
    }
    Problem::new(Reason::Unavailable, text).into_response()
}

#[cfg(test)]
mod tests {
    use tonic::Code;
    use tonic::transport::Endpoint;
    use tonic_health::pb::HealthCheckRequest;
    use tonic_health::pb::health_check_response::ServingStatus as Told;
    use tonic_health::pb::health_client::HealthClient;

    use super::*;
    use crate::config::Settings;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_server_that_opens_its_index_lives_and_is_not_ready() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (opened, open) = oneshot::channel();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("server.toml");
        std::fs::write(&path, "index = 'unused'").unwrap();
        let config = Settings::from_file(&path).unwrap().resolve().unwrap();
        let transport = Arc::new(Transport::load(&config).unwrap());
        let answering = tokio::spawn(async move { answer_until(listener, &transport, open).await });
        let channel = Endpoint::new(format!("http://{address}")).unwrap().connect().await.unwrap();
        let mut health = HealthClient::new(channel.clone());
        let answer = health.check(HealthCheckRequest::default()).await.unwrap().into_inner();
        assert_eq!(answer.status(), Told::NotServing);
        let mut catalog =
            earmark_proto::v1::catalog_service_client::CatalogServiceClient::new(channel);
        let refused = catalog.get_stats(earmark_proto::v1::GetStatsRequest {}).await.unwrap_err();
        assert!(refused.code() == Code::Unavailable && refused.message().contains("being opened"));
        opened.send(7).unwrap();
        let (again, answer) = answering.await.unwrap().unwrap();
        assert_eq!((again.local_addr().unwrap(), answer), (address, Ok(7)));
    }
}
