//! Audio on its way to the server: tracks in pieces, clips as a whole.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::pin::pin;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use earmark_proto::v1;
use earmark_proto::v1::AddTrackRequest as Message;
use fingerprint_core::units::TrackId;
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

use super::link::{Link, new_request_id, request_within};
use super::patience::{Patience, reason};
use super::{AddError, Audio, Recording, Stored, convert};

/// Reason of a server that cannot store any more.
const DISK_FULL: &str = "STORAGE_FULL";
/// Bytes of one piece of a track.
const PIECE_BYTES: usize = 256 << 10;
/// Pieces read ahead of the network.
const PIECES_AHEAD: usize = 4;
/// Largest file sent to be matched: it travels as one message.
const CLIP_BYTES_MAX: u64 = 256 << 20;

impl Link {
    /// Adds a track.
    ///
    /// # Errors
    ///
    /// [`AddError`] says whether this track or the catalog is at fault.
    pub(super) async fn add(&self, track: &Recording) -> Result<Stored, AddError> {
        // The same at each try: a repeat is answered as the first was.
        let request_id = new_request_id().map_err(AddError::Catalog)?;
        let mut patience = Patience::of(self.timeout());
        loop {
            let status = match self.upload(track, &request_id, patience.left()).await? {
                Ok(response) => return convert::stored(response).map_err(AddError::Track),
                Err(status) => status,
            };
            if patience.lasts(&status).await {
                continue;
            }
            let error = self.explain_last(&status, &patience);
            // Only what would meet every other track as well ends a job.
            return Err(match status.code() {
                Code::Unavailable
                | Code::Unimplemented
                | Code::FailedPrecondition
                | Code::Unauthenticated
                | Code::PermissionDenied => AddError::Catalog(error),
                // Also the code for one track that is too large.
                Code::ResourceExhausted if reason(&status).as_deref() == Some(DISK_FULL) => {
                    AddError::Catalog(error)
                }
                _ => AddError::Track(error),
            });
        }
    }

    /// One attempt, within what is left of the time of all: the header, then the bytes, read while they are sent.
    async fn upload(
        &self,
        track: &Recording,
        request_id: &str,
        left: Duration,
    ) -> Result<Result<v1::AddTrackResponse, Status>, AddError> {
        let encoding = match &track.audio {
            Audio::Fingerprint(_) => v1::add_track_header::Encoding::Fingerprint,
            Audio::File(_) | Audio::Bytes(_) => v1::add_track_header::Encoding::Audio,
        };
        let header = v1::AddTrackHeader {
            track_id: track.id.as_ref().map(TrackId::to_string).unwrap_or_default(),
            metadata: Some(convert::metadata(&track.metadata)),
            encoding: encoding.into(),
            request_id: request_id.to_owned(),
        };
        let (pieces, receiver) = mpsc::channel(PIECES_AHEAD);
        let header = Message { part: Some(v1::add_track_request::Part::Header(header)) };
        // The end of the stream means that this was all, so it must be said: a sender that is gone
        // leaves the stream open, and dropping the call then cancels it.
        let pieces_to_end = ReceiverStream::new(receiver)
            .chain(tokio_stream::pending())
            .take_while(Option::is_some)
            .filter_map(std::convert::identity);
        let messages = tokio_stream::once(header).chain(pieces_to_end);
        let mut client = self.catalog();
        let mut call = pin!(client.add_track(request_within(left, messages)));
        tokio::select! {
            // The server may refuse before it has heard all.
            answer = &mut call => return Ok(answer.map(tonic::Response::into_inner)),
            // The half of a file that could not be read to its end must not be stored.
            sent = self.send(&track.audio, &pieces) => sent.map_err(AddError::Track)?,
        }
        Ok(call.await.map(tonic::Response::into_inner))
    }

    /// Sends the audio in pieces and then `None`. Ends early, without an error, if the server hangs
    /// up: its answer says why.
    async fn send(&self, audio: &Audio, pieces: &mpsc::Sender<Option<Message>>) -> Result<()> {
        let message = |bytes| Message { part: Some(v1::add_track_request::Part::Data(bytes)) };
        let mut whole = match audio {
            Audio::Fingerprint(fingerprint) => Bytes::from(fingerprint.to_bytes(&self.params)),
            Audio::Bytes(bytes) => bytes.clone(),
            Audio::File(path) => {
                let context = || format!("{}: could not be read", path.display());
                let mut file = tokio::fs::File::open(path).await.with_context(context)?;
                loop {
                    let mut piece = Vec::with_capacity(PIECE_BYTES);
                    let mut part = AsyncReadExt::take(&mut file, PIECE_BYTES as u64);
                    part.read_to_end(&mut piece).await.with_context(context)?;
                    if piece.is_empty() {
                        break Bytes::new();
                    }
                    if pieces.send(Some(message(piece.into()))).await.is_err() {
                        return Ok(());
                    }
                }
            }
        };
        while !whole.is_empty() {
            let piece = whole.split_to(PIECE_BYTES.min(whole.len()));
            if pieces.send(Some(message(piece))).await.is_err() {
                return Ok(());
            }
        }
        // Nobody listens only if the call has its answer already.
        let _ = pieces.send(None).await;
        Ok(())
    }
}

/// Reads a clip that is to be matched.
///
/// # Errors
///
/// If it cannot be read or is too large.
pub(super) fn read_whole(path: &Path) -> Result<Bytes> {
    let file =
        File::open(path).with_context(|| format!("{}: could not be read", path.display()))?;
    read_limited(file, &path.display().to_string())
}

/// Reads a clip from a stream; `name` is for the error message.
///
/// # Errors
///
/// If it cannot be read or is too large.
pub(crate) fn read_limited(input: impl Read, name: &str) -> Result<Bytes> {
    let mut bytes = Vec::new();
    input
        .take(CLIP_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .with_context(|| format!("{name}: could not be read"))?;
    if bytes.len() as u64 > CLIP_BYTES_MAX {
        bail!(
            "{name}: larger than {} MiB, which is too much for one message; leave out --send-audio",
            CLIP_BYTES_MAX >> 20
        );
    }
    Ok(bytes.into())
}

#[cfg(test)]
mod tests;
