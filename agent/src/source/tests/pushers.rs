//! Those who bring pictures, over HTTP and over a socket.

use super::*;

/// Sends a request, and returns the status of the answer.
async fn post(address: SocketAddr, request: &[u8]) -> u16 {
    let mut stream = TcpStream::connect(address).await.expect("connected");
    // The server may answer, and close, before it has heard everything.
    stream.write_all(request).await.ok();
    let mut answer = vec![0; 12];
    stream.read_exact(&mut answer).await.expect("an answer");
    String::from_utf8(answer).expect("text")[9..].parse().expect("a status")
}

fn request(path: &str, more: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("POST {path} HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n{more}\r\n", body.len());
    [head.as_bytes(), body].concat()
}

async fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.expect("bound").local_addr().expect("bound")
}

async fn until_listening(address: SocketAddr) {
    let end = Instant::now() + PATIENCE;
    while TcpStream::connect(address).await.is_err() {
        assert!(Instant::now() < end, "nobody listens");
        sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn what_is_posted_is_taken_or_refused_with_a_reason() {
    let folder = tempfile::tempdir().expect("folder");
    let token = folder.path().join("token");
    fs::write(&token, "s3cret\n").expect("written");
    let (open_address, guarded) = (free_address().await, free_address().await);
    let cameras = [
        ("door", format!("kind = \"push\", listen = \"{open_address}\", max_frame = \"64KiB\", timeout = \"1s\"")),
        ("yard", format!("kind = \"push\", listen = \"{open_address}\"")),
        ("gate", format!("kind = \"push\", listen = \"{guarded}\", token_file = {token:?}")),
    ];
    let mut running = Running::start(&cameras, rand::random::<u64>).await;
    until_listening(open_address).await;
    until_listening(guarded).await;
    let picture = jpeg(1, 32, 32);
    assert_eq!(post(open_address, &request("/door", "", &picture)).await, 202);
    assert_eq!(post(open_address, &request("/yard/", "", &picture)).await, 202);
    assert_eq!(running.picture(0).await, picture);
    assert_eq!(running.picture(1).await, picture);
    assert_eq!(post(open_address, &request("/door", "", b"<html>")).await, 415);
    assert_eq!(running.picture(0).await, b"<html>", "for the decoder to refuse");
    assert_eq!(post(open_address, &request("/door", "", &vec![0xff; 70_000])).await, 413);
    assert_eq!(running.next(0).await.0, Condition::Unusable(Unusable::TooLarge));
    let chunked =
        [b"POST /door HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n20000\r\n".as_slice(), &[7; 0x2_0000]]
            .concat();
    assert_eq!(post(open_address, &chunked).await, 413);
    assert_eq!(running.next(0).await.0, Condition::Unusable(Unusable::TooLarge));
    assert_eq!(post(open_address, &request("/gate", "", &picture)).await, 404, "another server's camera");
    assert_eq!(post(open_address, b"GET /door HTTP/1.1\r\nHost: h\r\n\r\n").await, 405);
    assert_eq!(post(guarded, &request("/gate", "", &picture)).await, 401);
    assert_eq!(post(guarded, &request("/gate", "Authorization: Bearer s3cre7\r\n", &picture)).await, 401);
    assert_eq!(post(guarded, &request("/gate", "Authorization: Bearer s3cret\r\n", &picture)).await, 202);
    assert_eq!(running.picture(2).await, picture);
    // Nobody takes them out: the sender learns that there is no room.
    let mut statuses = Vec::new();
    for _ in 0..10 {
        statuses.push(post(open_address, &request("/door", "", &jpeg(2, 8, 8))).await);
    }
    assert_eq!(statuses, [[202; 8].as_slice(), &[503; 2]].concat());
    // Endless headers are cut off with the connection.
    let mut stream = TcpStream::connect(open_address).await.expect("connected");
    let endless = async {
        stream.write_all(b"POST /door HTTP/1.1\r\n").await?;
        loop {
            stream.write_all(&b"X: y\r\n".repeat(1000)).await?;
        }
    };
    let cut: std::io::Result<()> = timeout(PATIENCE, endless).await.expect("cut off in time");
    assert!(cut.is_err());
    assert_eq!(running.failure(0, "stalled").await, "no picture for 1.0 s");
    running.end().await;
}

#[tokio::test]
async fn a_socket_takes_pictures_behind_their_length_and_plain_files() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("door.sock");
    // What a killed agent leaves is no obstacle.
    drop(std::os::unix::net::UnixListener::bind(&path).expect("bound"));
    let source = format!("kind = \"push\", socket = {path:?}, max_frame = \"64KiB\"");
    let mut running = Running::one(source.clone()).await;
    let connect = async || {
        let end = Instant::now() + PATIENCE;
        loop {
            match UnixStream::connect(&path).await {
                Ok(stream) => return stream,
                Err(error) => assert!(Instant::now() < end, "{error}"),
            }
            sleep(Duration::from_millis(5)).await;
        }
    };
    let (picture, other) = (jpeg(1, 32, 32), jpeg(2, 64, 8));
    let framed = |bytes: &[u8]| [&u32::try_from(bytes.len()).expect("small").to_be_bytes(), bytes].concat();
    let mut stream = connect().await;
    // Far more than there is room for: whoever brings them waits.
    let many = [framed(&picture), framed(&other)].concat().repeat(50);
    let writer = tokio::spawn(async move { stream.write_all(&many).await.map(|()| stream) });
    for _ in 0..50 {
        assert_eq!(running.picture(0).await, picture);
        assert_eq!(running.picture(0).await, other);
    }
    drop(writer.await.expect("no panic").expect("all taken"));
    let mut stream = connect().await;
    stream.write_all(&[picture.as_slice(), &other].concat()).await.expect("taken");
    assert_eq!(running.picture(0).await, picture);
    assert_eq!(running.picture(0).await, other);
    drop(stream);
    let mut stream = connect().await;
    stream.write_all(&[0, 0, 0, 0]).await.expect("taken");
    assert_eq!(running.next(0).await.0, Condition::Unusable(Unusable::Empty));
    stream.write_all(&framed(&picture)[..20]).await.expect("taken");
    drop(stream);
    running.failure(0, "ended").await;
    let mut stream = connect().await;
    stream.write_all(&[0x7f, 0xff, 0xff, 0xff, 1, 2, 3]).await.expect("taken");
    assert_eq!(running.next(0).await.0, Condition::Unusable(Unusable::TooLarge));
    let message = running.failure(0, "protocol").await;
    assert!(message.contains("2147483647"), "{message}");
    // A second agent on the same path is told, and does not take it away.
    let second = Running::one(source).await;
    second.failure(0, "listen").await;
    second.end().await;
    running.end().await;
    assert!(!path.exists(), "the socket went with its agent");
}
