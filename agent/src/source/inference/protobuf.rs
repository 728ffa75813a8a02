//! The wire form of protocol buffers, as far as it takes to read messages of others: fields one after the other, nothing copied.
//!
//! Must hold: a field that is malformed ends the message with an error; nothing announced is believed before it is there.

use super::Unread;

/// What a field holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value<'a> {
    Varint(u64),
    Fixed64([u8; 8]),
    Bytes(&'a [u8]),
    Fixed32([u8; 4]),
}

/// The fields of a message, each with its number.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

const MALFORMED: Unread = Unread::Malformed("no protocol buffer");

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u64, Value<'a>), Unread>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_none() {
            self.0 = &[];
        }
        Some(field.ok_or(MALFORMED))
    }
}

impl<'a> Fields<'a> {
    fn field(&mut self) -> Option<(u64, Value<'a>)> {
        let key = varint(&mut self.0)?;
        let value = match key & 7 {
            0 => Value::Varint(varint(&mut self.0)?),
            1 => Value::Fixed64(*self.take_chunk()?),
            2 => {
                let length = usize::try_from(varint(&mut self.0)?).ok()?;
                let (bytes, rest) = self.0.split_at_checked(length)?;
                self.0 = rest;
                Value::Bytes(bytes)
            }
            5 => Value::Fixed32(*self.take_chunk()?),
            // Groups were given up before this protocol existed.
            _ => return None,
        };
        Some((key >> 3, value))
    }

    fn take_chunk<const N: usize>(&mut self) -> Option<&'a [u8; N]> {
        let (chunk, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(chunk)
    }
}

/// A number in groups of seven bits, the lowest first.
pub(super) fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for (index, &byte) in bytes.iter().enumerate().take(10) {
        number |= u64::from(byte & 0x7f) << (7 * index);
        if byte < 0x80 {
            *bytes = bytes.get(index + 1..)?;
            return Some(number);
        }
    }
    None
}

/// Text of a field that is one.
pub(super) fn text(bytes: &[u8]) -> Result<&str, Unread> {
    std::str::from_utf8(bytes).map_err(|_| MALFORMED)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn fields_come_out_as_the_encoding_guide_has_them() {
        let message = b"\x08\x96\x01\x12\x07testing\x1d\x01\x02\x03\x04\x21\x01\x02\x03\x04\x05\x06\x07\x08";
        let fields: Result<Vec<_>, _> = Fields(message).collect();
        let expected = vec![
            (1, Value::Varint(150)),
            (2, Value::Bytes(b"testing")),
            (3, Value::Fixed32([1, 2, 3, 4])),
            (4, Value::Fixed64([1, 2, 3, 4, 5, 6, 7, 8])),
        ];
        assert_eq!(fields, Ok(expected));
    }

    #[test]
    fn what_is_cut_off_or_unknown_is_an_error_and_an_end() {
        for message in
            [&b"\x08"[..], b"\x12\x05abc", b"\x0b", b"\x1d\x01", b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"]
        {
            let mut fields = Fields(message);
            assert_eq!(fields.next(), Some(Err(MALFORMED)));
            assert_eq!(fields.next(), None);
        }
    }

    proptest! {
        #[test]
        fn nothing_that_arrives_can_do_harm(bytes in prop::collection::vec(any::<u8>(), 0..500)) {
            prop_assert!(Fields(&bytes).count() <= bytes.len());
        }
    }
}
