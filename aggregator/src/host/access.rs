//! The list of access tokens on disk: `DATA_DIR/access-tokens.json`, readable by its owner only.
//!
//! Commands change the file while the service runs; the service looks at it every few seconds. Must hold: the list is replaced whole
//! or not at all; two commands do not lose each other's change; a list that cannot be read lets nobody in that was not in before.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use driftglass_protocol::id::Name;
use driftglass_protocol::unit::UnixMillis;
use thiserror::Error;

use super::authority::{AuthorityError, give_to_owner_of, sync, write};
use super::random::random;
use crate::access::{AccessToken, Entry, Gate, ListError, Role, Tokens};
use crate::backup::ACCESS_TOKENS as FILE;

const TEMPORARY: &str = "access-tokens.tmp";
const LOCK: &str = "access-tokens.lock";
/// How often a running service looks whether the list has changed.
const LOOK: Duration = Duration::from_secs(2);

/// Why the list cannot be used.
#[derive(Debug, Error)]
pub enum AccessError {
    /// The file cannot be used.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file can be read by others.
    #[error("{path}: its permissions are {mode:03o}, others could read who may do what; allowed is 600 or stricter")]
    Permissions {
        /// The file.
        path: PathBuf,
        /// Permission bits found.
        mode: u32,
    },
    /// It is no list, or cannot be changed like that.
    #[error("{path}: {source}")]
    List {
        /// The file.
        path: PathBuf,
        /// Why.
        source: ListError,
    },
    /// The file cannot be written.
    #[error(transparent)]
    Write(#[from] AuthorityError),
    /// The system has no random numbers.
    #[error("the system gives no random numbers")]
    Random,
}

/// Makes a token and returns its text.
///
/// # Errors
/// One variant of [`AccessError`] per cause.
pub fn create(
    data_dir: &Path,
    name: &Name,
    role: Role,
    ttl: Option<Duration>,
    now: UnixMillis,
) -> Result<String, AccessError> {
    let token = AccessToken::new(random().ok_or(AccessError::Random)?);
    let lifetime = |ttl: Duration| now.0.saturating_add(i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX));
    let entry =
        Entry { name: name.clone(), role, hash: token.hash(), created_at: now.0, expires_at: ttl.map(lifetime) };
    change(data_dir, |tokens| tokens.add(entry))?;
    Ok(token.reveal())
}

/// Takes a token out of the list; returns what to tell.
///
/// # Errors
/// One variant of [`AccessError`] per cause.
pub fn revoke(data_dir: &Path, name: &Name) -> Result<String, AccessError> {
    change(data_dir, |tokens| tokens.revoke(name))?;
    Ok(format!("{name} is revoked"))
}

/// The list, for people.
///
/// # Errors
/// One variant of [`AccessError`] per cause.
pub fn list(data_dir: &Path) -> Result<String, AccessError> {
    let time = |millis: i64| {
        let since = Duration::from_millis(u64::try_from(millis).unwrap_or(0));
        UNIX_EPOCH.checked_add(since).map_or_else(String::new, |at| humantime::format_rfc3339_seconds(at).to_string())
    };
    let mut text = format!("{:<32} {:<9} {:<21} EXPIRES\n", "NAME", "ROLE", "CREATED");
    for Entry { name, role, created_at, expires_at, .. } in read(data_dir)?.entries() {
        let name = name.as_str();
        let expires = expires_at.map_or_else(|| "-".to_owned(), time);
        text.push_str(&format!("{name:<32} {:<9} {:<21} {expires}\n", role.name(), time(*created_at)));
    }
    Ok(text)
}

/// Reads the list; nobody has a token where there is none.
pub(super) fn read(data_dir: &Path) -> Result<Tokens, AccessError> {
    let path = data_dir.join(FILE);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Tokens::default()),
        Err(source) => return Err(AccessError::File { path, source }),
    };
    let metadata = fs::metadata(&path).map_err(|source| AccessError::File { path: path.clone(), source })?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(AccessError::Permissions { path, mode });
    }
    Tokens::parse(&text).map_err(|source| AccessError::List { path, source })
}

fn change(data_dir: &Path, change: impl FnOnce(&mut Tokens) -> Result<(), ListError>) -> Result<(), AccessError> {
    let _held = hold(data_dir)?;
    let mut tokens = read(data_dir)?;
    let path = data_dir.join(FILE);
    let refused = |source| AccessError::List { path: path.clone(), source };
    change(&mut tokens).map_err(refused)?;
    let temporary = data_dir.join(TEMPORARY);
    write(&temporary, &tokens.write().map_err(refused)?)?;
    give_to_owner_of(data_dir, &temporary)?;
    fs::rename(&temporary, &path).map_err(|source| AccessError::File { path: path.clone(), source })?;
    Ok(sync(data_dir)?)
}

/// Keeps every other command from changing the list until what is returned is dropped.
pub(super) fn hold(data_dir: &Path) -> Result<File, AccessError> {
    let lock = data_dir.join(LOCK);
    if !lock.exists() {
        write(&lock, "")?;
        give_to_owner_of(data_dir, &lock)?;
    }
    let held = File::open(&lock).and_then(|held| held.lock().map(|()| held));
    held.map_err(|source| AccessError::File { path: lock, source })
}

/// What tells one state of the file from another.
fn stamp(path: &Path) -> Option<(u64, i64, i64, u64)> {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.ino(), metadata.mtime(), metadata.mtime_nsec(), metadata.len()))
}

/// Hands changes of the list to the gate; never returns.
pub(super) async fn watch(gate: Arc<Gate>, data_dir: PathBuf) {
    let path = data_dir.join(FILE);
    // The list has been read a moment ago; it is read once more, lest a change between the two be missed.
    let mut seen = None;
    let mut complained = false;
    loop {
        let now = stamp(&path);
        if seen != Some(now) {
            match read(&data_dir) {
                Ok(tokens) => {
                    gate.replace(tokens);
                    (seen, complained) = (Some(now), false);
                }
                Err(error) if !complained => {
                    tracing::error!(%error, "the list of access tokens cannot be read: the one before stays in force");
                    complained = true;
                }
                Err(_) => {}
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Refusal;

    const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

    fn name(text: &str) -> Name {
        Name::parse(text).expect("name")
    }

    #[test]
    fn what_is_made_counts_until_it_is_revoked_and_the_file_is_private_and_without_secrets() {
        let folder = tempfile::tempdir().expect("folder");
        let data = folder.path();
        assert_eq!(read(data).expect("none yet"), Tokens::default());
        let token = create(data, &name("grafana"), Role::Viewer, Some(Duration::from_secs(60)), NOW).expect("made");
        create(data, &name("anna"), Role::Admin, None, NOW).expect("made");
        let found = read(data).expect("reads");
        assert_eq!(found.find(&token, NOW).map(|entry| entry.role), Ok(Role::Viewer));
        assert_eq!(found.find(&token, UnixMillis(NOW.0 + 60_000)), Err(Refusal::Expired));
        assert!(matches!(create(data, &name("anna"), Role::Admin, None, NOW), Err(AccessError::List { .. })));
        let listed = list(data).expect("listed");
        assert!(listed.contains("grafana") && listed.contains("2027-01-15T08:01:00Z") && !listed.contains(&token[5..]));
        let path = data.join(FILE);
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        assert!(!fs::read_to_string(&path).expect("text").contains(&token[5..]));
        revoke(data, &name("grafana")).expect("revoked");
        assert_eq!(read(data).expect("reads").find(&token, NOW), Err(Refusal::Unknown));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("opened");
        assert!(matches!(read(data), Err(AccessError::Permissions { mode: 0o644, .. })));
    }

    #[tokio::test(start_paused = true)]
    async fn a_running_service_learns_of_changes_and_keeps_the_list_it_has_when_the_file_is_broken() {
        let folder = tempfile::tempdir().expect("folder");
        let data = folder.path().to_owned();
        let token = create(&data, &name("anna"), Role::Viewer, None, NOW).expect("made");
        let gate = Arc::new(Gate::new(Tokens::default(), || NOW, random));
        let watching = tokio::spawn(watch(Arc::clone(&gate), data.clone()));
        tokio::time::sleep(LOOK).await;
        assert!(gate.identify(Some(&token), None).is_ok());
        fs::write(data.join(FILE), "half a li").expect("written");
        tokio::time::sleep(LOOK * 2).await;
        assert!(gate.identify(Some(&token), None).is_ok());
        fs::remove_file(data.join(FILE)).expect("removed");
        tokio::time::sleep(LOOK * 2).await;
        assert_eq!(gate.identify(Some(&token), None), Err(Refusal::Unknown));
        watching.abort();
    }
}
