//! What a summary costs the aggregator's CPU: over QUIC and over plain TCP with TLS, the same frames, certificates and windows of
//! unacknowledged records, in turn; once only received, once decoded, deduplicated and merged, once durable with decisions.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use driftglass_aggregator::baseline::Tolerances;
use driftglass_aggregator::decision::{Core, Dependence, Settings};
use driftglass_aggregator::host::{now, socket, transport};
use driftglass_aggregator::identity::device_of;
use driftglass_aggregator::ingest::{Connections, Ledger, LedgerError, Observer, Peer, serve};
use driftglass_aggregator::ledger::Outcome;
use driftglass_aggregator::store::embedded::EmbeddedStore;
use driftglass_aggregator::store::{Greeting, Standing};
use driftglass_aggregator::writer::{self, Writer};
use driftglass_benches::material::Camera;
use driftglass_benches::turns::Turns;
use driftglass_protocol::id::{DeviceId, Name};
use driftglass_protocol::limit::PACKET_BYTES_MAX;
use driftglass_protocol::session::chain::{Verdict, judge};
use driftglass_protocol::session::{Acknowledge, Hello};
use driftglass_protocol::sketch::Histogram;
use driftglass_protocol::unit::{Millis, UnixMillis};
use driftglass_protocol::wire::{Body, Mark, Record, parse_frame};
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{Endpoint, EndpointConfig, TokioRuntime};
use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::authority::Authority;
use super::client::{Client, device, written};
use super::mosquitto;
use super::process::{process_time, thread_time};

/// Records of each device in a turn, unless told otherwise.
pub(crate) const RECORDS: usize = 10_000;
/// Devices, each with a connection of its own.
pub(crate) const DEVICES: usize = 4;
const TURNS: u64 = 7;
/// Of the durable ones; their camera learns, and the disk is not what is compared here.
const DURABLE_TURNS: u64 = 3;
/// What fits an Ethernet frame whatever the version of IP.
const ETHERNET: u16 = 1_452;
/// An acknowledgement covers so many records where nothing looks at them.
const COVERED: u64 = 32;
const RATIO_GOAL: f64 = 1.25;
const MICROS_GOAL: f64 = 5.0;

/// What is done with what arrives.
#[derive(Clone)]
enum Work {
    /// Bytes are counted, and acknowledged from time to time.
    Receive { frame_ends: Arc<Vec<u64>> },
    /// A session over a ledger in memory: decoded, judged by the chain rule, merged.
    Merge,
    /// A session over the writer with decisions and the embedded store.
    Store(Writer),
}

#[derive(Clone, Copy)]
enum Via {
    /// With packets up to so many bytes.
    Quic(u16),
    Tls,
}

/// The same for every contestant.
struct Load {
    authority: Arc<Authority>,
    records: Arc<Vec<Vec<u8>>>,
}

pub(crate) fn measure(count: usize) {
    let mut camera = Camera::new(Name::parse("entrance").expect("a name"), 1);
    let records: Vec<Vec<u8>> = (0..count).map(|_| camera.next_record().expect("fits")).collect();
    let bytes: usize = records.iter().map(Vec::len).sum();
    let mut end = 0;
    let ends = records.iter().map(|record| {
        end += record.len() as u64;
        end
    });
    let frame_ends = Arc::new(ends.collect::<Vec<u64>>());
    let load = Load { authority: Arc::new(Authority::new()), records: Arc::new(records) };
    println!("{DEVICES} connections, {} bytes in a record on average, {count} records each in a turn:", bytes / count);

    let receive = Work::Receive { frame_ends };
    for (packets, name) in [(ETHERNET, "QUIC in Ethernet's packets"), (PACKET_BYTES_MAX, "QUIC in the path's")] {
        let turns = load.turns(TURNS, &receive, packets, name);
        let ratio = turns.ratio(1).expect("ran");
        println!("received, server CPU per record: {turns}; goal {RATIO_GOAL}, {:.2} of it", ratio / RATIO_GOAL);
    }
    let turns = load.turns(TURNS, &Work::Merge, PACKET_BYTES_MAX, "QUIC");
    let micros = turns.seconds(0).expect("ran") * 1e6;
    println!(
        "decoded, deduplicated and merged, server CPU per record: {turns}; goal {MICROS_GOAL} µs, {:.2} of it",
        micros / MICROS_GOAL
    );
    load.durable();
    mosquitto::measure(&load.records);
}

impl Load {
    /// QUIC and TLS in turn.
    fn turns(&self, count: u64, work: &Work, packets: u16, name: &'static str) -> Turns {
        let records = (self.records.len() * DEVICES) as u64;
        let mut turns = Turns::new(records, &[name, "TCP with TLS"]);
        for _ in 0..count {
            let mut quic = |_| self.turn(Via::Quic(packets), work);
            let mut tls = |_| self.turn(Via::Tls, work);
            turns.run(records, &mut [&mut quic, &mut tls]);
        }
        turns
    }

    /// Server CPU of one turn: of its thread, which receives, and of the writer's where there is one.
    fn turn(&self, via: Via, work: &Work) -> Duration {
        let (announce, announced) = oneshot::channel();
        // Nobody answers a greeting where nobody looks at what arrives.
        let greets = !matches!(work, Work::Receive { .. });
        let (authority, work) = (Arc::clone(&self.authority), work.clone());
        let whole = process_time();
        let own = thread_time();
        let server = thread::spawn(move || {
            runtime().block_on(async {
                match via {
                    Via::Quic(_) => serve_quic(&authority, announce, work).await,
                    Via::Tls => serve_tls(&authority, announce, work).await,
                }
            });
        });
        let (authority, records) = (Arc::clone(&self.authority), Arc::clone(&self.records));
        let clients = thread::spawn(move || {
            runtime().block_on(async {
                let address = announced.await.expect("the server listens");
                deliver(via, &authority, address, &records, greets).await;
            });
            thread_time()
        });
        let clients = clients.join().expect("delivered");
        server.join().expect("served");
        // Everything that is neither the devices nor this thread is the aggregator.
        (process_time() - whole).saturating_sub(clients).saturating_sub(thread_time() - own)
    }

    fn durable(&self) {
        let records = (self.records.len() * DEVICES) as u64;
        let mut turns = Turns::new(records, &["QUIC"]);
        for _ in 0..DURABLE_TURNS {
            let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
            let store = EmbeddedStore::open(folder.path()).expect("opens");
            let settings = Settings {
                q: 0.05,
                epoch: Millis(86_400_000),
                learning: Millis(30 * 60_000),
                tolerances: Tolerances::CATALOGUE,
                budget: None,
                dependence: Dependence::Positive,
            };
            let clock = || UnixMillis(1_800_000_000_000);
            let (writer, thread) =
                Writer::start(store, move || Core::new(settings), clock, writer::Settings::default()).expect("starts");
            let work = Work::Store(writer);
            let mut quic = |_| self.turn(Via::Quic(PACKET_BYTES_MAX), &work);
            turns.run(records, &mut [&mut quic]);
            drop(work);
            thread.join().expect("ends in order");
        }
        println!("with decisions and durable, server CPU per record, writer included: {turns}");
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

fn quic_server(authority: &Authority) -> quinn::ServerConfig {
    let crypto = QuicServerConfig::try_from(authority.server_tls()).expect("TLS for QUIC");
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    config.transport_config(Arc::new(transport(true)));
    config
}

async fn serve_quic(authority: &Authority, announce: oneshot::Sender<SocketAddr>, work: Work) {
    let mut config = EndpointConfig::default();
    config.max_udp_payload_size(PACKET_BYTES_MAX).expect("within QUIC's");
    let socket = socket((Ipv4Addr::LOCALHOST, 0).into()).expect("a socket");
    let endpoint = Endpoint::new(config, Some(quic_server(authority)), socket, Arc::new(TokioRuntime)).expect("one");
    announce.send(endpoint.local_addr().expect("bound")).expect("awaited");
    let mut sessions = JoinSet::new();
    for _ in 0..DEVICES {
        let connection = endpoint.accept().await.expect("open").await.expect("connected");
        let work = work.clone();
        sessions.spawn(async move {
            let chain = connection.peer_identity().expect("certificates").downcast::<Vec<CertificateDer<'static>>>();
            let device = device_of(&chain.expect("of rustls"), "driftglass.local").expect("a device");
            let (mut writer, mut reader) = connection.accept_bi().await.expect("a stream");
            attend(device, &mut reader, &mut writer, work).await;
            // The device closes when it has its last acknowledgement.
            connection.closed().await;
        });
    }
    sessions.join_all().await;
}

async fn serve_tls(authority: &Authority, announce: oneshot::Sender<SocketAddr>, work: Work) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a socket");
    announce.send(listener.local_addr().expect("bound")).expect("awaited");
    let acceptor = TlsAcceptor::from(Arc::new(authority.server_tls()));
    let mut sessions = JoinSet::new();
    for _ in 0..DEVICES {
        let (stream, _) = listener.accept().await.expect("open");
        stream.set_nodelay(true).expect("set");
        let (acceptor, work) = (acceptor.clone(), work.clone());
        sessions.spawn(async move {
            let stream = acceptor.accept(stream).await.expect("connected");
            let chain = stream.get_ref().1.peer_certificates().expect("certificates").to_vec();
            let device = device_of(&chain, "driftglass.local").expect("a device");
            let (mut reader, mut writer) = tokio::io::split(stream);
            attend(device, &mut reader, &mut writer, work).await;
        });
    }
    sessions.join_all().await;
}

async fn attend<R, W>(device: DeviceId, reader: &mut R, writer: &mut W, work: Work)
where
    R: AsyncRead + Unpin + Send,
    W: AsyncWrite + Unpin + Send,
{
    let connections = Connections::default();
    let mut place = connections.register(device.clone());
    match work {
        Work::Receive { frame_ends } => receive(reader, writer, &frame_ends).await,
        Work::Merge => {
            let ledger = MemoryLedger::default();
            serve(&Peer { device, ledger: &ledger, observer: &Nobody, clock: now }, reader, writer, &mut place).await;
        }
        Work::Store(ledger) => {
            serve(&Peer { device, ledger: &ledger, observer: &Nobody, clock: now }, reader, writer, &mut place).await;
        }
    }
}

/// Reads all there is and acknowledges what is whole, without looking at it.
async fn receive<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(reader: &mut R, writer: &mut W, frame_ends: &[u64]) {
    let mut buffer = vec![0; 16 * 1024];
    let (mut received, mut acknowledged) = (0, 0);
    let all = frame_ends.len() as u64;
    while acknowledged < all {
        let count = reader.read(&mut buffer).await.expect("read");
        assert!(count > 0, "it ends early");
        received += count as u64;
        let next = (acknowledged + COVERED).min(all);
        let place = usize::try_from(next - 1).expect("small");
        if received >= frame_ends[place] {
            acknowledged = next;
            let acknowledge = Acknowledge { mark: Mark { epoch: 1, sequence: acknowledged } };
            writer.write_all(&written(|out| acknowledge.write(out))).await.expect("sent");
            writer.flush().await.expect("sent");
        }
    }
}

async fn deliver(via: Via, authority: &Authority, address: SocketAddr, records: &Arc<Vec<Vec<u8>>>, greets: bool) {
    let endpoint = Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).expect("a socket");
    let mut devices = JoinSet::new();
    for number in 0..DEVICES {
        let name = format!("gw-{number}");
        let tls = authority.device_tls(&name);
        let (endpoint, records) = (endpoint.clone(), Arc::clone(records));
        devices.spawn(async move {
            match via {
                Via::Quic(packets) => {
                    let crypto = QuicClientConfig::try_from(tls).expect("TLS for QUIC");
                    let mut config = quinn::ClientConfig::new(Arc::new(crypto));
                    let (mut transport, mut discovery) =
                        (driftglass_agent::uplink::transport(true), quinn::MtuDiscoveryConfig::default());
                    discovery.upper_bound(packets);
                    transport.mtu_discovery_config(Some(discovery));
                    config.transport_config(Arc::new(transport));
                    let connecting = endpoint.connect_with(config, address, "127.0.0.1").expect("started");
                    let connection = connecting.await.expect("connected");
                    let (send, receive) = connection.open_bi().await.expect("a stream");
                    session(Client::new(receive, send), &name, &records, greets).await;
                    connection.close(0_u32.into(), b"");
                }
                Via::Tls => {
                    let stream = TcpStream::connect(address).await.expect("connected");
                    stream.set_nodelay(true).expect("set");
                    let name_of_server = "127.0.0.1".try_into().expect("an address");
                    let stream = TlsConnector::from(Arc::new(tls)).connect(name_of_server, stream).await.expect("TLS");
                    let (receive, send) = tokio::io::split(stream);
                    session(Client::new(receive, send), &name, &records, greets).await;
                }
            }
        });
    }
    devices.join_all().await;
    endpoint.wait_idle().await;
}

async fn session<R, W>(mut client: Client<R, W>, name: &str, records: &[Vec<u8>], greets: bool)
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    if greets {
        client.greet(device(name)).await;
    }
    client.deliver(records).await;
    client.writer.shutdown().await.expect("finished");
}

/// Nobody is told.
struct Nobody;

impl Observer for Nobody {
    fn accepted(&self, _: Option<f64>) {}
    fn duplicate(&self) {}
    fn throttled(&self) {}
}

/// The chain rule and the merging of histograms, in memory.
#[derive(Default)]
struct MemoryLedger(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    mark: Mark,
    features: Vec<(u8, Box<Histogram>)>,
}

impl Ledger for MemoryLedger {
    type Ticket = std::future::Ready<Result<Outcome, LedgerError>>;

    async fn greet(&self, _: Hello) -> Result<Greeting, LedgerError> {
        Ok(Greeting { mark: Mark::default(), standing: Standing::Welcome })
    }

    async fn submit(&self, _: &DeviceId, frame: Vec<u8>) -> Result<Self::Ticket, LedgerError> {
        let mut kept = self.0.lock().expect("nobody panics with it");
        let record = Record::parse(parse_frame(&frame).expect("a frame")).expect("a record");
        assert_eq!(judge(kept.mark, record.id, record.previous), Verdict::Accept);
        kept.mark = record.id.mark();
        if let Body::Summary(summary) = &record.body {
            for (sketch, (_, histogram)) in summary.sketches.iter().zip(summary.histograms()) {
                match kept.features.binary_search_by_key(&sketch.feature, |(number, _)| *number) {
                    Ok(place) => kept.features[place].1.merge(histogram),
                    Err(place) => {
                        let mut fresh = Box::new(Histogram::new());
                        fresh.merge(histogram);
                        kept.features.insert(place, (sketch.feature, fresh));
                    }
                }
            }
        }
        Ok(std::future::ready(Ok(Outcome::Accepted(kept.mark))))
    }
}
