//! Errors over HTTP: RFC 9457 problems, with the reason and the text that gRPC has.

use std::error::Error;
use std::iter;

use axum::Json;
use axum::extract::multipart::MultipartError;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tonic::Status;
use tonic_types::StatusExt;
use utoipa::ToSchema;

use crate::reason::Reason;

/// How keys are shown (RFC 6750).
const BEARER: HeaderValue = HeaderValue::from_static("Bearer");
const MEDIA_TYPE: HeaderValue = HeaderValue::from_static(PROBLEM);
/// Media type of problems.
pub(super) const PROBLEM: &str = "application/problem+json";

/// What went wrong, and what to do about it.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Problem {
    /// Always `about:blank`: see `reason`.
    #[schema(example = "about:blank")]
    r#type: &'static str,
    /// The HTTP status in words.
    #[schema(example = "Unprocessable Entity")]
    title: &'static str,
    /// The HTTP status.
    #[schema(minimum = 400, maximum = 599, example = 422)]
    status: u16,
    /// What went wrong in this case, and the way out.
    #[schema(example = "the clip: not an audio or video file that is known here: it is a text")]
    detail: String,
    /// The same for programs, as `google.rpc.ErrorInfo.reason` over gRPC. The responses of each call name
    /// those that there are; there may be more in later releases.
    #[schema(example = "AUDIO_UNDECODABLE")]
    reason: &'static str,
    /// For those that count errors.
    #[serde(skip)]
    why: Reason,
    #[serde(skip)]
    retry_after_s: Option<u64>,
}

impl Problem {
    pub(crate) fn new(reason: Reason, detail: impl Into<String>) -> Self {
        let status = reason.http_status();
        let title = StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
        Self {
            r#type: "about:blank",
            title: title.unwrap_or("Error"),
            status,
            detail: detail.into(),
            reason: reason.name(),
            why: reason,
            retry_after_s: reason.retry_after().map(|pause| pause.as_secs()),
        }
    }

    /// The same under a status of HTTP that says more than the reason's.
    pub(crate) fn with_status(self, status: StatusCode) -> Self {
        let title = status.canonical_reason().unwrap_or("Error");
        Self { status: status.as_u16(), title, ..self }
    }

    /// What a body that failed says of it, whoever has wrapped its error since.
    pub(super) fn of_body(error: &(dyn Error + 'static)) -> Option<Self> {
        let mut errors = iter::successors(Some(error), |error| (*error).source());
        errors.find_map(|error| error.downcast_ref::<Status>()).cloned().map(Self::from)
    }
}

impl From<Status> for Problem {
    fn from(status: Status) -> Self {
        let pause = status.get_error_details().retry_info().and_then(|info| info.retry_delay);
        // Whole seconds are all that the header can say.
        let retry_after_s =
            pause.map(|pause| pause.as_secs() + u64::from(pause.subsec_nanos() > 0));
        let problem = Self::new(Reason::of(&status), status.message());
        Self { retry_after_s: retry_after_s.or(problem.retry_after_s), ..problem }
    }
}

impl From<QueryRejection> for Problem {
    fn from(rejection: QueryRejection) -> Self {
        Self::new(Reason::ArgumentInvalid, rejection.body_text())
    }
}

impl From<PathRejection> for Problem {
    fn from(rejection: PathRejection) -> Self {
        Self::new(Reason::ArgumentInvalid, rejection.body_text())
    }
}

impl From<MultipartError> for Problem {
    fn from(error: MultipartError) -> Self {
        if let Some(problem) = Self::of_body(&error) {
            return problem;
        }
        let is_large = error.status() == StatusCode::PAYLOAD_TOO_LARGE;
        let reason = if is_large { Reason::TooLarge } else { Reason::ArgumentInvalid };
        let way_out =
            if is_large { "; send a shorter clip, or raise message-max of the server" } else { "" };
        Self::new(reason, format!("the form cannot be read: {}{way_out}", error.body_text()))
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let (why, retry_after_s) = (self.why, self.retry_after_s);
        let mut response = (status, Json(self)).into_response();
        response.headers_mut().insert(header::CONTENT_TYPE, MEDIA_TYPE);
        response.extensions_mut().insert(why);
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, BEARER);
        }
        if let Some(seconds) = retry_after_s {
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}
