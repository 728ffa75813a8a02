//! From what passes to the summary that leaves the device.

use std::ops::ControlFlow;
use std::sync::Arc;

use driftglass_agent::config::EventTime;
use driftglass_agent::host::clock;
use driftglass_agent::pipeline::{Pipeline, Setup, Surroundings, Timing};
use driftglass_agent::prediction::{Detectors, Recorded};
use driftglass_agent::source::Moment;
use driftglass_agent::spool::{self, Reader, Settings};
use driftglass_agent::telemetry::Telemetry;
use driftglass_agent::uplink::Counters;
use driftglass_protocol::feature::Feature;
use driftglass_protocol::id::{DeviceId, Name};
use driftglass_protocol::sketch::EncodedLabels;
use driftglass_protocol::unit::Millis;
use driftglass_protocol::wire::{Body, Mark, Record, parse_frame};
use hyper::Response;
use tokio::time::{Instant, sleep};

use crate::sidecar::{PATIENCE, Sidecar, exchange, full, post, server, whole};

struct Now;

impl Surroundings for Now {
    fn now(&self) -> Moment {
        clock::now()
    }

    fn pause(&mut self) -> ControlFlow<()> {
        ControlFlow::Break(())
    }
}

#[tokio::test]
async fn a_window_has_the_pictures_the_predictions_the_truth_and_the_model_of_what_passed() {
    let upstream = server(async |request| {
        let model = request.uri().path().split('/').nth(3).expect("a model").to_owned();
        whole(request).await;
        Response::new(full(format!(
            r#"{{"model_name":"{model}","model_version":"3","id":"{model}-1","outputs":
                [{{"name":"p","shape":[1,2],"datatype":"FP32","data":[0.25,0.75]}}]}}"#
        )))
    })
    .await;
    let mut sidecar = Sidecar::before(upstream, "classes = [\"a\", \"b\"]").await;
    let folder = tempfile::tempdir().expect("folder");
    let name = |text| Name::parse(text).expect("a name");
    let device = DeviceId { site: name("s"), device: name("d") };
    let settings = Settings { state_dir: folder.path().to_path_buf(), device, max_bytes: 4 << 20 };
    let opened = spool::open(settings, 5).expect("opens");
    let telemetry =
        Arc::new(Telemetry::new(Arc::clone(&opened.shared), Arc::new(Counters::default())).expect("figures"));
    let setup = Setup {
        name: name("door"),
        model: None,
        source: sidecar.sources.pop().expect("a source"),
        timing: Timing::Live(EventTime::Modified),
        // Long enough for all of this to be in one.
        window: Millis(86_400_000),
        rate: None,
        predictions: Recorded::default(),
        detectors: Detectors::default(),
        max_memory: 64 << 20,
        learned: None,
    };
    let mut pipeline = Pipeline::new(vec![setup], opened.writer, Arc::clone(&telemetry));
    let pixels = vec![100; 16 * 16 * 3];
    let json = format!(
        r#"{{"inputs":[{{"name":"i","shape":[1,16,16,3],"datatype":"UINT8","parameters":{{"binary_data_size":{}}}}}]}}"#,
        pixels.len()
    );
    let header = format!("Inference-Header-Content-Length: {}\r\n", json.len());
    let mut counted = 0;
    for model in ["m", "m", "n"] {
        let body = [json.as_bytes(), &pixels].concat();
        exchange(sidecar.address, &post(&format!("/v2/models/{model}/infer"), &header, &body)).await;
        counted += 1;
        let end = Instant::now() + PATIENCE;
        loop {
            pipeline.turn(&mut Now);
            let metrics = String::from_utf8(telemetry.render().expect("rendered")).expect("text");
            if metrics.contains(&format!("driftglass_agent_frames_total{{camera=\"door\"}} {counted}")) {
                break;
            }
            assert!(Instant::now() < end, "{metrics}");
            sleep(std::time::Duration::from_millis(5)).await;
        }
    }
    let truth = r#"{"id":"m-1","label":"a"}"#;
    let answer = exchange(sidecar.truths, &post("/door", "", truth.as_bytes())).await;
    assert!(String::from_utf8_lossy(&answer).contains("\"taken\":1"));
    pipeline.turn(&mut Now);
    assert!(pipeline.finish(&mut Now).is_continue());
    let mut reader = Reader::new(opened.shared);
    let stored = reader.next_after(Mark::default()).expect("readable").expect("a window");
    let record = Record::parse(parse_frame(stored.frame).expect("a frame")).expect("a record");
    let Body::Summary(summary) = record.body else { panic!("a summary") };
    assert_eq!(summary.check(), Ok(()));
    let model = summary.model.as_ref().expect("heard");
    assert_eq!((model.name.as_str(), model.version.as_str()), ("m", "3"));
    assert_eq!((summary.quality.frames, summary.quality.undecodable), (3, 0));
    let absent = |feature: Feature| {
        let sketch = summary.sketches.iter().find(|sketch| sketch.feature == feature as u8);
        sketch.map(|sketch| sketch.absent)
    };
    assert_eq!(absent(Feature::LumaMean), Some(0));
    assert_eq!(absent(Feature::PredictionEntropy), Some(1), "the frame of the other model has a picture only");
    assert_eq!(absent(Feature::PredictionLatency), Some(1));
    let predictions = summary.predictions.expect("predicted");
    assert_eq!((predictions.frames, predictions.judged, predictions.wrong), (2, 1, 1));
    assert!(EncodedLabels::parse(predictions.labels).expect("labels").names().eq([("b", 2)]));
    sidecar.end().await;
}
