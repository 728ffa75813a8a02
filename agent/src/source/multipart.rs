//! Pictures out of a `multipart/x-mixed-replace` body, as cameras send it rather than as RFC 2046 has it.
//!
//! The delimiter is taken from the body, not from `Content-Type`: servers name it with and without its dashes, or not at all. A part's
//! `Content-Length` is used where there is one; without it the part ends at the delimiter. After a wrong one the next delimiter is
//! looked for. A body that begins with a picture instead of a delimiter is a stream of pictures ([`Splitter`]).
//!
//! Must hold: never more than the limit is kept of a part, nor more than [`HEADER_BYTES`] of its header; every byte is looked at
//! once; a part that is text (some cameras send events between the pictures) is passed over.

use thiserror::Error;

use super::jpeg_stream::{Piece, Splitter};

/// Most bytes of one part's header.
pub(super) const HEADER_BYTES: usize = 8 * 1024;
/// Most lines of one part's header.
pub(super) const HEADER_LINES: usize = 64;
/// Longest delimiter: 70 characters (RFC 2046), two dashes, and some for servers that count differently.
const DELIMITER_BYTES: usize = 200;

/// Room made for the first part.
const FIRST: usize = 64 * 1024;

/// Why a body cannot be followed any further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Malformed {
    /// No delimiter for too long.
    #[error("there is no multipart boundary in what was sent")]
    NoBoundary,
    /// A header beyond its limits.
    #[error("a part's header has more than {HEADER_LINES} lines or {HEADER_BYTES} bytes")]
    Header,
    /// A stream of pictures without pictures.
    #[error("what was sent is no picture")]
    NoPicture,
}

#[derive(Debug)]
enum State {
    /// At the very beginning.
    Start,
    /// Looking for a line that is the delimiter.
    Seek,
    /// In the rest of the delimiter's line, after which a header begins.
    Rest,
    /// In a header.
    Header,
    /// In a part of which so many bytes are left.
    Sized(u64),
    /// In a part that ends at the delimiter; so many bytes of it match so far.
    Open(usize),
    /// Pictures without anything around them.
    Bare(Splitter),
}

/// Cuts a body into its parts.
#[derive(Debug)]
pub(super) struct Parser {
    limit: usize,
    state: State,
    /// A line feed and the delimiter; empty while it is not known.
    delimiter: Vec<u8>,
    line: Vec<u8>,
    /// Bytes since the last part or, in a header, since its beginning.
    between: usize,
    lines: usize,
    length: Option<u64>,
    text: bool,
    part: Vec<u8>,
    oversized: bool,
    /// Length of the last part, and some.
    usual: usize,
}

impl Parser {
    /// For parts of at most `limit` bytes.
    #[must_use]
    pub(super) const fn new(limit: usize) -> Self {
        Self {
            limit,
            state: State::Start,
            delimiter: Vec::new(),
            line: Vec::new(),
            between: 0,
            lines: 0,
            length: None,
            text: false,
            part: Vec::new(),
            oversized: false,
            usual: FIRST,
        }
    }

    /// Takes the next bytes, and hands on the parts they complete.
    ///
    /// # Errors
    /// One variant of [`Malformed`] per cause; the parser is of no use afterwards.
    pub(super) fn feed(&mut self, mut bytes: &[u8], out: &mut impl FnMut(Piece)) -> Result<(), Malformed> {
        while let Some((&byte, rest)) = bytes.split_first() {
            match &mut self.state {
                State::Bare(splitter) => return splitter.feed(bytes, out).map_err(|_| Malformed::NoPicture),
                State::Start => match byte {
                    0xff => {
                        self.state = State::Bare(Splitter::new(self.limit));
                        continue;
                    }
                    b'\r' | b'\n' => {}
                    _ => {
                        self.state = State::Seek;
                        continue;
                    }
                },
                State::Seek => self.seek(byte)?,
                State::Rest => {
                    self.between += 1;
                    if byte == b'\n' {
                        self.begin_header();
                    } else if self.between > HEADER_BYTES {
                        return Err(Malformed::Header);
                    }
                }
                State::Header => self.header(byte)?,
                State::Sized(left) => {
                    let run = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                    *left -= run as u64;
                    let done = *left == 0;
                    let (kept, next) = bytes.split_at(run);
                    self.keep(kept);
                    if done {
                        self.hand_on(out);
                        self.begin_seek();
                    }
                    bytes = next;
                    continue;
                }
                State::Open(0) => {
                    let run = bytes.iter().position(|&byte| byte == b'\n').map_or(bytes.len(), |at| at + 1);
                    if bytes.get(run - 1) == Some(&b'\n') {
                        self.state = State::Open(1);
                    }
                    let (kept, next) = bytes.split_at(run);
                    self.keep(kept);
                    bytes = next;
                    continue;
                }
                State::Open(matched) => {
                    // The delimiter has its only line feed in front, so no match can begin within another.
                    *matched = if self.delimiter.get(*matched) == Some(&byte) {
                        *matched + 1
                    } else {
                        usize::from(byte == b'\n')
                    };
                    let done = *matched == self.delimiter.len();
                    self.keep(&[byte]);
                    if done {
                        self.part.truncate(self.part.len().saturating_sub(self.delimiter.len()));
                        if self.part.last() == Some(&b'\r') {
                            self.part.pop();
                        }
                        self.hand_on(out);
                        self.between = 0;
                        self.state = State::Rest;
                    }
                }
            }
            bytes = rest;
        }
        Ok(())
    }

    fn begin_seek(&mut self) {
        self.line.clear();
        self.between = 0;
        self.state = State::Seek;
    }

    fn begin_header(&mut self) {
        self.line.clear();
        (self.between, self.lines) = (0, 0);
        (self.length, self.text) = (None, false);
        self.state = State::Header;
    }

    fn seek(&mut self, byte: u8) -> Result<(), Malformed> {
        self.between += 1;
        if self.between > self.limit.saturating_add(HEADER_BYTES) {
            return Err(Malformed::NoBoundary);
        }
        if byte != b'\n' {
            if self.line.len() < DELIMITER_BYTES {
                self.line.push(byte);
            }
            return Ok(());
        }
        let line = self.line.trim_ascii();
        let found = match self.delimiter.get(1..) {
            Some(delimiter) => line.starts_with(delimiter),
            None => {
                let fits = line.starts_with(b"--") && (3..DELIMITER_BYTES).contains(&line.len());
                if fits {
                    self.delimiter = [b"\n", line].concat();
                }
                fits
            }
        };
        if found {
            self.begin_header();
        } else {
            self.line.clear();
        }
        Ok(())
    }

    fn header(&mut self, byte: u8) -> Result<(), Malformed> {
        self.between += 1;
        if self.between > HEADER_BYTES {
            return Err(Malformed::Header);
        }
        if byte != b'\n' {
            self.line.push(byte);
            return Ok(());
        }
        let line = self.line.trim_ascii();
        if line.is_empty() {
            self.part.clear();
            self.oversized = false;
            // In one piece, so that parts of varying sizes do not scatter over the heap. What a header claims is not believed too early.
            let (state, likely) = match self.length {
                Some(length) if length > 0 => {
                    (State::Sized(length), usize::try_from(length).unwrap_or(usize::MAX).min(2 * self.usual))
                }
                _ => (State::Open(0), self.usual),
            };
            self.state = state;
            self.part.reserve_exact(likely.min(self.limit));
        } else {
            self.lines += 1;
            if self.lines > HEADER_LINES {
                return Err(Malformed::Header);
            }
            if let Some((name, value)) = std::str::from_utf8(line).ok().and_then(|line| line.split_once(':')) {
                let value = value.trim();
                match name.trim_ascii_end() {
                    name if name.eq_ignore_ascii_case("content-length") => self.length = value.parse().ok(),
                    name if name.eq_ignore_ascii_case("content-type") => {
                        self.text = value.get(..5).is_some_and(|kind| kind.eq_ignore_ascii_case("text/"));
                    }
                    _ => {}
                }
            }
        }
        self.line.clear();
        Ok(())
    }

    fn keep(&mut self, bytes: &[u8]) {
        // The delimiter at the end of an open part does not count.
        if self.oversized || self.part.len() + bytes.len() > self.limit + self.delimiter.len() + 1 {
            self.oversized = true;
            self.part = Vec::new();
        } else if !self.text {
            self.part.extend_from_slice(bytes);
        }
    }

    fn hand_on(&mut self, out: &mut impl FnMut(Piece)) {
        let part = std::mem::take(&mut self.part);
        self.usual = part.len() + part.len() / 4;
        if self.text {
            return;
        }
        out(if self.oversized || part.len() > self.limit { Piece::TooLarge } else { Piece::Picture(part) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: usize = 1000;

    fn parse(body: &[u8], chunk: usize) -> Result<Vec<Piece>, Malformed> {
        let mut parser = Parser::new(LIMIT);
        let mut pieces = Vec::new();
        for bytes in body.chunks(chunk) {
            parser.feed(bytes, &mut |piece| pieces.push(piece))?;
            assert!(parser.part.capacity() <= 4 * LIMIT && parser.line.capacity() <= 2 * HEADER_BYTES);
        }
        Ok(pieces)
    }

    fn pictures(parts: &[&[u8]]) -> Result<Vec<Piece>, Malformed> {
        Ok(parts.iter().map(|part| Piece::Picture(part.to_vec())).collect())
    }

    fn in_every_cut(body: &[u8], parts: &[&[u8]]) {
        for chunk in [1, 2, 3, 5, 64, body.len()] {
            assert_eq!(parse(body, chunk), pictures(parts), "chunks of {chunk}: {}", String::from_utf8_lossy(body));
        }
    }

    #[test]
    fn parts_with_and_without_length_come_out_whole() {
        in_every_cut(
            b"--ffmpeg\r\nContent-type: image/jpeg\r\nContent-length: 5\r\n\r\none\r\n\r\n--ffmpeg\r\nContent-length: 3\r\n\r\ntwo\r\n--ffmpeg\r\n",
            &[b"one\r\n", b"two"],
        );
        in_every_cut(
            b"\r\n--b\r\nContent-Type: image/jpeg\r\n\r\none\n\n-\r\n\r\n--b\r\n\r\ntwo\n--\n--b\n\nthree\n--b--\n",
            &[b"one\n\n-\r\n", b"two\n--", b"three"],
        );
        in_every_cut(b"preamble\n--x y\nCONTENT-LENGTH : 2\nX\n\nab--x y\n\nc\n--x y", &[b"ab", b"c"]);
    }

    #[test]
    fn a_wrong_length_costs_one_part_and_text_is_passed_over() {
        let body = b"--b\nContent-Length: 2\n\nlonger\n--b\nContent-Length: 4\n\ngood\n--b\nContent-Type: text/plain\n\nevent\n--b\nContent-Length: 5\n\nagain\n--b\n";
        in_every_cut(body, &[b"lo", b"good", b"again"]);
        in_every_cut(b"--b\nContent-Length: 0\n\nx\n--b\nContent-Length: -7\n\ny\n--b\n", &[b"x", b"y"]);
    }

    #[test]
    fn a_body_of_pictures_without_parts_is_taken_as_that() {
        let picture = [0xff, 0xd8, 0xff, 0xda, 0, 2, 1, 2, 3, 0xff, 0xd9];
        in_every_cut(&[b"\r\n".as_slice(), &picture, &picture].concat(), &[&picture, &picture]);
        assert_eq!(parse(&vec![0xff; LIMIT + 10], 9), Err(Malformed::NoPicture));
    }

    #[test]
    fn parts_beyond_the_limit_are_said_and_the_next_is_found() {
        let huge = "x".repeat(5 * LIMIT);
        let body = format!(
            "--b\nContent-Length: {}\n\n{huge}\n--b\n\nsmall\n--b\n\n{huge}\n--b\n\nsmall\n--b\nContent-Length: {LIMIT}\n\n{}\n--b\n",
            huge.len(),
            "y".repeat(LIMIT)
        );
        let small = Piece::Picture(b"small".to_vec());
        let largest = Piece::Picture(vec![b'y'; LIMIT]);
        for chunk in [1, 700, body.len()] {
            let found = parse(body.as_bytes(), chunk).expect("parts");
            assert_eq!(found, [Piece::TooLarge, small.clone(), Piece::TooLarge, small.clone(), largest.clone()]);
        }
    }

    #[test]
    fn what_never_comes_to_a_part_ends_in_an_error_and_not_in_memory() {
        assert_eq!(parse("x".repeat(LIMIT + HEADER_BYTES + 1).as_bytes(), 10), Err(Malformed::NoBoundary));
        let endless_line = format!("--b\n{}", "x".repeat(HEADER_BYTES + 1));
        assert_eq!(parse(endless_line.as_bytes(), 10), Err(Malformed::Header));
        let endless_lines = format!("--b\n{}", "a: b\n".repeat(HEADER_LINES + 1));
        assert_eq!(parse(endless_lines.as_bytes(), 10), Err(Malformed::Header));
        let endless_delimiter = format!("--b\n\nx\n--b{}", "y".repeat(HEADER_BYTES + 1));
        assert_eq!(parse(endless_delimiter.as_bytes(), 10), Err(Malformed::Header));
        assert_eq!(parse(b"<html>404</html>", 3), Ok(vec![]));
    }

    proptest::proptest! {
        #[test]
        fn whatever_comes_is_cut_into_the_same_parts_however_it_arrives(
            words in proptest::collection::vec(
                proptest::sample::select(&["--b", "\n", "\r\n", "\n\n", "Content-Length: 3\n", "Content-Length: 99999\n", "Content-Type: text/x\n", "abc", "-", "\u{1}"][..]),
                0..120,
            ),
            chunk in 1_usize..40,
        ) {
            let body = words.concat();
            let cut = |chunk: usize| {
                let (mut parser, mut pieces) = (Parser::new(50), Vec::new());
                for bytes in body.as_bytes().chunks(chunk) {
                    parser.feed(bytes, &mut |piece| pieces.push(piece))?;
                    assert!(parser.part.len() <= 50 + parser.delimiter.len() + 1 && parser.line.len() <= HEADER_BYTES);
                }
                Ok::<_, Malformed>(pieces)
            };
            proptest::prop_assert_eq!(cut(chunk), cut(body.len().max(1)));
        }
    }
}
