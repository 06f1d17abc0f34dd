//! Calls to the server as a patient client makes them: whoever is told to come back later does.

use anyhow::{Context, Result};
use earmark_proto::v1;
use earmark_proto::v1::add_track_request::Part;
use earmark_proto::v1::catalog_service_client::CatalogServiceClient;
use earmark_proto::v1::match_service_client::MatchServiceClient;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::Soak;

/// Bytes of a piece of an upload.
const PIECE_BYTES: usize = 64 << 10;

/// One connection.
#[derive(Clone)]
pub(crate) struct Calls {
    pub(crate) catalog: CatalogServiceClient<Channel>,
    pub(crate) matcher: MatchServiceClient<Channel>,
}

impl Calls {
    /// Connects to the server. Streams last longer than any call may.
    pub(crate) async fn connect(soak: &Soak) -> Result<Self> {
        let channel = Endpoint::from_shared(soak.url.clone())?
            .connect_timeout(soak.answer_time_max)
            .connect()
            .await
            .with_context(|| format!("no server answers at {}", soak.url))?;
        Ok(Self {
            catalog: CatalogServiceClient::new(channel.clone()),
            matcher: MatchServiceClient::new(channel),
        })
    }

    /// Adds a track.
    pub(crate) async fn add(
        &self,
        soak: &Soak,
        id: &str,
        encoding: v1::add_track_header::Encoding,
        bytes: &[u8],
    ) -> Result<v1::AddTrackResponse, Status> {
        let header = v1::AddTrackHeader {
            track_id: id.to_owned(),
            metadata: Some(v1::Metadata { title: format!("Title of {id}"), ..Default::default() }),
            encoding: encoding.into(),
            ..v1::AddTrackHeader::default()
        };
        let header = v1::AddTrackRequest { part: Some(Part::Header(header)) };
        let piece =
            |data: &[u8]| v1::AddTrackRequest { part: Some(Part::Data(data.to_vec().into())) };
        let messages: Vec<_> =
            std::iter::once(header).chain(bytes.chunks(PIECE_BYTES).map(piece)).collect();
        patiently(soak, || {
            let (mut client, request) =
                (self.catalog.clone(), tokio_stream::iter(messages.clone()));
            async move { client.add_track(request).await }
        })
        .await
    }

    /// Removes a track, by a call of this name, which may be empty.
    pub(crate) async fn remove(
        &self,
        soak: &Soak,
        id: &str,
        request_id: &str,
    ) -> Result<v1::RemoveTrackResponse, Status> {
        let request =
            v1::RemoveTrackRequest { track_id: id.to_owned(), request_id: request_id.to_owned() };
        patiently(soak, || {
            let (mut client, request) = (self.catalog.clone(), request.clone());
            async move { client.remove_track(request).await }
        })
        .await
    }

    /// Reads a track; `None` if there is none.
    pub(crate) async fn track(&self, soak: &Soak, id: &str) -> Result<Option<v1::Track>, Status> {
        let request = v1::GetTrackRequest { track_id: id.to_owned() };
        match patiently(soak, || {
            let (mut client, request) = (self.catalog.clone(), request.clone());
            async move { client.get_track(request).await }
        })
        .await
        {
            Ok(answer) => Ok(answer.track),
            Err(status) if status.code() == Code::NotFound => Ok(None),
            Err(status) => Err(status),
        }
    }

    /// Asks what is in a clip.
    pub(crate) async fn find(
        &self,
        soak: &Soak,
        request: v1::MatchRequest,
    ) -> Result<v1::MatchResponse, Status> {
        patiently(soak, || {
            let (mut client, request) = (self.matcher.clone(), request.clone());
            async move { client.r#match(request).await }
        })
        .await
    }
}

/// A request for a clip.
pub(crate) fn clip(source: v1::audio::Source) -> v1::MatchRequest {
    v1::MatchRequest {
        audio: Some(v1::Audio { source: Some(source) }),
        ..v1::MatchRequest::default()
    }
}

/// Waits for an answer, but not for one that does not come.
pub(crate) async fn in_time<T>(
    soak: &Soak,
    call: impl Future<Output = Result<T, Status>>,
) -> Result<T, Status> {
    let answered = tokio::time::timeout(soak.answer_time_max, call).await;
    answered.unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer came")))
}

/// Calls until there is an answer, or a refusal that does not say when to come back. A busy server's refusals are put up
/// with as long as a call may take.
pub(crate) async fn patiently<T, F>(soak: &Soak, call: impl Fn() -> F) -> Result<T, Status>
where
    F: Future<Output = Result<tonic::Response<T>, Status>>,
{
    let began = tokio::time::Instant::now();
    loop {
        let status = match in_time(soak, call()).await {
            Ok(answer) => return Ok(answer.into_inner()),
            Err(status) => status,
        };
        let pause = status.get_details_retry_info().and_then(|info| info.retry_delay);
        match pause {
            Some(pause)
                if status.code() == Code::ResourceExhausted
                    && began.elapsed() < soak.answer_time_max =>
            {
                soak.tally.count("refused for now, and asked again");
                tokio::time::sleep(pause).await;
            }
            _ => return Err(status),
        }
    }
}

/// The reason of an error, for programs; empty if it has none.
pub(crate) fn reason(status: &Status) -> String {
    status.get_details_error_info().map(|info| info.reason).unwrap_or_default()
}
