//! Browsers that have signed in. A browser holds the name of a session instead of the token, so that signing out ends something and
//! no token is kept in a browser.

use std::collections::HashMap;
use std::time::Duration;

use driftglass_protocol::unit::UnixMillis;

use super::{AccessToken, Refusal};
use crate::identity::sha256;

/// How long somebody stays signed in.
pub const SESSION_LIFETIME: Duration = Duration::from_secs(12 * 60 * 60);
/// Most sessions at once; the one that ends first gives way.
const SESSIONS_MAX: usize = 1_024;

#[derive(Clone, Copy, Debug)]
struct Session {
    /// Hash of the token it was opened with: it ends with that.
    token: [u8; 32],
    ends_at: i64,
}

/// The open sessions, by the hash of their name; in memory only.
#[derive(Debug, Default)]
pub struct Sessions(HashMap<[u8; 32], Session>);

impl Sessions {
    /// Opens a session for the bearer of a token and returns its name, made of 128 random bits.
    pub fn open(&mut self, token: &AccessToken, random: [u8; 16], now: UnixMillis) -> String {
        self.0.retain(|_, session| session.ends_at > now.0);
        if self.0.len() >= SESSIONS_MAX
            && let Some(first) = self.0.iter().min_by_key(|(_, session)| session.ends_at).map(|(name, _)| *name)
        {
            self.0.remove(&first);
        }
        let name: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        let lifetime = i64::try_from(SESSION_LIFETIME.as_millis()).unwrap_or(i64::MAX);
        let session = Session { token: token.hash(), ends_at: now.0.saturating_add(lifetime) };
        self.0.insert(sha256(name.as_bytes()), session);
        name
    }

    /// The hash of the token that a session was opened with. Found by hash, so that time says nothing about names.
    ///
    /// # Errors
    /// [`Refusal::Session`].
    pub fn find(&self, name: &str, now: UnixMillis) -> Result<[u8; 32], Refusal> {
        let session = self.0.get(&sha256(name.as_bytes())).ok_or(Refusal::Session)?;
        if session.ends_at > now.0 { Ok(session.token) } else { Err(Refusal::Session) }
    }

    /// Ends a session.
    pub fn close(&mut self, name: &str) {
        self.0.remove(&sha256(name.as_bytes()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

    #[test]
    fn a_session_leads_to_its_token_until_its_time_is_over_or_it_is_closed() {
        let mut sessions = Sessions::default();
        let token = AccessToken::new([1; 16]);
        let (first, second) = (sessions.open(&token, [2; 16], NOW), sessions.open(&token, [3; 16], NOW));
        assert_eq!(sessions.find(&first, NOW), Ok(token.hash()));
        sessions.close(&first);
        assert_eq!(sessions.find(&first, NOW), Err(Refusal::Session));
        let end = NOW.0 + 12 * 3_600_000;
        assert_eq!(sessions.find(&second, UnixMillis(end - 1)), Ok(token.hash()));
        assert_eq!(sessions.find(&second, UnixMillis(end)), Err(Refusal::Session));
        assert_eq!(sessions.find("", NOW), Err(Refusal::Session));
    }

    #[test]
    fn there_are_never_more_than_so_many_and_the_oldest_gives_way() {
        let mut sessions = Sessions::default();
        let token = AccessToken::new([1; 16]);
        let names: Vec<String> = (0..1_030_u32)
            .map(|number| {
                let mut random = [0; 16];
                random[..4].copy_from_slice(&number.to_le_bytes());
                sessions.open(&token, random, UnixMillis(NOW.0 + i64::from(number)))
            })
            .collect();
        assert_eq!(sessions.0.len(), SESSIONS_MAX);
        assert_eq!(sessions.find(&names[5], UnixMillis(NOW.0 + 2_000)), Err(Refusal::Session));
        assert!(sessions.find(&names[6], UnixMillis(NOW.0 + 2_000)).is_ok());
    }
}
