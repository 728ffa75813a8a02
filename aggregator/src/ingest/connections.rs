//! Which devices are connected now; the newest connection of a device wins.
//!
//! An agent that comes back after its link broke must not wait until the old connection has timed out. But only a connection whose
//! greeting has been accepted takes the place of an older one: a copy of a device that is turned away must not interrupt its owner.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use driftglass_protocol::id::DeviceId;
use tokio::sync::watch;
use tokio::time::Instant;

use super::session::Place;
use super::{Meter, Rate, Stop};

/// Accounts kept beyond those of the devices that are connected, before those that are settled are closed.
const SPARE_METERS: usize = 1_024;

/// The table of connections. Share it freely.
#[derive(Debug)]
pub struct Connections {
    table: Mutex<Table>,
    rate: Rate,
    begin: Instant,
}

impl Default for Connections {
    fn default() -> Self {
        Self::new(Rate::UNLIMITED)
    }
}

#[derive(Debug, Default)]
struct Table {
    next: u64,
    stopping: bool,
    /// Grows with every revocation.
    revision: u64,
    /// Connections that have not been greeted and accepted yet.
    waiting: HashMap<u64, (DeviceId, watch::Sender<Option<Stop>>)>,
    open: HashMap<DeviceId, (u64, watch::Sender<Option<Stop>>)>,
    /// What each device has sent lately. An account outlives its connection, so that coming back does not pay it off.
    meters: HashMap<DeviceId, Arc<Mutex<Meter>>>,
}

/// A connection's place in the table, given up when this is dropped.
#[derive(Debug)]
pub struct Registration<'a> {
    connections: &'a Connections,
    device: DeviceId,
    number: u64,
    stop: watch::Receiver<Option<Stop>>,
    meter: Arc<Mutex<Meter>>,
}

impl Place for Registration<'_> {
    fn stop(&mut self) -> &mut watch::Receiver<Option<Stop>> {
        &mut self.stop
    }

    fn accepted(&mut self) {
        let mut table = self.connections.lock();
        let Some((device, sender)) = table.waiting.remove(&self.number) else { return };
        match table.open.entry(device) {
            // One that came later was faster.
            Entry::Occupied(entry) if entry.get().0 > self.number => {
                sender.send_replace(Some(Stop::Superseded));
            }
            Entry::Occupied(mut entry) => {
                let (_, older) = entry.insert((self.number, sender));
                older.send_replace(Some(Stop::Superseded));
            }
            Entry::Vacant(entry) => drop(entry.insert((self.number, sender))),
        }
    }

    fn spend(&mut self, bytes: usize) -> Duration {
        let (rate, now) = (self.connections.rate, self.connections.begin.elapsed());
        self.meter.lock().unwrap_or_else(PoisonError::into_inner).spend(rate, bytes, now)
    }
}

impl Drop for Registration<'_> {
    fn drop(&mut self) {
        let mut table = self.connections.lock();
        table.waiting.remove(&self.number);
        if table.open.get(&self.device).is_some_and(|(number, _)| *number == self.number) {
            table.open.remove(&self.device);
        }
    }
}

impl Connections {
    /// No connections yet; each device may send at this rate.
    #[must_use]
    pub fn new(rate: Rate) -> Self {
        Self { table: Mutex::default(), rate, begin: Instant::now() }
    }

    /// Enters a new connection. It counts as the device's once it is [accepted](Place::accepted).
    pub fn register(&self, device: DeviceId) -> Registration<'_> {
        self.enter(device, self.lock())
    }

    /// A number that changes whenever a device is revoked; see [`Self::register_if`].
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.lock().revision
    }

    /// Like [`Self::register`], where nothing has been revoked since `revision`; otherwise `None`, and the caller has to ask again
    /// whether the device may speak. A revocation could neither find the connection in this table before, nor be known to a caller
    /// that asked before.
    #[must_use]
    pub fn register_if(&self, device: DeviceId, revision: u64) -> Option<Registration<'_>> {
        let table = self.lock();
        (table.revision == revision).then(|| self.enter(device, table))
    }

    /// Tells the connections of a device to stop because the device has been revoked. Returns whether there was one.
    pub fn revoke(&self, device: &DeviceId) -> bool {
        let mut table = self.lock();
        table.revision = table.revision.wrapping_add(1);
        for (_, stop) in table.waiting.values().filter(|(waiting, _)| waiting == device) {
            stop.send_replace(Some(Stop::Revoked));
        }
        let connection = table.open.get(device);
        connection.map(|(_, stop)| stop.send_replace(Some(Stop::Revoked))).is_some()
    }

    fn enter(&self, device: DeviceId, mut table: MutexGuard<'_, Table>) -> Registration<'_> {
        let number = table.next;
        table.next = number.wrapping_add(1);
        let (sender, stop) = watch::channel(table.stopping.then_some(Stop::ShuttingDown));
        table.waiting.insert(number, (device.clone(), sender));
        let Table { open, waiting, meters, .. } = &mut *table;
        if meters.len() > SPARE_METERS + 2 * (open.len() + waiting.len()) {
            let now = self.begin.elapsed();
            meters.retain(|_, meter| {
                Arc::strong_count(meter) > 1 || !meter.lock().unwrap_or_else(PoisonError::into_inner).is_settled(now)
            });
        }
        let meter = Arc::clone(meters.entry(device.clone()).or_default());
        Registration { connections: self, device, number, stop, meter }
    }

    /// Tells every connection to stop, those that are yet to come included.
    pub fn stop_all(&self) {
        let mut table = self.lock();
        table.stopping = true;
        let open = table.open.values().map(|(_, stop)| stop);
        for stop in open.chain(table.waiting.values().map(|(_, stop)| stop)) {
            stop.send_replace(Some(Stop::ShuttingDown));
        }
    }

    /// Whether the device is connected.
    #[must_use]
    pub fn is_connected(&self, device: &DeviceId) -> bool {
        self.lock().open.contains_key(device)
    }

    /// Number of devices connected.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lock().open.len()
    }

    /// Whether no device is connected.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use driftglass_protocol::id::Name;

    use super::*;

    fn device(name: &str) -> DeviceId {
        DeviceId { site: Name::parse("s").expect("name"), device: Name::parse(name).expect("name") }
    }

    fn accepted<'a>(connections: &'a Connections, name: &str) -> Registration<'a> {
        let mut registration = connections.register(device(name));
        registration.accepted();
        registration
    }

    #[test]
    fn the_newest_accepted_connection_of_a_device_wins_and_the_older_one_leaves_it_alone() {
        let connections = Connections::default();
        let mut old = accepted(&connections, "a");
        let mut other = accepted(&connections, "b");
        let mut new = connections.register(device("a"));
        assert_eq!(*old.stop().borrow(), None, "not before it is accepted");
        new.accepted();
        assert_eq!(*old.stop().borrow(), Some(Stop::Superseded));
        assert_eq!((*new.stop().borrow(), *other.stop().borrow()), (None, None));
        drop(old);
        assert!(connections.is_connected(&device("a")), "the older one's end does not remove the newer one");
        drop(new);
        assert!(!connections.is_connected(&device("a")));
        assert_eq!(connections.len(), 1);
    }

    #[test]
    fn who_is_turned_away_before_being_accepted_disturbs_nobody() {
        let connections = Connections::default();
        let mut owner = accepted(&connections, "a");
        let copy = connections.register(device("a"));
        drop(copy);
        assert_eq!(*owner.stop().borrow(), None);
        assert!(connections.is_connected(&device("a")));
        assert!(connections.lock().waiting.is_empty());
    }

    #[test]
    fn one_that_is_accepted_late_gives_way_to_one_that_came_after_it() {
        let connections = Connections::default();
        let mut early = connections.register(device("a"));
        let mut late = accepted(&connections, "a");
        early.accepted();
        assert_eq!((*early.stop().borrow(), *late.stop().borrow()), (Some(Stop::Superseded), None));
    }

    #[test]
    fn at_the_end_all_stop_and_so_does_whoever_comes_late() {
        let connections = Connections::default();
        let mut early = accepted(&connections, "a");
        let mut waiting = connections.register(device("a"));
        connections.stop_all();
        let mut late = connections.register(device("b"));
        for registration in [&mut early, &mut waiting, &mut late] {
            assert_eq!(*registration.stop().borrow(), Some(Stop::ShuttingDown));
        }
    }

    #[test]
    fn a_revocation_ends_the_connection_there_is_and_the_ones_that_are_being_made() {
        let connections = Connections::default();
        let mut live = accepted(&connections, "a");
        let mut waiting = connections.register(device("a"));
        let mut other = accepted(&connections, "b");
        let revision = connections.revision();
        assert!(connections.revoke(&device("a")));
        for registration in [&mut live, &mut waiting] {
            assert_eq!(*registration.stop().borrow(), Some(Stop::Revoked));
        }
        assert_eq!(*other.stop().borrow(), None);
        // It was judged before the revocation and comes to the table after it.
        assert!(connections.register_if(device("a"), revision).is_none());
        assert!(connections.register_if(device("b"), connections.revision()).is_some());
        assert!(!connections.revoke(&device("c")), "it is not connected");
    }

    #[tokio::test(start_paused = true)]
    async fn coming_back_does_not_give_a_device_another_quota_and_quiet_ones_are_forgotten() {
        let connections = Connections::new(Rate { records_per_second: 1, bytes_per_second: 1_000_000 });
        for _ in 0..10 {
            assert_eq!(accepted(&connections, "a").spend(1), Duration::ZERO);
        }
        assert_eq!(accepted(&connections, "a").spend(1), Duration::from_secs(1));
        assert_eq!(accepted(&connections, "b").spend(1), Duration::ZERO, "others have their own");
        for number in 0..3_000 {
            drop(connections.register(device(&format!("d{number}"))));
        }
        assert!(connections.lock().meters.len() < 2 * SPARE_METERS);
        assert_eq!(accepted(&connections, "a").spend(1), Duration::from_secs(2), "its account is not settled");
    }
}
