//! The same records over MQTT: a Mosquitto with QoS 1 and without TLS, where it is installed (`apt-get install mosquitto`).

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::process::time_of;
use super::transport::DEVICES;

/// Publications without an answer, as many as the other contestants have.
const IN_FLIGHT: usize = 64;

struct Broker(Child);

impl Drop for Broker {
    fn drop(&mut self) {
        self.0.kill().expect("killed");
        self.0.wait().expect("our own child");
    }
}

pub(crate) fn measure(records: &[Vec<u8>]) {
    let folder = tempfile::tempdir().expect("a folder");
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port").local_addr().expect("bound").port();
    let config = folder.path().join("mosquitto.conf");
    fs::write(&config, format!("listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\nlog_type none\n"))
        .expect("written");
    let program = ["/usr/sbin/mosquitto", "/usr/bin/mosquitto", "/usr/local/sbin/mosquitto"];
    let Some(program) = program.into_iter().find(|path| fs::exists(path).unwrap_or(false)) else {
        println!(
            "Mosquitto is not installed, so nothing is compared with it: apt-get install --no-install-recommends mosquitto"
        );
        return;
    };
    let broker = Command::new(program).arg("-c").arg(&config).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let broker = Broker(broker.expect("starts"));
    let before = time_of(broker.0.id());
    thread::scope(|scope| {
        for number in 0..DEVICES {
            scope.spawn(move || publish(port, number, records));
        }
    });
    let spent = time_of(broker.0.id()) - before;
    let count = u32::try_from(records.len() * DEVICES).expect("few");
    println!(
        "Mosquitto, QoS 1, no TLS, nobody subscribed, {count} publications of the same records: broker CPU {:.2} µs per record",
        (spent / count).as_secs_f64() * 1e6
    );
}

/// One client (MQTT 3.1.1): all records to one topic, acknowledged.
fn publish(port: u16, number: usize, records: &[Vec<u8>]) {
    let mut stream = connect(port);
    stream.set_nodelay(true).expect("set");
    let name = format!("gw-{number}");
    let mut body = Vec::from(*b"\x00\x04MQTT\x04\x02\x00\x00");
    push_text(&mut body, &name);
    stream.write_all(&packet(0x10, &body)).expect("sent");
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).expect("an answer");
    assert_eq!(answer, [0x20, 2, 0, 0], "the broker refuses");
    let topic = format!("load/{name}/entrance");
    let mut unanswered = 0;
    for (place, record) in records.iter().enumerate() {
        let mut body = Vec::with_capacity(record.len() + 64);
        push_text(&mut body, &topic);
        let id = u16::try_from(place % 65_535 + 1).expect("16 bits");
        body.extend(id.to_be_bytes());
        body.extend(record);
        stream.write_all(&packet(0x32, &body)).expect("sent");
        unanswered += 1;
        if unanswered == IN_FLIGHT {
            acknowledged(&mut stream, IN_FLIGHT / 2);
            unanswered -= IN_FLIGHT / 2;
        }
    }
    acknowledged(&mut stream, unanswered);
}

fn connect(port: u16) -> TcpStream {
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        match TcpStream::connect((Ipv4Addr::LOCALHOST, port)) {
            Ok(stream) => return stream,
            Err(error) => assert!(Instant::now() < end, "no broker: {error}"),
        }
        thread::sleep(Duration::from_millis(20));
    }
}

fn acknowledged(stream: &mut TcpStream, count: usize) {
    let mut answers = vec![0; count * 4];
    stream.read_exact(&mut answers).expect("acknowledgements");
    assert!(answers.chunks(4).all(|answer| answer[..2] == [0x40, 2]), "something else than acknowledgements");
}

fn push_text(body: &mut Vec<u8>, text: &str) {
    body.extend(u16::try_from(text.len()).expect("short").to_be_bytes());
    body.extend(text.as_bytes());
}

fn packet(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![kind];
    let mut length = body.len();
    loop {
        let low = u8::try_from(length % 128).expect("7 bits");
        length /= 128;
        packet.push(if length > 0 { low | 0x80 } else { low });
        if length == 0 {
            break;
        }
    }
    packet.extend(body);
    packet
}
