//! HTTP beyond loopback: TLS and tokens with roles, from the command that makes a token to the one that revokes it; each request without
//! the right one is refused and counted under its reason.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::Value;
use ureq::http::Response;
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::{Agent, Body};

use crate::support::authority::Authority;
use crate::support::process::{Process, command, run, said};
use crate::support::{PATIENCE, now, until};

/// An aggregator that asks for tokens and speaks TLS under its own authority.
struct Guarded {
    root: PathBuf,
    process: Process,
    http: SocketAddr,
    agent: Agent,
}

const SETTINGS: &str = "[http]\nlisten = \"0.0.0.0:0\"\ntls = \"own\"\nnames = \"drift.example\"\nauth = \"tokens\"\n";

impl Guarded {
    fn start(root: &Path) -> Self {
        let data = root.join("aggregator");
        let config = format!("data_dir = {data:?}\n[quic]\nlisten = \"127.0.0.1:0\"\n{SETTINGS}");
        let mut process = Process::start(root, "aggregator", "driftglass-aggregator", "serve", &config);
        let addresses: Value = until("the addresses", PATIENCE, || {
            process.assert_running();
            fs::read(data.join("addresses.json")).ok().map(|bytes| serde_json::from_slice(&bytes).expect("JSON"))
        });
        let http: SocketAddr = addresses["http"].as_str().and_then(|text| text.parse().ok()).expect("an address");
        let http = SocketAddr::from((Ipv4Addr::LOCALHOST, http.port()));
        let guarded = Self { root: root.to_owned(), process, http, agent: client(&data.join("authority/1/ca.pem")) };
        until("readiness", PATIENCE, || (guarded.get("/readyz", &[]).status() == 200).then_some(()));
        guarded
    }

    fn url(&self, path: &str) -> String {
        format!("https://{}{path}", self.http)
    }

    fn get(&self, path: &str, headers: &[(&str, &str)]) -> Response<Body> {
        let request = self.agent.get(self.url(path));
        headers.iter().fold(request, |request, (name, value)| request.header(*name, *value)).call().expect("an answer")
    }

    fn post(&self, path: &str, body: &str, headers: &[(&str, &str)]) -> Response<Body> {
        let request = self.agent.post(self.url(path)).header("content-type", "application/json");
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        request.send(body).expect("an answer")
    }

    /// What an operator does on the aggregator's machine.
    fn tokens(&self, arguments: &[&str]) -> Output {
        let config = self.root.join("aggregator.toml");
        run(
            "driftglass-aggregator",
            &[&["access-token"], arguments, &["--config", config.to_str().expect("UTF-8")]].concat(),
        )
    }

    fn create(&self, name: &str, role: &str, more: &[&str]) -> String {
        let output = self.tokens(&[&["create", "--name", name, "--role", role], more].concat());
        assert!(output.status.success() && output.stderr.is_empty(), "{}", said(&output));
        let token = String::from_utf8(output.stdout).expect("text").trim().to_owned();
        assert!(token.starts_with("dga1.") && token.len() == 37, "the token alone: {token}");
        token
    }

    fn knows(&self, token: &str) {
        let bearer = format!("Bearer {token}");
        until("the token known", PATIENCE, || {
            (self.get("/api/v1/cameras", &[("authorization", &bearer)]).status() == 200).then_some(())
        });
    }

    fn refused(&self, admin: &str, reason: &str) -> u64 {
        let bearer = format!("Bearer {admin}");
        let text = self.get("/metrics", &[("authorization", &bearer)]).body_mut().read_to_string().expect("text");
        let series = format!("driftglass_http_refused_total{{reason=\"{reason}\"}} ");
        text.lines().find_map(|line| line.strip_prefix(&series)).expect("the series").parse().expect("a count")
    }

    /// The operator's tool with a token.
    fn operate(&self, arguments: &[&str], token: &str) -> Output {
        let file = self.root.join("token-for-the-tool");
        fs::write(&file, format!("{token}\n")).expect("written");
        let mut command = command("driftglass");
        command.args(arguments).args(["--server", &self.url(""), "--access-token-file"]).arg(&file);
        command.arg("--ca").arg(self.root.join("aggregator/authority/1/ca.pem"));
        let output = command.output().expect("started");
        fs::remove_file(file).expect("removed");
        output
    }
}

/// Trusts one authority, and follows nothing.
fn client(authority: &Path) -> Agent {
    let text = fs::read(authority).expect("read");
    let der = CertificateDer::from_pem_slice(&text).expect("PEM");
    let tls = TlsConfig::builder()
        .root_certs(RootCerts::Specific(Arc::new(vec![Certificate::from_der(&der).to_owned()])))
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .build();
    let config = Agent::config_builder().timeout_global(Some(PATIENCE)).max_redirects(0).http_status_as_error(false);
    config.tls_config(tls).build().into()
}

#[test]
fn each_role_may_do_what_it_should_and_everybody_else_is_refused_and_counted() {
    let root = tempfile::tempdir().expect("folder");
    let mut guarded = Guarded::start(root.path());
    assert_eq!(guarded.get("/healthz", &[]).status(), 200);
    for path in ["/api/v1/cameras", "/api/v1/tokens", "/metrics", "/page.js", "/nowhere"] {
        let answer = guarded.get(path, &[]);
        assert_eq!(
            (answer.status().as_u16(), answer.headers().contains_key("www-authenticate")),
            (401, true),
            "{path}"
        );
    }
    let page = guarded.get("/", &[]);
    assert_eq!((page.status().as_u16(), &page.headers()["location"]), (303, &"/login".parse().expect("a value")));
    assert_eq!(guarded.get("/login", &[]).status(), 200);

    let viewer = guarded.create("grafana", "viewer", &[]);
    let operator = guarded.create("anna", "operator", &[]);
    let admin = guarded.create("bert", "admin", &["--ttl", "1h"]);
    let short = guarded.create("guest", "admin", &["--ttl", "1s"]);
    guarded.knows(&admin);
    let twice = guarded.tokens(&["create", "--name", "anna", "--role", "admin"]);
    assert!(twice.status.code() == Some(1) && said(&twice).contains("named anna already"), "{}", said(&twice));
    assert_eq!(guarded.tokens(&["create", "--name", "x", "--role", "root"]).status.code(), Some(2));
    let listed = said(&guarded.tokens(&["list"]));
    assert!(listed.contains("grafana") && listed.contains("operator") && !listed.contains("dga1."), "{listed}");

    let wish = r#"{"site":"store-1","device":"gw"}"#;
    for (token, reads, changes, administers) in
        [(&viewer, 200, 403, 403), (&operator, 200, 404, 403), (&admin, 200, 404, 201)]
    {
        let bearer = format!("Bearer {token}");
        let headers = [("authorization", bearer.as_str())];
        assert_eq!(guarded.get("/api/v1/cameras", &headers).status().as_u16(), reads);
        assert_eq!(guarded.post("/api/v1/silences/nowhere", "{}", &headers).status().as_u16(), changes);
        assert_eq!(guarded.post("/api/v1/tokens", wish, &headers).status().as_u16(), administers);
    }
    assert_eq!(guarded.refused(&admin, "role"), 3);
    assert_eq!(guarded.refused(&admin, "no_token"), 6);
    let bearer = |token: &str| format!("Bearer {token}");
    let wrong = format!("dga1.{}", "0".repeat(32));
    assert_eq!(guarded.get("/api/v1/cameras", &[("authorization", &bearer(&wrong))]).status(), 401);
    assert!(guarded.refused(&admin, "token_unknown") >= 1);
    until("the end of the short one", PATIENCE, || {
        let answer = guarded.get("/api/v1/cameras", &[("authorization", &bearer(&short))]);
        (answer.status() == 401 && guarded.refused(&admin, "token_expired") > 0).then_some(())
    });

    // The operator's tool, over TLS, with the token out of a file.
    let made = guarded.operate(&["token", "create", "--site", "store-1", "--device", "gw-2"], &admin);
    assert!(made.status.success() && said(&made).starts_with("dg1."), "{}", said(&made));
    let refused = guarded.operate(&["token", "create", "--site", "store-1", "--device", "gw-3"], &viewer);
    assert!(refused.status.code() == Some(1) && said(&refused).contains("role"), "{}", said(&refused));
    assert!(guarded.operate(&["cameras"], &viewer).status.success());
    let judged = guarded.operate(&["dismiss", "1"], &viewer);
    assert!(judged.status.code() == Some(1) && said(&judged).contains("role"), "{}", said(&judged));
    let judged = guarded.operate(&["dismiss", "1"], &operator);
    assert!(judged.status.code() == Some(1) && said(&judged).contains("no alert 1 is known"), "{}", said(&judged));
    let promoted = guarded.operate(&["baseline", "promote", "store-1/gw/door"], &viewer);
    assert!(promoted.status.code() == Some(1) && said(&promoted).contains("role"), "{}", said(&promoted));
    let promoted = guarded.operate(&["baseline", "promote", "store-1/gw/door"], &operator);
    assert!(said(&promoted).contains("no camera store-1/gw/door is known"), "{}", said(&promoted));
    let untrusted = run("driftglass", &["cameras", "--server", &guarded.url("")]);
    assert!(!untrusted.status.success(), "its certificate comes from nobody this system trusts");

    // No TLS.
    let mut plain = TcpStream::connect(guarded.http).expect("connected");
    plain.write_all(b"GET /api/v1/cameras HTTP/1.1\r\nHost: x\r\n\r\n").expect("sent");
    let mut answer = Vec::new();
    plain.set_read_timeout(Some(PATIENCE)).expect("a limit");
    drop(plain.read_to_end(&mut answer));
    assert!(!answer.starts_with(b"HTTP"), "{}", String::from_utf8_lossy(&answer));
    until("counted", PATIENCE, || (guarded.refused(&admin, "handshake") >= 1).then_some(()));

    let revoked = guarded.tokens(&["revoke", "--name", "grafana"]);
    assert!(revoked.status.success(), "{}", said(&revoked));
    until("the revoked token refused", PATIENCE, || {
        (guarded.get("/api/v1/cameras", &[("authorization", &bearer(&viewer))]).status() == 401).then_some(())
    });
    assert_eq!(guarded.get("/api/v1/cameras", &[("authorization", &bearer(&operator))]).status(), 200);

    guarded.process.terminate();
    let mut folders = vec![root.path().to_owned()];
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).expect("listed").map(|entry| entry.expect("listed").path()) {
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let bytes = fs::read(&path).expect("read");
            for token in [&viewer, &operator, &admin] {
                let secret = &token.as_bytes()[5..];
                assert!(!bytes.windows(secret.len()).any(|found| found == secret), "a secret is in {}", path.display());
            }
            if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("access-tokens")) {
                assert_eq!(
                    fs::metadata(&path).expect("there").permissions().mode() & 0o777,
                    0o600,
                    "{}",
                    path.display()
                );
            }
        }
    }
}

#[test]
fn a_browser_signs_in_reads_changes_from_our_page_only_and_signs_out() {
    let root = tempfile::tempdir().expect("folder");
    let guarded = Guarded::start(root.path());
    let admin = guarded.create("anna", "admin", &[]);
    guarded.knows(&admin);
    let origin = guarded.url("");
    let ours = [("origin", origin.as_str())];
    let wish = |token: &str| format!("{{\"token\":\"{token}\"}}");
    assert_eq!(guarded.post("/api/v1/session", &wish(&admin), &[]).status(), 403);
    assert_eq!(guarded.post("/api/v1/session", &wish(&admin), &[("origin", "https://evil.example")]).status(), 403);
    assert_eq!(guarded.post("/api/v1/session", &wish("dga1.no"), &ours).status(), 401);
    let answer = guarded.post("/api/v1/session", &wish(&admin), &ours);
    assert_eq!(answer.status(), 204);
    let cookie = answer.headers()["set-cookie"].to_str().expect("text");
    for part in ["__Host-driftglass-session=", "; Secure", "; HttpOnly", "; SameSite=Strict", "; Path=/"] {
        assert!(cookie.contains(part), "{part}: {cookie}");
    }
    assert!(!cookie.contains(&admin[5..]), "the browser does not keep the token");
    let session = cookie.split(';').next().expect("a cookie");
    let signed_in = [("cookie", session)];
    assert_eq!(guarded.get("/", &signed_in).status(), 200);
    let standing = guarded.get("/api/v1/session", &signed_in).body_mut().read_to_string().expect("text");
    assert_eq!(standing, r#"{"required":true,"name":"anna","role":"admin"}"#);
    let device = r#"{"site":"store-1","device":"gw"}"#;
    let changed = |headers: &[(&str, &str)]| guarded.post("/api/v1/tokens", device, headers).status().as_u16();
    assert_eq!(changed(&signed_in), 403, "no page says that it asks");
    assert_eq!(changed(&[("cookie", session), ("origin", "https://evil.example")]), 403);
    assert_eq!(changed(&[("cookie", session), ours[0]]), 201);
    assert_eq!(guarded.refused(&admin, "origin"), 4);
    let out = guarded.agent.delete(guarded.url("/api/v1/session")).header("cookie", session).header("origin", &origin);
    assert_eq!(out.call().expect("an answer").status(), 204);
    assert_eq!(guarded.get("/api/v1/cameras", &signed_in).status(), 401);
    assert_eq!(guarded.refused(&admin, "session_over"), 1);
}

#[test]
fn certificates_for_http_come_from_files_and_are_taken_up_when_they_change_or_refused_when_others_could_read_the_key() {
    let root = tempfile::tempdir().expect("folder");
    let (root, authority) = (root.path(), Authority::new());
    let files = root.join("web");
    authority.install(&authority.server(), &files);
    let (chain, key) = (files.join("identity/cert.pem"), files.join("identity/key.pem"));
    let config = format!(
        "data_dir = {:?}\n[quic]\nlisten = \"127.0.0.1:0\"\n[http]\nlisten = \"127.0.0.1:0\"\ntls = \"files\"\n\
         certificate = {chain:?}\nkey = {key:?}\nauth = \"tokens\"\n",
        root.join("data")
    );
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).expect("opened");
    let mut process = Process::start(root, "aggregator", "driftglass-aggregator", "serve", &config);
    assert_eq!(process.wait().code(), Some(1));
    assert!(process.log().contains("allowed is 600 or stricter"), "{}", process.log());
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).expect("closed");
    let mut process = Process::start(root, "aggregator", "driftglass-aggregator", "serve", &config);
    let http = until("an answer under the authority given", PATIENCE, || {
        process.assert_running();
        let bytes = fs::read(root.join("data/addresses.json")).ok()?;
        let addresses: Value = serde_json::from_slice(&bytes).expect("JSON");
        let url = format!("https://{}/readyz", addresses["http"].as_str().expect("an address"));
        let answer = client(&files.join("identity/ca.pem")).get(url).call().ok()?;
        (answer.status() == 200).then(|| addresses["http"].as_str().expect("an address").to_owned())
    });
    let stranger = Authority::new();
    stranger.install(&stranger.server(), &root.join("other"));
    let mistrust = client(&root.join("other/identity/ca.pem")).get(format!("https://{http}/readyz")).call();
    assert!(mistrust.is_err(), "another authority does not make it trusted");
}

#[test]
fn who_sends_slowly_too_much_or_too_often_is_cut_off_and_others_are_answered() {
    let root = tempfile::tempdir().expect("folder");
    let authority = Authority::new();
    let aggregator = crate::support::service::Aggregator::start(root.path(), &authority, 0);
    let address: SocketAddr =
        aggregator.url().strip_prefix("http://").and_then(|text| text.parse().ok()).expect("an address");
    let begun = now();
    let mut slow = TcpStream::connect(address).expect("connected");
    slow.write_all(b"GET /healthz HTTP/1.1\r\nHost: local").expect("sent");

    let mut long = TcpStream::connect(address).expect("connected");
    let body = "x".repeat(1 << 20);
    let head =
        "POST /api/v1/tokens HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: close\r\n";
    let request = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
    // It may be answered before everything has been taken.
    drop(long.write_all(request.as_bytes()));
    let mut answer = [0; 64];
    let length = long.read(&mut answer).unwrap_or(0);
    let answer = String::from_utf8_lossy(&answer[..length]).into_owned();
    assert!(answer.is_empty() || answer.contains("413"), "{answer}");

    // One address takes all that its network gets; others still come in.
    let crowd: Vec<TcpStream> = (0..400).map(|_| TcpStream::connect(address).expect("connected")).collect();
    let elsewhere = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let answer = elsewhere.block_on(async {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
        socket.bind((Ipv4Addr::new(127, 5, 0, 1), 0).into()).expect("an address of this machine");
        let mut stream = socket.connect(address).await.expect("connected");
        let request = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        stream.write_all(request).await.expect("sent");
        let mut answer = String::new();
        tokio::time::timeout(PATIENCE, stream.read_to_string(&mut answer)).await.expect("in time").expect("text");
        answer
    });
    let series = "driftglass_http_refused_total{reason=\"connections\"} ";
    let count = answer.lines().find_map(|line| line.strip_prefix(series)).expect("answered");
    assert!(count.parse::<u64>().expect("a count") >= 100, "{count}");
    drop(crowd);

    slow.set_read_timeout(Some(PATIENCE)).expect("a limit");
    let mut rest = Vec::new();
    drop(slow.read_to_end(&mut rest));
    let took = now() - begun;
    assert!((Duration::from_secs(10)..Duration::from_secs(30)).contains(&took), "{took:?}");
}
