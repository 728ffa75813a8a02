//! Agents and an aggregator that are killed, ended, held and cut off at random, for as long as asked: afterwards every file that the
//! cameras wrote has been counted once, and no figure that was shown has ever gone back.
//!
//! The seed decides what happens and how long it lasts; when exactly it hits a process is up to the machine, so a seed makes a
//! failure likely again and not certain. `./run soak --kills 1000` runs it for long.

mod link;
mod namespace;
mod plan;
mod relay;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::authority::Authority;
use crate::support::camera::{Camera, scene, shots, view};
use crate::support::process::{Process, lasting_port};
use crate::support::service::{Agent, Aggregator, Counts};
use crate::support::{Enough, PATIENCE, now, pause, until};
use link::{Kind, Link};
use plan::{Cut, Fault, Plan, Victim};

const SITES: [&str; 2] = ["north", "south"];
const CAMERAS: [&str; 2] = ["door", "gate"];
/// Of each camera.
const FRAME: Duration = Duration::from_millis(125);
/// Between two looks at what is due.
const TICK: Duration = Duration::from_millis(10);
/// Between two looks at the counts.
const LOOK: Duration = Duration::from_millis(700);
/// How long what is on its way may still arrive after a cut, or after the aggregator has been held while it arrived.
const ON_ITS_WAY: Duration = Duration::from_millis(1_500);
/// A window stays open for two seconds after its end; a file whose writing took almost as long may come too late for it.
const SLOW: Duration = Duration::from_millis(1_500);
/// An agent that was cut off waits for up to a minute before it tries again, and so does one that waits for an answer.
const DRAIN: Duration = Duration::from_secs(240);

/// When it is enough.
#[derive(Clone, Copy, Debug)]
struct Amount {
    time: Duration,
    kills: u64,
}

impl Amount {
    fn is_reached(self, begun: Instant, kills: u64) -> bool {
        now() >= begun + self.time && kills >= self.kills
    }
}

#[expect(clippy::disallowed_methods, reason = "the one way to tell a test how long and with which seed")]
fn asked(name: &str) -> Option<u64> {
    let value = std::env::var(format!("DRIFTGLASS_SOAK_{name}")).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("DRIFTGLASS_SOAK_{name}={value}: not a number")))
}

#[test]
fn whatever_dies_and_whatever_is_cut_every_file_counts_once() {
    let kills = asked("KILLS").unwrap_or(0);
    let seconds = asked("SECONDS").unwrap_or(if kills == 0 { 60 } else { 0 });
    let amount = Amount { time: Duration::from_secs(seconds), kills };
    soak(asked("SEED").unwrap_or(1), amount, Kind::best());
}

#[test]
fn the_same_holds_where_a_relay_drops_the_packets() {
    soak(2, Amount { time: Duration::from_secs(15), kills: 0 }, Kind::Relay);
}

/// What was done to them.
#[derive(Debug, Default)]
struct Done {
    kills: u64,
    /// By what it was and whom it hit.
    faults: BTreeMap<String, u64>,
    /// Cuts during which nothing of the agent arrived, of those that were looked at.
    silences: u64,
    looks: u64,
}

/// What state something is in.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Condition {
    Well,
    /// Killed or ended; started again then.
    Gone(Instant),
    /// Told to end, with so much rest afterwards.
    Ending(Instant, Duration),
    Held(Instant),
}

#[derive(Clone, Copy, Debug)]
struct Severed {
    cut: Cut,
    since: Instant,
    until: Instant,
    /// Frames counted of this agent, once nothing can be on its way any more.
    counted: Option<u64>,
}

struct Soak<'a> {
    aggregator: Aggregator,
    agents: Vec<Agent>,
    links: Vec<Link>,
    /// Of the aggregator, then of each agent.
    conditions: Vec<Condition>,
    severed: Vec<Option<Severed>>,
    /// When the aggregator was let go last.
    resumed: Instant,
    /// Files announced by each camera.
    written: &'a BTreeMap<String, AtomicU64>,
    seen: BTreeMap<String, Counts>,
    done: Done,
}

fn id(site: &str, camera: &str) -> String {
    format!("{site}/gw/{camera}")
}

fn soak(seed: u64, amount: Amount, kind: Kind) {
    let root = tempfile::tempdir().expect("folder");
    let (root, authority) = (root.path(), Authority::new());
    let written: BTreeMap<String, AtomicU64> =
        SITES.iter().flat_map(|site| CAMERAS.map(|camera| (id(site, camera), AtomicU64::new(0)))).collect();
    eprintln!("soak: seed {seed}, {amount:?}, links by {kind:?}");
    let slow: BTreeMap<&str, AtomicU64> = written.keys().map(|id| (id.as_str(), AtomicU64::new(0))).collect();
    let mut soak = Soak::start(root, &authority, kind, &written);
    let (mut cameras, enough) = (cameras(root), AtomicBool::new(false));
    thread::scope(|scope| {
        // Ends the cameras even where an assertion fails, for the scope waits for them.
        let ending = Enough(&enough);
        scope.spawn(|| {
            while !enough.load(Ordering::Relaxed) {
                for (id, camera) in &mut cameras {
                    // Announced first: no more than this may ever have been counted.
                    written[id].fetch_add(1, Ordering::SeqCst);
                    let begun = now();
                    camera.shoot();
                    if now() > begun + SLOW {
                        slow[id.as_str()].fetch_add(1, Ordering::SeqCst);
                    }
                }
                pause(FRAME);
            }
        });
        soak.torment(seed, amount);
        drop(ending);
    });
    for (id, camera) in &cameras {
        assert_eq!(written[id].load(Ordering::SeqCst), camera.written, "{id}");
    }
    soak.reconcile(&slow);
    let Soak { done, .. } = soak;
    // A fault that never happened has not been survived.
    for victim in ["Kill(Aggregator)", "Kill(Agent(0))", "Kill(Agent(1))"] {
        assert!(done.faults.contains_key(victim), "no {victim}: {done:#?}");
    }
    assert!(done.silences > 0, "no cut was looked at: {done:#?}");
    eprintln!("soak: {} kills: {:#?}", done.kills, done.faults);
    eprintln!("soak: {} of {} cuts that were looked at let nothing through", done.silences, done.looks);
    let files: u64 = cameras.values().map(|camera| camera.written).sum();
    eprintln!("soak: {files} files of {} cameras, each counted once", cameras.len());
}

fn folder(root: &Path, site: &str, camera: &str) -> std::path::PathBuf {
    root.join(format!("frames-{site}-{camera}"))
}

fn cameras(root: &Path) -> BTreeMap<String, Camera> {
    let scene = scene();
    let places = SITES.iter().flat_map(|site| CAMERAS.map(|camera| (site, camera)));
    places
        .zip(0..)
        .map(|((site, camera), number)| {
            let pictures = shots(&scene, view(number));
            (id(site, camera), Camera::new(folder(root, site, camera), &pictures, usize::from(number) * 11))
        })
        .collect()
}

impl<'a> Soak<'a> {
    fn start(root: &Path, authority: &Authority, kind: Kind, written: &'a BTreeMap<String, AtomicU64>) -> Self {
        let port = lasting_port();
        let links: Vec<Link> = (0..).map(|number| Link::open(kind, number, port)).take(SITES.len()).collect();
        let addresses = links.iter().map(|link| link.aggregator(port).ip().to_string()).collect();
        let everywhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
        let identity = authority.server_at(addresses);
        let data = root.join("aggregator");
        let aggregator = Aggregator::start_at(root, authority, &identity, Vec::new(), &data, everywhere);
        let agents = SITES.iter().zip(&links).map(|(site, link)| {
            let cameras: Vec<String> = CAMERAS
                .iter()
                .map(|camera| {
                    let path = folder(root, site, camera);
                    format!("[[camera]]\nname = \"{camera}\"\nsource = {{ kind = \"directory\", path = {path:?} }}\n")
                })
                .collect();
            let mut agent = Agent::configured(root, link.aggregator(port), site, &cameras.concat(), 0);
            agent.within = link.within();
            authority.install(&authority.device(site, "gw"), &agent.state());
            agent.restart();
            agent
        });
        Self {
            aggregator,
            agents: agents.collect(),
            conditions: vec![Condition::Well; SITES.len() + 1],
            severed: links.iter().map(|_| None).collect(),
            links,
            resumed: now(),
            written,
            seen: BTreeMap::new(),
            done: Done::default(),
        }
    }

    /// Does what the plan says until it is enough, then lets everything be well again.
    fn torment(&mut self, seed: u64, amount: Amount) {
        let begun = now();
        let mut plan = Plan::new(seed, SITES.len());
        let mut step = plan.next_step();
        let (mut due, mut look) = (begun + step.gap, begun);
        while !amount.is_reached(begun, self.done.kills) {
            self.tick();
            if now() >= due {
                self.strike(step.fault, step.lasts);
                step = plan.next_step();
                due = now() + step.gap;
            }
            if now() >= look {
                self.look();
                look = now() + LOOK;
            }
            pause(TICK);
        }
        until("everything to be well again", PATIENCE, || {
            self.tick();
            let well = self.conditions.iter().all(|condition| *condition == Condition::Well);
            (well && self.severed.iter().all(Option::is_none)).then_some(())
        });
    }

    fn process(&mut self, place: usize) -> &mut Process {
        match place.checked_sub(1) {
            None => &mut self.aggregator.process,
            Some(agent) => &mut self.agents[agent].process,
        }
    }

    /// Ends what is over.
    fn tick(&mut self) {
        for place in 0..self.conditions.len() {
            match self.conditions[place] {
                Condition::Well => self.process(place).assert_running(),
                Condition::Gone(until) if now() >= until => {
                    match place.checked_sub(1) {
                        None => self.aggregator.restart_blindly(),
                        Some(agent) => self.agents[agent].restart(),
                    }
                    self.conditions[place] = Condition::Well;
                }
                Condition::Ending(since, rest) => {
                    let process = self.process(place);
                    match process.ended() {
                        Some(status) => {
                            // One that has only just been started does not listen yet.
                            let obeyed = status.success() || status.signal() == Some(Signal::TERM.as_raw());
                            assert!(obeyed, "ended with {status}; its log:\n{}", process.log());
                            self.conditions[place] = Condition::Gone(now() + rest);
                        }
                        None => assert!(now() < since + PATIENCE, "it does not end; its log:\n{}", process.log()),
                    }
                }
                Condition::Held(until) if now() >= until => {
                    self.process(place).resume();
                    if place == 0 {
                        self.resumed = now();
                    }
                    self.conditions[place] = Condition::Well;
                }
                Condition::Gone(_) | Condition::Held(_) => {}
            }
        }
        self.tick_links();
    }

    fn tick_links(&mut self) {
        for (agent, site) in SITES.iter().enumerate() {
            let Some(Severed { cut, since, until, counted }) = self.severed[agent] else { continue };
            let silent = !matches!(cut, Cut::Inbound);
            if silent && counted.is_none() && now() >= since.max(self.resumed) + ON_ITS_WAY && now() < until {
                let counted = self.counted(agent);
                self.severed[agent] = Some(Severed { cut, since, until, counted });
            }
            if now() >= until {
                if let (Some(before), Some(after)) = (counted, self.counted(agent)) {
                    self.done.looks += 1;
                    assert_eq!(before, after, "{cut:?} let something of {site} through");
                    self.done.silences += 1;
                }
                self.links[agent].heal(cut);
                self.severed[agent] = None;
            }
        }
    }

    /// Does it, unless its victim suffers already.
    fn strike(&mut self, fault: Fault, lasts: Duration) {
        let until = now() + lasts;
        let place = |victim| match victim {
            Victim::Aggregator => 0,
            Victim::Agent(agent) => agent + 1,
        };
        let victim = match fault {
            Fault::Kill(victim) | Fault::End(victim) | Fault::Halt(victim) => Some(place(victim)),
            Fault::Cut(..) => None,
        };
        if victim.is_some_and(|place| self.conditions[place] != Condition::Well) {
            return;
        }
        match fault {
            Fault::Kill(victim) => {
                self.process(place(victim)).kill();
                self.conditions[place(victim)] = Condition::Gone(until);
                self.done.kills += 1;
            }
            Fault::End(victim) => {
                self.process(place(victim)).ask_to_end();
                self.conditions[place(victim)] = Condition::Ending(now(), lasts);
            }
            Fault::Halt(victim) => {
                self.process(place(victim)).halt();
                self.conditions[place(victim)] = Condition::Held(until);
            }
            Fault::Cut(agent, _) if self.severed[agent].is_some() => return,
            Fault::Cut(agent, cut) => {
                self.links[agent].cut(cut);
                self.severed[agent] = Some(Severed { cut, since: now(), until, counted: None });
            }
        }
        *self.done.faults.entry(format!("{fault:?}")).or_default() += 1;
    }

    /// What the aggregator has counted by now; `None` while it cannot be asked.
    fn counts(&self) -> Option<BTreeMap<String, Counts>> {
        if self.conditions[0] != Condition::Well {
            return None;
        }
        let known = self.aggregator.list("cameras")?;
        let count = |camera: &serde_json::Value, key: &str| camera[key].as_u64().expect("a count");
        let counts = known.iter().map(|camera| {
            let counts = Counts {
                frames: count(camera, "frames_total"),
                undecodable: count(camera, "undecodable_total"),
                skipped: count(camera, "skipped_total"),
                late: count(camera, "late_total"),
            };
            (camera["id"].as_str().expect("an id").to_owned(), counts)
        });
        Some(counts.collect())
    }

    fn counted(&self, agent: usize) -> Option<u64> {
        let counts = self.counts()?;
        Some(
            CAMERAS
                .iter()
                .filter_map(|camera| counts.get(&id(SITES[agent], camera)))
                .map(|counts| counts.total())
                .sum(),
        )
    }

    /// No camera is ahead of its files, and none has less than was shown before.
    fn look(&mut self) {
        let Some(counts) = self.counts() else { return };
        for (id, written) in self.written {
            let counts = counts.get(id).copied().unwrap_or_default();
            let written = written.load(Ordering::SeqCst);
            assert!(counts.total() <= written, "{id}: {counts:?} of {written} files");
            let before = self.seen.insert(id.clone(), counts).unwrap_or_default();
            assert!(counts.frames >= before.frames, "{id}: {before:?} was shown, and now {counts:?}");
        }
    }

    /// Every file is counted once: as a frame, or as late where the machine was so slow that its window was closed.
    fn reconcile(&mut self, slow: &BTreeMap<&str, AtomicU64>) {
        let written = self.written;
        let complete = |soak: &Self| {
            let counts = soak.counts()?;
            let all = written.iter().all(|(id, written)| {
                let counts = counts.get(id).copied().unwrap_or_default();
                let written = written.load(Ordering::SeqCst);
                assert!(counts.total() <= written, "{id}: {counts:?} of {written} files");
                counts.total() == written
            });
            all.then_some(counts)
        };
        let counts = until("all files counted", DRAIN, || {
            self.tick();
            complete(self)
        });
        for (id, counts) in &counts {
            let slow = slow[id.as_str()].load(Ordering::SeqCst);
            assert_eq!((counts.undecodable, counts.skipped), (0, 0), "{id}: {counts:?}");
            assert!(counts.late <= slow, "{id}: {counts:?}, and {slow} files were slow to be written");
            if counts.late > 0 {
                eprintln!(
                    "soak: {id}: {} files are counted late; the machine took {SLOW:?} and more to write {slow}",
                    counts.late
                );
            }
        }
        // A clean stop adds nothing, and what was shown is what is stored.
        for agent in &mut self.agents {
            agent.process.terminate();
        }
        assert_eq!(self.counts().as_ref(), Some(&counts));
        self.aggregator.process.terminate();
        self.aggregator.restart();
        assert_eq!(self.counts().as_ref(), Some(&counts));
        let devices = self.aggregator.list("devices").expect("the aggregator answers");
        assert_eq!(devices.len(), SITES.len(), "{devices:#?}");
        for device in &devices {
            assert_eq!((&device["lost_windows"], &device["clones"]), (&0.into(), &0.into()), "{device:#}");
        }
        for process in [&self.aggregator.process].into_iter().chain(self.agents.iter().map(|agent| &agent.process)) {
            let log = process.log();
            let bad = |line: &&str| {
                ["panicked", "reason=\"gap\"", "reason=\"overlap\"", "reason=\"checksum\"", " case="]
                    .iter()
                    .any(|word| line.contains(word))
                    && !line.contains(" DEBUG ")
            };
            let bad: Vec<&str> = log.lines().filter(bad).take(20).collect();
            assert!(bad.is_empty(), "{bad:#?}");
        }
    }
}
