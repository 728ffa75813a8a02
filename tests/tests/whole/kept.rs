//! Inferences go on, whatever becomes of the agent that watches them.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, getpid, getpriority_process, kill_process, test_kill_process};

use crate::support::authority::Authority;
use crate::support::process::lasting_port;
use crate::support::service::Agent;
use crate::support::{Enough, PATIENCE, pause, until};

const ANSWER: &str =
    r#"{"model_name":"m","outputs":[{"name":"p","shape":[1,2],"datatype":"FP32","data":[0.25,0.75]}]}"#;
const BODY: &str = r#"{"inputs":[]}"#;

/// Reads a header and the body it announces; its first line. `None` at the end.
fn message(stream: &mut BufReader<TcpStream>) -> Option<String> {
    let (mut first, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if let Some((_, value)) = line.split_once(':').filter(|(name, _)| name.eq_ignore_ascii_case("content-length")) {
            length = value.trim().parse().ok()?;
        }
        if first.is_empty() {
            line.clone_into(&mut first);
        }
        if line == "\r\n" {
            break;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    Some(first)
}

/// A model server that answers everything alike.
fn model_server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let address = listener.local_addr().expect("bound");
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || {
                let mut answers = stream.try_clone().expect("a handle");
                let mut requests = BufReader::new(stream);
                let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{ANSWER}", ANSWER.len());
                while message(&mut requests).is_some() && answers.write_all(answer.as_bytes()).is_ok() {}
            });
        }
    });
    address
}

/// A client that keeps its connection.
struct Client(BufReader<TcpStream>);

impl Client {
    fn connect(port: u16) -> Option<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
        stream.set_nodelay(true).and_then(|()| stream.set_read_timeout(Some(PATIENCE))).ok()?;
        Some(Self(BufReader::new(stream)))
    }

    /// Whether it was answered as the model server answers.
    fn ask(&mut self) -> bool {
        let length = BODY.len();
        let request = format!("POST /v2/models/m/infer HTTP/1.1\r\nHost: m\r\nContent-Length: {length}\r\n\r\n{BODY}");
        self.0.get_mut().write_all(request.as_bytes()).is_ok()
            && message(&mut self.0).is_some_and(|first| first.starts_with("HTTP/1.1 200 "))
    }
}

/// The agent beneath the process that was started.
fn child(of: u32) -> Option<Pid> {
    let children = fs::read_to_string(format!("/proc/{of}/task/{of}/children")).ok()?;
    Pid::from_raw(children.split_whitespace().next()?.parse().ok()?)
}

fn send(to: Pid, signal: Signal) {
    kill_process(to, signal).expect("it is there");
}

/// Its place in line: niceness, and willingness to be killed where memory runs out.
fn place(of: Pid) -> (i32, i32) {
    let adjustment = fs::read_to_string(format!("/proc/{}/oom_score_adj", of.as_raw_nonzero())).expect("readable");
    (getpriority_process(Some(of)).expect("it is there"), adjustment.trim().parse().expect("a number"))
}

/// An agent in front of a model server; nobody takes what it has to say.
fn agent(root: &Path, listen: u16) -> Agent {
    let authority = Authority::new();
    let upstream = model_server();
    let camera = format!(
        "[[camera]]\nname = \"door\"\nsource = {{ kind = \"inference\", listen = \"127.0.0.1:{listen}\", \
         upstream = \"{upstream}\", fps = 50 }}\n"
    );
    authority.install(&authority.device("shop", "gw"), &root.join("agent-shop"));
    Agent::configured(root, ([127, 0, 0, 1], 9).into(), "shop", &camera, lasting_port())
}

fn first_answer(port: u16) -> Client {
    until("an answer", PATIENCE, || Client::connect(port).and_then(|mut client| client.ask().then_some(client)))
}

fn seen(agent: &Agent) -> Option<u64> {
    agent.try_metric("driftglass_agent_inference_requests_total", "outcome=\"ok\"")
}

#[test]
fn inferences_pass_while_the_agent_crashes_and_is_started_again() {
    let root = tempfile::tempdir().expect("folder");
    let notify = root.path().join("notify");
    let manager = UnixDatagram::bind(&notify).expect("bound");
    manager.set_read_timeout(Some(PATIENCE)).expect("set");
    let listen = lasting_port();
    let mut agent = agent(root.path(), listen);
    agent.start_notifying(&notify);
    let mut message = [0; 64];
    let length = manager.recv(&mut message).expect("it is told");
    assert!(message[..length].starts_with(b"READY=1"));
    drop(first_answer(listen));
    until("a count", PATIENCE, || seen(&agent).filter(|&count| count > 0));

    let keeper = Pid::from_raw(agent.process.id().try_into().expect("small")).expect("a process");
    let ours = place(getpid());
    assert_eq!(place(keeper), ours, "whoever passes inferences on waits for nobody");
    assert_eq!(place(child(agent.process.id()).expect("an agent")), (ours.0.max(10), ours.1.max(500)));

    let (enough, asked, failed) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    thread::scope(|scope| {
        // Ends the client even where an assertion fails, for the scope waits for it.
        let ending = Enough(&enough);
        scope.spawn(|| {
            let mut kept = first_answer(listen);
            while !enough.load(Ordering::Relaxed) {
                let anew = Client::connect(listen).is_some_and(|mut client| client.ask());
                failed.fetch_add(u64::from(!kept.ask()) + u64::from(!anew), Ordering::SeqCst);
                asked.fetch_add(2, Ordering::SeqCst);
                pause(Duration::from_millis(5));
            }
        });
        let keeper = agent.process.id();
        for signal in [Signal::ABORT, Signal::KILL, Signal::ABORT] {
            let before = child(keeper).expect("an agent");
            let passed = asked.load(Ordering::SeqCst);
            send(before, signal);
            until("another agent", PATIENCE, || child(keeper).filter(|&pid| pid != before));
            until("inferences that it sees", PATIENCE, || seen(&agent).filter(|&count| count > 10));
            assert!(asked.load(Ordering::SeqCst) > passed);
        }
        assert_eq!(failed.load(Ordering::SeqCst), 0, "of {}", asked.load(Ordering::SeqCst));
        drop(ending);
    });
    let log = agent.process.log();
    assert!(log.contains("the agent ended by itself and is started again") && log.contains("SIGABRT"), "{log}");
    assert!(agent.page("/healthz").is_some());

    let last = child(agent.process.id()).expect("an agent");
    agent.process.terminate();
    assert!(!agent.process.log().contains("is gone"), "a stop is no fault:\n{}", agent.process.log());
    assert!(test_kill_process(last).is_err(), "both have ended");
    assert!(TcpStream::connect(("127.0.0.1", listen)).is_err());
}

#[test]
fn an_agent_that_is_stuck_holds_nothing_up_and_no_inference_is_lost_count_of() {
    let root = tempfile::tempdir().expect("folder");
    let listen = lasting_port();
    let mut agent = agent(root.path(), listen);
    agent.restart();
    let mut client = first_answer(listen);
    until("a count", PATIENCE, || seen(&agent).filter(|&count| count > 0));
    let stuck = child(agent.process.id()).expect("an agent");
    send(stuck, Signal::STOP);
    // More than the socket between them and the queue before it take.
    let mut asked = 12_000;
    assert!((0..asked).all(|_| client.ask()));
    send(stuck, Signal::CONT);
    let total = || Some(seen(&agent)? + agent.try_metric("driftglass_agent_inference_missed_total", "")?);
    // The first that was answered is one of them.
    until("all of them", PATIENCE, || {
        // What was left out is told with the next.
        assert!(client.ask());
        asked += 1;
        pause(Duration::from_millis(200));
        total().filter(|&count| count == asked + 1)
    });
    let missed = agent.metric("driftglass_agent_inference_missed_total", "");
    assert!(missed > 0, "the queue has an end");
    agent.process.terminate();
}

#[test]
fn an_agent_without_its_proxies_ends() {
    let root = tempfile::tempdir().expect("folder");
    let listen = lasting_port();
    let mut agent = agent(root.path(), listen);
    agent.restart();
    drop(first_answer(listen));
    let left = child(agent.process.id()).expect("an agent");
    agent.process.kill();
    until("its end", PATIENCE, || test_kill_process(left).is_err().then_some(()));
}

#[test]
fn a_start_that_fails_fails_as_it_would_without_inferences() {
    let root = tempfile::tempdir().expect("folder");
    let mut agent = agent(root.path(), lasting_port());
    fs::remove_dir_all(root.path().join("agent-shop/identity")).expect("removed");
    agent.restart();
    let status = agent.process.wait();
    let log = agent.process.log();
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains("identity"), "{log}");
}
