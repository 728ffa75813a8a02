//! A backup onto a full disk: said at once, nothing half left behind, and the service beside it is not disturbed.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::process::Output;

use super::volume::Volume;
use super::{CAMERA, camera, reconcile};
use crate::support::PATIENCE;
use crate::support::authority::Authority;
use crate::support::process::{command_within, lasting_port, said};
use crate::support::service::{Agent, Aggregator};
use crate::support::until;

const BYTES: u64 = 8 << 20;

/// Backs up into the folder of the volume, from within it.
fn back_up(root: &Path, volume: &Volume, folder: &Path, how: &[&str]) -> Output {
    let mut command = command_within(&volume.within(), "driftglass-aggregator");
    command.arg("backup").args(how).arg(folder.join("fleet.backup")).arg("--config").arg(root.join("aggregator.toml"));
    command.output().expect("the program can be started")
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("listed");
    let mut names: Vec<_> =
        entries.map(|entry| entry.expect("listed").file_name().into_string().expect("UTF-8")).collect();
    names.sort();
    names
}

/// Leaves so many bytes free.
fn leave(free: u64, file: &Path) {
    let mut ballast = OpenOptions::new().create(true).append(true).open(file).expect("opened");
    ballast.write_all(&vec![0x5a; usize::try_from(BYTES - free).expect("small")]).expect("written");
}

#[test]
fn a_backup_onto_a_full_disk_is_refused_leaves_nothing_and_disturbs_nobody() {
    let root = tempfile::tempdir().expect("folder");
    let (root, authority) = (root.path(), Authority::new());
    let mut camera = camera(root);
    let everywhere = ([127, 0, 0, 1], lasting_port()).into();
    let data = root.join("aggregator");
    let mut aggregator = Aggregator::start_at(root, &authority, &authority.server(), Vec::new(), &data, everywhere);
    let identity = authority.device("north", "gw");
    let agent = Agent::start(root, &authority, &identity, aggregator.quic, "north", &root.join("frames"), 0);
    let counted = |aggregator: &mut Aggregator, camera: &mut super::Camera| {
        let before = aggregator.counts(CAMERA).frames;
        super::filming("frames counted", camera, || {
            aggregator.process.assert_running();
            (aggregator.is_ready() && aggregator.counts(CAMERA).frames >= before + 10).then_some(())
        });
    };
    counted(&mut aggregator, &mut camera);
    // As large as a file of ours may be: what the estimate of the room does not count.
    fs::write(data.join("identity/large.pem"), vec![0x5a; 1 << 20]).expect("written");

    let folder = root.join("backups");
    let volume = Volume::mount(&folder, BYTES);
    let seen = volume.folder();
    let ballast = seen.join("ballast");
    let database = fs::metadata(data.join("driftglass.db")).expect("there").len();
    for (free, reason) in [(64 << 10, "have to be free"), (3 * database + (256 << 10), "No space left on device")] {
        if volume.is_real() {
            leave(free, &ballast);
            let refused = back_up(root, &volume, &folder, &[]);
            assert_eq!(refused.status.code(), Some(1), "{}", said(&refused));
            assert!(said(&refused).contains(reason), "{free} bytes free: {}", said(&refused));
            assert_eq!(names(&seen), ["ballast"], "nothing half is left");
            fs::remove_file(&ballast).expect("removed");
        }
        counted(&mut aggregator, &mut camera);
    }

    // Where files cannot grow, the copy of the database itself fails.
    let narrow = Volume::limit(&root.join("narrow"));
    narrow.narrow();
    let refused = back_up(root, &narrow, &narrow.folder(), &[]);
    assert_eq!(refused.status.code(), Some(1), "{}", said(&refused));
    assert!(said(&refused).contains("copying the database"), "{}", said(&refused));
    assert_eq!(names(&narrow.folder()), Vec::<String>::new(), "nothing half is left");
    counted(&mut aggregator, &mut camera);

    let made = back_up(root, &volume, &folder, &[]);
    assert!(made.status.success(), "{}", said(&made));
    assert_eq!(names(&seen), ["fleet.backup"]);
    // The one that is there outlives another for which there is no room.
    let before = fs::read(seen.join("fleet.backup")).expect("read");
    if volume.is_real() {
        volume.fill(aggregator.process.id());
        let refused = back_up(root, &volume, &folder, &["--force"]);
        assert_eq!(refused.status.code(), Some(1), "{}", said(&refused));
        assert_eq!(names(&seen), ["ballast", "fleet.backup"], "nothing half is left");
        assert_eq!(fs::read(seen.join("fleet.backup")).expect("read"), before);
        fs::remove_file(&ballast).expect("removed");
    }
    until("an aggregator that is ready", PATIENCE, || aggregator.is_ready().then_some(()));
    reconcile(aggregator, agent, &camera);
}
