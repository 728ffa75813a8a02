//! A network namespace joined to ours by a pair of virtual interfaces. The system takes all of it away when this process ends.

use std::io::Read;
use std::net::Ipv4Addr;
use std::process::{Child, Command, Stdio};

use super::plan::Cut;

/// An address of the link layer that nobody has: what is sent to it vanishes.
const NOBODY: &str = "02:00:00:00:00:01";

/// A namespace and our end of its link.
#[derive(Debug)]
pub(super) struct Namespace {
    /// Keeps the namespace: it ends with the pipe from this process.
    holder: Child,
    outside: Ipv4Addr,
    inside: Ipv4Addr,
    interface: String,
}

impl Namespace {
    /// Makes the `number`th of this process and brings its link up.
    pub(super) fn join(number: u8) -> Result<Self, String> {
        let mut holder = Command::new("unshare")
            .args(["--net", "sh", "-c", "echo there && exec cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("unshare: {error}"))?;
        let mut answer = [0; 5];
        let answered = holder.stdout.take().is_some_and(|mut out| out.read_exact(&mut answer).is_ok());
        let process = std::process::id();
        let network = [10, 231, u8::try_from(process % 256).expect("a byte"), number.wrapping_mul(4)];
        let address = |host| Ipv4Addr::new(network[0], network[1], network[2], network[3] + host);
        let interface = format!("dg{process}-{number}");
        // From here on the holder is ended with this value.
        let namespace = Self { holder, outside: address(1), inside: address(2), interface };
        if !answered {
            return Err("unshare --net is refused; it takes root".to_owned());
        }
        let (ours, theirs, holder) = (namespace.interface.as_str(), "eth0", namespace.holder.id().to_string());
        let addresses = [namespace.outside, namespace.inside].map(|address| format!("{address}/30"));
        run(&["ip", "link", "add", ours, "type", "veth", "peer", "name", theirs, "netns", &holder])?;
        run(&["ip", "address", "add", &addresses[0], "dev", ours])?;
        run(&["ip", "link", "set", ours, "up"])?;
        namespace.run_inside(&["ip", "address", "add", &addresses[1], "dev", theirs])?;
        namespace.run_inside(&["ip", "link", "set", theirs, "up"])?;
        namespace.run_inside(&["ip", "link", "set", "lo", "up"])?;
        Ok(namespace)
    }

    /// The address of our end.
    pub(super) const fn outside(&self) -> Ipv4Addr {
        self.outside
    }

    /// The command that leads inside.
    pub(super) fn within(&self) -> Vec<String> {
        ["nsenter".to_owned(), format!("--net=/proc/{}/ns/net", self.holder.id()), "--".to_owned()].into()
    }

    pub(super) fn cut(&self, cut: Cut) {
        let inside = self.inside.to_string();
        let outside = self.outside.to_string();
        match cut {
            Cut::AgentEnd => self.run_inside(&["ip", "link", "set", "eth0", "down"]),
            Cut::FarEnd => run(&["ip", "link", "set", &self.interface, "down"]),
            Cut::Outbound => self.run_inside(&vanish(&outside, "eth0")),
            Cut::Inbound => run(&vanish(&inside, &self.interface)),
        }
        .expect("cut");
    }

    pub(super) fn heal(&self, cut: Cut) {
        let inside = self.inside.to_string();
        let outside = self.outside.to_string();
        match cut {
            Cut::AgentEnd => self.run_inside(&["ip", "link", "set", "eth0", "up"]),
            Cut::FarEnd => run(&["ip", "link", "set", &self.interface, "up"]),
            Cut::Outbound => self.run_inside(&["ip", "neighbour", "delete", &outside, "dev", "eth0"]),
            Cut::Inbound => run(&["ip", "neighbour", "delete", &inside, "dev", &self.interface]),
        }
        .expect("healed");
    }

    fn run_inside(&self, words: &[&str]) -> Result<(), String> {
        let within = self.within();
        let words: Vec<&str> = within.iter().map(String::as_str).chain(words.iter().copied()).collect();
        run(&words)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // The pair of interfaces goes with the namespace, but later; where this process dies first there is only that.
        run(&["ip", "link", "delete", &self.interface]).ok();
        self.holder.kill().ok();
        self.holder.wait().ok();
    }
}

/// What makes everything for this address vanish without a word.
fn vanish<'a>(address: &'a str, interface: &'a str) -> [&'a str; 8] {
    ["ip", "neighbour", "replace", address, "lladdr", NOBODY, "dev", interface]
}

fn run(words: &[&str]) -> Result<(), String> {
    let output = Command::new(words[0]).args(&words[1..]).output().map_err(|error| format!("{}: {error}", words[0]))?;
    let said = || format!("{}: {}", words.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    if output.status.success() { Ok(()) } else { Err(said()) }
}
