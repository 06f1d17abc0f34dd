//! `POST /v1/match`.

use axum::Json;
use axum::extract::{Request, State};
use axum::http::HeaderValue;
use axum::response::{IntoResponse, Response};
use earmark_proto::v1;

use super::fields::{self, QueryFields};
use super::model::MatchAnswer;
use super::options::{MatchQuery, NameHeader};
use super::problem::Problem;
use super::shapes::{Binary, ClipForm};
use super::{Api, REQUEST_ID, body};
use crate::client::Client;
use crate::convert;
use crate::work::{Manner, Terms};

/// Searches for the tracks that are in one clip
///
/// The body is the clip: an audio or video file of any codec that the server can decode, under any
/// media type; or a fingerprint (`application/vnd.earmark.fingerprint`); or a form with the clip as the file
/// `audio` (or `fingerprint`), whose other fields are the options, in any order; they are stronger than the same in
/// the address. "No match", "too short" and "silent" are answers.
#[utoipa::path(post, path = "/v1/match", tag = "match", operation_id = "match_clip",
    params(MatchQuery, NameHeader),
    request_body(description = "The clip", content(
        (inline(Binary) = "audio/*"), (inline(Binary) = "video/*"), (inline(Binary) = "application/octet-stream"),
        (inline(Binary) = "application/vnd.earmark.fingerprint"), (ClipForm = "multipart/form-data"))),
    responses((status = 200, description = "The search ended; `status` says how", body = MatchAnswer,
        headers(("X-Request-Id" = String, description = "The caller's name for the request, if it has one")))))]
pub(super) async fn match_clip(
    State(api): State<Api>,
    query: QueryFields,
    request: Request,
) -> Result<Response, Problem> {
    let mut fields = fields::of(query)?;
    // Before the clip is received in vain.
    MatchQuery::of(fields.clone())?;
    // Here it decides nothing: of two, or of one that is no text, no fuss is made.
    let header_id = request.headers().get(REQUEST_ID).and_then(|value| value.to_str().ok());
    let header_id = header_id.unwrap_or_default().to_owned();
    convert::check_request_id(&header_id)?;
    let terms =
        Terms { client: Client::of(request.extensions()), deadline: None, manner: Manner::Prompt };
    let (source, of_form) = body::clip(request, api.matcher.config.message_bytes_max).await?;
    fields.extend(of_form);
    let (options, told_id) = MatchQuery::of(fields)?.into_options();
    let request_id = if told_id.is_empty() { header_id } else { told_id };
    let request = v1::MatchRequest {
        audio: Some(v1::Audio { source: Some(source) }),
        options: Some(options),
        request_id: request_id.clone(),
    };
    let answer = api.matcher.answer(request, terms).await?;
    let mut response = Json(MatchAnswer::from(answer)).into_response();
    // An id that is no header value came in the address or the form.
    if let Ok(value) = HeaderValue::from_str(&request_id)
        && !request_id.is_empty()
    {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    Ok(response)
}
