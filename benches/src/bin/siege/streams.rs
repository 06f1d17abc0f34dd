//! Streams in the widest format that there is, in the longest packets, with a gap behind each, as fast as they are taken.

use std::net::IpAddr;
use std::sync::Arc;

use anyhow::Result;
use bytes::Bytes;
use earmark_proto::v1;
use earmark_proto::v1::match_service_client::MatchServiceClient;
use earmark_proto::v1::match_stream_request::Part;
use earmark_proto::v1::pcm_format::Encoding;
use earmark_proto::v1::stream_header::Format;
use tonic::transport::{Channel, Endpoint};

use crate::assault::{Assault, PAUSE, home};

/// Third byte of the addresses that they come from.
const KIND: u8 = 4;
const WHO: &str = "streams";
/// Streams of one connection: what a server allows by default.
const PER_CONNECTION: usize = 50;
/// Longest packet, in bytes.
const PACKET: &[u8] = &[0; 1 << 20];
const CHANNEL_COUNT: u32 = 8;
const RATE_HZ: u32 = 192_000;
/// Samples of all channels in a packet, and how many are missing behind it.
const PACKET_LEN: u64 = PACKET.len() as u64 / (4 * CHANNEL_COUNT as u64);
const GAP_LEN: u64 = 50;

/// Opens `count` streams, again whenever the server ends one.
pub(crate) fn begin(assault: &Arc<Assault>, count: usize) {
    for connection in 0..count.div_ceil(PER_CONNECTION) {
        let assault = Arc::clone(assault);
        let stream_count = PER_CONNECTION.min(count - connection * PER_CONNECTION);
        tokio::spawn(async move {
            loop {
                match connect(&assault, connection).await {
                    Ok(channel) => return flood(&assault, &channel, stream_count),
                    Err(error) => assault.count(WHO, format!("no connection: {error:#}")),
                }
                tokio::time::sleep(PAUSE).await;
            }
        });
    }
}

async fn connect(assault: &Assault, number: usize) -> Result<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{}", assault.server))?;
    Ok(endpoint.local_address(Some(IpAddr::from(home(KIND, number)))).connect().await?)
}

fn flood(assault: &Arc<Assault>, channel: &Channel, stream_count: usize) {
    for _ in 0..stream_count {
        let (assault, channel) = (Arc::clone(assault), channel.clone());
        tokio::spawn(async move {
            loop {
                let mut matcher = MatchServiceClient::new(channel.clone());
                let what = match follow(&assault, &mut matcher).await {
                    Ok(()) => "ended".to_owned(),
                    Err(status) => format!("{:?}: {}", status.code(), status.message()),
                };
                assault.count(WHO, what);
                tokio::time::sleep(PAUSE).await;
            }
        });
    }
}

/// One stream, until the server ends it.
async fn follow(
    assault: &Assault,
    matcher: &mut MatchServiceClient<Channel>,
) -> Result<(), tonic::Status> {
    let packets = (0..).map(|number| {
        let position = Some(number * (PACKET_LEN + GAP_LEN));
        Part::Audio(v1::StreamAudio { data: Bytes::from_static(PACKET), position })
    });
    let parts = std::iter::once(Part::Header(header())).chain(packets);
    let messages = parts.map(|part| v1::MatchStreamRequest { part: Some(part) });
    let mut answers = matcher.match_stream(tokio_stream::iter(messages)).await?.into_inner();
    assault.count(WHO, "opened");
    while answers.message().await?.is_some() {}
    Ok(())
}

fn header() -> v1::StreamHeader {
    let format = v1::PcmFormat {
        sample_rate_hz: RATE_HZ,
        channel_count: CHANNEL_COUNT,
        encoding: Encoding::F32.into(),
    };
    v1::StreamHeader { format: Some(Format::Pcm(format)), ..v1::StreamHeader::default() }
}
