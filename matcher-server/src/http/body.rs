//! Bodies of HTTP requests: the bytes of a clip or a track, bare or in a form.

use std::collections::BTreeMap;

use axum::body::Bytes;
use axum::extract::multipart::Field;
use axum::extract::{FromRequest, Multipart, Request};
use axum::http::{HeaderMap, header};
use earmark_proto::v1::audio::Source;

use super::problem::Problem;
use crate::convert::METADATA_BYTES_MAX;
use crate::reason::Reason;

/// Media type of a fingerprint.
pub(crate) const FINGERPRINT: &str = "application/vnd.earmark.fingerprint";
/// Largest fields of a form that are no audio, together with their names, in bytes: metadata may have as
/// much, and a little.
const FIELDS_BYTES_MAX: usize = METADATA_BYTES_MAX + 1024;

/// The fields of a form that are no audio.
#[derive(Debug, Default)]
pub(crate) struct Fields {
    texts: BTreeMap<String, String>,
    bytes: usize,
}

impl Fields {
    /// Reads a field.
    pub(crate) async fn read(&mut self, mut field: Field<'_>) -> Result<(), Problem> {
        let name = field.name().unwrap_or_default().to_owned();
        self.bytes += name.len();
        let mut bytes = Vec::new();
        while let Some(piece) = field.chunk().await? {
            self.bytes += piece.len();
            if self.bytes > FIELDS_BYTES_MAX {
                break;
            }
            bytes.extend_from_slice(&piece);
        }
        if self.bytes > FIELDS_BYTES_MAX {
            let text = format!(
                "the fields of the form beside the audio have more than {FIELDS_BYTES_MAX} bytes; shorten them"
            );
            return Err(Problem::new(Reason::ArgumentInvalid, text));
        }
        let text = String::from_utf8(bytes).map_err(|_| {
            Problem::new(Reason::ArgumentInvalid, format!("field {name} is not UTF-8"))
        })?;
        if self.texts.insert(name.clone(), text).is_some() {
            let text = format!("field {name} is there twice; send it once");
            return Err(Problem::new(Reason::ArgumentInvalid, text));
        }
        Ok(())
    }

    pub(crate) fn into_texts(self) -> BTreeMap<String, String> {
        self.texts
    }
}

/// True if the body is a form.
pub(crate) fn is_form(headers: &HeaderMap) -> bool {
    media_type(headers).starts_with("multipart/form-data")
}

/// True if the body is a fingerprint.
pub(crate) fn is_fingerprint(headers: &HeaderMap) -> bool {
    media_type(headers).starts_with(FINGERPRINT)
}

fn media_type(headers: &HeaderMap) -> &str {
    headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// Reads a clip: the whole body, or the field `audio` or `fingerprint` of a form, whose other fields
/// are returned.
pub(crate) async fn clip(request: Request) -> Result<(Source, BTreeMap<String, String>), Problem> {
    let headers = request.headers().clone();
    if !is_form(&headers) {
        let bytes = Bytes::from_request(request, &()).await.map_err(|rejection| {
            let is_large = rejection.status() == axum::http::StatusCode::PAYLOAD_TOO_LARGE;
            let reason = if is_large { Reason::TooLarge } else { Reason::ArgumentInvalid };
            Problem::new(
                reason,
                format!(
                    "{}; send a shorter clip, or raise message-max of the server",
                    rejection.body_text()
                ),
            )
        })?;
        if bytes.is_empty() {
            let text =
                "the body is empty; send the bytes of the clip, or a form with a field audio";
            return Err(Problem::new(Reason::ArgumentInvalid, text));
        }
        let is_fingerprint = is_fingerprint(&headers);
        let source =
            if is_fingerprint { Source::Fingerprint(bytes) } else { Source::Encoded(bytes) };
        return Ok((source, BTreeMap::new()));
    }
    let mut form = form(request).await?;
    let (mut source, mut fields) = (None, Fields::default());
    while let Some(field) = form.next_field().await? {
        match field.name() {
            Some("audio" | "fingerprint") if source.is_some() => {
                let text = "the form has two clips; send each in a request of its own";
                return Err(Problem::new(Reason::ArgumentInvalid, text));
            }
            Some("audio") => source = Some(Source::Encoded(field.bytes().await?)),
            Some("fingerprint") => source = Some(Source::Fingerprint(field.bytes().await?)),
            _ => fields.read(field).await?,
        }
    }
    let source = source.ok_or_else(|| {
        let text = "the form has no field audio; send the clip in it, as a file";
        Problem::new(Reason::ArgumentInvalid, text)
    })?;
    Ok((source, fields.into_texts()))
}

/// The form of a request.
pub(crate) async fn form(request: Request) -> Result<Multipart, Problem> {
    Multipart::from_request(request, &())
        .await
        .map_err(|rejection| Problem::new(Reason::ArgumentInvalid, rejection.body_text()))
}
