//! Arrays of single-precision numbers, stored as the bytes they are: little-endian, one after the other.
//!
//! The state of every camera is stored with every window of it, and nearly all of it is such arrays. Number by number, as they would be
//! stored otherwise, took a quarter of the time of a decision.

use std::fmt;

use serde::de::{Error, Visitor};
use serde::{Deserializer, Serializer};

/// Something made of so many numbers.
pub(crate) trait Numbers: Default {
    fn numbers(&self) -> &[f32];
    fn numbers_mut(&mut self) -> &mut [f32];
}

impl<const N: usize> Numbers for [f32; N]
where
    Self: Default,
{
    fn numbers(&self) -> &[f32] {
        self
    }

    fn numbers_mut(&mut self) -> &mut [f32] {
        self
    }
}

impl<const N: usize, const M: usize> Numbers for [[f32; M]; N]
where
    Self: Default,
{
    fn numbers(&self) -> &[f32] {
        self.as_flattened()
    }

    fn numbers_mut(&mut self) -> &mut [f32] {
        self.as_flattened_mut()
    }
}

/// Longest array, in numbers.
const MOST: usize = 16;

pub(crate) fn serialize<T: Numbers, S: Serializer>(values: &T, serializer: S) -> Result<S::Ok, S::Error> {
    let numbers = values.numbers();
    let mut bytes = [[0; size_of::<f32>()]; MOST];
    let Some(used) = bytes.get_mut(..numbers.len()) else {
        return Err(serde::ser::Error::custom("an array longer than the longest"));
    };
    for (bytes, number) in used.iter_mut().zip(numbers) {
        *bytes = number.to_le_bytes();
    }
    serializer.serialize_bytes(used.as_flattened())
}

pub(crate) fn deserialize<'de, T: Numbers, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    struct Bytes<T>(T);

    impl<T: Numbers> Visitor<'_> for Bytes<T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "{} numbers of four bytes", self.0.numbers().len())
        }

        fn visit_bytes<E: Error>(mut self, bytes: &[u8]) -> Result<T, E> {
            let (chunks, rest) = bytes.as_chunks();
            if chunks.len() != self.0.numbers().len() || !rest.is_empty() {
                return Err(E::invalid_length(bytes.len(), &self));
            }
            for (number, bytes) in self.0.numbers_mut().iter_mut().zip(chunks) {
                *number = f32::from_le_bytes(*bytes);
            }
            Ok(self.0)
        }
    }

    deserializer.deserialize_bytes(Bytes(T::default()))
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Both {
        #[serde(with = "super")]
        row: [f32; 3],
        #[serde(with = "super")]
        table: [[f32; 2]; 2],
    }

    #[test]
    fn numbers_come_back_as_they_were_and_too_few_or_too_many_do_not() {
        let both = Both { row: [1.5, f32::MIN_POSITIVE, -0.0], table: [[0.1, f32::MAX], [2.0, 3.0]] };
        let bytes = postcard::to_stdvec(&both).expect("encodes");
        assert_eq!(bytes.len(), 1 + 12 + 1 + 16);
        assert_eq!(postcard::from_bytes::<Both>(&bytes), Ok(both));
        for (place, length) in [(0, 11), (0, 16), (13, 12)] {
            let mut wrong = bytes.clone();
            wrong[place] = length;
            assert!(postcard::from_bytes::<Both>(&wrong).is_err(), "{place} {length}");
        }
        assert!(postcard::from_bytes::<Both>(&bytes[..20]).is_err());
    }

    #[test]
    fn an_array_longer_than_the_longest_is_an_error() {
        #[derive(Serialize)]
        struct Long(#[serde(with = "super")] [f32; 17]);
        assert!(postcard::to_stdvec(&Long([0.0; 17])).is_err());
    }
}
