//! The aggregator's side of one connection: who speaks, and in which order.
//!
//! The receiver does not own the mark: the ledger does, inside its transaction. It only makes sure that a connection says Hello
//! once, as the device its certificate names, and nothing but records afterwards.

use super::message::{Hello, RefuseReason};
use crate::id::DeviceId;
use crate::wire::{Frame, Kind, Mark, Record};

/// What a frame from an agent means.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "a value that lives for one call; boxing would need an allocator")]
pub enum Incoming<'a> {
    /// The session begins: answer with a Welcome.
    Hello(Hello),
    /// A record to judge and commit.
    Record(Record<'a>),
}

/// The order of messages on one connection.
#[derive(Debug)]
pub struct Receiver {
    device: DeviceId,
    greeted: bool,
}

impl Receiver {
    /// A receiver for a connection whose certificate names `device`.
    #[must_use]
    pub const fn new(device: DeviceId) -> Self {
        Self { device, greeted: false }
    }

    /// The device named by the certificate.
    #[must_use]
    pub const fn device(&self) -> &DeviceId {
        &self.device
    }

    /// Takes one frame. `mark` is the device's mark in the ledger.
    ///
    /// # Errors
    /// The reason to refuse the session with; a frame is never half accepted.
    pub fn handle_frame<'a>(&mut self, frame: Frame<'a>, mark: Mark) -> Result<Incoming<'a>, RefuseReason> {
        match (frame.kind, self.greeted) {
            (Kind::Hello, false) => {
                let hello = Hello::parse(frame).map_err(|_| RefuseReason::Malformed)?;
                if hello.device != self.device {
                    return Err(RefuseReason::Identity);
                }
                if hello.epoch < mark.epoch {
                    return Err(RefuseReason::StaleEpoch);
                }
                self.greeted = true;
                Ok(Incoming::Hello(hello))
            }
            (Kind::Record, true) => Record::parse(frame).map(Incoming::Record).map_err(|_| RefuseReason::Malformed),
            _ => Err(RefuseReason::Protocol),
        }
    }
}

#[cfg(test)]
mod tests {
    use heapless::String;

    use super::*;
    use crate::id::Name;
    use crate::unit::UnixMillis;
    use crate::wire::{parse_frame, write_frame};

    fn device(name: &str) -> DeviceId {
        DeviceId { site: Name::parse("s").expect("name"), device: Name::parse(name).expect("name") }
    }

    fn hello(name: &str, epoch: u32, out: &mut [u8]) -> usize {
        Hello { device: device(name), epoch, instance: 1, clock: UnixMillis(0), version: String::new() }
            .write(out)
            .expect("fits")
    }

    fn answer(frames: &[&[u8]]) -> Result<(), RefuseReason> {
        let mut receiver = Receiver::new(device("a"));
        for bytes in frames {
            let frame = parse_frame(bytes).expect("frame");
            receiver.handle_frame(frame, Mark { epoch: 5, sequence: 1 })?;
        }
        Ok(())
    }

    #[test]
    fn only_the_named_device_may_speak_and_only_in_turn() {
        let mut out = [0; 256];
        let length = hello("a", 5, &mut out);
        let good = &out[..length];
        assert_eq!(answer(&[good]), Ok(()));
        assert_eq!(answer(&[good, good]), Err(RefuseReason::Protocol));

        let mut other = [0; 256];
        let length = hello("b", 5, &mut other);
        assert_eq!(answer(&[&other[..length]]), Err(RefuseReason::Identity));
        let mut stale = [0; 256];
        let length = hello("a", 4, &mut stale);
        assert_eq!(answer(&[&stale[..length]]), Err(RefuseReason::StaleEpoch));

        let mut record = [0; 64];
        let length = write_frame(Kind::Record, &(1_u8, 2_u8), &mut record).expect("fits");
        assert_eq!(answer(&[&record[..length]]), Err(RefuseReason::Protocol), "no record before the hello");
        assert_eq!(answer(&[good, &record[..length]]), Err(RefuseReason::Malformed));
    }
}
