//! Health, reflection, and the end of a server.

use std::time::{Duration, Instant};

use earmark_proto::v1::GetStatsRequest;
use matcher_server::Ending;
use tokio_stream::StreamExt;
use tonic_health::ServingStatus;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_reflection::pb::v1::{ServerReflectionRequest, ServerReflectionResponse};

use crate::support::{TestServer, encoded, noise_wav, with_cold_day};

fn health_of(service: &str) -> HealthCheckRequest {
    HealthCheckRequest { service: service.to_owned() }
}

#[tokio::test(flavor = "multi_thread")]
async fn health_is_known_for_the_server_and_each_service() {
    let server = TestServer::start("").await;
    let mut health = HealthClient::new(server.channel().await);
    for name in ["", "earmark.v1.MatchService", "earmark.v1.CatalogService"] {
        let answer = health.check(health_of(name)).await.unwrap().into_inner();
        assert_eq!(answer.status, ServingStatus::Serving as i32, "{name:?}");
    }
    assert!(health.check(health_of("earmark.v1.Nonsense")).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn reflection_lists_the_services_and_hands_out_their_descriptors() {
    let server = TestServer::start("").await;
    let mut reflection = ServerReflectionClient::new(server.channel().await);
    let ask = |message| ServerReflectionRequest {
        host: String::new(),
        message_request: Some(message),
    };
    let requests = [
        ask(MessageRequest::ListServices(String::new())),
        ask(MessageRequest::FileContainingSymbol("earmark.v1.MatchService".to_owned())),
    ];
    let answers = reflection.server_reflection_info(tokio_stream::iter(requests)).await.unwrap();
    let answers: Vec<ServerReflectionResponse> =
        answers.into_inner().collect::<Result<_, _>>().await.unwrap();
    let Some(MessageResponse::ListServicesResponse(list)) = &answers[0].message_response else {
        panic!("{answers:?}");
    };
    let mut names: Vec<_> = list.service.iter().map(|service| service.name.as_str()).collect();
    names.sort_unstable();
    for name in ["earmark.v1.CatalogService", "earmark.v1.MatchService", "grpc.health.v1.Health"] {
        assert!(names.contains(&name), "{name} is not among {names:?}");
    }
    assert!(matches!(
        answers[1].message_response,
        Some(MessageResponse::FileDescriptorResponse(_))
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_request_is_finished_and_watchers_are_told() {
    let mut server = with_cold_day("").await;
    let mut health = HealthClient::new(server.channel().await);
    let mut watch = health.watch(health_of("")).await.unwrap().into_inner();
    let serving = watch.next().await.unwrap().unwrap();
    assert_eq!(serving.status, ServingStatus::Serving as i32);
    let mut idle = server.catalog().await;
    idle.get_stats(GetStatsRequest {}).await.unwrap();
    let mut matcher = server.matcher().await;
    let running = tokio::spawn(async move { matcher.r#match(encoded(noise_wav(300))).await });
    tokio::time::sleep(Duration::from_millis(200)).await;
    let begun = Instant::now();
    server.tell_to_stop();
    let told = watch.next().await.unwrap().unwrap();
    assert_eq!(told.status, ServingStatus::NotServing as i32);
    let url = server.url.clone();
    assert_eq!(server.ending().await, Ending::Finished);
    running.await.unwrap().expect("a request that runs is finished");
    // Neither the watcher nor the idle connection held the server up.
    assert!(begun.elapsed() < Duration::from_secs(9), "{:?}", begun.elapsed());
    assert!(tonic::transport::Channel::from_shared(url).unwrap().connect().await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_takes_too_long_is_cut_off() {
    let mut server = with_cold_day("shutdown_time_max = '300ms'").await;
    let mut matcher = server.matcher().await;
    let clip = encoded(noise_wav(1_800));
    let running = tokio::spawn(async move { matcher.r#match(clip).await });
    tokio::time::sleep(Duration::from_millis(400)).await;
    let begun = Instant::now();
    server.tell_to_stop();
    assert_eq!(server.ending().await, Ending::CutOff);
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    assert!(running.await.unwrap().is_err());
}
