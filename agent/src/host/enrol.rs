//! Enrolment: a token in, an identity out.

use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, UNIX_EPOCH};

use driftglass_protocol::id::DeviceId;
use driftglass_protocol::identity::{Enrol, Token};
use driftglass_protocol::limit::CERTIFICATE_BYTES;
use driftglass_protocol::unit::UnixMillis;
use driftglass_protocol::wire::FrameError;
use rcgen::KeyPair;
use rustls::time_provider::TimeProvider;
use thiserror::Error;

use super::identity::{FOLDER, IdentityError, request};
use super::run::{target, vault};
use crate::config::Config;
use crate::uplink::renewal::{AskError, Certified, ask};
use crate::uplink::{ConnectError, Target, connect_to_enrol};

/// Addresses of a name that are tried before giving up.
const ADDRESSES: usize = 2;

/// Why there is no identity.
#[derive(Debug, Error)]
pub enum EnrolError {
    /// The aggregator cannot be reached, or is not the one that made the token.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// It gave no certificate.
    #[error(transparent)]
    Ask(#[from] AskError),
    /// The identity cannot be kept.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The request does not fit a message.
    #[error("the request does not fit a message: {0}")]
    Frame(#[from] FrameError),
    /// No thread or socket.
    #[error("the system refuses: {0}")]
    System(#[from] std::io::Error),
}

/// What was obtained.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Enrolled {
    /// Who this device is.
    pub device: DeviceId,
    /// When the first certificate expires; it is renewed long before.
    pub expires_at: Option<UnixMillis>,
    /// Where the identity is kept.
    pub folder: PathBuf,
}

impl fmt::Display for Enrolled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "enrolled as {}; identity in {}", self.device, self.folder.display())?;
        match self.expires_at.and_then(|at| u64::try_from(at.0).ok()) {
            Some(millis) => {
                let at = humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_millis(millis));
                write!(f, "; renewed by itself before {at}")
            }
            None => Ok(()),
        }
    }
}

/// Makes a key, has it certified, and keeps both.
///
/// # Errors
/// One variant of [`EnrolError`] per cause; the identity before it is then still there.
pub fn enrol(config: &Config, token: &Token) -> Result<Enrolled, EnrolError> {
    let vault = vault(config);
    let folder = config.state_dir().join(FOLDER);
    let key = vault.pending_key(KeyPair::generate)?;
    let request = request(&folder, &key)?;
    let mut frame = vec![0; CERTIFICATE_BYTES + 512];
    let enrol = Enrol { device: config.device().clone(), secret: token.secret, request: &request };
    let length = enrol.write(&mut frame)?;
    // Whatever name the configuration insists on later: at first contact it is the token that says who the aggregator is.
    let target = Target { trust_domain: Some(config.trust_domain().into()), ..target(config) };
    let time: std::sync::Arc<dyn TimeProvider> = vault.floor();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let frame = frame.get(..length).unwrap_or_default();
    let certified = runtime.block_on(exchange(token.fingerprint, &target, &time, frame))?;
    let expires_at = vault.enrol(&key, &certified)?;
    Ok(Enrolled { device: config.device().clone(), expires_at, folder })
}

async fn exchange(
    fingerprint: [u8; 32],
    target: &Target,
    time: &std::sync::Arc<dyn TimeProvider>,
    frame: &[u8],
) -> Result<Certified, EnrolError> {
    let mut attempt = 0;
    let link = loop {
        match connect_to_enrol(fingerprint, target, time, attempt).await {
            Ok(link) => break link,
            // Another of its addresses may be reachable; an answer, even a bad one, is final.
            Err(error) if error.is_silence() && attempt + 1 < ADDRESSES => {
                tracing::warn!(%error, "trying again");
                attempt += 1;
            }
            Err(error) => return Err(error.into()),
        }
    };
    let certified = ask(&link, frame).await;
    link.close().await;
    Ok(certified?)
}
