//! The agent's end of what it shares with the proxies.
//!
//! Where the agent is the child of the proxies' process, that process is at the other end; otherwise, because no inference was watched
//! when it began, the proxies are a thread of this one until its next start.

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::Builder;
use std::time::Duration;

use tokio::sync::watch as signal;
use tokio::time::timeout;

use super::figures::Figures;
use super::observer::{self, Camera, Shared, lock, wait};
use crate::proxy::note::{Order, Place, framed};
use crate::proxy::{DRAIN, Proxies};
use crate::sign::Sign;
use crate::source::Moment;

/// Time for an order to be carried out. The proxy that gives way may still have answers on their way.
const CARRIED_OUT: Duration = Duration::from_secs(10);

/// The connection to the proxies.
#[derive(Debug)]
pub(crate) struct Link {
    orders: Mutex<UnixStream>,
    shared: Arc<Shared>,
    next: AtomicU64,
}

impl Link {
    /// Begins to listen, on a thread of its own.
    ///
    /// # Errors
    /// What the system refuses.
    fn over(stream: UnixStream, figures: Figures) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            places: Mutex::default(),
            served: Mutex::default(),
            left: Mutex::default(),
            figures,
            gone: signal::channel(false).0,
        });
        let (notes, heard) = (stream.try_clone()?, Arc::clone(&shared));
        Builder::new().name("inference-seen".into()).spawn(move || observer::observe(notes, heard))?;
        Ok(Self { orders: Mutex::new(stream), shared, next: AtomicU64::new(1) })
    }

    /// With the proxies in this process.
    fn within(now: fn() -> Moment, figures: Figures) -> io::Result<Self> {
        tracing::debug!("inferences pass through the process of the agent");
        let (ours, theirs) = UnixStream::pair()?;
        theirs.set_nonblocking(true)?;
        let mut proxies = Proxies::start(now)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Builder::new().name("inference-told".into()).spawn(move || {
            runtime.block_on(async {
                match tokio::net::UnixStream::from_std(theirs) {
                    Ok(stream) => {
                        let ended = proxies.attend(stream, |_| {}).await;
                        tracing::debug!(%ended, "nobody orders inference proxies any more");
                    }
                    Err(error) => tracing::error!(%error, "the inference proxies cannot be told anything"),
                }
                proxies.handle().end().await;
            });
        })?;
        Self::over(ours, figures)
    }

    /// Says that only these places will be ordered.
    pub(crate) fn only(&self, places: Vec<SocketAddr>) {
        self.say(&Order::Only(places));
    }

    /// For the service manager.
    pub(crate) fn sign(&self, sign: Sign) {
        self.say(&Order::Sign(sign));
    }

    /// Resolves when the proxies are gone.
    pub(crate) async fn gone(&self) {
        // An error is that nobody is left who could say it.
        drop(self.shared.gone.subscribe().wait_for(|&gone| gone).await);
    }

    /// Has a place served from now on.
    ///
    /// # Errors
    /// It cannot be served, or the proxies do not say.
    pub(super) async fn serve(&self, place: Place, cameras: Arc<Vec<Camera>>) -> io::Result<()> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let place = Place { id, ..place };
        {
            let mut places = lock(&self.shared.places);
            places.retain(|known| known.listen != place.listen);
            places.push(observer::Place { id, listen: place.listen, upstream: place.upstream.clone(), cameras });
        }
        let served = wait(&self.shared.served, id);
        self.order(&Order::Serve(place))?;
        match timeout(CARRIED_OUT, served).await {
            Ok(Ok(Ok(()))) => Ok(()),
            Ok(Ok(Err(text))) => Err(io::Error::other(text)),
            Ok(Err(_)) => Err(io::ErrorKind::BrokenPipe.into()),
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    /// Has a place served no more, and waits for that.
    pub(super) async fn leave(&self, listen: SocketAddr) {
        let left = wait(&self.shared.left, listen);
        if self.order(&Order::Leave(listen)).is_ok() && timeout(DRAIN + Duration::from_secs(1), left).await.is_err() {
            tracing::warn!(%listen, "the inference proxy took too long to stop");
        }
        lock(&self.shared.places).retain(|place| place.listen != listen);
    }

    fn say(&self, order: &Order) {
        if let Err(error) = self.order(order) {
            tracing::debug!(%error, "the inference proxies are not told");
        }
    }

    fn order(&self, order: &Order) -> io::Result<()> {
        lock(&self.orders).write_all(&framed(order)?)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // The thread that listens has the other handle.
        if let Err(error) = lock(&self.orders).shutdown(std::net::Shutdown::Both) {
            tracing::debug!(%error, "the proxies are gone already");
        }
    }
}

/// The link of one agent, made when it is first needed, and its figures.
#[derive(Clone, Debug)]
pub(in crate::source) struct Links {
    now: fn() -> Moment,
    link: Arc<Mutex<Option<Arc<Link>>>>,
    /// Whether the proxies are a process of their own.
    apart: Arc<AtomicBool>,
    figures: Figures,
}

impl Links {
    pub(in crate::source) fn new(now: fn() -> Moment) -> Self {
        Self { now, link: Arc::default(), apart: Arc::default(), figures: Figures::default() }
    }

    pub(in crate::source) const fn figures(&self) -> &Figures {
        &self.figures
    }

    /// The other end is the process that started this one.
    ///
    /// # Errors
    /// What the system refuses.
    pub(in crate::source) fn attach(&self, stream: UnixStream) -> io::Result<Arc<Link>> {
        let link = Arc::new(Link::over(stream, self.figures.clone())?);
        *lock(&self.link) = Some(Arc::clone(&link));
        self.apart.store(true, Ordering::Relaxed);
        Ok(link)
    }

    /// The link, made now where there is none.
    ///
    /// # Errors
    /// What the system refuses.
    pub(super) fn get(&self) -> io::Result<Arc<Link>> {
        let mut place = lock(&self.link);
        if let Some(link) = &*place {
            return Ok(Arc::clone(link));
        }
        let link = Arc::new(Link::within(self.now, self.figures.clone())?);
        *place = Some(Arc::clone(&link));
        Ok(link)
    }

    /// The agent ends. Proxies of another process stay: whether inferences pass on is not for the agent to say.
    pub(in crate::source) fn end(&self) {
        if self.apart.load(Ordering::Relaxed) {
            *lock(&self.link) = None;
        }
    }

    /// The link, where there is one.
    pub(super) fn known(&self) -> Option<Arc<Link>> {
        lock(&self.link).clone()
    }
}
