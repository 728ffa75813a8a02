//! Who may have a certificate, and who may speak: decisions over what is registered, without I/O.
//!
//! Must hold: a token is redeemed once, by one key, for one device, in its time. The same key may redeem it again, so that an answer
//! that was lost can be asked for again; a stolen token is of no use to another key. What a renewal certifies is the registered key
//! and no other. A revoked key never comes back; a revoked device does with a new token and a new key.

use driftglass_protocol::id::DeviceId;
use driftglass_protocol::identity::DenyReason;
use driftglass_protocol::session::RefuseReason;
use driftglass_protocol::unit::UnixMillis;

use super::key::KeyId;

/// A token as it is stored; the secret itself is nowhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredToken {
    /// The device it is for.
    pub device: DeviceId,
    /// When its time is over.
    pub expires_at: UnixMillis,
    /// The key that has redeemed it.
    pub used_by: Option<KeyId>,
}

/// What the registry says of a device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Registered {
    /// Its key; absent where it has never enrolled here.
    pub key: Option<KeyId>,
    /// When it was revoked, where it is.
    pub revoked_at: Option<UnixMillis>,
}

/// A device that asks to be enrolled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applicant {
    /// Who it says it is.
    pub device: DeviceId,
    /// The key it has proved to hold.
    pub key: KeyId,
    /// Whether that key has been revoked, for whatever device.
    pub key_revoked: bool,
}

/// What an enrolment is to the registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Enrolment {
    /// The device had no key.
    First,
    /// It has this key already: the answer is given once more.
    Repeated,
    /// It had another key, which counts no longer.
    Replaced(KeyId),
}

/// May this applicant have a certificate for this token?
///
/// # Errors
/// Why not.
pub fn judge_enrolment(
    token: Option<&StoredToken>,
    applicant: &Applicant,
    registered: Registered,
    now: UnixMillis,
) -> Result<Enrolment, DenyReason> {
    let token = token.ok_or(DenyReason::TokenUnknown)?;
    if token.device != applicant.device {
        return Err(DenyReason::TokenDevice);
    }
    if now >= token.expires_at {
        return Err(DenyReason::TokenExpired);
    }
    if token.used_by.is_some_and(|key| key != applicant.key) {
        return Err(DenyReason::TokenUsed);
    }
    if applicant.key_revoked {
        return Err(DenyReason::Revoked);
    }
    match registered.key {
        // Spent, and then another token brought another key, or the device was revoked: this one is of the past.
        key if token.used_by.is_some() && (key != token.used_by || registered.revoked_at.is_some()) => {
            Err(DenyReason::TokenUsed)
        }
        None => Ok(Enrolment::First),
        Some(key) if key == applicant.key => Ok(Enrolment::Repeated),
        Some(key) => Ok(Enrolment::Replaced(key)),
    }
}

/// May a device whose connection was certified with `certified` have a new certificate for `requested`?
///
/// # Errors
/// Why not.
pub fn judge_renewal(registered: Registered, certified: KeyId, requested: KeyId) -> Result<(), DenyReason> {
    if registered.revoked_at.is_some() {
        return Err(DenyReason::Revoked);
    }
    if registered.key != Some(certified) {
        return Err(DenyReason::Unregistered);
    }
    if certified == requested { Ok(()) } else { Err(DenyReason::Request) }
}

/// Whose certificates devices have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Issuance {
    /// Ours: a device is who is registered, with the key it is registered with.
    Own,
    /// Somebody else's: whoever that authority certifies is a device, unless revoked here.
    Foreign,
}

/// May a device speak whose certificate, with this key, leads to a trusted authority?
///
/// # Errors
/// Why not.
pub fn judge_connection(
    issuance: Issuance,
    registered: Registered,
    key: KeyId,
    key_revoked: bool,
    expired: bool,
) -> Result<(), RefuseReason> {
    if registered.revoked_at.is_some() || key_revoked {
        return Err(RefuseReason::Revoked);
    }
    if issuance == Issuance::Own && registered.key != Some(key) {
        return Err(RefuseReason::Unregistered);
    }
    if expired { Err(RefuseReason::Expired) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use driftglass_protocol::id::Name;

    use super::*;

    const NOW: UnixMillis = UnixMillis(1_800_000_000_000);
    const A: KeyId = KeyId([1; 32]);
    const B: KeyId = KeyId([2; 32]);

    fn device(name: &str) -> DeviceId {
        DeviceId { site: Name::parse("s").expect("name"), device: Name::parse(name).expect("name") }
    }

    fn token(used_by: Option<KeyId>) -> StoredToken {
        StoredToken { device: device("gw"), expires_at: UnixMillis(NOW.0 + 1), used_by }
    }

    fn applicant(key: KeyId) -> Applicant {
        Applicant { device: device("gw"), key, key_revoked: false }
    }

    const fn registered(key: Option<KeyId>) -> Registered {
        Registered { key, revoked_at: None }
    }

    #[test]
    fn a_good_token_enrols_a_device_for_the_first_time_again_and_with_another_key() {
        let judge = |used_by, registered| judge_enrolment(Some(&token(used_by)), &applicant(A), registered, NOW);
        assert_eq!(judge(None, registered(None)), Ok(Enrolment::First));
        assert_eq!(judge(Some(A), registered(Some(A))), Ok(Enrolment::Repeated), "the answer was lost");
        assert_eq!(judge(None, registered(Some(B))), Ok(Enrolment::Replaced(B)));
        let revoked = Registered { key: Some(B), revoked_at: Some(NOW) };
        assert_eq!(judge(None, revoked), Ok(Enrolment::Replaced(B)), "a new token and a new key bring it back");
    }

    #[test]
    fn every_other_token_is_refused_with_its_cause() {
        let none = registered(None);
        let judge = |token: &StoredToken, applicant: &Applicant| judge_enrolment(Some(token), applicant, none, NOW);
        assert_eq!(judge_enrolment(None, &applicant(A), none, NOW), Err(DenyReason::TokenUnknown));
        let other = Applicant { device: device("other"), ..applicant(A) };
        assert_eq!(judge(&token(None), &other), Err(DenyReason::TokenDevice));
        let over = StoredToken { expires_at: NOW, ..token(None) };
        assert_eq!(judge(&over, &applicant(A)), Err(DenyReason::TokenExpired));
        assert_eq!(judge(&token(Some(B)), &applicant(A)), Err(DenyReason::TokenUsed));
        let judged = judge_enrolment(Some(&token(Some(B))), &applicant(A), registered(Some(B)), NOW);
        assert_eq!(judged, Err(DenyReason::TokenUsed), "a thief comes after the device");
        let revoked = Applicant { key_revoked: true, ..applicant(A) };
        assert_eq!(judge(&token(None), &revoked), Err(DenyReason::Revoked));
    }

    #[test]
    fn a_spent_token_does_not_undo_what_came_after_it() {
        let judge = |registered| judge_enrolment(Some(&token(Some(A))), &applicant(A), registered, NOW);
        assert_eq!(judge(registered(Some(B))), Err(DenyReason::TokenUsed), "another token has brought another key");
        let revoked = Registered { key: Some(A), revoked_at: Some(NOW) };
        assert_eq!(judge(revoked), Err(DenyReason::TokenUsed));
    }

    #[test]
    fn only_the_registered_key_is_renewed() {
        assert_eq!(judge_renewal(registered(Some(A)), A, A), Ok(()));
        assert_eq!(judge_renewal(registered(Some(A)), A, B), Err(DenyReason::Request));
        assert_eq!(judge_renewal(registered(Some(B)), A, A), Err(DenyReason::Unregistered));
        assert_eq!(judge_renewal(registered(None), A, A), Err(DenyReason::Unregistered));
        let revoked = Registered { key: Some(A), revoked_at: Some(NOW) };
        assert_eq!(judge_renewal(revoked, A, A), Err(DenyReason::Revoked));
    }

    #[test]
    fn the_table_of_who_may_speak() {
        use Issuance::{Foreign, Own};
        let revoked = Registered { key: Some(A), revoked_at: Some(NOW) };
        let cases = [
            (Own, registered(Some(A)), false, false, Ok(())),
            (Own, registered(Some(A)), false, true, Err(RefuseReason::Expired)),
            (Own, registered(Some(B)), false, false, Err(RefuseReason::Unregistered)),
            (Own, registered(None), false, true, Err(RefuseReason::Unregistered)),
            (Own, registered(Some(B)), true, false, Err(RefuseReason::Revoked)),
            (Own, revoked, false, true, Err(RefuseReason::Revoked)),
            (Foreign, registered(None), false, false, Ok(())),
            (Foreign, registered(Some(B)), false, false, Ok(())),
            (Foreign, revoked, false, false, Err(RefuseReason::Revoked)),
        ];
        for (issuance, registered, key_revoked, expired, expected) in cases {
            let judged = judge_connection(issuance, registered, A, key_revoked, expired);
            assert_eq!(judged, expected, "{issuance:?} {registered:?} {key_revoked} {expired}");
        }
    }
}
