//! The services that come with every gRPC server: health and reflection.

use tokio_stream::StreamExt;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

use crate::support::Server;

#[tokio::test]
async fn health_serves_by_name_and_says_when_it_stops() {
    let mut server = Server::start("").await;
    let mut health = HealthClient::new(server.channel().await);
    let services = ["MatchService", "CatalogService", "BackupService"];
    let services = services.map(|name| format!("earmark.v1.{name}"));
    for name in services.iter().map(String::as_str).chain([""]) {
        let request = HealthCheckRequest { service: name.to_owned() };
        let answer = health.check(request).await.unwrap().into_inner();
        assert_eq!(answer.status(), ServingStatus::Serving, "{name}");
    }
    let other = HealthCheckRequest { service: "earmark.v1.Nothing".to_owned() };
    assert_eq!(health.check(other).await.unwrap_err().code(), tonic::Code::NotFound);

    let mut watch = health.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert_eq!(watch.next().await.unwrap().unwrap().status(), ServingStatus::Serving);
    server.stop();
    assert_eq!(watch.next().await.unwrap().unwrap().status(), ServingStatus::NotServing);
    // A watcher that stays must not hold the server up.
    server.ended().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_to_stop_says_so_while_it_goes_on_serving() {
    let mut server = Server::start("drain_delay = '1h'").await;
    let mut health = HealthClient::new(server.channel().await);
    let mut watch = health.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert_eq!(watch.next().await.unwrap().unwrap().status(), ServingStatus::Serving);
    server.stop();
    assert_eq!(watch.next().await.unwrap().unwrap().status(), ServingStatus::NotServing);
    let url = server.url.clone();
    let over_http = move || {
        let agent: ureq::Agent =
            ureq::Agent::config_builder().http_status_as_error(false).build().into();
        let status = |path: &str| agent.get(format!("{url}{path}")).call().unwrap().status();
        ["/health/ready", "/health/live", "/v1/stats"].map(|path| status(path).as_u16())
    };
    // Over a connection that is made only now.
    assert_eq!(tokio::task::spawn_blocking(over_http).await.unwrap(), [503, 200, 200]);
}

#[tokio::test]
async fn a_server_that_has_said_so_for_long_enough_stops() {
    let mut server = Server::start("drain_delay = '100ms'").await;
    let told = std::time::Instant::now();
    server.stop();
    assert_eq!(server.ended().await, matcher_server::Ending::Finished);
    assert!(told.elapsed() >= std::time::Duration::from_millis(100));
}

#[tokio::test]
async fn reflection_lists_what_is_served() {
    let server = Server::start("").await;
    let mut reflection = ServerReflectionClient::new(server.channel().await);
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let answers = reflection.server_reflection_info(tokio_stream::once(request)).await.unwrap();
    let answer = answers.into_inner().next().await.unwrap().unwrap().message_response.unwrap();
    let MessageResponse::ListServicesResponse(list) = answer else { panic!("{answer:?}") };
    let names: Vec<_> = list.service.into_iter().map(|service| service.name).collect();
    for name in [
        "earmark.v1.MatchService",
        "earmark.v1.CatalogService",
        "earmark.v1.BackupService",
        "grpc.health.v1.Health",
    ] {
        assert!(names.iter().any(|served| served == name), "{name} is not in {names:?}");
    }
}
