//! The fleet's own authority on disk.
//!
//! ```text
//! DATA_DIR/authority/            readable by its owner only, like everything in it
//!   server-key.pem               the aggregator's own key
//!   1/ca.pem                     the first authority's certificate; its key is gone since there is a second one
//!   2/ca.pem 2/key.pem           the authority that issues: the one with the greatest number
//!   2/cross.pem                  its key, certified by the one before it
//! ```
//!
//! Must hold: an authority appears complete or not at all (a folder is filled under another name and renamed); its key is never
//! sent, logged, or readable by anybody else; of those on disk the two newest are trusted.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, chown};
use std::path::{Path, PathBuf};

use driftglass_protocol::unit::UnixMillis;
use rcgen::KeyPair;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use thiserror::Error;

use super::credentials::{CredentialsError, private_text};
use crate::identity::authority::{Authority, Older, ROOT_LIFETIME, Serial, Term, root};

const FOLDER: &str = "authority";
const SERVER_KEY: &str = "server-key.pem";
const UNFINISHED: &str = "unfinished";

/// Why there is no authority.
#[derive(Debug, Error)]
pub enum AuthorityError {
    /// A file or folder cannot be used.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file that exists is not what it should be.
    #[error(transparent)]
    Content(#[from] CredentialsError),
    /// A key is not one.
    #[error("{path}: not a private key in PKCS#8: {source}")]
    Key {
        /// The file.
        path: PathBuf,
        /// What the library said.
        source: rcgen::Error,
    },
    /// The library cannot make a key or a certificate.
    #[error("no certificate can be made: {0}")]
    Certificate(#[from] rcgen::Error),
    /// There is nothing to replace.
    #[error("{path}: there is no authority yet; it is made when the service starts for the first time")]
    Missing {
        /// The folder.
        path: PathBuf,
    },
    /// The system has no random numbers.
    #[error("the system gives no random numbers")]
    Random,
}

/// The authority and the aggregator's own key.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) authority: Authority,
    pub(super) server_key: KeyPair,
    pub(super) folder: PathBuf,
}

/// Takes up the authority in a data folder; makes the first one where there is none.
pub(super) fn open(
    data_dir: &Path,
    trust_domain: &str,
    now: UnixMillis,
    random: fn() -> Option<[u8; 16]>,
) -> Result<Opened, AuthorityError> {
    let folder = data_dir.join(FOLDER);
    create_folder(&folder)?;
    if numbers(&folder)?.is_empty() {
        let key = KeyPair::generate()?;
        let certificate = root(&key, now, serial(random)?)?;
        let files = [("ca.pem", certificate.pem()), ("key.pem", key.serialize_pem())];
        publish(&folder, 1, &files)?;
        tracing::info!(folder = %folder.display(), "made a new authority for this fleet: back this folder up, and keep it secret");
    }
    let authority = read(&folder, trust_domain)?.1;
    let path = folder.join(SERVER_KEY);
    if !path.exists() {
        let temporary = folder.join("server-key.tmp");
        write(&temporary, &KeyPair::generate()?.serialize_pem())?;
        fs::rename(&temporary, &path).map_err(file_error(&path))?;
        sync(&folder)?;
    }
    Ok(Opened { authority, server_key: key(&path)?, folder })
}

/// Makes the next authority, has it certified by the one before, and gives up the key of that one. Returns its number. It issues from
/// the next start of the service on.
///
/// # Errors
/// One variant of [`AuthorityError`] per cause; then nothing has changed, or all of it.
pub fn rotate(data_dir: &Path, now: UnixMillis) -> Result<u32, AuthorityError> {
    let random = super::random::random;
    let folder = data_dir.join(FOLDER);
    let missing = || AuthorityError::Missing { path: folder.clone() };
    if !folder.is_dir() {
        return Err(missing());
    }
    let newest = *numbers(&folder)?.last().ok_or_else(missing)?;
    // Its trust domain has no part in what it signs here.
    let (_, before) = read(&folder, "")?;
    let key = KeyPair::generate()?;
    let certificate = root(&key, now, serial(random)?)?;
    let cross = before.certify_successor(&key, Term::new(now, ROOT_LIFETIME), serial(random)?)?;
    let number = newest.saturating_add(1);
    let files = [("ca.pem", certificate.pem()), ("key.pem", key.serialize_pem()), ("cross.pem", cross.pem())];
    publish(&folder, number, &files)?;
    let spent = folder.join(newest.to_string()).join("key.pem");
    fs::remove_file(&spent).map_err(file_error(&spent))?;
    Ok(number)
}

/// The newest authority and its number.
fn read(folder: &Path, trust_domain: &str) -> Result<(u32, Authority), AuthorityError> {
    let numbers = numbers(folder)?;
    let mut newest_first = numbers.iter().rev();
    let number = *newest_first.next().ok_or_else(|| AuthorityError::Missing { path: folder.to_owned() })?;
    let newest = folder.join(number.to_string());
    let older = match newest_first.next() {
        None => None,
        Some(number) => {
            let cross = newest.join("cross.pem");
            let cross = if cross.exists() { Some(certificate(&cross)?) } else { None };
            Some(Older { certificate: certificate(&folder.join(number.to_string()).join("ca.pem"))?, cross })
        }
    };
    let key = key(&newest.join("key.pem"))?;
    Ok((number, Authority::new(key, certificate(&newest.join("ca.pem"))?, older, trust_domain)))
}

/// The numbers of the authorities, in order.
fn numbers(folder: &Path) -> Result<Vec<u32>, AuthorityError> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(folder).map_err(file_error(folder))? {
        let entry = entry.map_err(file_error(folder))?;
        numbers.extend(entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// Fills a folder under another name and renames it. Everything belongs to whoever the data folder belongs to, so that an operator
/// may do this as root for a service that is not.
fn publish(folder: &Path, number: u32, files: &[(&str, String)]) -> Result<(), AuthorityError> {
    let (unfinished, finished) = (folder.join(UNFINISHED), folder.join(number.to_string()));
    if unfinished.exists() {
        fs::remove_dir_all(&unfinished).map_err(file_error(&unfinished))?;
    }
    create_folder(&unfinished)?;
    give_to_owner_of(folder, &unfinished)?;
    for (name, text) in files {
        let path = unfinished.join(name);
        write(&path, text)?;
        give_to_owner_of(folder, &path)?;
    }
    sync(&unfinished)?;
    fs::rename(&unfinished, &finished).map_err(file_error(&finished))?;
    sync(folder)
}

pub(super) fn give_to_owner_of(folder: &Path, path: &Path) -> Result<(), AuthorityError> {
    let owner = fs::metadata(folder).map_err(file_error(folder))?;
    let own = fs::metadata(path).map_err(file_error(path))?;
    if (own.uid(), own.gid()) == (owner.uid(), owner.gid()) {
        return Ok(());
    }
    chown(path, Some(owner.uid()), Some(owner.gid())).map_err(file_error(path))
}

fn create_folder(path: &Path) -> Result<(), AuthorityError> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(file_error(path))
}

/// Writes a new file that nobody else can read, durably.
pub(super) fn write(path: &Path, text: &str) -> Result<(), AuthorityError> {
    let write = || {
        match fs::remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    };
    write().map_err(file_error(path))
}

pub(super) fn sync(folder: &Path) -> Result<(), AuthorityError> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(file_error(folder))
}

fn file_error(path: &Path) -> impl Fn(std::io::Error) -> AuthorityError {
    let path = path.to_owned();
    move |source| AuthorityError::File { path: path.clone(), source }
}

fn key(path: &Path) -> Result<KeyPair, AuthorityError> {
    let text = String::from_utf8_lossy(&private_text(path)?).into_owned();
    KeyPair::from_pem(&text).map_err(|source| AuthorityError::Key { path: path.to_owned(), source })
}

fn certificate(path: &Path) -> Result<CertificateDer<'static>, AuthorityError> {
    let text = fs::read(path).map_err(file_error(path))?;
    CertificateDer::from_pem_slice(&text)
        .map_err(|source| CredentialsError::Pem { path: path.to_owned(), source }.into())
}

fn serial(random: fn() -> Option<[u8; 16]>) -> Result<Serial, AuthorityError> {
    random().ok_or(AuthorityError::Random)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

    fn open_in(folder: &Path) -> Opened {
        open(folder, "acme", NOW, || Some([7; 16])).expect("opens")
    }

    fn trusted(opened: &Opened) -> Vec<CertificateDer<'static>> {
        opened.authority.trusted().cloned().collect()
    }

    #[test]
    fn the_first_start_makes_an_authority_and_every_later_one_takes_it_up() {
        let folder = tempfile::tempdir().expect("folder");
        let first = open_in(folder.path());
        let again = open_in(folder.path());
        assert_eq!(first.authority.fingerprint(), again.authority.fingerprint());
        assert_eq!(first.server_key.public_key_raw(), again.server_key.public_key_raw());
        assert_eq!(trusted(&again).len(), 1);
    }

    #[test]
    fn nobody_else_can_read_any_of_it_and_a_key_that_others_could_read_is_refused() {
        let folder = tempfile::tempdir().expect("folder");
        drop(open_in(folder.path()));
        rotate(folder.path(), NOW).expect("rotates");
        let authority = folder.path().join(FOLDER);
        let mut folders = vec![authority.clone()];
        let mut files = 0;
        while let Some(next) = folders.pop() {
            assert_eq!(fs::metadata(&next).expect("there").permissions().mode() & 0o777, 0o700, "{}", next.display());
            for entry in fs::read_dir(&next).expect("listed").map(|entry| entry.expect("listed").path()) {
                if entry.is_dir() {
                    folders.push(entry);
                } else {
                    let mode = fs::metadata(&entry).expect("there").permissions().mode() & 0o777;
                    assert_eq!(mode, 0o600, "{}", entry.display());
                    files += 1;
                }
            }
        }
        assert_eq!(files, 5, "the server's key, the old certificate, and three of the new authority");
        let key = authority.join("2/key.pem");
        fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).expect("opened");
        let error = open(folder.path(), "acme", NOW, || Some([7; 16])).expect_err("readable by others");
        assert!(matches!(error, AuthorityError::Content(CredentialsError::Permissions { mode: 0o644, .. })), "{error}");
    }

    #[test]
    fn a_rotation_issues_from_the_newer_trusts_both_and_gives_up_the_old_key() {
        let folder = tempfile::tempdir().expect("folder");
        assert!(matches!(rotate(folder.path(), NOW), Err(AuthorityError::Missing { .. })));
        let first = open_in(folder.path());
        assert_eq!(rotate(folder.path(), NOW).expect("rotates"), 2);
        let second = open_in(folder.path());
        assert_ne!(first.authority.fingerprint(), second.authority.fingerprint());
        let both = trusted(&second);
        assert_eq!(both.len(), 2);
        assert_eq!(both[1], trusted(&first)[0], "the one before is still trusted");
        assert!(!folder.path().join(FOLDER).join("1/key.pem").exists());
        assert_eq!(rotate(folder.path(), NOW).expect("rotates"), 3);
        let third = trusted(&open_in(folder.path()));
        assert_eq!(third.len(), 2);
        assert_eq!(third[1], both[0]);
    }

    #[test]
    fn an_authority_that_was_not_finished_is_none() {
        let folder = tempfile::tempdir().expect("folder");
        let unfinished = folder.path().join(FOLDER).join(UNFINISHED);
        create_folder(&unfinished).expect("created");
        write(&unfinished.join("ca.pem"), "half").expect("written");
        let opened = open_in(folder.path());
        assert_eq!(trusted(&opened).len(), 1);
        assert!(!unfinished.exists());
    }
}
