//! `POST /v1/match`.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, Request, State};
use axum::http::HeaderValue;
use axum::response::{IntoResponse, Response};
use earmark_proto::v1;

use super::Api;
use super::REQUEST_ID;
use super::body;
use super::model::{MatchAnswer, MatchQuery};
use super::problem::Problem;
use crate::reason::Reason;
use crate::work::Manner;

/// Searches for the tracks that are in one clip
///
/// The body is the clip: an audio or video file of any codec that the server can decode, or a
/// fingerprint (application/vnd.earmark.fingerprint), or a form with a field `audio` (or `fingerprint`)
/// and, if you like, the options as further fields. "No match", "too short" and "silent" are answers.
/// The header X-Request-Id may stand in for request_id.
#[utoipa::path(post, path = "/v1/match", tag = "match", params(MatchQuery),
    request_body(content((Vec<u8> = "audio/*"), (Vec<u8> = "application/octet-stream"))),
    responses(
        (status = 200, body = MatchAnswer),
        (status = "default", body = Problem, content_type = "application/problem+json")
    ))]
pub(super) async fn match_clip(
    State(api): State<Api>,
    query: Result<Query<MatchQuery>, QueryRejection>,
    request: Request,
) -> Result<Response, Problem> {
    let Query(query) = query?;
    let header_id =
        request.headers().get(REQUEST_ID).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let (source, fields) = body::clip(request).await?;
    let mut query = if fields.is_empty() { query } else { of_form(fields)? };
    query.request_id = query.request_id.or(header_id);
    let (options, request_id) = query.into_options();
    let request = v1::MatchRequest {
        audio: Some(v1::Audio { source: Some(source) }),
        options: Some(options),
        request_id: request_id.clone(),
    };
    let answer = api.matcher.answer(request, None, Manner::Prompt).await?;
    let mut response = Json(MatchAnswer::from(answer)).into_response();
    // An id that is no header value came in the address or the form.
    if let Ok(value) = HeaderValue::from_str(&request_id)
        && !request_id.is_empty()
    {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    Ok(response)
}

/// The options of a form, which are read as those of an address.
fn of_form(fields: BTreeMap<String, String>) -> Result<MatchQuery, Problem> {
    let refused =
        |error: serde_json::Error| Problem::new(Reason::ArgumentInvalid, format!("field {error}"));
    // Numbers as numbers, everything else as text.
    let value = |name: &str, text: String| {
        let is_text = matches!(name, "request_id" | "speed_search");
        match serde_json::from_str::<serde_json::Number>(&text) {
            Ok(number) if !is_text => serde_json::Value::Number(number),
            _ => serde_json::Value::String(text),
        }
    };
    let fields: serde_json::Map<String, serde_json::Value> =
        fields.into_iter().map(|(name, text)| (name.clone(), value(&name, text))).collect();
    serde_json::from_value(fields.into()).map_err(refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_a_form_are_options_or_refused_by_name() {
        let of = |pairs: &[(&str, &str)]| {
            of_form(pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect())
        };
        let query =
            of(&[("max_matches", "3"), ("min_confidence", "0.5"), ("request_id", "7")]).unwrap();
        assert_eq!((query.max_matches, query.min_confidence), (Some(3), Some(0.5)));
        assert_eq!(query.request_id.as_deref(), Some("7"));
        for (name, text) in [("max_matches", "many"), ("speed_search", "x"), ("nothing", "1")] {
            let problem = of(&[(name, text)]).unwrap_err();
            assert!(format!("{problem:?}").contains("field "), "{problem:?}");
        }
    }
}
