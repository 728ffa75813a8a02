//! Where clients connect: how many may, for how long, and what happens when the proxy ends.
//!
//! Must hold: at most [`CONNECTIONS`] connections, of which one on which nothing moves gives way where a further one waits; a client
//! that is gone without a word is found out by the system ([`KEEPALIVE`]).

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use rustix::net::sockopt::{set_socket_keepalive, set_tcp_keepcnt, set_tcp_keepidle, set_tcp_keepintvl};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch as signal};
use tokio::task::JoinSet;
use tokio::time::{Instant, interval_at, sleep, timeout};

use super::DRAIN;
use super::apology::apologise;
use super::follow::Follower;
use super::relay::{Held, Relay};
use super::watch::Watch;

/// Connections of clients at a time; more wait.
const CONNECTIONS: usize = 256;
/// A connection on which nothing moves for so long gives way to others; without any server, it ends then.
const IDLE: Duration = Duration::from_secs(60);
/// Time until there is a connection to the server.
const CONNECT: Duration = Duration::from_secs(5);
/// Time for a client to read the end of an answer and to close its connection.
const LINGER: Duration = Duration::from_secs(5);
/// Silence before the system asks whether the other side is there, time between its questions, and their number.
const KEEPALIVE: (Duration, Duration, u32) = (Duration::from_secs(60), Duration::from_secs(15), 4);
/// Wait after the system refused a connection.
const REFUSED: Duration = Duration::from_millis(100);

/// What all connections share.
#[derive(Clone, Debug)]
pub(super) struct Served {
    /// Who watches may change while connections go on.
    pub(super) watch: signal::Receiver<Arc<Watch>>,
    pub(super) upstream: Arc<str>,
    pub(super) stop: signal::Receiver<bool>,
    pub(super) held: Held,
}

/// Serves until told to stop, and then until what is on its way has arrived.
pub(super) async fn serve(listener: TcpListener, served: Served) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    let mut stop = served.stop.clone();
    loop {
        while connections.try_join_next().is_some() {}
        let accepted = tokio::select! {
            // An error is that nobody is left who could say it.
            _ = stop.wait_for(|&stop| stop) => break,
            accepted = accept(&listener, &places) => accepted,
        };
        match accepted {
            Ok((stream, place)) => {
                let (served, places) = (served.clone(), Arc::clone(&places));
                connections.spawn(async move {
                    converse(stream, served, &places).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::debug!(%error, "the inference proxy accepts nothing");
                sleep(REFUSED).await;
            }
        }
    }
    drop(listener);
    let ended = async { while connections.join_next().await.is_some() {} };
    if timeout(DRAIN, ended).await.is_err() {
        tracing::debug!("inferences were cut off because they took too long");
    }
}

async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> io::Result<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    Ok((stream, place))
}

/// One client's connection, and the one to the server that belongs to it. What one side learns from the other closing its connection it
/// therefore learns through the proxy, too, and nothing is shared between clients.
async fn converse(client: TcpStream, served: Served, places: &Semaphore) {
    let Served { watch, upstream, mut stop, held } = served;
    let follower = Follower::new(watch);
    if prepare(&client).is_err() {
        return;
    }
    let connected = tokio::select! {
        _ = stop.wait_for(|&stop| stop) => return,
        connected = connect(&client, &upstream) => connected,
    };
    let server = match connected {
        Ok(server) => server,
        Err(None) => return,
        Err(Some(error)) => {
            return apologise(client, follower, &upstream, &format!("cannot be reached: {error}")).await;
        }
    };
    let mut relay = Relay::new(client, server, follower, &held);
    let mut look = interval_at(Instant::now() + IDLE, IDLE);
    let (mut stopping, mut lingering) = (false, false);
    loop {
        let pass = poll_fn(|context| match relay.poll(context) {
            Poll::Ready(()) => Poll::Ready(true),
            Poll::Pending if stopping && relay.is_idle() => Poll::Ready(true),
            Poll::Pending if relay.is_answered() && !lingering => Poll::Ready(false),
            Poll::Pending => Poll::Pending,
        });
        tokio::select! {
            biased;
            ended = pass => if ended { return } else { lingering = true },
            () = sleep(LINGER), if lingering => return,
            _ = stop.wait_for(|&stop| stop), if !stopping => stopping = true,
            _ = look.tick() => {
                let moved = relay.has_moved();
                if !moved && relay.is_idle() && places.available_permits() == 0 {
                    tracing::debug!("a connection on which nothing moved gives way");
                    return;
                }
            }
        }
    }
}

/// Connects to the server. That it fails is told to a client that asks, after another attempt; `None` where it does not ask.
async fn connect(client: &TcpStream, upstream: &str) -> Result<TcpStream, Option<io::Error>> {
    if let Ok(server) = dial(upstream).await {
        return Ok(server);
    }
    match timeout(IDLE, client.readable()).await {
        Ok(Ok(())) => dial(upstream).await.map_err(Some),
        Ok(Err(_)) | Err(_) => Err(None),
    }
}

async fn dial(upstream: &str) -> io::Result<TcpStream> {
    let server = timeout(CONNECT, TcpStream::connect(upstream)).await;
    let server = server.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?;
    prepare(&server)?;
    Ok(server)
}

fn prepare(stream: &TcpStream) -> io::Result<()> {
    // A small piece must not wait for the acknowledgement of another.
    stream.set_nodelay(true)?;
    let (idle, between, count) = KEEPALIVE;
    set_socket_keepalive(stream, true)?;
    set_tcp_keepidle(stream, idle)?;
    set_tcp_keepintvl(stream, between)?;
    set_tcp_keepcnt(stream, count)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::proxy::overhear::listener;

    /// Answers each request of few bytes with a nod.
    async fn nodding() -> std::net::SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    while let Ok(1..) = stream.read(&mut [0; 1000]).await {
                        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nnod").await.ok();
                    }
                });
            }
        });
        address
    }

    async fn ask(stream: &mut TcpStream) -> io::Result<()> {
        stream.write_all(b"GET / HTTP/1.1\r\nHost: m\r\n\r\n").await?;
        stream.read_exact(&mut [0; 41]).await.map(drop)
    }

    /// Its clock goes on whenever everybody waits.
    #[tokio::test(start_paused = true)]
    async fn a_connection_on_which_nothing_moves_gives_way_where_another_waits() {
        let (_, watch, _notes) = listener();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let (stopping, stop) = signal::channel(false);
        let upstream = nodding().await.to_string().into();
        let served =
            tokio::spawn(serve(listener, Served { watch: watch.subscribe(), upstream, stop, held: Held::default() }));
        let mut all = Vec::new();
        for _ in 0..CONNECTIONS {
            let mut stream = TcpStream::connect(address).await.expect("a connection");
            ask(&mut stream).await.expect("an answer");
            all.push(stream);
        }
        let mut further = TcpStream::connect(address).await.expect("the system takes it");
        ask(&mut further).await.expect("an answer, once another gave way");
        stopping.send_replace(true);
        served.await.expect("no panic");
        // None of them has anything on its way.
        all[0].read_exact(&mut [0]).await.expect_err("closed");
    }
}
