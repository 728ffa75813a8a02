//! Pictures out of a stream of JPEG files one after the other, as programs write them to a pipe.
//!
//! The markers of ITU-T T.81 annex B are walked: a length inside a segment is believed, so that a thumbnail in it does not end the
//! picture, and coded data ends at the first marker that is neither stuffing nor a restart.
//!
//! Must hold: never more than the limit is kept; every byte is looked at once; whatever comes, the next whole picture is found. A
//! picture cut off by the beginning of the next is handed on as it is, for the decoder to refuse and the window to count.
//!
//! Deliberately absent: any judgement of what is in the segments.

/// What came out of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// A picture, or what was sent as one.
    Picture(Vec<u8>),
    /// A picture beyond the limit; none of it was kept.
    TooLarge,
}

/// The stream has had nothing that begins like a picture for too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NoPicture;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Before a picture; whether the last byte was 0xff.
    Outside(bool),
    /// A marker's 0xff belongs here.
    Between,
    /// After that 0xff.
    Marker,
    /// At a segment's length; whether coded data follows the segment.
    LengthHigh(bool),
    LengthLow(bool, u8),
    Segment(bool, u16),
    /// In coded data.
    Coded,
    /// After an 0xff in coded data.
    CodedMarker,
}

/// Cuts a stream into pictures.
#[derive(Debug)]
pub(super) struct Splitter {
    limit: usize,
    state: State,
    picture: Vec<u8>,
    outside: usize,
    /// Length of the last picture, and some.
    usual: usize,
}

impl Splitter {
    /// For pictures of at most `limit` bytes.
    #[must_use]
    pub(super) const fn new(limit: usize) -> Self {
        Self { limit, state: State::Outside(false), picture: Vec::new(), outside: 0, usual: 0 }
    }

    /// Takes the next bytes, and hands on what they complete.
    ///
    /// # Errors
    /// [`NoPicture`] after more bytes than the limit that belong to no picture.
    pub(super) fn feed(&mut self, mut bytes: &[u8], out: &mut impl FnMut(Piece)) -> Result<(), NoPicture> {
        while let Some((&byte, rest)) = bytes.split_first() {
            let run = match self.state {
                State::Coded => bytes.iter().position(|&byte| byte == 0xff).unwrap_or(bytes.len()),
                State::Segment(_, left) => bytes.len().min(usize::from(left)),
                State::Outside(false) => {
                    let run = bytes.iter().position(|&byte| byte == 0xff).unwrap_or(bytes.len());
                    self.count_outside(run)?;
                    bytes = bytes.get(run..).unwrap_or_default();
                    if bytes.is_empty() {
                        return Ok(());
                    }
                    0
                }
                _ => 0,
            };
            if run > 0 {
                let room = self.limit.saturating_sub(self.picture.len());
                if run > room {
                    // From the first byte that does not fit on, wherever the stream was cut.
                    bytes = bytes.get(room..).unwrap_or_default();
                    self.give_up(out);
                    continue;
                }
                let (kept, rest) = bytes.split_at(run);
                self.keep(kept, out);
                bytes = rest;
                if let State::Segment(coded, left) = self.state {
                    let left = left.saturating_sub(u16::try_from(run).unwrap_or(u16::MAX));
                    self.state = after_segment(coded, left);
                }
                continue;
            }
            if let State::Outside(false) = self.state {
                bytes = bytes.get(1..).unwrap_or_default();
                self.state = State::Outside(true);
                continue;
            }
            bytes = rest;
            self.step(byte, out)?;
        }
        Ok(())
    }

    fn step(&mut self, byte: u8, out: &mut impl FnMut(Piece)) -> Result<(), NoPicture> {
        let next = match (self.state, byte) {
            (State::Outside(_), 0xd8) => {
                self.begin();
                return Ok(());
            }
            (State::Outside(_), byte) => {
                self.state = State::Outside(byte == 0xff);
                return self.count_outside(1);
            }
            (State::Marker | State::CodedMarker, 0xd8) => {
                // The one before was cut off: what is kept ends with the 0xff of this marker.
                self.picture.pop();
                self.hand_on(out);
                self.begin();
                return Ok(());
            }
            (State::Marker | State::CodedMarker, 0xd9) => {
                self.keep(&[byte], out);
                if !matches!(self.state, State::Outside(_)) {
                    self.hand_on(out);
                }
                return Ok(());
            }
            (State::Between, 0xff) | (State::Marker, 0xff) => State::Marker,
            (State::Marker, 0x01 | 0xd0..=0xd7) => State::Between,
            (State::CodedMarker, 0x00 | 0xd0..=0xd7) => State::Coded,
            (State::CodedMarker, 0xff) => State::CodedMarker,
            (State::Between, _) | (State::Marker, 0x00) => {
                self.hand_on(out);
                return self.count_outside(1);
            }
            (State::Marker | State::CodedMarker, byte) => State::LengthHigh(byte == 0xda),
            (State::LengthHigh(coded), byte) => State::LengthLow(coded, byte),
            (State::LengthLow(coded, high), low) => match u16::from_be_bytes([high, low]).checked_sub(2) {
                Some(left) => after_segment(coded, left),
                None => {
                    self.hand_on(out);
                    return self.count_outside(1);
                }
            },
            // Taken in runs; a run of nothing is the marker that ends it.
            (State::Coded, _) => State::CodedMarker,
            (State::Segment(coded, left), _) => after_segment(coded, left.saturating_sub(1)),
        };
        self.state = next;
        self.keep(&[byte], out);
        Ok(())
    }

    fn begin(&mut self) {
        self.picture.clear();
        // In one piece, so that pictures do not scatter over the heap while they grow.
        self.picture.reserve_exact(self.usual.min(self.limit));
        self.picture.extend_from_slice(&[0xff, 0xd8]);
        self.outside = 0;
        self.state = State::Between;
    }

    fn keep(&mut self, bytes: &[u8], out: &mut impl FnMut(Piece)) {
        if self.picture.len() + bytes.len() > self.limit {
            self.give_up(out);
        } else {
            self.picture.extend_from_slice(bytes);
        }
    }

    fn give_up(&mut self, out: &mut impl FnMut(Piece)) {
        self.picture = Vec::new();
        self.state = State::Outside(false);
        out(Piece::TooLarge);
    }

    fn hand_on(&mut self, out: &mut impl FnMut(Piece)) {
        self.state = State::Outside(false);
        let picture = std::mem::take(&mut self.picture);
        self.usual = picture.len() + picture.len() / 4;
        out(Piece::Picture(picture));
    }

    fn count_outside(&mut self, bytes: usize) -> Result<(), NoPicture> {
        self.outside = self.outside.saturating_add(bytes);
        if self.outside > self.limit { Err(NoPicture) } else { Ok(()) }
    }
}

const fn after_segment(coded: bool, left: u16) -> State {
    match (left, coded) {
        (0, true) => State::Coded,
        (0, false) => State::Between,
        _ => State::Segment(coded, left),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: usize = 64 * 1024;

    fn jpeg(seed: u8, side: u32) -> Vec<u8> {
        let image = image::RgbImage::from_fn(side, side, |x, y| {
            image::Rgb([(x * 7).to_le_bytes()[0] ^ seed, (y * 5).to_le_bytes()[0], seed])
        });
        let mut bytes = Vec::new();
        image.write_to(&mut std::io::Cursor::new(&mut bytes), image::ImageFormat::Jpeg).expect("encoded");
        bytes
    }

    fn split(stream: &[u8], chunk: usize) -> Result<Vec<Piece>, NoPicture> {
        let mut splitter = Splitter::new(LIMIT);
        let mut pieces = Vec::new();
        for bytes in stream.chunks(chunk) {
            splitter.feed(bytes, &mut |piece| pieces.push(piece))?;
            assert!(splitter.picture.len() <= LIMIT);
        }
        Ok(pieces)
    }

    #[test]
    fn pictures_come_out_whole_however_the_stream_is_cut() {
        let pictures = [jpeg(1, 64), jpeg(2, 8), jpeg(3, 120)];
        let expected: Vec<Piece> = pictures.iter().cloned().map(Piece::Picture).collect();
        let stream = pictures.concat();
        for chunk in [1, 2, 3, 7, 1000, stream.len()] {
            assert_eq!(split(&stream, chunk).as_ref(), Ok(&expected), "{chunk}");
        }
        let with_rubbish =
            [b"hello\xff".as_slice(), &pictures[0], b"\xff\0between\r\n", &pictures[1], &pictures[2]].concat();
        assert_eq!(split(&with_rubbish, 5), Ok(expected));
    }

    #[test]
    fn a_picture_inside_a_segment_is_part_of_that_segment() {
        let (outer, inner) = (jpeg(1, 32), jpeg(2, 8));
        let length = u16::try_from(inner.len() + 2).expect("small").to_be_bytes();
        let picture = [&outer[..2], &[0xff, 0xe2], &length, &inner, &outer[2..]].concat();
        assert_eq!(split(&picture, 11), Ok(vec![Piece::Picture(picture.clone())]));
    }

    #[test]
    fn a_picture_cut_off_by_the_next_is_handed_on_for_what_it_is() {
        let (first, second) = (jpeg(1, 64), jpeg(2, 64));
        let cut = &first[..first.len() - 40];
        let pieces = split(&[cut, &second].concat(), 13).expect("pictures");
        assert_eq!(pieces, [Piece::Picture(cut.to_vec()), Piece::Picture(second.clone())]);
        // In the middle of a segment its length is believed, and the next but one comes out.
        let pieces = split(&[&first[..8], &second, &second, &second].concat(), 13).expect("pictures");
        assert_eq!(pieces.last(), Some(&Piece::Picture(second)));
    }

    #[test]
    fn a_picture_beyond_the_limit_is_said_once_and_the_next_is_found() {
        let huge = [&[0xff, 0xd8, 0xff, 0xda, 0, 2][..], &vec![7; 3 * LIMIT / 2], &[0xff, 0xd9]].concat();
        let good = jpeg(5, 16);
        let mut pieces = Vec::new();
        let mut splitter = Splitter::new(LIMIT);
        for bytes in [huge.as_slice(), &good, &huge, &good].concat().chunks(997) {
            splitter.feed(bytes, &mut |piece| pieces.push(piece)).expect("pictures");
        }
        let good = Piece::Picture(good);
        assert_eq!(pieces, [Piece::TooLarge, good.clone(), Piece::TooLarge, good]);
    }

    #[test]
    fn what_is_no_picture_at_all_ends_in_an_error_and_not_in_memory() {
        assert_eq!(split(&vec![0; LIMIT + 1], 100), Err(NoPicture));
        assert_eq!(split(&vec![0xff; LIMIT + 2], 100), Err(NoPicture));
        assert_eq!(split(b"<html>", 100), Ok(vec![]));
        // Lengths that are none, and a storm of beginnings.
        assert_eq!(
            split(&[0xff, 0xd8, 0xff, 0xe0, 0, 0], 1),
            Ok(vec![Piece::Picture(vec![0xff, 0xd8, 0xff, 0xe0, 0])])
        );
        let storm = split(&[0xff, 0xd8].repeat(1000), 3).expect("beginnings");
        assert_eq!(storm.len(), 999);
    }

    proptest::proptest! {
        #[test]
        fn whatever_comes_is_split_alike_however_it_is_cut(
            bytes in proptest::collection::vec(
                proptest::sample::select(&[0xff, 0xff, 0xff, 0xd8, 0xd9, 0xda, 0xe0, 0xd0, 0, 1, 2, 3, 9][..]), 0..600),
            chunk in 1_usize..40,
        ) {
            let split = |chunk: usize| {
                let (mut splitter, mut pieces) = (Splitter::new(100), Vec::new());
                for bytes in bytes.chunks(chunk) {
                    splitter.feed(bytes, &mut |piece| pieces.push(piece))?;
                    assert!(splitter.picture.len() <= 100);
                }
                Ok::<_, NoPicture>(pieces)
            };
            let whole = split(600);
            proptest::prop_assert_eq!(split(chunk), whole.clone());
            for piece in whole.unwrap_or_default() {
                if let Piece::Picture(picture) = piece {
                    proptest::prop_assert!(picture.starts_with(&[0xff, 0xd8]) && picture.len() <= 100);
                }
            }
        }
    }
}
