use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_stream::StreamExt;

use super::*;

fn transport(places: usize, idle_max: Duration) -> Arc<Transport> {
    Arc::new(Transport::plain(places, idle_max))
}

async fn listen(transport: &Arc<Transport>) -> (std::net::SocketAddr, Incoming) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    (listener.local_addr().unwrap(), transport.accept(listener))
}

#[tokio::test]
async fn more_connections_than_there_are_places_are_closed_at_once() {
    let transport = transport(2, Duration::from_secs(60));
    let (address, mut incoming) = listen(&transport).await;
    let first = TcpStream::connect(address).await.unwrap();
    let served = incoming.next().await.unwrap().unwrap();
    let _second = TcpStream::connect(address).await.unwrap();
    let _also_served = incoming.next().await.unwrap().unwrap();
    let mut third = TcpStream::connect(address).await.unwrap();
    assert!(matches!(third.read(&mut [0; 1]).await, Ok(0) | Err(_)));
    assert_eq!((transport.open_count(), transport.turned_away_count()), (2, 1));
    drop((first, served));
    let mut fourth = TcpStream::connect(address).await.unwrap();
    let mut served = incoming.next().await.unwrap().unwrap();
    fourth.write_all(b"hello").await.unwrap();
    let mut read = [0; 5];
    served.read_exact(&mut read).await.unwrap();
    assert_eq!(&read, b"hello");
}

#[tokio::test]
async fn a_silent_connection_ends_and_one_that_speaks_does_not() {
    let (hello_max, idle_max) = (Duration::from_millis(100), Duration::from_secs(2));
    let places = Places::new(9, 9);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let connect = async || {
        let client = TcpStream::connect(address).await.unwrap();
        let stream = connection::Stream::Plain(listener.accept().await.unwrap().0);
        let place = places.take(address.ip()).unwrap();
        (client, Connection::new(stream, place, hello_max, idle_max))
    };
    let (_silent, mut served) = connect().await;
    let begin = std::time::Instant::now();
    let error = served.read(&mut [0; 1]).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    assert!(begin.elapsed() >= hello_max && begin.elapsed() < idle_max);

    // A byte now and then is not a request.
    let (mut drips, mut served) = connect().await;
    let begin = std::time::Instant::now();
    let reading = async {
        loop {
            drips.write_all(b"x").await.unwrap();
            if let Err(error) = served.read_exact(&mut [0; 1]).await {
                break error;
            }
            tokio::time::sleep(hello_max / 4).await;
        }
    };
    assert_eq!(reading.await.kind(), io::ErrorKind::TimedOut);
    assert!(begin.elapsed() < idle_max);

    let (mut speaks, mut served) = connect().await;
    speaks.write_all(&[b'x'; 24]).await.unwrap();
    served.read_exact(&mut [0; 24]).await.unwrap();
    let begin = std::time::Instant::now();
    let silence = tokio::time::timeout(idle_max / 2, served.read(&mut [0; 1])).await;
    assert!(silence.is_err(), "it has been silent for half of what it may be");
    speaks.write_all(b"x").await.unwrap();
    served.read_exact(&mut [0; 1]).await.unwrap();
    let error = served.read(&mut [0; 1]).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    assert!(begin.elapsed() >= idle_max * 3 / 2 - Duration::from_millis(50));
}

#[tokio::test]
async fn nobody_is_accepted_any_more_once_the_answer_is_dropped() {
    let (address, incoming) = listen(&transport(2, Duration::from_secs(60))).await;
    drop(incoming);
    while TcpStream::connect(address).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
