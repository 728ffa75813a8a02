//! What the agent learns from what passes.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use driftglass_agent::source::{Condition, Health};
use hyper::{Response, StatusCode};

use crate::sidecar::{Sidecar, exchange, full, jpeg, post, server, whole};

const ANSWER: &str = r#"{"model_name":"m","model_version":"3","id":"7","outputs":
    [{"name":"p","shape":[1,2],"datatype":"FP32","data":[0.25,0.75]}]}"#;

async fn model() -> std::net::SocketAddr {
    server(async |request| {
        whole(request).await;
        Response::new(full(ANSWER))
    })
    .await
}

fn request(picture: &[u8]) -> Vec<u8> {
    let text = STANDARD.encode(picture);
    let body = format!(r#"{{"inputs":[{{"name":"i","shape":[1],"datatype":"BYTES","data":["{text}"]}}]}}"#);
    post("/v2/models/m/infer", "", body.as_bytes())
}

#[tokio::test]
async fn pictures_and_scores_are_taken_from_json_and_from_binary_tensors() {
    let mut sidecar = Sidecar::before(model().await, "").await;
    let picture = jpeg(1);
    exchange(sidecar.address, &request(&picture)).await;
    let (condition, seen, heard) = sidecar.next(0).await;
    assert_eq!((condition, seen), (Condition::Ready, picture));
    assert_eq!(heard.expect("heard").labels, ["1"]);
    assert_eq!(sidecar.health(), Health::Delivering);
    let pixels = vec![100; 16 * 16 * 3];
    let json = format!(
        r#"{{"inputs":[{{"name":"i","shape":[1,16,16,3],"datatype":"UINT8","parameters":{{"binary_data_size":{}}}}}]}}"#,
        pixels.len()
    );
    let header = format!("Inference-Header-Content-Length: {}\r\n", json.len());
    exchange(sidecar.address, &post("/v2/models/m/versions/3/infer", &header, &[json.as_bytes(), &pixels].concat()))
        .await;
    let (condition, seen, heard) = sidecar.next(0).await;
    assert_eq!((condition, seen), (Condition::Ready, [b"P6 16 16 255\n".as_slice(), &pixels].concat()));
    assert!(heard.is_some());
    sidecar.end().await;
}

#[tokio::test]
async fn a_plain_json_service_is_read_by_pointers_and_its_labels_may_come_later() {
    let upstream = server(async |request| {
        let failed = request.uri().path() == "/predict" && whole(request).await.windows(4).any(|part| part == b"fail");
        let mut response = Response::new(full(r#"{"request":"r1","result":{"cat":0.75,"dog":0.25}}"#));
        if failed {
            *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        }
        response
    })
    .await;
    let settings = "api = \"json\", path = \"/predict\", image = \"/image\", scores = \"/result\", id = \"/request\"";
    let mut sidecar = Sidecar::before(upstream, settings).await;
    let picture = jpeg(2);
    let body = format!(r#"{{"image":"data:image/jpeg;base64,{}"}}"#, STANDARD.encode(&picture));
    exchange(sidecar.address, &post("/predict", "", body.as_bytes())).await;
    let (condition, seen, heard) = sidecar.next(0).await;
    assert_eq!((condition, &seen), (Condition::Ready, &picture));
    assert_eq!(heard.expect("heard").labels, ["cat"]);
    let failing = body.replace('}', r#","fail":1}"#);
    exchange(sidecar.address, &post("/predict", "", failing.as_bytes())).await;
    let (condition, seen, heard) = sidecar.next(0).await;
    assert_eq!((condition, seen, heard), (Condition::Ready, picture, None), "a failed inference has a picture only");
    sidecar.shows("requests_total{camera=\"door\",outcome=\"server_error\"} 1").await;

    let tell = async |path: &str, body: &str| {
        let answer = exchange(sidecar.truths, &post(path, "", body.as_bytes())).await;
        String::from_utf8(answer).expect("text")
    };
    let answer =
        tell("/door", r#"[{"id":"r1","label":"dog"},{"id":"r0","label":"dog"},{"predicted":"a","label":"a"}]"#).await;
    assert!(answer.contains(r#"{"taken":2,"unknown":1,"refused":0}"#), "{answer}");
    assert!(tell("/door", r#"{"id":"r1"}"#).await.starts_with("HTTP/1.1 400"));
    assert!(tell("/door", &"x".repeat(300_000)).await.starts_with("HTTP/1.1 413"));
    assert!(tell("/yard", "{}").await.starts_with("HTTP/1.1 404"));
    assert_eq!(sidecar.next(0).await.0, Condition::Judged(true));
    assert_eq!(sidecar.next(0).await.0, Condition::Judged(false));
    sidecar.shows("truths_total{camera=\"door\",result=\"unknown\"} 1").await;
    sidecar.end().await;
}

#[tokio::test]
async fn the_sampling_rate_leaves_out_before_anything_is_copied_and_everything_is_counted() {
    let mut sidecar = Sidecar::before(model().await, "fps = 0.01").await;
    for _ in 0..5 {
        exchange(sidecar.address, &request(&jpeg(3))).await;
    }
    sidecar.shows("requests_total{camera=\"door\",outcome=\"ok\"} 5").await;
    let mut skipped = 0;
    let mut ready = 0;
    while skipped + ready < 5 {
        match sidecar.next(0).await.0 {
            Condition::Ready => ready += 1,
            Condition::Skipped(count) => skipped += count,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((ready, skipped), (1, 4));
    sidecar.end().await;
}

#[tokio::test]
async fn cameras_that_share_a_proxy_are_told_apart_by_a_header() {
    let mut sidecar = Sidecar::of(&["door", "yard"], model().await, "camera_header = \"X-Camera\"").await;
    let (yard, nobody) = (jpeg(4), jpeg(5));
    let named = |name: &str, picture: &[u8]| {
        let request = request(picture);
        let text = format!("HTTP/1.1\r\nX-Camera: {name}\r\n");
        let at = request.windows(10).position(|part| part == b"HTTP/1.1\r\n").expect("there");
        [&request[..at], text.as_bytes(), &request[at + 10..]].concat()
    };
    exchange(sidecar.address, &named("nobody", &nobody)).await;
    exchange(sidecar.address, &named("yard", &yard)).await;
    let (condition, seen, _) = sidecar.next(1).await;
    assert_eq!((condition, seen), (Condition::Ready, yard));
    assert!(sidecar.sources[0].poll(driftglass_agent::host::clock::now()).is_none());
    sidecar.end().await;
}

#[tokio::test]
async fn an_answer_without_a_picture_is_heard_all_the_same() {
    let mut sidecar = Sidecar::before(model().await, "").await;
    let body = br#"{"inputs":[{"name":"i","shape":[1,4],"datatype":"FP32","data":[1,2,3,4]}]}"#;
    exchange(sidecar.address, &post("/v2/models/m/infer", "", body)).await;
    let (condition, _, heard) = sidecar.next(0).await;
    assert_eq!((condition, heard.expect("heard").labels), (Condition::Heard, vec!["1".to_owned()]));
    sidecar.end().await;
}
