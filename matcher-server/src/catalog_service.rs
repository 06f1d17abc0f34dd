//! The rpcs of `CatalogService`.

use earmark_proto::v1::add_track_header::Encoding;
use earmark_proto::v1::add_track_request::Part;
use earmark_proto::v1::catalog_service_server::CatalogService;
use earmark_proto::v1::{
    AddTrackHeader, AddTrackRequest, AddTrackResponse, GetStatsRequest, GetStatsResponse,
    GetTrackRequest, GetTrackResponse, ListTracksRequest, ListTracksResponse, RemoveTrackRequest,
    RemoveTrackResponse,
};
use fingerprint_core::decode::DecodeOptions;
use fingerprint_core::index::NewTrack;
use fingerprint_core::units::TrackId;
use prost::Message;
use tonic::{Request, Response, Status, Streaming};

use crate::work::{Audio, Work};
use crate::{convert, status};

const PAGE_LEN: u32 = 100;
const PAGE_LEN_MAX: u32 = 1000;
const METADATA_MAX_BYTES: usize = 64 << 10;

pub(crate) struct Catalog {
    pub(crate) work: Work,
}

fn track_id(id: String) -> Result<TrackId, Status> {
    TrackId::new(id).map_err(|error| Status::invalid_argument(error.to_string()))
}

fn not_found(id: &TrackId) -> Status {
    Status::not_found(format!("there is no track {id}"))
}

/// Reads a whole upload, at most `max_bytes`.
async fn receive(
    mut stream: Streaming<AddTrackRequest>,
    max_bytes: usize,
) -> Result<(AddTrackHeader, Vec<u8>), Status> {
    let Some(Part::Header(header)) = stream.message().await?.and_then(|message| message.part)
    else {
        return Err(Status::invalid_argument("the first message must carry the header"));
    };
    if header.metadata.as_ref().is_some_and(|m| m.encoded_len() > METADATA_MAX_BYTES) {
        return Err(Status::invalid_argument("header.metadata is larger than 64 KiB; shorten it"));
    }
    let mut data = Vec::new();
    while let Some(message) = stream.message().await? {
        let Some(Part::Data(piece)) = message.part else {
            return Err(Status::invalid_argument(
                "only the first message may carry a header; send data",
            ));
        };
        if data.len() + piece.len() > max_bytes {
            let text = format!("the upload is larger than the limit of {max_bytes} bytes");
            return Err(Status::resource_exhausted(text));
        }
        data.extend_from_slice(&piece);
    }
    Ok((header, data))
}

#[tonic::async_trait]
impl CatalogService for Catalog {
    async fn add_track(
        &self,
        request: Request<Streaming<AddTrackRequest>>,
    ) -> Result<Response<AddTrackResponse>, Status> {
        let (header, data) =
            receive(request.into_inner(), self.work.limits.upload_max_bytes).await?;
        let audio = match header.encoding() {
            Encoding::Unspecified | Encoding::Audio => Audio::Encoded(data.into()),
            Encoding::Fingerprint => Audio::Fingerprint(data.into()),
        };
        let id = if header.track_id.is_empty() { None } else { Some(track_id(header.track_id)?) };
        let metadata = convert::metadata_in(header.metadata.unwrap_or_default());
        let answer = self.work.run(move |work, cancelled| {
            let longest = DecodeOptions::default().duration_max_s;
            let fingerprint = work.fingerprint(&audio, longest, cancelled)?;
            let id = id.unwrap_or_else(|| TrackId::from_content(&fingerprint.content_hash));
            let new = NewTrack { id: id.clone(), metadata, fingerprint };
            let added = work.index.add(&[new]).map_err(|e| status::index(&e))?.remove(0);
            let record = work.index.track(&id).map_err(|e| status::index(&e))?;
            Ok((added, record.ok_or_else(|| not_found(&id))?))
        });
        let (added, record) = answer.await?;
        Ok(Response::new(AddTrackResponse {
            track: Some(convert::track(record)),
            change: convert::change(added.change).into(),
            duplicate_of: added.duplicate_of.into_iter().map(Into::into).collect(),
        }))
    }

    async fn get_track(
        &self,
        request: Request<GetTrackRequest>,
    ) -> Result<Response<GetTrackResponse>, Status> {
        let id = track_id(request.into_inner().track_id)?;
        let answer = self.work.run(move |work, _| {
            work.index.track(&id).map_err(|e| status::index(&e))?.ok_or_else(|| not_found(&id))
        });
        Ok(Response::new(GetTrackResponse { track: Some(convert::track(answer.await?)) }))
    }

    async fn list_tracks(
        &self,
        request: Request<ListTracksRequest>,
    ) -> Result<Response<ListTracksResponse>, Status> {
        let ListTracksRequest { page_size, page_token } = request.into_inner();
        if page_size > PAGE_LEN_MAX {
            let text = format!("page_size is {page_size}, at most {PAGE_LEN_MAX} are allowed");
            return Err(Status::invalid_argument(text));
        }
        let limit = usize::try_from(if page_size == 0 { PAGE_LEN } else { page_size }).unwrap_or(1);
        // The token is the last id of the page before.
        let after = if page_token.is_empty() { None } else { Some(track_id(page_token)?) };
        let answer = self.work.run(move |work, _| {
            work.index.tracks(after.as_ref(), limit + 1).map_err(|e| status::index(&e))
        });
        let mut records = answer.await?;
        let more = records.len() > limit;
        records.truncate(limit);
        let last = records.last().filter(|_| more).map(|record| record.id.to_string());
        Ok(Response::new(ListTracksResponse {
            tracks: records.into_iter().map(convert::track).collect(),
            next_page_token: last.unwrap_or_default(),
        }))
    }

    async fn remove_track(
        &self,
        request: Request<RemoveTrackRequest>,
    ) -> Result<Response<RemoveTrackResponse>, Status> {
        let id = track_id(request.into_inner().track_id)?;
        let answer = self.work.run(move |work, _| {
            work.index.remove(&id).map_err(|e| status::index(&e))?.ok_or_else(|| not_found(&id))
        });
        Ok(Response::new(RemoveTrackResponse { track: Some(convert::track(answer.await?)) }))
    }

    async fn get_stats(
        &self,
        _: Request<GetStatsRequest>,
    ) -> Result<Response<GetStatsResponse>, Status> {
        let answer = self.work.run(|work, _| work.index.stats().map_err(|e| status::index(&e)));
        let stats = answer.await?;
        Ok(Response::new(GetStatsResponse {
            track_count: stats.track_count,
            duration_s: stats.duration_s,
            posting_count: stats.posting_count,
            peak_count: stats.peak_count,
            bytes_by_part: stats.bytes_by_part.into_iter().collect(),
            format_version: stats.format_version,
            params_digest: format!("{:016x}", stats.params_digest),
            server_version: env!("CARGO_PKG_VERSION").to_owned(),
        }))
    }
}
