//! A finished exchange taken apart: its pictures, what the model said of them, and what the exchange was called.

use std::time::Duration;

use driftglass_protocol::id::Name;
use driftglass_protocol::limit::NAME_BYTES;
use driftglass_protocol::summary::Model;
use driftglass_protocol::unit::UnixMillis;

use super::Unread;
use super::oip::{self, Message, Side};
use super::plain::{self, Found};
use super::tensor::{Scores, encoded, is_picture, pictures, scores};
use crate::config::{Api, InferenceConfig, Pointer};
use crate::prediction::{Choice, Heard, classes, detections, fixed};
use crate::proxy::note::Spoken;

/// Most items of a batch that become frames.
const ITEMS: usize = 8;
/// Most labels of one frame.
const LABELS: usize = 1024;

/// A finished exchange.
#[derive(Clone, Debug)]
pub(super) struct Exchange {
    pub(super) spoken: Spoken,
    /// When the request came.
    pub(super) taken: UnixMillis,
    pub(super) request: Vec<u8>,
    /// The answer, where it was one of success.
    pub(super) answer: Option<Vec<u8>>,
    pub(super) latency: Option<Duration>,
}

/// One frame of an exchange.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) picture: Option<Vec<u8>>,
    pub(super) heard: Option<Heard>,
}

/// What an exchange held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reading {
    pub(super) frames: Vec<Frame>,
    /// Further items of the batch.
    pub(super) further: usize,
    /// Its identifier, empty where it has none.
    pub(super) id: String,
}

/// Takes an exchange apart.
///
/// # Errors
/// One variant of [`Unread`] per cause.
pub(super) fn read(exchange: &Exchange, config: &InferenceConfig) -> Result<Reading, Unread> {
    let reading = match (&config.api, &exchange.spoken) {
        (Api::Json { image, scores, labels, id, .. }, Spoken::Plain { boundary }) => {
            let places = Places { image: image.as_ref(), scores, labels: labels.as_ref(), id: id.as_ref() };
            read_plain(exchange, boundary.as_deref(), &places, config)?
        }
        (_, Spoken::Http { model, version, request_json, answer_json }) => {
            let request = oip::from_http(&exchange.request, *request_json, Side::Request)?;
            let request = Message { model: model.clone(), version: version.clone(), ..request };
            let answer = exchange.answer.as_deref();
            let answer = answer.map(|body| oip::from_http(body, *answer_json, Side::Answer)).transpose()?;
            read_tensors(&request, answer.as_ref(), exchange.latency, config)?
        }
        _ => {
            let request = oip::from_grpc(&exchange.request, Side::Request)?;
            let answer = exchange.answer.as_deref().map(|body| oip::from_grpc(body, Side::Answer)).transpose()?;
            read_tensors(&request, answer.as_ref(), exchange.latency, config)?
        }
    };
    if reading.frames.iter().all(|frame| frame.picture.is_none() && frame.heard.is_none()) {
        return Err(Unread::Nothing);
    }
    Ok(reading)
}

fn read_tensors(
    request: &Message<'_>,
    answer: Option<&Message<'_>>,
    latency: Option<Duration>,
    config: &InferenceConfig,
) -> Result<Reading, Unread> {
    let Api::Open { image, scores: named, labels } = &config.api else { return Err(Unread::Nothing) };
    if !config.models.is_empty() && !config.models.contains(&request.model) {
        return Err(Unread::OtherModel);
    }
    let (found, items) = pictures(&request.tensors, image.as_deref(), &config.pixels, ITEMS)?;
    let mut found = found.into_iter();
    let word = |mine: &str, other: &str| if mine.is_empty() { other.to_owned() } else { mine.to_owned() };
    let model =
        answer.and_then(|answer| model(&word(&answer.model, &request.model), &word(&answer.version, &request.version)));
    let frames = (0..items.clamp(1, ITEMS)).map(|item| {
        let scores =
            answer.and_then(|answer| scores(&answer.tensors, named.as_deref(), labels.as_deref(), item, items.max(1)));
        let heard = scores.and_then(|scores| heard(scores, latency, model.clone(), config));
        Frame { picture: found.next(), heard }
    });
    let id = word(answer.map_or("", |answer| answer.id.as_str()), &request.id);
    Ok(Reading { frames: frames.collect(), further: items.saturating_sub(ITEMS), id })
}

/// Where things are in plain JSON.
struct Places<'p> {
    image: Option<&'p Pointer>,
    scores: &'p Pointer,
    labels: Option<&'p Pointer>,
    id: Option<&'p Pointer>,
}

fn read_plain(
    exchange: &Exchange,
    boundary: Option<&str>,
    places: &Places<'_>,
    config: &InferenceConfig,
) -> Result<Reading, Unread> {
    let request = exchange.request.as_slice();
    let picture = match places.image {
        None if is_picture(request) => Some(request.to_vec()),
        None => boundary.and_then(|boundary| part(request, boundary)),
        Some(pointer) => match plain::find(request, pointer)?.values.first() {
            Some(Found::Text(text)) => Some(encoded(text.as_bytes()).ok_or(Unread::Picture)?),
            _ => None,
        },
    };
    let mut id = None;
    let mut heard_it = None;
    if let Some(answer) = exchange.answer.as_deref() {
        let at = plain::find(answer, places.scores)?;
        let values = at.values.iter().filter_map(Found::number).map(narrow).collect();
        let labels = match places.labels {
            Some(pointer) => plain::find(answer, pointer)?.values.iter().map(Found::text).collect(),
            None => at.names,
        };
        heard_it = heard(Scores { values, labels, partial: false }, exchange.latency, None, config);
        if let Some(pointer) = places.id {
            id = plain::find(answer, pointer)?.values.first().map(Found::text);
        }
    }
    if let (None, Some(pointer), Some(_)) = (&id, places.id, places.image) {
        id = plain::find(request, pointer)?.values.first().map(Found::text);
    }
    let frames = vec![Frame { picture, heard: heard_it }];
    Ok(Reading { frames, further: 0, id: id.unwrap_or_default() })
}

#[expect(clippy::cast_possible_truncation, reason = "scores need no more")]
const fn narrow(number: f64) -> f32 {
    number as f32
}

/// The first part of a form (RFC 7578) that is a picture.
fn part(body: &[u8], boundary: &str) -> Option<Vec<u8>> {
    let delimiter = format!("--{boundary}").into_bytes();
    let find = |bytes: &[u8], what: &[u8]| bytes.windows(what.len()).position(|window| window == what);
    let mut rest = body;
    loop {
        rest = rest.get(find(rest, &delimiter)? + delimiter.len()..)?;
        let content = rest.get(find(rest, b"\r\n\r\n")? + 4..)?;
        if is_picture(content) {
            let end = find(content, &[b"\r\n", delimiter.as_slice()].concat())?;
            return content.get(..end).map(<[u8]>::to_vec);
        }
    }
}

/// What a model said of one frame, by its scores.
fn heard(scores: Scores, latency: Option<Duration>, model: Option<Model>, config: &InferenceConfig) -> Option<Heard> {
    let Scores { values, labels, partial } = scores;
    let of = &config.scores;
    // The confidence of the one label that is told is not that of two classes.
    let alone = partial || (values.len() == 1 && !labels.is_empty());
    let Choice { mut prediction, first } =
        if of.detections || alone { detections(&values)? } else { classes(&values, of.activation)? };
    prediction.latency = latency.map(|latency| fixed(latency.as_secs_f64() * 1000.0));
    let name = |index: usize| {
        let number = match labels.get(index).or_else(|| labels.first().filter(|_| labels.len() == 1)) {
            // A number is that of a class.
            Some(label) => match label.parse() {
                Ok(number) => number,
                Err(_) => return label.clone(),
            },
            None => index,
        };
        of.classes.get(number).cloned().unwrap_or_else(|| number.to_string())
    };
    let labels = if of.detections {
        let sure = values.iter().enumerate().filter(|&(_, &confidence)| confidence >= of.min_confidence);
        sure.map(|(index, _)| name(index)).take(LABELS).collect()
    } else {
        vec![name(first)]
    };
    Some(Heard { prediction, labels, model })
}

/// A model's name and version as names of ours: small letters, and what they may not hold replaced.
fn model(name: &str, version: &str) -> Option<Model> {
    let of = |text: &str| {
        let cleaned = text.chars().map(|character| match character.to_ascii_lowercase() {
            character @ ('a'..='z' | '0'..='9' | '.' | '_' | '-') => character,
            _ => '-',
        });
        let cleaned: String =
            cleaned.skip_while(|character| !character.is_ascii_alphanumeric()).take(NAME_BYTES).collect();
        Name::parse(&cleaned).ok()
    };
    Some(Model { name: of(name)?, version: of(version).or_else(|| of("unknown"))? })
}

#[cfg(test)]
mod tests {
    use driftglass_protocol::unit::Fixed;

    use super::*;
    use crate::config::{Pixels, ScoreConfig};
    use crate::prediction::{Activation, fixed_share};

    const JPEG: [u8; 6] = [0xff, 0xd8, 0xff, 0xe0, 1, 2];

    fn config(api: Api) -> InferenceConfig {
        InferenceConfig {
            listen: ([127, 0, 0, 1], 1).into(),
            upstream: "h:1".into(),
            camera_header: None,
            outcomes: None,
            api,
            models: Vec::new(),
            scores: ScoreConfig {
                detections: false,
                activation: Activation::Auto,
                min_confidence: 0.5,
                classes: Vec::new(),
            },
            pixels: Pixels { in_bytes: false, mean: [0.0; 3], deviation: [1.0; 3], blue_first: false },
            max_body: 1 << 20,
            remember: 10,
        }
    }

    fn open() -> InferenceConfig {
        config(Api::Open { image: None, scores: None, labels: None })
    }

    fn json(scores: &str, labels: Option<&str>) -> InferenceConfig {
        let pointer = |text| Pointer::parse(text).expect("a pointer");
        config(Api::Json {
            path: "/predict".into(),
            image: Some(pointer("/image")),
            scores: pointer(scores),
            labels: labels.map(pointer),
            id: Some(pointer("/id")),
        })
    }

    fn plain(request: &str, answer: &str) -> Exchange {
        Exchange {
            spoken: Spoken::Plain { boundary: None },
            taken: UnixMillis(0),
            request: request.into(),
            answer: Some(answer.into()),
            latency: Some(Duration::from_millis(8)),
        }
    }

    fn http(request: &str, answer: Option<&str>) -> Exchange {
        let spoken = Spoken::Http { model: "m".into(), version: String::new(), request_json: None, answer_json: None };
        Exchange {
            spoken,
            taken: UnixMillis(0),
            request: request.into(),
            answer: answer.map(Into::into),
            latency: None,
        }
    }

    const REQUEST: &str = r#"{"inputs":[{"name":"i","shape":[1],"datatype":"BYTES","data":["/9j/4AEC"]}]}"#;
    const ANSWER: &str = r#"{"model_name":"Res Net/50","model_version":"3","id":"x","outputs":
        [{"name":"p","shape":[1,4],"datatype":"FP32","data":[0.25,0.5,0.125,0.125]}]}"#;

    #[test]
    fn an_inference_becomes_a_picture_and_what_was_said_of_it() {
        let reading = read(&http(REQUEST, Some(ANSWER)), &open()).expect("read");
        assert_eq!((reading.frames.len(), reading.id.as_str()), (1, "x"));
        let frame = &reading.frames[0];
        assert_eq!(frame.picture.as_deref(), Some(&JPEG[..]));
        let heard = frame.heard.as_ref().expect("heard");
        assert_eq!(heard.labels, ["1"]);
        assert_eq!(heard.prediction.entropy, Some(fixed_share(0.875)), "1.75 of 2 bits");
        let model = heard.model.as_ref().expect("told");
        assert_eq!((model.name.as_str(), model.version.as_str()), ("res-net-50", "3"));
        let mut named = open();
        named.scores.classes = ["a", "b"].map(Into::into).to_vec();
        let reading = read(&http(REQUEST, Some(ANSWER)), &named).expect("read");
        assert_eq!(reading.frames[0].heard.as_ref().expect("heard").labels, ["b"]);
    }

    #[test]
    fn an_inference_that_failed_still_has_its_picture_and_other_models_are_left_alone() {
        let reading = read(&http(REQUEST, None), &open()).expect("read");
        assert_eq!(reading.frames, [Frame { picture: Some(JPEG.to_vec()), heard: None }]);
        let mut other = open();
        other.models = vec!["n".into()];
        assert_eq!(read(&http(REQUEST, None), &other), Err(Unread::OtherModel));
        assert_eq!(read(&http(r#"{"inputs":[]}"#, None), &open()), Err(Unread::Nothing));
        assert!(matches!(read(&http("{", None), &open()), Err(Unread::Malformed(_))));
    }

    #[test]
    fn a_batch_is_a_frame_for_each_item_up_to_a_bound() {
        let data = [r#""/9j/4AEC""#; 10].join(",");
        let request = format!(r#"{{"inputs":[{{"name":"i","shape":[10],"datatype":"BYTES","data":[{data}]}}]}}"#);
        let scores: Vec<_> = (0..10).map(|item| if item == 7 { "[0,1]" } else { "[1,0]" }).collect();
        let answer =
            format!(r#"{{"outputs":[{{"name":"p","shape":[10,2],"datatype":"FP64","data":[{}]}}]}}"#, scores.join(","));
        let reading = read(&http(&request, Some(&answer)), &open()).expect("read");
        assert_eq!((reading.frames.len(), reading.further), (ITEMS, 2));
        let labels: Vec<_> =
            reading.frames.iter().map(|frame| frame.heard.as_ref().expect("heard").labels[0].as_str()).collect();
        assert_eq!(labels, ["0", "0", "0", "0", "0", "0", "0", "1"]);
    }

    #[test]
    fn plain_json_is_read_by_its_pointers() {
        let request = r#"{"image":"data:image/jpeg;base64,/9j/4AEC","id":5}"#;
        let of = |answer: &str, config: &InferenceConfig| {
            let reading = read(&plain(request, answer), config).expect("read");
            assert_eq!(reading.frames[0].picture.as_deref(), Some(&JPEG[..]));
            (reading.id, reading.frames[0].heard.clone().expect("heard"))
        };
        let (id, heard) = of(r#"{"scores":{"cat":0.75,"dog":0.25}}"#, &json("/scores", None));
        assert_eq!((id.as_str(), heard.labels), ("5", vec!["cat".to_owned()]));
        assert_eq!(heard.prediction.latency, Some(Fixed::from_int(8)));
        let (id, heard) = of(r#"{"id":"a","label":"cat","confidence":0.25}"#, &json("/confidence", Some("/label")));
        assert_eq!((id.as_str(), heard.labels), ("a", vec!["cat".to_owned()]));
        assert_eq!(heard.prediction.confidence, fixed_share(0.25), "of the label that is told");
        let mut found = json("/found/*/score", Some("/found/*/class"));
        (found.scores.detections, found.scores.classes) = (true, ["person", "car"].map(Into::into).to_vec());
        let answer = r#"{"found":[{"score":0.9,"class":1},{"score":0.3,"class":0},{"score":0.6,"class":7}]}"#;
        let (_, heard) = of(answer, &found);
        assert_eq!(
            (heard.labels, heard.prediction.confidence),
            (vec!["car".to_owned(), "7".to_owned()], fixed_share(0.9))
        );
    }

    #[test]
    fn a_picture_posted_as_it_is_or_in_a_form_is_found() {
        let mut config = json("/s", None);
        let Api::Json { image, .. } = &mut config.api else { unreachable!("plain") };
        *image = None;
        let mut exchange = plain("", r#"{"s":[0.5,0.5]}"#);
        exchange.request = JPEG.to_vec();
        assert_eq!(read(&exchange, &config).expect("read").frames[0].picture.as_deref(), Some(&JPEG[..]));
        exchange.spoken = Spoken::Plain { boundary: Some("b".into()) };
        let form = b"--b\r\nContent-Disposition: form-data; name=\"k\"\r\n\r\nvalue\r\n--b\r\nContent-Type: image/jpeg\r\n\r\n";
        exchange.request = [&form[..], &JPEG, b"\r\n--b--\r\n"].concat();
        assert_eq!(read(&exchange, &config).expect("read").frames[0].picture.as_deref(), Some(&JPEG[..]));
        exchange.request = form.to_vec();
        assert_eq!(read(&exchange, &config).expect("read").frames[0].picture, None);
    }

    #[test]
    fn a_name_is_made_of_whatever_a_model_is_called() {
        assert_eq!(model("", "1"), None);
        let long = model(&"Äa".repeat(100), "").expect("a name");
        assert_eq!((long.name.as_str().len(), long.version.as_str()), (63, "unknown"));
    }
}
