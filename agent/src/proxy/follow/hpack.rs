//! The fields of HTTP/2 headers as they are compressed (HPACK, RFC 7541), and how they are read.
//!
//! Must hold: a table has at most [`TABLE`] bytes, and a header at most [`HEADER`] once it is unpacked. Sizes of tables that the ends agree
//! on need not be known: an encoder says what size it uses (section 4.2).

use std::collections::VecDeque;

use hyper::body::Bytes;
use thiserror::Error;

/// Most bytes of a table; four kilobytes are usual.
const TABLE: usize = 16 * 1024;
/// Size of a table until another is told.
const INITIAL: usize = 4096;
/// Most bytes of a header's names and values.
const HEADER: usize = 64 * 1024;
/// What an entry counts beside its name and value (section 4.1).
const OVERHEAD: usize = 32;

/// A header that cannot be unpacked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(super) enum Unpackable {
    #[error("it ends within a field")]
    Truncated,
    #[error("a number in it is too large")]
    Number,
    #[error("a text in it is not in the Huffman code")]
    Huffman,
    #[error("it refers to field {0}, which is not in the table")]
    Index(usize),
    #[error("it wants a table of {0} bytes")]
    Table(usize),
    #[error("it unpacks to more than 64 KiB")]
    TooLong,
}

/// A name and a value.
type Field = (Bytes, Bytes);

/// One direction of a connection.
#[derive(Debug)]
pub(super) struct Unpacker {
    table: VecDeque<Field>,
    size: usize,
    limit: usize,
}

impl Default for Unpacker {
    fn default() -> Self {
        Self { table: VecDeque::new(), size: 0, limit: INITIAL }
    }
}

impl Unpacker {
    /// The fields of a header in their order.
    ///
    /// # Errors
    /// [`Unpackable`]; nothing that follows on this connection can be read then.
    pub(super) fn unpack(&mut self, mut block: &[u8]) -> Result<Vec<Field>, Unpackable> {
        let (mut fields, mut length) = (Vec::new(), 0_usize);
        while let Some(&first) = block.first() {
            let field = if first & 0x80 != 0 {
                self.field(number(&mut block, 7)?)?
            } else if first & 0xe0 == 0x20 {
                self.resize(number(&mut block, 5)?)?;
                continue;
            } else {
                let remembered = first & 0x40 != 0;
                let name = match number(&mut block, if remembered { 6 } else { 4 })? {
                    0 => text(&mut block)?,
                    index => self.field(index)?.0,
                };
                let field = (name, text(&mut block)?);
                if remembered {
                    self.remember(field.clone());
                }
                field
            };
            length = length.saturating_add(field.0.len()).saturating_add(field.1.len()).saturating_add(OVERHEAD);
            if length > HEADER {
                return Err(Unpackable::TooLong);
            }
            fields.push(field);
        }
        Ok(fields)
    }

    fn field(&self, index: usize) -> Result<Field, Unpackable> {
        let place = index.checked_sub(1).ok_or(Unpackable::Index(0))?;
        if let Some((name, value)) = STATIC.get(place) {
            return Ok((Bytes::from_static(name.as_bytes()), Bytes::from_static(value.as_bytes())));
        }
        self.table.get(place.saturating_sub(STATIC.len())).cloned().ok_or(Unpackable::Index(index))
    }

    fn resize(&mut self, limit: usize) -> Result<(), Unpackable> {
        if limit > TABLE {
            return Err(Unpackable::Table(limit));
        }
        self.limit = limit;
        self.evict(0);
        Ok(())
    }

    fn remember(&mut self, field: Field) {
        let size = weight(&field);
        self.evict(size);
        // What is larger than the table empties it (section 4.4).
        if size <= self.limit {
            self.size = self.size.saturating_add(size);
            self.table.push_front(field);
        }
    }

    /// Makes room.
    fn evict(&mut self, wanted: usize) {
        while self.size.saturating_add(wanted) > self.limit {
            let Some(oldest) = self.table.pop_back() else { return };
            self.size = self.size.saturating_sub(weight(&oldest));
        }
    }
}

fn weight((name, value): &Field) -> usize {
    name.len().saturating_add(value.len()).saturating_add(OVERHEAD)
}

/// A number whose first `bits` share a byte with something else (section 5.1).
fn number(block: &mut &[u8], bits: u32) -> Result<usize, Unpackable> {
    let mask = (1_usize << bits) - 1;
    let mut number = usize::from(byte(block)?) & mask;
    if number < mask {
        return Ok(number);
    }
    for shift in [0, 7, 14] {
        let next = byte(block)?;
        number += usize::from(next & 0x7f) << shift;
        if next & 0x80 == 0 {
            return Ok(number);
        }
    }
    // Two million are more than anything here may have.
    Err(Unpackable::Number)
}

fn byte(block: &mut &[u8]) -> Result<u8, Unpackable> {
    let (&first, rest) = block.split_first().ok_or(Unpackable::Truncated)?;
    *block = rest;
    Ok(first)
}

/// A text (section 5.2).
fn text(block: &mut &[u8]) -> Result<Bytes, Unpackable> {
    let coded = block.first().is_some_and(|first| first & 0x80 != 0);
    let length = number(block, 7)?;
    let (text, rest) = block.split_at_checked(length).ok_or(Unpackable::Truncated)?;
    *block = rest;
    if coded { decoded(text).ok_or(Unpackable::Huffman) } else { Ok(Bytes::copy_from_slice(text)) }
}

/// A text from its Huffman code (appendix B), bit by bit; `None` where it is none.
fn decoded(coded: &[u8]) -> Option<Bytes> {
    // No code is shorter than five bits.
    let mut text = Vec::with_capacity(coded.len() / 5 * 8 + 8);
    let (mut length, mut code, mut first, mut place) = (0_usize, 0_usize, 0_usize, 0_usize);
    let mut ones = true;
    for bit in coded.iter().flat_map(|byte| (0..8).rev().map(move |shift| usize::from(byte >> shift & 1))) {
        length += 1;
        code |= bit;
        ones &= bit == 1;
        let count = usize::from(*OF_LENGTH.get(length)?);
        if code - first < count {
            text.push(*BY_CODE.get(place + code - first)?);
            (length, code, first, place, ones) = (0, 0, 0, 0, true);
        } else {
            place += count;
            first = (first + count) << 1;
            code <<= 1;
        }
    }
    // What is left over fills the last byte with ones.
    (length < 8 && ones).then(|| text.into())
}

/// How many bytes have a code of so many bits.
const OF_LENGTH: [u8; 31] =
    [0, 0, 0, 0, 0, 10, 26, 32, 6, 0, 5, 3, 2, 6, 2, 3, 0, 0, 0, 3, 8, 13, 26, 29, 12, 4, 15, 19, 29, 0, 3];

/// Bytes in the order of their codes, which is canonical: by length, then by value.
const BY_CODE: [u8; 256] = [
    48, 49, 50, 97, 99, 101, 105, 111, 115, 116, 32, 37, 45, 46, 47, 51, 52, 53, 54, 55, 56, 57, 61, 65, 95, 98, 100,
    102, 103, 104, 108, 109, 110, 112, 114, 117, 58, 66, 67, 68, 69, 70, 71, 72, 73, 74, 75, 76, 77, 78, 79, 80, 81,
    82, 83, 84, 85, 86, 87, 89, 106, 107, 113, 118, 119, 120, 121, 122, 38, 42, 44, 59, 88, 90, 33, 34, 40, 41, 63, 39,
    43, 124, 35, 62, 0, 36, 64, 91, 93, 126, 94, 125, 60, 96, 123, 92, 195, 208, 128, 130, 131, 162, 184, 194, 224,
    226, 153, 161, 167, 172, 176, 177, 179, 209, 216, 217, 227, 229, 230, 129, 132, 133, 134, 136, 146, 154, 156, 160,
    163, 164, 169, 170, 173, 178, 181, 185, 186, 187, 189, 190, 196, 198, 228, 232, 233, 1, 135, 137, 138, 139, 140,
    141, 143, 147, 149, 150, 151, 152, 155, 157, 158, 165, 166, 168, 174, 175, 180, 182, 183, 188, 191, 197, 231, 239,
    9, 142, 144, 145, 148, 159, 171, 206, 215, 225, 236, 237, 199, 207, 234, 235, 192, 193, 200, 201, 202, 205, 210,
    213, 218, 219, 238, 240, 242, 243, 255, 203, 204, 211, 212, 214, 221, 222, 223, 241, 244, 245, 246, 247, 248, 250,
    251, 252, 253, 254, 2, 3, 4, 5, 6, 7, 8, 11, 12, 14, 15, 16, 17, 18, 19, 20, 21, 23, 24, 25, 26, 27, 28, 29, 30,
    31, 127, 220, 249, 10, 13, 22,
];

/// What both ends know from the start (appendix A).
const STATIC: [(&str, &str); 61] = [
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
        let digit = |at: usize| (digits[at] as char).to_digit(16).expect("a digit");
        (0..digits.len() / 2).map(|at| u8::try_from(digit(2 * at) * 16 + digit(2 * at + 1)).expect("a byte")).collect()
    }

    fn told(unpacker: &mut Unpacker, hex: &str) -> Vec<String> {
        let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).expect("text");
        let fields = unpacker.unpack(&bytes(hex)).expect("a header");
        fields.iter().map(|(name, value)| format!("{} {}", text(name), text(value))).collect()
    }

    /// RFC 7541, appendix C.4.
    #[test]
    fn requests_of_the_standard_are_read() {
        let mut unpacker = Unpacker::default();
        let first = told(&mut unpacker, "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff");
        assert_eq!(first, [":method GET", ":scheme http", ":path /", ":authority www.example.com"]);
        let second = told(&mut unpacker, "8286 84be 5886 a8eb 1064 9cbf");
        assert_eq!(second[3..], [":authority www.example.com", "cache-control no-cache"]);
        let third = told(&mut unpacker, "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf");
        let wanted = [
            ":method GET",
            ":scheme https",
            ":path /index.html",
            ":authority www.example.com",
            "custom-key custom-value",
        ];
        assert_eq!(third, wanted);
        assert_eq!(unpacker.size, 164);
    }

    /// RFC 7541, appendix C.6, with a table of 256 bytes.
    #[test]
    fn answers_of_the_standard_are_read_and_push_each_other_out() {
        let mut unpacker = Unpacker::default();
        assert_eq!(told(&mut unpacker, "3fe1 01"), Vec::<String>::new());
        let first = told(
            &mut unpacker,
            "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d 29ad 1718 \
             63c7 8f0b 97c8 e9ae 82ae 43d3",
        );
        let wanted = [
            ":status 302",
            "cache-control private",
            "date Mon, 21 Oct 2013 20:13:21 GMT",
            "location https://www.example.com",
        ];
        assert_eq!((first, unpacker.size), (wanted.map(str::to_owned).to_vec(), 222));
        let second = told(&mut unpacker, "4883 640e ffc1 c0bf");
        assert_eq!((second[0].as_str(), unpacker.size), (":status 307", 222));
        let third = told(
            &mut unpacker,
            "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2 e6c7 \
             b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07",
        );
        assert_eq!(third[5], "set-cookie foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1");
        assert_eq!((unpacker.size, unpacker.table.len()), (215, 3));
    }

    #[test]
    fn what_is_no_header_is_told_from_one() {
        let of = |hex: &str| Unpacker::default().unpack(&bytes(hex));
        assert_eq!(of("80"), Err(Unpackable::Index(0)));
        assert_eq!(of("be"), Err(Unpackable::Index(62)));
        assert_eq!(of("41"), Err(Unpackable::Truncated));
        assert_eq!(of("4105 61"), Err(Unpackable::Truncated));
        assert_eq!(of("ff ffff ff01"), Err(Unpackable::Number));
        assert_eq!(of("3fe2 7f"), Err(Unpackable::Table(16_385)));
        // A whole byte of filling, and filling with zeros.
        assert_eq!(of("0081 ff00"), Err(Unpackable::Huffman));
        assert_eq!(of("0081 0000"), Err(Unpackable::Huffman));
    }

    #[test]
    fn a_small_header_that_unpacks_to_a_large_one_is_refused() {
        let mut unpacker = Unpacker::default();
        // A value of 127 + 0x11 + 0x1e * 128 = 3984 bytes.
        let large = [&[0x40, 1, b'a', 0x7f, 0x91, 0x1e][..], &[b'x'; 3984]].concat();
        assert_eq!(unpacker.unpack(&large).expect("a field").len(), 1);
        assert_eq!(unpacker.unpack(&[0xbe; 16]).expect("as often as fits").len(), 16);
        assert_eq!(unpacker.unpack(&[0xbe; 17]), Err(Unpackable::TooLong));
    }

    proptest! {
        #[test]
        fn whatever_comes_tables_stay_within_their_size(blocks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..8)) {
            let mut unpacker = Unpacker::default();
            for block in blocks {
                let read = unpacker.unpack(&block);
                prop_assert!(unpacker.size <= unpacker.limit && unpacker.limit <= TABLE, "{read:?}");
                prop_assert_eq!(unpacker.size, unpacker.table.iter().map(weight).sum::<usize>());
            }
        }
    }
}
