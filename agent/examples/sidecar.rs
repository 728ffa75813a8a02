//! The inference sidecar alone: passes inferences on and prints what an agent would learn from each, a line of JSON. For trying a
//! configuration on real traffic before it is installed, and for the tests against real model servers.
//!
//! ```text
//! cargo run --release -p driftglass-agent --example sidecar -- 'listen = "127.0.0.1:9480", upstream = "127.0.0.1:8000"'
//! ```
//!
//! The argument is what stands in `source = { kind = "inference", ... }`. Ends when its standard input does.
#![expect(clippy::print_stdout, reason = "a program for a terminal")]

use std::error::Error;
use std::path::Path;
use std::time::Duration;

use driftglass_agent::config::{Config, Overrides};
use driftglass_agent::decode::Decoder;
use driftglass_agent::feature::CameraState;
use driftglass_agent::host::clock;
use driftglass_agent::source::{Condition, FrameSource, Running, prepare};
use driftglass_protocol::feature::Feature;
use driftglass_protocol::unit::Fixed;
use serde_json::json;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let settings = std::env::args().nth(1).ok_or("usage: sidecar 'listen = \"...\", upstream = \"...\"'")?;
    let text = format!(
        "site = \"here\"\ndevice = \"this\"\nstate_dir = \"/none\"\n[aggregator]\naddress = \"none:1\"\n\
         [[camera]]\nname = \"camera\"\nsource = {{ kind = \"inference\", {settings} }}\n"
    );
    let config =
        Config::resolve(Path::new("argument"), &text, &Overrides::default()).map_err(|faults| faults.to_string())?;
    let camera = config.cameras().first().ok_or("no camera")?;
    let mut running = Running::new(clock::now, rand::random::<u64>);
    let (mut source, prepared) = prepare(&camera.name, &camera.source, &running.outside());
    running.start(vec![prepared]).await;
    let (mut decoder, mut state) = (Decoder::new(), CameraState::new());
    let (end, mut ended) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let read = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        end.send(read)
    });
    loop {
        while let Some(line) = next(&mut source, &mut decoder, &mut state) {
            println!("{line}");
        }
        tokio::select! {
            _ = &mut ended => break,
            () = tokio::time::sleep(Duration::from_millis(20)) => {}
        }
    }
    running.end_all().await;
    while let Some(line) = next(&mut source, &mut decoder, &mut state) {
        println!("{line}");
    }
    Ok(())
}

/// What came, if anything did.
fn next(source: &mut FrameSource, decoder: &mut Decoder, state: &mut CameraState) -> Option<serde_json::Value> {
    let candidate = source.poll(clock::now())?;
    let heard = source.heard().cloned();
    let luma = match candidate.condition {
        Condition::Ready => source.read(&candidate).ok().flatten().map(|picture| match decoder.measure(picture) {
            Ok(measured) => json!(state.observe(&measured).get(Feature::LumaMean).map(Fixed::to_f64)),
            Err(error) => json!(error.to_string()),
        }),
        _ => None,
    };
    Some(json!({
        "what": format!("{:?}", candidate.condition),
        "luma_mean": luma,
        "labels": heard.as_ref().map(|heard| &heard.labels),
        "confidence": heard.as_ref().map(|heard| heard.prediction.confidence.to_f64()),
        "entropy": heard.as_ref().map(|heard| heard.prediction.entropy().to_f64()),
        "latency_ms": heard.as_ref().and_then(|heard| heard.prediction.latency).map(Fixed::to_f64),
        "model": heard.as_ref().and_then(|heard| heard.model.as_ref()).map(|model| format!("{}@{}", model.name, model.version)),
    }))
}
