//! Worlds with one thing wrong that no chance would bring about often enough: lost and restored state, copies of a device.

use driftglass_aggregator::store::OWNER_SILENT_MS;
use driftglass_protocol::id::DeviceId;

use crate::device::{Camera, Device};
use crate::disk::SimDisk;
use crate::rules::Rules;
use crate::world::{Report, World, name};

/// A world of one device with two cameras; nothing in it goes wrong by itself.
fn world(seed: u64) -> World {
    let mut world = World::new(seed, Rules::Real);
    let cameras = ["c0", "c1"].map(|camera| Camera { name: name(camera), made: 0, most: 250, floor: 0 });
    let id = DeviceId { site: name("s"), device: name("d0") };
    world.devices = vec![Device::new(id, SimDisk::new(seed), cameras.to_vec(), 16_384, Rules::Real)];
    world.start(0);
    world
}

/// The world goes on for so many steps of a second.
fn live(world: &mut World, steps: u64) {
    for _ in 0..steps {
        world.now += 1;
        for device in 0..world.devices.len() {
            if world.devices[device].process.is_none() {
                world.start(device);
            }
            world.live(device, true);
        }
    }
}

/// Windows close, and nothing is delivered.
fn live_offline(world: &mut World, steps: u64) {
    let until = world.now + steps;
    world.cut_off(until + 1);
    live(world, steps);
}

fn sound(mut world: World) -> Report {
    let drained = world.drain();
    let state = world.devices[0].describe();
    let report = world.report(!drained);
    assert!(report.is_sound(), "{state}: {report:#?}");
    report
}

/// The state folder is lost and the clock is behind: the device counts in an epoch that the aggregator has left.
fn lose_the_state(world: &mut World) -> u64 {
    assert!(world.drain(), "all is acknowledged");
    world.stop(0);
    let device = &mut world.devices[0];
    device.disk.wipe();
    device.clock_ahead = -1_000_000;
    device.cameras.iter_mut().for_each(|camera| camera.floor = camera.made);
    world.counted()
}

#[test]
fn what_was_counted_offline_after_a_lost_state_folder_is_delivered_and_not_taken_for_repetitions() {
    for seed in 0..40 {
        let mut world = world(seed);
        live(&mut world, 300);
        let before = lose_the_state(&mut world);
        // Several starts without a connection, each with an epoch of its own, all of them behind.
        for _ in 0..3 {
            live_offline(&mut world, 60);
            world.stop(0);
        }
        live(&mut world, 100);
        let report = sound(world);
        assert!(report.faults.rebases >= 1, "seed {seed}: it was told that it is behind");
        assert_eq!(
            report.counted, report.windows,
            "seed {seed}: {before} before, and nothing is given up: {report:#?}"
        );
    }
}

#[test]
fn a_crash_in_the_middle_of_numbering_anew_changes_nothing() {
    for seed in 0..40 {
        let mut world = world(seed);
        live(&mut world, 200);
        lose_the_state(&mut world);
        live_offline(&mut world, 150);
        // Until it is told, and gone; the next starts are cut off by a disk that fails and by the power.
        while world.devices[0].process.is_some() {
            world.now += 1;
            world.live(0, false);
        }
        for attempt in 0..6 {
            world.devices[0].disk.set_rates(crate::disk::Rates { flush_fails: 150, read_fails: 0, write_fails: 100 });
            world.start(0);
            world.devices[0].disk.set_rates(crate::disk::Rates::default());
            world.stop(0);
            if attempt % 2 == 0 {
                world.devices[0].disk.cut_power();
            }
        }
        live(&mut world, 50);
        let report = sound(world);
        assert_eq!(report.counted, report.windows, "seed {seed}: {report:#?}");
    }
}

#[test]
fn of_a_restored_backup_nothing_is_counted_twice_and_what_is_uncertain_is_said_to_be() {
    let (mut uncertain, mut rebases) = (0, 0);
    for seed in 0..40 {
        let mut world = world(seed);
        live(&mut world, 200);
        // The backup holds windows that are delivered later by the original.
        live_offline(&mut world, 40);
        world.stop(0);
        let backup = world.devices[0].disk.image();
        live(&mut world, 200);
        assert!(world.drain());
        world.stop(0);
        let device = &mut world.devices[0];
        device.disk = backup;
        device.clock_ahead = -1_000_000;
        device.cameras.iter_mut().for_each(|camera| camera.floor = camera.made);
        live_offline(&mut world, 60);
        live(&mut world, 100);
        let drained = world.drain();
        let report = world.report(!drained);
        assert!(drained && report.twice == 0, "seed {seed}: {report:#?}");
        assert_eq!(report.unaccounted, 0, "seed {seed}: {report:#?}");
        uncertain += report.lost_forgotten;
        rebases += report.faults.rebases;
    }
    assert!(uncertain > 0 && rebases > 0, "{uncertain} {rebases}");
}

#[test]
fn of_two_living_copies_in_one_epoch_the_later_is_kept_out_and_the_first_loses_nothing() {
    for seed in 0..40 {
        let mut world = world(seed);
        live(&mut world, 200);
        assert!(world.drain());
        world.stop(0);
        // The same image, started in the same second: the same epoch, and another instance.
        let cameras = world.devices[0].cameras.clone();
        let copy = world.devices[0].disk.image();
        let id = world.devices[0].id.clone();
        let mut twin = Device::new(id, copy, cameras, 16_384, Rules::Real);
        // What the copy sees is numbered apart, so that it can be told where it went.
        twin.cameras.iter_mut().for_each(|camera| (camera.floor, camera.made) = (220, 220));
        world.devices[0].cameras.iter_mut().for_each(|camera| camera.most = 215);
        world.devices.push(twin);
        world.start(0);
        while !world.has_greeted(0) {
            world.live(0, false);
        }
        world.start(1);
        let (first, second) = (world.epoch(0), world.epoch(1));
        assert_eq!(first, second, "seed {seed}");
        live(&mut world, 2_000);
        assert!(world.clones() > 0, "seed {seed}: seen and counted");
        assert_eq!(world.counted_beyond(220), 0, "seed {seed}: nothing of the copy is merged into the device");
        // The copy is found and switched off.
        world.stop(1);
        world.devices.truncate(1);
        let report = sound(world);
        assert_eq!(report.counted, report.windows, "seed {seed}: {report:#?}");
    }
}

#[test]
fn an_epoch_whose_owner_has_fallen_silent_is_replaced_and_the_device_goes_on() {
    for seed in 0..40 {
        let mut world = world(seed);
        live(&mut world, 200);
        assert!(world.drain());
        world.stop(0);
        let backup = world.devices[0].disk.image();
        let instant = world.now;
        live(&mut world, 1);
        live(&mut world, 150);
        assert!(world.drain());
        let epoch = world.epoch(0);
        world.stop(0);
        // Restored, with a clock that says what it said then: the same epoch once more.
        let device = &mut world.devices[0];
        device.disk = backup;
        device.cameras.iter_mut().for_each(|camera| camera.floor = camera.made);
        world.now += OWNER_SILENT_MS / 1000 + 60;
        device_clock(&mut world, instant + 1);
        world.start(0);
        assert_eq!(world.epoch(0), epoch, "seed {seed}");
        live_offline(&mut world, 60);
        live(&mut world, 100);
        let report = sound(world);
        assert!(report.faults.rebases > 0, "seed {seed}");
        assert_eq!(report.counted, report.windows, "seed {seed}: {report:#?}");
    }
}

fn device_clock(world: &mut World, at: u64) {
    let behind = i64::try_from(world.now - at).expect("small");
    world.devices[0].clock_ahead = -behind;
}
