//! What a client is told when there is no model server: a status and a sentence, in the protocol that it speaks.
//!
//! Must hold: nothing is said before something was asked, but what opens a connection of HTTP/2; the client has [`PATIENCE`] to ask, and
//! [`LINGER`] to read.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::follow::{Follower, Waiting};
use super::frame::{ACK, END_HEADERS, END_STREAM, GOAWAY, HEADERS, SETTINGS, frame};

/// Time for a request.
const PATIENCE: Duration = Duration::from_secs(10);
/// Time to read the answer. A connection that is closed while something comes takes its answer with it.
const LINGER: Duration = Duration::from_secs(2);
const BUFFER: usize = 16 * 1024;

/// Waits for what the client asks, says why there is no answer, and ends the connection.
pub(super) async fn apologise(mut client: TcpStream, mut follower: Follower, upstream: &str, why: &str) {
    let text = format!("driftglass: the model server at {upstream} {why}\n");
    let said = match timeout(PATIENCE, say(&mut client, &mut follower, &text, why)).await {
        Ok(said) => said,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    };
    if let Err(error) = said {
        tracing::debug!(%error, "a client could not be told that there is no model server");
        return;
    }
    let mut buffer = vec![0; BUFFER];
    let rest = async { while let Ok(1..) = client.read(&mut buffer).await {} };
    if timeout(LINGER, rest).await.is_err() {
        tracing::debug!("a client still sends after it was told that there is no model server");
    }
}

async fn say(client: &mut TcpStream, follower: &mut Follower, text: &str, why: &str) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    let mut greeted = false;
    loop {
        let count = client.read(&mut buffer).await?;
        follower.asked(buffer.get(..count).unwrap_or_default());
        let answer = match follower.refuse(why) {
            _ if count == 0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            Waiting::Nobody => return Err(io::ErrorKind::InvalidData.into()),
            Waiting::Unknown => continue,
            Waiting::One => one(text),
            Waiting::Two(streams) => {
                if !std::mem::replace(&mut greeted, true) {
                    client.write_all(&greeting()).await?;
                }
                if streams.is_empty() {
                    continue;
                }
                two(&streams, text)
            }
        };
        client.write_all(&answer).await?;
        return client.shutdown().await;
    }
}

fn one(text: &str) -> Vec<u8> {
    let length = text.len();
    format!(
        "HTTP/1.1 502 Bad Gateway\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: {length}\r\n\
         connection: close\r\n\r\n{text}"
    )
    .into_bytes()
}

/// Settings of a server that has no wishes, and that it has heard those of the client.
fn greeting() -> Vec<u8> {
    [frame(SETTINGS, 0, 0, &[]), frame(SETTINGS, ACK, 0, &[])].concat()
}

/// Answers each stream, and takes no more. A call of gRPC ends with status 14, unavailable, and trailers only.
fn two(streams: &[(u32, bool)], text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for &(stream, is_grpc) in streams {
        // 200 has a number in the table of HPACK (RFC 7541, appendix A), as the name of the status has.
        let mut fields = if is_grpc { vec![0x88] } else { [&[0x08][..], &packed(b"502")].concat() };
        if is_grpc {
            // Percent signs and what is beyond ASCII would have to be encoded.
            let plain = |c: char| if c.is_ascii_graphic() && c != '%' { c } else { ' ' };
            let message: String = text.trim_end().chars().map(plain).collect();
            for (name, value) in
                [("content-type", "application/grpc"), ("grpc-status", "14"), ("grpc-message", &message)]
            {
                fields.push(0);
                fields.extend(packed(name.as_bytes()));
                fields.extend(packed(value.as_bytes()));
            }
        }
        bytes.extend(frame(HEADERS, END_STREAM | END_HEADERS, stream, &fields));
    }
    let newest = streams.iter().map(|&(stream, _)| stream).max().unwrap_or_default();
    let no_error = [newest.to_be_bytes(), [0; 4]].concat();
    bytes.extend(frame(GOAWAY, 0, 0, &no_error));
    bytes
}

/// A text as it is (RFC 7541, section 5.2), of at most 16 KiB.
fn packed(text: &[u8]) -> Vec<u8> {
    let text = text.get(..16 * 1024).unwrap_or(text);
    let length = match u8::try_from(text.len()) {
        Ok(short @ ..0x7f) => vec![short],
        _ => {
            // Seven bits at a time, of which the first are marked as followed by others.
            let rest = u16::try_from(text.len() - 0x7f).unwrap_or_default() << 1;
            let [low, high] = rest.to_le_bytes();
            vec![0x7f, low >> 1 | 0x80, high]
        }
    };
    [length.as_slice(), text].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::follow::unpacked;

    #[test]
    fn texts_of_any_length_can_be_unpacked() {
        for length in [0, 1, 126, 127, 128, 254, 255, 256, 382, 383, 5000, 16_384] {
            let text = "x".repeat(length);
            let block = [&[0][..], &packed(b"name"), &packed(text.as_bytes())].concat();
            assert_eq!(unpacked(&block), [("name".to_owned(), text)], "{length}");
        }
    }
}
