//! A bounded copy of a body that passes.
//!
//! Large pieces are shared with the one they are passed to instead of being copied; small ones are copied together, because a few bytes
//! would keep the whole buffer alive that they were read into. Readers here have buffers of at most [`super::serve::BUFFER`] bytes, so
//! what is kept occupies at most four times what it is.

use std::time::Duration;

use hyper::body::Bytes;

use super::note::Uncopied;
use super::serve::BUFFER;

/// Pieces from here on are shared.
const SHARED: usize = BUFFER / 4;

/// How far a body has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    Complete,
    TooLarge,
}

/// What was kept of a body.
#[derive(Debug)]
pub(super) struct Kept {
    shared: Vec<Bytes>,
    tail: Vec<u8>,
    bytes: usize,
    limit: usize,
    state: State,
    ended: Option<Duration>,
}

impl Kept {
    /// Keeps up to so many bytes, and nothing of a body that has more.
    pub(super) const fn new(limit: usize) -> Self {
        Self { shared: Vec::new(), tail: Vec::new(), bytes: 0, limit, state: State::Open, ended: None }
    }

    /// A body announced with more bytes than allowed is not begun with.
    pub(super) fn announce(&mut self, bytes: Option<u64>) {
        if bytes.is_some_and(|bytes| bytes > self.limit as u64) {
            self.give_up();
        }
    }

    pub(super) fn push(&mut self, piece: &Bytes) {
        if self.state == State::TooLarge {
            return;
        }
        self.bytes = self.bytes.saturating_add(piece.len());
        if self.bytes > self.limit {
            self.give_up();
        } else if piece.len() >= SHARED {
            if !self.tail.is_empty() {
                self.shared.push(Bytes::from(std::mem::take(&mut self.tail)));
            }
            self.shared.push(piece.clone());
        } else {
            self.tail.extend_from_slice(piece);
        }
    }

    /// The body has ended as it should; only the first time counts.
    pub(super) fn end(&mut self, now: Duration) {
        self.ended.get_or_insert(now);
        if self.state == State::Open {
            self.state = State::Complete;
        }
    }

    /// When it ended, where it did.
    pub(super) const fn ended(&self) -> Option<Duration> {
        self.ended
    }

    /// Bytes of the whole body.
    ///
    /// # Errors
    /// [`Uncopied`] where it is not there as a whole.
    pub(super) const fn length(&self) -> Result<usize, Uncopied> {
        match self.state {
            State::Open => Err(Uncopied::Incomplete),
            State::TooLarge => Err(Uncopied::TooLarge),
            State::Complete => Ok(self.bytes),
        }
    }

    /// The whole body in its order; nothing where it is not there as a whole.
    pub(super) fn into_pieces(self) -> impl Iterator<Item = Bytes> {
        let whole = self.state == State::Complete;
        self.shared.into_iter().chain([Bytes::from(self.tail)]).filter(move |piece| whole && !piece.is_empty())
    }

    fn give_up(&mut self) {
        (self.shared, self.tail, self.state) = (Vec::new(), Vec::new(), State::TooLarge);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn whole(kept: Kept) -> Vec<u8> {
        kept.into_pieces().flatten().collect()
    }

    #[test]
    fn only_what_is_whole_and_within_the_limit_is_given() {
        let mut kept = Kept::new(10);
        kept.push(&Bytes::from_static(b"12345"));
        assert_eq!((kept.length(), kept.ended()), (Err(Uncopied::Incomplete), None));
        kept.end(Duration::from_secs(1));
        kept.end(Duration::from_secs(2));
        assert_eq!((kept.length(), kept.ended()), (Ok(5), Some(Duration::from_secs(1))));
        assert_eq!(whole(kept), b"12345");
        let mut kept = Kept::new(10);
        (0..4).for_each(|_| kept.push(&Bytes::from_static(b"12345")));
        assert!(kept.tail.capacity() == 0, "nothing is kept of what is too large");
        kept.end(Duration::ZERO);
        assert_eq!((kept.length(), kept.ended()), (Err(Uncopied::TooLarge), Some(Duration::ZERO)));
        assert_eq!(whole(kept), b"");
        let mut announced = Kept::new(10);
        announced.announce(Some(11));
        announced.end(Duration::ZERO);
        assert_eq!(announced.length(), Err(Uncopied::TooLarge));
        let mut open = Kept::new(10);
        open.push(&Bytes::from_static(b"1"));
        assert_eq!(whole(open), b"");
    }

    proptest! {
        #[test]
        fn pieces_of_any_sizes_come_out_in_order(sizes in prop::collection::vec(prop_oneof![0_usize..50, 16_000_usize..17_000], 0..20)) {
            let mut kept = Kept::new(1 << 20);
            let mut expected = Vec::new();
            for (number, size) in sizes.into_iter().enumerate() {
                let piece = vec![u8::try_from(number).expect("few"); size];
                kept.push(&Bytes::from(piece.clone()));
                expected.extend(piece);
            }
            kept.end(Duration::ZERO);
            prop_assert_eq!(kept.length(), Ok(expected.len()));
            prop_assert_eq!(whole(kept), expected);
        }
    }
}
