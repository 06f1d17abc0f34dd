//! `CatalogService`: checks the request, has the core decode and store, encodes the answer.

use std::sync::Arc;

use earmark_proto::v1;
use earmark_proto::v1::add_track_header::Encoding;
use fingerprint_core::fingerprint::Fingerprint;
use fingerprint_core::index::{Added, Index, IndexError, Metadata, NewTrack, TrackRecord};
use fingerprint_core::params::{Params, Role};
use fingerprint_core::units::TrackId;
use prost::Message;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::{Request, Response, Status, Streaming};

use crate::access;
use crate::analysis::{decode_options, fingerprint_audio};
use crate::config::Config;
use crate::convert;
use crate::metrics::{Metrics, Refusal};
use crate::reason::Reason;
use crate::repeats::{self, Repeats, Turn};
use crate::status;
use crate::upload::{Announced, Limits, Upload};
use crate::work::{Cancel, Work};

/// A page ends when its tracks have this many bytes together, so that it stays below the 4 MiB
/// that clients accept by default; its token says that there are more.
const PAGE_BYTES_MAX: usize = 2 << 20;

/// Keeps the catalog.
#[derive(Debug, Clone)]
pub(crate) struct Catalog {
    index: Arc<dyn Index>,
    params: Params,
    config: Arc<Config>,
    work: Work,
    /// One permit for each upload that is being received.
    open_uploads: Arc<Semaphore>,
    /// What was answered to changes that their clients have named.
    repeats: Repeats,
}

/// A place among the uploads that are being received.
#[derive(Debug)]
pub(crate) struct Place {
    /// What may be received in it.
    pub(crate) limits: Limits,
    open: OwnedSemaphorePermit,
}

impl Catalog {
    pub(crate) fn new(
        index: Arc<dyn Index>,
        params: Params,
        config: Arc<Config>,
        work: Work,
    ) -> Self {
        let open_uploads = Arc::new(Semaphore::new(config.uploads_open_max));
        Self { index, params, config, work, open_uploads, repeats: Repeats::default() }
    }

    /// Runs a short read or write of the index.
    async fn look_up<T, F>(&self, job: F) -> Result<T, Status>
    where
        T: Send + 'static,
        F: FnOnce(&dyn Index) -> Result<T, IndexError> + Send + 'static,
    {
        let index = Arc::clone(&self.index);
        self.work.lookups.run(move |_| job(&*index).map_err(status::from_index)).await
    }

    /// A place for an upload that is to be received; refused before anything is received in vain.
    pub(crate) fn begin_upload(&self) -> Result<Place, Status> {
        if self.config.follow.is_some() {
            return Err(status::read_only());
        }
        let open = Arc::clone(&self.open_uploads).try_acquire_owned().map_err(|_| {
            self.work.metrics.refused(Refusal::UploadsOpen);
            Reason::ServerBusy.status("server is busy with other uploads; try again in a moment")
        })?;
        let limits = Limits {
            bytes_max: self.config.upload_bytes_max,
            pause_max: self.config.upload_pause_max,
        };
        Ok(Place { limits, open })
    }

    /// Adds a track that was received in its place; `owner` is whose names of requests are meant.
    pub(crate) async fn add_upload(
        &self,
        owner: &str,
        place: Place,
        upload: Upload,
    ) -> Result<v1::AddTrackResponse, Status> {
        let request_id = upload.announced.request_id.clone();
        let claim = match self.repeats.turn(owner, &request_id, || added_digest(&upload)).await? {
            Turn::First(claim) => claim,
            Turn::Repeat(answer) => return Ok(answer),
        };
        let (index, config, params) =
            (Arc::clone(&self.index), Arc::clone(&self.config), self.params);
        let metrics = self.work.metrics.clone();
        let job = self.work.uploads.run(move |cancel| {
            // The spooled bytes count as an open upload until they are gone.
            let _open = place.open;
            let fingerprint = Self::analyse(&upload, &config, &params, cancel, &metrics)?;
            let Upload { announced: Announced { track_id, metadata, .. }, spool } = upload;
            drop(spool);
            let id = track_id.unwrap_or_else(|| TrackId::from_content(&fingerprint.content_hash));
            // The last chance to change nothing for a client that has gone.
            cancel.check()?;
            let added = index.add(&[NewTrack { id, metadata, fingerprint }]);
            let added = added.map_err(status::from_index)?.pop();
            let Added { change, duplicate_of, record } =
                added.expect("an index says of each track what adding it did");
            tracing::info!(
                track_id = %record.id,
                request_id,
                ?change,
                duration_s = record.duration_s,
                posting_count = record.posting_count,
                "track added"
            );
            let answer = v1::AddTrackResponse {
                track: Some(convert::track_message(record)),
                change: convert::change_message(change).into(),
                duplicate_of: duplicate_of.into_iter().map(String::from).collect(),
            };
            claim.answered(&answer);
            Ok(answer)
        });
        job.await
    }

    /// Removes a track; `owner` is whose names of requests are meant.
    pub(crate) async fn remove(
        &self,
        owner: &str,
        request: v1::RemoveTrackRequest,
    ) -> Result<v1::RemoveTrackResponse, Status> {
        let v1::RemoveTrackRequest { track_id, request_id } = request;
        convert::check_request_id(&request_id)?;
        let id = convert::track_id(track_id)?;
        let digest = || repeats::digest("RemoveTrack", [id.as_str().as_bytes()]);
        let claim = match self.repeats.turn(owner, &request_id, digest).await? {
            Turn::First(claim) => claim,
            Turn::Repeat(answer) => return Ok(answer),
        };
        self.look_up(move |index| {
            let Some(record) = index.remove(&id)? else { return Ok(Err(not_found(&id))) };
            tracing::info!(track_id = %id, request_id, "track removed");
            let track = Some(convert::track_message(record));
            let answer = v1::RemoveTrackResponse { track };
            claim.answered(&answer);
            Ok(Ok(answer))
        })
        .await?
    }

    /// The fingerprint of an upload; on a worker.
    fn analyse(
        upload: &Upload,
        config: &Config,
        params: &Params,
        cancel: &Cancel,
        metrics: &Metrics,
    ) -> Result<Fingerprint, Status> {
        let duration_max = config.track_duration_max;
        match upload.announced.encoding {
            Encoding::Unspecified | Encoding::Audio => {
                let options = decode_options(config, duration_max, config.upload_bytes_max);
                fingerprint_audio(
                    upload.spool.input(),
                    "the upload",
                    &options,
                    params,
                    Role::Track,
                    cancel,
                    metrics,
                )
            }
            Encoding::Fingerprint => {
                let bytes = upload.spool.read(config.message_bytes_max)?;
                convert::fingerprint(&bytes, duration_max.as_secs_f64(), params)
            }
        }
    }
}

fn not_found(id: &TrackId) -> Status {
    Reason::TrackNotFound
        .status(format!("there is no track {id}; list the tracks for those there are"))
}

/// What tells one AddTrack from another.
fn added_digest(Upload { announced, spool }: &Upload) -> blake3::Hash {
    let is_fingerprint = announced.encoding == Encoding::Fingerprint;
    let encoding: &[u8] = if is_fingerprint { b"fingerprint" } else { b"audio" };
    let Metadata { title, artist, album, isrc, attributes } = &announced.metadata;
    let texts = [title, artist, album, isrc].map(|text| text.as_deref().unwrap_or_default());
    let texts = [announced.track_id.as_ref().map_or("", TrackId::as_str)].into_iter().chain(texts);
    // Sorted, as a map of a message is not.
    let attributes = attributes.iter().flat_map(|(name, value)| [name.as_str(), value.as_str()]);
    let audio = spool.digest();
    let parts = [encoding, audio.as_bytes()].into_iter();
    repeats::digest("AddTrack", parts.chain(texts.chain(attributes).map(str::as_bytes)))
}

#[tonic::async_trait]
impl v1::catalog_service_server::CatalogService for Catalog {
    async fn add_track(
        &self,
        request: Request<Streaming<v1::AddTrackRequest>>,
    ) -> Result<Response<v1::AddTrackResponse>, Status> {
        let owner = access::owner(request.extensions());
        let place = self.begin_upload()?;
        let upload = Upload::receive(request.into_inner(), place.limits).await?;
        self.add_upload(&owner, place, upload).await.map(Response::new)
    }

    async fn get_track(
        &self,
        request: Request<v1::GetTrackRequest>,
    ) -> Result<Response<v1::GetTrackResponse>, Status> {
        let id = convert::track_id(request.into_inner().track_id)?;
        let wanted = id.clone();
        let record = self.look_up(move |index| index.track(&wanted)).await?;
        let record = record.ok_or_else(|| not_found(&id))?;
        let track = Some(convert::track_message(record));
        Ok(Response::new(v1::GetTrackResponse { track }))
    }

    async fn list_tracks(
        &self,
        request: Request<v1::ListTracksRequest>,
    ) -> Result<Response<v1::ListTracksResponse>, Status> {
        let v1::ListTracksRequest { page_size, page_token } = request.into_inner();
        let len = convert::page_len(page_size)?;
        let after = convert::page_after(&page_token)?;
        // One more than asked for tells whether there is another page.
        let records = self.look_up(move |index| index.tracks(after.as_ref(), len + 1)).await?;
        Ok(Response::new(fill_page(records, len, PAGE_BYTES_MAX)))
    }

    async fn remove_track(
        &self,
        request: Request<v1::RemoveTrackRequest>,
    ) -> Result<Response<v1::RemoveTrackResponse>, Status> {
        let owner = access::owner(request.extensions());
        self.remove(&owner, request.into_inner()).await.map(Response::new)
    }

    async fn get_stats(
        &self,
        _request: Request<v1::GetStatsRequest>,
    ) -> Result<Response<v1::GetStatsResponse>, Status> {
        let stats = self.look_up(|index| index.stats()).await?;
        Ok(Response::new(convert::stats_message(stats)))
    }
}

/// The first `len` of `records`, or as many as fit into `bytes_max` bytes, but at least one.
fn fill_page(records: Vec<TrackRecord>, len: usize, bytes_max: usize) -> v1::ListTracksResponse {
    let record_count = records.len();
    let mut page = v1::ListTracksResponse::default();
    let (mut bytes, mut last) = (0, None);
    for record in records.into_iter().take(len) {
        let id = record.id.clone();
        let track = convert::track_message(record);
        bytes += track.encoded_len();
        if bytes > bytes_max && !page.tracks.is_empty() {
            break;
        }
        page.tracks.push(track);
        last = Some(id);
    }
    if page.tracks.len() < record_count {
        page.next_page_token = last.as_ref().map(convert::page_token).unwrap_or_default();
    }
    page
}

#[cfg(test)]
mod tests {
    use fingerprint_core::index::{Metadata, Span};
    use fingerprint_core::units::ContentHash;

    use super::*;

    fn record(id: &str) -> TrackRecord {
        TrackRecord {
            id: TrackId::new(id).unwrap(),
            metadata: Metadata { title: Some("t".repeat(1_000)), ..Metadata::default() },
            duration_s: 1.0,
            content_hash: ContentHash([0; 32]),
            peak_count: 0,
            posting_count: 0,
            added_at_ms: 0,
            span: Span { start: 0, len: 1 },
        }
    }

    fn shape(len: usize, bytes_max: usize) -> (usize, bool) {
        let page = fill_page(vec![record("a"), record("b"), record("c")], len, bytes_max);
        (page.tracks.len(), !page.next_page_token.is_empty())
    }

    #[test]
    fn pages_end_at_their_length_or_their_size() {
        assert_eq!(shape(2, 1 << 20), (2, true));
        assert_eq!(shape(3, 1 << 20), (3, false));
        assert_eq!(shape(3, 2_500), (2, true));
        assert_eq!(shape(3, 1), (1, true));
        assert_eq!(fill_page(Vec::new(), 3, 1), v1::ListTracksResponse::default());
    }
}
