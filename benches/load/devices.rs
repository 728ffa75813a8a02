//! Many devices on one aggregator, each a connection with its own certificate: how many, how fast, and what each costs in memory.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use driftglass_aggregator::config::{Config, Overrides};
use driftglass_aggregator::host::{Addresses, LogFormat, run, start_logging};
use driftglass_benches::material::Camera;
use driftglass_protocol::id::Name;
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{Connection, Endpoint, RecvStream, SendStream, TransportConfig, VarInt};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::authority::Authority;
use super::client::{Client, device};
use super::process::{kib_each, memory_of};

/// Unless told otherwise: enough for the figure, and little enough for any machine.
pub(crate) const DEVICES: usize = 2_000;
/// Handshakes and sessions at once.
const AT_ONCE: usize = 128;
/// How long it tries each time, as agents do.
const CONNECT: Duration = Duration::from_secs(10);
/// Connections that the aggregator allows.
const MOST: usize = 1_000_000;
/// How often a device tries again.
const ATTEMPTS: usize = 10;
/// Devices that connect before anything is measured: what the first ones cost, the process keeps.
const BEFORE: usize = 64;
/// Of a connected device, everything.
const GOAL_KIB: f64 = 48.0;
/// Connections of one socket.
const PER_ENDPOINT: usize = 4_096;

/// The aggregator that is measured.
pub(crate) fn serve(folder: &str) {
    start_logging(LogFormat::Text, Some("error"));
    // Here all devices are in one network.
    let text = format!(
        "data_dir = {folder:?}\n[quic]\nlisten = \"127.0.0.1:0\"\nmax_connections = {MOST}\nmax_connections_per_network = {MOST}\n\
         [http]\nlisten = \"127.0.0.1:0\"\n"
    );
    let config = Config::parse("load", &text, &Overrides::default()).expect("a configuration");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(run(&config)).expect("it runs");
}

struct Service(Child);

impl Drop for Service {
    fn drop(&mut self) {
        self.0.kill().expect("killed");
        self.0.wait().expect("our own child");
    }
}

type Device = (Connection, Client<RecvStream, SendStream>);

pub(crate) fn measure(count: usize) {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let authority = Arc::new(Authority::new());
    authority.install(&folder.path().join("identity"));
    let own = std::env::current_exe().expect("known");
    let child = Command::new(own).arg("--serve").arg(folder.path()).stdin(Stdio::null()).spawn().expect("starts");
    let service = Service(child);
    let address = address(folder.path());
    let process = service.0.id();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let _early = connect(&authority, address, 0..BEFORE).await;
        settle().await;
        let before = memory_of(process);
        let began = Instant::now();
        let devices = connect(&authority, address, BEFORE..BEFORE + count).await;
        let took = began.elapsed();
        settle().await;
        let connected = memory_of(process) - before.min(memory_of(process));
        let began = Instant::now();
        let devices = deliver(devices).await;
        let delivering = began.elapsed();
        settle().await;
        let delivered = memory_of(process) - before.min(memory_of(process));
        assert!(devices.iter().all(|(connection, _)| connection.close_reason().is_none()), "all are still connected");
        println!(
            "{count} devices connected: {:.1} KiB each when greeted, {:.1} KiB each with a camera and a window delivered, goal {GOAL_KIB}, \
             ratio {:.2} and {:.2}; {:.0} handshakes/s, then {:.0} windows/s, one each (aggregator and devices on the same machine)",
            kib_each(connected, count),
            kib_each(delivered, count),
            kib_each(connected, count) / GOAL_KIB,
            kib_each(delivered, count) / GOAL_KIB,
            rate(count, took),
            rate(count, delivering),
        );
    });
}

/// Lets everything that was begun come to an end.
async fn settle() {
    tokio::time::sleep(Duration::from_secs(2)).await;
}

#[expect(clippy::cast_precision_loss, reason = "a count of devices")]
fn rate(count: usize, time: Duration) -> f64 {
    count as f64 / time.as_secs_f64()
}

fn address(folder: &Path) -> SocketAddr {
    let announced = folder.join(Addresses::FILE_NAME);
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        if let Ok(bytes) = std::fs::read(&announced) {
            let addresses: Addresses = serde_json::from_slice(&bytes).expect("JSON");
            return addresses.quic;
        }
        assert!(Instant::now() < end, "the aggregator does not start");
        std::thread::sleep(Duration::from_millis(50));
    }
}

async fn connect(authority: &Arc<Authority>, address: SocketAddr, numbers: std::ops::Range<usize>) -> Vec<Device> {
    let mut transport = TransportConfig::default();
    transport
        .keep_alive_interval(Some(Duration::from_secs(25)))
        .max_idle_timeout(Some(VarInt::from_u32(120_000).into()));
    let transport = Arc::new(transport);
    let room = Arc::new(Semaphore::new(AT_ONCE));
    let mut tasks = JoinSet::new();
    let mut endpoint = None;
    for (place, number) in numbers.enumerate() {
        if place % PER_ENDPOINT == 0 {
            endpoint = Some(Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).expect("a socket"));
        }
        let endpoint = endpoint.clone().expect("the first is made at once");
        let permit = Arc::clone(&room).acquire_owned().await.expect("open");
        let (authority, transport) = (Arc::clone(authority), Arc::clone(&transport));
        tasks.spawn(async move {
            let name = format!("gw-{number}");
            let crypto = QuicClientConfig::try_from(authority.device_tls(&name)).expect("TLS for QUIC");
            let mut config = quinn::ClientConfig::new(Arc::new(crypto));
            config.transport_config(transport);
            let mut attempts = 0;
            let (connection, client) = loop {
                let attempt = attempt(&endpoint, config.clone(), address, &name);
                match tokio::time::timeout(CONNECT, attempt).await {
                    Ok(Ok(device)) => break device,
                    // The machine is slower than the limits of a handshake; an agent would come again as well.
                    failed => assert!(attempts < ATTEMPTS, "{name}: {:?}", failed.map(|attempted| attempted.err())),
                }
                attempts += 1;
                tokio::time::sleep(Duration::from_secs(1)).await;
            };
            drop(permit);
            (connection, client)
        });
    }
    tasks.join_all().await
}

async fn attempt(
    endpoint: &Endpoint,
    config: quinn::ClientConfig,
    address: SocketAddr,
    name: &str,
) -> std::io::Result<Device> {
    let connection = endpoint.connect_with(config, address, "127.0.0.1").expect("a good configuration").await?;
    let (send, receive) = connection.open_bi().await?;
    let mut client = Client::new(receive, send);
    client.try_greet(device(name)).await?;
    Ok((connection, client))
}

/// One window of every device.
async fn deliver(devices: Vec<Device>) -> Vec<Device> {
    let room = Arc::new(Semaphore::new(AT_ONCE));
    let mut tasks = JoinSet::new();
    for (number, (connection, mut client)) in (0..).zip(devices) {
        let permit = Arc::clone(&room).acquire_owned().await.expect("open");
        tasks.spawn(async move {
            let mut camera = Camera::new(Name::parse("entrance").expect("a name"), number);
            client.deliver(&[camera.next_record().expect("fits")]).await;
            drop(permit);
            (connection, client)
        });
    }
    tasks.join_all().await
}
