//! Forms (`multipart/form-data`): one file, and texts beside it, in any order.
//!
//! The parser keeps whatever comes before it finds a field's boundary, and looks through all of it again
//! with each piece. [`Paced`] gives it one piece at a time, and an end where nothing comes of them.

use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use axum::Error;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::multipart::{Field, MultipartError};
use axum::extract::{FromRequest, Multipart, Request};
use http_body::{Frame, SizeHint};

use super::body::Kind;
use super::fields;
use super::problem::Problem;
use crate::convert::METADATA_BYTES_MAX;
use crate::reason::Reason;

/// Largest fields of a form that are no file, together with their names, in bytes: metadata may have as
/// much, and a little.
const TEXTS_BYTES_MAX: usize = METADATA_BYTES_MAX + 1024;
/// When so many bytes have come without a field beginning, or a piece of one, no more are taken.
const HELD_BYTES_MAX: usize = 1 << 20;
/// In the place of a number of bytes: they were too many.
const TOO_MANY: usize = usize::MAX;

/// A form that is being received.
#[derive(Debug)]
pub(super) struct Form {
    parser: Multipart,
    held: Arc<AtomicUsize>,
    has_file: bool,
    texts: BTreeMap<String, String>,
    texts_bytes: usize,
}

/// What comes next in a form.
#[derive(Debug)]
pub(super) enum Next<'a> {
    /// The file, whose pieces must be taken before the form is asked again.
    File(Box<File<'a>>),
    /// A text, which the form keeps.
    Text,
    /// Nothing.
    End,
}

/// The file of a form.
#[derive(Debug)]
pub(super) struct File<'a> {
    pub(super) kind: Kind,
    field: Field<'a>,
    held: &'a AtomicUsize,
}

impl Form {
    /// The form of a request.
    pub(super) async fn of(request: Request) -> Result<Self, Problem> {
        let held = Arc::new(AtomicUsize::new(0));
        let paced = |body| Paced { body, held: Arc::clone(&held), has_given: false };
        let parser = Multipart::from_request(request.map(|body| Body::new(paced(body))), &())
            .await
            .map_err(|rejection| Problem::new(Reason::ArgumentInvalid, rejection.body_text()))?;
        Ok(Self { parser, held, has_file: false, texts: BTreeMap::new(), texts_bytes: 0 })
    }

    /// Reads on to the next field, and through it if it is a text.
    pub(super) async fn next(&mut self) -> Result<Next<'_>, Problem> {
        let Self { parser, held, has_file, texts, texts_bytes } = self;
        let Some(mut field) = came(parser.next_field().await, held)? else {
            let text = "the form has no field audio; send the recording in it, as a file";
            let lacks = Problem::new(Reason::ArgumentInvalid, text);
            return has_file.then_some(Next::End).ok_or(lacks);
        };
        let name = field.name().unwrap_or_default().to_owned();
        if let Some(kind) = Kind::of_field(&name) {
            if std::mem::replace(has_file, true) {
                let text = "the form has two recordings; send each in a request of its own";
                return Err(Problem::new(Reason::ArgumentInvalid, text));
            }
            return Ok(Next::File(Box::new(File { kind, field, held })));
        }
        // Forms of browsers have an empty name where no file was chosen.
        if field.file_name().is_some_and(|name| !name.is_empty()) {
            let text = format!(
                "the form has a file in field {name:?}; send a recording as field audio, a fingerprint as field fingerprint"
            );
            return Err(Problem::new(Reason::ArgumentInvalid, text));
        }
        let mut bytes = Vec::new();
        *texts_bytes += name.len();
        while let Some(piece) = came(field.chunk().await, held)? {
            *texts_bytes += piece.len();
            if *texts_bytes > TEXTS_BYTES_MAX {
                break;
            }
            bytes.extend_from_slice(&piece);
        }
        if *texts_bytes > TEXTS_BYTES_MAX {
            let text = format!(
                "the fields of the form beside the audio have more than {TEXTS_BYTES_MAX} bytes; shorten them"
            );
            return Err(Problem::new(Reason::ArgumentInvalid, text));
        }
        let text = String::from_utf8(bytes).map_err(|_| {
            Problem::new(Reason::ArgumentInvalid, format!("field {name} is not UTF-8"))
        })?;
        fields::take(texts, name, text)?;
        Ok(Next::Text)
    }

    /// The fields that are no file; all of them at [`Next::End`].
    pub(super) fn into_texts(self) -> BTreeMap<String, String> {
        self.texts
    }
}

impl File<'_> {
    /// The next piece; `None` at the end.
    pub(super) async fn piece(&mut self) -> Result<Option<Bytes>, Problem> {
        came(self.field.chunk().await, self.held)
    }
}

/// Notes that the form came to something, or says why it did not.
fn came<T>(
    something: Result<Option<T>, MultipartError>,
    held: &AtomicUsize,
) -> Result<Option<T>, Problem> {
    // The parser keeps the error of the body to itself.
    if held.swap(0, Ordering::Relaxed) == TOO_MANY {
        let text = format!(
            "the form has more than {HELD_BYTES_MAX} bytes without a field; its boundary must be the one of content-type, and heads of fields short"
        );
        return Err(Problem::new(Reason::ArgumentInvalid, text));
    }
    Ok(something?)
}

/// A body that gives one frame each time it is asked, and fails once too much was given for nothing.
#[derive(Debug)]
struct Paced {
    body: Body,
    /// Bytes that were given since the form last came to something.
    held: Arc<AtomicUsize>,
    /// The last answer was a frame.
    has_given: bool,
}

impl HttpBody for Paced {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if std::mem::take(&mut self.has_given) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let held = self.held.load(Ordering::Relaxed);
        if held > HELD_BYTES_MAX {
            self.held.store(TOO_MANY, Ordering::Relaxed);
            let error = io::Error::other("too much came for nothing");
            return Poll::Ready(Some(Err(Error::new(error))));
        }
        let frame = std::task::ready!(Pin::new(&mut self.body).poll_frame(context));
        if let Some(Ok(frame)) = &frame {
            self.has_given = true;
            let len = frame.data_ref().map_or(0, Bytes::len);
            self.held.store(held.saturating_add(len), Ordering::Relaxed);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
