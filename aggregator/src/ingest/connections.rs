//! Which devices are connected now; the newest connection of a device wins.
//!
//! An agent that comes back after its link broke must not wait until the old connection has timed out.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use driftglass_protocol::id::DeviceId;
use tokio::sync::watch;

use super::Stop;

/// The table of connections. Share it freely.
#[derive(Debug, Default)]
pub struct Connections {
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    next: u64,
    stopping: bool,
    open: HashMap<DeviceId, (u64, watch::Sender<Option<Stop>>)>,
}

/// A device's place in the table, given up when this is dropped.
#[derive(Debug)]
pub struct Registration<'a> {
    connections: &'a Connections,
    device: DeviceId,
    number: u64,
    stop: watch::Receiver<Option<Stop>>,
}

impl Registration<'_> {
    /// Turns to `Some` when the connection should end.
    pub const fn stop(&mut self) -> &mut watch::Receiver<Option<Stop>> {
        &mut self.stop
    }
}

impl Drop for Registration<'_> {
    fn drop(&mut self) {
        let mut table = self.connections.lock();
        if table.open.get(&self.device).is_some_and(|(number, _)| *number == self.number) {
            table.open.remove(&self.device);
        }
    }
}

impl Connections {
    /// Enters a new connection and tells an older one of the same device to stop.
    pub fn register(&self, device: DeviceId) -> Registration<'_> {
        let mut table = self.lock();
        let number = table.next;
        table.next = number.wrapping_add(1);
        let (sender, stop) = watch::channel(table.stopping.then_some(Stop::ShuttingDown));
        if let Some((_, older)) = table.open.insert(device.clone(), (number, sender)) {
            older.send_replace(Some(Stop::Superseded));
        }
        Registration { connections: self, device, number, stop }
    }

    /// Tells every connection to stop, those that are yet to come included.
    pub fn stop_all(&self) {
        let mut table = self.lock();
        table.stopping = true;
        for (_, stop) in table.open.values() {
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

    #[test]
    fn the_newest_connection_of_a_device_wins_and_the_older_one_leaves_it_alone() {
        let connections = Connections::default();
        let mut old = connections.register(device("a"));
        let mut other = connections.register(device("b"));
        let mut new = connections.register(device("a"));
        assert_eq!(*old.stop().borrow(), Some(Stop::Superseded));
        assert_eq!((*new.stop().borrow(), *other.stop().borrow()), (None, None));
        drop(old);
        assert!(connections.is_connected(&device("a")), "the older one's end does not remove the newer one");
        drop(new);
        assert!(!connections.is_connected(&device("a")));
        assert_eq!(connections.len(), 1);
    }

    #[test]
    fn at_the_end_all_stop_and_so_does_whoever_comes_late() {
        let connections = Connections::default();
        let mut early = connections.register(device("a"));
        connections.stop_all();
        let mut late = connections.register(device("b"));
        assert_eq!(*early.stop().borrow(), Some(Stop::ShuttingDown));
        assert_eq!(*late.stop().borrow(), Some(Stop::ShuttingDown));
    }
}
