//! Messages of the Open Inference Protocol, version 2: JSON, JSON with binary tensors behind it, and gRPC.
//!
//! <https://github.com/kserve/open-inference-protocol>; binary tensors are the `binary_data` extension of Triton, which `KServe` and
//! `MLServer` share. Only what is needed is read; numbers of fields and members are those of the specification.
//!
//! Must hold: at most [`TENSORS`] tensors of [`DIMENSIONS`] dimensions and as many elements as the bounded copy has room for.
//!
//! Deliberately absent: shared memory regions, `ModelStreamInfer`, compressed messages; they pass unseen.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, IgnoredAny, SeqAccess, Visitor};

use super::Unread;
use super::protobuf::{Fields, Value, text, varint};
use super::tensor::{Data, Datatype, Tensor};

/// Most tensors of a message.
const TENSORS: usize = 64;
/// Most dimensions of a tensor.
const DIMENSIONS: usize = 8;
/// Most strings of a tensor.
const STRINGS: usize = 1 << 17;

/// A request or an answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Message<'a> {
    pub(super) model: String,
    pub(super) version: String,
    pub(super) id: String,
    /// Inputs of a request, outputs of an answer.
    pub(super) tensors: Vec<Tensor<'a>>,
}

/// The side of the conversation, where messages differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Request,
    Answer,
}

// --- HTTP

/// Reads a body; `json_length` is the value of `Inference-Header-Content-Length`.
///
/// # Errors
/// [`Unread::Malformed`].
pub(super) fn from_http(body: &[u8], json_length: Option<usize>, side: Side) -> Result<Message<'_>, Unread> {
    const SHORT: Unread = Unread::Malformed("a body shorter than its JSON");
    let (json, mut binary) = match json_length {
        Some(length) => body.split_at_checked(length).ok_or(SHORT)?,
        None => (body, [].as_slice()),
    };
    let parsed: JsonMessage =
        serde_json::from_slice(json).map_err(|_| Unread::Malformed("no JSON of this protocol"))?;
    let (mine, other) = match side {
        Side::Request => (parsed.inputs, parsed.outputs),
        Side::Answer => (parsed.outputs, parsed.inputs),
    };
    drop(other);
    let mut tensors = Vec::new();
    for tensor in mine {
        let data = match (tensor.parameters.binary_data_size, tensor.data) {
            (Some(size), _) => {
                let (mine, rest) = binary.split_at_checked(size).ok_or(SHORT)?;
                binary = rest;
                Data::Raw(mine)
            }
            (None, None) => Data::Absent,
            (None, Some(JsonData { strings, .. })) if !strings.is_empty() => {
                Data::Strings(strings.into_iter().map(|text| Cow::Owned(text.into_bytes())).collect())
            }
            (None, Some(JsonData { numbers, .. })) => Data::Numbers(numbers),
        };
        // A type from a later version of the protocol is no reason not to read the others.
        let Some(datatype) = Datatype::parse(&tensor.datatype) else { continue };
        tensors.push(Tensor { name: tensor.name.into(), datatype, shape: tensor.shape, data });
    }
    let word = Option::unwrap_or_default;
    Ok(Message { model: word(parsed.model_name), version: word(parsed.model_version), id: word(parsed.id), tensors })
}

#[derive(Deserialize)]
struct JsonMessage {
    model_name: Option<String>,
    model_version: Option<String>,
    id: Option<String>,
    #[serde(default, deserialize_with = "tensors")]
    inputs: Vec<JsonTensor>,
    #[serde(default, deserialize_with = "tensors")]
    outputs: Vec<JsonTensor>,
}

#[derive(Deserialize)]
struct JsonTensor {
    name: String,
    #[serde(default)]
    datatype: String,
    #[serde(default, deserialize_with = "dimensions")]
    shape: Vec<u64>,
    data: Option<JsonData>,
    #[serde(default)]
    parameters: Parameters,
}

#[derive(Default, Deserialize)]
struct Parameters {
    binary_data_size: Option<usize>,
}

fn tensors<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<JsonTensor>, D::Error> {
    deserializer.deserialize_seq(Bounded(TENSORS, std::marker::PhantomData))
}

fn dimensions<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u64>, D::Error> {
    deserializer.deserialize_seq(Bounded(DIMENSIONS, std::marker::PhantomData))
}

/// An array of at most so many elements.
struct Bounded<T>(usize, std::marker::PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for Bounded<T> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at most {} elements", self.0)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Self::Value, A::Error> {
        let mut found = Vec::new();
        while let Some(element) = elements.next_element()? {
            if found.len() >= self.0 {
                return Err(A::Error::custom("too many elements"));
            }
            found.push(element);
        }
        Ok(found)
    }
}

/// Elements of a tensor in JSON, nested or not, in row-major order.
#[derive(Default)]
struct JsonData {
    numbers: Vec<f32>,
    strings: Vec<String>,
}

impl<'de> Deserialize<'de> for JsonData {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut data = Self::default();
        deserializer.deserialize_any(Elements(&mut data))?;
        Ok(data)
    }
}

struct Elements<'d>(&'d mut JsonData);

impl<'de> serde::de::DeserializeSeed<'de> for Elements<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Elements<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("numbers or texts")
    }

    #[expect(clippy::cast_possible_truncation, reason = "pixels and scores need no more")]
    fn visit_f64<E: Error>(self, number: f64) -> Result<(), E> {
        self.0.numbers.push(number as f32);
        Ok(())
    }

    #[expect(clippy::cast_precision_loss, reason = "pixels and scores need no more")]
    fn visit_u64<E: Error>(self, number: u64) -> Result<(), E> {
        self.0.numbers.push(number as f32);
        Ok(())
    }

    #[expect(clippy::cast_precision_loss, reason = "pixels and scores need no more")]
    fn visit_i64<E: Error>(self, number: i64) -> Result<(), E> {
        self.0.numbers.push(number as f32);
        Ok(())
    }

    fn visit_bool<E: Error>(self, flag: bool) -> Result<(), E> {
        self.visit_u64(u64::from(flag))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        self.visit_string(text.to_owned())
    }

    fn visit_string<E: Error>(self, text: String) -> Result<(), E> {
        if self.0.strings.len() >= STRINGS {
            return Err(E::custom("too many texts"));
        }
        self.0.strings.push(text);
        Ok(())
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        while elements.next_element_seed(Elements(self.0))?.is_some() {}
        Ok(())
    }

    fn visit_map<A: serde::de::MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        while members.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(())
    }
}

// --- gRPC

/// Reads the body of a unary call: one message behind its flag and its length.
///
/// # Errors
/// [`Unread::Malformed`], [`Unread::Compressed`].
pub(super) fn from_grpc(body: &[u8], side: Side) -> Result<Message<'_>, Unread> {
    let (&[flag, length @ ..], message) = body.split_first_chunk::<5>().ok_or(Unread::Malformed("no gRPC message"))?;
    if flag != 0 {
        return Err(Unread::Compressed);
    }
    if usize::try_from(u32::from_be_bytes(length)).ok() != Some(message.len()) {
        return Err(Unread::Malformed("not one gRPC message"));
    }
    let raw_field = match side {
        Side::Request => 7,
        Side::Answer => 6,
    };
    let mut parsed = Message::default();
    let mut raw = Vec::new();
    for field in Fields(message) {
        match field? {
            (1, Value::Bytes(bytes)) => parsed.model = text(bytes)?.to_owned(),
            (2, Value::Bytes(bytes)) => parsed.version = text(bytes)?.to_owned(),
            (3, Value::Bytes(bytes)) => parsed.id = text(bytes)?.to_owned(),
            (5, Value::Bytes(bytes)) if parsed.tensors.len() < TENSORS => parsed.tensors.push(tensor(bytes)?),
            (number, Value::Bytes(bytes)) if number == raw_field && raw.len() < TENSORS => raw.push(bytes),
            _ => {}
        }
    }
    // Raw contents stand for all tensors in their order, or for none.
    for (tensor, raw) in parsed.tensors.iter_mut().zip(raw) {
        tensor.data = Data::Raw(raw);
    }
    // Those whose type this version does not know have kept their places until here.
    parsed.tensors.retain(|tensor| !tensor.name.is_empty());
    Ok(parsed)
}

fn tensor(message: &[u8]) -> Result<Tensor<'_>, Unread> {
    let mut parsed =
        Tensor { name: Cow::Borrowed(""), datatype: Datatype::Bytes, shape: Vec::new(), data: Data::Absent };
    let mut known = false;
    for field in Fields(message) {
        match field? {
            (1, Value::Bytes(bytes)) => parsed.name = Cow::Borrowed(text(bytes)?),
            (2, Value::Bytes(bytes)) => {
                if let Some(datatype) = Datatype::parse(text(bytes)?) {
                    (parsed.datatype, known) = (datatype, true);
                }
            }
            (3, Value::Varint(side)) => parsed.shape.push(side),
            (3, Value::Bytes(mut packed)) => {
                while !packed.is_empty() && parsed.shape.len() <= DIMENSIONS {
                    parsed.shape.push(varint(&mut packed).ok_or(Unread::Malformed("a shape cut short"))?);
                }
            }
            (5, Value::Bytes(bytes)) => parsed.data = contents(bytes)?,
            _ => {}
        }
        if parsed.shape.len() > DIMENSIONS {
            return Err(Unread::Malformed("too many dimensions"));
        }
    }
    if !known {
        parsed.name = Cow::Borrowed("");
    }
    Ok(parsed)
}

/// `InferTensorContents`: every kind of number in a field of its own, packed or not, and byte strings.
fn contents(message: &[u8]) -> Result<Data<'_>, Unread> {
    const SHORT: Unread = Unread::Malformed("contents cut short");
    let (mut numbers, mut strings) = (Vec::new(), Vec::new());
    for field in Fields(message) {
        match field? {
            (6, Value::Fixed32(bytes)) => numbers.push(f32::from_le_bytes(bytes)),
            (7, Value::Fixed64(bytes)) => numbers.push(narrow(f64::from_le_bytes(bytes))),
            (kind @ 1..=5, Value::Varint(number)) => numbers.push(integer(kind, number)),
            (6, Value::Bytes(packed)) => {
                let (chunks, rest) = packed.as_chunks::<4>();
                numbers.extend(chunks.iter().map(|bytes| f32::from_le_bytes(*bytes)));
                if !rest.is_empty() {
                    return Err(SHORT);
                }
            }
            (7, Value::Bytes(packed)) => {
                let (chunks, rest) = packed.as_chunks::<8>();
                numbers.extend(chunks.iter().map(|bytes| narrow(f64::from_le_bytes(*bytes))));
                if !rest.is_empty() {
                    return Err(SHORT);
                }
            }
            (kind @ 1..=5, Value::Bytes(mut packed)) => {
                while !packed.is_empty() {
                    numbers.push(integer(kind, varint(&mut packed).ok_or(SHORT)?));
                }
            }
            (8, Value::Bytes(bytes)) if strings.len() < STRINGS => strings.push(Cow::Borrowed(bytes)),
            _ => {}
        }
    }
    Ok(if strings.is_empty() { Data::Numbers(numbers) } else { Data::Strings(strings) })
}

#[expect(clippy::cast_possible_truncation, reason = "pixels and scores need no more")]
const fn narrow(number: f64) -> f32 {
    number as f32
}

/// Fields 2 and 3 are signed.
#[expect(clippy::cast_precision_loss, clippy::cast_possible_wrap, reason = "pixels and scores need no more")]
const fn integer(kind: u64, number: u64) -> f32 {
    if matches!(kind, 2 | 3) { number as i64 as f32 } else { number as f32 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn numbers<'m>(message: &'m Message<'_>) -> &'m [f32] {
        let Data::Numbers(numbers) = &message.tensors[0].data else { panic!("{message:?}") };
        numbers
    }

    #[test]
    fn json_is_read_nested_or_flat_and_with_binary_tensors_behind_it() {
        let json = br#"{"model_name":"m","model_version":null,"id":"7","outputs":[
            {"name":"a","shape":[2,2],"datatype":"FP32","data":[[1,0.5],[true,-1]]},
            {"name":"b","shape":[1],"datatype":"BYTES","data":["text"],"parameters":{"content_type":"str"}},
            {"name":"n","shape":[1],"datatype":"FP8","data":[1]}]}"#;
        let message = from_http(json, None, Side::Answer).expect("read");
        assert_eq!((message.model.as_str(), message.version.as_str(), message.id.as_str()), ("m", "", "7"));
        assert_eq!(numbers(&message), [1.0, 0.5, 1.0, -1.0]);
        assert_eq!(message.tensors[1].data, Data::Strings(vec![Cow::Borrowed(b"text")]));
        assert_eq!(message.tensors.len(), 2, "a type that is not known is passed over");
        let json = br#"{"inputs":[{"name":"a","shape":[2],"datatype":"UINT8","parameters":{"binary_data_size":2}},
            {"name":"b","shape":[1],"datatype":"UINT8","parameters":{"binary_data_size":1}}],
            "outputs":[{"name":"c","parameters":{"binary_data":true}}]}"#;
        let body = [&json[..], &[1, 2, 3]].concat();
        let message = from_http(&body, Some(json.len()), Side::Request).expect("read");
        assert_eq!((&message.tensors[0].data, &message.tensors[1].data), (&Data::Raw(&[1, 2]), &Data::Raw(&[3])));
    }

    #[test]
    fn malformed_json_is_told_and_never_more() {
        let many = format!("{{\"inputs\":[{}]}}", vec![r#"{"name":"a"}"#; TENSORS + 1].join(","));
        let deep = format!("{{\"inputs\":[{{\"name\":\"a\",\"data\":{}}}]}}", "[".repeat(100_000));
        let shape = format!("{{\"inputs\":[{{\"name\":\"a\",\"shape\":[{}1]}}]}}", "1,".repeat(DIMENSIONS));
        for json in ["", "{", "[]", "{\"inputs\":1}", &many, &deep, &shape, "{\"inputs\":[{\"shape\":[1]}]}"] {
            let read = from_http(json.as_bytes(), None, Side::Request);
            assert!(matches!(read, Err(Unread::Malformed(_))), "{:.60}", json);
        }
        assert!(from_http(b"{}", Some(3), Side::Request).is_err());
        let json = br#"{"inputs":[{"name":"a","parameters":{"binary_data_size":18446744073709551615}}]}"#;
        assert!(from_http(json, Some(json.len()), Side::Request).is_err());
    }

    fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
        let mut field = vec![number << 3 | 2, u8::try_from(bytes.len()).expect("short")];
        field.extend(bytes);
        field
    }

    fn framed(message: &[u8]) -> Vec<u8> {
        let length = u32::try_from(message.len()).expect("short").to_be_bytes();
        [&[0][..], &length, message].concat()
    }

    #[test]
    fn grpc_messages_are_read_with_typed_and_with_raw_contents() {
        let typed = [field(1, b"in"), field(2, b"FP32"), field(3, &[1, 2]), field(5, &field(6, &[0; 8]))].concat();
        let message = framed(&[field(1, b"model"), field(2, b"3"), field(3, b"id"), field(5, &typed)].concat());
        let read = from_grpc(&message, Side::Request).expect("read");
        assert_eq!((read.model.as_str(), read.version.as_str(), read.id.as_str()), ("model", "3", "id"));
        assert_eq!((numbers(&read), read.tensors[0].shape.as_slice()), (&[0.0, 0.0][..], &[1, 2][..]));
        let signed = field(5, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]);
        let signed = [field(1, b"in"), field(2, b"INT32"), field(5, &[&[2 << 3 | 2, 10][..], &signed[2..]].concat())];
        let read_signed = framed(&field(5, &signed.concat()));
        assert_eq!(numbers(&from_grpc(&read_signed, Side::Request).expect("read")), [-1.0]);
        let bare = |kind: &[u8]| field(5, &[field(1, b"t"), field(2, kind)].concat());
        let answer = [bare(b"FP8"), bare(b"UINT8"), field(6, &[9]), field(6, &[1, 2])].concat();
        let answer = framed(&answer);
        let read = from_grpc(&answer, Side::Answer).expect("read");
        assert_eq!(read.tensors.len(), 1);
        assert_eq!(read.tensors[0].data, Data::Raw(&[1, 2]), "raw contents keep their places");
    }

    #[test]
    fn grpc_that_is_compressed_or_cut_short_is_told() {
        assert_eq!(from_grpc(&[1, 0, 0, 0, 0], Side::Request), Err(Unread::Compressed));
        for body in [&[][..], &[0, 0, 0, 0, 1], &[0, 0, 0, 0, 0, 0], &[0, 0, 0, 0, 1, 0x0b]] {
            assert!(matches!(from_grpc(body, Side::Request), Err(Unread::Malformed(_))), "{body:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_can_do_harm(bytes in prop::collection::vec(any::<u8>(), 0..300), length in 0_usize..400) {
            drop(from_grpc(&framed(&bytes), Side::Request));
            drop(from_grpc(&framed(&field(5, &bytes[..bytes.len().min(100)])), Side::Answer));
            drop(from_http(&bytes, Some(length), Side::Request));
        }
    }
}
