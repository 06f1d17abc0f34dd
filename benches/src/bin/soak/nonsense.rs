//! Callers that send nonsense, break off, or say nothing at all. Each is refused with its reason, and
//! nobody else may notice.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use earmark_benches::seeded;
use earmark_proto::v1;
use earmark_proto::v1::add_track_header::Encoding;
use earmark_proto::v1::add_track_request::Part;
use earmark_proto::v1::audio::Source;
use fingerprint_core::params::Role;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tonic::Status;

use crate::Soak;
use crate::calls::{Calls, clip, in_time, reason};
use crate::sound::{fingerprint, tune, wav};

/// Time between two attempts.
const PAUSE: Duration = Duration::from_millis(300);
/// Connections that say nothing and are left open.
const SILENT_MAX: usize = 100;
/// After so long a caller hangs up.
const BROKEN_OFF_AFTER: Duration = Duration::from_millis(3);
/// Most bytes that are made up.
const BYTES_MAX: usize = 20_000;

/// Sends one kind of nonsense after the other until the soak ends.
pub(crate) async fn run(soak: Arc<Soak>) -> Result<()> {
    let calls = Calls::connect(&soak).await?;
    let mut random = seeded(soak.seed, "nonsense");
    let mut silent: Vec<TcpStream> = Vec::new();
    for round in 0_u64.. {
        if !soak.goes_on() {
            break;
        }
        let bytes: Bytes = {
            let len = random.usize(1..BYTES_MAX);
            std::iter::repeat_with(|| random.u8(..)).take(len).collect::<Vec<u8>>().into()
        };
        match round % 8 {
            0 => {
                let answer = calls.find(&soak, clip(Source::Encoded(bytes))).await;
                expect(&soak, "random bytes as audio", answer, "AUDIO_UNDECODABLE");
            }
            1 => {
                let answer = calls.find(&soak, clip(Source::Fingerprint(bytes))).await;
                expect(&soak, "random bytes as a fingerprint", answer, "FINGERPRINT_MALFORMED");
            }
            2 => {
                let mut whole = fingerprint(&tune(soak.seed, round, 10), Role::Query)?.to_vec();
                whole.truncate(random.usize(1..whole.len()));
                let answer = calls.find(&soak, clip(Source::Fingerprint(whole.into()))).await;
                expect(&soak, "half a fingerprint", answer, "FINGERPRINT_MALFORMED");
            }
            3 => {
                let options = v1::MatchOptions { max_matches: 5_000, ..Default::default() };
                let mut request = clip(Source::Encoded(bytes));
                request.options = Some(options);
                let answer = calls.find(&soak, request).await;
                expect(&soak, "too many matches", answer, "ARGUMENT_INVALID");
            }
            4 => {
                let id = format!("nonsense-{round}");
                let answer = calls.add(&soak, &id, Encoding::Audio, &bytes).await;
                expect(&soak, "random bytes as a track", answer, "AUDIO_UNDECODABLE");
                is_not_there(&soak, &calls, &id).await;
            }
            5 => break_off(&soak, &calls, round).await?,
            // Neither HTTP nor TLS; the server hangs up or waits for more.
            6 => drop(connect(&soak, &bytes).await),
            _ => {
                silent.extend(connect(&soak, b"").await);
                if silent.len() > SILENT_MAX {
                    silent.remove(0);
                }
            }
        }
        soak.tally.count("callers with nonsense");
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}

/// Connects by hand, and sends these bytes as far as the server takes them.
async fn connect(soak: &Soak, bytes: &[u8]) -> Option<TcpStream> {
    let connected = in_time(soak, async {
        let mut connection = TcpStream::connect(soak.url.trim_start_matches("http://")).await?;
        let _ = connection.write_all(bytes).await;
        Ok(connection)
    })
    .await;
    connected.map_err(|status| soak.tally.wrong(&format!("a connection by hand: {status}"))).ok()
}

/// An upload whose sender hangs up, and a clip whose caller does not wait.
async fn break_off(soak: &Soak, calls: &Calls, round: u64) -> Result<()> {
    let bytes = wav(&tune(!soak.seed, round, 20))?;
    let request = clip(Source::Encoded(bytes.clone()));
    let _ = tokio::time::timeout(BROKEN_OFF_AFTER, calls.matcher.clone().r#match(request)).await;

    let id = format!("broken-off-{round}");
    let header = v1::AddTrackHeader { track_id: id.clone(), ..v1::AddTrackHeader::default() };
    let half = bytes.slice(..bytes.len() / 2);
    let messages = [Part::Header(header), Part::Data(half)];
    let messages = messages.map(|part| v1::AddTrackRequest { part: Some(part) });
    // The stream of messages is never closed, so it is not all that was to come.
    let messages =
        tokio_stream::StreamExt::chain(tokio_stream::iter(messages), tokio_stream::pending());
    let upload = async { calls.catalog.clone().add_track(messages).await };
    if let Ok(answer) = tokio::time::timeout(PAUSE, upload).await {
        soak.tally.wrong(&format!("half an upload was answered: {answer:?}"));
    }
    is_not_there(soak, calls, &id).await;
    Ok(())
}

async fn is_not_there(soak: &Soak, calls: &Calls, id: &str) {
    match calls.track(soak, id).await {
        Ok(None) => {}
        other => soak.tally.wrong(&format!("{id} was never added: {other:?}")),
    }
}

/// It must be refused, for this reason.
fn expect<T>(soak: &Soak, what: &str, answer: Result<T, Status>, expected: &str) {
    let told = match answer {
        Ok(_) => "OK".to_owned(),
        Err(status) if reason(&status) == expected => return,
        Err(status) => status.to_string(),
    };
    soak.tally.wrong(&format!("{what}, expected {expected}: {told}"));
}
