//! Identities: names of sites, devices and cameras, and the SPIFFE id a certificate carries.
//!
//! Names are parsed once and are safe afterwards in paths, labels, URLs and logs.

use core::fmt;

use heapless::String;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use thiserror::Error;

use crate::limit;

/// A name of 1 to 63 characters out of `a-z 0-9 . _ -`, beginning with a letter or digit.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String<{ limit::NAME_BYTES }>);

/// Why a text is not a [`Name`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NameError {
    /// The text is empty.
    #[error("a name must not be empty")]
    Empty,
    /// The text is longer than [`limit::NAME_BYTES`].
    #[error("a name has at most 63 characters, this one has {length}")]
    TooLong {
        /// Length found, in bytes.
        length: usize,
    },
    /// A character outside the permitted set, or a leading punctuation mark.
    #[error(
        "'{character}' at position {position} is not allowed: use a-z, 0-9, '.', '_', '-', beginning with a letter or digit"
    )]
    Character {
        /// The offending character.
        character: char,
        /// Its position, counted in bytes from 0.
        position: usize,
    },
}

impl Name {
    /// Checks a text.
    ///
    /// # Errors
    /// One variant of [`NameError`] per cause.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        for (position, character) in text.char_indices() {
            let alphanumeric = character.is_ascii_lowercase() || character.is_ascii_digit();
            let inner = position > 0 && matches!(character, '.' | '_' | '-');
            if !(alphanumeric || inner) {
                return Err(NameError::Character { character, position });
            }
        }
        String::try_from(text).map(Self).map_err(|_| NameError::TooLong { length: text.len() })
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.as_str())
    }
}

impl core::str::FromStr for Name {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::parse(text)
    }
}

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Name;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Name, E> {
                Name::parse(text).map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Visitor)
    }
}

/// A device: the unit that holds an identity. Displayed as `site/device`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DeviceId {
    /// The site it stands at.
    pub site: Name,
    /// Its name there.
    pub device: Name,
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.site, self.device)
    }
}

/// A camera of a device. Displayed as `site/device/camera`, the id used by the HTTP interface.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CameraId {
    /// The device it hangs on.
    pub device: DeviceId,
    /// Its name there.
    pub camera: Name,
}

impl fmt::Display for CameraId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.device, self.camera)
    }
}

impl core::str::FromStr for CameraId {
    type Err = CameraIdError;
    fn from_str(text: &str) -> Result<Self, CameraIdError> {
        let mut parts = text.split('/');
        let (Some(site), Some(device), Some(camera), None) = (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(CameraIdError::Shape);
        };
        Ok(Self {
            device: DeviceId { site: Name::parse(site)?, device: Name::parse(device)? },
            camera: Name::parse(camera)?,
        })
    }
}

/// Why a text is not a [`CameraId`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum CameraIdError {
    /// There are not exactly three parts.
    #[error("a camera id has the form site/device/camera")]
    Shape,
    /// One part is not a name.
    #[error(transparent)]
    Name(#[from] NameError),
}

/// Why a URI is not a device identity of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SpiffeError {
    /// The scheme or the trust domain differs.
    #[error("not a spiffe id of this trust domain")]
    TrustDomain,
    /// The path is not `/site/SITE/device/DEVICE`.
    #[error("the path of a device identity is /site/SITE/device/DEVICE")]
    Path,
    /// A part is not a name.
    #[error(transparent)]
    Name(#[from] NameError),
}

impl DeviceId {
    /// Reads `spiffe://TRUST-DOMAIN/site/SITE/device/DEVICE` (SPIFFE ID, §2).
    ///
    /// # Errors
    /// One variant of [`SpiffeError`] per cause.
    pub fn from_spiffe(uri: &str, trust_domain: &str) -> Result<Self, SpiffeError> {
        let path = uri
            .strip_prefix("spiffe://")
            .and_then(|rest| rest.strip_prefix(trust_domain))
            .and_then(|rest| rest.strip_prefix('/'))
            .ok_or(SpiffeError::TrustDomain)?;
        let mut parts = path.split('/');
        match (parts.next(), parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some("site"), Some(site), Some("device"), Some(device), None) => {
                Ok(Self { site: Name::parse(site)?, device: Name::parse(device)? })
            }
            _ => Err(SpiffeError::Path),
        }
    }

    /// Writes the identity as the URI a certificate carries.
    ///
    /// # Errors
    /// Only where the writer itself fails.
    pub fn write_spiffe(&self, trust_domain: &str, out: &mut impl fmt::Write) -> fmt::Result {
        write!(out, "spiffe://{trust_domain}/site/{}/device/{}", self.site, self.device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_refuse_what_would_be_unsafe_in_a_path_or_a_label() {
        for text in ["store-12", "gw_01", "a", "0.b"] {
            assert_eq!(Name::parse(text).map(|n| n.as_str() == text), Ok(true));
        }
        assert_eq!(Name::parse(""), Err(NameError::Empty));
        for text in ["../x", ".hidden", "-rf", "A", "a b", "a/b", "é", "a\"b"] {
            assert!(matches!(Name::parse(text), Err(NameError::Character { .. })), "{text}");
        }
        let long = core::str::from_utf8(&[b'a'; 64]).map(Name::parse);
        assert_eq!(long, Ok(Err(NameError::TooLong { length: 64 })));
    }

    #[test]
    fn a_spiffe_id_is_read_as_written_and_nothing_else_is() {
        let id = DeviceId::from_spiffe("spiffe://acme/site/s-1/device/gw", "acme");
        let mut text = String::<128>::new();
        if let Ok(id) = &id {
            assert_eq!(id.write_spiffe("acme", &mut text), Ok(()));
        }
        assert_eq!(text.as_str(), "spiffe://acme/site/s-1/device/gw");
        for uri in ["https://acme/site/a/device/b", "spiffe://evil/site/a/device/b", "spiffe://acmeX/site/a/device/b"] {
            assert_eq!(DeviceId::from_spiffe(uri, "acme"), Err(SpiffeError::TrustDomain), "{uri}");
        }
        for uri in ["spiffe://acme/site/a", "spiffe://acme/site/a/device/b/c", "spiffe://acme/device/b/site/a"] {
            assert_eq!(DeviceId::from_spiffe(uri, "acme"), Err(SpiffeError::Path), "{uri}");
        }
    }
}
