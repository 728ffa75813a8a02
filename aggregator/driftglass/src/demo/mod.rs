//! `driftglass demo`: the whole product on one machine, on real frames, with one fault.
//!
//! The processes are the real ones: one aggregator, eight agents, QUIC with mutual TLS between them. Only the cameras are played:
//! [`cameras`] writes real frames into the folders the agents watch, and at the right moment puts one of them out of focus.

mod cameras;
mod fleet;
mod screen;

use std::fs;
use std::io;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use driftglass_agent::fault::{Injector, Kind, Severity};

use crate::client::{Alert, Camera, Client, ServerArguments};
use crate::exit::{Failure, Outcome};
use cameras::{CameraRig, Footage};
use fleet::{CAMERAS, Fleet};
use screen::Screen;

/// Frames a second of every camera.
const FRAMES_PER_SECOND: u32 = 12;
/// Files a camera's folder holds at most; the agents read them long before.
const FILES_KEPT: usize = 600;
/// How often the aggregator is asked.
const POLL: Duration = Duration::from_millis(500);
/// How long all cameras are watched after learning before the fault begins.
const CALM: Duration = Duration::from_secs(3);
/// Which of the eight cameras gets the fault.
const VICTIM: usize = 5;
/// A demo in which nothing is learned after this time has failed.
const LEARNING_PATIENCE: Duration = Duration::from_secs(180);

/// What to show.
#[derive(Debug, Args)]
#[command(
    after_help = "Eight cameras are cut out of one scene by different crops and offsets, so they are not independent.\n\
    Exit code: 0 as expected; 1 no alert for the fault, an alert without one, or the demo could not run; 2 bad usage."
)]
pub(crate) struct DemoArguments {
    /// Use the frames in this folder (jpg or png, at most 240) instead of those shipped.
    #[arg(long, value_name = "DIR")]
    frames: Option<PathBuf>,
    /// The fault: none, defocus, covered, dark, frozen, moved, noise, fogged, dirty, overexposed, colour-cast, infrared, compression.
    #[arg(long, value_name = "KIND", default_value = "defocus", value_parser = fault)]
    fault: Fault,
    /// How strong the fault is, 0 to 5. Not every fault can be seen when it is weak.
    #[arg(long, value_name = "S", default_value = "3")]
    severity: Severity,
    /// End by itself after this many seconds; otherwise with Ctrl-C.
    #[arg(long, value_name = "N")]
    seconds: Option<u64>,
    /// Do not open a browser.
    #[arg(long)]
    no_browser: bool,
    /// Keep everything (configuration, logs, data) in this folder instead of a temporary one.
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug)]
struct Fault(Option<Kind>);

fn fault(text: &str) -> Result<Fault, String> {
    if text == "none" {
        return Ok(Fault(None));
    }
    text.parse().map(|kind| Fault(Some(kind))).map_err(|_| {
        let known: Vec<&str> = Kind::ALL.iter().map(|kind| kind.name()).collect();
        format!("use none, {}", known.join(", "))
    })
}

/// Runs the demo to its end.
///
/// # Errors
/// Where something cannot be started, or what was promised did not happen.
pub(crate) fn run(arguments: &DemoArguments) -> Result<Outcome, Failure> {
    let interrupted = interruption()?;
    let mut screen = Screen::new();
    let temporary = tempfile::tempdir().map_err(Failure::job)?;
    let root = match &arguments.keep {
        Some(folder) => {
            fs::create_dir_all(folder).map_err(|error| Failure::Job(format!("{}: {error}", folder.display())))?;
            fs::canonicalize(folder).map_err(Failure::job)?
        }
        None => temporary.path().to_owned(),
    };

    let footage = match &arguments.frames {
        Some(folder) => Footage::from_folder(folder).map_err(Failure::job)?,
        None => Footage::shipped().map_err(Failure::job)?,
    };
    let folders: Vec<PathBuf> = CAMERAS.iter().map(|place| place.frames(&root)).collect();
    let keep = NonZeroUsize::new(FILES_KEPT).unwrap_or(NonZeroUsize::MIN);
    let rig = CameraRig::new(footage, &folders, keep, |progress| {
        screen.progress("cutting eight views out of the scene", progress.done, progress.total);
    })
    .map_err(Failure::job)?;

    screen.stage("starting one aggregator and eight agents");
    let fleet = Fleet::start(&root).map_err(Failure::job)?;
    screen.stage(&format!("aggregator at {}", fleet.url()));
    if !arguments.no_browser {
        open_browser(&fleet.url());
    }
    let client = Client::new(&ServerArguments::local(&fleet.url()))?;
    let mut show = Show { arguments, rig, client, screen, fleet, interrupted, started: now(), phase: Phase::Learning };
    let told = show.play();
    show.screen.stage("stopping");
    show.fleet.stop();
    if arguments.keep.is_some() {
        show.screen.stage(&format!("kept in {}", root.display()));
    }
    told
}

/// Where the story stands.
#[derive(Clone, Copy, Debug)]
enum Phase {
    Learning,
    Calm { since: Instant },
    Faulted { since: Instant },
    Told,
}

struct Show<'a> {
    arguments: &'a DemoArguments,
    rig: CameraRig,
    client: Client,
    screen: Screen,
    fleet: Fleet,
    interrupted: Arc<AtomicBool>,
    started: Instant,
    phase: Phase,
}

impl Show<'_> {
    fn play(&mut self) -> Result<Outcome, Failure> {
        let tick = Duration::from_secs(1) / FRAMES_PER_SECOND;
        let (mut next_frame, mut next_poll) = (self.started, self.started);
        let mut alerts = 0;
        while !self.interrupted.load(Ordering::Relaxed) && !self.over() {
            for camera in 0..CAMERAS.len() {
                self.rig.write_next(camera).map_err(Failure::job)?;
            }
            if now() >= next_poll {
                next_poll = now() + POLL;
                self.fleet.check().map_err(Failure::job)?;
                alerts = self.look(alerts)?;
            }
            next_frame += tick;
            sleep_until(next_frame);
        }
        self.verdict(alerts)
    }

    fn over(&self) -> bool {
        self.arguments.seconds.is_some_and(|seconds| self.started.elapsed() >= Duration::from_secs(seconds))
    }

    /// Asks the aggregator, shows what is new, and moves the story on. Returns how many alerts have been shown.
    fn look(&mut self, shown: usize) -> Result<usize, Failure> {
        let cameras: Vec<Camera> = self.client.typed("cameras", &[])?;
        let frames: u64 = cameras.iter().map(|camera| camera.frames_total).sum();
        let learned = cameras.iter().filter(|camera| camera.state != "learning").count();
        match self.phase {
            Phase::Learning => {
                let windows = cameras.iter().map(|camera| camera.windows_total).min().unwrap_or(0);
                let most = u64::from(fleet::LEARNING_WINDOWS);
                let (done, total) = (windows.min(most), most);
                let title = format!("learning what is normal ({} cameras, {frames} frames)", cameras.len());
                self.screen.progress(&title, usize::try_from(done).unwrap_or(0), usize::try_from(total).unwrap_or(1));
                if learned == CAMERAS.len() {
                    self.screen.stage("all eight cameras have learned what is normal and are being watched");
                    self.phase = Phase::Calm { since: now() };
                } else if self.started.elapsed() > LEARNING_PATIENCE {
                    return Err(Failure::Job(format!("only {learned} of 8 cameras have learned; see the logs")));
                }
            }
            Phase::Calm { since } if since.elapsed() >= CALM => self.begin_fault()?,
            Phase::Faulted { since } => {
                self.screen.waiting(&format!("gathering evidence ({} s)", since.elapsed().as_secs()));
            }
            Phase::Told | Phase::Calm { .. } => {}
        }
        let alerts: Vec<Alert> = self.client.typed("alerts", &[])?;
        let mut by_number: Vec<&Alert> = alerts.iter().collect();
        by_number.sort_by_key(|alert| alert.id);
        for alert in by_number.iter().skip(shown) {
            self.screen.alert(alert);
            if !matches!(self.phase, Phase::Told) {
                self.phase = Phase::Told;
                self.screen.stage(&format!("the aggregator keeps running at {}", self.fleet.url()));
                if self.arguments.seconds.is_none() {
                    self.screen.stage("Ctrl-C ends everything");
                }
            }
        }
        Ok(by_number.len())
    }

    fn begin_fault(&mut self) -> Result<(), Failure> {
        let Fault(Some(kind)) = self.arguments.fault else {
            self.screen.stage("no fault this time: nothing should be reported");
            self.phase = Phase::Told;
            return Ok(());
        };
        self.rig.set_fault(VICTIM, Some(Injector::new(kind, self.arguments.severity, 1))).map_err(Failure::job)?;
        let victim = CAMERAS.get(VICTIM).map(ToString::to_string).unwrap_or_default();
        self.screen.stage(&format!("fault injected: {kind} at {victim}"));
        self.phase = Phase::Faulted { since: now() };
        Ok(())
    }

    fn verdict(&self, alerts: usize) -> Result<Outcome, Failure> {
        match (self.arguments.fault.0, self.phase, alerts) {
            (None, _, 0) | (Some(_), Phase::Told, 1..) => Ok(Outcome::Success),
            (None, _, alerts) => Err(Failure::Job(format!("{alerts} alerts, though nothing was wrong"))),
            // Whoever interrupts does not wait for the alert.
            (Some(_), _, _) if self.interrupted.load(Ordering::Relaxed) => Ok(Outcome::Success),
            (Some(_), Phase::Learning | Phase::Calm { .. }, _) => {
                Err(Failure::Job(String::from("the time was over before the fault began; give it more --seconds")))
            }
            (Some(kind), _, _) => Err(Failure::Job(format!("no alert for the fault {kind} in time"))),
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the demo plays cameras in real time")]
fn now() -> Instant {
    Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "the demo plays cameras in real time")]
fn sleep_until(due: Instant) {
    std::thread::sleep(due.saturating_duration_since(Instant::now()));
}

/// A flag that Ctrl-C or a termination signal sets.
fn interruption() -> Result<Arc<AtomicBool>, Failure> {
    let flag = Arc::new(AtomicBool::new(false));
    let set = Arc::clone(&flag);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().map_err(Failure::job)?;
    std::thread::Builder::new()
        .name(String::from("signals"))
        .spawn(move || {
            runtime.block_on(async {
                let Ok(mut terminate) = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
                else {
                    return;
                };
                tokio::select! {
                    _ = tokio::signal::ctrl_c() => {}
                    _ = terminate.recv() => {}
                }
                set.store(true, Ordering::Relaxed);
            });
        })
        .map_err(Failure::job)?;
    Ok(flag)
}

/// Opens the page where there is a desktop to open it on.
#[expect(clippy::disallowed_methods, reason = "whether there is a desktop is only said by the environment")]
fn open_browser(url: &str) {
    let desktop = ["DISPLAY", "WAYLAND_DISPLAY"].iter().any(|name| std::env::var(name).is_ok());
    if desktop && io::IsTerminal::is_terminal(&io::stderr()) {
        // A convenience; the address is printed in any case.
        drop(std::process::Command::new("xdg-open").arg(url).spawn());
    }
}
