//! A TOML file as a flat list of keys with their lines, so that every fault can be named with its place.
//!
//! Deserialising into a struct stops at the first fault; an operator wants all of them. Settings are therefore taken out one by
//! one, faults are gathered, and whatever has not been taken at the end is unknown.
//!
//! Deliberately absent: what the keys mean ([`super`]).

use std::collections::BTreeMap;
use std::fmt;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// One thing that is wrong with the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Where: `FILE:LINE`, or the flag and variable.
    pub place: String,
    /// The key, dotted; empty where the file is not TOML.
    pub key: String,
    /// What stands there.
    pub value: String,
    /// What is allowed instead.
    pub allowed: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.place)?;
        if !self.key.is_empty() {
            write!(f, "{}", self.key)?;
            if !self.value.is_empty() {
                write!(f, " = {}", self.value)?;
            }
            f.write_str(": ")?;
        }
        f.write_str(&self.allowed)
    }
}

/// What a key holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    /// A string, without its quotes.
    Text(String),
    /// An integer or a float, as written.
    Number(String),
    /// A boolean.
    Flag(bool),
    /// Anything else: what it is.
    Other(&'static str),
}

impl Value {
    /// A value that was given without a type: as the file would have it without quotes where that is possible.
    pub(super) fn untyped(text: String) -> Self {
        match text.as_str() {
            "true" => Self::Flag(true),
            "false" => Self::Flag(false),
            number if number.parse::<f64>().is_ok() => Self::Number(text),
            _ => Self::Text(text),
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => write!(f, "{text:?}"),
            Self::Number(number) => f.write_str(number),
            Self::Flag(flag) => flag.fmt(f),
            Self::Other(kind) => write!(f, "({kind})"),
        }
    }
}

/// A key of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// `FILE:LINE`.
    pub(super) place: String,
    /// What it holds.
    pub(super) value: Value,
}

/// The file, flattened. Tables are entries too, so that an empty or unknown one is noticed.
#[derive(Debug, Default)]
pub(super) struct Document {
    pub(super) keys: BTreeMap<String, Entry>,
    pub(super) tables: BTreeMap<String, String>,
}

impl Document {
    /// Reads TOML; what does not parse becomes faults, and the rest is still there to be checked.
    pub(super) fn parse(file: &str, text: &str, faults: &mut Vec<Fault>) -> Self {
        let (root, errors) = DeTable::parse_recoverable(text);
        for error in errors {
            let line = error.span().map_or(1, |span| line_of(text, span.start));
            faults.push(Fault {
                place: format!("{file}:{line}"),
                key: String::new(),
                value: String::new(),
                allowed: format!("not valid TOML: {}", error.message()),
            });
        }
        let mut document = Self::default();
        document.flatten(&Source { file, text }, "", root.get_ref());
        document
    }

    fn flatten(&mut self, source: &Source<'_>, prefix: &str, table: &DeTable<'_>) {
        for (name, value) in table {
            let key = dotted(prefix, name.get_ref());
            let place = source.place(name);
            let value = match value.get_ref() {
                DeValue::Table(inner) => {
                    self.flatten(source, &key, inner);
                    self.tables.insert(key, place);
                    continue;
                }
                DeValue::String(text) => Value::Text(text.to_string()),
                DeValue::Boolean(flag) => Value::Flag(*flag),
                DeValue::Integer(_) | DeValue::Float(_) => {
                    Value::Number(source.text.get(value.span()).unwrap_or_default().to_owned())
                }
                other => Value::Other(other.type_str()),
            };
            self.keys.insert(key, Entry { place, value });
        }
    }
}

struct Source<'a> {
    file: &'a str,
    text: &'a str,
}

impl Source<'_> {
    fn place<T>(&self, spanned: &Spanned<T>) -> String {
        format!("{}:{}", self.file, line_of(self.text, spanned.span().start))
    }
}

fn line_of(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|&byte| byte == b'\n').count()
}

/// Joins keys with a dot; a key that would need quotes keeps them, so that `"a.b"` is never taken for `a.b`.
fn dotted(prefix: &str, name: &str) -> String {
    let bare = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
    let name = if bare { name.to_owned() } else { format!("{name:?}") };
    if prefix.is_empty() { name } else { format!("{prefix}.{name}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_syntax_error_is_reported_with_its_line() {
        let mut faults = Vec::new();
        Document::parse("a.toml", "x = 1\ny = = 2\nz = \"open\n", &mut faults);
        let places: Vec<&str> = faults.iter().map(|fault| fault.place.as_str()).collect();
        assert!(places.contains(&"a.toml:2") && places.contains(&"a.toml:3"), "{faults:?}");
    }

    #[test]
    fn a_quoted_key_is_not_mistaken_for_a_path() {
        let mut faults = Vec::new();
        let document = Document::parse("a.toml", "\"quic.listen\" = 1\n[quic]\nlisten = \"x\"\n[empty]\n", &mut faults);
        assert_eq!(faults, []);
        assert_eq!(document.keys.keys().collect::<Vec<_>>(), ["\"quic.listen\"", "quic.listen"]);
        assert_eq!(document.tables.get("empty").map(String::as_str), Some("a.toml:4"));
    }
}
