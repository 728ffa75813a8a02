//! A bounded copy of a body that passes.

use std::time::Duration;

use super::note::Uncopied;

/// Room for a body is made at once up to here, if its length is announced; whoever announces need not keep the promise.
const AT_ONCE: usize = 1 << 20;

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
    bytes: Vec<u8>,
    limit: usize,
    state: State,
    ended: Option<Duration>,
}

impl Kept {
    /// Keeps up to so many bytes, and nothing of a body that has more.
    pub(super) fn new(limit: usize, announced: Option<u64>) -> Self {
        let mut kept = Self { bytes: Vec::new(), limit, state: State::Open, ended: None };
        kept.announce(announced);
        kept
    }

    /// A body announced with more bytes than allowed is not begun with.
    pub(super) fn announce(&mut self, bytes: Option<u64>) {
        let Some(bytes) = bytes else { return };
        match usize::try_from(bytes) {
            Ok(bytes) if bytes <= self.limit => self.bytes.reserve(bytes.min(AT_ONCE)),
            _ => self.give_up(),
        }
    }

    pub(super) fn push(&mut self, piece: &[u8]) {
        if self.state == State::TooLarge {
            return;
        }
        if self.bytes.len().saturating_add(piece.len()) > self.limit {
            self.give_up();
        } else {
            self.bytes.extend_from_slice(piece);
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
            State::Complete => Ok(self.bytes.len()),
        }
    }

    /// The whole body; nothing where it is not there as a whole.
    pub(super) fn whole(&self) -> &[u8] {
        if self.state == State::Complete { &self.bytes } else { &[] }
    }

    fn give_up(&mut self) {
        (self.bytes, self.state) = (Vec::new(), State::TooLarge);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_whole_and_within_the_limit_is_given() {
        let mut kept = Kept::new(10, Some(10));
        kept.push(b"123");
        kept.push(b"45");
        assert_eq!((kept.length(), kept.ended(), kept.whole()), (Err(Uncopied::Incomplete), None, &b""[..]));
        kept.end(Duration::from_secs(1));
        kept.end(Duration::from_secs(2));
        assert_eq!((kept.length(), kept.ended()), (Ok(5), Some(Duration::from_secs(1))));
        assert_eq!(kept.whole(), b"12345");
        let mut kept = Kept::new(10, None);
        (0..4).for_each(|_| kept.push(b"12345"));
        assert!(kept.bytes.capacity() == 0, "nothing is kept of what is too large");
        kept.end(Duration::ZERO);
        assert_eq!((kept.length(), kept.ended()), (Err(Uncopied::TooLarge), Some(Duration::ZERO)));
        assert_eq!(kept.whole(), b"");
        let mut announced = Kept::new(10, Some(11));
        announced.end(Duration::ZERO);
        assert_eq!(announced.length(), Err(Uncopied::TooLarge));
    }

    #[test]
    fn an_announcement_alone_occupies_little() {
        assert!(Kept::new(64 << 20, Some(64 << 20)).bytes.capacity() <= 2 * AT_ONCE);
    }
}
