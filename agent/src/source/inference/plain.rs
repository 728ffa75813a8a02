//! JSON services without a protocol: where things are is configured as pointers.
//!
//! A pointer is followed while the text is read; what it passes by is never built up in memory.
//!
//! Must hold: at most [`FOUND`] values come out.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::Unread;
use crate::config::Pointer;

/// Most values found at one pointer.
const FOUND: usize = 1 << 17;

/// Something found in JSON.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Found {
    Number(f64),
    Text(String),
}

impl Found {
    pub(super) fn text(&self) -> String {
        match self {
            Self::Number(number) => format!("{number}"),
            Self::Text(text) => text.clone(),
        }
    }

    pub(super) const fn number(&self) -> Option<f64> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Text(_) => None,
        }
    }
}

/// What is at a pointer: a value is itself, an array its elements, an object its members, whose names are told too; deeper ones are
/// passed over.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct At {
    pub(super) values: Vec<Found>,
    /// One for each value, where they are members of an object.
    pub(super) names: Vec<String>,
}

/// Follows a pointer.
///
/// # Errors
/// [`Unread::Malformed`] where the text is not JSON, or too much of it is found.
pub(super) fn find(json: &[u8], pointer: &Pointer) -> Result<At, Unread> {
    let mut found = At::default();
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let walk = Walk { steps: pointer.steps(), inside: false, found: &mut found };
    let read = walk.deserialize(&mut deserializer).and_then(|()| deserializer.end());
    read.map_err(|_| Unread::Malformed("no JSON that can be read"))?;
    Ok(found)
}

struct Walk<'w> {
    steps: &'w [String],
    /// Whether this is an element or a member of what the pointer leads to.
    inside: bool,
    found: &'w mut At,
}

impl Walk<'_> {
    fn keep<E: Error>(self, value: Found) -> Result<(), E> {
        if !self.steps.is_empty() {
            return Ok(());
        }
        if self.found.values.len() >= FOUND {
            return Err(E::custom("too many values"));
        }
        self.found.values.push(value);
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<(), E> {
        self.keep(Found::Number(number))
    }

    #[expect(clippy::cast_precision_loss, reason = "scores and numbers of classes need no more")]
    fn visit_u64<E: Error>(self, number: u64) -> Result<(), E> {
        self.keep(Found::Number(number as f64))
    }

    #[expect(clippy::cast_precision_loss, reason = "scores and numbers of classes need no more")]
    fn visit_i64<E: Error>(self, number: i64) -> Result<(), E> {
        self.keep(Found::Number(number as f64))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        self.keep(Found::Text(text.to_owned()))
    }

    fn visit_string<E: Error>(self, text: String) -> Result<(), E> {
        self.keep(Found::Text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        let step = self.steps.split_first();
        let mut index = 0_usize;
        loop {
            let more = match step {
                Some((step, rest)) if step == "*" || step.parse() == Ok(index) => {
                    elements.next_element_seed(Walk { steps: rest, inside: self.inside, found: self.found })?.is_some()
                }
                None if !self.inside => {
                    elements.next_element_seed(Walk { steps: &[], inside: true, found: self.found })?.is_some()
                }
                _ => elements.next_element::<IgnoredAny>()?.is_some(),
            };
            if !more {
                return Ok(());
            }
            index += 1;
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        let step = self.steps.split_first();
        while let Some(name) = members.next_key::<String>()? {
            match step {
                Some((step, rest)) if step == "*" || *step == name => {
                    members.next_value_seed(Walk { steps: rest, inside: self.inside, found: self.found })?;
                }
                None if !self.inside => {
                    let before = self.found.values.len();
                    members.next_value_seed(Walk { steps: &[], inside: true, found: self.found })?;
                    if self.found.values.len() > before {
                        self.found.names.push(name);
                    }
                }
                _ => {
                    members.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const JSON: &[u8] =
        br#"{"a": [{"s": 0.5, "l": "x"}, {"s": 1, "l": "y"}], "p": {"cat": 0.75, "deep": [1], "dog": 0.25},
        "n": [1, [2], "3", null, 4], "a/b": "text", "t": -7}"#;

    fn at(pointer: &str) -> At {
        find(JSON, &Pointer::parse(pointer).expect("a pointer")).expect("JSON")
    }

    fn values(pointer: &str) -> Vec<String> {
        at(pointer).values.iter().map(Found::text).collect()
    }

    #[test]
    fn a_pointer_finds_values_elements_members_and_all_of_many() {
        assert_eq!(values("/a/1/l"), ["y"]);
        assert_eq!(values("/a/*/s"), ["0.5", "1"]);
        assert_eq!(values("/n"), ["1", "3", "4"]);
        assert_eq!(values("/a~1b"), ["text"]);
        assert_eq!(values("/t"), ["-7"]);
        let members = at("/p");
        assert_eq!((members.values.len(), members.names), (2, vec!["cat".to_owned(), "dog".to_owned()]));
        for nothing in ["/a/2/l", "/x", "/a/l", "/t/0", "/a"] {
            assert!(values(nothing).is_empty(), "{nothing}");
        }
    }

    #[test]
    fn what_is_not_json_is_told() {
        let pointer = Pointer::parse("/a").expect("a pointer");
        for text in ["", "{", "{\"a\":1}x", "nul", &"[".repeat(100_000)] {
            assert!(find(text.as_bytes(), &pointer).is_err(), "{text:.20}");
        }
        let many = format!("{{\"a\":[{}1]}}", "1,".repeat(FOUND));
        assert!(find(many.as_bytes(), &pointer).is_err());
    }

    proptest! {
        #[test]
        fn no_text_can_do_harm(text in "[\\[\\]{}\",:a0-9*/ ]{0,80}") {
            let pointer = Pointer::parse("/a/*").expect("a pointer");
            drop(find(text.as_bytes(), &pointer));
        }
    }
}
