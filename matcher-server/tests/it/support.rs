//! What the tests share: a server in this process or in one of its own, audio, an index that can
//! be made to wait.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Cursor};
use std::ops::ControlFlow;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use earmark_proto::v1::add_track_request::Part;
use earmark_proto::v1::audio::Source;
use earmark_proto::v1::catalog_service_client::CatalogServiceClient;
use earmark_proto::v1::match_service_client::MatchServiceClient;
use earmark_proto::v1::{
    AddTrackHeader, AddTrackRequest, AddTrackResponse, Audio, MatchRequest, MatchResponse,
};
use fingerprint_core::hash::KeyRange;
use fingerprint_core::index::{
    Added, Index, IndexError, IndexStats, MemoryIndex, NewTrack, Posting, Timeline, TrackRecord,
};
use fingerprint_core::params::Params;
use fingerprint_core::peaks::Peak;
use fingerprint_core::units::{ContentHash, TrackId};
use matcher_server::config::{Config, Settings};
use matcher_server::security::Security;
use matcher_server::{Ending, MetricsPage, Served, run};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

/// Sample rate of synthesised audio, in Hz.
pub(crate) const RATE_HZ: u32 = 16_000;

/// The defaults, changed by the lines of a configuration file.
pub(crate) fn config(lines: &str) -> Config {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("server.toml");
    std::fs::write(&path, format!("index = 'unused'\n{lines}")).unwrap();
    Settings::from_file(&path).unwrap().resolve().unwrap()
}

/// A server in this process. It ends when it is dropped.
pub(crate) struct Server {
    pub(crate) url: String,
    /// Where metrics are, if the settings say so.
    pub(crate) metrics: Option<String>,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<Ending>,
}

impl Server {
    pub(crate) async fn start(lines: &str) -> Self {
        Self::over(lines, Arc::new(MemoryIndex::new(&Params::default()))).await
    }

    pub(crate) async fn over(lines: &str, index: Arc<dyn Index>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (stop, stopped) = oneshot::channel();
        let config = config(lines);
        let security = Security::load(&config).unwrap();
        let page = MetricsPage::open(&config, &security).await.unwrap();
        let metrics = page.as_ref().map(|page| format!("http://{}/metrics", page.address()));
        let task = tokio::spawn(async move {
            let stopped = async { drop(stopped.await) };
            run(listener, config, security, page, Served::Other(index), stopped).await.unwrap()
        });
        Self { url, metrics, stop: Some(stop), task }
    }

    pub(crate) async fn channel(&self) -> Channel {
        Endpoint::new(self.url.clone()).unwrap().connect().await.unwrap()
    }

    pub(crate) async fn matcher(&self) -> MatchServiceClient<Channel> {
        MatchServiceClient::new(self.channel().await)
    }

    pub(crate) async fn catalog(&self) -> CatalogServiceClient<Channel> {
        CatalogServiceClient::new(self.channel().await)
    }

    /// Asks the server to stop, without waiting for it.
    pub(crate) fn stop(&mut self) {
        self.stop.take().unwrap().send(()).unwrap();
    }

    /// Returns when new connections are refused: the server is stopping.
    pub(crate) async fn refuses_connections(&self) {
        let address = self.url.trim_start_matches("http://");
        while TcpStream::connect(address).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    pub(crate) async fn ended(self) -> Ending {
        self.task.await.unwrap()
    }
}

/// The program, without the settings of whoever runs the tests: neither ours nor those of OpenTelemetry, which it reads.
pub(crate) fn server_command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_earmark-server"));
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("EARMARK_") || text.starts_with("OTEL_") {
            command.env_remove(name);
        }
    }
    command
}

/// A server in its own process, over an index on disk. It is killed when it is dropped.
pub(crate) struct Process {
    child: Child,
    /// Address and port.
    pub(crate) address: String,
    /// What it logged until it listened.
    first_lines: String,
    /// What it logs, as a whole once it has ended.
    log: std::thread::JoinHandle<String>,
}

impl Process {
    pub(crate) fn start(index: &Path, arguments: &[&str]) -> Self {
        Self::start_at("127.0.0.1:0", index, arguments)
    }

    pub(crate) fn start_at(listen: &str, index: &Path, arguments: &[&str]) -> Self {
        let mut child = server_command()
            .args(["--listen", listen, "--index"])
            .arg(index)
            .args(arguments)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut log = String::new();
        let address = loop {
            let Some(line) = lines.next() else { panic!("the server ended early:\n{log}") };
            let line = line.unwrap();
            writeln!(log, "{line}").unwrap();
            if let Some((_, address)) = line.split_once("listening on ") {
                let end = address.find(char::is_whitespace).unwrap_or(address.len());
                break address[..end].to_owned();
            }
        };
        let first_lines = log.clone();
        // Nobody may block on a full pipe.
        let log = std::thread::spawn(move || {
            lines.map_while(Result::ok).for_each(|line| writeln!(log, "{line}").unwrap());
            log
        });
        Self { child, address, first_lines, log }
    }

    /// The word that follows `words` in what it logged until it listened.
    pub(crate) fn said(&self, words: &str) -> String {
        let (_, rest) = self.first_lines.split_once(words).unwrap();
        rest.split_whitespace().next().unwrap().to_owned()
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
    }

    /// Waits for its end. Not on the test's own thread: clients there must be able to answer the
    /// server's goodbye, or it waits for them until its limit.
    pub(crate) async fn ended(mut self) -> ExitStatus {
        tokio::task::spawn_blocking(move || self.child.wait().unwrap()).await.unwrap()
    }
}

impl Process {
    /// Waits for its end; everything that it has logged.
    pub(crate) async fn ended_with_log(mut self) -> String {
        let log = std::mem::replace(&mut self.log, std::thread::spawn(String::new));
        tokio::task::spawn_blocking(move || log.join().unwrap()).await.unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A made-up tune: every 60 to 240 ms another chord of three notes with four partials each. The
/// same seed gives the same tune.
pub(crate) fn tune(seed: u64, duration_s: u32) -> Vec<f32> {
    let mut random = fastrand::Rng::with_seed(seed);
    let sample_count = (duration_s * RATE_HZ) as usize;
    let mut samples = Vec::with_capacity(sample_count + RATE_HZ as usize);
    while samples.len() < sample_count {
        let len = random.usize(RATE_HZ as usize * 60 / 1000..RATE_HZ as usize * 240 / 1000);
        let notes = [0; 3].map(|_| 110.0 * 2_f32.powf(random.f32() * 3.5));
        samples.extend((0..len).map(|i| {
            let time_s = i as f32 / RATE_HZ as f32;
            let partial =
                |hz: f32, n: f32| (std::f32::consts::TAU * hz * n * time_s).sin() / (10.0 * n);
            let note = |hz: &f32| [1.0, 2.0, 3.0, 4.0].map(|n| partial(*hz, n)).iter().sum::<f32>();
            notes.iter().map(note).sum::<f32>() * (-4.0 * time_s).exp()
        }));
    }
    samples.truncate(sample_count);
    samples
}

/// As a 16-bit mono WAV file.
pub(crate) fn wav(samples: &[f32]) -> Vec<u8> {
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: RATE_HZ,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut file = Cursor::new(Vec::new());
    let mut writer = hound::WavWriter::new(&mut file, spec).unwrap();
    for sample in samples {
        #[expect(clippy::cast_possible_truncation, reason = "`as` from float saturates")]
        writer.write_sample((sample * 20_000.0) as i16).unwrap();
    }
    writer.finalize().unwrap();
    file.into_inner()
}

/// The seconds `from_s..to_s` of samples.
pub(crate) fn cut(samples: &[f32], from_s: u32, to_s: u32) -> &[f32] {
    &samples[(from_s * RATE_HZ) as usize..(to_s * RATE_HZ) as usize]
}

/// A file of the repository's test audio.
pub(crate) fn testdata(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata").join(name)).unwrap()
}

pub(crate) fn header_message(header: AddTrackHeader) -> AddTrackRequest {
    AddTrackRequest { part: Some(Part::Header(header)) }
}

pub(crate) fn data_message(data: &[u8]) -> AddTrackRequest {
    AddTrackRequest { part: Some(Part::Data(data.to_vec().into())) }
}

/// The messages of one upload.
pub(crate) fn upload(header: AddTrackHeader, data: &[u8]) -> Vec<AddTrackRequest> {
    let pieces = data.chunks(64 << 10).map(data_message);
    std::iter::once(header_message(header)).chain(pieces).collect()
}

pub(crate) async fn add(
    catalog: &mut CatalogServiceClient<Channel>,
    id: &str,
    audio: &[u8],
) -> Result<AddTrackResponse, Status> {
    let header = AddTrackHeader { track_id: id.to_owned(), ..AddTrackHeader::default() };
    let messages = tokio_stream::iter(upload(header, audio));
    Ok(catalog.add_track(messages).await?.into_inner())
}

pub(crate) fn query(audio: Vec<u8>) -> MatchRequest {
    MatchRequest {
        audio: Some(Audio { source: Some(Source::Encoded(audio.into())) }),
        ..MatchRequest::default()
    }
}

pub(crate) async fn find(
    matcher: &mut MatchServiceClient<Channel>,
    audio: Vec<u8>,
) -> Result<MatchResponse, Status> {
    Ok(matcher.r#match(query(audio)).await?.into_inner())
}

/// How long a gate may be shut: longer than any test has it so.
const GATE_TIME_MAX: Duration = Duration::from_secs(60);

/// An index in memory whose queries wait while its gate is shut. Everything else answers.
#[derive(Debug)]
pub(crate) struct GatedIndex {
    inner: MemoryIndex,
    state: Mutex<Gate>,
    changed: Condvar,
}

#[derive(Debug)]
struct Gate {
    open: bool,
    waiting: usize,
}

impl GatedIndex {
    /// With its gate shut.
    pub(crate) fn new() -> Self {
        Self {
            inner: MemoryIndex::new(&Params::default()),
            state: Mutex::new(Gate { open: false, waiting: 0 }),
            changed: Condvar::new(),
        }
    }

    pub(crate) fn open(&self) {
        self.state.lock().unwrap().open = true;
        self.changed.notify_all();
    }

    /// Returns when `count` queries wait at the gate.
    pub(crate) async fn waiting(&self, count: usize) {
        while self.state.lock().unwrap().waiting != count {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

impl Index for GatedIndex {
    fn timeline(&self) -> Arc<Timeline> {
        let mut state = self.state.lock().unwrap();
        state.waiting += 1;
        // A test that has failed opens it no more, and must end all the same.
        let opened = self.changed.wait_timeout_while(state, GATE_TIME_MAX, |state| !state.open);
        state = opened.unwrap().0;
        state.waiting -= 1;
        drop(state);
        self.inner.timeline()
    }

    fn add(&self, tracks: &[NewTrack]) -> Result<Vec<Added>, IndexError> {
        self.inner.add(tracks)
    }

    fn remove(&self, id: &TrackId) -> Result<Option<TrackRecord>, IndexError> {
        self.inner.remove(id)
    }

    fn track(&self, id: &TrackId) -> Result<Option<TrackRecord>, IndexError> {
        self.inner.track(id)
    }

    fn tracks(
        &self,
        after: Option<&TrackId>,
        limit: usize,
    ) -> Result<Vec<TrackRecord>, IndexError> {
        self.inner.tracks(after, limit)
    }

    fn tracks_with_content(&self, hash: &ContentHash) -> Result<Vec<TrackId>, IndexError> {
        self.inner.tracks_with_content(hash)
    }

    fn bucket_len(&self, bucket: u32) -> u32 {
        self.inner.bucket_len(bucket)
    }

    fn read_postings(
        &self,
        ranges: &[KeyRange],
        visit: &mut dyn FnMut(usize, &[Posting]) -> ControlFlow<()>,
    ) -> Result<(), IndexError> {
        self.inner.read_postings(ranges, visit)
    }

    fn peaks(
        &self,
        span_start: u32,
        window: std::ops::Range<u32>,
    ) -> Result<Option<Vec<Peak>>, IndexError> {
        self.inner.peaks(span_start, window)
    }

    fn stats(&self) -> Result<IndexStats, IndexError> {
        self.inner.stats()
    }
}
