//! The few fields of X.509 certificates and PKCS#10 requests that decisions need, read from DER.
//!
//! This is no verifier: whoever relies on what is read here has had the signature checked (the TLS library for certificates, the
//! aggregator for requests). Fields are found by their place (RFC 5280 §4.1, RFC 2986 §4); what is not looked for is skipped unread.

use crate::unit::UnixMillis;

const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
/// `[0] EXPLICIT`, the version of a certificate.
const VERSION: u8 = 0xa0;

/// From when to when a certificate is valid, both inclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// First instant.
    pub not_before: UnixMillis,
    /// Last instant, to the second.
    pub not_after: UnixMillis,
}

/// A request for a certificate, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// What is signed: the CertificationRequestInfo, header included.
    pub signed: &'a [u8],
    /// The SubjectPublicKeyInfo, header included.
    pub public_key: &'a [u8],
    /// The AlgorithmIdentifier of the signature, header included.
    pub algorithm: &'a [u8],
    /// The signature.
    pub signature: &'a [u8],
}

/// The validity of a certificate; `None` where it is not one.
#[must_use]
pub fn validity(certificate: &[u8]) -> Option<Validity> {
    let (fields, _) = expect(certificate, SEQUENCE)?;
    let (mut fields, _) = expect(fields, SEQUENCE)?;
    if fields.first() == Some(&VERSION) {
        (_, fields) = expect(fields, VERSION)?;
    }
    // Serial number, algorithm, issuer.
    for tag in [INTEGER, SEQUENCE, SEQUENCE] {
        (_, fields) = expect(fields, tag)?;
    }
    let (times, _) = expect(fields, SEQUENCE)?;
    let (not_before, rest) = time(times)?;
    let (not_after, rest) = time(rest)?;
    rest.is_empty().then_some(Validity { not_before, not_after })
}

/// The parts of a PKCS#10 request; `None` where it is not one.
#[must_use]
pub fn request(der: &[u8]) -> Option<Request<'_>> {
    let (outer, rest) = expect(der, SEQUENCE)?;
    let (info, after_info) = expect(outer, SEQUENCE)?;
    let signed = whole(outer, after_info)?;
    // Version, subject.
    let (_, fields) = expect(info, INTEGER)?;
    let (_, fields) = expect(fields, SEQUENCE)?;
    let (_, after_key) = expect(fields, SEQUENCE)?;
    let public_key = whole(fields, after_key)?;
    let (_, after_algorithm) = expect(after_info, SEQUENCE)?;
    let algorithm = whole(after_info, after_algorithm)?;
    let (bits, end) = expect(after_algorithm, BIT_STRING)?;
    let (&unused, signature) = bits.split_first()?;
    (unused == 0 && rest.is_empty() && end.is_empty()).then_some(Request { signed, public_key, algorithm, signature })
}

/// Everything of `from` before `rest`, which is its end.
fn whole<'a>(from: &'a [u8], rest: &[u8]) -> Option<&'a [u8]> {
    from.get(..from.len().checked_sub(rest.len())?)
}

/// The content of the element at the beginning, which has to have this tag, and what follows it.
fn expect(input: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&found, input) = input.split_first()?;
    let (&first, input) = input.split_first()?;
    let (length, input) = match first {
        0..=0x7f => (usize::from(first), input),
        // Nothing here is longer than two bytes can say.
        0x81 => input.split_first().map(|(&length, rest)| (usize::from(length), rest))?,
        0x82 => {
            let (length, rest) = input.split_first_chunk()?;
            (usize::from(u16::from_be_bytes(*length)), rest)
        }
        _ => return None,
    };
    if found != tag { None } else { input.split_at_checked(length) }
}

/// A UTCTime or GeneralizedTime in the form DER demands (RFC 5280 §4.1.2.5), and what follows it.
fn time(input: &[u8]) -> Option<(UnixMillis, &[u8])> {
    let tag = *input.first()?;
    let (text, rest) = expect(input, tag)?;
    let digits = text.strip_suffix(b"Z")?;
    let pair = |at: usize| -> Option<i64> {
        let (tens, units) = (*digits.get(at)?, *digits.get(at + 1)?);
        (tens.is_ascii_digit() && units.is_ascii_digit()).then(|| i64::from(tens - b'0') * 10 + i64::from(units - b'0'))
    };
    let (year, at) = match tag {
        UTC_TIME if digits.len() == 12 => (if pair(0)? >= 50 { 1900 + pair(0)? } else { 2000 + pair(0)? }, 2),
        GENERALIZED_TIME if digits.len() == 14 => (pair(0)? * 100 + pair(2)?, 4),
        _ => return None,
    };
    let (month, day) = (pair(at)?, pair(at + 2)?);
    let (hour, minute, second) = (pair(at + 4)?, pair(at + 6)?, pair(at + 8)?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let seconds = ((days(year, month, day) * 24 + hour) * 60 + minute) * 60 + second;
    Some((UnixMillis(seconds * 1000), rest))
}

/// Days since 1970-01-01 in the Gregorian calendar (Hinnant, "chrono-Compatible Low-Level Date Algorithms", 2013, `days_from_civil`).
const fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(text: &[u8], tag: u8) -> Option<i64> {
        let mut element = [0; 34];
        element[0] = tag;
        element[1] = u8::try_from(text.len()).ok()?;
        element[2..2 + text.len()].copy_from_slice(text);
        let (time, rest) = time(&element[..2 + text.len()])?;
        assert!(rest.is_empty());
        Some(time.0 / 1000)
    }

    #[test]
    fn instants_are_those_that_a_calendar_gives() {
        for (text, seconds) in [
            (b"700101000000Z", 0),
            (b"000229120000Z", 951_825_600),
            (b"260731235959Z", 1_785_542_399),
            (b"491231235959Z", 2_524_607_999),
            (b"500101000000Z", -631_152_000),
        ] {
            assert_eq!(at(text, UTC_TIME), Some(seconds), "{text:?}");
        }
        assert_eq!(at(b"20500101000000Z", GENERALIZED_TIME), Some(2_524_608_000));
        assert_eq!(at(b"99991231235959Z", GENERALIZED_TIME), Some(253_402_300_799));
        for text in [b"261301000000Z", b"260001000000Z", b"260132000000Z", b"260101240000Z", b"26010100000+Z"] {
            assert_eq!(at(text, UTC_TIME), None, "{text:?}");
        }
        assert_eq!(at(b"2601010000Z", UTC_TIME), None, "without seconds");
    }

    #[test]
    fn lengths_beyond_the_input_and_foreign_tags_are_nothing() {
        assert_eq!(expect(&[0x30, 0x02, 1, 2, 9], SEQUENCE), Some(([1, 2].as_slice(), [9].as_slice())));
        assert_eq!(expect(&[0x30, 0x81, 0x01, 7], SEQUENCE), Some(([7].as_slice(), [].as_slice())));
        for input in [&[0x30, 0x03, 1, 2][..], &[0x31, 0x00], &[0x30, 0x83, 0, 0, 1, 1], &[0x30, 0x80], &[0x30], &[]] {
            assert_eq!(expect(input, SEQUENCE), None, "{input:?}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = (validity(&bytes), request(&bytes));
        }

        #[test]
        fn nested_elements_never_panic(tags in prop::collection::vec((0_u8..50, 0_u8..200), 0..60)) {
            let mut bytes = [0; 120];
            for (place, (tag, length)) in bytes.chunks_exact_mut(2).zip(tags) {
                place.copy_from_slice(&[if tag < 30 { SEQUENCE } else { tag - 28 }, length]);
            }
            let _ = (validity(&bytes), request(&bytes));
        }
    }
}
