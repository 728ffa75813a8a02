//! Passes inferences on: a transparent reverse proxy in front of model servers.
//!
//! It is in the path of every inference, so nothing else of the agent can hold it up or take it down: where inferences are watched it is
//! a process of its own, which starts the agent as its child and outlives it ([`crate::host::keeper`]). The agent orders what is to be
//! served and is told what passed ([`note`]); what is to be learned from that, it finds out on its own side ([`crate::source`]).
//!
//! Bytes go on as they come, whatever they say ([`relay`]): one connection to the model server for each of a client's ([`serve`]), and
//! nothing of the proxy's own on either but where there is no server ([`apology`]). What has gone on is followed ([`follow`]) as far as
//! is needed to know inferences, their times and how they ended ([`watch`]); of some the bodies are copied, within bounds ([`kept`]), and
//! go to the agent once the answer has gone on ([`teller`]).
//!
//! Must hold: the bytes that go on are the bytes that came, and go on before they are looked at; of each proxy few exchanges are copied
//! at any time, and of each at most `max_body` bytes of the request and of the answer; an agent that is slow, stuck or gone costs nothing
//! but its notes.
//!
//! Deliberately absent: changing anything that passes, `X-Forwarded-For` included; reading what is encrypted or compressed, which passes
//! unseen; more than one server behind a proxy.

mod apology;
mod follow;
mod frame;
mod kept;
pub(crate) mod note;
mod overhear;
mod relay;
mod serve;
mod teller;
mod watch;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::Builder;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::unix::OwnedReadHalf;
use tokio::net::{TcpListener, UnixStream};
use tokio::sync::{mpsc, oneshot, watch as signal};
use tokio::time::{interval, timeout};

use crate::moment::Moment;
use crate::sign::Sign;
use note::{Note, Order, Place, checked, parse};
pub use overhear::overhear;
use relay::Held;
use serve::Served;
use teller::{Notes, Teller, notes};
use watch::Watch;

/// Time for answers that are on their way when a proxy ends.
pub(crate) const DRAIN: Duration = Duration::from_secs(3);
/// How often it says that it makes progress.
const TICK: Duration = Duration::from_secs(1);
/// Orders that wait at most.
const ORDERS: usize = 64;

/// What the proxies' thread is told.
#[derive(Debug)]
enum Told {
    Order(Order),
    /// All of them end.
    End(oneshot::Sender<()>),
}

/// Proxies on a thread of their own, which do as they are ordered.
#[derive(Debug)]
pub(crate) struct Proxies {
    orders: mpsc::Sender<Told>,
    notes: Notes,
    progress: Arc<AtomicU64>,
}

impl Proxies {
    /// Begins, with nothing to serve.
    ///
    /// # Errors
    /// The system refuses a thread.
    pub(crate) fn start(now: fn() -> Moment) -> io::Result<Self> {
        let (sender, orders) = mpsc::channel(ORDERS);
        let (teller, notes) = notes();
        let progress = Arc::<AtomicU64>::default();
        let desk = Desk { proxies: Vec::new(), teller, held: Held::default(), now, progress: Arc::clone(&progress) };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Builder::new().name("inference".into()).spawn(move || runtime.block_on(desk.run(orders)))?;
        Ok(Self { orders: sender, notes, progress })
    }

    /// For those who look after it meanwhile.
    pub(crate) fn handle(&self) -> Handle {
        Handle { orders: self.orders.clone(), progress: Arc::clone(&self.progress) }
    }

    /// Takes orders from an agent and tells it what passes until it is gone; it stays as ordered then. `sign` hears what is for the
    /// service manager.
    pub(crate) async fn attend(&mut self, agent: UnixStream, mut sign: impl FnMut(Sign)) -> io::Error {
        let (mut from, mut to) = agent.into_split();
        let orders = self.orders.clone();
        let take = async {
            loop {
                match order(&mut from).await {
                    Ok(order) => {
                        if let Order::Sign(which) = order {
                            sign(which);
                        } else if orders.send(Told::Order(order)).await.is_err() {
                            break io::ErrorKind::BrokenPipe.into();
                        }
                    }
                    Err(error) => break error,
                }
            }
        };
        tokio::select! {
            error = take => error,
            error = self.notes.write(&mut to) => error,
        }
    }
}

/// Looks after proxies.
#[derive(Clone, Debug)]
pub(crate) struct Handle {
    orders: mpsc::Sender<Told>,
    progress: Arc<AtomicU64>,
}

impl Handle {
    /// Grows while the proxies' thread is alive.
    pub(crate) fn progress(&self) -> u64 {
        self.progress.load(Ordering::Relaxed)
    }

    /// Ends all proxies, and lets what is on its way arrive, for a while.
    pub(crate) async fn end(&self) {
        let (sender, ended) = oneshot::channel();
        if self.orders.send(Told::End(sender)).await.is_ok()
            && timeout(DRAIN + Duration::from_secs(1), ended).await.is_err()
        {
            tracing::warn!("the inference proxies took too long to stop");
        }
    }
}

async fn order(from: &mut OwnedReadHalf) -> io::Result<Order> {
    let length = checked(from.read_u32_le().await?)?;
    let mut message = vec![0; length];
    from.read_exact(&mut message).await?;
    Ok(parse(&message)?)
}

/// A proxy that runs.
#[derive(Debug)]
struct Proxy {
    listen: SocketAddr,
    upstream: String,
    watch: signal::Sender<Arc<Watch>>,
    stop: signal::Sender<bool>,
    ended: oneshot::Receiver<()>,
}

impl Proxy {
    async fn end(self) {
        self.stop.send_replace(true);
        // An error is that it has ended.
        if timeout(DRAIN + Duration::from_millis(500), self.ended).await.is_err() {
            tracing::warn!("an inference proxy took too long to stop");
        }
    }
}

/// Where orders are carried out.
#[derive(Debug)]
struct Desk {
    proxies: Vec<Proxy>,
    teller: Teller,
    held: Held,
    now: fn() -> Moment,
    progress: Arc<AtomicU64>,
}

impl Desk {
    async fn run(mut self, mut orders: mpsc::Receiver<Told>) {
        let mut tick = interval(TICK);
        loop {
            let told = tokio::select! {
                told = orders.recv() => told,
                _ = tick.tick() => {
                    self.progress.fetch_add(1, Ordering::Relaxed);
                    continue;
                }
            };
            match told {
                Some(Told::Order(Order::Serve(place))) => {
                    let (id, listen) = (place.id, place.listen);
                    let served = self.serve(place).await.map_err(|error| error.to_string());
                    tracing::debug!(%listen, ?served, "an inference proxy was ordered");
                    self.teller.answer(Note::Served(id, served)).await;
                }
                Some(Told::Order(Order::Leave(listen))) => {
                    if let Some(proxy) = self.take(|proxy| proxy.listen == listen) {
                        proxy.end().await;
                    }
                    self.teller.answer(Note::Left(listen)).await;
                }
                Some(Told::Order(Order::Only(places))) => self.only(&places).await,
                // Heard where orders are read.
                Some(Told::Order(Order::Sign(_))) => {}
                Some(Told::End(done)) => {
                    self.end_all().await;
                    // Whoever waited no longer does.
                    drop(done);
                    return;
                }
                None => return self.end_all().await,
            }
        }
    }

    /// Begins a proxy, or changes the one that is there; where it only watches otherwise, connections go on.
    async fn serve(&mut self, place: Place) -> io::Result<()> {
        let (listen, upstream) = (place.listen, place.upstream.clone());
        let watch = Arc::new(Watch::new(place, self.teller.clone(), self.now));
        if let Some(proxy) = self.proxies.iter().find(|proxy| proxy.listen == listen)
            && proxy.upstream == upstream
            && !proxy.stop.is_closed()
        {
            proxy.watch.send_replace(watch);
            return Ok(());
        }
        if let Some(other) = self.take(|proxy| proxy.listen == listen) {
            other.end().await;
        }
        let listener = TcpListener::bind(listen).await?;
        tracing::info!(%listen, upstream, "inferences are passed on");
        let (watch, watched) = signal::channel(watch);
        let (stop, stopping) = signal::channel(false);
        let (finished, ended) = oneshot::channel();
        let address = upstream.as_str().into();
        let served = Served { watch: watched, upstream: address, stop: stopping, held: self.held.clone() };
        tokio::spawn(async move {
            serve::serve(listener, served).await;
            drop(finished);
        });
        self.proxies.push(Proxy { listen, upstream, watch, stop, ended });
        Ok(())
    }

    /// Ends all others.
    async fn only(&mut self, places: &[SocketAddr]) {
        while let Some(proxy) = self.take(|proxy| !places.contains(&proxy.listen)) {
            tracing::info!(listen = %proxy.listen, "the inference proxy is not wanted any more");
            proxy.end().await;
        }
    }

    async fn end_all(&mut self) {
        for proxy in &self.proxies {
            proxy.stop.send_replace(true);
        }
        while let Some(proxy) = self.proxies.pop() {
            proxy.end().await;
        }
    }

    fn take(&mut self, which: impl Fn(&Proxy) -> bool) -> Option<Proxy> {
        let index = self.proxies.iter().position(which)?;
        Some(self.proxies.swap_remove(index))
    }
}
