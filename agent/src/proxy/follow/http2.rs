//! What passes on a connection of HTTP/2 (RFC 9113), taken apart without touching it.
//!
//! Must hold: of a header at most [`HEADER`] packed bytes are gathered, at most [`OPEN`] streams are followed at a time, and bodies are
//! looked at as they come.

use std::sync::Arc;

use hyper::header::{CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue};
use hyper::http::{request, response};
use hyper::{Method, Request, Response, StatusCode, Uri};

use super::Lost;
use super::hpack::Unpacker;
use crate::proxy::frame::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, PADDED, PREFACE, PRIORITY, PUSH_PROMISE, RST_STREAM,
};
use crate::proxy::watch::{Exchange, Watch, is_grpc};

/// Most bytes of a header as it is sent.
const HEADER: usize = 32 * 1024;
/// Streams that are followed at a time.
const OPEN: usize = 256;

/// A stream that has not ended, and what is noted of it.
#[derive(Debug)]
struct Stream {
    id: u32,
    exchange: Option<Exchange>,
    is_grpc: bool,
    /// What has ended of it.
    asked: bool,
    answered: bool,
    /// Whether the answer's header has come.
    began: bool,
}

/// One connection.
#[derive(Debug, Default)]
pub(super) struct Conversation {
    /// Bytes of the preface that have come.
    preface: usize,
    client: Reader,
    server: Reader,
    open: Vec<Stream>,
    newest: u32,
}

impl Conversation {
    /// Looks at what the client sent.
    ///
    /// # Errors
    /// One variant of [`Lost`] per cause.
    pub(super) fn asked(&mut self, mut bytes: &[u8], watch: &Arc<Watch>) -> Result<(), Lost> {
        let wanted = PREFACE.get(self.preface..).unwrap_or_default();
        let count = wanted.len().min(bytes.len());
        let (begin, rest) = bytes.split_at(count);
        if !wanted.starts_with(begin) {
            return Err(Lost::Frame);
        }
        self.preface += count;
        bytes = rest;
        while let Some(event) = self.client.next(&mut bytes)? {
            match event {
                Event::Header { stream, fields, end } if stream > self.newest => {
                    self.newest = stream;
                    self.begin(stream, fields, watch)?;
                    self.end_request(stream, end);
                }
                // What follows a body.
                Event::Header { stream, end, .. } => self.end_request(stream, end),
                Event::Data { stream, piece, end } => {
                    if let Some(exchange) = self.exchange(stream) {
                        exchange.request(piece);
                    }
                    self.end_request(stream, end);
                }
                Event::Reset { stream } => self.open.retain(|open| open.id != stream),
            }
        }
        Ok(())
    }

    /// Looks at what the server sent.
    ///
    /// # Errors
    /// One variant of [`Lost`] per cause.
    pub(super) fn answered(&mut self, mut bytes: &[u8]) -> Result<(), Lost> {
        while let Some(event) = self.server.next(&mut bytes)? {
            match event {
                Event::Header { stream, fields, end } => {
                    let head = response(fields)?;
                    if let Some(open) = self.stream(stream).filter(|_| !head.status.is_informational()) {
                        let began = std::mem::replace(&mut open.began, true);
                        match &mut open.exchange {
                            Some(exchange) if began => exchange.trailers(&head.headers),
                            Some(exchange) => exchange.answered(&head, length(&head.headers)),
                            None => {}
                        }
                    }
                    self.end_answer(stream, end);
                }
                Event::Data { stream, piece, end } => {
                    if let Some(exchange) = self.exchange(stream) {
                        exchange.answer(piece);
                    }
                    self.end_answer(stream, end);
                }
                Event::Reset { stream } => {
                    if let Some(index) = self.open.iter().position(|open| open.id == stream)
                        && let Some(exchange) = self.open.swap_remove(index).exchange
                        && !exchange.is_answered()
                    {
                        exchange.unanswered();
                    }
                }
            }
        }
        Ok(())
    }

    fn begin(&mut self, id: u32, fields: Vec<Field>, watch: &Arc<Watch>) -> Result<(), Lost> {
        if self.open.len() >= OPEN {
            return Err(Lost::TooMany);
        }
        let head = request(fields);
        let exchange = watch.asked(&head, length(&head.headers));
        let is_grpc = is_grpc(&head.headers);
        self.open.push(Stream { id, exchange, is_grpc, asked: false, answered: false, began: false });
        Ok(())
    }

    fn end_request(&mut self, id: u32, end: bool) {
        if let Some(open) = self.stream(id).filter(|_| end) {
            open.asked = true;
            open.exchange.iter_mut().for_each(Exchange::asked);
            self.close(id);
        }
    }

    fn end_answer(&mut self, id: u32, end: bool) {
        if let Some(open) = self.stream(id).filter(|_| end) {
            open.answered = true;
            if let Some(exchange) = open.exchange.take() {
                exchange.ended();
            }
            self.close(id);
        }
    }

    fn close(&mut self, id: u32) {
        self.open.retain(|open| open.id != id || !(open.asked && open.answered));
    }

    fn stream(&mut self, id: u32) -> Option<&mut Stream> {
        self.open.iter_mut().find(|open| open.id == id)
    }

    fn exchange(&mut self, id: u32) -> Option<&mut Exchange> {
        self.stream(id)?.exchange.as_mut()
    }

    /// Streams that are open, which are not followed from here on: their number, and whether each is a call of gRPC.
    pub(super) fn leave(&mut self) -> Vec<(u32, bool)> {
        self.open.drain(..).map(|open| (open.id, open.is_grpc)).collect()
    }

    /// Whether nothing is on its way but what keeps the connection alive.
    pub(super) const fn is_idle(&self) -> bool {
        self.open.is_empty() && self.client.is_between() && self.server.is_between()
    }

    /// What is on its way.
    pub(super) fn take(&mut self) -> Vec<Exchange> {
        self.open.iter_mut().filter_map(|open| open.exchange.take()).collect()
    }
}

type Field = (hyper::body::Bytes, hyper::body::Bytes);

/// The length that a header announces.
fn length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn request(fields: Vec<Field>) -> request::Parts {
    let (mut head, ()) = Request::new(()).into_parts();
    // What cannot be read is nothing that is watched.
    head.uri = Uri::from_static("*");
    for (name, value) in fields {
        match name.as_ref() {
            b":method" => head.method = Method::from_bytes(&value).unwrap_or_default(),
            b":path" => head.uri = Uri::try_from(value.as_ref()).unwrap_or_else(|_| Uri::from_static("*")),
            _ => append(&mut head.headers, &name, value),
        }
    }
    head
}

fn response(fields: Vec<Field>) -> Result<response::Parts, Lost> {
    let (mut head, ()) = Response::new(()).into_parts();
    for (name, value) in fields {
        match name.as_ref() {
            b":status" => head.status = StatusCode::from_bytes(&value).map_err(|_| Lost::Status)?,
            _ => append(&mut head.headers, &name, value),
        }
    }
    Ok(head)
}

/// Appends what is a field and none of those that begin with a colon.
fn append(headers: &mut HeaderMap, name: &[u8], value: hyper::body::Bytes) {
    if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_maybe_shared(value)) {
        headers.append(name, value);
    }
}

/// What frames say.
#[derive(Debug, PartialEq, Eq)]
enum Event<'b> {
    Header {
        stream: u32,
        fields: Vec<Field>,
        end: bool,
    },
    /// A piece of a body, and whether it is the last.
    Data {
        stream: u32,
        piece: &'b [u8],
        end: bool,
    },
    Reset {
        stream: u32,
    },
}

/// Where in a frame.
#[derive(Debug)]
enum Place {
    /// In its head, of which so many bytes have come.
    Head([u8; 9], usize),
    /// In what is gathered.
    Gathered,
    /// In a body, whose padding is known once its length has come.
    Data { padding: Option<usize> },
    /// In what is of no interest.
    Skipped,
}

/// A header that comes in several frames.
#[derive(Clone, Copy, Debug)]
struct Continued {
    stream: u32,
    /// Whether the stream ends with it.
    end: bool,
    /// Whether it is that of a request which the server makes up itself.
    promised: bool,
}

/// One direction.
#[derive(Debug)]
struct Reader {
    place: Place,
    kind: u8,
    flags: u8,
    stream: u32,
    /// Bytes of the frame that are still to come.
    left: usize,
    gathered: Vec<u8>,
    /// The header that is not whole yet.
    continued: Option<Continued>,
    block: Vec<u8>,
    unpacker: Unpacker,
}

impl Default for Reader {
    fn default() -> Self {
        Self {
            place: Place::Head([0; 9], 0),
            kind: 0,
            flags: 0,
            stream: 0,
            left: 0,
            gathered: Vec::new(),
            continued: None,
            block: Vec::new(),
            unpacker: Unpacker::default(),
        }
    }
}

impl Reader {
    /// The next thing that the bytes say; `None` where more have to come.
    fn next<'b>(&mut self, bytes: &mut &'b [u8]) -> Result<Option<Event<'b>>, Lost> {
        loop {
            match &mut self.place {
                Place::Head(head, have) => {
                    let missing = head.get_mut(*have..).unwrap_or_default();
                    let piece = up_to(missing.len(), bytes);
                    missing.iter_mut().zip(piece).for_each(|(to, from)| *to = *from);
                    *have += piece.len();
                    if *have < head.len() {
                        return Ok(None);
                    }
                    let head = *head;
                    self.begin(head)?;
                }
                Place::Skipped => {
                    self.left -= up_to(self.left, bytes).len();
                    if self.left > 0 {
                        return Ok(None);
                    }
                    self.end();
                }
                Place::Gathered => {
                    let piece = up_to(self.left, bytes);
                    self.gathered.extend_from_slice(piece);
                    self.left -= piece.len();
                    if self.left > 0 {
                        return Ok(None);
                    }
                    let event = self.gathered()?;
                    self.end();
                    if event.is_some() {
                        return Ok(event);
                    }
                }
                Place::Data { padding: padding @ None } => {
                    let Some((&count, rest)) = bytes.split_first() else { return Ok(None) };
                    *bytes = rest;
                    self.left -= 1;
                    *padding = Some(usize::from(count)).filter(|&padding| padding <= self.left);
                    if padding.is_none() {
                        return Err(Lost::Frame);
                    }
                }
                Place::Data { padding: Some(padding) } => {
                    let padding = *padding;
                    let wanted = self.left - padding;
                    let piece = up_to(wanted, bytes);
                    if piece.is_empty() && wanted > 0 {
                        return Ok(None);
                    }
                    self.left -= piece.len();
                    let last = piece.len() == wanted;
                    let (stream, end) = (self.stream, last && self.flags & END_STREAM != 0);
                    if last {
                        self.place = Place::Skipped;
                    }
                    return Ok(Some(Event::Data { stream, piece, end }));
                }
            }
        }
    }

    const fn is_between(&self) -> bool {
        matches!(self.place, Place::Head(_, 0)) && self.continued.is_none()
    }

    fn begin(&mut self, [a, b, c, kind, flags, stream @ ..]: [u8; 9]) -> Result<(), Lost> {
        self.left = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        (self.kind, self.flags, self.stream) = (kind, flags, u32::from_be_bytes(stream) & 0x7fff_ffff);
        // Nothing may stand between the parts of a header.
        if self.continued.is_some_and(|due| (CONTINUATION, due.stream) != (kind, self.stream)) {
            return Err(Lost::Frame);
        }
        self.place = match kind {
            DATA if flags & PADDED == 0 => Place::Data { padding: Some(0) },
            DATA if self.left == 0 => return Err(Lost::Frame),
            DATA => Place::Data { padding: None },
            HEADERS | PUSH_PROMISE | CONTINUATION if self.left.saturating_add(self.block.len()) > HEADER => {
                return Err(Lost::TooLong);
            }
            RST_STREAM if self.left != 4 => return Err(Lost::Frame),
            HEADERS | PUSH_PROMISE | CONTINUATION | RST_STREAM => Place::Gathered,
            _ => Place::Skipped,
        };
        Ok(())
    }

    fn end(&mut self) {
        self.place = Place::Head([0; 9], 0);
        self.gathered = Vec::new();
    }

    /// What a gathered frame says.
    fn gathered(&mut self) -> Result<Option<Event<'static>>, Lost> {
        let stream = self.stream;
        let mut part = self.gathered.as_slice();
        if self.kind == RST_STREAM {
            return Ok(Some(Event::Reset { stream }));
        }
        if self.kind == CONTINUATION && self.continued.is_none() {
            return Err(Lost::Frame);
        }
        if self.kind != CONTINUATION {
            if self.flags & PADDED != 0 {
                let (&padding, rest) = part.split_first().ok_or(Lost::Frame)?;
                let length = rest.len().checked_sub(usize::from(padding)).ok_or(Lost::Frame)?;
                part = rest.get(..length).ok_or(Lost::Frame)?;
            }
            // A dependency and a weight; the number of the stream that is promised.
            let before = match self.kind {
                HEADERS if self.flags & PRIORITY != 0 => 5,
                PUSH_PROMISE => 4,
                _ => 0,
            };
            part = part.get(before..).ok_or(Lost::Frame)?;
            let promised = self.kind == PUSH_PROMISE;
            self.continued = Some(Continued { stream, end: !promised && self.flags & END_STREAM != 0, promised });
        }
        self.block.extend_from_slice(part);
        if self.flags & END_HEADERS == 0 {
            return Ok(None);
        }
        let fields = self.unpacker.unpack(&std::mem::take(&mut self.block))?;
        let continued = self.continued.take().filter(|continued| !continued.promised);
        Ok(continued.map(|Continued { stream, end, .. }| Event::Header { stream, fields, end }))
    }
}

/// Takes what is there of so many bytes.
fn up_to<'b>(count: usize, bytes: &mut &'b [u8]) -> &'b [u8] {
    let (piece, rest) = bytes.split_at(count.min(bytes.len()));
    *bytes = rest;
    piece
}
