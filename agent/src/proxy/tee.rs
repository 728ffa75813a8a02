//! Bodies on their way through: each piece is handed on as it came, and shown to whoever watches.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http_body_util::Full;
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};

use super::watch::{Answering, Asking};

/// Who is shown what passes.
#[derive(Debug)]
enum Watching {
    Request(Arc<Asking>),
    Answer(Box<Answering>),
}

/// A body that passes.
#[derive(Debug)]
pub(super) enum Passing {
    /// Nobody looks.
    Unwatched(Incoming),
    /// Somebody does.
    Watched(Watched),
    /// A text of our own.
    Own(Full<Bytes>),
}

/// A body and who is shown it.
#[derive(Debug)]
pub(super) struct Watched {
    body: Incoming,
    watching: Watching,
}

impl Passing {
    pub(super) fn request(body: Incoming, asking: Arc<Asking>) -> Self {
        let ended = body.is_end_stream();
        let mut watched = Watched { body, watching: Watching::Request(asking) };
        watched.look(None, ended);
        Self::Watched(watched)
    }

    pub(super) const fn answer(body: Incoming, answering: Box<Answering>) -> Self {
        Self::Watched(Watched { body, watching: Watching::Answer(answering) })
    }
}

impl Watched {
    /// Shows a piece, and whether it is the last.
    fn look(&mut self, frame: Option<&Frame<Bytes>>, ended: bool) {
        match &mut self.watching {
            Watching::Request(asking) => asking.saw(frame, ended),
            Watching::Answer(answering) => answering.saw(frame, ended),
        }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        // A body whose end is known from its length is not asked for it.
        let ended = self.body.is_end_stream();
        self.look(None, ended);
    }
}

impl Body for Passing {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self.get_mut() {
            Self::Unwatched(body) => Pin::new(body).poll_frame(context),
            Self::Own(body) => Pin::new(body).poll_frame(context).map_err(|never| match never {}),
            Self::Watched(watched) => {
                let polled = ready!(Pin::new(&mut watched.body).poll_frame(context));
                match &polled {
                    Some(Ok(frame)) => {
                        let ended = watched.body.is_end_stream();
                        watched.look(Some(frame), ended);
                    }
                    Some(Err(_)) => {}
                    None => watched.look(None, true),
                }
                Poll::Ready(polled)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Unwatched(body) => body.is_end_stream(),
            Self::Watched(watched) => watched.body.is_end_stream(),
            Self::Own(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Unwatched(body) => body.size_hint(),
            Self::Watched(watched) => watched.body.size_hint(),
            Self::Own(body) => body.size_hint(),
        }
    }
}
