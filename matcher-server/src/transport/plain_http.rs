//! What a client is told that speaks HTTP/1 without encryption to a server that wants TLS: to take https.
//!
//! Clients of HTTP/2 are not told so, as they would take the words for broken frames; the alert of TLS says it to them.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const ANSWER: &str = "HTTP/1.1 400 Bad Request\r\n\
    content-type: text/plain; charset=utf-8\r\n\
    content-length: 38\r\n\
    connection: close\r\n\
    \r\n\
    this port is encrypted; take https://\n";
/// How a client of HTTP/2 begins: "PRI * HTTP/2.0".
const HTTP2_BEGIN: &[u8] = b"PRI ";
/// What is read of a request before the connection is closed, and for how long: an answer is lost to a client if there is
/// something unread when its connection is closed.
const READ_MAX: u64 = 64 << 10;
const READ_TIME_MAX: Duration = Duration::from_secs(1);

/// True if what comes first on `socket` is the method of a request: a TLS handshake begins with a byte of 22. Waits for
/// the first bytes, which stay unread.
///
/// # Errors
///
/// If the connection fails.
pub(super) async fn is_spoken_on(socket: &TcpStream) -> io::Result<bool> {
    let mut begin = [0; HTTP2_BEGIN.len()];
    let begin = match socket.peek(&mut begin).await? {
        0 => return Ok(false),
        length => &begin[..length],
    };
    let is_text = begin.iter().all(|byte| byte.is_ascii_uppercase() || *byte == b' ');
    Ok(is_text && !HTTP2_BEGIN.starts_with(begin))
}

/// Answers, and closes the connection. Whether the client has heard it does not matter.
pub(super) async fn turn_away(mut socket: TcpStream) {
    if socket.write_all(ANSWER.as_bytes()).await.is_err() || socket.shutdown().await.is_err() {
        return;
    }
    let mut rest = socket.take(READ_MAX);
    let mut sink = tokio::io::sink();
    let _ = tokio::time::timeout(READ_TIME_MAX, tokio::io::copy(&mut rest, &mut sink)).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_is_as_long_as_it_says() {
        let (head, body) = ANSWER.split_once("\r\n\r\n").unwrap();
        assert!(
            head.contains(&format!("\r\ncontent-length: {}\r\n", body.len())),
            "{}",
            body.len()
        );
    }
}
