//! What the tests have in common.

pub(crate) mod authority;
pub(crate) mod camera;
pub(crate) mod peer;
pub(crate) mod process;
pub(crate) mod service;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

/// The longest any single thing may take: a machine with two slow cores and everything else running.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

#[expect(clippy::disallowed_methods, reason = "the processes under test live in real time")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "the processes under test stamp their windows with real time")]
pub(crate) fn wall_clock() -> SystemTime {
    SystemTime::now()
}

#[expect(clippy::disallowed_methods, reason = "nothing tells when another process has got somewhere")]
pub(crate) fn pause(time: Duration) {
    thread::sleep(time);
}

/// Says that it is enough when it goes, however that comes about.
#[derive(Debug)]
pub(crate) struct Enough<'a>(pub(crate) &'a AtomicBool);

impl Drop for Enough<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Looks until there is something to see.
pub(crate) fn until<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let end = now() + limit;
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(now() < end, "after {} s still not: {what}", limit.as_secs());
        pause(Duration::from_millis(50));
    }
}

/// The root of the repository.
pub(crate) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("this package lies in the workspace").to_owned()
}
