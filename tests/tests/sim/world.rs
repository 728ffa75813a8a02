//! A world: devices, their disks and clocks, the network, the aggregator, and one seed that drives all of them.
//!
//! First everything may fail; then all faults stop and everything must drain. The oracle then asks of every window whether it was
//! counted exactly once, and of every one that was not whether a tombstone stands for it.

use driftglass_protocol::id::{DeviceId, Name};
use driftglass_protocol::unit::UnixMillis;

use crate::aggregator::Aggregator;
use crate::device::{Camera, Device, Step};
use crate::disk::{DiskFaults, Rates, SimDisk};
use crate::random::Random;
use crate::rules::Rules;

/// When the world begins, in seconds since 1970.
const BEGIN: u64 = 1_700_000_000;
/// Steps that a world may take to drain.
const DRAIN: u64 = 60_000;

/// What happened in a world.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Report {
    pub(crate) windows: u64,
    pub(crate) counted: u64,
    /// Windows counted more than once.
    pub(crate) twice: u64,
    /// Windows neither counted nor accounted for.
    pub(crate) unaccounted: u64,
    /// Windows neither counted nor accounted for, all traces of which were in files that rotted or vanished.
    pub(crate) traceless: u64,
    /// Tombstones for windows that had arrived.
    pub(crate) overstated: u64,
    pub(crate) lost_full: u64,
    pub(crate) lost_damaged: u64,
    pub(crate) lost_forgotten: u64,
    pub(crate) arrived_merged: u64,
    pub(crate) wedged: bool,
    pub(crate) faults: Faults,
}

/// What went wrong, and was meant to.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Faults {
    pub(crate) disk: DiskFaults,
    pub(crate) power_cuts: u64,
    pub(crate) kills: u64,
    pub(crate) starts: u64,
    pub(crate) starts_refused: u64,
    pub(crate) appends_refused: u64,
    pub(crate) clock_jumps: u64,
    pub(crate) connections_cut: u64,
    pub(crate) connections_doubled: u64,
    pub(crate) frames_cut: u64,
    pub(crate) aggregator_crashes: u64,
    pub(crate) commits_failed: u64,
    pub(crate) duplicates: u64,
    pub(crate) gaps: u64,
    pub(crate) overlaps: u64,
    pub(crate) records_merged: u64,
    pub(crate) windows_buried: u64,
    pub(crate) rebases: u64,
}

impl Report {
    pub(crate) const fn is_sound(&self) -> bool {
        self.twice == 0 && self.unaccounted == 0 && !self.wedged
    }
}

pub(crate) fn name(text: &str) -> Name {
    Name::parse(text).expect("a name")
}

/// What a seed decides once for its world.
struct Plan {
    steps: u64,
    rates: Rates,
    /// Per mille of steps.
    kill: u64,
    cut: u64,
    rot: u64,
    full_disk: u64,
    clock: u64,
    break_connection: u64,
    aggregator: u64,
    outage: u64,
}

impl Plan {
    fn draw(random: &mut Random) -> Self {
        // Half of the worlds know a fault at all, so that each is also seen without the others.
        let mut some = |most: u64| if random.chance(500) { random.below(most + 1) } else { 0 };
        Self {
            rates: Rates { flush_fails: some(60), read_fails: some(60), write_fails: some(60) },
            kill: some(12),
            cut: some(12),
            rot: some(6),
            full_disk: some(10),
            clock: some(10),
            break_connection: some(40),
            aggregator: some(15),
            outage: some(8),
            steps: 400 + random.below(600),
        }
    }
}

pub(crate) struct World {
    pub(crate) random: Random,
    pub(crate) aggregator: Aggregator,
    pub(crate) devices: Vec<Device>,
    /// Seconds since the world began.
    pub(crate) now: u64,
    /// Nothing connects before this.
    outage_until: u64,
    pub(crate) faults: Faults,
}

impl World {
    pub(crate) fn new(seed: u64, rules: Rules) -> Self {
        let mut random = Random::new(seed);
        let devices = (0..1 + random.below(3))
            .map(|number| {
                let cameras = (0..1 + random.below(2))
                    .map(|camera| Camera {
                        name: name(&format!("c{camera}")),
                        made: 0,
                        most: 60 + u32::try_from(random.below(190)).expect("small"),
                        floor: 0,
                    })
                    .collect();
                let id = DeviceId { site: name("s"), device: name(&format!("d{number}")) };
                let max_bytes = 4_096 + random.below(3) * 4_096;
                Device::new(id, SimDisk::new(random.next()), cameras, max_bytes, rules)
            })
            .collect();
        Self { random, aggregator: Aggregator::new(rules), devices, now: 0, outage_until: 0, faults: Faults::default() }
    }

    fn wall(&self) -> UnixMillis {
        UnixMillis(i64::try_from((BEGIN + self.now) * 1000).expect("small"))
    }

    pub(crate) fn start(&mut self, device: usize) {
        let instance = self.random.next();
        self.devices[device].start(BEGIN + self.now, instance);
    }

    pub(crate) fn stop(&mut self, device: usize) {
        if let Some(link) = self.devices[device].stop() {
            self.hang_up(link, true);
        }
    }

    /// The agent's end of a connection is gone. What it had sent may still arrive, in whole or in part.
    fn hang_up(&mut self, link: u64, may_arrive: bool) {
        let Some(connection) = self.aggregator.connections.get_mut(&link) else { return };
        connection.agent_is_there = false;
        connection.down.clear();
        if may_arrive && self.random.chance(500) {
            self.faults.connections_doubled += u64::from(!connection.up.is_empty());
        } else {
            let kept = self.random.index(connection.up.len() + 1);
            self.faults.frames_cut += u64::from(kept < connection.up.len());
            connection.up.truncate(kept);
        }
    }

    /// Nothing connects before then.
    pub(crate) fn cut_off(&mut self, until: u64) {
        self.outage_until = until;
        for device in 0..self.devices.len() {
            self.disconnect(device);
        }
    }

    /// The epoch of a running device.
    pub(crate) fn epoch(&self, device: usize) -> u32 {
        self.devices[device].process.as_ref().map_or(0, |process| process.writer.epoch())
    }

    /// Whether the process that runs now was the last to be welcomed.
    pub(crate) fn has_greeted(&self, device: usize) -> bool {
        let device = &self.devices[device];
        let greeted = self.aggregator.store.rows.get(&device.id).and_then(|row| row.greeted);
        device.process.as_ref().zip(greeted).is_some_and(|(process, greeted)| process.instance == greeted.instance)
    }

    /// Greetings of copies.
    pub(crate) fn clones(&self) -> u64 {
        self.aggregator.store.rows.values().map(|row| row.clones).sum()
    }

    /// Windows counted so far.
    pub(crate) fn counted(&self) -> u64 {
        self.counted_beyond(0)
    }

    /// Windows with this number or a higher one counted so far.
    pub(crate) fn counted_beyond(&self, item: u8) -> u64 {
        let cameras = self.aggregator.store.rows.values().flat_map(|row| row.counted.values());
        cameras.map(|counted| counted.range(item..).count() as u64).sum()
    }

    fn disconnect(&mut self, device: usize) {
        let Some(link) = self.devices[device].process.as_ref().and_then(|process| process.link) else { return };
        self.devices[device].disconnected(self.now);
        self.hang_up(link, true);
        self.faults.connections_cut += 1;
    }

    /// Something that the world does anyhow.
    pub(crate) fn live(&mut self, device: usize, cameras: bool) {
        if let Some(process) = &mut self.devices[device].process {
            process.writer.tend();
        }
        let roll = self.random.below(100);
        match roll {
            0..30 => {
                let camera = self.random.index(self.devices[device].cameras.len());
                let source = &mut self.devices[device].cameras[camera];
                if cameras && source.made < source.most {
                    source.made += 1;
                }
                let store_numbers = self.random.chance(200);
                self.devices[device].close_window(camera, store_numbers);
            }
            30..70 => self.speak(device),
            70..85 => {
                let numbers: Vec<u64> = self.aggregator.connections.keys().copied().collect();
                if !numbers.is_empty() {
                    let number = numbers[self.random.index(numbers.len())];
                    let most = 1 + self.random.index(600);
                    let hears = self.random.chance(700);
                    self.aggregator.read(number, most, hears);
                }
            }
            85..95 => {
                let most = 1 + self.random.index(16);
                let now = self.wall();
                self.aggregator.commit(most, false, false, now);
            }
            _ => {
                let random = &mut self.random;
                self.aggregator.sweep(random);
            }
        }
    }

    /// The device's side of the network.
    fn speak(&mut self, device: usize) {
        let (now, wall) = (self.now, self.wall());
        let Some(process) = &self.devices[device].process else { return };
        let Some(link) = process.link else {
            if now >= process.retry_at && now >= self.outage_until {
                let id = self.devices[device].id.clone();
                let link = self.aggregator.connect(&id);
                let hello = self.devices[device].greet(link, wall);
                self.aggregator.connections.get_mut(&link).expect("new").up.extend(hello);
            }
            return;
        };
        let device = &mut self.devices[device];
        let closed = self.aggregator.is_closed(link);
        let step = match self.aggregator.connections.get_mut(&link) {
            Some(connection) if self.random.chance(400) && !connection.down.is_empty() => {
                let count = 1 + self.random.index(connection.down.len());
                device.receive(&mut connection.down, count, now)
            }
            _ if closed => Step::HungUp,
            _ => device.transmit(now),
        };
        match step {
            Step::Say(bytes) => {
                if let Some(connection) = self.aggregator.connections.get_mut(&link) {
                    connection.up.extend(bytes);
                }
            }
            Step::Nothing => {}
            Step::HungUp => {
                device.disconnected(now);
                self.hang_up(link, false);
            }
        }
    }

    fn harm(&mut self, plan: &Plan, device: usize) {
        let happens = |random: &mut Random, rate: u64| random.chance(rate);
        if happens(&mut self.random, plan.kill) && self.devices[device].process.is_some() {
            self.faults.kills += 1;
            tracing::info!(now = self.now, device, "the process is killed");
            self.stop(device);
        }
        if happens(&mut self.random, plan.cut) {
            self.faults.power_cuts += 1;
            tracing::info!(now = self.now, device, "the power is cut");
            self.stop(device);
            self.devices[device].cut_power();
        }
        if happens(&mut self.random, plan.rot) {
            match self.random.below(4) {
                0 => self.devices[device].disk.lose_a_name(),
                1 => self.devices[device].disk.kill_a_sector(),
                _ => self.devices[device].disk.flip_a_bit(),
            }
        }
        if happens(&mut self.random, plan.full_disk) {
            let full = self.random.chance(400);
            self.devices[device].disk.set_full(full);
        }
        if happens(&mut self.random, plan.clock) {
            self.faults.clock_jumps += 1;
            let jump = i64::try_from(self.random.below(4_000_000)).expect("small") - 2_000_000;
            self.devices[device].clock_ahead = jump;
        }
        if happens(&mut self.random, plan.break_connection) {
            self.disconnect(device);
        }
        if happens(&mut self.random, plan.outage) {
            let until = self.now + self.random.below(3_000);
            self.cut_off(until);
        }
        if happens(&mut self.random, plan.aggregator) {
            let most = 1 + self.random.index(16);
            let now = self.wall();
            match self.random.below(3) {
                0 => self.aggregator.crash(),
                1 => self.aggregator.commit(most, true, false, now),
                _ => self.aggregator.commit(most, false, true, now),
            }
        }
    }

    /// Lets the world go on without faults until everything has arrived; false where it does not.
    pub(crate) fn drain(&mut self) -> bool {
        self.outage_until = 0;
        for device in &mut self.devices {
            device.disk.set_rates(Rates::default());
            device.disk.set_full(false);
        }
        for _ in 0..DRAIN {
            self.now += 1;
            let device = self.random.index(self.devices.len());
            if self.devices[device].process.is_none() {
                self.start(device);
            }
            self.live(device, false);
            if self.devices.iter().all(Device::is_drained) {
                return true;
            }
        }
        false
    }

    pub(crate) fn report(&mut self, wedged: bool) -> Report {
        let mut report = Report { wedged, ..Report::default() };
        for device in 0..self.devices.len() {
            self.devices[device].stop();
        }
        for device in &self.devices {
            let row = self.aggregator.store.rows.get(&device.id).cloned().unwrap_or_default();
            let mut missing = 0;
            for camera in &device.cameras {
                let counted = row.counted.get(&camera.name);
                for item in 0..camera.made {
                    let bin = u8::try_from(item).expect("at most 256 windows");
                    let times = counted.and_then(|counted| counted.get(&bin)).copied().unwrap_or(0);
                    report.windows += 1;
                    report.counted += u64::from(times > 0);
                    report.twice += u64::from(times.saturating_sub(1));
                    missing += u64::from(times == 0);
                }
            }
            let lost: u64 = row.lost.iter().sum();
            // Where all traces of a start were in files that were hit, nothing can stand for its windows.
            let traceless = missing.saturating_sub(lost).min(device.disk.faults().windows_hit);
            report.traceless += traceless;
            report.unaccounted += missing.saturating_sub(lost + traceless);
            report.overstated += lost.saturating_sub(missing);
            report.lost_full += row.lost[0];
            report.lost_damaged += row.lost[1];
            report.lost_forgotten += row.lost[2];
            report.arrived_merged += row.merged;
            let faults = &mut self.faults;
            faults.disk = faults.disk.plus(device.disk.faults());
            faults.starts += device.starts;
            faults.starts_refused += device.starts_refused;
            faults.appends_refused += device.appends_refused;
            faults.rebases += device.rebases;
            faults.records_merged += device.merged;
            faults.windows_buried += device.buried;
            faults.duplicates += row.duplicates;
            faults.gaps += row.gaps;
            faults.overlaps += row.overlaps;
        }
        self.faults.aggregator_crashes += self.aggregator.crashes;
        self.faults.commits_failed += self.aggregator.commits_failed;
        report.faults = self.faults;
        report
    }
}

/// Runs the world of one seed to its end.
pub(crate) fn run(seed: u64, rules: Rules) -> Report {
    let mut world = World::new(seed, rules);
    let plan = Plan::draw(&mut world.random);
    for device in &world.devices {
        device.disk.set_rates(plan.rates);
    }
    for _ in 0..plan.steps * world.devices.len() as u64 {
        world.now += 1 + world.random.below(20);
        let device = world.random.index(world.devices.len());
        if world.devices[device].process.is_none() && world.random.chance(200) {
            world.start(device);
        }
        world.harm(&plan, device);
        world.live(device, true);
    }
    let drained = world.drain();
    if !drained && rules == Rules::Real {
        for device in &world.devices {
            eprintln!(
                "seed {seed}: {} {}: {}",
                device.id,
                if device.is_drained() { "drained" } else { "stuck" },
                device.describe()
            );
        }
    }
    world.report(!drained)
}

impl DiskFaults {
    pub(crate) const fn plus(self, other: Self) -> Self {
        Self {
            flushes_failed: self.flushes_failed + other.flushes_failed,
            reads_failed: self.reads_failed + other.reads_failed,
            writes_failed: self.writes_failed + other.writes_failed,
            no_space: self.no_space + other.no_space,
            writes_lost: self.writes_lost + other.writes_lost,
            writes_torn: self.writes_torn + other.writes_torn,
            names_lost: self.names_lost + other.names_lost,
            bits_flipped: self.bits_flipped + other.bits_flipped,
            files_vanished: self.files_vanished + other.files_vanished,
            dead_sectors: self.dead_sectors + other.dead_sectors,
            windows_hit: self.windows_hit + other.windows_hit,
        }
    }
}
