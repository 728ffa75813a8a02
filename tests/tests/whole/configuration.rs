//! What an operator gets wrong is said at once, all of it, with the place.

use std::fs;
use std::net::{TcpListener, UdpSocket};

use crate::support::authority::Authority;
use crate::support::process::{Process, run, said};

#[test]
fn bad_configuration_is_reported_at_once() {
    let root = tempfile::tempdir().expect("folder");
    let cases = [
        (
            "driftglass-agent",
            "site = \"Store 12\"\ndevice = \"gw-01\"\nstate_dir = \"relative\"\ncolour = \"red\"\n\
             [aggregator]\naddress = \"nowhere\"\nport = 1\n[window]\nlength = \"10ms\"\n[telemetry]\nlisten = \"0.0.0.0:1\"\n\
             [[camera]]\nname = \"a\"\nsource = { kind = \"telepathy\", url = \"http://u:secret@x\" }\n\
             [[camera]]\nname = \"a\"\nsource = { kind = \"directory\", path = \"/x\", every = 2 }\n",
            vec![
                "site = \"Store 12\"",
                "state_dir = \"relative\"",
                "colour",
                "aggregator.address",
                "aggregator.port",
                "window.length",
                "telemetry.listen",
                "camera[0].source.kind",
                "camera[1].name",
                "camera[1].source.every",
            ],
        ),
        (
            "driftglass-aggregator",
            "data_dir = 5\nretention = \"1d\"\n[quic]\nlisten = \"nowhere\"\nport = 1\n[alerting]\nq = 0.9\n\
             [http]\nlisten = \"0.0.0.0:8080\"\n[colour]\nhue = 1\n",
            vec![
                ":1: data_dir = 5",
                ":2: retention",
                ":4: quic.listen",
                ":5: quic.port",
                ":7: alerting.q = 0.9",
                ":9: http.listen",
                ":11: colour.hue",
            ],
        ),
    ];
    for (program, text, faults) in cases {
        let path = root.path().join(format!("{program}.toml"));
        fs::write(&path, text).expect("written");
        let path = path.to_str().expect("UTF-8");
        for subcommand in ["check", if program.ends_with("agent") { "run" } else { "serve" }] {
            let output = run(program, &[subcommand, "--config", path]);
            let text = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(2), "{program} {subcommand}: {}", said(&output));
            assert_eq!(text.lines().count(), faults.len(), "one line a fault:\n{text}");
            assert!(text.lines().all(|line| line.starts_with(path)), "each names the file:\n{text}");
            for fault in &faults {
                assert!(text.contains(fault), "{fault} is missing from:\n{text}");
            }
        }
        let output = run(program, &["check", "--config", "/nonexistent/file.toml"]);
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
        assert!(said(&output).contains("/nonexistent/file.toml"), "{}", said(&output));
    }
}

#[test]
fn a_port_in_use_is_a_clear_error() {
    let authority = Authority::new();
    let tcp = TcpListener::bind("127.0.0.1:0").expect("bound");
    let udp = UdpSocket::bind("127.0.0.1:0").expect("bound");
    let (taken_tcp, taken_udp) = (tcp.local_addr().expect("bound"), udp.local_addr().expect("bound"));
    let free = "127.0.0.1:0".parse().expect("an address");
    for (key, http, quic, taken) in
        [("http.listen", taken_tcp, free, taken_tcp), ("quic.listen", free, taken_udp, taken_udp)]
    {
        let root = tempfile::tempdir().expect("folder");
        let data = root.path().join("aggregator");
        authority.install(&authority.server(), &data);
        let config = format!("data_dir = {data:?}\n[quic]\nlisten = \"{quic}\"\n[http]\nlisten = \"{http}\"\n");
        let mut process = Process::start(root.path(), "aggregator", "driftglass-aggregator", "serve", &config);
        let status = process.wait();
        let log = process.log();
        assert_eq!(status.code(), Some(1), "{log}");
        assert!(log.contains(&format!("{key} = \"{taken}\"")) && log.contains("another program"), "{log}");
        assert!(!data.join("addresses.json").exists(), "nothing is announced that is not there");
    }

    let root = tempfile::tempdir().expect("folder");
    let state = root.path().join("agent");
    authority.install(&authority.device("s", "gw"), &state);
    let config = format!(
        "site = \"s\"\ndevice = \"gw\"\nstate_dir = {state:?}\n[aggregator]\naddress = \"127.0.0.1:9\"\n\
         [telemetry]\nlisten = \"{taken_tcp}\"\n"
    );
    let mut process = Process::start(root.path(), "agent", "driftglass-agent", "run", &config);
    let status = process.wait();
    let log = process.log();
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains(&format!("telemetry.listen = {taken_tcp}")), "{log}");
}
