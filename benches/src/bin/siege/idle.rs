//! Connections of HTTP/2 that ask for nothing: they are there, and say so when they are asked.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::assault::{Assault, PAUSE, home};

/// Third byte of the addresses that they come from.
const KIND: u8 = 1;
const WHO: &str = "connections";
/// Pause between two that are made.
const STEP: Duration = Duration::from_micros(500);
/// How a client begins, and settings that say nothing (RFC 9113, 3.4 and 6.5).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
/// Length of a frame's head, and places in it (RFC 9113, 4.1).
const HEAD_LEN: usize = 9;
const KIND_PLACE: usize = 3;
const FLAGS_PLACE: usize = 4;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GO_AWAY: u8 = 7;
/// The flag of an answer to settings and pings.
const ACK: u8 = 1;
/// Longest frame that a server sends without having been asked for anything.
const FRAME_MAX: usize = 16 << 10;

/// Opens `count` connections, and keeps them.
pub(crate) fn begin(assault: &Arc<Assault>, count: usize) {
    let assault = Arc::clone(assault);
    tokio::spawn(async move {
        for number in 0..count {
            let assault = Arc::clone(&assault);
            tokio::spawn(async move {
                loop {
                    let Err(error) = hold(&assault, home(KIND, number)).await;
                    assault.count(WHO, format!("ended: {error:#}"));
                    tokio::time::sleep(PAUSE).await;
                }
            });
            tokio::time::sleep(STEP).await;
        }
    });
}

/// Holds one until the server ends it.
async fn hold(assault: &Assault, from: Ipv4Addr) -> Result<std::convert::Infallible> {
    let mut socket = assault.connect(from).await?;
    socket.write_all(PREFACE).await?;
    assault.count(WHO, "opened");
    loop {
        let mut head = [0; HEAD_LEN];
        socket.read_exact(&mut head).await?;
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        ensure!(length <= FRAME_MAX, "a frame of {length} bytes");
        let mut payload = vec![0; length];
        socket.read_exact(&mut payload).await?;
        let is_answer = head[FLAGS_PLACE] & ACK != 0;
        match head[KIND_PLACE] {
            PING if !is_answer => {
                head[FLAGS_PLACE] = ACK;
                socket.write_all(&[&head[..], &payload].concat()).await?;
            }
            SETTINGS if !is_answer => {
                socket.write_all(&[0, 0, 0, SETTINGS, ACK, 0, 0, 0, 0]).await?;
            }
            GO_AWAY => anyhow::bail!("the server said goodbye"),
            _ => {}
        }
    }
}
