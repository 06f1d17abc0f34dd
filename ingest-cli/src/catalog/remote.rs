//! The catalog behind `earmark-server`, over gRPC.
//!
//! Calls block: a small runtime of its own drives the connection, so that the rest of the program
//! is plain threads. A server that is busy or restarting is asked again for a while before a call
//! fails. All texts and numbers from the server are checked before they are used.

use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use earmark_proto::v1;
use earmark_proto::v1::catalog_service_client::CatalogServiceClient;
use earmark_proto::v1::match_service_client::MatchServiceClient;
use fingerprint_core::index::IndexStats;
use fingerprint_core::matching::{MatchOptions, SpeedSearch};
use fingerprint_core::params::Params;
use fingerprint_core::units::TrackId;
use tokio::runtime::Runtime;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

use super::convert;
use super::upload::read_whole;
use super::{AddError, Answer, Audio, Catalog, Recording, Stats, Stored, Track};

/// Tracks that are uploaded at the same time.
const UPLOADS_MAX: usize = 8;
/// Tracks asked for at a time, the most that the server gives.
const PAGE_LEN: u32 = 1000;
/// Largest answer: 1000 matches or tracks with 64 KiB of metadata each.
const ANSWER_BYTES_MAX: usize = 72 << 20;
/// Waits before asking again when the server is busy or away; 12.6 s in all.
const RETRY_WAITS_MS: [u64; 6] = [200, 400, 800, 1_600, 3_200, 6_400];
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection to a server.
pub(super) struct RemoteCatalog {
    runtime: Runtime,
    link: Link,
}

/// What one call needs; cheap to clone.
#[derive(Clone)]
pub(super) struct Link {
    channel: Channel,
    url: String,
    timeout: Duration,
    pub(super) params: Params,
}

impl RemoteCatalog {
    pub(super) fn connect(url: &str, timeout: Duration) -> Result<Self> {
        let url = complete_url(url)?;
        let endpoint = Endpoint::from_shared(url.clone())
            .with_context(|| format!("{url:?} is not an address; try http://127.0.0.1:50051"))?
            .connect_timeout(CONNECT_TIMEOUT.min(timeout))
            .tcp_nodelay(true)
            .user_agent(concat!("earmark/", env!("CARGO_PKG_VERSION")))
            .context("the user agent is not a header value")?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("earmark-grpc")
            .enable_all()
            .build()
            .context("the threads for the connection cannot be started")?;
        let channel = runtime
            .block_on(endpoint.connect())
            .with_context(|| format!("no server answers at {url}; is earmark-server running?"))?;
        Ok(Self { runtime, link: Link { channel, url, timeout, params: Params::default() } })
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
            options: Some(v1::MatchOptions {
                max_matches: u32::try_from(options.matches_max).unwrap_or(u32::MAX),
                min_confidence: options.confidence_min,
                speed_search: match options.speed_search {
                    SpeedSearch::Off => v1::SpeedSearch::Off,
                    SpeedSearch::Auto => v1::SpeedSearch::Auto,
                    SpeedSearch::Full => v1::SpeedSearch::Full,
                }
                .into(),
            }),
        };
        let link = &self.link;
        let response = self.wait(link.retry(|| {
            let request = request.clone();
            async move { link.matcher().r#match(link.request(request)).await }
        }))?;
        convert::answer(response)
    }

    fn track(&self, id: &TrackId) -> Result<Option<Track>> {
        let link = &self.link;
        let found = self.wait(link.retry(|| async {
            let request = v1::GetTrackRequest { track_id: id.to_string() };
            found(link.catalog().get_track(link.request(request)).await)
        }))?;
        found.and_then(|response| response.track).map(convert::track).transpose()
    }

    fn tracks(&self, limit: u64, visit: &mut dyn FnMut(Track) -> Result<bool>) -> Result<()> {
        let link = &self.link;
        let mut left = limit;
        let mut page_token = String::new();
        while left > 0 {
            let page_size = u32::try_from(left).map_or(PAGE_LEN, |left| left.min(PAGE_LEN));
            let page = self.wait(link.retry(|| async {
                let request = v1::ListTracksRequest { page_size, page_token: page_token.clone() };
                link.catalog().list_tracks(link.request(request)).await
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
        let removed = self.wait(link.retry(|| async {
            let request = v1::RemoveTrackRequest { track_id: id.to_string() };
            found(link.catalog().remove_track(link.request(request)).await)
        }))?;
        Ok(removed.is_some())
    }

    fn compact(&self) -> Result<()> {
        // The server looks after its own index.
        Ok(())
    }

    fn stats(&self) -> Result<Stats> {
        let link = &self.link;
        let stats = self.wait(link.retry(|| async {
            link.catalog().get_stats(link.request(v1::GetStatsRequest {})).await
        }))?;
        let digest = &stats.params_digest;
        let params_digest = u64::from_str_radix(digest, 16)
            .with_context(|| format!("the server sent {digest:?} as digest of its parameters"))?;
        Ok(Stats {
            index: IndexStats {
                track_count: stats.track_count,
                duration_s: stats.duration_s,
                posting_count: stats.posting_count,
                peak_count: stats.peak_count,
                bytes_by_part: stats.bytes_by_part.into_iter().collect(),
                format_version: stats.format_version,
                params_digest,
            },
            server_version: Some(stats.server_version),
        })
    }
}

impl Link {
    pub(super) fn catalog(&self) -> CatalogServiceClient<Channel> {
        CatalogServiceClient::new(self.channel.clone()).max_decoding_message_size(ANSWER_BYTES_MAX)
    }

    fn matcher(&self) -> MatchServiceClient<Channel> {
        MatchServiceClient::new(self.channel.clone()).max_decoding_message_size(ANSWER_BYTES_MAX)
    }

    pub(super) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.set_timeout(self.timeout);
        request
    }

    /// Makes a call again while the server is busy or away, then reports its last answer.
    async fn retry<T, F>(&self, mut call: impl FnMut() -> F) -> Result<T>
    where
        F: Future<Output = Result<tonic::Response<T>, Status>>,
    {
        let mut waits = RETRY_WAITS_MS.iter();
        loop {
            match call().await {
                Ok(response) => return Ok(response.into_inner()),
                Err(status) => match waits.next() {
                    Some(wait_ms) if may_pass(&status) => {
                        tokio::time::sleep(Duration::from_millis(*wait_ms)).await;
                    }
                    _ => return Err(self.explain(&status)),
                },
            }
        }
    }

    async fn add(&self, track: &Recording) -> Result<Stored, AddError> {
        let mut waits = RETRY_WAITS_MS.iter();
        loop {
            let status = match self.upload(track).await? {
                Ok(response) => return convert::stored(response).map_err(AddError::Track),
                Err(status) => status,
            };
            match waits.next() {
                Some(wait_ms) if may_pass(&status) => {
                    tokio::time::sleep(Duration::from_millis(*wait_ms)).await;
                }
                _ => {
                    let error = self.explain(&status);
                    return Err(match status.code() {
                        Code::InvalidArgument
                        | Code::ResourceExhausted
                        | Code::OutOfRange
                        | Code::DeadlineExceeded => AddError::Track(error),
                        _ => AddError::Catalog(error),
                    });
                }
            }
        }
    }

    fn explain(&self, status: &Status) -> anyhow::Error {
        let url = &self.url;
        let text = if status.message().is_empty() { "no reason given" } else { status.message() };
        match status.code() {
            Code::Unavailable => anyhow!("the server at {url} cannot be reached: {text}"),
            Code::DeadlineExceeded | Code::Cancelled => anyhow!(
                "the server at {url} did not answer within {}; raise --timeout",
                humantime::format_duration(self.timeout)
            ),
            Code::Unimplemented => {
                anyhow!("{url} is no earmark-server, or one of another release: {text}")
            }
            code => anyhow!("{text} (the server at {url} answered {code:?})"),
        }
    }
}

/// True if the same call may succeed a little later.
fn may_pass(status: &Status) -> bool {
    match status.code() {
        Code::Unavailable => true,
        // Also the code for what is too large, which stays so.
        Code::ResourceExhausted => status.message().contains("busy"),
        _ => false,
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

fn complete_url(url: &str) -> Result<String> {
    match url.split_once("://") {
        Some(("http", _)) => Ok(url.trim_end_matches('/').to_owned()),
        Some(("https", _)) => bail!(
            "{url}: this build of earmark speaks plain http; use a tunnel, or a proxy in front of \
             the server that ends TLS"
        ),
        Some((scheme, _)) => bail!("{url}: unknown scheme {scheme}; use http://HOST:PORT"),
        None => Ok(format!("http://{url}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_completed_or_refused_with_a_way_out() {
        assert_eq!(complete_url("localhost:1").unwrap(), "http://localhost:1");
        assert_eq!(complete_url("http://a:1/").unwrap(), "http://a:1");
        assert!(complete_url("https://a").unwrap_err().to_string().contains("proxy"));
        assert!(complete_url("ftp://a").unwrap_err().to_string().contains("http://HOST:PORT"));
    }

    #[test]
    fn only_what_may_pass_is_tried_again() {
        assert!(may_pass(&Status::unavailable("")));
        assert!(may_pass(&Status::resource_exhausted("server is busy; try again later")));
        assert!(!may_pass(&Status::resource_exhausted("upload is larger than 1 GiB")));
        assert!(!may_pass(&Status::invalid_argument("busy")));
    }
}
