//! Where a camera's frames come from, as configured.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::fault::Faults;
#[cfg(feature = "inference")]
use super::inference::{InferenceConfig, inference};
use super::section::Section;
use super::{EventTime, absolute, frame_rate};
use crate::source::address::Address;
use crate::source::{CommandLine, HTTP_SCHEMES, MAX_FILE_BYTES};
use crate::window::FrameRate;

const KINDS: &str = "\"directory\", \"snapshot\", \"mjpeg\", \"exec\", \"push\", \"inference\", \"rtsp\" or \"v4l2\"";
const RTSP_SCHEMES: [(&str, u16); 1] = [("rtsp", 554)];
const TIMEOUT: Duration = Duration::from_secs(10);
const PUSH_TIMEOUT: Duration = Duration::from_secs(60);
const MAX_FRAME: usize = 4 << 20;
/// 3840x2160 and some.
const MAX_PIXELS: u64 = 9_000_000;
/// Most bytes of a file in a folder unless said otherwise.
const MAX_FILE: usize = 32 << 20;

/// Where frames come from, and which of them count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceConfig {
    /// Where they come from.
    pub kind: SourceKind,
    /// Sampling rate; without one every frame counts.
    pub rate: Option<FrameRate>,
    /// How long a live source waits for a frame until something is called wrong.
    pub timeout: Duration,
    /// Most bytes of a frame.
    pub max_frame: usize,
    /// Most pixels of a frame, as far as they take three bytes each; others may have fewer. A JPEG from a folder that is measured strip by
    /// strip takes none, and may have any number.
    pub max_pixels: u64,
}

/// The kinds of source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceKind {
    /// A watched folder.
    Directory {
        /// The folder.
        path: PathBuf,
        /// Where event time comes from.
        time: EventTime,
    },
    /// A picture asked for at the sampling rate.
    Snapshot(HttpSource),
    /// One endless HTTP answer of pictures.
    Mjpeg(HttpSource),
    /// A program that writes JPEG files to its standard output.
    Exec(CommandLine),
    /// Pictures posted over HTTP.
    PushHttp {
        /// Where to listen.
        listen: SocketAddr,
        /// What those who push have to know; none on this machine only.
        token_file: Option<PathBuf>,
    },
    /// Pictures brought over a socket of this machine.
    PushSocket(PathBuf),
    /// What passes between a model server and its clients.
    #[cfg(feature = "inference")]
    Inference(Box<InferenceConfig>),
    /// A camera that speaks RTSP.
    Rtsp {
        /// Where it is.
        address: Address,
        /// Whether pictures come over UDP instead of the connection itself.
        udp: bool,
    },
    /// A camera of this machine.
    V4l2 {
        /// Its device file.
        device: PathBuf,
        /// Width and height asked for, in pixels; without them what the device is set to.
        size: Option<(u32, u32)>,
    },
}

impl SourceConfig {
    /// Most memory for the pixels of a picture that has to be decoded in full, in bytes: RGB for all that are allowed.
    #[must_use]
    pub const fn max_memory(&self) -> u64 {
        self.max_pixels.saturating_mul(3)
    }
}

/// A camera asked over HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpSource {
    /// Where it is.
    pub address: Address,
    /// Certificates taken instead of the system's authorities.
    pub certificates: Option<PathBuf>,
}

#[derive(Clone, Copy)]
enum Kind {
    Directory,
    Snapshot,
    Mjpeg,
    Exec,
    Push,
    Inference,
    Rtsp,
    V4l2,
}

fn kind(text: &str) -> Result<Kind, String> {
    let built = |with: bool, kind: Kind, instead: &str| {
        if with { Ok(kind) } else { Err(format!("this program was built without the kind \"{text}\"{instead}")) }
    };
    match text {
        "directory" => Ok(Kind::Directory),
        "snapshot" => Ok(Kind::Snapshot),
        "mjpeg" => Ok(Kind::Mjpeg),
        "exec" => Ok(Kind::Exec),
        "push" => Ok(Kind::Push),
        "rtsp" => built(cfg!(feature = "rtsp"), Kind::Rtsp, "; the kind \"exec\" with ffmpeg does it"),
        "v4l2" => built(cfg!(feature = "v4l2"), Kind::V4l2, "; the kind \"exec\" with ffmpeg does it"),
        "inference" => built(cfg!(feature = "inference"), Kind::Inference, ""),
        _ => Err(String::new()),
    }
}

pub(super) fn source(section: &mut Section, faults: &mut Faults) -> Option<SourceConfig> {
    let Some(kind) = section.required("kind", KINDS, faults, kind) else {
        // What else a kind we don't have would take is not ours to judge.
        section.forget();
        return None;
    };
    let rate = section.number("fps", "a number from 0.001 to 1000", faults, frame_rate);
    if let Kind::Directory = kind {
        let path = section.required("path", "an absolute path", faults, absolute);
        let time = section.optional("time", "\"mtime\" or \"arrival\"", faults, |text| match text {
            "mtime" => Ok(EventTime::Modified),
            "arrival" => Ok(EventTime::Arrival),
            _ => Err(String::new()),
        });
        let (max_frame, max_pixels) = limits(section, MAX_FILE, faults);
        let kind = SourceKind::Directory { path: path?, time: time.unwrap_or_default() };
        return Some(SourceConfig { kind, rate, timeout: TIMEOUT, max_frame, max_pixels });
    }
    let timeout = section.optional("timeout", "a duration from 1s to 1h, such as \"10s\"", faults, timeout);
    #[cfg(feature = "inference")]
    let has_max_frame = section.has("max_frame");
    let (max_frame, max_pixels) = limits(section, MAX_FRAME, faults);
    let mut config = SourceConfig {
        kind: SourceKind::PushSocket(PathBuf::new()),
        rate,
        timeout: timeout.unwrap_or(if let Kind::Push | Kind::Inference = kind { PUSH_TIMEOUT } else { TIMEOUT }),
        max_frame,
        max_pixels,
    };
    config.kind = match kind {
        Kind::Snapshot => {
            // Somebody has to say how often.
            config.rate = rate.or_else(|| FrameRate::from_millihertz(1_000));
            SourceKind::Snapshot(http(section, faults)?)
        }
        Kind::Mjpeg => SourceKind::Mjpeg(http(section, faults)?),
        Kind::Exec => SourceKind::Exec(section.words("command", faults).map(|mut words| {
            let program = words.remove(0);
            CommandLine { program, arguments: words }
        })?),
        Kind::Push => push(section, faults)?,
        #[cfg(feature = "inference")]
        Kind::Inference => {
            let inference = inference(section, faults)?;
            // A picture is a part of a body, so by default any that passes counts.
            if !has_max_frame {
                config.max_frame = inference.max_body;
            }
            SourceKind::Inference(Box::new(inference))
        }
        Kind::Rtsp => {
            let udp = section.optional("transport", "\"tcp\" or \"udp\"", faults, |text| match text {
                "tcp" => Ok(false),
                "udp" => Ok(true),
                _ => Err(String::new()),
            });
            let address = section.required("url", "rtsp://[USER:PASSWORD@]HOST[:PORT]/PATH", faults, |text| {
                Address::parse(text, &RTSP_SCHEMES).map_err(|error| error.to_string())
            });
            SourceKind::Rtsp { address: address?, udp: udp.unwrap_or_default() }
        }
        // Refused already where this program was built without it.
        #[cfg(not(feature = "inference"))]
        Kind::Inference => return None,
        Kind::Directory | Kind::V4l2 => {
            let size = section.optional("size", "WIDTHxHEIGHT from 8x8 to 8192x8192", faults, size);
            let device = section.required("device", "an absolute path, such as \"/dev/video0\"", faults, absolute);
            SourceKind::V4l2 { device: device?, size }
        }
    };
    Some(config)
}

/// Most bytes and most pixels of a picture.
fn limits(section: &mut Section, default_frame: usize, faults: &mut Faults) -> (usize, u64) {
    let frame = section.optional("max_frame", "a size from 64KiB to 32MiB, such as \"4MiB\"", faults, max_frame);
    let pixels = section.number("max_pixels", "a whole number from 10000 to 67108864", faults, max_pixels);
    (frame.unwrap_or(default_frame), pixels.unwrap_or(MAX_PIXELS))
}

fn http(section: &mut Section, faults: &mut Faults) -> Option<HttpSource> {
    let certificates = section.optional("certificates", "the absolute path of a PEM file", faults, absolute);
    let address = section.required("url", "http[s]://[USER:PASSWORD@]HOST[:PORT]/PATH", faults, |text| {
        Address::parse(text, &HTTP_SCHEMES).map_err(|error| error.to_string())
    });
    Some(HttpSource { address: address?, certificates })
}

fn push(section: &mut Section, faults: &mut Faults) -> Option<SourceKind> {
    let token_file = section.optional("token_file", "an absolute path", faults, absolute);
    let listens = section.has("listen");
    let guarded = token_file.is_some();
    let listen = section.optional("listen", "an IP address and port, such as \"127.0.0.1:9470\"", faults, |text| {
        let address: SocketAddr = text.parse().map_err(|_| String::new())?;
        if address.ip().is_loopback() || guarded {
            Ok(address)
        } else {
            Err("beyond this machine those who push need a token: set token_file".into())
        }
    });
    let socket = section.optional("socket", "an absolute path of at most 100 bytes", faults, |text| {
        // What the kernel has room for, less some.
        if text.len() > 100 { Err(String::new()) } else { absolute(text) }
    });
    match (listen, socket) {
        (Some(listen), None) => Some(SourceKind::PushHttp { listen, token_file }),
        (None, Some(path)) if !listens && !guarded => Some(SourceKind::PushSocket(path)),
        (None, _) if listens => None,
        (_, Some(_)) => {
            faults.add(section.key("socket"), "", "a socket has neither listen nor token_file beside it".into());
            None
        }
        _ => {
            faults.add(section.key("listen"), "", "is missing: an IP address and port, or socket with a path".into());
            None
        }
    }
}

fn timeout(text: &str) -> Result<Duration, String> {
    let time = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    let allowed = Duration::from_secs(1)..=Duration::from_secs(3600);
    if allowed.contains(&time) { Ok(time) } else { Err(String::new()) }
}

fn max_frame(text: &str) -> Result<usize, String> {
    let size = text.parse::<bytesize::ByteSize>()?.as_u64();
    usize::try_from(size).ok().filter(|_| (64 << 10..=MAX_FILE_BYTES).contains(&size)).ok_or_else(String::new)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "checked to be a whole number in the range first"
)]
fn max_pixels(number: f64) -> Option<u64> {
    ((10_000.0..=67_108_864.0).contains(&number) && number.fract() == 0.0).then_some(number as u64)
}

fn size(text: &str) -> Result<(u32, u32), String> {
    let (width, height) = text.split_once('x').ok_or_else(String::new)?;
    let side = |text: &str| text.parse().ok().filter(|side| (8..=8192).contains(side)).ok_or_else(String::new);
    Ok((side(width)?, side(height)?))
}

/// What cannot be true of two cameras at once.
pub(super) fn conflicts<'c>(sources: impl Iterator<Item = (String, &'c SourceConfig)>, faults: &mut Faults) {
    let mut listening: Vec<(SocketAddr, Option<PathBuf>)> = Vec::new();
    let mut sockets: Vec<&PathBuf> = Vec::new();
    #[cfg(feature = "inference")]
    let mut proxies = super::inference::Conflicts::default();
    for (key, source) in sources {
        match &source.kind {
            SourceKind::PushHttp { listen, token_file } => match listening.iter().find(|(known, _)| known == listen) {
                Some((_, known)) if known != token_file => {
                    faults.add(
                        format!("{key}.token_file"),
                        token_file.as_ref().map_or_else(String::new, |path| path.display().to_string()),
                        format!("cameras that share listen = {listen} share their token_file"),
                    );
                }
                Some(_) => {}
                None => listening.push((*listen, token_file.clone())),
            },
            SourceKind::PushSocket(path) => {
                if sockets.contains(&path) {
                    faults.add(
                        format!("{key}.socket"),
                        path.display().to_string(),
                        "a socket of its own for each camera".into(),
                    );
                }
                sockets.push(path);
            }
            #[cfg(feature = "inference")]
            SourceKind::Inference(inference) => proxies.add(&key, inference, faults),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{Config, Overrides};

    fn resolve(sources: &[&str]) -> Result<Vec<SourceConfig>, String> {
        let mut text = "site = \"s\"\ndevice = \"d\"\nstate_dir = \"/s\"\n[aggregator]\naddress = \"h:1\"\n".to_owned();
        for (number, source) in sources.iter().enumerate() {
            text.push_str(&format!("[[camera]]\nname = \"c{number}\"\nsource = {{ {source} }}\n"));
        }
        let config = Config::resolve(Path::new("agent.toml"), &text, &Overrides::default());
        let config = config.map_err(|faults| faults.to_string())?;
        Ok(config.cameras().iter().map(|camera| camera.source.clone()).collect())
    }

    #[test]
    fn every_kind_is_read_with_its_defaults() {
        let sources = resolve(&[
            "kind = \"snapshot\", url = \"http://u:p@h/x\"",
            "kind = \"mjpeg\", url = \"https://h:1/x\", certificates = \"/c\", fps = 2, timeout = \"3s\", max_frame = \"1MiB\", max_pixels = 10000",
            "kind = \"exec\", command = [\"ffmpeg\", \"-i\", \"rtsp://u:p@h\"]",
            "kind = \"push\", listen = \"127.0.0.1:9\"",
            "kind = \"push\", listen = \"127.0.0.1:9\"",
            "kind = \"push\", listen = \"[::]:9\", token_file = \"/t\"",
            "kind = \"push\", socket = \"/run/c.sock\"",
            "kind = \"inference\", listen = \"127.0.0.1:8\", upstream = \"127.0.0.1:8000\"",
            "kind = \"inference\", listen = \"127.0.0.1:7\", upstream = \"127.0.0.1:8000\", max_frame = \"64KiB\"",
        ])
        .unwrap_or_else(|faults| panic!("{faults}"));
        assert_eq!(sources[0].rate, FrameRate::from_millihertz(1_000), "somebody has to say how often");
        assert_eq!((sources[0].timeout, sources[0].max_frame, sources[0].max_pixels), (TIMEOUT, MAX_FRAME, MAX_PIXELS));
        assert!(matches!(&sources[1].kind, SourceKind::Mjpeg(http) if http.certificates == Some("/c".into())));
        assert_eq!(
            (sources[1].timeout, sources[1].max_frame, sources[1].max_pixels),
            (Duration::from_secs(3), 1 << 20, 10_000)
        );
        let command = CommandLine { program: "ffmpeg".into(), arguments: vec!["-i".into(), "rtsp://u:p@h".into()] };
        assert_eq!((&sources[2].kind, sources[2].rate), (&SourceKind::Exec(command), None));
        assert_eq!(sources[3].timeout, PUSH_TIMEOUT);
        assert_eq!(sources[6].kind, SourceKind::PushSocket("/run/c.sock".into()));
        assert_eq!((sources[7].timeout, sources[7].max_frame), (PUSH_TIMEOUT, 8 << 20), "all of a body");
        assert_eq!(sources[8].max_frame, 64 << 10);
    }

    #[test]
    fn what_is_wrong_is_said_and_no_password_with_it() {
        for (source, part) in [
            ("kind = \"snapshot\"", "camera[0].source.url: is missing"),
            ("kind = \"snapshot\", url = \"ftp://u:secret@h/\"", "schemes"),
            ("kind = \"mjpeg\", url = \"http://u:secret@h:0/\"", "***@h:0/"),
            ("kind = \"mjpeg\", url = \"http://h/\", ulr = \"http://u:secret@h\"", "unknown key"),
            ("kind = \"mjpeg\", url = \"http://h/\", path = \"/x\"", "camera[0].source.path"),
            ("kind = \"mjpeg\", url = \"http://h/\", timeout = \"10ms\"", "from 1s to 1h"),
            ("kind = \"mjpeg\", url = \"http://h/\", max_frame = \"1GiB\"", "from 64KiB to 32MiB"),
            ("kind = \"mjpeg\", url = \"http://h/\", max_pixels = 1.5", "max_pixels"),
            ("kind = \"exec\", command = \"ffmpeg -i rtsp://u:secret@h\"", "a program and its arguments"),
            ("kind = \"exec\", command = []", "a program and its arguments"),
            ("kind = \"exec\"", "camera[0].source.command: is missing"),
            ("kind = \"push\"", "camera[0].source.listen: is missing"),
            ("kind = \"push\", listen = \"0.0.0.0:9\"", "set token_file"),
            ("kind = \"push\", listen = \"127.0.0.1:9\", socket = \"/x\"", "a socket has neither"),
            ("kind = \"push\", socket = \"/x\", token_file = \"/t\"", "a socket has neither"),
            ("kind = \"inference\", upstream = \"h:1\"", "camera[0].source.listen: is missing"),
            ("kind = \"inference\", listen = \"127.0.0.1:8\"", "camera[0].source.upstream: is missing"),
            ("kind = \"inference\", listen = \"0.0.0.0:8\", upstream = \"h:1\"", "allow_remote = true"),
            ("kind = \"inference\", listen = \"127.0.0.1:8\", upstream = \"h\"", "the port is missing"),
            (
                "kind = \"inference\", listen = \"127.0.0.1:8\", upstream = \"h:1\", max_body = \"1GiB\"",
                "from 64KiB to 64MiB",
            ),
            ("kind = \"inference\", listen = \"127.0.0.1:8\", upstream = \"h:1\", mean = [1, 2]", "three numbers"),
            ("kind = \"inference\", listen = \"127.0.0.1:8\", upstream = \"h:1\", std = [1, 2, 0]", "three numbers"),
            (
                "kind = \"inference\", listen = \"127.0.0.1:8\", upstream = \"h:1\", image = \"/x\"",
                "the name of a tensor",
            ),
            ("kind = \"inference\", listen = \"127.0.0.1:8\", upstream = \"h:1\", remember = 0.5", "a whole number"),
            (
                "kind = \"inference\", listen = \"127.0.0.1:8\", upstream = \"h:1\", outcomes = \"127.0.0.1:8\"",
                "an address of its own",
            ),
            (
                "kind = \"inference\", listen = \"127.0.0.1:8\", upstream = \"h:1\", api = \"json\", path = \"/p\"",
                "source.scores: is missing",
            ),
            (
                "kind = \"inference\", listen = \"127.0.0.1:8\", upstream = \"h:1\", api = \"json\", path = \"/p\", scores = \"x\"",
                "a JSON Pointer",
            ),
            ("kind = \"webcam\"", "\"snapshot\""),
        ] {
            let faults = resolve(&[source]).expect_err(source);
            assert!(faults.contains(part) && faults.lines().count() == 1, "{source}: {faults}");
            assert!(!faults.contains("secret"), "{faults}");
        }
        let (socket, other) = ("kind = \"push\", socket = \"/x\"", "kind = \"push\", listen = \"127.0.0.1:9\"");
        let faults = resolve(&[socket, socket]).expect_err("one socket for two");
        assert!(faults.contains("camera[1].source.socket"), "{faults}");
        let faults =
            resolve(&[other, &format!("{other}, token_file = \"/t\"")]).expect_err("two tokens for one server");
        assert!(faults.contains("camera[1].source.token_file"), "{faults}");
    }

    #[test]
    #[cfg(not(any(feature = "rtsp", feature = "v4l2")))]
    fn what_this_program_was_built_without_is_said() {
        for kind in ["rtsp", "v4l2"] {
            let faults = resolve(&[&format!("kind = \"{kind}\"")]).expect_err("not built");
            assert!(faults.contains("built without") && faults.contains("exec"), "{faults}");
        }
    }

    #[test]
    #[cfg(all(feature = "rtsp", feature = "v4l2"))]
    fn optional_kinds_are_read() {
        let sources = resolve(&[
            "kind = \"rtsp\", url = \"rtsp://u:p@h/1\", transport = \"udp\"",
            "kind = \"v4l2\", device = \"/dev/video0\", size = \"640x480\"",
        ])
        .unwrap_or_else(|faults| panic!("{faults}"));
        assert!(matches!(&sources[0].kind, SourceKind::Rtsp { address, udp: true } if address.port() == 554));
        assert!(matches!(&sources[1].kind, SourceKind::V4l2 { size: Some((640, 480)), .. }));
        let faults = resolve(&["kind = \"v4l2\", device = \"/dev/video0\", size = \"640\""]).expect_err("no size");
        assert!(faults.contains("WIDTHxHEIGHT"), "{faults}");
    }
}
