//! How the device itself fares, as features: processor, memory, disk, temperature, network and clock.
//!
//! Pure: what the kernel writes comes in as text ([`Raw`]), figures come out. A figure that cannot be had is absent; text that makes no
//! sense is none. Rates need two readings, so the first reading has none.
//!
//! Deliberately absent: reading (the host does it), and judging: what is too much is decided where other devices can be seen.

use core::time::Duration;

use driftglass_protocol::feature::{Feature, FeatureValues};
use driftglass_protocol::unit::Fixed;

/// What the kernel says, unread.
#[derive(Clone, Copy, Debug, Default)]
pub struct Raw<'a> {
    /// `/proc/stat`
    pub stat: &'a str,
    /// `/proc/meminfo`
    pub meminfo: &'a str,
    /// `/proc/net/dev`
    pub network: &'a str,
    /// Temperature of the hottest zone.
    pub hottest: Option<Fixed>,
    /// Blocks of the file system with the agent's state, and those of them that are left.
    pub disk: Option<(u64, u64)>,
}

/// The device's figures at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// Share of processor time in use since the reading before.
    pub processor: Option<Fixed>,
    /// Share of memory in use.
    pub memory: Option<Fixed>,
    /// Share of the disk in use.
    pub disk: Option<Fixed>,
    /// Temperature of the hottest zone in degrees Celsius.
    pub temperature: Option<Fixed>,
    /// log₂ of the bytes a second received and sent since the reading before, without loopback; 0 for one or none.
    pub network: Option<Fixed>,
    /// How far the clock is ahead of the aggregator's, in seconds.
    pub clock_offset: Option<Fixed>,
}

impl Health {
    /// Adds what is known to the features of a frame.
    pub fn set_features(&self, values: &mut FeatureValues) {
        let figures = [
            (Feature::DeviceProcessor, self.processor),
            (Feature::DeviceMemory, self.memory),
            (Feature::DeviceDisk, self.disk),
            (Feature::DeviceTemperature, self.temperature),
            (Feature::DeviceNetwork, self.network),
            (Feature::ClockOffset, self.clock_offset),
        ];
        for (feature, value) in figures {
            if let Some(value) = value {
                values.set(feature, value);
            }
        }
    }
}

/// Turns readings into figures; remembers the counters of the one before.
#[derive(Clone, Copy, Debug, Default)]
pub struct Meter {
    processor: Option<Ticks>,
    network: Option<(u64, Duration)>,
}

impl Meter {
    /// The figures of a reading taken so long after some fixed instant. The clock offset is not among them.
    pub fn measure(&mut self, raw: &Raw<'_>, elapsed: Duration) -> Health {
        let ticks = processor_ticks(raw.stat);
        let bytes = network_bytes(raw.network);
        let health = Health {
            processor: self.processor.zip(ticks).and_then(|(before, now)| now.share_since(before)),
            memory: memory_used(raw.meminfo),
            disk: raw.disk.and_then(|(blocks, left)| used(blocks, left)),
            temperature: raw.hottest,
            network: self
                .network
                .zip(bytes)
                .and_then(|((before, then), now)| byte_rate(now.checked_sub(before)?, elapsed.checked_sub(then)?)),
            clock_offset: None,
        };
        self.processor = ticks;
        self.network = bytes.map(|bytes| (bytes, elapsed));
        health
    }
}

/// Processor time since the system began, in ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ticks {
    all: u64,
    idle: u64,
}

impl Ticks {
    fn share_since(self, before: Self) -> Option<Fixed> {
        let all = self.all.checked_sub(before.all).filter(|&all| all > 0)?;
        // The kernel's idle counters may run backwards a little.
        let idle = self.idle.saturating_sub(before.idle).min(all);
        used(all, idle)
    }
}

/// `1 − left/all`.
fn used(all: u64, left: u64) -> Option<Fixed> {
    let taken = i64::try_from(all.checked_sub(left)?).ok()?;
    (all > 0).then(|| Fixed::from_ratio(taken, all))
}

/// The line `cpu` of `/proc/stat`: user, nice, system, idle, iowait, irq, softirq, steal; what guests take is in user already.
fn processor_ticks(stat: &str) -> Option<Ticks> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let (mut ticks, mut count) = (Ticks { all: 0, idle: 0 }, 0);
    for (place, field) in line.split_ascii_whitespace().take(8).enumerate() {
        let field: u64 = field.parse().ok()?;
        ticks.all = ticks.all.checked_add(field)?;
        if matches!(place, 3 | 4) {
            ticks.idle = ticks.idle.checked_add(field)?;
        }
        count += 1;
    }
    (count >= 4).then_some(ticks)
}

/// From `MemTotal` and `MemAvailable`.
fn memory_used(meminfo: &str) -> Option<Fixed> {
    let figure = |name: &str| {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.split_ascii_whitespace().next()?.parse().ok()
    };
    used(figure("MemTotal")?, figure("MemAvailable")?)
}

/// Bytes received and sent over all interfaces but loopback.
fn network_bytes(network: &str) -> Option<u64> {
    let mut sum = None;
    for line in network.lines() {
        let Some((name, figures)) = line.split_once(':') else { continue };
        if name.trim() == "lo" {
            continue;
        }
        let mut figures = figures.split_ascii_whitespace();
        let (received, sent) = (figures.next().and_then(|text| text.parse().ok()), figures.nth(7));
        let bytes: u64 =
            received.zip(sent.and_then(|text| text.parse().ok())).and_then(|(a, b): (u64, u64)| a.checked_add(b))?;
        sum = Some(sum.unwrap_or(0_u64).checked_add(bytes)?);
    }
    sum
}

fn byte_rate(bytes: u64, time: Duration) -> Option<Fixed> {
    let millis = u64::try_from(time.as_millis()).ok().filter(|&millis| millis > 0)?;
    Some(Fixed::log2_ratio(bytes.saturating_mul(1000).max(millis), millis))
}

/// Degrees from the text of a thermal zone, in thousandths; what no electronics survives is a broken sensor.
#[must_use]
pub fn temperature(text: &str) -> Option<Fixed> {
    let thousandths: i64 = text.trim().parse().ok()?;
    (-60_000..=200_000).contains(&thousandths).then(|| Fixed::from_ratio(thousandths, 1000))
}

/// How far one clock is ahead of another, from milliseconds.
#[must_use]
pub const fn clock_offset(millis: i64) -> Fixed {
    Fixed::from_ratio(millis, 1000)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MEMINFO: &str = "MemTotal:        8000000 kB\nMemFree:          100000 kB\nMemAvailable:    6000000 kB\n";

    fn value(figure: Option<Fixed>) -> Option<f64> {
        figure.map(Fixed::to_f64)
    }

    #[test]
    fn figures_are_what_happened_between_two_readings() {
        let mut meter = Meter::default();
        let network = |eth: u64| {
            let mut text = heapless::String::<512>::new();
            use core::fmt::Write;
            write!(
                text,
                "Inter-|   Receive  |  Transmit\n face |bytes packets|bytes packets\n    lo: 999 1 0 0 0 0 0 0 999 1 0 0 0 0 0 0\n  eth0: {eth} 1 0 0 0 0 0 0 1000 1 0 0 0 0 0 0\n"
            )
            .expect("room");
            text
        };
        let before = network(0);
        let first = Raw {
            stat: "cpu  100 0 100 800 0 0 0 0 0 0\ncpu0 1 2 3 4\n",
            meminfo: MEMINFO,
            network: &before,
            hottest: temperature("48500\n"),
            disk: Some((1000, 250)),
        };
        let health = meter.measure(&first, Duration::from_secs(10));
        assert_eq!((health.processor, health.network, health.clock_offset), (None, None, None));
        assert_eq!(value(health.memory), Some(0.25));
        assert_eq!(value(health.disk), Some(0.75));
        assert_eq!(value(health.temperature), Some(48.5));
        let after = network(4096);
        let second = Raw { stat: "cpu  150 0 150 850 50 0 0 0 0 0\n", network: &after, ..first };
        let health = meter.measure(&second, Duration::from_secs(14));
        assert_eq!(value(health.processor), Some(0.5));
        assert_eq!(value(health.network), Some(10.0));
        let health = meter.measure(&Raw { network: &before, ..second }, Duration::from_secs(15));
        assert_eq!((health.processor, health.network), (None, None), "no time went by, and an interface began anew");
        let mut values = FeatureValues::default();
        health.set_features(&mut values);
        assert_eq!(values.get(Feature::DeviceTemperature), Some(Fixed::from_ratio(97, 2)));
        assert_eq!(values.get(Feature::DeviceProcessor), None);
    }

    #[test]
    fn what_makes_no_sense_is_absent() {
        for stat in ["", "cpu", "cpu  1 2 3", "cpu  1 2 x 4", "cpu0 1 2 3 4"] {
            assert_eq!(processor_ticks(stat), None, "{stat}");
        }
        for meminfo in ["MemTotal: 5 kB", "MemTotal: 0 kB\nMemAvailable: 0 kB", "MemTotal: 5 kB\nMemAvailable: 6 kB"] {
            assert_eq!(memory_used(meminfo), None, "{meminfo}");
        }
        for network in ["", "  lo: 1 1 0 0 0 0 0 0 1 1", "eth0: 1 2 3", "eth0: a 0 0 0 0 0 0 0 b"] {
            assert_eq!(network_bytes(network), None, "{network}");
        }
        assert_eq!([temperature("999999"), temperature("warm"), temperature("")], [None; 3]);
        assert_eq!(clock_offset(-1500).to_f64(), -1.5);
    }

    proptest! {
        #[test]
        fn no_text_can_do_harm(stat in ".{0,80}", meminfo in ".{0,80}", network in "(eth0: )?[0-9 :a]{0,80}", blocks in any::<(u64, u64)>()) {
            let raw = Raw { stat: &stat, meminfo: &meminfo, network: &network, hottest: temperature(&stat), disk: Some(blocks) };
            let mut meter = Meter::default();
            meter.measure(&raw, Duration::ZERO);
            meter.measure(&raw, Duration::from_secs(1));
        }
    }
}
