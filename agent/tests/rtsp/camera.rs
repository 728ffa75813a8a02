//! The server is GStreamer's; over TCP and UDP, with and without a password.
//!
//! `./run test` installs what the server needs; without it these tests fail.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use driftglass_agent::config::{Config, Overrides};
use driftglass_agent::decode::Decoder;
use driftglass_agent::host::clock;
use driftglass_agent::source::{self, Condition, FrameSource, Health, Status, prepare};
use tokio::time::{Instant, sleep};

const PATIENCE: Duration = Duration::from_secs(60);

/// The server, which does not outlive its test.
struct Server(Child);

impl Server {
    fn start(port: u16, clip: &Path, known: Option<&str>) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/rtsp/server.py");
        // The interpreter of the system is the one that has the bindings.
        let mut command = Command::new("/usr/bin/python3");
        command.arg(script).arg(port.to_string()).arg(clip).args(known);
        let mut child = command.stdout(Stdio::piped()).spawn().expect("python3 (./run install-tools) can be started");
        let mut line = String::new();
        let out = child.stdout.take().expect("piped");
        BufReader::new(out).read_line(&mut line).expect("a line");
        assert_eq!(line, "ready\n", "GStreamer's RTSP server (./run install-tools) is there");
        Self(child)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn clip(folder: &Path) -> std::path::PathBuf {
    let path = folder.join("clip.mp4");
    let made = Command::new("ffmpeg")
        .args(["-nostdin", "-loglevel", "error", "-f", "lavfi", "-i", "testsrc=size=320x240:rate=10", "-t", "60"])
        .args(["-pix_fmt", "yuv420p", "-g", "10"])
        .arg(&path)
        .status()
        .expect("ffmpeg (./run install-tools) can be started");
    assert!(made.success());
    path
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a free port").port()
}

struct Running {
    sources: Vec<FrameSource>,
    statuses: Vec<Arc<Status>>,
    running: source::Running,
}

impl Running {
    async fn start(sources: &[String]) -> Self {
        let mut text = "site = \"s\"\ndevice = \"d\"\nstate_dir = \"/s\"\n[aggregator]\naddress = \"h:1\"\n".to_owned();
        for (number, source) in sources.iter().enumerate() {
            text.push_str(&format!("[[camera]]\nname = \"c{number}\"\nsource = {{ timeout = \"5s\", {source} }}\n"));
        }
        let config = Config::resolve(Path::new("agent.toml"), &text, &Overrides::default());
        let config = config.unwrap_or_else(|faults| panic!("{faults}"));
        let mut running = source::Running::new(clock::now, || 1 << 60);
        let outside = running.outside();
        let pairs = config.cameras().iter().map(|camera| prepare(&camera.name, &camera.source, &outside));
        let (sources, prepared): (Vec<_>, Vec<_>) = pairs.unzip();
        running.start(prepared).await;
        // By name, which is the order they have here.
        let statuses = running.statuses();
        Self { sources, statuses, running }
    }

    async fn picture(&mut self, camera: usize) -> Vec<u8> {
        let end = Instant::now() + PATIENCE;
        loop {
            let source = &mut self.sources[camera];
            if let Some(candidate) = source.poll(clock::now())
                && candidate.condition == Condition::Ready
            {
                return source.read(&candidate).expect("read").expect("there").to_vec();
            }
            assert!(Instant::now() < end, "no picture: {:?}", self.statuses[camera].health());
            sleep(Duration::from_millis(5)).await;
        }
    }

    async fn failure(&self, camera: usize) -> String {
        let end = Instant::now() + PATIENCE;
        loop {
            match self.statuses[camera].health() {
                Health::Failed { message, .. } => return message,
                health => assert!(Instant::now() < end, "{health:?}"),
            }
            sleep(Duration::from_millis(5)).await;
        }
    }

    async fn end(self) {
        self.running.end_all().await;
    }
}

#[tokio::test]
async fn motion_jpeg_comes_over_tcp_and_udp_and_comes_back() {
    let folder = tempfile::tempdir().expect("folder");
    let (port, clip) = (free_port(), clip(folder.path()));
    let server = Server::start(port, &clip, None);
    let url = format!("kind = \"rtsp\", url = \"rtsp://127.0.0.1:{port}/mjpeg\"");
    let mut running = Running::start(&[url.clone(), format!("{url}, transport = \"udp\"")]).await;
    for camera in [0, 1] {
        for _ in 0..5 {
            let picture = running.picture(camera).await;
            let measured = Decoder::new().measure(&picture).expect("a whole picture");
            assert_eq!((measured.size().width(), measured.size().height()), (320, 240));
        }
    }
    drop(server);
    let message = running.failure(0).await;
    assert!(!message.is_empty());
    let _server = Server::start(port, &clip, None);
    // What still waits came before the end.
    while running.statuses[0].health() != Health::Delivering {
        running.picture(0).await;
    }
    running.end().await;
}

#[tokio::test]
async fn what_cannot_be_had_is_said_with_what_to_do() {
    let folder = tempfile::tempdir().expect("folder");
    let (port, guarded, nobody, clip) = (free_port(), free_port(), free_port(), clip(folder.path()));
    let _server = Server::start(port, &clip, None);
    let _guarded = Server::start(guarded, &clip, Some("viewer:secret"));
    let ffmpeg = ["-nostdin", "-loglevel", "error", "-rtsp_transport", "tcp", "-skip_frame", "nokey", "-i"];
    let output = ["-an", "-fps_mode", "passthrough", "-c:v", "mjpeg", "-q:v", "3", "-f", "mjpeg", "-"];
    let through_ffmpeg: Vec<String> = [&["ffmpeg"][..], &ffmpeg, &[&format!("rtsp://127.0.0.1:{port}/h264")], &output]
        .concat()
        .iter()
        .map(|word| format!("{word:?}"))
        .collect();
    let mut running = Running::start(&[
        format!("kind = \"rtsp\", url = \"rtsp://127.0.0.1:{port}/h264\""),
        format!("kind = \"rtsp\", url = \"rtsp://127.0.0.1:{port}/nothing\""),
        format!("kind = \"rtsp\", url = \"rtsp://viewer:wr0ng@127.0.0.1:{guarded}/mjpeg\""),
        format!("kind = \"rtsp\", url = \"rtsp://viewer:secret@127.0.0.1:{nobody}/mjpeg?pwd=secret\""),
        format!("kind = \"rtsp\", url = \"rtsp://viewer:secret@127.0.0.1:{guarded}/mjpeg\""),
        format!("kind = \"exec\", command = [{}]", through_ffmpeg.join(", ")),
    ])
    .await;
    let message = running.failure(0).await;
    assert!(message.contains("h264") && message.contains("exec"), "{message}");
    for camera in 1..4 {
        let message = running.failure(camera).await;
        assert!(!message.contains("secret") && !message.contains("wr0ng"), "{message}");
    }
    // With the right password, and decoded by another program, they come.
    for camera in [4, 5] {
        let picture = running.picture(camera).await;
        Decoder::new().measure(&picture).expect("a whole picture");
    }
    running.end().await;
}
