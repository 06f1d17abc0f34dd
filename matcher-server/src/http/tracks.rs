//! `/v1/tracks` and `/v1/stats`.

use std::collections::{BTreeMap, HashMap};

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, Request, State};
use axum::http::{Extensions, HeaderMap, StatusCode};
use earmark_proto::v1;
use earmark_proto::v1::add_track_header::Encoding;
use earmark_proto::v1::catalog_service_server::CatalogService;
use serde::Deserialize;
use tonic::Status;
use utoipa::IntoParams;

use super::body::{self, Kind};
use super::fields::{self, QueryFields};
use super::model::{AddedTrack, Stats, Track, TrackPage};
use super::problem::Problem;
use super::shapes::{Binary, NamedTrackForm, TrackForm, attributes};
use super::{Api, request_id};
use crate::access;
use crate::reason::Reason;
use crate::upload::{Announced, Upload};

/// The track that an address names.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "it documents the address, of which the only part is read as it is")]
pub(super) struct PathId {
    /// Id of the track, percent-encoded: 1 to 200 bytes of UTF-8 without control characters, and without white
    /// space at an end.
    #[param(
        min_length = 1,
        max_length = 200,
        pattern = r"^[^\s\x00-\x1f\x7f-\x9f]([^\x00-\x1f\x7f-\x9f]*[^\s\x00-\x1f\x7f-\x9f])?$",
        example = "cold-day"
    )]
    track_id: String,
}

/// The id of a new track.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "it documents the address; the fields are read as a map")]
pub(super) struct IdQuery {
    /// The caller's id, up to 200 bytes of UTF-8 without control characters, and without white space at an end.
    /// Without one, or if it is empty, it follows from the audio.
    #[param(
        max_length = 200,
        pattern = r"^([^\s\x00-\x1f\x7f-\x9f]([^\x00-\x1f\x7f-\x9f]*[^\s\x00-\x1f\x7f-\x9f])?)?$",
        example = "cold-day"
    )]
    track_id: Option<String>,
}

/// What is known of a new track. All of it together may have 64 KiB.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "it documents the address; the fields are read as a map")]
pub(super) struct MetadataQuery {
    /// Title of the recording.
    #[param(example = "Cold Day")]
    title: Option<String>,
    /// Who performs it.
    artist: Option<String>,
    /// Where it was published.
    album: Option<String>,
    /// International Standard Recording Code.
    isrc: Option<String>,
    /// Fields of any other name are kept as attributes.
    #[param(style = Form, explode, schema_with = attributes, required = false)]
    attributes: Option<BTreeMap<String, String>>,
}

/// The caller's name for a request that changes something.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "it documents the header, which is read as it is")]
pub(super) struct ChangeHeader {
    /// Names the request. Sent again with the same name it gets the answer of the first, for an hour.
    #[param(rename = "X-Request-Id", max_length = 128, pattern = r"^[ -~]*$")]
    request_id: Option<String>,
}

/// Stands in the document for all names that are not told there.
pub(super) const ATTRIBUTES: &str = "attributes";

/// Which page to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct PageQuery {
    /// Most tracks in the answer.
    #[param(minimum = 1, maximum = 1000, default = 100, example = 10)]
    page_size: Option<u32>,
    /// `next_page_token` of the page before; nothing for the first page.
    page_token: Option<String>,
}

/// Adds a recording, or replaces it if its id exists with other audio
///
/// The body is the recording: an audio or video file under any media type; or a fingerprint
/// (`application/vnd.earmark.fingerprint`); or a form with the recording as the file `audio` (or
/// `fingerprint`), whose other fields are the metadata, in any order; they are stronger than the same in the address.
/// When the answer arrives, the track is on disk and can be found.
///
/// Who sends the request again with the same `X-Request-Id`, because the answer was lost, gets the answer of the
/// first, and nothing is changed twice. Another request with that name is refused (`REQUEST_ID_REUSED`). Names are
/// remembered for an hour, the last 100,000 and 64 MiB of answers, and not beyond a restart of the server; errors are
/// not.
#[utoipa::path(post, path = "/v1/tracks", tag = "tracks", operation_id = "add_track",
    params(IdQuery, MetadataQuery, ChangeHeader),
    request_body(description = "The recording", content(
        (inline(Binary) = "audio/*"), (inline(Binary) = "video/*"),
        (inline(Binary) = "application/octet-stream"),
        (inline(Binary) = "application/vnd.earmark.fingerprint"),
        (TrackForm = "multipart/form-data"))),
    responses(
        (status = 201, description = "The track is new", body = AddedTrack),
        (status = 200, description = "The track was there; `change` says what became of it", body = AddedTrack)
    ))]
pub(super) async fn add(
    State(api): State<Api>,
    query: QueryFields,
    request: Request,
) -> Result<(StatusCode, Json<AddedTrack>), Problem> {
    receive(&api, None, fields::of(query)?, request).await
}

/// Adds or replaces the recording of this id, as `POST /v1/tracks` does
#[utoipa::path(put, path = "/v1/tracks/{track_id}", tag = "tracks", operation_id = "put_track",
    params(PathId, MetadataQuery, ChangeHeader),
    request_body(description = "The recording", content(
        (inline(Binary) = "audio/*"), (inline(Binary) = "video/*"),
        (inline(Binary) = "application/octet-stream"),
        (inline(Binary) = "application/vnd.earmark.fingerprint"),
        (NamedTrackForm = "multipart/form-data"))),
    responses(
        (status = 201, description = "The track is new", body = AddedTrack),
        (status = 200, description = "The track was there; `change` says what became of it", body = AddedTrack)
    ))]
pub(super) async fn put(
    State(api): State<Api>,
    id: Result<Path<String>, PathRejection>,
    query: QueryFields,
    request: Request,
) -> Result<(StatusCode, Json<AddedTrack>), Problem> {
    let Path(id) = id?;
    receive(&api, Some(id), fields::of(query)?, request).await
}

/// Receives a track; `id` is the one of the address.
async fn receive(
    api: &Api,
    id: Option<String>,
    mut fields: BTreeMap<String, String>,
    request: Request,
) -> Result<(StatusCode, Json<AddedTrack>), Problem> {
    let owner = access::owner(request.extensions());
    let request_id = request_id(request.headers())?;
    let place = api.catalog.begin_upload()?;
    // Before the recording is received in vain.
    announced(id.clone(), request_id.clone(), fields.clone(), Kind::Audio)?;
    let (kind, spool, of_form) = body::recording(request, place.limits).await?;
    fields.extend(of_form);
    let upload = Upload { announced: announced(id, request_id, fields, kind)?, spool };
    let answer = api.catalog.add_upload(&owner, place, upload).await?;
    let is_new = answer.change() == v1::add_track_response::Change::Inserted;
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(answer.into())))
}

/// What the fields of a track say.
fn announced(
    id: Option<String>,
    request_id: String,
    mut fields: BTreeMap<String, String>,
    kind: Kind,
) -> Result<Announced, Problem> {
    // Kept as an attribute it would be no protection for a client that counts on it.
    if fields.contains_key("request_id") {
        let text = "request_id is no field of a track; send it as the header X-Request-Id";
        return Err(Problem::new(Reason::ArgumentInvalid, text));
    }
    let told_id = fields.remove("track_id");
    if let (Some(id), Some(told)) = (&id, &told_id)
        && id != told
    {
        let text = format!("track_id is {told:?}, but the address says {id:?}; leave it out");
        return Err(Problem::new(Reason::ArgumentInvalid, text));
    }
    let track_id = id.or(told_id).unwrap_or_default();
    let mut take = |name: &str| fields.remove(name).unwrap_or_default();
    let (title, artist) = (take("title"), take("artist"));
    let (album, isrc) = (take("album"), take("isrc"));
    let attributes: HashMap<String, String> = fields.into_iter().collect();
    let metadata = Some(v1::Metadata { title, artist, album, isrc, attributes });
    let encoding = Encoding::from(kind).into();
    Ok(v1::AddTrackHeader { track_id, metadata, encoding, request_id }.try_into()?)
}

/// Lists tracks in ascending order of their ids, in pages
#[utoipa::path(get, path = "/v1/tracks", tag = "tracks", operation_id = "list_tracks", params(PageQuery),
    responses((status = 200, description = "A page of tracks", body = TrackPage)))]
pub(super) async fn list(
    State(api): State<Api>,
    page: Result<Query<PageQuery>, QueryRejection>,
) -> Result<Json<TrackPage>, Problem> {
    let Query(PageQuery { page_size, page_token }) = page?;
    if page_size == Some(0) {
        let text = "page_size is 0, it must be 1 to 1000";
        return Err(Problem::new(Reason::ArgumentInvalid, text));
    }
    let request = v1::ListTracksRequest {
        page_size: page_size.unwrap_or_default(),
        page_token: page_token.unwrap_or_default(),
    };
    Ok(Json(api.catalog.list_tracks(tonic::Request::new(request)).await?.into_inner().into()))
}

/// Reads one track
#[utoipa::path(get, path = "/v1/tracks/{track_id}", tag = "tracks", operation_id = "get_track", params(PathId),
    responses((status = 200, description = "The track", body = Track)))]
pub(super) async fn get(
    State(api): State<Api>,
    id: Result<Path<String>, PathRejection>,
    query: QueryFields,
) -> Result<Json<Track>, Problem> {
    fields::none(query)?;
    let Path(track_id) = id?;
    let request = tonic::Request::new(v1::GetTrackRequest { track_id });
    Ok(Json(only(api.catalog.get_track(request).await?.into_inner().track)?))
}

/// Removes one track; it never answers again once this has returned
#[utoipa::path(delete, path = "/v1/tracks/{track_id}", tag = "tracks", operation_id = "remove_track", params(PathId, ChangeHeader),
    responses((status = 200, description = "The track as it was", body = Track)))]
pub(super) async fn remove(
    State(api): State<Api>,
    id: Result<Path<String>, PathRejection>,
    query: QueryFields,
    headers: HeaderMap,
    extensions: Extensions,
) -> Result<Json<Track>, Problem> {
    fields::none(query)?;
    let Path(track_id) = id?;
    let request = v1::RemoveTrackRequest { track_id, request_id: request_id(&headers)? };
    let owner = access::owner(&extensions);
    Ok(Json(only(api.catalog.remove(&owner, request).await?.track)?))
}

/// Sizes and counts of the index
#[utoipa::path(get, path = "/v1/stats", tag = "tracks", operation_id = "get_stats",
    responses((status = 200, description = "The index as it is now", body = Stats)))]
pub(super) async fn stats(
    State(api): State<Api>,
    query: QueryFields,
) -> Result<Json<Stats>, Problem> {
    fields::none(query)?;
    let request = tonic::Request::new(v1::GetStatsRequest {});
    Ok(Json(api.catalog.get_stats(request).await?.into_inner().into()))
}

fn only(track: Option<v1::Track>) -> Result<Track, Status> {
    track.map(Track::from).ok_or_else(|| Reason::Internal.status("the service gave no track"))
}
