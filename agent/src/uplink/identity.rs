//! What keeps the device's identity good while it delivers: renewal in time, renewal of what has expired, and taking up what somebody
//! has enrolled anew.
//!
//! Must hold: nothing here ends the uplink; what cannot be mended now is tried again, with a pause between.

use std::sync::atomic::Ordering;
use std::time::Duration;

use driftglass_protocol::identity::{DenyReason, Renew};
use driftglass_protocol::limit::CERTIFICATE_BYTES;
use driftglass_protocol::session::RefuseReason;
use thiserror::Error;

use super::Counters;
use super::connect::{ConnectError, Connector};
use super::link::{Link, Transport};
use super::renewal::{AskError, Keeper, ask, due, pause};

/// Least wait after the aggregator has said that it does not know this device, or knows it no more.
const OUTCAST_WAIT: Duration = Duration::from_secs(600);
/// How often a device that is not known looks whether it has been enrolled again.
const OUTCAST_LOOK: Duration = Duration::from_secs(2);
/// Longest uninterrupted wait for the day of renewal: a clock may be set meanwhile.
const RENEWAL_LOOK_MS: i64 = 3_600_000;

/// Waits until the certificate is to be renewed, and renews it: over the live connection where that carries more than one stream,
/// otherwise over one of its own. Returns after every attempt.
pub(super) async fn renew_in_time(
    connector: &mut Connector,
    link: &Link,
    random: u64,
    keeper: Option<&dyn Keeper>,
    counters: &Counters,
) {
    let (Some(keeper), Some(validity)) = (keeper, connector.validity()) else { return std::future::pending().await };
    let due = due(validity, random);
    let pause = pause(validity);
    // However wrong a clock is, there is a pause between two attempts.
    let mut left = i64::try_from(pause.as_millis()).unwrap_or(i64::MAX);
    while left > 0 {
        tokio::time::sleep(Duration::from_millis(left.min(RENEWAL_LOOK_MS).unsigned_abs())).await;
        left = due.0.saturating_sub(keeper.now().0);
    }
    let renewed = match link.transport() {
        Transport::Quic => renew(connector, link, keeper, counters).await,
        Transport::Tcp => renew_apart(connector, keeper, counters).await,
    };
    match renewed {
        Ok(()) => {}
        Err(RenewError::Ask(AskError::Denied(DenyReason::Unsupported))) => {
            tracing::debug!("this aggregator issues no certificates; whoever runs the authority renews this one");
            std::future::pending().await
        }
        Err(error) => tracing::warn!(%error, "the certificate could not be renewed; it will be tried again"),
    }
}

/// Does what can be done about a refusal that concerns the identity; true where another attempt may begin at once.
pub(super) async fn heal(
    reason: RefuseReason,
    connector: &mut Connector,
    keeper: Option<&dyn Keeper>,
    counters: &Counters,
) -> bool {
    match reason {
        RefuseReason::Expired => renew_expired(connector, keeper, counters).await,
        RefuseReason::Revoked | RefuseReason::Unregistered => enrolled_again(connector, keeper, counters).await,
        _ => false,
    }
}

/// Renews an expired certificate over a connection of its own; false where that failed.
async fn renew_expired(connector: &mut Connector, keeper: Option<&dyn Keeper>, counters: &Counters) -> bool {
    let Some(keeper) = keeper else { return false };
    let renewed = renew_apart(connector, keeper, counters).await;
    if let Err(error) = &renewed {
        tracing::error!(%error, "the expired certificate could not be renewed");
    }
    renewed.is_ok()
}

/// Renews over a connection that is good for nothing else.
async fn renew_apart(connector: &mut Connector, keeper: &dyn Keeper, counters: &Counters) -> Result<(), RenewError> {
    let link = connector.connect_to_renew().await?;
    let renewed = renew(connector, &link, keeper, counters).await;
    link.close().await;
    renewed
}

/// Why a certificate was not renewed.
#[derive(Debug, Error)]
enum RenewError {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error(transparent)]
    Ask(#[from] AskError),
    #[error("{0}")]
    Keeper(String),
}

async fn renew(
    connector: &mut Connector,
    link: &Link,
    keeper: &dyn Keeper,
    counters: &Counters,
) -> Result<(), RenewError> {
    let request = keeper.request().map_err(RenewError::Keeper)?;
    let mut frame = vec![0; CERTIFICATE_BYTES + 64];
    let length = Renew { request: &request }.write(&mut frame).map_err(AskError::from)?;
    let certified = ask(link, frame.get(..length).unwrap_or_default()).await?;
    let credentials = keeper.install(&certified).map_err(RenewError::Keeper)?;
    connector.replace(credentials)?;
    counters.renewed.fetch_add(1, Ordering::Relaxed);
    show_expiry(connector, counters);
    tracing::info!("the certificate was renewed");
    Ok(())
}

/// Waits for a while, looking whether the device has been enrolled again; true where it has.
async fn enrolled_again(connector: &mut Connector, keeper: Option<&dyn Keeper>, counters: &Counters) -> bool {
    let looks = OUTCAST_WAIT.as_secs() / OUTCAST_LOOK.as_secs();
    for _ in 0..looks {
        tokio::time::sleep(OUTCAST_LOOK).await;
        if take_up(connector, keeper, counters) {
            return true;
        }
    }
    false
}

/// Takes up the identity on disk where it is another one than that in use.
pub(super) fn take_up(connector: &mut Connector, keeper: Option<&dyn Keeper>, counters: &Counters) -> bool {
    // While the files are being replaced they may not fit each other; the next look finds them whole.
    let Some(Ok(credentials)) = keeper.map(Keeper::load) else { return false };
    if connector.uses(&credentials) || connector.replace(credentials).is_err() {
        return false;
    }
    tracing::info!("the device has been enrolled again");
    show_expiry(connector, counters);
    true
}

/// Shows in the metrics when the certificate expires.
pub(super) fn show_expiry(connector: &Connector, counters: &Counters) {
    let expires = connector.validity().map_or(0, |validity| validity.not_after.0 / 1000);
    counters.certificate_expires.store(expires, Ordering::Relaxed);
}
