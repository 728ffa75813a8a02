//! Tensors of the Open Inference Protocol: as pictures, and as scores.
//!
//! Must hold: shapes and lengths are checked against each other before anything is allocated for them; what is announced and not there
//! is an [`Unread`], never a panic.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::Unread;
use crate::config::Pixels;
use crate::frame::{BLOCK, MAX_SIDE};

/// How far values may lie beyond 0..=1, in units of the whole range, before they are called something else.
const SLACK: f32 = 0.02;
/// Most scores of one item.
const MOST_SCORES: usize = 1 << 17;

/// Type of a tensor's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Datatype {
    Bool,
    Uint8,
    Uint16,
    Uint32,
    Uint64,
    Int8,
    Int16,
    Int32,
    Int64,
    Fp16,
    Bf16,
    Fp32,
    Fp64,
    Bytes,
}

impl Datatype {
    pub(super) fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "BOOL" => Self::Bool,
            "UINT8" => Self::Uint8,
            "UINT16" => Self::Uint16,
            "UINT32" => Self::Uint32,
            "UINT64" => Self::Uint64,
            "INT8" => Self::Int8,
            "INT16" => Self::Int16,
            "INT32" => Self::Int32,
            "INT64" => Self::Int64,
            "FP16" => Self::Fp16,
            "BF16" => Self::Bf16,
            "FP32" => Self::Fp32,
            "FP64" => Self::Fp64,
            "BYTES" => Self::Bytes,
            _ => return None,
        })
    }

    const fn size(self) -> Option<usize> {
        match self {
            Self::Bool | Self::Uint8 | Self::Int8 => Some(1),
            Self::Uint16 | Self::Int16 | Self::Fp16 | Self::Bf16 => Some(2),
            Self::Uint32 | Self::Int32 | Self::Fp32 => Some(4),
            Self::Uint64 | Self::Int64 | Self::Fp64 => Some(8),
            Self::Bytes => None,
        }
    }

    const fn is_float(self) -> bool {
        matches!(self, Self::Fp16 | Self::Bf16 | Self::Fp32 | Self::Fp64)
    }
}

/// Contents of a tensor.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Data<'a> {
    /// None; the server was only told of it, or it lies elsewhere (shared memory).
    Absent,
    /// Elements one after the other, lowest byte first; of BYTES each behind its length in four bytes.
    Raw(&'a [u8]),
    /// Numbers, already taken apart.
    Numbers(Vec<f32>),
    /// Texts or byte strings, already taken apart.
    Strings(Vec<Cow<'a, [u8]>>),
}

/// One tensor.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Tensor<'a> {
    pub(super) name: Cow<'a, str>,
    pub(super) datatype: Datatype,
    pub(super) shape: Vec<u64>,
    pub(super) data: Data<'a>,
}

impl Tensor<'_> {
    /// Elements by the shape; `None` where that is beyond all reason.
    fn elements(&self) -> Option<usize> {
        self.shape.iter().try_fold(1_usize, |product, &side| product.checked_mul(usize::try_from(side).ok()?))
    }

    /// Items of the batch: the first dimension of more than one.
    fn items(&self) -> usize {
        match self.shape.as_slice() {
            [items, _, ..] => usize::try_from(*items).unwrap_or(1),
            _ => 1,
        }
    }

    /// One number.
    fn at(&self, index: usize) -> Option<f32> {
        match &self.data {
            Data::Numbers(numbers) => numbers.get(index).copied(),
            Data::Raw(bytes) => {
                let size = self.datatype.size()?;
                let start = index.checked_mul(size)?;
                number(self.datatype, bytes.get(start..start.checked_add(size)?)?)
            }
            Data::Absent | Data::Strings(_) => None,
        }
    }

    /// The numbers of an item of the batch, the whole where there is one item only.
    fn numbers(&self, item: usize, items: usize) -> Option<Vec<f32>> {
        let elements = self.elements()?;
        let (items, item) = if items > 1 && self.items() == items { (items, item) } else { (1, 0) };
        let each = elements / items;
        if each == 0 || each > MOST_SCORES {
            return None;
        }
        (each * item..each * (item + 1)).map(|index| self.at(index)).collect()
    }

    /// The byte strings, where it has such.
    fn strings(&self) -> Option<Vec<Cow<'_, [u8]>>> {
        match &self.data {
            Data::Strings(strings) => Some(strings.iter().map(|text| Cow::Borrowed(text.as_ref())).collect()),
            Data::Raw(bytes) if self.datatype == Datatype::Bytes => {
                let mut bytes = *bytes;
                let mut strings = Vec::new();
                while let Some((length, rest)) = bytes.split_first_chunk() {
                    let (text, rest) = rest.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
                    strings.push(Cow::Borrowed(text));
                    bytes = rest;
                    if strings.len() > MOST_SCORES {
                        return None;
                    }
                }
                bytes.is_empty().then_some(strings)
            }
            _ => None,
        }
    }
}

#[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "scores and pixels need no more")]
fn number(datatype: Datatype, bytes: &[u8]) -> Option<f32> {
    Some(match (datatype, bytes) {
        (Datatype::Bool | Datatype::Uint8, &[byte]) => f32::from(byte),
        (Datatype::Int8, &[byte]) => f32::from(i8::from_le_bytes([byte])),
        (Datatype::Uint16, &[a, b]) => f32::from(u16::from_le_bytes([a, b])),
        (Datatype::Int16, &[a, b]) => f32::from(i16::from_le_bytes([a, b])),
        (Datatype::Bf16, &[a, b]) => f32::from_le_bytes([0, 0, a, b]),
        (Datatype::Fp16, &[a, b]) => half(u16::from_le_bytes([a, b])),
        (Datatype::Fp32, bytes) => f32::from_le_bytes(bytes.try_into().ok()?),
        (Datatype::Uint32, bytes) => u32::from_le_bytes(bytes.try_into().ok()?) as f32,
        (Datatype::Int32, bytes) => i32::from_le_bytes(bytes.try_into().ok()?) as f32,
        (Datatype::Fp64, bytes) => f64::from_le_bytes(bytes.try_into().ok()?) as f32,
        (Datatype::Uint64, bytes) => u64::from_le_bytes(bytes.try_into().ok()?) as f32,
        (Datatype::Int64, bytes) => i64::from_le_bytes(bytes.try_into().ok()?) as f32,
        _ => return None,
    })
}

/// IEEE 754 binary16: its exponent moved to where binary32 has it, which also makes its subnormal numbers normal.
fn half(bits: u16) -> f32 {
    let sign = u32::from(bits & 0x8000) << 16;
    let rest = u32::from(bits & 0x7fff);
    let magnitude = match rest {
        0x7c00.. => f32::from_bits(0x7f80_0000 | (rest & 0x3ff) << 13),
        // 2^(127 - 15).
        _ => f32::from_bits(rest << 13) * f32::from_bits((127 + 112) << 23),
    };
    f32::from_bits(sign | magnitude.to_bits())
}

/// How a tensor's elements lie as pictures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Layout {
    items: usize,
    height: usize,
    width: usize,
    channels: usize,
    /// Channel after channel rather than pixel after pixel.
    planar: bool,
}

impl Layout {
    /// Of a shape with one or three channels, last or first, and sides a picture can have.
    fn of(shape: &[u64]) -> Option<Self> {
        let side =
            |side: u64| usize::try_from(side).ok().filter(|_| (u64::from(BLOCK)..=MAX_SIDE.into()).contains(&side));
        let channels = |channels: u64| match channels {
            1 => Some(1),
            3 => Some(3),
            _ => None,
        };
        let (items, [a, b, c]) = match *shape {
            [items, a, b, c] => (usize::try_from(items).ok().filter(|&items| items > 0)?, [a, b, c]),
            [a, b, c] => (1, [a, b, c]),
            _ => return None,
        };
        if let (Some(height), Some(width), Some(channels)) = (side(a), side(b), channels(c)) {
            return Some(Self { items, height, width, channels, planar: false });
        }
        Some(Self { items, height: side(b)?, width: side(c)?, channels: channels(a)?, planar: true })
    }
}

/// The pictures in the inputs of a request, each a JPEG, PNG or Netpbm file: at most so many, and how many there are. The input is the
/// named one, or else the first that looks like pictures; none where no input does.
///
/// # Errors
/// [`Unread`] where the input that should be pictures isn't.
pub(super) fn pictures(
    inputs: &[Tensor<'_>],
    named: Option<&str>,
    pixels: &Pixels,
    most: usize,
) -> Result<(Vec<Vec<u8>>, usize), Unread> {
    for input in inputs.iter().filter(|input| named.is_none_or(|name| name == input.name)) {
        if let Some(strings) = input.strings() {
            let found: Vec<_> = strings.iter().take(most).map_while(|bytes| encoded(bytes)).collect();
            if !found.is_empty() {
                return Ok((found, strings.len()));
            }
        }
        if let Data::Raw(bytes) = input.data
            && input.datatype == Datatype::Uint8
            && is_picture(bytes)
        {
            return Ok((vec![bytes.to_vec()], 1));
        }
        let numeric = input.datatype == Datatype::Uint8 || input.datatype.is_float();
        if let Some(layout) = Layout::of(&input.shape).filter(|_| numeric && input.data != Data::Absent) {
            let found = (0..layout.items.min(most)).map(|item| raw(input, layout, item, pixels));
            return Ok((found.collect::<Result<_, _>>()?, layout.items));
        }
        if named.is_some() {
            return Err(Unread::Picture);
        }
    }
    Ok((Vec::new(), 0))
}

/// Whether bytes begin like a file of a kind that can be measured.
pub(super) fn is_picture(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0xff, 0xd8, 0xff]) || bytes.starts_with(b"\x89PNG\r\n\x1a\n")
}

/// A picture file, or one in base64, or in a data URL.
pub(super) fn encoded(bytes: &[u8]) -> Option<Vec<u8>> {
    const LENIENT: GeneralPurposeConfig =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    const ALPHABETS: [GeneralPurpose; 2] = [
        GeneralPurpose::new(&base64::alphabet::STANDARD, LENIENT),
        GeneralPurpose::new(&base64::alphabet::URL_SAFE, LENIENT),
    ];
    if is_picture(bytes) {
        return Some(bytes.to_vec());
    }
    let text = match bytes.strip_prefix(b"data:") {
        Some(url) => url.get(url.iter().position(|&byte| byte == b',')? + 1..)?,
        None => bytes,
    };
    // Some encoders break lines.
    let text = if text.iter().any(u8::is_ascii_whitespace) {
        Cow::Owned(text.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect::<Vec<_>>())
    } else {
        Cow::Borrowed(text)
    };
    // What is no picture is not decoded to its end.
    let head = text.get(..16.min(text.len() / 4 * 4))?;
    let alphabet = ALPHABETS.iter().find(|alphabet| alphabet.decode(head).is_ok_and(|head| is_picture(&head)))?;
    alphabet.decode(text.as_ref()).ok()
}

/// One picture of a tensor as a Netpbm file.
fn raw(tensor: &Tensor<'_>, layout: Layout, item: usize, pixels: &Pixels) -> Result<Vec<u8>, Unread> {
    let Layout { items, height, width, channels, planar } = layout;
    let area = height * width;
    let each = area * channels;
    let there = match &tensor.data {
        Data::Raw(bytes) => bytes.len() / tensor.datatype.size().unwrap_or(usize::MAX),
        Data::Numbers(numbers) => numbers.len(),
        Data::Absent | Data::Strings(_) => 0,
    };
    if items.checked_mul(each).is_none_or(|elements| elements != there) {
        return Err(Unread::Malformed("a tensor whose shape and length differ"));
    }
    let kind = if channels == 1 { "P5" } else { "P6" };
    let mut file = format!("{kind} {width} {height} 255\n").into_bytes();
    file.reserve_exact(each);
    let is_byte = tensor.datatype == Datatype::Uint8;
    for pixel in 0..area {
        for channel in 0..channels {
            let channel = if pixels.blue_first { channels - 1 - channel } else { channel };
            let offset = if planar { channel * area + pixel } else { pixel * channels + channel };
            let value = tensor.at(item * each + offset).ok_or(Unread::Malformed("a tensor that ends early"))?;
            let level = if is_byte || pixels.in_bytes {
                value
            } else {
                let [mean, deviation] =
                    [pixels.mean, pixels.deviation].map(|of| of.get(channel).copied().unwrap_or(0.0));
                255.0 * value.mul_add(deviation, mean)
            };
            file.push(byte(level).ok_or(Unread::Range)?);
        }
    }
    Ok(file)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to a byte; NaN is not in range")]
fn byte(level: f32) -> Option<u8> {
    const LEAST: f32 = -255.0 * SLACK;
    const MOST: f32 = 255.0 * (1.0 + SLACK);
    (LEAST..=MOST).contains(&level).then(|| (level + 0.5).clamp(0.0, 255.0) as u8)
}

/// Scores of an item of a batch, and what they are called where the output says so.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Scores {
    pub(super) values: Vec<f32>,
    /// One for each score; none where their numbers are all there is.
    pub(super) labels: Vec<String>,
    /// Whether these are some of many classes only, the most likely first.
    pub(super) partial: bool,
}

/// The scores in the outputs of an answer: the named one's, or else those of the first floating-point output with at least two for each
/// item, or of the first in the form of Triton's classification extension. `None` where there are none.
pub(super) fn scores(
    outputs: &[Tensor<'_>],
    named: Option<&str>,
    labels: Option<&str>,
    item: usize,
    items: usize,
) -> Option<Scores> {
    let mut candidates = outputs.iter().filter(|output| named.is_none_or(|name| name == output.name));
    candidates.find_map(|output| {
        if let Some(strings) = output.strings() {
            return classification(&strings, item, items);
        }
        if named.is_none() && !output.datatype.is_float() {
            return None;
        }
        let values = output.numbers(item, items)?;
        if named.is_none() && values.len() < 2 {
            return None;
        }
        let named = labels.and_then(|name| outputs.iter().find(|other| other.name == name));
        let labels = named.and_then(|labels| texts(labels, item, items)).unwrap_or_default();
        Some(Scores { values, labels, partial: false })
    })
}

/// Labels of an item of a batch, numbers as they are.
fn texts(tensor: &Tensor<'_>, item: usize, items: usize) -> Option<Vec<String>> {
    if let Some(strings) = tensor.strings() {
        let batched = items > 1 && tensor.items() == items;
        let each = if batched { strings.len() / items } else { strings.len() };
        let skipped = if batched { each * item } else { 0 };
        let mine = strings.iter().skip(skipped).take(each);
        return Some(mine.map(|text| String::from_utf8_lossy(text).into_owned()).collect());
    }
    Some(tensor.numbers(item, items)?.into_iter().map(|number| format!("{number}")).collect())
}

/// `SCORE:NUMBER` or `SCORE:NUMBER:LABEL` for each of the most likely classes.
fn classification(strings: &[Cow<'_, [u8]>], item: usize, items: usize) -> Option<Scores> {
    let each = strings.len().checked_div(items)?;
    let mut scores = Scores { partial: true, ..Scores::default() };
    for text in strings.get(each * item..each * (item + 1))? {
        let mut parts = std::str::from_utf8(text).ok()?.splitn(3, ':');
        let (score, number) = (parts.next()?.parse().ok()?, parts.next()?);
        number.parse::<u32>().ok()?;
        scores.values.push(score);
        scores.labels.push(parts.next().unwrap_or(number).to_owned());
    }
    (!scores.values.is_empty()).then_some(scores)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PLAIN: Pixels = Pixels { in_bytes: false, mean: [0.0; 3], deviation: [1.0; 3], blue_first: false };

    fn tensor<'a>(datatype: Datatype, shape: &[u64], data: Data<'a>) -> Tensor<'a> {
        Tensor { name: "t".into(), datatype, shape: shape.to_vec(), data }
    }

    fn one(tensor: Tensor<'_>, pixels: &Pixels) -> Vec<u8> {
        let (mut found, items) = pictures(&[tensor], None, pixels, 8).expect("readable");
        assert_eq!((found.len(), items), (1, 1));
        found.remove(0)
    }

    #[test]
    fn every_layout_and_type_of_one_picture_is_the_same_file() {
        let rgb: Vec<u8> = (0..8 * 9 * 3).collect();
        let planar: Vec<u8> = (0..3).flat_map(|channel| rgb.iter().skip(channel).step_by(3).copied()).collect();
        let expected = [b"P6 9 8 255\n".as_slice(), &rgb].concat();
        assert_eq!(one(tensor(Datatype::Uint8, &[1, 8, 9, 3], Data::Raw(&rgb)), &PLAIN), expected);
        assert_eq!(one(tensor(Datatype::Uint8, &[8, 9, 3], Data::Raw(&rgb)), &PLAIN), expected);
        assert_eq!(one(tensor(Datatype::Uint8, &[1, 3, 8, 9], Data::Raw(&planar)), &PLAIN), expected);
        let numbers = rgb.iter().map(|&level| f32::from(level) / 255.0).collect::<Vec<_>>();
        let raw: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        assert_eq!(one(tensor(Datatype::Fp32, &[1, 8, 9, 3], Data::Raw(&raw)), &PLAIN), expected);
        assert_eq!(one(tensor(Datatype::Fp32, &[1, 8, 9, 3], Data::Numbers(numbers.clone())), &PLAIN), expected);
        let bytes = rgb.iter().map(|&level| f32::from(level)).collect();
        let in_bytes = Pixels { in_bytes: true, ..PLAIN };
        assert_eq!(one(tensor(Datatype::Fp32, &[8, 9, 3], Data::Numbers(bytes)), &in_bytes), expected);
        let (mean, deviation) = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);
        let normal = numbers.iter().zip([0, 1, 2].into_iter().cycle());
        let normal = normal.map(|(number, channel)| (number - mean[channel]) / deviation[channel]).collect();
        let normalised = Pixels { mean, deviation, ..PLAIN };
        assert_eq!(one(tensor(Datatype::Fp32, &[8, 9, 3], Data::Numbers(normal)), &normalised), expected);
        let bgr: Vec<u8> = rgb.as_chunks::<3>().0.iter().flat_map(|&[r, g, b]| [b, g, r]).collect();
        let swapped = Pixels { blue_first: true, ..PLAIN };
        assert_eq!(one(tensor(Datatype::Uint8, &[8, 9, 3], Data::Raw(&bgr)), &swapped), expected);
        let grey = one(tensor(Datatype::Uint8, &[1, 1, 8, 8], Data::Raw(&rgb[..64])), &PLAIN);
        assert_eq!(grey, [b"P5 8 8 255\n".as_slice(), &rgb[..64]].concat());
    }

    #[test]
    fn encoded_pictures_are_found_as_bytes_as_base64_and_in_batches() {
        let jpeg = [0xff, 0xd8, 0xff, 0xe0, 1, 2, 3];
        let base64 = "/9j/4AECAw==";
        for text in [base64, "_9j_4AECAw", "/9j/\n4AECAw==\n", "data:image/jpeg;base64,/9j/4AECAw=="] {
            assert_eq!(encoded(text.as_bytes()).as_deref(), Some(&jpeg[..]), "{text}");
        }
        assert_eq!(encoded(b"a text that is no picture"), None);
        assert_eq!(encoded(b""), None);
        let raw: Vec<u8> = [&7_u32.to_le_bytes()[..], &jpeg].concat().repeat(3);
        let batch = tensor(Datatype::Bytes, &[3], Data::Raw(&raw));
        assert_eq!(pictures(&[batch], None, &PLAIN, 2), Ok((vec![jpeg.to_vec(); 2], 3)));
        let text = tensor(Datatype::Bytes, &[1], Data::Strings(vec![base64.as_bytes().into()]));
        assert_eq!(one(text, &PLAIN), jpeg);
    }

    #[test]
    fn what_is_no_picture_is_told_from_a_picture_that_is_wrong() {
        let words = tensor(Datatype::Int64, &[1, 128], Data::Raw(&[0; 1024]));
        assert_eq!(pictures(std::slice::from_ref(&words), None, &PLAIN, 8), Ok((Vec::new(), 0)));
        assert_eq!(pictures(&[words], Some("t"), &PLAIN, 8), Err(Unread::Picture));
        let short = tensor(Datatype::Uint8, &[1, 8, 8, 3], Data::Raw(&[0; 100]));
        assert!(matches!(pictures(&[short], None, &PLAIN, 8), Err(Unread::Malformed(_))));
        let bytes = tensor(Datatype::Fp32, &[8, 8, 1], Data::Numbers(vec![200.0; 64]));
        assert_eq!(pictures(&[bytes], None, &PLAIN, 8), Err(Unread::Range));
        let huge = tensor(Datatype::Uint8, &[u64::MAX, 8, 8, 3], Data::Raw(&[]));
        assert!(pictures(&[huge], None, &PLAIN, 8).is_err());
    }

    #[test]
    fn half_precision_is_exact() {
        for (bits, value) in [
            (0x0000, 0.0),
            (0x3c00, 1.0),
            (0xc000, -2.0),
            (0x7bff, 65504.0),
            (0x0001, 5.960_464_5e-8),
            (0x3555, 0.333_251_95),
        ] {
            assert_eq!(half(bits), value);
        }
        assert!(half(0x7c00).is_infinite() && half(0x7c01).is_nan());
    }

    #[test]
    fn scores_are_found_by_name_by_type_and_in_the_classification_form() {
        let values: Vec<u8> = [0.1_f32, 0.9, 0.8, 0.2].iter().flat_map(|number| number.to_le_bytes()).collect();
        let number = tensor(Datatype::Int64, &[1], Data::Numbers(vec![7.0]));
        let vector = Tensor { name: "v".into(), ..tensor(Datatype::Fp32, &[2, 2], Data::Raw(&values)) };
        let outputs = [number, vector];
        let found = |item, items| scores(&outputs, None, None, item, items).map(|scores| scores.values);
        assert_eq!(found(1, 2), Some(vec![0.8, 0.2]));
        assert_eq!(found(0, 1), Some(vec![0.1, 0.9, 0.8, 0.2]));
        let named = scores(&outputs, Some("t"), Some("t"), 0, 1).expect("named");
        assert_eq!((named.values, named.labels), (vec![7.0], vec!["7".to_owned()]));
        assert_eq!(scores(&outputs, Some("absent"), None, 0, 1), None);
        let strings = ["0.75:3:cat", "0.125:1"].map(|text| text.as_bytes().into()).to_vec();
        let triton = tensor(Datatype::Bytes, &[1, 2], Data::Strings(strings));
        let found = scores(&[triton], None, None, 0, 1).expect("classification");
        let labels = vec!["cat".to_owned(), "1".to_owned()];
        assert_eq!(found, Scores { values: vec![0.75, 0.125], labels, partial: true });
    }

    proptest! {
        #[test]
        fn no_shape_and_no_bytes_can_do_harm(
            shape in prop::collection::vec(prop_oneof![0_u64..20, any::<u64>()], 0..6),
            bytes in prop::collection::vec(any::<u8>(), 0..2000),
            kind in 0_usize..14,
            item in 0_usize..4,
        ) {
            use Datatype::*;
            let kinds =
                [Bool, Uint8, Uint16, Uint32, Uint64, Int8, Int16, Int32, Int64, Fp16, Bf16, Fp32, Fp64, Bytes];
            let tensor = tensor(kinds[kind], &shape, Data::Raw(&bytes));
            let inputs = [tensor];
            drop(pictures(&inputs, None, &PLAIN, 8));
            drop(pictures(&inputs, Some("t"), &PLAIN, 8));
            drop(scores(&inputs, Some("t"), Some("t"), item, 4));
            drop(encoded(&bytes));
        }
    }
}
