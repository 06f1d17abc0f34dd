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
