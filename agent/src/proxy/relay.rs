//! Two connections that are one to those at their ends: what comes from one side goes on to the other, and is shown to the follower then.
//!
//! Must hold: bytes go on in the order and number in which they came; what the one side has not taken keeps the other waiting, with at
//! most [`PIECE`] bytes of each direction here, and little where others have much ([`HELD`]); an end in order stays one, and so does a
//! broken connection. How long what passes is, or what it says, is of no importance here.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::net::sockopt::set_socket_linger;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::follow::Follower;

/// Most bytes that are taken at a time. With a quarter of it pictures take half as long again, with more they take as long.
const PIECE: usize = 256 * 1024;

/// Bytes that all directions together have not got rid of, from which on they take less at a time.
const HELD: usize = 8 * 1024 * 1024;
/// Most bytes that are taken at a time then.
const LITTLE: usize = 4 * 1024;

thread_local! {
    /// One for all connections of a thread: what comes is passed on before the next is asked.
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; PIECE].into());
}

/// Why a direction has ended.
#[derive(Debug)]
enum End {
    /// In order, and the other side has been told so.
    Whole,
    /// Nothing can be read any more.
    From(io::Error),
    /// Nothing can be written any more.
    To(io::Error),
}

/// What all relays have not got rid of.
#[derive(Clone, Debug, Default)]
pub(super) struct Held(Arc<AtomicUsize>);

impl Held {
    /// Most bytes that may be taken.
    fn piece(&self) -> usize {
        if self.0.load(Ordering::Relaxed) < HELD { PIECE } else { LITTLE }
    }
}

/// What the other side has not taken yet.
#[derive(Debug)]
struct Rest {
    bytes: Vec<u8>,
    taken: usize,
    held: Held,
}

impl Rest {
    const fn new(held: Held) -> Self {
        Self { bytes: Vec::new(), taken: 0, held }
    }

    fn keep(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.held.0.fetch_add(bytes.len(), Ordering::Relaxed);
    }

    fn left(&self) -> &[u8] {
        self.bytes.get(self.taken..).unwrap_or_default()
    }

    fn forget(&mut self) {
        self.held.0.fetch_sub(self.bytes.len(), Ordering::Relaxed);
        (self.bytes, self.taken) = (Vec::new(), 0);
    }

    /// Has the other side take it.
    fn flush(&mut self, to: &TcpStream, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.left().is_empty() {
            match to.try_write(self.left()) {
                Ok(count) => self.taken += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready!(to.poll_write_ready(context))?,
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        if !self.bytes.is_empty() {
            self.forget();
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for Rest {
    fn drop(&mut self) {
        self.forget();
    }
}

/// One direction.
#[derive(Debug)]
struct Flow {
    rest: Rest,
    ended: Option<io::Result<()>>,
    is_done: bool,
}

impl Flow {
    const fn new(held: Held) -> Self {
        Self { rest: Rest::new(held), ended: None, is_done: false }
    }

    /// Passes on what there is. Ready when it has ended, and not to be asked again then.
    fn poll(
        &mut self,
        from: &mut TcpStream,
        to: &mut TcpStream,
        context: &mut Context<'_>,
        mut show: impl FnMut(Option<&[u8]>),
    ) -> Poll<End> {
        loop {
            if let Err(error) = ready!(self.rest.flush(to, context)) {
                return Poll::Ready(End::To(error));
            }
            match self.ended.take() {
                Some(Ok(())) => {
                    self.ended = Some(Ok(()));
                    let shut = ready!(Pin::new(&mut *to).poll_shutdown(context));
                    return Poll::Ready(shut.map_or_else(End::To, |()| End::Whole));
                }
                Some(Err(error)) => return Poll::Ready(End::From(error)),
                None => {}
            }
            let most = self.rest.held.piece();
            let count = BUFFER.with_borrow_mut(|buffer| {
                let mut room = ReadBuf::new(buffer.get_mut(..most).unwrap_or_default());
                let read = ready!(Pin::new(&mut *from).poll_read(context, &mut room));
                let piece = room.filled();
                if read.is_err() || piece.is_empty() {
                    if read.is_ok() {
                        show(None);
                    }
                    self.ended = Some(read);
                } else {
                    // What is not taken is tried again, and an error is seen, when it is flushed.
                    let taken = to.try_write(piece).unwrap_or_default();
                    self.rest.keep(piece.get(taken..).unwrap_or_default());
                    show(Some(piece));
                }
                Poll::Ready(piece.len())
            });
            if ready!(count) == most {
                // There is more, and others are waiting.
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
    }
}

/// A client's connection and that to the server.
#[derive(Debug)]
pub(super) struct Relay {
    client: TcpStream,
    server: TcpStream,
    asking: Flow,
    answering: Flow,
    follower: Follower,
    /// Whether anything came since this was last asked.
    moved: bool,
}

impl Relay {
    pub(super) fn new(client: TcpStream, server: TcpStream, follower: Follower, held: &Held) -> Self {
        let (asking, answering) = (Flow::new(held.clone()), Flow::new(held.clone()));
        Self { client, server, asking, answering, follower, moved: false }
    }

    /// Passes on until there is nothing more to pass on.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Self { client, server, asking, answering, follower, moved } = self;
        if !asking.is_done
            && let Poll::Ready(end) = asking.poll(client, server, context, |piece| {
                *moved = true;
                match piece {
                    Some(piece) => follower.asked(piece),
                    None => follower.client_ended(),
                }
            })
        {
            asking.is_done = true;
            match end {
                // It may wait for its answer still; a server that takes no more may have one.
                End::Whole | End::To(_) => {}
                End::From(error) => {
                    tracing::trace!(%error, "a client broke its connection");
                    follower.client_ended();
                    reset(server);
                    return Poll::Ready(());
                }
            }
        }
        if !answering.is_done
            && let Poll::Ready(end) = answering.poll(server, client, context, |piece| {
                *moved = true;
                match piece {
                    Some(piece) => follower.answered(piece),
                    None => follower.server_ended(false),
                }
            })
        {
            answering.is_done = true;
            match end {
                End::Whole => {}
                End::From(error) => {
                    tracing::debug!(%error, "the model server broke a connection");
                    follower.server_ended(true);
                    reset(client);
                    return Poll::Ready(());
                }
                End::To(error) => {
                    tracing::trace!(%error, "a client is gone");
                    follower.client_ended();
                    reset(server);
                    return Poll::Ready(());
                }
            }
        }
        if asking.is_done && answering.is_done { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Whether the server has said all that it will.
    pub(super) const fn is_answered(&self) -> bool {
        self.answering.is_done
    }

    /// Whether nothing is on its way.
    pub(super) fn is_idle(&self) -> bool {
        self.follower.is_idle() && self.asking.rest.left().is_empty() && self.answering.rest.left().is_empty()
    }

    /// Whether anything came since this was last asked.
    pub(super) const fn has_moved(&mut self) -> bool {
        std::mem::replace(&mut self.moved, false)
    }
}

/// Has a connection break when it is closed, as the one on its other side did.
fn reset(stream: &TcpStream) {
    if let Err(error) = set_socket_linger(stream, Some(Duration::ZERO)) {
        tracing::debug!(%error, "a broken connection ends as if it were whole");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_much_is_held_less_is_taken_and_what_goes_makes_room() {
        let held = Held::default();
        let mut all: Vec<_> = (0..HELD / PIECE).map(|_| Rest::new(held.clone())).collect();
        for rest in &mut all {
            assert_eq!(held.piece(), PIECE);
            rest.keep(&vec![0; PIECE]);
        }
        assert_eq!(held.piece(), LITTLE);
        all.pop();
        assert_eq!(held.piece(), PIECE);
    }
}
