//! A model server that is watched from in front, as configured.

use std::net::SocketAddr;

use super::fault::Faults;
use super::host_and_port;
use super::section::Section;
use crate::prediction::Activation;

/// Most bytes of a request or an answer that are looked at.
const MAX_BODY: usize = 8 << 20;
/// Predictions remembered for a truth that comes later.
const REMEMBER: usize = 4096;
/// Most names of classes, and of models.
const NAMES: usize = 100_000;
/// Steps of a pointer into JSON.
const STEPS: usize = 16;

/// A proxy in front of a model server, and how to read what passes. Cameras that share `listen` share what stands before `api`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InferenceConfig {
    /// Where clients of the model connect to.
    pub listen: SocketAddr,
    /// Host and port of the model server.
    pub upstream: String,
    /// The header that names the camera, where several share `listen`.
    pub camera_header: Option<String>,
    /// Where the truth of earlier frames is posted to.
    pub outcomes: Option<SocketAddr>,
    /// How requests and answers look.
    pub api: Api,
    /// Names of models that are watched; all where there are none.
    pub models: Vec<String>,
    /// How scores are read.
    pub scores: ScoreConfig,
    /// How tensors become pictures.
    pub pixels: Pixels,
    /// Most bytes of a request or an answer that are looked at; larger ones pass unseen.
    pub max_body: usize,
    /// Predictions remembered for a truth that comes later.
    pub remember: usize,
}

/// How requests and answers look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Api {
    /// The Open Inference Protocol, version 2, over HTTP and gRPC.
    Open {
        /// Names of tensors; without one the first that fits.
        image: Option<String>,
        /// The tensor of scores.
        scores: Option<String>,
        /// The tensor of labels.
        labels: Option<String>,
    },
    /// JSON posted to one path.
    Json {
        /// The path.
        path: String,
        /// Where in the request the picture is; without it the request's body is the picture.
        image: Option<Pointer>,
        /// Where in the answer the scores are.
        scores: Pointer,
        /// Where in the answer their labels are.
        labels: Option<Pointer>,
        /// Where in the answer, or else in the request, the request's identifier is.
        id: Option<Pointer>,
    },
}

/// A JSON Pointer (RFC 6901), in which a step `*` stands for every element or member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pointer(Vec<String>);

impl Pointer {
    /// Reads a pointer; `None` where it is none.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text.is_empty() {
            return Some(Self(Vec::new()));
        }
        let steps = text.strip_prefix('/')?.split('/').map(|step| step.replace("~1", "/").replace("~0", "~"));
        let steps: Vec<_> = steps.take(STEPS + 1).collect();
        (steps.len() <= STEPS).then_some(Self(steps))
    }

    /// Its steps.
    #[must_use]
    pub fn steps(&self) -> &[String] {
        &self.0
    }
}

/// How scores are read.
#[derive(Clone, Debug, PartialEq)]
pub struct ScoreConfig {
    /// Whether they are detections, which do not exclude each other, rather than classes, which do.
    pub detections: bool,
    /// Whether they are probabilities.
    pub activation: Activation,
    /// The least confidence at which a detection's label counts, 0..=1.
    pub min_confidence: f32,
    /// Names of classes by their number.
    pub classes: Vec<String>,
}

/// No number that is none gets through the checks.
impl Eq for ScoreConfig {}

/// How tensors become pictures: a pixel is 255·(value·deviation + mean), or the value itself where it is in bytes already.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pixels {
    /// Whether values that are no bytes are nevertheless 0..=255.
    pub in_bytes: bool,
    /// What was subtracted, for each channel.
    pub mean: [f32; 3],
    /// What it was divided by then, for each channel.
    pub deviation: [f32; 3],
    /// Whether blue comes first.
    pub blue_first: bool,
}

/// No number that is none gets through the checks.
impl Eq for Pixels {}

pub(super) fn inference(section: &mut Section, faults: &mut Faults) -> Option<InferenceConfig> {
    let remote = section.flag("allow_remote", faults).unwrap_or(false);
    let address = |text: &str| {
        let address: SocketAddr = text.parse().map_err(|_| String::new())?;
        if address.ip().is_loopback() || remote {
            Ok(address)
        } else {
            Err("beyond this machine only with allow_remote = true: the proxy asks nobody who they are".into())
        }
    };
    let listen = section.required("listen", "an IP address and port, such as \"127.0.0.1:9480\"", faults, address);
    let upstream = section.required("upstream", "HOST:PORT of the model server", faults, |text| {
        host_and_port(text.strip_prefix("http://").unwrap_or(text))
            .map(|(host, port)| if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") })
    });
    let outcomes = section.optional("outcomes", "a loopback IP address and port", faults, |text| {
        let address: SocketAddr = text.parse().map_err(|_| String::new())?;
        if address.ip().is_loopback() { Ok(address) } else { Err(String::new()) }
    });
    let camera_header = section.optional("camera_header", "the name of a header", faults, |text| {
        let name = hyper::header::HeaderName::try_from(text).map_err(|error| error.to_string())?;
        Ok(name.as_str().to_owned())
    });
    let max_body = section.optional("max_body", "a size from 64KiB to 64MiB, such as \"8MiB\"", faults, |text| {
        let size = text.parse::<bytesize::ByteSize>()?.as_u64();
        usize::try_from(size).ok().filter(|size| (64 << 10..=64 << 20).contains(size)).ok_or_else(String::new)
    });
    let remember = section.number("remember", "a whole number from 0 to 1000000", faults, whole);
    let names = |section: &mut Section, key, faults: &mut Faults| {
        let found = section.texts(key, "a list of names", faults, |text| Some(text.to_owned()));
        found.filter(|names| names.len() <= NAMES).unwrap_or_default()
    };
    let (models, classes) = (names(section, "models", faults), names(section, "classes", faults));
    let detections = section.optional("output", "\"classes\" or \"detections\"", faults, |text| match text {
        "classes" => Ok(false),
        "detections" => Ok(true),
        _ => Err(String::new()),
    });
    let activation = section.optional("activation", "\"auto\", \"softmax\" or \"none\"", faults, |text| match text {
        "auto" => Ok(Activation::Auto),
        "softmax" => Ok(Activation::Softmax),
        "none" => Ok(Activation::None),
        _ => Err(String::new()),
    });
    let min_confidence = section.number("min_confidence", "a number from 0 to 1", faults, share);
    let pixels = pixels(section, faults);
    let api = api(section, faults);
    Some(InferenceConfig {
        listen: listen?,
        upstream: upstream?,
        camera_header,
        outcomes,
        api: api?,
        models,
        scores: ScoreConfig {
            detections: detections.unwrap_or(false),
            activation: activation.unwrap_or_default(),
            min_confidence: min_confidence.unwrap_or(0.5),
            classes,
        },
        pixels,
        max_body: max_body.unwrap_or(MAX_BODY),
        remember: remember.unwrap_or(REMEMBER),
    })
}

/// Looks for what cannot be true of two proxies at once.
#[derive(Default)]
pub(super) struct Conflicts<'c> {
    known: Vec<&'c InferenceConfig>,
}

impl<'c> Conflicts<'c> {
    pub(super) fn add(&mut self, key: &str, config: &'c InferenceConfig, faults: &mut Faults) {
        let listen = config.listen.to_string();
        let mut conflict = |field: &str, reason: String| faults.add(format!("{key}.{field}"), listen.clone(), reason);
        if let Some(known) = self.known.iter().find(|known| known.listen == config.listen) {
            if config.camera_header.is_none() {
                conflict("listen", "cameras that share it are told apart by camera_header".into());
            } else if (&known.upstream, &known.camera_header, known.outcomes)
                != (&config.upstream, &config.camera_header, config.outcomes)
            {
                let reason = "cameras that share it share upstream, camera_header and outcomes".into();
                conflict("listen", reason);
            }
        }
        let taken = |known: &&&InferenceConfig| known.listen != config.listen && known.outcomes == config.outcomes;
        if config.outcomes == Some(config.listen) || (config.outcomes.is_some() && self.known.iter().any(|k| taken(&k)))
        {
            conflict("outcomes", "an address of its own for each listen".into());
        }
        self.known.push(config);
    }
}

fn api(section: &mut Section, faults: &mut Faults) -> Option<Api> {
    let json = section.optional("api", "\"oip\" or \"json\"", faults, |text| match text {
        "oip" => Ok(false),
        "json" => Ok(true),
        _ => Err(String::new()),
    });
    if !json.unwrap_or(false) {
        let mut tensor = |key| {
            section.optional(key, "the name of a tensor", faults, |text| {
                if text.is_empty() || text.starts_with('/') { Err(String::new()) } else { Ok(text.to_owned()) }
            })
        };
        return Some(Api::Open { image: tensor("image"), scores: tensor("scores"), labels: tensor("labels") });
    }
    let allowed = "a JSON Pointer, such as \"/predictions/0/scores\"";
    let check = |text: &str| Pointer::parse(text).ok_or_else(String::new);
    let path = section.required("path", "a path, such as \"/predict\"", faults, |text| {
        if text.starts_with('/') { Ok(text.to_owned()) } else { Err(String::new()) }
    });
    let image = section.optional("image", allowed, faults, check);
    let scores = section.required("scores", allowed, faults, check);
    let labels = section.optional("labels", allowed, faults, check);
    let id = section.optional("id", allowed, faults, check);
    Some(Api::Json { path: path?, image, scores: scores?, labels, id })
}

fn pixels(section: &mut Section, faults: &mut Faults) -> Pixels {
    let in_bytes = section.optional("scale", "\"unit\" (0 to 1) or \"byte\" (0 to 255)", faults, |text| match text {
        "unit" => Ok(false),
        "byte" => Ok(true),
        _ => Err(String::new()),
    });
    let blue_first = section.optional("channels", "\"rgb\" or \"bgr\"", faults, |text| match text {
        "rgb" => Ok(false),
        "bgr" => Ok(true),
        _ => Err(String::new()),
    });
    let mut three = |key, allowed, range: std::ops::RangeInclusive<f64>| {
        section.numbers(key, allowed, faults, |numbers| {
            numbers.iter().all(|number| range.contains(number)).then(|| numbers.map(narrow))
        })
    };
    let mean = three("mean", "three numbers from -10 to 10, for each channel", -10.0..=10.0);
    let deviation = three("std", "three numbers from 0.001 to 10, for each channel", 0.001..=10.0);
    Pixels {
        in_bytes: in_bytes.unwrap_or(false),
        mean: mean.unwrap_or([0.0; 3]),
        deviation: deviation.unwrap_or([1.0; 3]),
        blue_first: blue_first.unwrap_or(false),
    }
}

#[expect(clippy::cast_possible_truncation, reason = "rounded to the nearest; its range was checked")]
const fn narrow(number: f64) -> f32 {
    number as f32
}

fn share(number: f64) -> Option<f32> {
    (0.0..=1.0).contains(&number).then(|| narrow(number))
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked to be a whole number in range")]
fn whole(number: f64) -> Option<usize> {
    ((0.0..=1_000_000.0).contains(&number) && number.fract() == 0.0).then_some(number as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pointer_has_steps_and_escapes() {
        let steps = |text| Pointer::parse(text).map(|pointer| pointer.steps().to_vec());
        assert_eq!(steps(""), Some(vec![]));
        assert_eq!(steps("/a/0/*"), Some(vec!["a".into(), "0".into(), "*".into()]));
        assert_eq!(steps("/a~1b/c~0d/"), Some(vec!["a/b".into(), "c~d".into(), String::new()]));
        assert_eq!(steps("a"), None);
        assert_eq!(steps(&"/a".repeat(17)), None);
    }
}
