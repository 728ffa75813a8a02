//! The real program, killed again and again while files arrive: every file is counted exactly once at the aggregator.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::time::{Duration, UNIX_EPOCH};

use crate::aggregator::{Issuer, Ledger, Manner, authority, block_on, client, serve, server};
use tokio::task::{LocalSet, spawn_local};
use tokio::time::sleep;

const FILES: u64 = 400;

fn picture(seed: u64) -> Vec<u8> {
    let seed = seed.to_le_bytes()[0];
    let image =
        image::GrayImage::from_fn(160, 96, |x, y| image::Luma([(x * 3 + y * 5).to_le_bytes()[0].wrapping_add(seed)]));
    let mut bytes = Vec::new();
    image.write_to(&mut std::io::Cursor::new(&mut bytes), image::ImageFormat::Jpeg).expect("encoded");
    bytes
}

fn write_settings(folder: &Path, issuer: &Issuer, port: u16) -> PathBuf {
    let identity = folder.join("state/identity");
    fs::create_dir_all(&identity).expect("created");
    let (certificate, key) = client(issuer);
    fs::write(identity.join("cert.pem"), certificate.pem()).expect("written");
    fs::write(identity.join("ca.pem"), issuer.pem()).expect("written");
    fs::write(identity.join("key.pem"), key.serialize_pem()).expect("written");
    fs::set_permissions(identity.join("key.pem"), fs::Permissions::from_mode(0o600)).expect("set");
    let root = folder.display();
    let text = format!(
        "site = \"s\"\ndevice = \"d\"\nstate_dir = \"{root}/state\"\n[aggregator]\naddress = \"127.0.0.1:{port}\"\n\
         server_name = \"aggregator.test\"\n[window]\nlength = \"1s\"\n[telemetry]\nlisten = \"127.0.0.1:0\"\n\
         [[camera]]\nname = \"c\"\nsource = {{ kind = \"directory\", path = \"{root}/frames\" }}\n"
    );
    let path = folder.join("agent.toml");
    fs::write(&path, text).expect("written");
    path
}

fn agent(settings: &Path) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_driftglass-agent"));
    command.args(["run", "--config"]).arg(settings).stderr(Stdio::inherit());
    command.spawn().expect("started")
}

/// A file last changed 40 ms after the one before, all of them an hour ago.
fn put(folder: &Path, number: u64) {
    let bytes = if number % 50 == 7 { b"broken".to_vec() } else { picture(number) };
    let (part, path) = (folder.join(format!("{number:05}.part")), folder.join(format!("{number:05}.jpg")));
    fs::write(&part, bytes).expect("written");
    let time = UNIX_EPOCH + Duration::from_millis(1_700_000_000_000 + number * 40);
    fs::File::options().write(true).open(&part).and_then(|file| file.set_modified(time)).expect("set");
    fs::rename(part, path).expect("renamed");
}

#[test]
fn killed_again_and_again_every_file_is_counted_exactly_once() {
    block_on(LocalSet::new().run_until(async {
        let folder = tempfile::tempdir().expect("folder");
        let frames = folder.path().join("frames");
        let issuer = authority();
        let endpoint = server(&issuer);
        let settings = write_settings(folder.path(), &issuer, endpoint.local_addr().expect("address").port());
        let ledger = Rc::new(Ledger::default());
        let counting = Rc::clone(&ledger);
        spawn_local(async move {
            while let Some(incoming) = endpoint.accept().await {
                let ledger = Rc::clone(&counting);
                spawn_local(async move { serve(incoming, &ledger, Manner::Honest, usize::MAX).await });
            }
        });

        let mut running = agent(&settings);
        let mut kills = 0;
        fs::create_dir(&frames).expect("created");
        for number in 0..FILES {
            put(&frames, number);
            sleep(Duration::from_millis(15)).await;
            if number % 37 == 36 {
                running.kill().expect("killed");
                running.wait().expect("gone");
                kills += 1;
                running = agent(&settings);
            }
        }
        assert!(kills >= 10);
        let total = || ledger.counted.get().iter().sum::<u64>();
        for _ in 0..600 {
            if total() >= FILES {
                break;
            }
            sleep(Duration::from_millis(50)).await;
        }
        // A little longer, so that anything counted twice has the time to arrive.
        sleep(Duration::from_secs(1)).await;
        assert_eq!(ledger.counted.get(), [FILES - 8, 8, 0, 0]);
        assert_eq!(ledger.lost.get(), 0);

        let pid = running.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().expect("ran").success());
        for _ in 0..200 {
            if let Some(status) = running.try_wait().expect("known") {
                assert_eq!(status.code(), Some(0), "a clean stop succeeds");
                return;
            }
            sleep(Duration::from_millis(50)).await;
        }
        running.kill().expect("killed");
        panic!("the agent did not stop");
    }));
}

#[test]
fn a_replay_ends_well_when_everything_is_acknowledged_and_counts_with_event_time() {
    block_on(LocalSet::new().run_until(async {
        let folder = tempfile::tempdir().expect("folder");
        let frames = folder.path().join("recorded");
        fs::create_dir(&frames).expect("created");
        let mut predictions = String::from("frame,label,confidence\n");
        for number in 0..60 {
            put(&frames, number);
            predictions.push_str(&format!("{number:05}.jpg,person,0.75\n"));
        }
        fs::write(folder.path().join("predictions.csv"), predictions).expect("written");
        let issuer = authority();
        let endpoint = server(&issuer);
        let settings = write_settings(folder.path(), &issuer, endpoint.local_addr().expect("address").port());
        let ledger = Rc::new(Ledger::default());
        let counting = Rc::clone(&ledger);
        spawn_local(async move {
            while let Some(incoming) = endpoint.accept().await {
                let ledger = Rc::clone(&counting);
                spawn_local(async move { serve(incoming, &ledger, Manner::Honest, usize::MAX).await });
            }
        });
        let mut command = Command::new(env!("CARGO_BIN_EXE_driftglass-agent"));
        command
            .args(["replay", "--camera", "c", "--start", "2026-01-01T00:00:00Z", "--fps", "0.5", "--config"])
            .arg(settings);
        command.arg("--frames").arg(&frames).arg("--predictions").arg(folder.path().join("predictions.csv"));
        let mut running = command.spawn().expect("started");
        let status = loop {
            if let Some(status) = running.try_wait().expect("known") {
                break status;
            }
            sleep(Duration::from_millis(20)).await;
        };
        assert_eq!(status.code(), Some(0));
        assert_eq!(ledger.counted.get(), [58, 2, 0, 0]);
        // One frame every two seconds in windows of one: each in a window of its own, thirty a minute from the start on.
        let first = 1_767_225_600 / 60;
        assert_eq!(ledger.minutes.take(), (0..60).map(|number| first + number / 30).collect::<Vec<i64>>());
    }));
}
