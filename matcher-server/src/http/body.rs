//! Bodies of HTTP requests: the bytes of a clip or a track, bare or in a form.

use std::collections::BTreeMap;

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, StatusCode, header};
use earmark_proto::v1::add_track_header::Encoding;
use earmark_proto::v1::audio::Source;
use tokio_stream::StreamExt;

use super::form::{Form, Next};
use super::problem::Problem;
use crate::reason::Reason;
use crate::upload::{Limits, Spool};

/// Media type of a fingerprint.
pub(super) const FINGERPRINT: &str = "application/vnd.earmark.fingerprint";

/// What the bytes of a recording are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// An audio or video file.
    Audio,
    /// A fingerprint.
    Fingerprint,
}

impl Kind {
    /// What a field of this name has in it, unless it is a text.
    pub(super) fn of_field(name: &str) -> Option<Self> {
        match name {
            "audio" => Some(Self::Audio),
            "fingerprint" => Some(Self::Fingerprint),
            _ => None,
        }
    }

    /// What a bare body is. Whatever is not said to be a fingerprint is looked at as audio.
    fn of_body(headers: &HeaderMap) -> Self {
        if media_type(headers).starts_with(FINGERPRINT) { Self::Fingerprint } else { Self::Audio }
    }

    fn source(self, bytes: Bytes) -> Source {
        match self {
            Self::Audio => Source::Encoded(bytes),
            Self::Fingerprint => Source::Fingerprint(bytes),
        }
    }
}

impl From<Kind> for Encoding {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Audio => Self::Audio,
            Kind::Fingerprint => Self::Fingerprint,
        }
    }
}

fn is_form(headers: &HeaderMap) -> bool {
    media_type(headers).starts_with("multipart/form-data")
}

/// The media type in small letters, as case does not count in it.
fn media_type(headers: &HeaderMap) -> String {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    value.unwrap_or_default().to_ascii_lowercase()
}

/// Reads a clip of at most `bytes_max` bytes, which the route sees to: the whole body, or the file of a form, whose
/// other fields are returned.
pub(super) async fn clip(
    request: Request,
    bytes_max: usize,
) -> Result<(Source, BTreeMap<String, String>), Problem> {
    let headers = request.headers().clone();
    let (source, texts) = if is_form(&headers) {
        let (mut form, mut clip) = (Form::of(request).await?, None);
        loop {
            match form.next().await? {
                Next::File(mut file) => {
                    let mut bytes = Vec::new();
                    while let Some(piece) = file.piece().await? {
                        bytes.extend_from_slice(&piece);
                    }
                    clip = Some((file.kind, bytes));
                }
                Next::Text => {}
                Next::End => break,
            }
        }
        let (kind, bytes) = clip.unwrap_or((Kind::Audio, Vec::new()));
        (kind.source(bytes.into()), form.into_texts())
    } else {
        let bytes = Bytes::from_request(request, &()).await.map_err(|rejection| {
            if let Some(problem) = Problem::of_body(&rejection) {
                return problem;
            }
            if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
                let text = format!(
                    "the clip is larger than the limit of {bytes_max} bytes; send a shorter one or its fingerprint, or raise message-max of the server"
                );
                return Problem::new(Reason::TooLarge, text);
            }
            let text = format!("the body cannot be read: {}", rejection.body_text());
            Problem::new(Reason::ArgumentInvalid, text)
        })?;
        (Kind::of_body(&headers).source(bytes), BTreeMap::new())
    };
    let (Source::Encoded(bytes) | Source::Fingerprint(bytes)) = &source;
    if bytes.is_empty() {
        let text = "the clip is empty; send its bytes as the body, or as field audio of a form";
        return Err(Problem::new(Reason::ArgumentInvalid, text));
    }
    Ok((source, texts))
}

/// Receives a recording into `spool`: the whole body, or the file of a form, whose other fields are
/// returned.
pub(super) async fn recording(
    request: Request,
    limits: Limits,
) -> Result<(Kind, Spool, BTreeMap<String, String>), Problem> {
    let mut spool = Spool::new(limits.bytes_max);
    let mut kind = Kind::of_body(request.headers());
    let mut texts = BTreeMap::new();
    if is_form(request.headers()) {
        let mut form = Form::of(request).await?;
        loop {
            match limits.wait(form.next()).await?? {
                Next::File(mut file) => {
                    kind = file.kind;
                    while let Some(piece) = limits.wait(file.piece()).await?? {
                        spool.take(piece).await?;
                    }
                }
                Next::Text => {}
                Next::End => break,
            }
        }
        texts = form.into_texts();
    } else {
        let mut pieces = request.into_body().into_data_stream();
        while let Some(piece) = limits.wait(pieces.next()).await? {
            let piece = piece.map_err(|error| {
                Problem::of_body(&error).unwrap_or_else(|| {
                    let text = "the body cannot be read: its chunks are malformed";
                    Problem::new(Reason::ArgumentInvalid, text)
                })
            })?;
            spool.take(piece).await?;
        }
    }
    spool.finish().await?;
    Ok((kind, spool, texts))
}
