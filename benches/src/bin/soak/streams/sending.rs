//! The client's side of a stream: packets when they are due, a connection that breaks, one that goes on.

use std::time::{Duration, Instant};

use anyhow::Result;
use bytes::Bytes;
use earmark_proto::v1;
use earmark_proto::v1::match_stream_request::Part;
use earmark_proto::v1::match_stream_response::Event;
use earmark_proto::v1::stream_header::Format;
use fingerprint_core::params::SAMPLE_RATE_HZ;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::told::Told;
use super::{AWAY, Manner, Programme};
use crate::Soak;
use crate::calls::{Calls, in_time};
use crate::sound::{pcm, wav};

/// Length of a packet in milliseconds.
const PACKET_MS: u32 = 250;
/// Packets that wait for the transport.
const PACKETS_MAX: usize = 8;

/// Sends a programme in real time; gives what was told. One that is to be broken off is, at a share of it.
pub(super) async fn follow(
    soak: &Soak,
    programme: &Programme,
    manner: Manner,
    name: &str,
    break_at: f64,
) -> Result<Result<Told, Status>> {
    let bytes = match manner {
        Manner::File => wav(&programme.samples)?,
        Manner::Samples | Manner::BrokenOff => pcm(&programme.samples),
    };
    let mut told = Told::default();
    let mut sending = Sending {
        bytes,
        began: Instant::now().into(),
        manner,
        name: name.to_owned(),
        break_at: None,
    };
    if manner == Manner::BrokenOff {
        let len = sending.bytes.len() as f64;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a share of it"
        )]
        let place = (len * break_at) as usize;
        sending.break_at = Some(place);
        let calls = Calls::connect(soak).await?;
        if let Err(status) = sending.exchange(soak, &calls, &mut told).await {
            return Ok(Err(status));
        }
        drop(calls);
        tokio::time::sleep(AWAY).await;
        sending.break_at = None;
        told.is_resumed = true;
    }
    let calls = Calls::connect(soak).await?;
    Ok(sending.exchange(soak, &calls, &mut told).await.map(|()| told))
}

/// What is sent, and from when on.
struct Sending {
    bytes: Bytes,
    began: tokio::time::Instant,
    manner: Manner,
    name: String,
    /// Behind this byte the connection breaks.
    break_at: Option<usize>,
}

impl Sending {
    /// One call: sends what the server has not had, each packet when it has been heard.
    async fn exchange(&self, soak: &Soak, calls: &Calls, told: &mut Told) -> Result<(), Status> {
        let (requests, sent) = mpsc::channel(PACKETS_MAX);
        let header = v1::MatchStreamRequest { part: Some(Part::Header(self.header())) };
        requests.try_send(header).map_err(|_| Status::internal("the stream is closed"))?;
        let mut matcher = calls.matcher.clone();
        let opened = in_time(soak, async {
            let mut answers = matcher.match_stream(ReceiverStream::new(sent)).await?.into_inner();
            let first = answers.message().await?;
            Ok((answers, first))
        });
        let (mut answers, first) = opened.await?;
        let first = first.and_then(|answer| answer.event);
        let Some(Event::Started(started)) = first else {
            return Err(Status::internal(format!("the first answer is {first:?}")));
        };
        if started.resumed != told.is_resumed {
            return Err(Status::internal(format!("resumed: {}", started.resumed)));
        }
        // Two bytes a sample; of a file nothing is taken up again.
        let position = usize::try_from(started.position).unwrap_or(usize::MAX).saturating_mul(2);
        told.heard_s = 0.0;
        let receive = async {
            while let Some(answer) = answers.message().await? {
                told.take(&answer);
            }
            Ok(())
        };
        let both = async {
            if self.break_at.is_some() {
                return tokio::select! {
                    () = self.send(&requests, position) => Ok(()),
                    ended = receive => ended.and(Err(Status::internal("the stream ended early"))),
                };
            }
            let send = async {
                self.send(&requests, position).await;
                drop(requests);
            };
            tokio::join!(receive, send).0
        };
        let length = Duration::from_secs_f64(self.second(self.end()));
        let both = tokio::time::timeout_at(self.began + length + soak.answer_time_max, both);
        both.await.unwrap_or_else(|_| {
            Err(Status::deadline_exceeded("the server is far behind what was sent"))
        })
    }

    async fn send(&self, requests: &mpsc::Sender<v1::MatchStreamRequest>, position: usize) {
        let packet = (SAMPLE_RATE_HZ * PACKET_MS / 1_000 * 2) as usize;
        for from in (position..self.end()).step_by(packet) {
            let to = (from + packet).min(self.bytes.len());
            let due = Duration::from_secs_f64(self.second(to));
            tokio::time::sleep_until(self.began + due).await;
            let position = match self.manner {
                Manner::File => None,
                Manner::Samples | Manner::BrokenOff => Some(from as u64 / 2),
            };
            let audio = v1::StreamAudio { data: self.bytes.slice(from..to), position };
            let message = v1::MatchStreamRequest { part: Some(Part::Audio(audio)) };
            if requests.send(message).await.is_err() {
                break;
            }
        }
    }

    /// Behind which byte nothing more is sent.
    fn end(&self) -> usize {
        self.break_at.unwrap_or(self.bytes.len())
    }

    /// Time of a byte in the stream; the few of a file's header do not count.
    fn second(&self, byte: usize) -> f64 {
        byte as f64 / 2.0 / f64::from(SAMPLE_RATE_HZ)
    }

    fn header(&self) -> v1::StreamHeader {
        let format = match self.manner {
            Manner::File => Format::Encoded(v1::EncodedFormat {}),
            Manner::Samples | Manner::BrokenOff => Format::Pcm(v1::PcmFormat {
                sample_rate_hz: SAMPLE_RATE_HZ,
                channel_count: 1,
                encoding: v1::pcm_format::Encoding::S16.into(),
            }),
        };
        let stream_id = match self.manner {
            Manner::BrokenOff => self.name.clone(),
            Manner::Samples | Manner::File => String::new(),
        };
        v1::StreamHeader { format: Some(format), stream_id, ..v1::StreamHeader::default() }
    }
}
