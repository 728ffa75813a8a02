//! A relay for datagrams that drops what it is told to: what stands in for a link where there are no network namespaces.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::plan::Cut;

/// How long a thread waits for a datagram before it looks whether it is to end.
const LOOK: Duration = Duration::from_millis(100);

#[derive(Debug, Default)]
struct State {
    drop_outbound: AtomicBool,
    drop_inbound: AtomicBool,
    end: AtomicBool,
    /// Where the agent was heard last.
    agent: Mutex<Option<SocketAddr>>,
}

/// A relay between one agent and the aggregator.
#[derive(Debug)]
pub(super) struct Relay {
    port: u16,
    state: Arc<State>,
    threads: Vec<JoinHandle<()>>,
}

impl Relay {
    /// Relays to this port of this machine.
    pub(super) fn start(aggregator: u16) -> Self {
        let socket = || {
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
            socket.set_read_timeout(Some(LOOK)).expect("set");
            Arc::new(socket)
        };
        let (towards_agent, towards_aggregator) = (socket(), socket());
        let port = towards_agent.local_addr().expect("bound").port();
        let state = Arc::new(State::default());
        let there = SocketAddr::from((Ipv4Addr::LOCALHOST, aggregator));
        let threads = vec![
            thread::spawn({
                let (state, from, to) =
                    (Arc::clone(&state), Arc::clone(&towards_agent), Arc::clone(&towards_aggregator));
                move || {
                    carry(&from, &to, &state, &state.drop_outbound, |sender| {
                        *state.agent.lock().expect("nobody panics with it") = Some(sender);
                        Some(there)
                    });
                }
            }),
            thread::spawn({
                let (state, from, to) = (Arc::clone(&state), towards_aggregator, towards_agent);
                move || {
                    carry(&from, &to, &state, &state.drop_inbound, |_| {
                        *state.agent.lock().expect("nobody panics with it")
                    });
                }
            }),
        ];
        Self { port, state, threads }
    }

    /// Where the agent finds it, on this machine.
    pub(super) const fn port(&self) -> u16 {
        self.port
    }

    pub(super) fn cut(&self, cut: Cut) {
        self.state.drop_outbound.store(cut != Cut::Inbound, Ordering::Relaxed);
        self.state.drop_inbound.store(cut != Cut::Outbound, Ordering::Relaxed);
    }

    pub(super) fn heal(&self) {
        self.state.drop_outbound.store(false, Ordering::Relaxed);
        self.state.drop_inbound.store(false, Ordering::Relaxed);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.state.end.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().ok();
        }
    }
}

/// Carries datagrams until told to end.
fn carry(
    from: &UdpSocket,
    to: &UdpSocket,
    state: &State,
    dropping: &AtomicBool,
    mut receiver: impl FnMut(SocketAddr) -> Option<SocketAddr>,
) {
    let mut datagram = [0; 65_536];
    while !state.end.load(Ordering::Relaxed) {
        match from.recv_from(&mut datagram) {
            Ok((length, sender)) => {
                let Some(receiver) = receiver(sender) else { continue };
                if !dropping.load(Ordering::Relaxed) {
                    // Where nobody listens the datagram is lost, as on any network.
                    to.send_to(&datagram[..length], receiver).ok();
                }
            }
            // A refusal is the answer to a datagram sent earlier to a process that is not there.
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::ConnectionRefused | ErrorKind::Interrupted
                ) => {}
            Err(error) => panic!("the relay: {error}"),
        }
    }
}
