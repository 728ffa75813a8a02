use driftglass_agent::decode::Decoder;
use driftglass_agent::feature::{CameraState, Measurements, ReferenceLearner};
use driftglass_aggregator::batch::compare_batches;
fn main() {
    for dir in std::env::args().skip(1) {
        let mut paths: Vec<_> = std::fs::read_dir(&dir)
            .unwrap()
            .map(|e| e.unwrap().path())
            .filter(|p| p.extension().is_some_and(|e| e == "jpg"))
            .collect();
        paths.sort();
        let mut d = Decoder::new();
        let m: Vec<Measurements> = paths.iter().map(|p| d.measure(&std::fs::read(p).unwrap()).unwrap()).collect();
        let h = m.len() / 2;
        let mut l = ReferenceLearner::new();
        m[..h].iter().for_each(|f| {
            l.learn(f);
        });
        let run = |f: &[Measurements]| {
            let mut s = l.reference().map_or_else(CameraState::new, CameraState::with_reference);
            f.iter().map(|f| s.observe(f)).collect::<Vec<_>>()
        };
        let (a, b) = (run(&m[..h]), run(&m[h..]));
        let r = compare_batches(&a, &b, 0.05).unwrap();
        let name = dir.rsplit('/').next().unwrap();
        let (cam, kind) = name.split_once("--").unwrap();
        eprintln!(
            "CAUSE {cam} {kind} {} {:?}",
            r.diagnosis.as_ref().map_or("-", |d| d.cause.name()),
            r.diagnosis.as_ref().map(|d| d.severity)
        );
        for f in &r.features {
            let mean = |v: &[driftglass_protocol::feature::FeatureValues]| {
                let x: Vec<f64> = v.iter().filter_map(|v| v.get(f.comparison.feature)).map(|x| x.to_f64()).collect();
                x.iter().sum::<f64>() / x.len().max(1) as f64
            };
            println!(
                "{cam},{kind},{},{},{:.4},{:.3e},{:.3e},{:.2},{:.4},{:.3},{:.4},{:.4}",
                r.diagnosis.is_some(),
                f.comparison.feature.name(),
                f.comparison.distance,
                f.comparison.p,
                f.p_adjusted,
                f.comparison.effective_size,
                f.comparison.shift,
                f.comparison.scaled_shift,
                mean(&a),
                mean(&b)
            );
        }
    }
}
