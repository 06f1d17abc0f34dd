//! A server in this process, and what tests send to it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use earmark_proto::v1::add_track_header::Encoding;
use earmark_proto::v1::add_track_request::Part;
use earmark_proto::v1::audio::Source;
use earmark_proto::v1::catalog_service_client::CatalogServiceClient;
use earmark_proto::v1::match_service_client::MatchServiceClient;
use earmark_proto::v1::{self, AddTrackHeader, AddTrackRequest, AddTrackResponse};
use fingerprint_core::decode::{DecodeOptions, Input};
use fingerprint_core::fingerprint::Fingerprint;
use fingerprint_core::index::{Index, RocksIndex};
use fingerprint_core::params::Params;
use matcher_server::config::{Config, Settings};
use matcher_server::{Ending, ServerError};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::Status;
use tonic::transport::Channel;

/// A file of the repository's test audio.
pub(crate) fn testdata(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata").join(name)
}

/// Its bytes.
pub(crate) fn audio(name: &str) -> Vec<u8> {
    std::fs::read(testdata(name)).unwrap()
}

/// Its fingerprint.
pub(crate) fn fingerprint(name: &str) -> Fingerprint {
    let path = testdata(name);
    let options = DecodeOptions::default();
    Fingerprint::from_audio(Input::Path(&path), &options, &Params::default()).unwrap().0
}

/// The settings of a test: the defaults, and lines of a configuration file.
pub(crate) fn config(folder: &Path, lines: &str) -> Config {
    let path = folder.join("server.toml");
    std::fs::write(&path, format!("index = 'unused'\n{lines}")).unwrap();
    Settings::from_file(&path).unwrap().resolve().unwrap()
}

/// A server in this process on an index of its own.
#[derive(Debug)]
pub(crate) struct TestServer {
    pub(crate) url: String,
    pub(crate) folder: TempDir,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<Result<Ending, ServerError>>,
}

impl TestServer {
    /// With lines of a configuration file.
    pub(crate) async fn start(lines: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path(), lines);
        let params = Params::default();
        let index: Arc<dyn Index> =
            Arc::new(RocksIndex::create_or_open(&folder.path().join("index"), &params).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (stop, stopped) = oneshot::channel();
        let shutdown = async {
            stopped.await.ok();
        };
        let task = tokio::spawn(matcher_server::run(listener, index, params, config, shutdown));
        Self { url, folder, stop: Some(stop), task }
    }

    pub(crate) async fn channel(&self) -> Channel {
        Channel::from_shared(self.url.clone()).unwrap().connect().await.unwrap()
    }

    pub(crate) async fn matcher(&self) -> MatchServiceClient<Channel> {
        MatchServiceClient::new(self.channel().await)
    }

    pub(crate) async fn catalog(&self) -> CatalogServiceClient<Channel> {
        CatalogServiceClient::new(self.channel().await)
    }

    /// Tells the server to stop, without waiting for it.
    pub(crate) fn tell_to_stop(&mut self) {
        self.stop.take().unwrap().send(()).unwrap();
    }

    /// Waits for its end.
    pub(crate) async fn ending(self) -> Ending {
        self.task.await.unwrap().unwrap()
    }
}

/// A query of encoded audio.
pub(crate) fn encoded(bytes: Vec<u8>) -> v1::MatchRequest {
    request(Source::Encoded(bytes.into()))
}

/// A query of a fingerprint.
pub(crate) fn fingerprinted(fingerprint: &Fingerprint) -> v1::MatchRequest {
    request(Source::Fingerprint(fingerprint.to_bytes(&Params::default()).into()))
}

fn request(source: Source) -> v1::MatchRequest {
    v1::MatchRequest { audio: Some(v1::Audio { source: Some(source) }), options: None }
}

/// The header of an upload of audio.
pub(crate) fn header(track_id: &str) -> AddTrackHeader {
    let metadata = v1::Metadata { title: format!("title of {track_id}"), ..Default::default() };
    AddTrackHeader {
        track_id: track_id.to_owned(),
        metadata: Some(metadata),
        encoding: Encoding::Audio.into(),
    }
}

/// The messages of an upload, in pieces of 64 KiB.
pub(crate) fn messages(header: AddTrackHeader, bytes: &[u8]) -> Vec<AddTrackRequest> {
    let data = bytes.chunks(64 << 10).map(|piece| Part::Data(piece.to_vec().into()));
    [Part::Header(header)]
        .into_iter()
        .chain(data)
        .map(|part| AddTrackRequest { part: Some(part) })
        .collect()
}

/// Uploads `bytes`.
pub(crate) async fn add(
    catalog: &mut CatalogServiceClient<Channel>,
    header: AddTrackHeader,
    bytes: &[u8],
) -> Result<AddTrackResponse, Status> {
    let messages = tokio_stream::iter(messages(header, bytes));
    catalog.add_track(messages).await.map(tonic::Response::into_inner)
}

/// A server that holds Cold Day.
pub(crate) async fn with_cold_day(lines: &str) -> TestServer {
    let server = TestServer::start(lines).await;
    let mut catalog = server.catalog().await;
    add(&mut catalog, header("cold_day"), &audio("catalog/cold_day.mp3")).await.unwrap();
    server
}

/// A 16-bit mono WAV file of `seconds` of quiet noise at 8 kHz: slow to fingerprint for its size.
pub(crate) fn noise_wav(seconds: u32) -> Vec<u8> {
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: 8_000,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut bytes = std::io::Cursor::new(Vec::new());
    let mut random = fastrand::Rng::with_seed(7);
    let mut writer = hound::WavWriter::new(&mut bytes, spec).unwrap();
    for _ in 0..seconds * 8_000 {
        writer.write_sample(random.i16(-8_000..8_000)).unwrap();
    }
    writer.finalize().unwrap();
    bytes.into_inner()
}
