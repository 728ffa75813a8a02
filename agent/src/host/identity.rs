//! The device's identity on disk: `identity/cert.pem`, `identity/key.pem`, `identity/ca.pem` in the state folder.
//!
//! Checked at start, because a wrong identity is found at once here and at the aggregator only after a round trip: the key must be
//! readable by its owner alone, and the certificate must name the configured device.
//!
//! Must hold: every file appears complete or not at all; none of them is readable by others; what was there before stays until what
//! replaces it is durable. The key never leaves this folder. Files belong to whoever the state folder belongs to, so that an operator
//! may enrol as root an agent that runs as somebody else.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use driftglass_protocol::id::{DeviceId, SpiffeError};
use driftglass_protocol::identity::certificate::validity;
use driftglass_protocol::unit::UnixMillis;
use rcgen::{CertificateParams, DistinguishedName, KeyPair, PublicKeyData};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use thiserror::Error;
use webpki::EndEntityCert;

use super::clock::Clock;
use crate::uplink::renewal::{Certified, Keeper};
use crate::uplink::{Credentials, TimeFloor};

/// The folder within the state folder.
pub const FOLDER: &str = "identity";
/// The key of an enrolment that has not been answered yet: asked again with the same key, a token is good once more.
const PENDING_KEY: &str = "enrolling-key.pem";
/// The newest time known, in the state folder.
const TIME_FILE: &str = "time-floor";
/// Time is written down once it has advanced by so much: an hour is nothing to a certificate, and spares the flash.
const TIME_STEP_MS: i64 = 3_600_000;
/// When this program was built, in seconds since 1970.
const BUILD_SECONDS: &str = env!("DRIFTGLASS_BUILD_SECONDS");

/// Why there is no usable identity.
#[derive(Debug, Error)]
pub enum IdentityError {
    /// A file cannot be read.
    #[error(
        "{path}: {source}; enrol this device (driftglass-agent enroll), or put cert.pem, key.pem (0600) and ca.pem into this folder"
    )]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file is not what its name says.
    #[error("{path}: {source}")]
    Pem {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: pem::Error,
    },
    /// A file holds nothing of what is needed.
    #[error("{path}: no certificate in it")]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// Others may read the key.
    #[error("{path} has mode {mode:04o}: others can read the key; chmod 600 it")]
    KeyMode {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The certificate is not one.
    #[error("{path}: {source}")]
    Certificate {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: webpki::Error,
    },
    /// The certificate is for another key.
    #[error("{path} is for another key than key.pem beside it: enrol the device again")]
    OtherKey {
        /// The file.
        path: PathBuf,
    },
    /// A key cannot be read, or no request can be made with it.
    #[error("{path}: {source}")]
    Key {
        /// The file.
        path: PathBuf,
        /// What the library said.
        source: rcgen::Error,
    },
    /// A file cannot be written.
    #[error("{path} cannot be written: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The certificate names nobody.
    #[error("{path} carries no URI name; spiffe://{trust_domain}/site/SITE/device/DEVICE is needed")]
    Nameless {
        /// The file.
        path: PathBuf,
        /// The trust domain configured.
        trust_domain: String,
    },
    /// The name is not a device's.
    #[error("{path} carries the name {uri}: {source} (trust domain configured: {trust_domain})")]
    Name {
        /// The file.
        path: PathBuf,
        /// The name.
        uri: String,
        /// What is wrong with it.
        source: SpiffeError,
        /// The trust domain configured.
        trust_domain: String,
    },
    /// The certificate is another device's.
    #[error(
        "{path} is the certificate of {certificate}, but the configuration says {configured}: change site and device, or take the right certificate"
    )]
    OtherDevice {
        /// The file.
        path: PathBuf,
        /// Who the certificate names.
        certificate: Box<DeviceId>,
        /// Who the configuration names.
        configured: Box<DeviceId>,
    },
}

/// Reads and checks the identity of `device`.
///
/// # Errors
/// One variant of [`IdentityError`] per cause.
pub fn load(state_dir: &Path, device: &DeviceId, trust_domain: &str) -> Result<Credentials, IdentityError> {
    let folder = state_dir.join(FOLDER);
    let certificate_path = folder.join("cert.pem");
    let chain = certificates(&certificate_path)?;
    let authorities = certificates(&folder.join("ca.pem"))?;
    let key = key(&folder.join("key.pem"))?;
    let named = certificate_device(&certificate_path, &chain, trust_domain)?;
    if named != *device {
        let (certificate, configured) = (Box::new(named), Box::new(device.clone()));
        return Err(IdentityError::OtherDevice { path: certificate_path, certificate, configured });
    }
    Ok(Credentials { chain, key, authorities })
}

/// Where the identity of a device is kept, and the time by which certificates are judged.
#[derive(Debug)]
pub struct Vault {
    state_dir: PathBuf,
    device: DeviceId,
    trust_domain: String,
    floor: Arc<TimeFloor>,
    /// The time in the file.
    noted: AtomicI64,
}

impl Vault {
    /// The vault in a state folder.
    #[must_use]
    pub fn new(state_dir: PathBuf, device: DeviceId, trust_domain: impl Into<String>, clock: Clock) -> Self {
        let built = UnixMillis(BUILD_SECONDS.parse::<i64>().unwrap_or(0).saturating_mul(1000));
        let stored = fs::read_to_string(state_dir.join(TIME_FILE)).ok();
        let stored = stored.and_then(|text| text.trim().parse().ok()).map_or(UnixMillis(0), UnixMillis);
        let floor = Arc::new(TimeFloor::new(move || clock.now(), built.max(stored)));
        Self { state_dir, device, trust_domain: trust_domain.into(), floor, noted: AtomicI64::new(stored.0) }
    }

    /// The time by which certificates are judged.
    #[must_use]
    pub fn floor(&self) -> Arc<TimeFloor> {
        Arc::clone(&self.floor)
    }

    /// The identity as it is on disk.
    ///
    /// # Errors
    /// One variant of [`IdentityError`] per cause.
    pub fn credentials(&self) -> Result<Credentials, IdentityError> {
        load(&self.state_dir, &self.device, &self.trust_domain)
    }

    /// The key to enrol with: that of an enrolment which was not answered, or a new one from `generate`. Durable when this returns.
    ///
    /// # Errors
    /// One variant of [`IdentityError`] per cause.
    pub fn pending_key(
        &self,
        generate: impl FnOnce() -> Result<KeyPair, rcgen::Error>,
    ) -> Result<KeyPair, IdentityError> {
        let folder = self.folder();
        let created = |source| IdentityError::Write { path: folder.clone(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(&self.state_dir).map_err(created)?;
        DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(created)?;
        give_to_owner_of(&self.state_dir, &folder).map_err(created)?;
        let path = folder.join(PENDING_KEY);
        if path.exists() {
            return key_pair(&path);
        }
        let key = generate().map_err(|source| IdentityError::Key { path: path.clone(), source })?;
        self.write(&path, key.serialize_pem().as_bytes())?;
        Ok(key)
    }

    /// Makes the pending key and what was issued for it the identity of the device. Returns when the certificate expires.
    ///
    /// # Errors
    /// One variant of [`IdentityError`] per cause.
    pub fn enrol(&self, key: &KeyPair, certified: &Certified) -> Result<Option<UnixMillis>, IdentityError> {
        let folder = self.folder();
        let path = folder.join("cert.pem");
        self.check(&path, key, certified)?;
        self.write(&folder.join("ca.pem"), bundle(&certified.authorities).as_bytes())?;
        let (pending, settled) = (folder.join(PENDING_KEY), folder.join("key.pem"));
        fs::rename(&pending, &settled).map_err(|source| IdentityError::Write { path: settled, source })?;
        self.write(&path, pem(&certified.certificate).as_bytes())?;
        self.learn(certified.clock);
        Ok(validity(&certified.certificate).map(|validity| validity.not_after))
    }

    fn folder(&self) -> PathBuf {
        self.state_dir.join(FOLDER)
    }

    /// A certificate that is not for this device, or not for its key, is not kept.
    fn check(&self, path: &Path, key: &KeyPair, certified: &Certified) -> Result<(), IdentityError> {
        let chain = [certified.certificate.clone()];
        let named = certificate_device(path, &chain, &self.trust_domain)?;
        if named != self.device {
            let (certificate, configured) = (Box::new(named), Box::new(self.device.clone()));
            return Err(IdentityError::OtherDevice { path: path.to_owned(), certificate, configured });
        }
        if certified.authorities.is_empty() {
            return Err(IdentityError::Empty { path: self.folder().join("ca.pem") });
        }
        let certificate = EndEntityCert::try_from(&certified.certificate)
            .map_err(|source| IdentityError::Certificate { path: path.to_owned(), source })?;
        if certificate.subject_public_key_info().as_ref() == key.subject_public_key_info() {
            Ok(())
        } else {
            Err(IdentityError::OtherKey { path: path.to_owned() })
        }
    }

    /// Writes a file that nobody else can read: complete or not at all, and durable when this returns.
    fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), IdentityError> {
        let temporary = path.with_extension("tmp");
        let write = || {
            match fs::remove_file(&temporary) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            give_to_owner_of(&self.state_dir, &temporary)?;
            fs::rename(&temporary, path)?;
            path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
        };
        write().map_err(|source| IdentityError::Write { path: path.to_owned(), source })
    }
}

impl Keeper for Vault {
    fn request(&self) -> Result<Vec<u8>, String> {
        let path = self.folder().join("key.pem");
        key_pair(&path).and_then(|key| request(&path, &key)).map_err(|error| error.to_string())
    }

    fn install(&self, certified: &Certified) -> Result<Credentials, String> {
        let folder = self.folder();
        let install = || {
            let path = folder.join("cert.pem");
            self.check(&path, &key_pair(&folder.join("key.pem"))?, certified)?;
            // First whom to trust, which includes whoever was trusted before; then what they have issued.
            self.write(&folder.join("ca.pem"), bundle(&certified.authorities).as_bytes())?;
            self.write(&path, pem(&certified.certificate).as_bytes())?;
            self.learn(certified.clock);
            self.credentials()
        };
        install().map_err(|error: IdentityError| error.to_string())
    }

    fn load(&self) -> Result<Credentials, String> {
        self.credentials().map_err(|error| error.to_string())
    }

    fn now(&self) -> UnixMillis {
        self.floor.now()
    }

    fn learn(&self, at: UnixMillis) {
        // Nobody's clock is believed beyond the life of a certificate that is in use: one that stands in the far future, once, would
        // make every certificate look expired for ever after.
        let chain = certificates(&self.folder().join("cert.pem")).unwrap_or_default();
        let Some(own) = chain.first().and_then(|leaf| validity(leaf)) else { return };
        self.floor.learn(at.min(own.not_after).max(own.not_before));
        let known = self.floor.known();
        if known.0.saturating_sub(self.noted.load(Ordering::Relaxed)) < TIME_STEP_MS {
            return;
        }
        match self.write(&self.state_dir.join(TIME_FILE), format!("{}\n", known.0).as_bytes()) {
            Ok(()) => self.noted.store(known.0, Ordering::Relaxed),
            Err(error) => tracing::warn!(%error, "the time could not be noted"),
        }
    }
}

/// A PKCS#10 request for a key. It asks for no name: the aggregator gives the one it knows.
///
/// # Errors
/// [`IdentityError::Key`] with the path given.
pub fn request(path: &Path, key: &KeyPair) -> Result<Vec<u8>, IdentityError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    let request = params.serialize_request(key);
    let request = request.map_err(|source| IdentityError::Key { path: path.to_owned(), source })?;
    Ok(request.der().to_vec())
}

fn key_pair(path: &Path) -> Result<KeyPair, IdentityError> {
    let PrivateKeyDer::Pkcs8(_) = key(path)? else {
        return Err(IdentityError::Key { path: path.to_owned(), source: rcgen::Error::CouldNotParseKeyPair });
    };
    let text = String::from_utf8_lossy(&read(path)?).into_owned();
    KeyPair::from_pem(&text).map_err(|source| IdentityError::Key { path: path.to_owned(), source })
}

fn give_to_owner_of(folder: &Path, path: &Path) -> io::Result<()> {
    let (owner, own) = (fs::metadata(folder)?, fs::metadata(path)?);
    if (own.uid(), own.gid()) == (owner.uid(), owner.gid()) {
        return Ok(());
    }
    chown(path, Some(owner.uid()), Some(owner.gid()))
}

fn bundle(certificates: &[CertificateDer<'_>]) -> String {
    certificates.iter().map(|certificate| pem(certificate)).collect()
}

/// RFC 7468.
fn pem(certificate: &CertificateDer<'_>) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::from("-----BEGIN CERTIFICATE-----\n");
    for line in certificate.chunks(48) {
        for group in line.chunks(3) {
            let byte = |index: usize| u32::from(group.get(index).copied().unwrap_or(0));
            let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
            for place in 0..4_u32 {
                let digit = usize::try_from(bits >> (18 - 6 * place) & 63).unwrap_or(0);
                let used = usize::try_from(place).is_ok_and(|place| place <= group.len());
                text.push(if used { char::from(ALPHABET[digit]) } else { '=' });
            }
        }
        text.push('\n');
    }
    text + "-----END CERTIFICATE-----\n"
}

fn certificate_device(
    path: &Path,
    chain: &[CertificateDer<'_>],
    trust_domain: &str,
) -> Result<DeviceId, IdentityError> {
    let path = path.to_path_buf();
    let Some(first) = chain.first() else { return Err(IdentityError::Empty { path }) };
    let certificate =
        EndEntityCert::try_from(first).map_err(|source| IdentityError::Certificate { path: path.clone(), source })?;
    let trust_domain = trust_domain.to_string();
    let Some(uri) = certificate.valid_uri_names().next() else {
        return Err(IdentityError::Nameless { path, trust_domain });
    };
    DeviceId::from_spiffe(uri, &trust_domain).map_err(|source| IdentityError::Name {
        path,
        uri: uri.into(),
        source,
        trust_domain,
    })
}

fn read(path: &Path) -> Result<Vec<u8>, IdentityError> {
    fs::read(path).map_err(|source| IdentityError::Read { path: path.to_path_buf(), source })
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    let bytes = read(path)?;
    let list: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let list = list.map_err(|source| IdentityError::Pem { path: path.to_path_buf(), source })?;
    if list.is_empty() { Err(IdentityError::Empty { path: path.to_path_buf() }) } else { Ok(list) }
}

fn key(path: &Path) -> Result<PrivateKeyDer<'static>, IdentityError> {
    let unreadable = |source| IdentityError::Read { path: path.to_path_buf(), source };
    let mode = fs::metadata(path).map_err(unreadable)?.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(IdentityError::KeyMode { path: path.to_path_buf(), mode });
    }
    PrivateKeyDer::from_pem_slice(&read(path)?)
        .map_err(|source| IdentityError::Pem { path: path.to_path_buf(), source })
}

#[cfg(test)]
mod tests {
    use driftglass_protocol::id::Name;

    use super::*;

    fn device(site: &str) -> DeviceId {
        DeviceId { site: Name::parse(site).expect("name"), device: Name::parse("gw").expect("name") }
    }

    fn write_identity(folder: &Path, uri: &str, mode: u32) {
        let identity = folder.join(FOLDER);
        fs::create_dir_all(&identity).expect("created");
        let mut parameters = rcgen::CertificateParams::default();
        parameters.subject_alt_names = vec![rcgen::SanType::URI(uri.try_into().expect("ascii"))];
        let key = rcgen::KeyPair::generate().expect("key");
        let certificate = parameters.self_signed(&key).expect("signed").pem();
        fs::write(identity.join("cert.pem"), &certificate).expect("written");
        fs::write(identity.join("ca.pem"), &certificate).expect("written");
        fs::write(identity.join("key.pem"), key.serialize_pem()).expect("written");
        fs::set_permissions(identity.join("key.pem"), fs::Permissions::from_mode(mode)).expect("set");
    }

    #[test]
    fn the_certificate_must_name_the_configured_device() {
        let folder = tempfile::tempdir().expect("folder");
        write_identity(folder.path(), "spiffe://driftglass.local/site/s/device/gw", 0o600);
        assert!(load(folder.path(), &device("s"), "driftglass.local").is_ok());
        let error = load(folder.path(), &device("t"), "driftglass.local").expect_err("another").to_string();
        assert!(error.contains("s/gw") && error.contains("t/gw"), "{error}");
        let error = load(folder.path(), &device("s"), "elsewhere").expect_err("another domain");
        assert!(matches!(error, IdentityError::Name { .. }), "{error}");
    }

    #[test]
    fn a_key_that_others_can_read_is_refused_and_so_is_a_missing_file() {
        let folder = tempfile::tempdir().expect("folder");
        write_identity(folder.path(), "spiffe://driftglass.local/site/s/device/gw", 0o640);
        let error = load(folder.path(), &device("s"), "driftglass.local").expect_err("readable");
        assert!(matches!(error, IdentityError::KeyMode { mode: 0o640, .. }), "{error}");
        fs::write(folder.path().join(FOLDER).join("ca.pem"), "rubbish").expect("written");
        assert!(matches!(load(folder.path(), &device("s"), "driftglass.local"), Err(IdentityError::Empty { .. })));
        fs::remove_file(folder.path().join(FOLDER).join("cert.pem")).expect("removed");
        assert!(matches!(load(folder.path(), &device("s"), "driftglass.local"), Err(IdentityError::Read { .. })));
    }

    use rcgen::{BasicConstraints, CertifiedIssuer, IsCa, SanType, date_time_ymd};

    type Authority = CertifiedIssuer<'static, KeyPair>;

    fn authority() -> Authority {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        CertifiedIssuer::self_signed(params, KeyPair::generate().expect("key")).expect("signed")
    }

    /// What an aggregator would answer: valid through the year 2040.
    fn certified(authority: &Authority, key: &KeyPair, name: &str) -> Certified {
        let mut params = CertificateParams::default();
        let uri = format!("spiffe://driftglass.local/site/s/device/{name}");
        params.subject_alt_names = vec![SanType::URI(uri.try_into().expect("ASCII"))];
        (params.not_before, params.not_after) = (date_time_ymd(2040, 1, 1), date_time_ymd(2041, 1, 1));
        let certificate = params.signed_by(key, authority).expect("signed").der().clone();
        Certified { certificate, authorities: vec![authority.der().clone()], clock: UnixMillis(2_220_000_000_000) }
    }

    fn vault(folder: &Path) -> Vault {
        Vault::new(folder.to_owned(), device("s"), "driftglass.local", Clock::default())
    }

    #[test]
    fn an_enrolment_leaves_an_identity_that_nobody_else_can_read() {
        let folder = tempfile::tempdir().expect("folder");
        let state = folder.path().join("state");
        let vault = vault(&state);
        let key = vault.pending_key(KeyPair::generate).expect("a key");
        let again = vault.pending_key(|| panic!("the key that was not answered is used again")).expect("a key");
        assert_eq!(key.public_key_raw(), again.public_key_raw());
        let certified = certified(&authority(), &key, "gw");
        let expires = vault.enrol(&key, &certified).expect("kept").expect("an end");
        assert_eq!(expires, UnixMillis(2_240_611_200_000));
        let credentials = vault.credentials().expect("whole");
        assert_eq!((credentials.chain, credentials.authorities), (vec![certified.certificate], certified.authorities));
        let mut names = Vec::new();
        for entry in fs::read_dir(state.join(FOLDER)).expect("listed").map(|entry| entry.expect("listed")) {
            assert_eq!(entry.metadata().expect("there").permissions().mode() & 0o777, 0o600, "{entry:?}");
            names.push(entry.file_name());
        }
        names.sort();
        assert_eq!(names, ["ca.pem", "cert.pem", "key.pem"]);
        assert_eq!(fs::metadata(state.join(FOLDER)).expect("there").permissions().mode() & 0o777, 0o700);
        assert!(vault.request().is_ok(), "the key makes requests for renewals");
    }

    #[test]
    fn a_certificate_for_another_device_or_key_is_not_kept() {
        let folder = tempfile::tempdir().expect("folder");
        let vault = vault(folder.path());
        let (own, authority) = (vault.pending_key(KeyPair::generate).expect("a key"), authority());
        let foreign = certified(&authority, &KeyPair::generate().expect("key"), "gw");
        assert!(matches!(vault.enrol(&own, &foreign), Err(IdentityError::OtherKey { .. })));
        let misnamed = certified(&authority, &own, "other");
        assert!(matches!(vault.enrol(&own, &misnamed), Err(IdentityError::OtherDevice { .. })));
        let nobody = Certified { authorities: vec![], ..certified(&authority, &own, "gw") };
        assert!(matches!(vault.enrol(&own, &nobody), Err(IdentityError::Empty { .. })));
        assert!(vault.credentials().is_err(), "nothing was kept");
        vault.enrol(&own, &certified(&authority, &own, "gw")).expect("kept");
        assert!(vault.install(&foreign).is_err());
        assert!(vault.install(&certified(&authority, &own, "gw")).is_ok());
    }

    #[test]
    fn time_is_remembered_across_starts_and_never_believed_beyond_the_certificate() {
        let folder = tempfile::tempdir().expect("folder");
        let first = vault(folder.path());
        let built = first.floor().known();
        assert!(built >= UnixMillis(1_780_000_000_000), "the agent knows when it was built");
        first.learn(UnixMillis(i64::MAX));
        assert!(first.floor().known().0 - built.0 < 60_000, "without a certificate nobody is believed");
        let key = first.pending_key(KeyPair::generate).expect("a key");
        first.enrol(&key, &certified(&authority(), &key, "gw")).expect("kept");
        let told = 2_220_000_000_000..2_220_000_060_000;
        assert!(told.contains(&first.floor().known().0), "what the aggregator said");
        assert!(told.contains(&vault(folder.path()).floor().known().0), "after a new start");
        first.learn(UnixMillis(i64::MAX));
        let limit = 2_240_611_200_000..2_240_611_260_000;
        assert!(limit.contains(&first.floor().known().0), "no further than the certificate");
    }

    #[test]
    fn what_is_written_as_pem_is_read_as_it_was() {
        for length in [0, 1, 2, 3, 47, 48, 49, 500] {
            let bytes: Vec<u8> = (0..length).map(|index: u32| (index * 37 % 251) as u8).collect();
            let written = pem(&CertificateDer::from(bytes.clone()));
            let read: Vec<_> =
                CertificateDer::pem_slice_iter(written.as_bytes()).map(|found| found.expect("PEM")).collect();
            assert_eq!(read, [CertificateDer::from(bytes)], "{length}");
        }
    }
}
