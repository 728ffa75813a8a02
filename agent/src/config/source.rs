//! Where a camera's frames come from, as configured.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::fault::Faults;
use super::section::Section;
use super::{EventTime, absolute, frame_rate};
use crate::source::address::Address;
use crate::source::{CommandLine, HTTP_SCHEMES, MAX_FILE_BYTES};
use crate::window::FrameRate;

const KINDS: &str = "\"directory\", \"snapshot\", \"mjpeg\", \"exec\", \"push\", \"rtsp\" or \"v4l2\"";
const RTSP_SCHEMES: [(&str, u16); 1] = [("rtsp", 554)];
const TIMEOUT: Duration = Duration::from_secs(10);
const PUSH_TIMEOUT: Duration = Duration::from_secs(60);
const MAX_FRAME: usize = 4 << 20;

/// Where frames come from, and which of them count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceConfig {
    /// Where they come from.
    pub kind: SourceKind,
    /// Sampling rate; without one every frame counts.
    pub rate: Option<FrameRate>,
    /// How long a live source waits for a frame until something is called wrong.
    pub timeout: Duration,
    /// Most bytes of a live source's frame.
    pub max_frame: usize,
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
        "inference" => Err(format!("the kind \"{text}\" is not available in this release")),
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
        let kind = SourceKind::Directory { path: path?, time: time.unwrap_or_default() };
        return Some(SourceConfig { kind, rate, timeout: TIMEOUT, max_frame: MAX_FRAME });
    }
    let timeout = section.optional("timeout", "a duration from 1s to 1h, such as \"10s\"", faults, timeout);
    let max_frame = section
        .optional("max_frame", "a size from 64KiB to 32MiB, such as \"4MiB\"", faults, max_frame)
        .unwrap_or(MAX_FRAME);
    let mut config = SourceConfig {
        kind: SourceKind::PushSocket(PathBuf::new()),
        rate,
        timeout: timeout.unwrap_or(if let Kind::Push = kind { PUSH_TIMEOUT } else { TIMEOUT }),
        max_frame,
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
        Kind::Directory | Kind::V4l2 => {
            let size = section.optional("size", "WIDTHxHEIGHT from 8x8 to 8192x8192", faults, size);
            let device = section.required("device", "an absolute path, such as \"/dev/video0\"", faults, absolute);
            SourceKind::V4l2 { device: device?, size }
        }
    };
    Some(config)
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

fn size(text: &str) -> Result<(u32, u32), String> {
    let (width, height) = text.split_once('x').ok_or_else(String::new)?;
    let side = |text: &str| text.parse().ok().filter(|side| (8..=8192).contains(side)).ok_or_else(String::new);
    Ok((side(width)?, side(height)?))
}

/// What cannot be true of two cameras at once.
pub(super) fn conflicts<'c>(sources: impl Iterator<Item = (String, &'c SourceConfig)>, faults: &mut Faults) {
    let mut listening: Vec<(SocketAddr, Option<PathBuf>)> = Vec::new();
    let mut sockets: Vec<&PathBuf> = Vec::new();
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
            _ => {}
        }
    }
}
