//! Cameras that are no folders: real programs as peers, and one that sends everything it should not.
//!
//! The peers are `ffmpeg` and `curl`; `./run test` installs them, and without them these tests fail.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use image::{ImageFormat, RgbImage};

use crate::support::authority::Authority;
use crate::support::camera::{jpeg, scene, shipped, shots, view, write_folder};
use crate::support::process::lasting_port;
use crate::support::service::{Agent, Aggregator, Counts};
use crate::support::{PATIENCE, pause, until};

/// A program of others that does not outlive its test.
struct Peer(Child);

impl Peer {
    fn start(program: &str, arguments: &[&str]) -> Self {
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Self(command.spawn().unwrap_or_else(|error| panic!("{program} (./run install-tools) can be started: {error}")))
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Plays a folder of pictures for ever, ten a second.
fn playing<'a>(pattern: &'a str, output: &[&'a str]) -> Vec<&'a str> {
    let input = ["-nostdin", "-loglevel", "error", "-re", "-stream_loop", "-1", "-framerate", "10", "-i", pattern];
    [&input[..], output].concat()
}

fn quoted(words: &[&str]) -> String {
    let words: Vec<String> = words.iter().map(|word| format!("{word:?}")).collect();
    format!("[{}]", words.join(", "))
}

/// Processes whose command line has this in it.
fn running(part: &str) -> Vec<String> {
    let entries = fs::read_dir("/proc").expect("a list of processes");
    let processes = entries.filter_map(|entry| fs::read(entry.ok()?.path().join("cmdline")).ok());
    let lines = processes.map(|line| String::from_utf8_lossy(&line).replace('\0', " "));
    lines.filter(|line| line.contains(part)).collect()
}

fn post(url: &str, picture: &Path) -> String {
    let output = Command::new("curl")
        .args(["--silent", "--show-error", "--output", "/dev/null", "--write-out", "%{http_code}", "--data-binary"])
        .arg(format!("@{}", picture.display()))
        .arg(url)
        .output()
        .expect("curl (./run install-tools) can be started");
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn real_programs_are_cameras_and_come_back_after_they_went() {
    let root = tempfile::tempdir().expect("folder");
    let (root, authority) = (root.path(), Authority::new());
    let frames = root.join("frames");
    let pictures = shots(&scene(), view(0));
    write_folder(&frames, &pictures);
    let pattern = frames.join("%06d.jpg");
    let pattern = pattern.to_str().expect("UTF-8");
    let clip = root.join("clip.mp4");
    let clip = clip.to_str().expect("UTF-8");
    let made = Command::new("ffmpeg")
        .args(["-nostdin", "-loglevel", "error", "-framerate", "10", "-i", pattern, "-pix_fmt", "yuv420p", clip])
        .status()
        .expect("ffmpeg (./run install-tools) can be started");
    assert!(made.success());

    let (mjpeg_port, push_port) = (lasting_port(), lasting_port());
    let mjpeg = format!("http://127.0.0.1:{mjpeg_port}/");
    let serve = playing(pattern, &["-c", "copy", "-f", "mpjpeg", "-listen", "1", &mjpeg]);
    let copying = [&["ffmpeg"][..], &playing(pattern, &["-c", "copy", "-f", "mjpeg", "-"])].concat();
    let decoding = [
        "ffmpeg",
        "-nostdin",
        "-loglevel",
        "error",
        "-re",
        "-stream_loop",
        "-1",
        "-i",
        clip,
        "-an",
        "-c:v",
        "mjpeg",
        "-q:v",
        "3",
        "-f",
        "mjpeg",
        "-",
    ];
    let socket = root.join("push.sock");
    let cameras = format!(
        "[[camera]]\nname = \"mjpeg\"\nsource = {{ kind = \"mjpeg\", url = \"http://viewer:secret@127.0.0.1:{mjpeg_port}/\", fps = 5, timeout = \"2s\" }}\n\
         [[camera]]\nname = \"exec\"\nsource = {{ kind = \"exec\", command = {} }}\n\
         [[camera]]\nname = \"decoded\"\nsource = {{ kind = \"exec\", command = {} }}\n\
         [[camera]]\nname = \"posted\"\nsource = {{ kind = \"push\", listen = \"127.0.0.1:{push_port}\" }}\n\
         [[camera]]\nname = \"brought\"\nsource = {{ kind = \"push\", socket = {socket:?} }}\n",
        quoted(&copying),
        quoted(&decoding),
    );
    let aggregator = Aggregator::start(root, &authority, 0);
    let identity = authority.device("shop", "gw");
    let mut agent = Agent::start_with(root, &authority, &identity, aggregator.quic, "shop", &cameras, lasting_port());
    // It serves one connection and ends with it.
    let mut server = Peer::start("ffmpeg", &serve);
    until("a socket", PATIENCE, || socket.exists().then_some(()));
    let unix = format!("unix:{}", socket.display());
    let _bringer = Peer::start("ffmpeg", &playing(pattern, &["-c", "copy", "-f", "mjpeg", &unix]));
    until("the agent's page", PATIENCE, || agent.page("/metrics"));
    for number in 0..4 {
        let picture = frames.join(format!("{number:06}.jpg"));
        until("room for a picture", PATIENCE, || {
            match post(&format!("http://127.0.0.1:{push_port}/posted"), &picture).as_str() {
                "202" => Some(()),
                "503" => None,
                status => panic!("status {status}"),
            }
        });
    }
    for name in ["mjpeg", "exec", "decoded", "brought"] {
        until(&format!("frames of {name} at the aggregator"), PATIENCE, || {
            let counts = aggregator.counts(&format!("shop/gw/{name}"));
            assert_eq!((counts.undecodable, counts.late), (0, 0), "{name}: {counts:?}");
            (counts.frames >= 15).then_some(())
        });
        assert_eq!(agent.metric("driftglass_agent_source_up", &format!("\"{name}\"")), 1, "{name}");
    }
    until("the frames posted", PATIENCE, || (aggregator.counts("shop/gw/posted").frames == 4).then_some(()));
    assert_eq!(agent.page("/healthz").as_deref(), Some("ok\n"));
    // Ten a second came, five a second count.
    let (frames_counted, skipped) = (
        agent.metric("driftglass_agent_frames_total", "\"mjpeg\""),
        agent.metric("driftglass_agent_frames_skipped_total", "\"mjpeg\""),
    );
    assert!(skipped * 2 > frames_counted && frames_counted * 2 > skipped, "{frames_counted} and {skipped} skipped");

    // A camera goes, and all there is to see of it is said; the others go on.
    drop(server);
    let page = until("a word about the camera that went", PATIENCE, || {
        agent.page("/healthz").filter(|page| page.contains("camera mjpeg: connect"))
    });
    assert!(page.starts_with("ok\n") && page.lines().count() == 2 && !page.contains("secret"), "{page}");
    assert_eq!(agent.metric("driftglass_agent_source_up", "\"mjpeg\""), 0);
    assert!(agent.metric("driftglass_agent_source_failures_total", "camera=\"mjpeg\"") >= 1);
    let before = aggregator.counts("shop/gw/exec").frames;
    until("frames of the others", PATIENCE, || (aggregator.counts("shop/gw/exec").frames >= before + 15).then_some(()));
    server = Peer::start("ffmpeg", &serve);
    until("the camera that comes back", PATIENCE, || {
        // It listens for one connection only, and may have been found by a look that came too early.
        if server.0.try_wait().expect("our own child").is_some() {
            server = Peer::start("ffmpeg", &serve);
        }
        (agent.metric("driftglass_agent_source_up", "\"mjpeg\"") == 1).then_some(())
    });

    assert!(!running(clip).is_empty(), "the decoding program runs");
    agent.process.terminate();
    until("the end of the programs it started", PATIENCE, || running(clip).is_empty().then_some(()));
    let log = agent.process.log();
    assert!(!log.contains("secret"), "{log}");
    let lines = log.lines().filter(|line| line.contains("camera=mjpeg")).count();
    assert!((3..=9).contains(&lines), "a line for each change of state, {lines} of them:\n{log}");
}

/// A camera of the test: sends these parts at once, then the last one ten times a second.
fn stream_of(parts: Vec<Vec<u8>>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let address = listener.local_addr().expect("bound");
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // When the agent goes, so does the connection, and that is the end of it.
            send(stream, &parts).ok();
        }
    });
    address
}

fn send(mut stream: TcpStream, parts: &[Vec<u8>]) -> std::io::Result<()> {
    let mut request = [0; 4096];
    let count = stream.read(&mut request)?;
    assert!(count > 0);
    stream.write_all(b"HTTP/1.0 200 OK\r\nContent-Type: multipart/x-mixed-replace;boundary=\"x\"\r\n\r\n")?;
    let mut part = |bytes: &[u8]| {
        stream.write_all(format!("--x\r\nContent-Length: {}\r\n\r\n", bytes.len()).as_bytes())?;
        stream.write_all(bytes)?;
        stream.write_all(b"\r\n")
    };
    for bytes in parts {
        part(bytes)?;
        // Slower than they are measured, so that none has to give way.
        pause(Duration::from_millis(200));
    }
    loop {
        part(parts.last().expect("some"))?;
        pause(Duration::from_millis(100));
    }
}

/// Pixels for 200 MB, in a file of some hundred kilobytes.
fn bomb() -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    RgbImage::new(8192, 8192).write_to(&mut bytes, ImageFormat::Png).expect("encoded");
    bytes.into_inner()
}

#[test]
fn a_camera_may_send_anything() {
    let root = tempfile::tempdir().expect("folder");
    let (root, authority) = (root.path(), Authority::new());
    let pictures = shots(&scene(), view(0));
    let good = jpeg(&pictures[0]);
    let large = jpeg(&scene()[0]);
    let (bomb, cut) = (bomb(), good[..good.len() / 2].to_vec());
    assert!(bomb.len() < 1 << 20, "{}", bomb.len());
    let mut giant = good.clone();
    let frame = giant.windows(2).position(|marker| marker == [0xff, 0xc0]).expect("a baseline JPEG");
    giant[frame + 5..frame + 9].fill(0xff);
    let bad = [bomb.clone(), cut, giant, shipped("one-pixel.jpg"), b"<html>".to_vec(), vec![0xff; 70_000], bomb];
    let fine = [shipped("progressive.jpg"), shipped("cmyk.jpg"), shipped("colour.png"), large, good.clone()];
    let undecodable = bad.len() as u64;
    let parts: Vec<Vec<u8>> = [vec![good.clone()], bad.to_vec(), fine.to_vec()].concat();
    let address = stream_of(parts);
    let frames = root.join("frames");
    fs::create_dir_all(&frames).expect("created");
    let cameras = format!(
        "[[camera]]\nname = \"any\"\nsource = {{ kind = \"mjpeg\", url = \"http://{address}/\" }}\n\
         [[camera]]\nname = \"door\"\nsource = {{ kind = \"directory\", path = {frames:?} }}\n"
    );
    let aggregator = Aggregator::start(root, &authority, 0);
    let identity = authority.device("mall", "gw");
    let mut agent = Agent::start_with(root, &authority, &identity, aggregator.quic, "mall", &cameras, lasting_port());
    for number in 0..10 {
        fs::write(frames.join(format!("{number}.jpg")), &good).expect("written");
    }
    // The last picture comes again and again; all the others came once.
    until("all kinds and then the same picture for a while", PATIENCE, || {
        let counts = aggregator.counts("mall/gw/any");
        (counts.frames >= 30).then(|| {
            let expected = Counts { undecodable, frames: counts.frames, ..Counts::default() };
            assert_eq!(counts, expected);
        })
    });
    for (reason, count) in [("too_many_pixels", 3), ("undecodable", 4)] {
        let label = format!("camera=\"any\",reason=\"{reason}\"");
        assert_eq!(agent.metric("driftglass_agent_frame_errors_total", &label), count, "{reason}");
    }
    until("the other camera's frames", PATIENCE, || (aggregator.counts("mall/gw/door").frames == 10).then_some(()));
    let highest = agent.process.highest_memory();
    assert!(highest < 40 << 20, "{highest} bytes at most while pictures for 200 MB were offered");
    assert_eq!(agent.page("/healthz").as_deref(), Some("ok\n"));
    agent.process.terminate();
}
