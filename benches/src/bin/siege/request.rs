//! A request of HTTP/1.1 by hand, whose body may stop before its end.

use std::io;
use std::net::Ipv4Addr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::assault::Assault;

/// A request.
pub(crate) struct Request<'a> {
    pub(crate) path: &'a str,
    /// What is said of the body's length, in bytes.
    pub(crate) announced: usize,
    /// What is sent of it.
    pub(crate) body: &'a [u8],
    /// How often that is sent.
    pub(crate) times: usize,
}

impl Request<'_> {
    /// Sends it, and waits for as long as the server does. Gives the answer's status, or how it ended without one.
    pub(crate) async fn send(&self, assault: &Assault, from: Ipv4Addr) -> String {
        self.try_to_send(assault, from).await.unwrap_or_else(|error| error.kind().to_string())
    }

    async fn try_to_send(&self, assault: &Assault, from: Ipv4Addr) -> io::Result<String> {
        let mut socket = assault.connect(from).await?;
        let head = format!(
            "POST {} HTTP/1.1\r\nhost: earmark\r\ncontent-length: {}\r\n\r\n",
            self.path, self.announced
        );
        let (mut reading, mut writing) = socket.split();
        let send = async {
            writing.write_all(head.as_bytes()).await?;
            for _ in 0..self.times {
                writing.write_all(self.body).await?;
            }
            // Left open: the rest may come, for all that the server knows.
            std::future::pending::<io::Result<()>>().await
        };
        let receive = async {
            // "HTTP/1.1 429 ", of which the status is told.
            let mut line = [0; 13];
            reading.read_exact(&mut line).await?;
            Ok::<_, io::Error>(String::from_utf8_lossy(&line[9..12]).into_owned())
        };
        let mut receive = std::pin::pin!(receive);
        tokio::select! {
            answered = &mut receive => answered,
            // The server may have answered before it hung up.
            sent = send => match sent {
                Err(error) => receive.await.or(Err(error)),
                Ok(()) => receive.await,
            },
        }
    }
}
