//! Reads what the kernel says of the device, at most once a second.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use driftglass_protocol::unit::Fixed;

use crate::health::{Health, Meter, Raw, clock_offset, temperature};
use crate::uplink::Counters;

/// Between two readings.
const EVERY: Duration = Duration::from_secs(1);
/// Most that is read of one file; the kernel puts what is needed first, or writes less.
const FILE_BYTES: u64 = 64 * 1024;
/// Most thermal zones looked at.
const ZONES: usize = 64;

/// The device's figures, read anew when they are a second old.
#[derive(Debug)]
pub(super) struct Probe {
    root: PathBuf,
    state_dir: PathBuf,
    uplink: Arc<Counters>,
    meter: Meter,
    read: Option<(Duration, Health)>,
}

impl Probe {
    /// Reads `proc` and `sys` below `root`, and the file system of `state_dir`.
    pub(super) fn new(root: PathBuf, state_dir: PathBuf, uplink: Arc<Counters>) -> Self {
        Self { root, state_dir, uplink, meter: Meter::default(), read: None }
    }

    /// The figures at an instant of the monotonic clock.
    pub(super) fn at(&mut self, elapsed: Duration) -> Health {
        if let Some((then, health)) = self.read
            && elapsed.saturating_sub(then) < EVERY
        {
            return health;
        }
        let [stat, meminfo, network] =
            ["proc/stat", "proc/meminfo", "proc/net/dev"].map(|file| text(&self.root.join(file)));
        let raw = Raw {
            stat: &stat,
            meminfo: &meminfo,
            network: &network,
            hottest: hottest(&self.root.join("sys/class/thermal")),
            disk: rustix::fs::statvfs(&self.state_dir).ok().map(|disk| (disk.f_blocks, disk.f_bavail)),
        };
        let mut health = self.meter.measure(&raw, elapsed);
        health.clock_offset = self.uplink.clock_offset.millis().map(clock_offset);
        self.read = Some((elapsed, health));
        health
    }
}

/// Nothing where it cannot be read: not every kernel has every file.
fn text(path: &Path) -> String {
    let mut bytes = Vec::new();
    match File::open(path).and_then(|file| file.take(FILE_BYTES).read_to_end(&mut bytes)) {
        Ok(_) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) => {
            tracing::debug!(path = %path.display(), %error, "not read");
            String::new()
        }
    }
}

fn hottest(zones: &Path) -> Option<Fixed> {
    let entries = fs::read_dir(zones).ok()?;
    let zones = entries.flatten().map(|entry| entry.path().join("temp")).take(ZONES);
    zones.filter_map(|zone| temperature(&text(&zone))).max()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_come_from_the_files_and_are_read_again_after_a_second() {
        let folder = tempfile::tempdir().expect("folder");
        let root = folder.path();
        let put = |file: &str, text: &str| {
            let path = root.join(file);
            fs::create_dir_all(path.parent().expect("a folder")).expect("created");
            fs::write(path, text).expect("written");
        };
        put("proc/stat", "cpu  0 0 0 100 0 0 0 0 0 0\n");
        put("proc/meminfo", "MemTotal: 4 kB\nMemAvailable: 1 kB\n");
        put("sys/class/thermal/thermal_zone0/temp", "30000\n");
        put("sys/class/thermal/thermal_zone1/temp", "61000\n");
        put("sys/class/thermal/cooling_device0/type", "fan\n");
        let uplink = Arc::new(Counters::default());
        let mut probe = Probe::new(root.to_path_buf(), root.to_path_buf(), Arc::clone(&uplink));
        let health = probe.at(Duration::from_secs(5));
        assert_eq!((health.temperature, health.memory), (Some(Fixed::from_int(61)), Some(Fixed::from_ratio(3, 4))));
        assert_eq!((health.processor, health.network, health.clock_offset), (None, None, None));
        assert!(health.disk.is_some_and(|share| (Fixed::ZERO..=Fixed::ONE).contains(&share)));
        put("proc/stat", "cpu  25 0 0 175 0 0 0 0 0 0\n");
        uplink.clock_offset.set(-2500);
        assert_eq!(probe.at(Duration::from_millis(5900)), health);
        let later = probe.at(Duration::from_secs(6));
        assert_eq!(later.processor, Some(Fixed::from_ratio(1, 4)));
        assert_eq!(later.clock_offset, Some(Fixed::from_ratio(-5, 2)));
    }

    #[test]
    fn this_machine_has_a_processor_and_memory() {
        let mut probe = Probe::new("/".into(), "/".into(), Arc::default());
        let health = probe.at(Duration::from_secs(1));
        assert!(health.memory.is_some_and(|share| share > Fixed::ZERO && share < Fixed::ONE));
        assert!(text(Path::new("/proc/stat")).starts_with("cpu "));
        assert!(health.disk.is_some());
    }
}
