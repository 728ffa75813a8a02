//! Bringing a backup back.
//!
//! Everything is unpacked, checked and led to the newest version in a folder of its own; then what is there is moved aside and the
//! new takes its place. A mark on the disk says that this exchange has begun: a service started in the middle of it would take the
//! place of the database for empty, so it refuses to ([`refuse_unfinished`]), and the same command again completes it.
//!
//! Must hold: what is there is touched only after the whole backup was found good, and is kept aside, never deleted; no aggregator
//! runs on the folder meanwhile (its lock is held).
//!
//! Marks of devices go back to what they were. Agents have forgotten what was acknowledged since, and send tombstones for it.
//! Tokens that nobody had redeemed are void afterwards: the backup does not know which have been redeemed since.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{BufReader, BufWriter};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, chown};
use std::path::{Path, PathBuf};

use driftglass_protocol::unit::UnixMillis;

use super::access;
use super::backup::{BackupError, Overwrite, Progress, file_error, sync_folder};
use crate::backup::{ACCESS_TOKENS, DATABASE, Entry, KEY_FOLDERS, Manifest, Reader};
use crate::store::embedded::{EmbeddedStore, FolderLock, snapshot};

/// Where a backup is unpacked.
const UNPACKED: &str = "restore.unpacked";
/// Says that the exchange has begun.
const BEGUN: &str = "restore.begun";

/// What was restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// What the backup says of itself.
    pub manifest: Manifest,
    /// Where what was there before is kept, where there was anything.
    pub aside: Option<PathBuf>,
    /// Tokens that are void now.
    pub void_tokens: usize,
}

/// Restores `file` into a data folder, which is created where it is missing.
///
/// # Errors
/// One variant of [`BackupError`] per cause. Before the exchange begins, nothing has changed then; afterwards the service refuses to
/// start until the same command has succeeded.
pub fn restore(
    data_dir: &Path,
    file: &Path,
    overwrite: Overwrite,
    now: UnixMillis,
    progress: Progress<'_>,
) -> Result<Restored, BackupError> {
    create_folder(data_dir)?;
    let _lock = FolderLock::take(data_dir)?;
    let (begun, unpacked) = (data_dir.join(BEGUN), data_dir.join(UNPACKED));
    let occupied = [DATABASE, ACCESS_TOKENS].iter().chain(&KEY_FOLDERS).any(|name| data_dir.join(name).exists());
    if occupied && overwrite == Overwrite::Refused && !begun.exists() {
        return Err(BackupError::Occupied { path: data_dir.to_owned() });
    }
    if unpacked.exists() {
        fs::remove_dir_all(&unpacked).map_err(file_error(&unpacked))?;
    }
    let prepared = unpack(file, &unpacked, progress).and_then(|manifest| {
        progress("checking the database", 0, 0);
        snapshot::check(&unpacked.join(DATABASE))?;
        // Leads it to the newest version.
        let void_tokens = EmbeddedStore::open(&unpacked)?.void_tokens(now)?;
        Ok((manifest, void_tokens))
    });
    let (manifest, void_tokens) = prepared.inspect_err(|_| drop(fs::remove_dir_all(&unpacked)))?;
    give_to_owner_of(data_dir, &unpacked)?;
    sync_tree(&unpacked)?;

    // Without keys in the backup, those that are there stay; so does the list of access tokens.
    let mut others = if manifest.keys { KEY_FOLDERS.to_vec() } else { Vec::new() };
    let list = unpacked.join(ACCESS_TOKENS).exists().then(|| access::hold(data_dir)).transpose()?;
    others.extend(list.as_ref().map(|_| ACCESS_TOKENS));

    File::create(&begun).and_then(|mark| mark.sync_all()).map_err(file_error(&begun))?;
    sync_folder(data_dir)?;
    let [log, shared] = ["-wal", "-shm"].map(|suffix| format!("{DATABASE}{suffix}"));
    let aside = unused(&data_dir.join(format!("replaced-{}", now.0.div_euclid(1000))));
    let mut moved = false;
    for name in [log.as_str(), shared.as_str(), DATABASE].iter().chain(&others) {
        let path = data_dir.join(name);
        if path.exists() {
            create_folder(&aside)?;
            fs::rename(&path, aside.join(name)).map_err(file_error(&path))?;
            moved = true;
        }
    }
    for name in others.iter().chain(&[DATABASE]) {
        let path = unpacked.join(name);
        if path.exists() {
            fs::rename(&path, data_dir.join(name)).map_err(file_error(&path))?;
        }
    }
    if moved {
        give_to_owner_of(data_dir, &aside)?;
        sync_folder(&aside)?;
    }
    sync_folder(data_dir)?;
    fs::remove_file(&begun).map_err(file_error(&begun))?;
    fs::remove_dir_all(&unpacked).map_err(file_error(&unpacked))?;
    sync_folder(data_dir)?;
    Ok(Restored { manifest, aside: moved.then_some(aside), void_tokens })
}

/// This path, or the first one like it at which there is nothing: what was kept aside earlier stays too.
fn unused(path: &Path) -> PathBuf {
    let numbered = (2..1_000).map(|number| {
        let mut name = path.as_os_str().to_owned();
        name.push(format!("-{number}"));
        PathBuf::from(name)
    });
    std::iter::once(path.to_owned()).chain(numbered).find(|path| !path.exists()).unwrap_or_else(|| path.to_owned())
}

/// Refuses to use a data folder in which a restore has begun and not ended.
pub(super) fn refuse_unfinished(data_dir: &Path) -> std::io::Result<()> {
    if data_dir.join(BEGUN).exists() {
        return Err(std::io::Error::other(
            "a restore did not come to its end here: run driftglass-aggregator restore again with the same backup",
        ));
    }
    Ok(())
}

fn unpack(file: &Path, to: &Path, progress: Progress<'_>) -> Result<Manifest, BackupError> {
    let format = |source| BackupError::Format { path: file.to_owned(), source };
    let content = File::open(file).map_err(file_error(file))?;
    let (mut reader, manifest) = Reader::open(BufReader::new(content)).map_err(format)?;
    let known = EmbeddedStore::newest_version();
    if manifest.schema > known {
        let (release, found) = (manifest.release, manifest.schema);
        return Err(BackupError::Newer { path: file.to_owned(), release, found, known });
    }
    create_folder(to)?;
    while let Some(Entry { name, length }) = reader.next_file().map_err(format)? {
        let path = to.join(&name);
        create_folder(path.parent().unwrap_or(to))?;
        let out = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).map_err(file_error(&path))?;
        let mut out = BufWriter::new(out);
        reader
            .copy(&mut out, &mut |done| {
                if name == DATABASE {
                    progress("reading the backup", done, length);
                }
            })
            .map_err(format)?;
        out.into_inner().map_err(|error| file_error(&path)(error.into_error()))?;
    }
    reader.finish().map_err(format)?;
    if !to.join(DATABASE).exists() {
        let source = crate::backup::FormatError::Content("there is no database in it".into());
        return Err(BackupError::Format { path: file.to_owned(), source });
    }
    Ok(manifest)
}

fn create_folder(path: &Path) -> Result<(), BackupError> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(file_error(path))
}

/// Everything below `path`, itself included, belongs to whoever the data folder belongs to: an operator may do this as root for a
/// service that is not.
fn give_to_owner_of(data_dir: &Path, path: &Path) -> Result<(), BackupError> {
    let owner = fs::metadata(data_dir).map_err(file_error(data_dir))?;
    each(path, &mut |path| {
        let own = fs::symlink_metadata(path).map_err(file_error(path))?;
        if (own.uid(), own.gid()) == (owner.uid(), owner.gid()) {
            return Ok(());
        }
        chown(path, Some(owner.uid()), Some(owner.gid())).map_err(file_error(path))
    })
}

fn sync_tree(path: &Path) -> Result<(), BackupError> {
    each(path, &mut |path| File::open(path).and_then(|file| file.sync_all()).map_err(file_error(path)))
}

/// What lies in a folder first, then the folder itself.
fn each(path: &Path, work: &mut dyn FnMut(&Path) -> Result<(), BackupError>) -> Result<(), BackupError> {
    if path.symlink_metadata().map_err(file_error(path))?.is_dir() {
        for entry in fs::read_dir(path).map_err(file_error(path))? {
            each(&entry.map_err(file_error(path))?.path(), work)?;
        }
    }
    work(path)
}

#[cfg(test)]
mod tests {
    use driftglass_protocol::id::{DeviceId, Name};

    use super::super::backup::{Keys, back_up};
    use super::*;
    use crate::access::Role;
    use crate::backup::FormatError;
    use crate::store::{Batch, Registry, Store, StoreError};

    const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

    fn device(name: &str) -> DeviceId {
        DeviceId { site: Name::parse("site").expect("name"), device: Name::parse(name).expect("name") }
    }

    fn register(folder: &Path, name: &str) {
        let mut store = EmbeddedStore::open(folder).expect("opens");
        let mut batch = store.begin().expect("begins");
        batch.register(&device(name), NOW).expect("written");
        batch.insert_token(&[7; 32], &device(name), UnixMillis(NOW.0 + 50_000), NOW).ok();
        batch.commit().expect("commits");
    }

    fn knows(folder: &Path, name: &str) -> bool {
        let mut store = EmbeddedStore::open(folder).expect("opens");
        store.begin().expect("begins").knows(&device(name)).expect("read")
    }

    /// A fleet with the device `before` and a key, and its backup.
    fn backed_up(keys: Keys) -> (tempfile::TempDir, PathBuf) {
        let root = tempfile::tempdir().expect("folder");
        let data = root.path().join("data");
        create_folder(&data.join("authority/1")).expect("made");
        fs::write(data.join("authority/1/key.pem"), "the old key").expect("written");
        register(&data, "before");
        let file = root.path().join("fleet.backup");
        back_up(&data, &file, keys, Overwrite::Refused, NOW, &mut |_, _, _| {}).expect("backed up");
        (root, file)
    }

    fn bring_back(data: &Path, file: &Path, overwrite: Overwrite) -> Result<Restored, BackupError> {
        restore(data, file, overwrite, NOW, &mut |_, _, _| {})
    }

    #[test]
    fn an_empty_machine_becomes_what_was_backed_up() {
        let (root, file) = backed_up(Keys::With);
        let data = root.path().join("elsewhere");
        let restored = bring_back(&data, &file, Overwrite::Refused).expect("restored");
        assert_eq!((restored.aside, restored.void_tokens), (None, 1));
        assert!(knows(&data, "before"));
        assert_eq!(fs::read_to_string(data.join("authority/1/key.pem")).expect("there"), "the old key");
        let mut left: Vec<_> = fs::read_dir(&data)
            .expect("listed")
            .map(|entry| entry.expect("listed").file_name().into_string().expect("UTF-8"))
            .collect();
        left.sort();
        assert_eq!(left, ["authority", DATABASE, "driftglass.lock"]);
        refuse_unfinished(&data).expect("finished");
    }

    #[test]
    fn what_is_there_is_refused_or_moved_aside_and_never_lost() {
        let (root, file) = backed_up(Keys::With);
        let data = root.path().join("data");
        register(&data, "after");
        fs::write(data.join("authority/1/key.pem"), "the new key").expect("written");
        let refused = bring_back(&data, &file, Overwrite::Refused);
        assert!(matches!(refused, Err(BackupError::Occupied { .. })), "{refused:?}");
        assert!(knows(&data, "after"));

        let aside = bring_back(&data, &file, Overwrite::Allowed).expect("restored").aside.expect("something was there");
        assert!(knows(&data, "before") && !knows(&data, "after"));
        assert!(knows(&aside, "after"));
        assert_eq!(fs::read_to_string(aside.join("authority/1/key.pem")).expect("there"), "the new key");
    }

    #[test]
    fn access_tokens_come_back_and_an_older_backup_leaves_those_that_are_there() {
        let (root, _) = backed_up(Keys::With);
        let data = root.path().join("data");
        let name = |text| Name::parse(text).expect("name");
        let make = |holder| access::create(&data, &name(holder), Role::Viewer, None, NOW).expect("made");
        let before = make("before");
        let file = root.path().join("with-tokens.backup");
        back_up(&data, &file, Keys::With, Overwrite::Refused, NOW, &mut |_, _, _| {}).expect("backed up");
        let after = make("after");

        let aside = bring_back(&data, &file, Overwrite::Allowed).expect("restored").aside.expect("something was there");
        let known = |folder: &Path, token| access::read(folder).expect("a private list").find(token, NOW).is_ok();
        assert!(known(&data, &before) && !known(&data, &after));
        assert!(known(&aside, &after));
        let new = root.path().join("new");
        bring_back(&new, &file, Overwrite::Refused).expect("restored");
        assert!(known(&new, &before));

        // As the first format had it: without the list.
        let (_old, file) = backed_up(Keys::With);
        let mut bytes = fs::read(&file).expect("read");
        bytes[8] = 1;
        let end = bytes.len() - 32;
        let checksum = ring::digest::digest(&ring::digest::SHA256, &bytes[..end]);
        bytes[end..].copy_from_slice(checksum.as_ref());
        fs::write(&file, bytes).expect("written");
        bring_back(&data, &file, Overwrite::Allowed).expect("restored");
        assert!(known(&data, &before));

        // A list alone is something already.
        let listed = root.path().join("listed");
        create_folder(&listed).expect("made");
        access::create(&listed, &name("first"), Role::Admin, None, NOW).expect("made");
        let refused = bring_back(&listed, &file, Overwrite::Refused);
        assert!(matches!(refused, Err(BackupError::Occupied { .. })), "{refused:?}");
    }

    #[test]
    fn a_backup_without_keys_leaves_those_that_are_there() {
        let (root, file) = backed_up(Keys::Without);
        let data = root.path().join("data");
        fs::write(data.join("authority/1/key.pem"), "the new key").expect("written");
        bring_back(&data, &file, Overwrite::Allowed).expect("restored");
        assert_eq!(fs::read_to_string(data.join("authority/1/key.pem")).expect("there"), "the new key");
    }

    #[test]
    fn a_running_aggregator_a_damaged_backup_and_a_newer_one_change_nothing() {
        let (root, file) = backed_up(Keys::With);
        let data = root.path().join("data");
        register(&data, "after");
        let running = EmbeddedStore::open(&data).expect("opens");
        let refused = bring_back(&data, &file, Overwrite::Allowed);
        assert!(matches!(refused, Err(BackupError::Store(StoreError::InUse { .. }))), "{refused:?}");
        drop(running);

        let whole = fs::read(&file).expect("read");
        let mut flipped = whole.clone();
        let middle = flipped.len() / 2;
        flipped[middle] ^= 1;
        let newer = String::from_utf8_lossy(&whole[..200]).find("\"schema\":").expect("in the manifest") + 9;
        let mut newer_bytes = whole.clone();
        newer_bytes[newer] = b'9';
        let other = root.path().join("other");
        for (bytes, expected) in [
            (&flipped[..], "the checksum differs"),
            (&whole[..whole.len() - 1], "not complete"),
            (b"something else", "not a driftglass backup"),
            (&newer_bytes, "version 9"),
        ] {
            fs::write(&other, bytes).expect("written");
            let error = bring_back(&data, &other, Overwrite::Allowed).expect_err(expected);
            assert!(error.to_string().contains(expected), "{error}");
            assert!(knows(&data, "after"), "{expected}");
            assert!(!data.join(UNPACKED).exists() && refuse_unfinished(&data).is_ok(), "{expected}");
        }
        let error = bring_back(&data, &root.path().join("missing"), Overwrite::Allowed);
        assert!(matches!(error, Err(BackupError::File { .. })), "{error:?}");
    }

    #[test]
    fn a_restore_that_stopped_in_the_middle_keeps_the_service_from_starting_and_is_completed_by_another() {
        let (root, file) = backed_up(Keys::With);
        let data = root.path().join("data");
        // As after a power cut between the two halves of the exchange.
        fs::write(data.join(BEGUN), b"").expect("written");
        fs::create_dir(data.join(UNPACKED)).expect("made");
        fs::remove_file(data.join(DATABASE)).expect("removed");
        let error = refuse_unfinished(&data).expect_err("unfinished");
        assert!(error.to_string().contains("restore again"), "{error}");
        bring_back(&data, &file, Overwrite::Refused).expect("completed, without being asked twice");
        refuse_unfinished(&data).expect("finished");
        assert!(knows(&data, "before"));
    }

    #[test]
    fn a_backup_without_a_database_is_none() {
        let root = tempfile::tempdir().expect("folder");
        let manifest = Manifest { created_at_ms: 0, release: "1".into(), schema: 1, keys: true };
        let bytes = crate::backup::Writer::new(Vec::new(), &manifest).and_then(crate::backup::Writer::finish);
        let file = root.path().join("empty.backup");
        fs::write(&file, bytes.expect("written")).expect("written");
        let error = bring_back(&root.path().join("data"), &file, Overwrite::Refused);
        assert!(matches!(error, Err(BackupError::Format { source: FormatError::Content(_), .. })), "{error:?}");
    }
}
