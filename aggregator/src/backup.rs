//! The format of a backup: one file with everything that an aggregator must not lose.
//!
//! ```text
//! magic "DGBACKUP", format (u32)
//! name length (u16), name, content length (u64), content     for each file; the first is manifest.json, the second the database
//! 0 (u16)
//! SHA-256 of everything before
//! ```
//! Numbers are little-endian. Names are those of the data folder, with `/` between folder and file.
//!
//! Must hold: nothing read from a backup is to be relied on before [`Reader::finish`] has compared the checksum; lengths are checked
//! before anything is reserved; no name leads out of the data folder.
//!
//! Deliberately absent: files and folders of this machine ([`crate::host`]), encryption (whoever copies the file away brings their own).

use std::io::{self, Read, Write};

use ring::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The version of the format that this release writes. It has the list of access tokens, which version 1 had not.
pub const FORMAT: u32 = 2;
/// The oldest version that this release reads.
const OLDEST: u32 = 1;
/// Name of the database within a backup.
pub const DATABASE: &str = "driftglass.db";
/// The folders of the data folder that hold keys and certificates.
pub const KEY_FOLDERS: [&str; 2] = ["authority", "identity"];
/// Name of the list of access tokens within a backup. It is no secret: it has their hashes.
pub const ACCESS_TOKENS: &str = "access-tokens.json";
/// Most bytes of a file that is not the database.
pub const FILE_BYTES: u64 = 1 << 20;
/// Most files in a backup.
pub const FILES: usize = 1_000;

const MAGIC: &[u8; 8] = b"DGBACKUP";
const MANIFEST: &str = "manifest.json";
const CHUNK: usize = 64 * 1024;
const NAME_BYTES: usize = 255;
const DIGEST_BYTES: usize = 32;

/// What a backup says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// When it was made, in milliseconds since 1970.
    pub created_at_ms: i64,
    /// The release that made it.
    pub release: String,
    /// The version of its database.
    pub schema: usize,
    /// Whether it holds private keys.
    pub keys: bool,
}

/// Why bytes are not a backup, or cannot be written.
#[derive(Debug, Error)]
pub enum FormatError {
    /// Something else altogether.
    #[error("it is not a driftglass backup")]
    Foreign,
    /// A format of another release.
    #[error("its format has version {found}, this release reads {OLDEST} to {FORMAT}; use the release that made it")]
    Format {
        /// Version found.
        found: u32,
    },
    /// It ends too early.
    #[error("it is not complete: it ends too early")]
    Truncated,
    /// It goes on after its end.
    #[error("there are bytes after its end")]
    Trailing,
    /// The checksum differs.
    #[error("it is damaged: the checksum differs")]
    Checksum,
    /// A length or a name that no backup has.
    #[error("it is damaged: {0}")]
    Content(String),
    /// The system cannot read or write.
    #[error(transparent)]
    Io(io::Error),
}

impl From<io::Error> for FormatError {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::UnexpectedEof { Self::Truncated } else { Self::Io(error) }
    }
}

/// Whether a backup may hold a file of this name: the database, the list of access tokens, or one below a folder of keys.
#[must_use]
pub fn is_name(name: &str) -> bool {
    let part = |part: &str| {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        !part.is_empty() && !part.starts_with('.') && part.chars().all(allowed)
    };
    let mut parts = name.split('/');
    let below_keys = parts.next().is_some_and(|folder| KEY_FOLDERS.contains(&folder))
        && (2..=3).contains(&name.split('/').count())
        && parts.all(part);
    name.len() <= NAME_BYTES && (name == DATABASE || name == ACCESS_TOKENS || below_keys)
}

/// Writes a backup.
pub struct Writer<W> {
    inner: W,
    hash: Context,
}

impl<W> std::fmt::Debug for Writer<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").finish_non_exhaustive()
    }
}

impl<W: Write> Writer<W> {
    /// Begins with the manifest.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn new(inner: W, manifest: &Manifest) -> Result<Self, FormatError> {
        let mut writer = Self { inner, hash: Context::new(&SHA256) };
        writer.put(MAGIC)?;
        writer.put(&FORMAT.to_le_bytes())?;
        let manifest = serde_json::to_vec(manifest).map_err(io::Error::other)?;
        writer.file(MANIFEST, manifest.len() as u64, &mut manifest.as_slice(), &mut |_| {})?;
        Ok(writer)
    }

    /// Adds a file of which exactly `length` bytes are read; `written` is told how many bytes of it there are so far.
    ///
    /// # Errors
    /// [`FormatError::Truncated`] where the content is shorter, otherwise where it cannot be read or written.
    pub fn file(
        &mut self,
        name: &str,
        length: u64,
        content: &mut impl Read,
        written: &mut dyn FnMut(u64),
    ) -> Result<(), FormatError> {
        let name_length = u16::try_from(name.len()).map_err(|_| FormatError::Content(format!("the name {name}")))?;
        self.put(&name_length.to_le_bytes())?;
        self.put(name.as_bytes())?;
        self.put(&length.to_le_bytes())?;
        let mut left = length;
        let mut chunk = vec![0; CHUNK];
        while left > 0 {
            let room = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
            let part = chunk.get_mut(..room).unwrap_or_default();
            content.read_exact(part)?;
            self.hash.update(part);
            self.inner.write_all(part)?;
            left -= room as u64;
            written(length - left);
        }
        Ok(())
    }

    /// Ends with the checksum.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn finish(mut self) -> Result<W, FormatError> {
        self.put(&0_u16.to_le_bytes())?;
        let digest = self.hash.finish();
        self.inner.write_all(digest.as_ref())?;
        self.inner.flush()?;
        Ok(self.inner)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), FormatError> {
        self.hash.update(bytes);
        Ok(self.inner.write_all(bytes)?)
    }
}

/// A file in a backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name; [`is_name`] holds.
    pub name: String,
    /// Bytes of its content.
    pub length: u64,
}

/// Reads a backup from its beginning to its end.
pub struct Reader<R> {
    inner: R,
    hash: Context,
    files: usize,
    /// Bytes of the current file that have not been read.
    left: u64,
}

impl<R> std::fmt::Debug for Reader<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").field("files", &self.files).finish_non_exhaustive()
    }
}

impl<R: Read> Reader<R> {
    /// Reads the manifest.
    ///
    /// # Errors
    /// One variant of [`FormatError`] per cause.
    pub fn open(inner: R) -> Result<(Self, Manifest), FormatError> {
        let mut reader = Self { inner, hash: Context::new(&SHA256), files: 0, left: 0 };
        let magic = reader.take::<8>().map_err(|error| match error {
            FormatError::Truncated => FormatError::Foreign,
            error => error,
        })?;
        if &magic != MAGIC {
            return Err(FormatError::Foreign);
        }
        let found = u32::from_le_bytes(reader.take()?);
        if !(OLDEST..=FORMAT).contains(&found) {
            return Err(FormatError::Format { found });
        }
        let Some((name, length)) = reader.head()? else { return Err(FormatError::Content("it is empty".into())) };
        if name != MANIFEST || length > FILE_BYTES {
            return Err(FormatError::Content("it does not begin with its manifest".into()));
        }
        reader.left = length;
        let mut manifest = Vec::new();
        reader.copy(&mut manifest, &mut |_| {})?;
        let manifest = serde_json::from_slice(&manifest)
            .map_err(|error| FormatError::Content(format!("the manifest: {error}")))?;
        Ok((reader, manifest))
    }

    /// The next file, `None` after the last. Its content comes from [`Self::copy`], which has to be called before the next one.
    ///
    /// # Errors
    /// One variant of [`FormatError`] per cause.
    pub fn next_file(&mut self) -> Result<Option<Entry>, FormatError> {
        if self.left > 0 {
            return Err(FormatError::Content("a file was left out".into()));
        }
        let Some((name, length)) = self.head()? else { return Ok(None) };
        self.files += 1;
        if !is_name(&name) {
            return Err(FormatError::Content(format!("a file named {name:?}")));
        }
        if self.files > FILES || (name != DATABASE && length > FILE_BYTES) {
            return Err(FormatError::Content("more than a backup holds".into()));
        }
        self.left = length;
        Ok(Some(Entry { name, length }))
    }

    /// Copies the content of the file at hand; `copied` is told how many bytes of it there are so far.
    ///
    /// # Errors
    /// One variant of [`FormatError`] per cause; errors of `out` are [`FormatError::Io`].
    pub fn copy(&mut self, out: &mut impl Write, copied: &mut dyn FnMut(u64)) -> Result<(), FormatError> {
        let length = self.left;
        let mut chunk = vec![0; CHUNK];
        while self.left > 0 {
            let room = usize::try_from(self.left).unwrap_or(CHUNK).min(CHUNK);
            let part = chunk.get_mut(..room).unwrap_or_default();
            self.inner.read_exact(part)?;
            self.hash.update(part);
            out.write_all(part).map_err(FormatError::Io)?;
            self.left -= room as u64;
            copied(length - self.left);
        }
        Ok(())
    }

    /// Compares the checksum, after the last file.
    ///
    /// # Errors
    /// One variant of [`FormatError`] per cause.
    pub fn finish(mut self) -> Result<(), FormatError> {
        let mut expected = [0; DIGEST_BYTES];
        self.inner.read_exact(&mut expected)?;
        if self.hash.finish().as_ref() != expected {
            return Err(FormatError::Checksum);
        }
        if self.inner.read(&mut [0])? > 0 { Err(FormatError::Trailing) } else { Ok(()) }
    }

    fn head(&mut self) -> Result<Option<(String, u64)>, FormatError> {
        let length = usize::from(u16::from_le_bytes(self.take()?));
        if length == 0 {
            return Ok(None);
        }
        let mut room = [0; NAME_BYTES];
        let name = room.get_mut(..length).ok_or_else(|| FormatError::Content("a name that is too long".into()))?;
        self.inner.read_exact(name)?;
        self.hash.update(name);
        let name = String::from_utf8_lossy(name).into_owned();
        Ok(Some((name, u64::from_le_bytes(self.take()?))))
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], FormatError> {
        let mut bytes = [0; N];
        self.inner.read_exact(&mut bytes)?;
        self.hash.update(&bytes);
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn manifest() -> Manifest {
        Manifest { created_at_ms: 7, release: "1.2.3".into(), schema: 2, keys: true }
    }

    fn written(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut writer = Writer::new(Vec::new(), &manifest()).expect("begins");
        for (name, content) in files {
            writer.file(name, content.len() as u64, &mut &content[..], &mut |_| {}).expect("added");
        }
        writer.finish().expect("ends")
    }

    fn read(bytes: &[u8]) -> Result<Vec<(String, Vec<u8>)>, FormatError> {
        let (mut reader, found) = Reader::open(bytes)?;
        assert_eq!(found, manifest());
        let mut files = Vec::new();
        while let Some(Entry { name, length }) = reader.next_file()? {
            let mut content = Vec::new();
            let mut last = 0;
            reader.copy(&mut content, &mut |copied| last = copied)?;
            assert_eq!((content.len() as u64, last), (length, length));
            files.push((name, content));
        }
        reader.finish()?;
        Ok(files)
    }

    #[test]
    fn what_was_written_is_read() {
        let long = vec![5; CHUNK * 2 + 1];
        let bytes = written(&[(DATABASE, &long), ("authority/1/key.pem", b"secret")]);
        let files = read(&bytes).expect("reads");
        assert_eq!(files, [(DATABASE.into(), long), ("authority/1/key.pem".into(), b"secret".to_vec())]);
    }

    #[test]
    fn every_cause_has_its_own_error() {
        let bytes = written(&[(DATABASE, b"pages")]);
        assert!(matches!(read(b"SQLite format 3\0"), Err(FormatError::Foreign)));
        assert!(matches!(read(b"DG"), Err(FormatError::Foreign)));
        let mut newer = bytes.clone();
        newer[8] = 9;
        assert!(matches!(read(&newer), Err(FormatError::Format { found: 9 })));
        for length in 12..bytes.len() {
            assert!(matches!(read(&bytes[..length]), Err(FormatError::Truncated)), "cut at {length}");
        }
        assert!(matches!(read(&[&bytes[..], b"x"].concat()), Err(FormatError::Trailing)));
        assert!(matches!(
            read(&written(&[("authority/1/key.pem", &[0; (1 << 20) + 1])])),
            Err(FormatError::Content(_))
        ));
        assert!(matches!(
            Writer::new(Vec::new(), &manifest())
                .and_then(|mut writer| { writer.file(DATABASE, 3, &mut &b"ab"[..], &mut |_| {}) }),
            Err(FormatError::Truncated)
        ));
    }

    #[test]
    fn no_name_leads_out_of_the_data_folder() {
        for good in [DATABASE, ACCESS_TOKENS, "authority/server-key.pem", "authority/12/ca.pem", "identity/cert.pem"] {
            assert!(is_name(good), "{good}");
        }
        for bad in [
            "",
            "/etc/passwd",
            "..",
            "authority",
            "authority/",
            "authority//x",
            "authority/../x",
            "authority/1/../../x",
            "identity/.hidden",
            "authority/1/2/3",
            "driftglass.lock",
            "access-tokens.lock",
            "authority-tokens.json",
            "authority/a b",
            "authority/1/\0",
        ] {
            assert!(!is_name(bad), "{bad:?}");
            if !bad.is_empty() {
                assert!(matches!(read(&written(&[(bad, b"x")])), Err(FormatError::Content(_))), "{bad:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn one_flipped_bit_is_noticed(content in prop::collection::vec(any::<u8>(), 1..200), at in any::<prop::sample::Index>()) {
            let mut bytes = written(&[(DATABASE, &content)]);
            let bit = at.index(bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            // A flip in the manifest is seen at the end only; whoever looks at it before relies on nothing.
            let (Ok((mut reader, _)), mut whole) = (Reader::open(&bytes[..]), true) else { return Ok(()) };
            while let Ok(Some(_)) = reader.next_file().inspect_err(|_| whole = false) {
                if reader.copy(&mut Vec::new(), &mut |_| {}).is_err() {
                    whole = false;
                    break;
                }
            }
            prop_assert!(!whole || reader.finish().is_err());
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let framed = [&MAGIC[..], &FORMAT.to_le_bytes(), &bytes].concat();
            prop_assert!(Reader::open(&bytes[..]).is_err());
            if let Ok((mut reader, _)) = Reader::open(&framed[..]) {
                while let Ok(Some(_)) = reader.next_file() {
                    if reader.copy(&mut io::sink(), &mut |_| {}).is_err() { break }
                }
            }
        }
    }
}
