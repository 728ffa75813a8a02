//! What passes on a connection of HTTP/1 (RFC 9112), taken apart without touching it.
//!
//! Must hold: of a head at most [`HEAD`] bytes and [`FIELDS`] fields are gathered, at most [`OPEN`] requests wait for their answers, and
//! bodies are looked at as they come.

use std::collections::VecDeque;
use std::sync::Arc;

use httparse::{EMPTY_HEADER, Header, ParserConfig, Status};
use hyper::header::{CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue, TRANSFER_ENCODING};
use hyper::http::{request, response};
use hyper::{Method, Request, Response, StatusCode, Uri};

use super::Lost;
use crate::proxy::watch::{Exchange, Watch};

/// Most bytes of a head.
const HEAD: usize = 32 * 1024;
/// Most fields of a head.
const FIELDS: usize = 128;
/// Requests that wait for their answers at most.
const OPEN: usize = 64;
/// Most bytes of a line that says how long a piece is, and of what follows the last piece.
const LINE: usize = 8192;

/// A request that is not answered yet, and what is noted of it.
#[derive(Debug)]
struct Open {
    method: Method,
    exchange: Option<Exchange>,
}

/// One connection.
#[derive(Debug, Default)]
pub(super) struct Conversation {
    open: VecDeque<Open>,
    asking: Place,
    answering: Place,
}

impl Conversation {
    /// Looks at what the client sent.
    ///
    /// # Errors
    /// One variant of [`Lost`] per cause.
    pub(super) fn asked(&mut self, mut bytes: &[u8], watch: &Arc<Watch>) -> Result<(), Lost> {
        while !bytes.is_empty() {
            match &mut self.asking {
                Place::Head(gathered) => {
                    let Some(head) = whole(gathered, &mut bytes, request)? else { return Ok(()) };
                    if self.open.len() >= OPEN {
                        return Err(Lost::TooMany);
                    }
                    let body = framing(&head.headers)?.unwrap_or(Body::Length(0));
                    let exchange = watch.asked(&head, body.announced());
                    self.open.push_back(Open { method: head.method, exchange });
                    self.asking = Place::Body(body);
                }
                Place::Body(body) => {
                    let piece = body.take(&mut bytes)?;
                    if let Some(exchange) = self.open.back_mut().and_then(|open| open.exchange.as_mut()) {
                        exchange.request(piece);
                    }
                }
            }
            if self.asking.is_done() {
                self.asking = Place::default();
                // One that was answered early is not here any more.
                if let Some(exchange) = self.open.back_mut().and_then(|open| open.exchange.as_mut()) {
                    exchange.asked();
                }
            }
        }
        Ok(())
    }

    /// Looks at what the server sent.
    ///
    /// # Errors
    /// One variant of [`Lost`] per cause.
    pub(super) fn answered(&mut self, mut bytes: &[u8]) -> Result<(), Lost> {
        while !bytes.is_empty() {
            match &mut self.answering {
                Place::Head(gathered) => {
                    let Some(head) = whole(gathered, &mut bytes, response)? else { return Ok(()) };
                    // A server may also speak first, to say that it has waited for too long.
                    let open = self.open.front_mut();
                    let body = answer_framing(&head, open.as_ref().map(|open| &open.method))?;
                    if head.status.is_informational() {
                        self.answering = Place::default();
                        continue;
                    }
                    if let Some(exchange) = open.and_then(|open| open.exchange.as_mut()) {
                        exchange.answered(&head, body.announced());
                    }
                    self.answering = Place::Body(body);
                }
                Place::Body(body) => {
                    let piece = body.take(&mut bytes)?;
                    if let Some(exchange) = self.open.front_mut().and_then(|open| open.exchange.as_mut()) {
                        exchange.answer(piece);
                    }
                }
            }
            if self.answering.is_done() {
                self.end_answer();
            }
        }
        Ok(())
    }

    /// The server has ended in order.
    pub(super) fn server_ended(&mut self) {
        if matches!(self.answering, Place::Body(Body::Rest)) {
            self.end_answer();
        }
    }

    fn end_answer(&mut self) {
        self.answering = Place::default();
        if let Some(exchange) = self.open.pop_front().and_then(|open| open.exchange) {
            exchange.ended();
        }
    }

    /// Whether there is a request.
    pub(super) fn is_asked(&self) -> bool {
        !self.open.is_empty()
    }

    /// Whether nothing is on its way.
    pub(super) fn is_idle(&self) -> bool {
        let between = |place: &Place| matches!(place, Place::Head(gathered) if gathered.is_empty());
        self.open.is_empty() && between(&self.asking) && between(&self.answering)
    }

    /// What is on its way.
    pub(super) fn take(&mut self) -> Vec<Exchange> {
        self.open.iter_mut().filter_map(|open| open.exchange.take()).collect()
    }
}

/// Where in a message.
#[derive(Debug)]
enum Place {
    /// In a head of which so much has come.
    Head(Vec<u8>),
    Body(Body),
}

impl Default for Place {
    fn default() -> Self {
        Self::Head(Vec::new())
    }
}

impl Place {
    const fn is_done(&self) -> bool {
        matches!(self, Self::Body(Body::Length(0) | Body::Chunked(Chunk::Done)))
    }
}

/// What is left of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Body {
    /// So many bytes.
    Length(u64),
    /// Pieces that say themselves how long they are.
    Chunked(Chunk),
    /// All that comes.
    Rest,
}

/// Where in a body of pieces (RFC 9112, section 7.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Chunk {
    /// In the digits of a size, the bytes of its line before.
    Size(u64, usize),
    /// In what may stand behind the size.
    Extension(u64, usize),
    /// Before so many bytes of a piece.
    Data(u64),
    /// Behind them.
    DataEnd,
    /// In what follows the last piece: its bytes before, and whether nothing stands in its line yet.
    Trailer(usize, bool),
    Done,
}

impl Body {
    const fn announced(self) -> Option<u64> {
        match self {
            Self::Length(length) => Some(length),
            Self::Chunked(_) | Self::Rest => None,
        }
    }

    /// Takes the next piece, which may be empty where there is something between pieces.
    fn take<'b>(&mut self, bytes: &mut &'b [u8]) -> Result<&'b [u8], Lost> {
        match self {
            Self::Rest => Ok(std::mem::take(bytes)),
            Self::Length(left) => Ok(up_to(left, bytes)),
            Self::Chunked(chunk) => chunk.take(bytes),
        }
    }
}

/// Takes what is there of so many bytes.
fn up_to<'b>(left: &mut u64, bytes: &mut &'b [u8]) -> &'b [u8] {
    let count = usize::try_from(*left).map_or(bytes.len(), |left| left.min(bytes.len()));
    let (piece, rest) = bytes.split_at(count);
    *bytes = rest;
    *left = left.saturating_sub(count as u64);
    piece
}

impl Chunk {
    fn take<'b>(&mut self, bytes: &mut &'b [u8]) -> Result<&'b [u8], Lost> {
        if let Self::Data(left) = self {
            let piece = up_to(left, bytes);
            if *left == 0 {
                *self = Self::DataEnd;
            }
            return Ok(piece);
        }
        let Some((&byte, rest)) = bytes.split_first() else { return Ok(&[]) };
        *bytes = rest;
        *self = self.after(byte)?;
        Ok(&[])
    }

    /// One byte further, outside of pieces.
    fn after(self, byte: u8) -> Result<Self, Lost> {
        Ok(match (self, byte) {
            (Self::Size(_, LINE) | Self::Extension(_, LINE) | Self::Trailer(LINE, _), _) => return Err(Lost::Chunk),
            (Self::Size(_, 0), b'\n') => return Err(Lost::Chunk),
            (Self::Size(0, _) | Self::Extension(0, _), b'\n') => Self::Trailer(0, true),
            (Self::Size(size, _) | Self::Extension(size, _), b'\n') => Self::Data(size),
            (Self::Size(size, line), _) => match char::from(byte).to_digit(16) {
                Some(_) if size >> 60 != 0 => return Err(Lost::Chunk),
                Some(digit) => Self::Size(size << 4 | u64::from(digit), line + 1),
                None if line == 0 => return Err(Lost::Chunk),
                None => Self::Extension(size, line + 1),
            },
            (Self::Extension(size, line), _) => Self::Extension(size, line + 1),
            (Self::DataEnd, b'\r') => Self::DataEnd,
            (Self::DataEnd, b'\n') => Self::Size(0, 0),
            (Self::DataEnd, _) => return Err(Lost::Chunk),
            (Self::Trailer(_, true), b'\n') => Self::Done,
            (Self::Trailer(line, _), b'\n') => Self::Trailer(line + 1, true),
            (Self::Trailer(line, empty), _) => Self::Trailer(line + 1, empty && byte == b'\r'),
            (Self::Data(_) | Self::Done, _) => self,
        })
    }
}

/// Takes a head, once it has come as a whole.
fn whole<T>(
    gathered: &mut Vec<u8>,
    bytes: &mut &[u8],
    parse: impl Fn(&[u8]) -> Result<Option<(T, usize)>, Lost>,
) -> Result<Option<T>, Lost> {
    let before = gathered.len();
    let room = HEAD.saturating_sub(before).min(bytes.len());
    let (piece, further) = bytes.split_at(room);
    let parsed = if before == 0 {
        parse(piece)?
    } else {
        gathered.extend_from_slice(piece);
        // A head ends with a line.
        if piece.contains(&b'\n') { parse(gathered)? } else { None }
    };
    if let Some((head, length)) = parsed {
        *bytes = bytes.get(length.saturating_sub(before)..).unwrap_or_default();
        return Ok(Some(head));
    }
    if before == 0 {
        gathered.extend_from_slice(piece);
    }
    *bytes = further;
    if gathered.len() < HEAD { Ok(None) } else { Err(Lost::TooLong) }
}

fn request(bytes: &[u8]) -> Result<Option<(request::Parts, usize)>, Lost> {
    let mut fields = [EMPTY_HEADER; FIELDS];
    let mut parsed = httparse::Request::new(&mut fields);
    let mut lenient = ParserConfig::default();
    lenient.allow_multiple_spaces_in_request_line_delimiters(true).ignore_invalid_headers_in_requests(true);
    let Status::Complete(length) = lenient.parse_request(&mut parsed, bytes)? else { return Ok(None) };
    let (mut head, ()) = Request::new(()).into_parts();
    head.method = Method::from_bytes(parsed.method.unwrap_or_default().as_bytes()).unwrap_or_default();
    // One that cannot be read is none that is watched.
    head.uri = parsed.path.unwrap_or_default().parse().unwrap_or_else(|_| Uri::from_static("*"));
    head.headers = map(parsed.headers);
    Ok(Some((head, length)))
}

fn response(bytes: &[u8]) -> Result<Option<(response::Parts, usize)>, Lost> {
    let mut fields = [EMPTY_HEADER; FIELDS];
    let mut parsed = httparse::Response::new(&mut fields);
    let mut lenient = ParserConfig::default();
    lenient
        .allow_spaces_after_header_name_in_responses(true)
        .allow_obsolete_multiline_headers_in_responses(true)
        .allow_multiple_spaces_in_response_status_delimiters(true)
        .ignore_invalid_headers_in_responses(true);
    let Status::Complete(length) = lenient.parse_response(&mut parsed, bytes)? else { return Ok(None) };
    let (mut head, ()) = Response::new(()).into_parts();
    head.status = StatusCode::from_u16(parsed.code.unwrap_or_default()).map_err(|_| Lost::Status)?;
    head.headers = map(parsed.headers);
    Ok(Some((head, length)))
}

fn map(fields: &[Header<'_>]) -> HeaderMap {
    let field = |field: &Header<'_>| {
        Some((HeaderName::from_bytes(field.name.as_bytes()).ok()?, HeaderValue::from_bytes(field.value).ok()?))
    };
    let mut map = HeaderMap::with_capacity(fields.len());
    for (name, value) in fields.iter().filter_map(field) {
        map.append(name, value);
    }
    map
}

/// How a message says that its body ends (RFC 9112, section 6.3).
fn framing(headers: &HeaderMap) -> Result<Option<Body>, Lost> {
    if let Some(coding) = headers.get_all(TRANSFER_ENCODING).iter().next_back() {
        let last = coding.as_bytes().rsplit(|&byte| byte == b',').next().unwrap_or_default();
        let chunked = last.trim_ascii().eq_ignore_ascii_case(b"chunked");
        return Ok(Some(if chunked { Body::Chunked(Chunk::Size(0, 0)) } else { Body::Rest }));
    }
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter().map(|length| length.to_str().ok()?.trim().parse().ok());
    let Some(first) = lengths.next() else { return Ok(None) };
    match first {
        Some(length) if lengths.all(|other| other == first) => Ok(Some(Body::Length(length))),
        _ => Err(Lost::Length),
    }
}

fn answer_framing(head: &response::Parts, method: Option<&Method>) -> Result<Body, Lost> {
    let (status, method) = (head.status, method.unwrap_or(&Method::GET));
    if status == StatusCode::SWITCHING_PROTOCOLS || (method == Method::CONNECT && status.is_success()) {
        return Err(Lost::Tunnel);
    }
    let empty = matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) || method == Method::HEAD;
    if empty { Ok(Body::Length(0)) } else { Ok(framing(&head.headers)?.unwrap_or(Body::Rest)) }
}
