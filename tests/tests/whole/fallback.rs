//! A site that blocks UDP: the agent goes over TCP, everything counts once whatever is killed meanwhile, and QUIC is taken up again when
//! it is let through.

use std::collections::HashMap;
use std::fs;
use std::io::Write;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use driftglass_protocol::limit::CONFIGURATION_BYTES;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::AsyncReadExt;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::guidance::{OWN, becomes, filmed, set};
use crate::support::authority::Authority;
use crate::support::camera::{Camera, scene, shots, view};
use crate::support::peer::{Shown, client_tls};
use crate::support::process::{lasting_port, said};
use crate::support::service::{Agent, Aggregator};
use crate::support::{PATIENCE, until};

/// A firewall in front of a UDP port: it swallows everything until it is opened.
struct Firewall {
    address: SocketAddr,
    open: Arc<AtomicBool>,
    ended: Arc<AtomicBool>,
}

impl Firewall {
    fn before(inside: SocketAddr) -> Self {
        let front = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let address = front.local_addr().expect("an address");
        let (open, ended) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let (let_through, over) = (Arc::clone(&open), Arc::clone(&ended));
        front.set_read_timeout(Some(Duration::from_millis(2))).expect("a time limit");
        thread::spawn(move || {
            let mut ways: HashMap<SocketAddr, UdpSocket> = HashMap::new();
            let mut packet = [0; 2048];
            while !over.load(Ordering::Relaxed) {
                if let Ok((length, from)) = front.recv_from(&mut packet)
                    && let_through.load(Ordering::Relaxed)
                {
                    let way = ways.entry(from).or_insert_with(|| {
                        let way = UdpSocket::bind("127.0.0.1:0").expect("a socket");
                        way.set_nonblocking(true).expect("not waiting");
                        way
                    });
                    way.send_to(&packet[..length], inside).expect("sent");
                }
                for (to, way) in &ways {
                    while let Ok(length) = way.recv(&mut packet) {
                        front.send_to(&packet[..length], to).expect("sent");
                    }
                }
            }
        });
        Self { address, open, ended }
    }
}

impl Drop for Firewall {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
    }
}

fn counted(aggregator: &Aggregator, camera: &Camera) {
    until("every frame counted", PATIENCE * 2, || {
        let frames = aggregator.counts("home/gw/door").frames;
        assert!(frames <= camera.written, "{frames} counted of {}", camera.written);
        (frames == camera.written).then_some(())
    });
}

fn carried_by(agent: &Agent, transport: &str) {
    let over = |name: &str| agent.metric("driftglass_agent_uplink_transport", &format!("transport=\"{name}\"")) == 1;
    until(&format!("a session over {transport}"), PATIENCE * 2, || {
        agent.page("/metrics")?;
        over(transport).then_some(())
    });
    assert!(!["quic", "tcp"].into_iter().any(|other| other != transport && over(other)), "one at a time");
    let health = agent.page("/healthz").expect("it answers");
    assert_eq!(health.contains("reached over tcp"), transport == "tcp", "{health}");
}

#[test]
fn where_udp_is_blocked_frames_count_once_over_tcp_and_quic_is_taken_up_again() {
    let root = tempfile::tempdir().expect("folder");
    let (root, authority) = (root.path(), Authority::new());
    let (quic_port, tcp_port) = (lasting_port(), lasting_port());
    let sections = format!("[tcp]\nlisten = \"127.0.0.1:{tcp_port}\"");
    let mut aggregator = Aggregator::start_with(root, &authority, quic_port, "", &sections);
    let firewall = Firewall::before(aggregator.quic);
    let frames = root.join("frames");
    let mut camera = Camera::new(frames.clone(), &shots(&scene()[..4], view(1)), 0);
    authority.install(&authority.device("home", "gw"), &root.join("agent-home"));
    let mut agent = Agent::configured(root, firewall.address, "home", &Agent::door(&frames), lasting_port())
        .falling_back(aggregator.tcp());
    agent.restart();
    (0..3).for_each(|_| camera.shoot());
    counted(&aggregator, &camera);
    carried_by(&agent, "tcp");

    for round in 0..3 {
        (0..6).for_each(|_| camera.shoot());
        match round {
            0 => {
                aggregator.process.kill();
                (0..6).for_each(|_| camera.shoot());
                aggregator.restart();
            }
            1 => {
                agent.process.kill();
                (0..6).for_each(|_| camera.shoot());
                agent.restart();
            }
            _ => {
                aggregator.process.terminate();
                aggregator.restart();
            }
        }
        (0..2).for_each(|_| camera.shoot());
        counted(&aggregator, &camera);
    }
    carried_by(&agent, "tcp");
    assert_eq!(aggregator.list("devices").expect("devices")[0]["gaps"], 0);

    firewall.open.store(true, Ordering::Relaxed);
    carried_by(&agent, "quic");
    (0..4).for_each(|_| camera.shoot());
    counted(&aggregator, &camera);
    assert!(agent.process.log().contains("going on over QUIC"), "{}", agent.process.log());
    assert_eq!(aggregator.rejected_in_all(), 0);
}

#[test]
fn a_device_behind_a_firewall_is_set_from_the_centre_and_catches_up_on_what_was_wished_while_it_was_away() {
    let root = tempfile::tempdir().expect("folder");
    let (root, authority) = (root.path(), Authority::new());
    let sections = format!("[tcp]\nlisten = \"127.0.0.1:{}\"", lasting_port());
    let mut aggregator = Aggregator::start_with(root, &authority, lasting_port(), "", &sections);
    let firewall = Firewall::before(aggregator.quic);
    let frames = root.join("frames");
    let camera = Camera::new(frames.clone(), &shots(&scene()[..4], view(1)), 0);
    authority.install(&authority.device("north", "gw"), &root.join("agent-north"));
    let cameras = format!("{OWN}{}", Agent::door(&frames));
    let mut agent =
        Agent::configured(root, firewall.address, "north", &cameras, lasting_port()).falling_back(aggregator.tcp());
    filmed(camera, &AtomicBool::new(true), || {
        assert_eq!(set(root, &aggregator, &[], "[[camera]]\nname = \"*\"\nfps = 1\n"), 1);
        agent.restart();
        becomes(&aggregator, 1, 1, "applied");
        carried_by(&agent, "tcp");

        // Told to the session that stands; what the device cannot be set to, and how it says so.
        assert_eq!(set(root, &aggregator, &["--site", "north"], "[log]\nlevel = \"debug\"\n"), 2);
        becomes(&aggregator, 2, 2, "applied");
        until("the level of the log from the centre", PATIENCE, || agent.process.log().contains("DEBUG").then_some(()));
        let device = ["--device", "north/gw"];
        assert_eq!(set(root, &aggregator, &device, "[[camera]]\nname = \"gate\"\nfps = 1\n"), 3);
        let shown = becomes(&aggregator, 2, 3, "refused");
        assert!(shown["detail"].as_str().is_some_and(|detail| detail.contains("gate")), "{shown:#}");

        // As long as any wish may be, while the device is away.
        agent.process.kill();
        let longest = format!("# {}\n[log]\nlevel = \"info\"\n", "x".repeat(CONFIGURATION_BYTES - 30));
        assert_eq!(set(root, &aggregator, &device, &longest), 4);
        agent.restart();
        becomes(&aggregator, 4, 4, "applied");
        carried_by(&agent, "tcp");

        // While the aggregator is away nothing is lost either; it tells who comes back.
        aggregator.process.kill();
        aggregator.restart();
        assert_eq!(set(root, &aggregator, &device, "[log]\nlevel = \"debug\"\n"), 5);
        becomes(&aggregator, 5, 5, "applied");
        carried_by(&agent, "tcp");

        // The same device over QUIC.
        firewall.open.store(true, Ordering::Relaxed);
        carried_by(&agent, "quic");
        assert_eq!(set(root, &aggregator, &device, "[log]\nlevel = \"warn\"\n"), 6);
        becomes(&aggregator, 6, 6, "applied");
    });
    assert_eq!(aggregator.rejected_in_all(), 0);
}

#[test]
fn a_device_behind_a_firewall_enrols_and_renews_over_tcp_and_a_stranger_does_not() {
    let root = tempfile::tempdir().expect("folder");
    let (root, stranger) = (root.path(), Authority::new());
    let aggregator = Aggregator::issuing_with(root, "10s", 0, "[tcp]\nlisten = \"127.0.0.1:0\"");
    let firewall = Firewall::before(aggregator.quic);
    let output = aggregator.operate(&["token", "create", "--site", "home", "--device", "gw"]);
    let token = String::from_utf8(output.stdout).expect("text");
    let frames = root.join("frames");
    let mut camera = Camera::new(frames.clone(), &shots(&scene()[..4], view(1)), 0);
    let mut agent = Agent::configured(root, firewall.address, "home", &Agent::door(&frames), lasting_port())
        .falling_back(aggregator.tcp());
    let enrolled = agent.enroll(token.trim());
    assert!(enrolled.status.success(), "{}", said(&enrolled));
    agent.restart();
    (0..3).for_each(|_| camera.shoot());
    counted(&aggregator, &camera);
    until("a renewal over TCP", PATIENCE, || (aggregator.enrolments("renewed") > 0).then_some(()));
    carried_by(&agent, "tcp");
    agent.process.assert_running();

    // No TLS at all, and a certificate of another authority.
    let mut plain = TcpStream::connect(aggregator.tcp()).expect("connected");
    plain.write_all(b"GET / HTTP/1.1\r\n\r\n").expect("sent");
    until("plain text refused", PATIENCE, || (aggregator.rejected("handshake") == 1).then_some(()));
    let ca = fs::read(aggregator.data().join("authority/1/ca.pem")).expect("read");
    let ca = CertificateDer::from_pem_slice(&ca).expect("PEM");
    let identity = stranger.device("home", "gw");
    let key = PrivateKeyDer::try_from(identity.key.serialize_der()).expect("a key");
    let shown = Shown { chain: vec![identity.certificate.der().clone()], key };
    let tls = Arc::new(client_tls(ca, Some(shown), b"driftglass/1"));
    let ended =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(async {
            let stream = tokio::net::TcpStream::connect(aggregator.tcp()).await.expect("connected");
            let name = ServerName::try_from("127.0.0.1").expect("a name");
            let mut stream =
                TlsConnector::from(tls).connect(name, stream).await.expect("its own part of the handshake");
            timeout(PATIENCE, stream.read_to_end(&mut Vec::new())).await.expect("in time")
        });
    assert!(ended.is_err(), "a stranger was let in");
    until("the stranger refused", PATIENCE, || (aggregator.rejected("handshake") == 2).then_some(()));
    camera.shoot();
    counted(&aggregator, &camera);
}
