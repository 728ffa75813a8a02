//! The gate itself: who asks, by the tokens that count now and the sessions that are open.

use std::sync::{Mutex, PoisonError, RwLock};

use driftglass_protocol::id::Name;
use driftglass_protocol::unit::UnixMillis;

use super::{AccessToken, Refusal, Role, Sessions, Tokens};

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bearer {
    /// Name of the token.
    pub name: Name,
    /// Its role.
    pub role: Role,
    /// Whether it is a browser that has signed in, which any page may make ask.
    pub by_session: bool,
}

/// Tokens and sessions. Share it freely.
#[derive(Debug)]
pub struct Gate {
    tokens: RwLock<Tokens>,
    sessions: Mutex<Sessions>,
    clock: fn() -> UnixMillis,
    random: fn() -> Option<[u8; 16]>,
}

impl Gate {
    /// Lets in who has one of these tokens.
    #[must_use]
    pub fn new(tokens: Tokens, clock: fn() -> UnixMillis, random: fn() -> Option<[u8; 16]>) -> Self {
        Self { tokens: RwLock::new(tokens), sessions: Mutex::default(), clock, random }
    }

    /// From now on these tokens count. Sessions opened with others end by that.
    pub fn replace(&self, tokens: Tokens) {
        *self.tokens.write().unwrap_or_else(PoisonError::into_inner) = tokens;
    }

    /// Who asks: by a token, or else by the name of a session. A token that does not count is not made good by a session.
    ///
    /// # Errors
    /// Why nobody is recognised.
    pub fn identify(&self, token: Option<&str>, session: Option<&str>) -> Result<Bearer, Refusal> {
        let now = (self.clock)();
        let tokens = self.tokens.read().unwrap_or_else(PoisonError::into_inner);
        let (entry, by_session) = match (token, session) {
            (Some(token), _) => (tokens.find(token, now)?, false),
            (None, Some(session)) => {
                let hash = self.sessions.lock().unwrap_or_else(PoisonError::into_inner).find(session, now)?;
                (tokens.by_hash(&hash, now).map_err(|_| Refusal::Session)?, true)
            }
            (None, None) => return Err(Refusal::Missing),
        };
        Ok(Bearer { name: entry.name.clone(), role: entry.role, by_session })
    }

    /// Opens a session for the bearer of a token; `None` where the system has no random numbers.
    ///
    /// # Errors
    /// [`Refusal::Unknown`], [`Refusal::Expired`].
    pub fn sign_in(&self, token: &str) -> Result<Option<(Bearer, String)>, Refusal> {
        let bearer = self.identify(Some(token), None)?;
        let token = AccessToken::parse(token).map_err(|_| Refusal::Unknown)?;
        let Some(random) = (self.random)() else { return Ok(None) };
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(Some((bearer, sessions.open(&token, random, (self.clock)()))))
    }

    /// Ends a session.
    pub fn sign_out(&self, session: &str) {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner).close(session);
    }
}

#[cfg(test)]
mod tests {
    use super::super::Entry;
    use super::*;

    fn tokens(names: &[(&str, Role, u8)]) -> Tokens {
        let mut tokens = Tokens::default();
        for &(name, role, secret) in names {
            let hash = AccessToken::new([secret; 16]).hash();
            let name = Name::parse(name).expect("name");
            tokens.add(Entry { name, role, hash, created_at: 0, expires_at: None }).expect("added");
        }
        tokens
    }

    #[test]
    fn a_session_ends_with_the_token_it_was_opened_with() {
        let gate = Gate::new(tokens(&[("anna", Role::Operator, 1)]), || UnixMillis(1), || Some([9; 16]));
        let token = AccessToken::new([1; 16]).reveal();
        let (bearer, session) = gate.sign_in(&token).expect("known").expect("random");
        assert_eq!((bearer.role, bearer.by_session), (Role::Operator, false));
        let found = gate.identify(None, Some(&session)).expect("open");
        assert_eq!((found.name.as_str(), found.role, found.by_session), ("anna", Role::Operator, true));
        assert_eq!(gate.identify(Some("nonsense"), Some(&session)), Err(Refusal::Unknown), "the token was meant");
        gate.replace(tokens(&[("bert", Role::Admin, 2)]));
        assert_eq!(gate.identify(None, Some(&session)), Err(Refusal::Session));
        assert_eq!(gate.identify(Some(&token), None), Err(Refusal::Unknown));
        assert_eq!(gate.identify(None, None), Err(Refusal::Missing));
    }

    #[test]
    fn who_signs_out_is_out() {
        let gate = Gate::new(tokens(&[("anna", Role::Viewer, 1)]), || UnixMillis(1), || Some([9; 16]));
        let (_, session) = gate.sign_in(&AccessToken::new([1; 16]).reveal()).expect("known").expect("random");
        gate.sign_out(&session);
        assert_eq!(gate.identify(None, Some(&session)), Err(Refusal::Session));
        let dry = Gate::new(tokens(&[("anna", Role::Viewer, 1)]), || UnixMillis(1), || None);
        assert_eq!(dry.sign_in(&AccessToken::new([1; 16]).reveal()), Ok(None));
    }
}
