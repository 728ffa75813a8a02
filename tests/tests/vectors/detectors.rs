//! The streaming detectors of the agent.

use driftglass_agent::detector::{
    Adwin, AdwinSettings, Ddm, DdmSettings, Direction, Draw, Eddm, EddmSettings, Hddm, HddmSettings, Kswin,
    KswinSettings, PageHinkley, PageHinkleySettings, State,
};
use serde_json::Value;

use crate::case::{Case, Outcome, Run, Tolerance, float, list};

/// Entry by entry: the function's name in the vectors and what runs it.
pub(crate) const FUNCTIONS: [(&str, Run); 6] =
    [("ADWIN", adwin), ("DDM", ddm), ("EDDM", eddm), ("HDDM_A", hddm), ("KSWIN", kswin), ("PageHinkley", page_hinkley)];

/// What a detector said of a stream.
#[derive(Default)]
struct Said {
    drifts: Vec<usize>,
    warnings: Vec<[usize; 2]>,
}

impl Said {
    fn push(&mut self, at: usize, state: State) {
        match state {
            State::Stable => {}
            State::Drift => self.drifts.push(at),
            State::Warning => match self.warnings.last_mut() {
                Some(run) if run[1] + 1 == at => run[1] = at,
                _ => self.warnings.push([at, at]),
            },
        }
    }

    fn check(self, case: &Case) {
        case.equal("drift", &self.drifts.into());
        let runs: Vec<Value> = self.warnings.into_iter().map(|run| run.to_vec().into()).collect();
        case.equal("warning_runs", &runs.into());
    }
}

fn bits<'a>(case: &'a Case) -> impl Iterator<Item = bool> + use<'a> {
    case.input("bits").as_str().expect("bits").bytes().map(|bit| bit == b'1')
}

fn values(case: &Case) -> Vec<f64> {
    if case.body["input"].get("bits").is_some() {
        return bits(case).map(|bit| f64::from(u8::from(bit))).collect();
    }
    list(case.input("x"))
}

fn ddm(case: &Case) -> Outcome {
    let mut detector = Ddm::new(DdmSettings {
        warm_start: case.count("warm_start"),
        warning_threshold: case.parameter("warning_threshold"),
        drift_threshold: case.parameter("drift_threshold"),
    })?;
    let mut said = Said::default();
    bits(case).enumerate().for_each(|(at, error)| said.push(at, detector.update(error)));
    said.check(case);
    Ok(())
}

fn eddm(case: &Case) -> Outcome {
    let mut detector = Eddm::new(EddmSettings {
        warm_start: case.count("warm_start"),
        alpha: case.parameter("alpha"),
        beta: case.parameter("beta"),
    })?;
    let mut said = Said::default();
    bits(case).enumerate().for_each(|(at, error)| said.push(at, detector.update(error)));
    said.check(case);
    Ok(())
}

fn hddm(case: &Case) -> Outcome {
    let mut detector = Hddm::new(HddmSettings {
        drift_confidence: case.parameter("drift_confidence"),
        warning_confidence: case.parameter("warning_confidence"),
        two_sided: case.setting("two_sided_test").as_bool().expect("a bool"),
    })?;
    let mut said = Said::default();
    bits(case).enumerate().for_each(|(at, error)| said.push(at, detector.update(error)));
    said.check(case);
    Ok(())
}

fn adwin(case: &Case) -> Outcome {
    let mut detector = Adwin::new(AdwinSettings {
        delta: case.parameter("delta"),
        clock: case.count("clock"),
        max_buckets: case.count("max_buckets"),
        min_window_length: case.count("min_window_length"),
        grace_period: case.count("grace_period"),
    })?;
    let mut said = Said::default();
    for (at, value) in values(case).into_iter().enumerate() {
        said.push(at, detector.update(value)?);
    }
    said.check(case);
    case.close("final_width", detector.width(), Tolerance { relative: 0.0, absolute: 0.0 });
    case.close("final_estimation", detector.mean(), case.tolerance(&["rel"]));
    Ok(())
}

fn page_hinkley(case: &Case) -> Outcome {
    let mut detector = PageHinkley::new(PageHinkleySettings {
        min_instances: case.count("min_instances"),
        delta: case.parameter("delta"),
        threshold: case.parameter("threshold"),
        alpha: case.parameter("alpha"),
        direction: match case.setting("mode").as_str() {
            Some("up") => Direction::Up,
            Some("down") => Direction::Down,
            Some("both") => Direction::Both,
            other => panic!("{}: mode {other:?}", case.id),
        },
    })?;
    let mut said = Said::default();
    for (at, value) in values(case).into_iter().enumerate() {
        said.push(at, detector.update(value)?);
    }
    said.check(case);
    Ok(())
}

/// The positions that the reference drew, comparison by comparison.
struct Recorded<'a> {
    steps: std::slice::Iter<'a, Value>,
    current: Option<&'a Value>,
    restarts: usize,
}

impl Draw for Recorded<'_> {
    fn restart(&mut self) {
        self.restarts += 1;
    }

    fn draw(&mut self, population: usize, positions: &mut [usize]) {
        let step = self.steps.next().expect("the reference compared as often");
        let drawn = step[1].as_array().expect("positions");
        assert_eq!(drawn.len(), positions.len());
        for (place, position) in positions.iter_mut().zip(drawn) {
            *place = position.as_u64().and_then(|position| usize::try_from(position).ok()).expect("a position");
            assert!(*place < population);
        }
        self.current = Some(step);
    }
}

fn kswin(case: &Case) -> Outcome {
    let mut detector = Kswin::<1024>::new(KswinSettings {
        alpha: case.parameter("alpha"),
        window_size: case.count("window_size"),
        stat_size: case.count("stat_size"),
    })?;
    let steps = case.expected("steps").and_then(Value::as_array).expect("steps");
    let mut recorded = Recorded { steps: steps.iter(), current: None, restarts: 0 };
    let (mut said, values) = (Said::default(), values(case));
    for (at, &value) in values.iter().enumerate() {
        let state = detector.update(value, &mut recorded)?;
        said.push(at, state);
        match (recorded.current.take(), detector.p()) {
            (None, None) => {}
            (Some(step), Some(p)) => {
                if step[0] != at || step[3] != (state == State::Drift) {
                    case.fail(&format!("at {at}: {state:?} instead of {step}"));
                }
                case.compare(&format!("p at {at}"), p, float(&step[2]), case.tolerance(&["p_rel"]));
            }
            (step, p) => case.fail(&format!("at {at}: {p:?} instead of {step:?}")),
        }
    }
    if recorded.steps.next().is_some() {
        case.fail("the reference compared more often");
    }
    let due = said.drifts.iter().filter(|&&at| at + 1 < values.len()).count();
    if recorded.restarts != due {
        case.fail(&format!("{} restarts after {due} drifts", recorded.restarts));
    }
    said.check(case);
    Ok(())
}
