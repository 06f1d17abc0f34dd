//! The catalog behind `earmark-server`, over gRPC.
//!
//! Calls block: a small runtime of its own drives the connection, so that the rest of the program
//! is plain threads. All texts and numbers from the server are checked before they are used.

use std::num::NonZeroU32;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use earmark_proto::v1;
use fingerprint_core::index::backup::Backup;
use fingerprint_core::matching::MatchOptions;
use fingerprint_core::matching::live::LiveOptions;
use fingerprint_core::units::TrackId;
use tokio::runtime::Runtime;
use tonic::{Code, Status};

use super::convert;
use super::dial::Dial;
use super::link::{Link, new_request_id, request_within};
use super::remote_stream::RemoteFollower;
use super::upload::read_whole;
use super::{AddError, Answer, Audio, Catalog, Follower, Recording, Stats, Stored, Track};

/// Tracks that are uploaded at the same time.
const UPLOADS_MAX: usize = 8;
/// Tracks asked for at a time, the most that the server gives.
const PAGE_LEN: u32 = 1000;

/// A connection to a server.
pub(super) struct RemoteCatalog {
    runtime: Runtime,
    link: Link,
}

impl RemoteCatalog {
    pub(super) fn connect(dial: &Dial, timeout: Duration) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("earmark-grpc")
            .enable_all()
            .build()
            .context("the threads for the connection cannot be started")?;
        let link = runtime.block_on(Link::connect(dial, timeout))?;
        Ok(Self { runtime, link })
    }

    /// Runs a call on the connection's threads and waits for it.
    fn wait<T>(&self, call: impl Future<Output = T>) -> T {
        self.runtime.handle().block_on(call)
    }
}

impl Catalog for RemoteCatalog {
    fn add(&self, tracks: Vec<Recording>) -> Vec<Result<Stored, AddError>> {
        self.wait(async {
            let mut results = Vec::with_capacity(tracks.len());
            let mut waiting = tracks.into_iter();
            // A sliding window of uploads whose answers are taken in the order of the tracks.
            let mut running = std::collections::VecDeque::new();
            loop {
                while running.len() < UPLOADS_MAX
                    && let Some(track) = waiting.next()
                {
                    let link = self.link.clone();
                    running.push_back(tokio::spawn(async move { link.add(&track).await }));
                }
                let Some(upload) = running.pop_front() else { return results };
                let lost = |e| Err(AddError::Track(anyhow!("the upload broke down: {e}")));
                results.push(upload.await.unwrap_or_else(lost));
            }
        })
    }

    fn search(&self, clip: Audio, options: &MatchOptions) -> Result<Answer> {
        let source = match clip {
            Audio::Fingerprint(fingerprint) => {
                v1::audio::Source::Fingerprint(fingerprint.to_bytes(&self.link.params).into())
            }
            Audio::File(path) => v1::audio::Source::Encoded(read_whole(&path)?),
            Audio::Bytes(bytes) => v1::audio::Source::Encoded(bytes),
        };
        let request = v1::MatchRequest {
            audio: Some(v1::Audio { source: Some(source) }),
            options: Some(convert::match_options(options)),
            ..v1::MatchRequest::default()
        };
        let link = &self.link;
        let response = self.wait(link.retry(|left| {
            let request = request.clone();
            async move { link.matcher().r#match(request_within(left, request)).await }
        }))?;
        convert::answer(response)
    }

    fn follow(&self, options: LiveOptions) -> Result<Box<dyn Follower + '_>> {
        Ok(Box::new(RemoteFollower::new(&self.runtime, &self.link, options)?))
    }

    fn track(&self, id: &TrackId) -> Result<Option<Track>> {
        let link = &self.link;
        let found = self.wait(link.retry(|left| async move {
            let request = v1::GetTrackRequest { track_id: id.to_string() };
            found(link.catalog().get_track(request_within(left, request)).await)
        }))?;
        found.and_then(|response| response.track).map(convert::track).transpose()
    }

    fn tracks(&self, limit: u64, visit: &mut dyn FnMut(Track) -> Result<bool>) -> Result<()> {
        let link = &self.link;
        let mut left = limit;
        let mut page_token = String::new();
        while left > 0 {
            let page_size = u32::try_from(left).map_or(PAGE_LEN, |left| left.min(PAGE_LEN));
            let token = &page_token;
            let page = self.wait(link.retry(|left| async move {
                let request = v1::ListTracksRequest { page_size, page_token: token.clone() };
                link.catalog().list_tracks(request_within(left, request)).await
            }))?;
            for track in page.tracks {
                if left == 0 || !visit(convert::track(track)?)? {
                    return Ok(());
                }
                left -= 1;
            }
            if page.next_page_token.is_empty() {
                break;
            }
            page_token = page.next_page_token;
        }
        Ok(())
    }

    fn remove(&self, id: &TrackId) -> Result<bool> {
        let link = &self.link;
        // The same at each try: a repeat is answered as the first was.
        let request_id = &new_request_id()?;
        let removed = self.wait(link.retry(|left| async move {
            let (track_id, request_id) = (id.to_string(), request_id.clone());
            let request = v1::RemoveTrackRequest { track_id, request_id };
            found(link.catalog().remove_track(request_within(left, request)).await)
        }))?;
        Ok(removed.is_some())
    }

    fn compact(&self) -> Result<()> {
        // The server looks after its own index.
        Ok(())
    }

    fn stats(&self) -> Result<Stats> {
        let link = &self.link;
        let stats = self.wait(link.retry(|left| async move {
            link.catalog().get_stats(request_within(left, v1::GetStatsRequest {})).await
        }))?;
        convert::stats(stats)
    }

    fn back_up(&self, folder: Option<&Path>, keep: Option<NonZeroU32>) -> Result<Backup> {
        refuse_folder(folder)?;
        let link = &self.link;
        let keep = keep.map_or(0, NonZeroU32::get);
        // Not again if it fails: it may go on over there.
        let request = link.request(v1::CreateBackupRequest { keep });
        let made = self.wait(async { link.backups().create_backup(request).await });
        let made = made.map_err(|status| link.explain(&status))?.into_inner();
        convert::backup(made.backup.context("the server sent no backup")?)
    }

    fn backups(&self, folder: Option<&Path>) -> Result<Vec<Backup>> {
        refuse_folder(folder)?;
        let link = &self.link;
        let listed = self.wait(link.retry(|left| async move {
            link.backups().list_backups(request_within(left, v1::ListBackupsRequest {})).await
        }))?;
        listed.backups.into_iter().map(convert::backup).collect()
    }
}

/// A server writes nowhere but where it was told to when it was started.
fn refuse_folder(folder: Option<&Path>) -> Result<()> {
    match folder {
        None => Ok(()),
        Some(folder) => bail!(
            "a server makes backups in its own folder; leave {} out, or give --index DIR",
            folder.display()
        ),
    }
}

/// A track that is not there is an answer.
fn found<T>(
    answer: Result<tonic::Response<T>, Status>,
) -> Result<tonic::Response<Option<T>>, Status> {
    match answer {
        Ok(response) => Ok(response.map(Some)),
        Err(status) if status.code() == Code::NotFound => Ok(tonic::Response::new(None)),
        Err(status) => Err(status),
    }
}
