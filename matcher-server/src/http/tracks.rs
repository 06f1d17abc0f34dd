//! `/v1/tracks` and `/v1/stats`.

use std::collections::{BTreeMap, HashMap};

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, Request, State};
use axum::http::StatusCode;
use earmark_proto::v1;
use earmark_proto::v1::add_track_header::Encoding;
use earmark_proto::v1::add_track_request::Part;
use earmark_proto::v1::catalog_service_server::CatalogService;
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use utoipa::IntoParams;

use super::Api;
use super::body::{self, Fields};
use super::model::{AddedTrack, Stats, Track, TrackPage};
use super::problem::Problem;
use crate::reason::Reason;

/// What the address says of a new track. Names other than these are kept as attributes.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(
    dead_code,
    reason = "it documents the address; the fields are read as a map, with all others"
)]
pub(crate) struct TrackQuery {
    /// The caller's id, 1 to 200 bytes; without one it follows from the audio.
    track_id: Option<String>,
    title: Option<String>,
    artist: Option<String>,
    album: Option<String>,
    isrc: Option<String>,
}

/// Which page to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct PageQuery {
    /// Most tracks in the answer, 1 to 1000; 100 if not given.
    page_size: Option<u32>,
    /// `next_page_token` of the page before.
    page_token: Option<String>,
}

/// Pieces of an upload that wait.
const PIECES_MAX: usize = 4;

type QueryFields = Result<Query<BTreeMap<String, String>>, QueryRejection>;

/// Adds a recording, or replaces it if its id exists with other audio
///
/// The body is the recording: a file, a fingerprint (application/vnd.earmark.fingerprint), or a form
/// whose last field is `audio` (or `fingerprint`), with the metadata in the fields before it. When the
/// answer arrives, the track is on disk and can be found.
#[utoipa::path(post, path = "/v1/tracks", tag = "tracks", params(TrackQuery),
    request_body(content((Vec<u8> = "audio/*"), (Vec<u8> = "application/octet-stream"))),
    responses(
        (status = 201, description = "It is new", body = AddedTrack),
        (status = 200, description = "It was there", body = AddedTrack),
        (status = "default", body = Problem, content_type = "application/problem+json")
    ))]
pub(super) async fn add(
    State(api): State<Api>,
    fields: QueryFields,
    request: Request,
) -> Result<(StatusCode, Json<AddedTrack>), Problem> {
    let Query(fields) = fields?;
    receive(&api, None, fields, request).await
}

/// Adds or replaces the recording of this id, as POST /v1/tracks does
#[utoipa::path(put, path = "/v1/tracks/{track_id}", tag = "tracks",
    params(("track_id" = String, Path), TrackQuery),
    request_body(content((Vec<u8> = "audio/*"), (Vec<u8> = "application/octet-stream"))),
    responses(
        (status = 201, description = "It is new", body = AddedTrack),
        (status = 200, description = "It was there", body = AddedTrack),
        (status = "default", body = Problem, content_type = "application/problem+json")
    ))]
pub(super) async fn put(
    State(api): State<Api>,
    id: Result<Path<String>, PathRejection>,
    fields: QueryFields,
    request: Request,
) -> Result<(StatusCode, Json<AddedTrack>), Problem> {
    let (Path(id), Query(fields)) = (id?, fields?);
    receive(&api, Some(id), fields, request).await
}

/// Receives a track; `id` is the one of the address.
async fn receive(
    api: &Api,
    id: Option<String>,
    mut fields: BTreeMap<String, String>,
    request: Request,
) -> Result<(StatusCode, Json<AddedTrack>), Problem> {
    let data = |piece: Bytes| v1::AddTrackRequest { part: Some(Part::Data(piece)) };
    let broken = |text: String| {
        Reason::ClientStalled.status(format!("the upload broke off ({text}); send it again"))
    };
    let answer = if body::is_form(request.headers()) {
        let mut form = body::form(request).await?;
        let (sender, messages) = mpsc::channel(PIECES_MAX);
        let send = async {
            // Dropped at the end, which is that of the upload. Nobody receives if the upload has failed.
            let sender = sender;
            let mut of_form = Fields::default();
            while let Some(mut field) = form.next_field().await? {
                let encoding = match field.name() {
                    Some("audio") => Encoding::Audio,
                    Some("fingerprint") => Encoding::Fingerprint,
                    _ => {
                        of_form.read(field).await?;
                        continue;
                    }
                };
                fields.extend(of_form.into_texts());
                let _ = sender.send(Ok(header(id, fields, encoding)?)).await;
                loop {
                    let piece = match field.chunk().await {
                        Ok(Some(piece)) => Ok(data(piece)),
                        Ok(None) => break,
                        Err(error) => Err(broken(error.body_text())),
                    };
                    let is_broken = piece.is_err();
                    if sender.send(piece).await.is_err() || is_broken {
                        return Ok(());
                    }
                }
                drop(field);
                // Before the track is added: what comes too late would be missing in it.
                if let Ok(Some(late)) = form.next_field().await {
                    let name = late.name().unwrap_or_default();
                    let text = format!("field {name} comes after the audio; send it before");
                    let _ = sender.send(Err(Reason::ArgumentInvalid.status(text))).await;
                }
                return Ok(());
            }
            let text = "the form has no field audio; send the recording in it, behind all others";
            Err(Problem::new(Reason::ArgumentInvalid, text))
        };
        let messages = std::pin::pin!(ReceiverStream::new(messages));
        let (sent, added) = tokio::join!(send, api.catalog.add_from(messages));
        sent?;
        added?
    } else {
        let is_fingerprint = body::is_fingerprint(request.headers());
        let encoding = if is_fingerprint { Encoding::Fingerprint } else { Encoding::Audio };
        let header = Ok(header(id, fields, encoding)?);
        let pieces = request.into_body().into_data_stream();
        let pieces = pieces.map(|piece| piece.map(data).map_err(|error| broken(error.to_string())));
        let messages = tokio_stream::once(header).chain(pieces);
        api.catalog.add_from(std::pin::pin!(messages)).await?
    };
    let is_new = answer.change() == v1::add_track_response::Change::Inserted;
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(answer.into())))
}

fn header(
    id: Option<String>,
    mut fields: BTreeMap<String, String>,
    encoding: Encoding,
) -> Result<v1::AddTrackRequest, Problem> {
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
    let header = v1::AddTrackHeader { track_id, metadata, encoding: encoding.into() };
    Ok(v1::AddTrackRequest { part: Some(Part::Header(header)) })
}

/// Lists tracks in ascending order of their ids, in pages
#[utoipa::path(get, path = "/v1/tracks", tag = "tracks", params(PageQuery),
    responses(
        (status = 200, body = TrackPage),
        (status = "default", body = Problem, content_type = "application/problem+json")
    ))]
pub(super) async fn list(
    State(api): State<Api>,
    page: Result<Query<PageQuery>, QueryRejection>,
) -> Result<Json<TrackPage>, Problem> {
    let Query(PageQuery { page_size, page_token }) = page?;
    let request = v1::ListTracksRequest {
        page_size: page_size.unwrap_or_default(),
        page_token: page_token.unwrap_or_default(),
    };
    Ok(Json(api.catalog.list_tracks(tonic::Request::new(request)).await?.into_inner().into()))
}

/// Reads one track
#[utoipa::path(get, path = "/v1/tracks/{track_id}", tag = "tracks",
    params(("track_id" = String, Path)),
    responses(
        (status = 200, body = Track),
        (status = "default", body = Problem, content_type = "application/problem+json")
    ))]
pub(super) async fn get(
    State(api): State<Api>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<Track>, Problem> {
    let Path(track_id) = id?;
    let request = tonic::Request::new(v1::GetTrackRequest { track_id });
    Ok(Json(only(api.catalog.get_track(request).await?.into_inner().track)?))
}

/// Removes one track; it never answers again once this has returned
#[utoipa::path(delete, path = "/v1/tracks/{track_id}", tag = "tracks",
    params(("track_id" = String, Path)),
    responses(
        (status = 200, body = Track),
        (status = "default", body = Problem, content_type = "application/problem+json")
    ))]
pub(super) async fn remove(
    State(api): State<Api>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<Track>, Problem> {
    let Path(track_id) = id?;
    let request = tonic::Request::new(v1::RemoveTrackRequest { track_id });
    Ok(Json(only(api.catalog.remove_track(request).await?.into_inner().track)?))
}

/// Sizes and counts of the index
#[utoipa::path(get, path = "/v1/stats", tag = "tracks",
    responses(
        (status = 200, body = Stats),
        (status = "default", body = Problem, content_type = "application/problem+json")
    ))]
pub(super) async fn stats(State(api): State<Api>) -> Result<Json<Stats>, Problem> {
    let request = tonic::Request::new(v1::GetStatsRequest {});
    Ok(Json(api.catalog.get_stats(request).await?.into_inner().into()))
}

fn only(track: Option<v1::Track>) -> Result<Track, Status> {
    track.map(Track::from).ok_or_else(|| Reason::Internal.status("the service gave no track"))
}
