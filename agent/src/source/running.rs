//! The sources that run, and how one makes room for another while all the others go on.
//!
//! Must hold: of one camera, and at one address, never two run at a time; a source that is told to end has ended, or was cut off,
//! when the call returns.
//!
//! Deliberately absent: which source a camera should have, and when it changes; that is decided elsewhere.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use driftglass_protocol::id::Name;
use prometheus::core::Collector;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::fetch::{Fetcher, server};
use super::{Moment, Outside, Prepared, Status};

/// Time for a source to end what it started.
const END: Duration = Duration::from_secs(4);

/// What a task runs for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Serves {
    Camera(Name),
    Address(SocketAddr),
}

#[derive(Debug)]
struct Task {
    stop: watch::Sender<bool>,
    handle: JoinHandle<()>,
}

impl Task {
    async fn end(mut self) {
        self.stop.send_replace(true);
        if timeout(END, &mut self.handle).await.is_err() {
            tracing::warn!("a source took too long to stop");
            self.handle.abort();
        }
    }
}

/// Running sources of any number of cameras.
#[derive(Debug)]
pub struct Running {
    now: fn() -> Moment,
    random: fn() -> u64,
    cameras: BTreeMap<Name, Prepared>,
    tasks: BTreeMap<Serves, Task>,
    #[cfg(feature = "inference")]
    links: super::inference::Links,
}

impl Running {
    /// Nothing runs yet.
    #[must_use]
    pub fn new(now: fn() -> Moment, random: fn() -> u64) -> Self {
        Self {
            now,
            random,
            cameras: BTreeMap::new(),
            tasks: BTreeMap::new(),
            #[cfg(feature = "inference")]
            links: super::inference::Links::new(now),
        }
    }

    /// Figures that sources keep of their own, for the metrics.
    #[must_use]
    pub fn figures(&self) -> Vec<Box<dyn Collector>> {
        #[cfg(feature = "inference")]
        return self.links.figures().collectors();
        #[cfg(not(feature = "inference"))]
        Vec::new()
    }

    /// Inferences are passed on by the process at the other end, from now on.
    ///
    /// # Errors
    /// What the system refuses.
    #[cfg(feature = "inference")]
    pub(crate) fn attach(
        &self,
        stream: std::os::unix::net::UnixStream,
    ) -> std::io::Result<Arc<super::inference::Link>> {
        self.links.attach(stream)
    }

    /// What sources take from outside; those who fetch for them are stopped one by one.
    #[must_use]
    pub fn outside(&self) -> Outside {
        self.stoppable().1
    }

    fn stoppable(&self) -> (watch::Sender<bool>, Outside) {
        let (sender, stop) = watch::channel(false);
        (sender, Outside { now: self.now, random: self.random, stop })
    }

    /// Begins these; what ran for the same cameras ends first.
    pub async fn start(&mut self, sources: Vec<Prepared>) {
        let mut addresses = Vec::new();
        for source in &sources {
            addresses.extend(self.leave(&source.name).await);
        }
        for source in sources {
            let (stop, outside) = self.stoppable();
            if let Some(fetcher) = source.fetcher(outside) {
                self.spawn(Serves::Camera(source.name.clone()), stop, fetcher);
            }
            addresses.extend(source.server());
            self.cameras.insert(source.name.clone(), source);
        }
        while let Some(address) = addresses.pop() {
            // Once for all who share it.
            addresses.retain(|other| *other != address);
            self.serve(address).await;
        }
    }

    /// Ends the source of a camera, if it has one.
    pub async fn end(&mut self, camera: &Name) {
        if let Some(address) = self.leave(camera).await {
            self.serve(address).await;
        }
    }

    /// Ends all of them.
    pub async fn end_all(mut self) {
        #[cfg(feature = "inference")]
        self.links.end();
        for task in self.tasks.values() {
            task.stop.send_replace(true);
        }
        while let Some((_, task)) = self.tasks.pop_first() {
            task.end().await;
        }
    }

    /// How each camera's source is.
    #[must_use]
    pub fn statuses(&self) -> Vec<Arc<Status>> {
        self.cameras.values().map(|source| Arc::clone(&source.status)).collect()
    }

    /// Ends what runs for this camera alone; the address that it shared with others.
    async fn leave(&mut self, camera: &Name) -> Option<SocketAddr> {
        if let Some(task) = self.tasks.remove(&Serves::Camera(camera.clone())) {
            task.end().await;
        }
        self.cameras.remove(camera)?.server()
    }

    /// Serves those who share this address, if anybody does.
    async fn serve(&mut self, address: SocketAddr) {
        if let Some(task) = self.tasks.remove(&Serves::Address(address)) {
            task.end().await;
        }
        let (stop, outside) = self.stoppable();
        let cameras = self.cameras.values().filter(|source| source.server() == Some(address));
        if cameras.clone().next().is_some() {
            let fetcher = server(
                address,
                cameras,
                outside,
                #[cfg(feature = "inference")]
                &self.links,
            );
            self.spawn(Serves::Address(address), stop, fetcher);
        }
    }

    fn spawn(&mut self, serves: Serves, stop: watch::Sender<bool>, fetcher: Fetcher) {
        self.tasks.insert(serves, Task { stop, handle: tokio::spawn(fetcher.run()) });
    }
}
