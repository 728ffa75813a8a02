//! The cameras as an agent sees them: through the files in their folders.

use std::collections::BTreeMap;

use driftglass_agent::fault::Severity;
use image::RgbImage;
use tempfile::TempDir;

use super::*;

struct Bench {
    rig: CameraRig,
    folders: Vec<PathBuf>,
    _root: TempDir,
}

fn folders(root: &Path, count: usize) -> Vec<PathBuf> {
    (0..count).map(|camera| root.join(format!("site/camera-{camera}"))).collect()
}

fn bench(cameras: usize, frames: usize, keep: usize) -> Bench {
    let root = tempfile::tempdir().unwrap();
    let folders = folders(root.path(), cameras);
    let footage = Footage::shipped().unwrap().first(frames);
    let rig = CameraRig::new(footage, &folders, NonZeroUsize::new(keep).unwrap(), |_| ()).unwrap();
    Bench { rig, folders, _root: root }
}

/// All files of a folder, by name.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let read = |entry: io::Result<fs::DirEntry>| {
        let path = entry.unwrap().path();
        (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read(path).unwrap())
    };
    fs::read_dir(folder).unwrap().map(read).collect()
}

impl Bench {
    fn write(&mut self, camera: usize) -> Vec<u8> {
        self.rig.write_next(camera).unwrap();
        files(&self.folders[camera]).pop_last().unwrap().1
    }

    fn write_many(&mut self, camera: usize, count: usize) -> Vec<Vec<u8>> {
        (0..count).map(|_| self.write(camera)).collect()
    }

    fn fault(&mut self, camera: usize, kind: Kind, severity: Severity) {
        self.rig.set_fault(camera, Some(Injector::new(kind, severity, 7))).unwrap();
    }
}

fn mean(bytes: &[u8]) -> f64 {
    let picture = fault::decode(bytes).unwrap();
    picture.iter().map(|level| f64::from(*level)).sum::<f64>() / picture.len() as f64
}

fn difference(left: &RgbImage, right: &RgbImage) -> f64 {
    left.iter().zip(right.iter()).map(|(a, b)| f64::from(a.abs_diff(*b))).sum::<f64>() / left.len() as f64
}

#[test]
fn eight_cameras_show_eight_different_pictures_of_at_most_480_pixels() {
    let mut bench = bench(8, 8, 3);
    let shown: Vec<RgbImage> = (0..8).map(|camera| fault::decode(&bench.write(camera)).unwrap()).collect();
    for (camera, picture) in shown.iter().enumerate() {
        assert_eq!(picture.dimensions(), (320, 240));
        for other in &shown[..camera] {
            assert!(difference(picture, other) > 10.0, "camera {camera} is like one before it");
        }
    }
    assert_eq!(view_size((720, 500)), (480, 333));
}

#[test]
fn two_frames_in_a_row_always_differ_also_where_the_loop_turns() {
    let mut bench = bench(3, 4, 3);
    for camera in 0..3 {
        let frames = bench.write_many(camera, 20);
        assert!(frames.windows(2).all(|pair| pair[0] != pair[1]), "camera {camera}");
        let mut distinct = frames;
        distinct.sort();
        distinct.dedup();
        assert_eq!(distinct.len(), 4, "the whole loop is played");
    }
}

#[test]
fn in_every_view_something_moves_between_all_frames_shipped() {
    let footage = Footage::shipped().unwrap();
    let scenes: Vec<RgbImage> = (0..footage.len()).map(|frame| footage.picture(frame).unwrap().unwrap()).collect();
    for camera in 0..MOST_CAMERAS {
        let shown: Vec<RgbImage> = scenes.iter().map(|scene| view(camera).show(scene, 320, 240)).collect();
        for (frame, pair) in shown.windows(2).enumerate() {
            let moved = pair[0].iter().zip(pair[1].iter()).filter(|(a, b)| a.abs_diff(**b) > 30).count();
            let share = moved as f64 / pair[0].len() as f64;
            assert!(share > 0.0005, "camera {camera}, frames {frame} and the next: {share}");
        }
    }
}

#[test]
fn a_folder_never_holds_more_than_its_bound_and_numbers_rise() {
    let mut bench = bench(1, 3, 4);
    for written in 1..=10_u64 {
        bench.write(0);
        let names: Vec<String> = files(&bench.folders[0]).into_keys().collect();
        let expected: Vec<String> =
            (written.saturating_sub(4)..written).map(|number| format!("{number:012}.jpg")).collect();
        assert_eq!(names, expected, "nothing else, no unfinished file either");
    }
}

#[test]
fn a_second_run_goes_on_after_the_first_and_leaves_foreign_files_alone() {
    let mut first = bench(1, 3, 4);
    first.write_many(0, 6);
    let folder = first.folders[0].clone();
    for foreign in ["000001.jpg", "note.txt", ".hidden", "00000000000x.jpg"] {
        fs::write(folder.join(foreign), "mine").unwrap();
    }
    fs::write(folder.join(".000000000006.jpg"), "half a fi").unwrap();
    let footage = Footage::shipped().unwrap().first(3);
    let mut rig = CameraRig::new(footage, &first.folders, NonZeroUsize::new(2).unwrap(), |_| ()).unwrap();
    rig.write_next(0).unwrap();
    let names: Vec<String> = files(&folder).into_keys().collect();
    let expected = [".hidden", "000000000005.jpg", "000000000006.jpg", "000001.jpg", "00000000000x.jpg", "note.txt"];
    let mut expected = expected.map(str::to_owned);
    expected.sort();
    assert_eq!(names, expected);
}

#[test]
fn files_removed_by_somebody_else_do_not_stop_a_camera() {
    let mut bench = bench(1, 3, 2);
    bench.write_many(0, 2);
    fs::remove_file(bench.folders[0].join("000000000000.jpg")).unwrap();
    bench.write(0);
    assert_eq!(files(&bench.folders[0]).len(), 2);
}

#[test]
fn a_frame_that_could_not_be_written_comes_next() {
    let mut bench = bench(1, 3, 2);
    let expected = bench.write_many(0, 4)[1].clone();
    // Ping-pong over three: places 0, 1, 2, 1, 0, 1.
    bench.write(0);
    fs::remove_dir_all(&bench.folders[0]).unwrap();
    assert!(bench.rig.write_next(0).is_err());
    fs::create_dir_all(&bench.folders[0]).unwrap();
    assert!(bench.write(0) == expected);
}

#[test]
fn a_fault_begins_with_the_next_frame_on_one_camera_and_ends_without_a_trace() {
    let mut bench = bench(2, 3, 3);
    let cycle = bench.write_many(0, 4);
    let other = bench.write_many(1, 4);
    bench.fault(0, Kind::Dark, Severity::MARKED);
    let dark = bench.write_many(0, 4);
    for (clear, dark) in cycle.iter().zip(&dark) {
        assert!(mean(dark) < 0.5 * mean(clear));
    }
    assert!(bench.write_many(1, 4) == other, "the other camera goes on as before");
    bench.rig.set_fault(0, None).unwrap();
    assert!(bench.write_many(0, 4) == cycle);
}

#[test]
fn every_fault_changes_what_a_camera_writes_and_repeats_itself_exactly() {
    let mut bench = bench(1, 3, 3);
    let clear = bench.write_many(0, 4);
    for kind in Kind::ALL.into_iter().filter(|kind| *kind != Kind::Frozen) {
        bench.fault(0, kind, Severity::MARKED);
        let faulted = bench.write_many(0, 4);
        assert!(faulted.iter().zip(&clear).all(|(faulted, clear)| faulted != clear), "{kind}");
        assert!(bench.write_many(0, 4) == faulted, "{kind}");
    }
}

#[test]
fn noise_differs_between_the_places_of_a_loop() {
    let mut bench = bench(1, 3, 3);
    let clear = bench.write_many(0, 4);
    bench.fault(0, Kind::Noise, Severity::MARKED);
    let noisy = bench.write_many(0, 4);
    let noise: Vec<Vec<i16>> = clear
        .iter()
        .zip(&noisy)
        .map(|(clear, noisy)| {
            let (clear, noisy) = (fault::decode(clear).unwrap(), fault::decode(noisy).unwrap());
            clear.iter().zip(noisy.iter()).map(|(a, b)| i16::from(*b) - i16::from(*a)).collect()
        })
        .collect();
    let product = |left: &[i16], right: &[i16]| -> f64 {
        left.iter().zip(right).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
    };
    let correlation =
        product(&noise[0], &noise[1]) / (product(&noise[0], &noise[0]) * product(&noise[1], &noise[1])).sqrt();
    assert!(correlation.abs() < 0.2, "{correlation}");
}

#[test]
fn a_frozen_camera_repeats_the_bytes_of_its_last_file() {
    let mut bench = bench(1, 5, 3);
    let last = bench.write_many(0, 2).pop().unwrap();
    bench.fault(0, Kind::Frozen, Severity::FULL);
    assert!(bench.write_many(0, 13).iter().all(|frame| *frame == last));
    bench.fault(0, Kind::Frozen, Severity::new(2.0).unwrap());
    let half = bench.write_many(0, 12);
    assert_eq!(half.windows(2).filter(|pair| pair[0] == pair[1]).count(), 5, "six in a row, six live ones");
    bench.rig.set_fault(0, None).unwrap();
    let live = bench.write_many(0, 4);
    assert!(live.windows(2).all(|pair| pair[0] != pair[1]));
}

#[test]
fn compression_writes_smaller_files_and_a_moved_camera_shows_another_part() {
    let mut bench = bench(1, 3, 3);
    let clear = bench.write_many(0, 4);
    bench.fault(0, Kind::Compression, Severity::MARKED);
    assert!(bench.write(0).len() * 3 < clear[0].len());
    bench.fault(0, Kind::Moved, Severity::MARKED);
    let moved = fault::decode(&bench.write(0)).unwrap();
    let before = fault::decode(&clear[1]).unwrap();
    assert!(difference(&moved, &before) > 10.0);
    assert!(
        (mean(&clear[1]) - moved.iter().map(|level| f64::from(*level)).sum::<f64>() / moved.len() as f64).abs() < 15.0
    );
}

#[test]
fn every_view_lies_in_the_scene_and_can_be_pushed_aside_within_it() {
    let ramp = RgbImage::from_fn(240, 240, |x, y| image::Rgb([x, y, 0].map(|level| u8::try_from(level).unwrap())));
    for (camera, (left, top, size, ..)) in VIEWS.into_iter().enumerate() {
        let window = Window::new(left, top, size, size).expect("lies in the scene");
        for seed in 0..16 {
            // The upper left pixel of a ramp tells where the window lies.
            let corner = |window: Window| View::plain(window).show(&ramp, 60, 60).get_pixel(0, 0).0;
            let (before, after) = (corner(window), corner(window.moved(Severity::FULL, seed)));
            let across = f32::from(before[0].abs_diff(after[0])) / 240.0;
            let down = f32::from(before[1].abs_diff(after[1])) / 240.0;
            assert!((across - 0.145 / 0.7 * size).abs() < 0.01, "camera {camera}: {across}");
            assert!((down - 0.6 * 0.145 / 0.7 * size).abs() < 0.01, "camera {camera}: {down}");
        }
    }
}

#[test]
fn preparation_reports_every_frame_and_refuses_what_cannot_work() {
    let root = tempfile::tempdir().unwrap();
    let keep = NonZeroUsize::new(3).unwrap();
    let mut seen = Vec::new();
    let footage = Footage::shipped().unwrap().first(3);
    CameraRig::new(footage, &folders(root.path(), 1), keep, |progress| seen.push((progress.done, progress.total)))
        .unwrap();
    assert_eq!(seen, [(1, 3), (2, 3), (3, 3)]);

    for given in [0, 9] {
        let footage = Footage::shipped().unwrap().first(3);
        let refused = CameraRig::new(footage, &folders(root.path(), given), keep, |_| ());
        assert!(matches!(refused, Err(RigError::Cameras { .. })), "{given}");
    }

    let still = root.path().join("still");
    fs::create_dir(&still).unwrap();
    for frame in 0..3 {
        RgbImage::from_pixel(160, 120, image::Rgb([90; 3])).save(still.join(format!("{frame}.png"))).unwrap();
    }
    let refused = CameraRig::new(Footage::from_folder(&still).unwrap(), &folders(root.path(), 1), keep, |_| ());
    assert!(matches!(refused, Err(RigError::Still { camera: 0 })));

    let occupied = root.path().join("file");
    fs::write(&occupied, "").unwrap();
    let footage = Footage::shipped().unwrap().first(3);
    assert!(matches!(CameraRig::new(footage, &[occupied], keep, |_| ()), Err(RigError::Folder { .. })));
}

#[test]
fn a_camera_that_does_not_exist_is_an_error() {
    let mut bench = bench(2, 3, 3);
    assert_eq!(bench.rig.write_next(2).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    assert!(bench.rig.set_fault(2, None).is_err());
}
