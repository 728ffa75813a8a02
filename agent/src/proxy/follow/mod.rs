//! Follows what passes on a connection, to know of each inference what was asked, what was answered and when.
//!
//! Nothing that passes depends on it: bytes have gone on before they are shown here, in pieces as they came. What cannot be followed
//! passes unseen, from there to the end of its connection, and that is said. Only a panic would reach further, for it ends the process:
//! therefore this is a door of its own for the fuzzer (`overhear`), and takes no more apart than must be known here.
//!
//! Must hold: per connection memory is bounded ([`http1`], [`http2`]); whatever the bytes are and however they are cut, nothing panics,
//! and each inference that was seen to begin is told of once.

mod hpack;
mod http1;
mod http2;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use thiserror::Error;
use tokio::sync::watch as signal;

use super::frame::PREFACE;
use super::watch::{Exchange, Watch};
use hpack::Unpackable;

/// Why a connection is not followed any further.
#[derive(Debug, Error)]
enum Lost {
    #[error("is TLS, in which nothing can be seen")]
    Tls,
    /// Neither of the two protocols.
    #[error("is not HTTP: {0}")]
    Syntax(#[from] httparse::Error),
    #[error("has a head of more than 32 KiB")]
    TooLong,
    #[error("has more requests open at a time than are followed")]
    TooMany,
    #[error("has a length that is none")]
    Length,
    #[error("has a status that is none")]
    Status,
    #[error("has pieces of which it does not say how long they are")]
    Chunk,
    #[error("has frames of HTTP/2 out of order")]
    Frame,
    #[error("has a header that cannot be unpacked: {0}")]
    Header(#[from] Unpackable),
    /// From here on the two talk about something else, as agreed.
    #[error("is a tunnel")]
    Tunnel,
}

/// What is spoken on a connection.
#[derive(Debug)]
enum Protocol {
    /// Not known yet; what came until now.
    Unknown(Vec<u8>),
    One(http1::Conversation),
    Two(Box<http2::Conversation>),
    /// Not followed any more.
    Lost,
}

/// One connection.
#[derive(Debug)]
pub(super) struct Follower {
    watch: signal::Receiver<Arc<Watch>>,
    protocol: Protocol,
    client_ended: bool,
}

impl Follower {
    pub(super) const fn new(watch: signal::Receiver<Arc<Watch>>) -> Self {
        Self { watch, protocol: Protocol::Unknown(Vec::new()), client_ended: false }
    }

    /// The client sent this.
    pub(super) fn asked(&mut self, bytes: &[u8]) {
        let began;
        let mut bytes = bytes;
        if let Protocol::Unknown(before) = &mut self.protocol {
            before.extend_from_slice(bytes);
            // A record with a handshake (RFC 8446, section 5.1).
            if before.first() == Some(&0x16) {
                return self.check(Err(Lost::Tls));
            }
            // Nothing in HTTP/1 begins like the preface of HTTP/2 (RFC 9113, section 3.4).
            if before.len() < 3 && PREFACE.starts_with(before) {
                return;
            }
            began = std::mem::take(before);
            bytes = &began;
            self.protocol = if began.starts_with(b"PRI") {
                Protocol::Two(Box::default())
            } else {
                Protocol::One(http1::Conversation::default())
            };
        }
        let watch = self.watch.borrow().clone();
        let followed = match &mut self.protocol {
            Protocol::One(conversation) => conversation.asked(bytes, &watch),
            Protocol::Two(conversation) => conversation.asked(bytes, &watch),
            Protocol::Unknown(_) | Protocol::Lost => Ok(()),
        };
        self.check(followed);
    }

    /// The server sent this.
    pub(super) fn answered(&mut self, bytes: &[u8]) {
        let followed = match &mut self.protocol {
            Protocol::One(conversation) => conversation.answered(bytes),
            Protocol::Two(conversation) => conversation.answered(bytes),
            Protocol::Unknown(_) | Protocol::Lost => Ok(()),
        };
        self.check(followed);
    }

    fn check(&mut self, followed: Result<(), Lost>) {
        let Err(lost) = followed else { return };
        for exchange in self.take() {
            exchange.lost();
        }
        self.protocol = Protocol::Lost;
        tracing::debug!(%lost, "a connection is not followed any more");
        if !matches!(lost, Lost::Tunnel) {
            self.watch.borrow().unread(lost.to_string());
        }
    }

    fn take(&mut self) -> Vec<Exchange> {
        match &mut self.protocol {
            Protocol::One(conversation) => conversation.take(),
            Protocol::Two(conversation) => conversation.take(),
            Protocol::Unknown(_) | Protocol::Lost => Vec::new(),
        }
    }

    /// The client sends no more, which does not say that it waits for nothing.
    pub(super) const fn client_ended(&mut self) {
        self.client_ended = true;
    }

    /// The server sends no more; `broke` where it ended out of order.
    pub(super) fn server_ended(&mut self, broke: bool) {
        if let (Protocol::One(conversation), false) = (&mut self.protocol, broke) {
            conversation.server_ended();
        }
        let mut left = self.take();
        // Who went first is to blame; the others were cut off.
        left.retain(|exchange| !self.client_ended && !exchange.is_answered());
        if !left.is_empty() {
            self.watch.borrow().unanswered("ended the connection without an answer".to_owned());
        }
        left.into_iter().for_each(Exchange::unanswered);
    }

    /// There is no server for what was asked, and who waits for an answer must be told so.
    pub(super) fn refuse(&mut self, why: &str) -> Waiting {
        let exchanges = self.take();
        let waiting = match &mut self.protocol {
            Protocol::Unknown(_) => Waiting::Unknown,
            Protocol::One(conversation) if !conversation.is_asked() => Waiting::Unknown,
            Protocol::One(_) => Waiting::One,
            Protocol::Two(conversation) => Waiting::Two(conversation.leave()),
            Protocol::Lost => Waiting::Nobody,
        };
        if !exchanges.is_empty() {
            self.watch.borrow().unanswered(why.to_owned());
        }
        exchanges.into_iter().for_each(Exchange::unanswered);
        waiting
    }

    /// Whether nothing is on its way; where that is not known something is.
    pub(super) fn is_idle(&self) -> bool {
        match &self.protocol {
            Protocol::Unknown(before) => before.is_empty(),
            Protocol::One(conversation) => conversation.is_idle(),
            Protocol::Two(conversation) => conversation.is_idle(),
            Protocol::Lost => false,
        }
    }
}

/// Who waits for an answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Waiting {
    /// Not known yet.
    Unknown,
    /// A client of HTTP/1.
    One,
    /// A client of HTTP/2, with these streams and whether each is a call of gRPC.
    Two(Vec<(u32, bool)>),
    /// Nobody who would understand.
    Nobody,
}

/// The fields of a header of HTTP/2.
#[cfg(test)]
pub(super) fn unpacked(block: &[u8]) -> Vec<(String, String)> {
    let text = |bytes: hyper::body::Bytes| String::from_utf8(bytes.to_vec()).expect("text");
    let fields = hpack::Unpacker::default().unpack(block).expect("a header");
    fields.into_iter().map(|(name, value)| (text(name), text(value))).collect()
}
