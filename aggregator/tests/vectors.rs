//! Runs every reference vector through the function it names.
//!
//! The folder is `DRIFTGLASS_VECTORS` (relative paths start at the project's root), by default `../shared/vectors` from there.
//! Other files in the same format can be put there and run through the same tests. A missing folder, an unknown `fn`, an
//! expectation nobody looked at and a case without any expectation are failures, never skips.
//!
//! The streaming detectors live in the agent, whose own test runs their cases: see [`RUN_BY_THE_AGENT`].
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test program: a surprise must end it")]

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use driftglass_aggregator::evidence::design_effect::{DesignEffect, octile_bins};
use driftglass_aggregator::evidence::indicator_ladder::IndicatorLadder;
use driftglass_aggregator::evidence::process::EvidenceProcess;
use driftglass_aggregator::evidence::{calibrator, combination, family_wise, fdr, peer};
use driftglass_aggregator::stats::ecdf::Ecdf;
use driftglass_aggregator::stats::ks::TwoSample;
use driftglass_aggregator::stats::kuiper::Kuiper;
use driftglass_aggregator::stats::{
    StatisticsError, binned, chi_square, divergence, effective_sample_size, entropy, kolmogorov, wasserstein,
};
use serde_json::Value;

/// Functions whose cases are run by the agent's tests, where the streaming detectors live.
const RUN_BY_THE_AGENT: [&str; 6] = ["DDM", "EDDM", "HDDM_A", "ADWIN", "PageHinkley", "KSWIN"];

/// One case, and which of its expectations have been looked at.
struct Case<'a> {
    id: &'a str,
    body: &'a Value,
    seen: RefCell<BTreeSet<String>>,
    failures: RefCell<Vec<String>>,
}

/// Computes what a case asks for and checks it.
type Run = fn(&Case) -> Result<(), StatisticsError>;

/// How close is close enough.
#[derive(Clone, Copy)]
struct Tolerance {
    relative: f64,
    absolute: f64,
}

impl Case<'_> {
    fn fail(&self, message: &str) {
        self.failures.borrow_mut().push(format!("{}: {message}", self.id));
    }

    fn input(&self, name: &str) -> &Value {
        self.body["input"].get(name).unwrap_or_else(|| panic!("{} has no input {name}", self.id))
    }

    fn number(&self, name: &str) -> f64 {
        float(self.input(name))
    }

    fn floats(&self, name: &str) -> Vec<f64> {
        list(self.input(name))
    }

    fn counts(&self, name: &str) -> Vec<u64> {
        counts(self.input(name))
    }

    fn tables(&self, name: &str) -> Vec<Vec<u64>> {
        self.input(name).as_array().unwrap().iter().map(counts).collect()
    }

    fn parameter(&self, name: &str) -> f64 {
        float(self.body["params"].get(name).unwrap_or_else(|| panic!("{} has no parameter {name}", self.id)))
    }

    /// An expectation that may be missing from the case, or null, which says it is undefined.
    fn expected(&self, name: &str) -> Option<&Value> {
        self.seen.borrow_mut().insert(name.to_owned());
        self.body["expect"].get(name).filter(|value| !value.is_null())
    }

    /// A tolerance by the name of a `tol` entry: `…rel` is relative, `abs` absolute, a bare name either.
    fn tolerance(&self, names: &[&str]) -> Tolerance {
        let mut tolerance = Tolerance { relative: 0.0, absolute: 0.0 };
        let mut known = false;
        for name in names {
            if let Some(value) = self.body["tol"].get(*name).and_then(Value::as_f64) {
                known = true;
                if *name == "abs" {
                    tolerance.absolute = value;
                } else {
                    tolerance.relative = value;
                }
            }
        }
        if !known {
            self.fail(&format!("no tolerance among {names:?}"));
        }
        tolerance
    }

    fn tolerance_or_zero(&self, name: &str) -> f64 {
        self.body["tol"].get(name).and_then(Value::as_f64).unwrap_or(0.0)
    }

    fn close(&self, name: &str, got: f64, tolerance: Tolerance) {
        if let Some(want) = self.expected(name) {
            self.compare(name, got, float(want), tolerance);
        }
    }

    fn close_all(&self, name: &str, got: &[f64], tolerance: Tolerance) {
        if let Some(want) = self.expected(name) {
            let want = list(want);
            if want.len() != got.len() {
                self.fail(&format!("{name} has {} entries instead of {}", got.len(), want.len()));
            }
            for (index, (got, want)) in got.iter().zip(want).enumerate() {
                self.compare(&format!("{name}[{index}]"), *got, want, tolerance);
            }
        }
    }

    fn compare(&self, name: &str, got: f64, want: f64, tolerance: Tolerance) {
        let same = got.to_bits() == want.to_bits() || (got.is_nan() && want.is_nan());
        // Sums of values near 1 carry their rounding error into expectations near 0.
        let allowed = (tolerance.relative * want.abs()).max(tolerance.absolute);
        let near = want.is_finite() && (got - want).abs() <= allowed;
        if !same && !near {
            self.fail(&format!("{name} is {got:e} instead of {want:e}"));
        }
    }

    fn equal(&self, name: &str, got: &Value) {
        if let Some(want) = self.expected(name)
            && want != got
        {
            self.fail(&format!("{name} is {got} instead of {want}"));
        }
    }

    /// For what the reference leaves undefined: our own definition must still be a probability.
    fn probability(&self, name: &str, got: f64) {
        if !(0.0..=1.0).contains(&got) {
            self.fail(&format!("{name} is {got}, no probability"));
        }
    }
}

fn float(value: &Value) -> f64 {
    match value {
        Value::Number(number) => number.as_f64().unwrap(),
        Value::String(text) => match text.as_str() {
            "NaN" => f64::NAN,
            "Infinity" => f64::INFINITY,
            "-Infinity" => f64::NEG_INFINITY,
            other => panic!("{other} is no number"),
        },
        other => panic!("{other} is no number"),
    }
}

fn list(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(float).collect()
}

fn counts(value: &Value) -> Vec<u64> {
    value.as_array().unwrap().iter().map(|count| count.as_u64().unwrap()).collect()
}

/// Entry by entry: the function's name in the vectors and what runs it.
const FUNCTIONS: [(&str, Run); 26] = [
    ("adjuster_sqrt", adjuster_sqrt),
    ("binned_ks_margin", binned_ks_margin),
    ("chi2_sf", chi2_sf),
    ("chi2_two_sample", chi2_two_sample),
    ("chisquare_gof", chisquare_gof),
    ("design_effect", design_effect),
    ("did_peer_D", did_peer),
    ("divergences", divergences),
    ("e_bh", e_bh),
    ("e_process", e_process),
    ("ecdf", ecdf),
    ("ess", ess),
    ("indicator_ladder", indicator_ladder),
    ("kolmogorov_isf", kolmogorov_isf),
    ("kolmogorov_sf", kolmogorov_sf),
    ("ks_2samp", ks_2samp),
    ("ks_2samp_conditional_exact", ks_2samp_conditional_exact),
    ("kstwo_sf", kstwo_sf),
    ("kuiper_two", kuiper_two),
    ("multipletests", multipletests),
    ("p_to_e", p_to_e),
    ("psi_counts", psi_counts),
    ("psi_quantile", psi_quantile),
    ("shannon_entropy", shannon_entropy),
    ("wasserstein_energy", wasserstein_energy),
    ("wasserstein_energy_binned", wasserstein_energy_binned),
];

fn function(name: &str) -> Option<Run> {
    FUNCTIONS.iter().find(|(known, _)| *known == name).map(|(_, run)| *run)
}

fn adjuster_sqrt(case: &Case) -> Result<(), StatisticsError> {
    case.close("a", calibrator::square_root_adjuster(case.number("m")), case.tolerance(&["rel"]));
    Ok(())
}

fn binned_ks_margin(case: &Case) -> Result<(), StatisticsError> {
    let (a, b) = (case.counts("a"), case.counts("b"));
    let design_effect = case.parameter("deff");
    let comparison = binned::Comparison {
        window_design_effect: design_effect,
        baseline_design_effect: design_effect,
        margin: case.parameter("delta"),
        tolerance: 0,
        circular: false,
    };
    let outcome = comparison.test(&a, &b)?;
    let tolerance = case.tolerance(&["rel"]);
    // Shares are rounded at 10⁻¹⁶, whatever their difference.
    let distance = Tolerance { absolute: 1e-15, ..tolerance };
    case.close("D", outcome.distance, distance);
    case.close("V", binned::kuiper(&a, &b, 0)?, distance);
    case.close("ne", outcome.effective_size, tolerance);
    case.close("p", outcome.p, tolerance);
    Ok(())
}

fn chi2_sf(case: &Case) -> Result<(), StatisticsError> {
    case.close("sf", chi_square::survival(case.number("x"), case.number("df"))?, case.tolerance(&["sf_rel"]));
    Ok(())
}

fn chi2_two_sample(case: &Case) -> Result<(), StatisticsError> {
    check_chi_square(case, chi_square::two_sample(&case.counts("a"), &case.counts("b"))?)
}

fn chisquare_gof(case: &Case) -> Result<(), StatisticsError> {
    check_chi_square(case, chi_square::goodness_of_fit(&case.floats("obs"), &case.floats("exp"))?)
}

fn check_chi_square(case: &Case, result: chi_square::ChiSquare) -> Result<(), StatisticsError> {
    case.close("stat", result.statistic, case.tolerance(&["stat_rel"]));
    case.equal("df", &result.degrees_of_freedom.into());
    case.close("p", result.p(1.0)?, case.tolerance(&["p_rel"]));
    Ok(())
}

fn design_effect(case: &Case) -> Result<(), StatisticsError> {
    let windows = case.tables("windows");
    case.equal("idx", &octile_bins(&windows)?.into());
    case.close("deff", DesignEffect::point_estimate(&windows)?.value, case.tolerance(&["rel"]));
    Ok(())
}

fn did_peer(case: &Case) -> Result<(), StatisticsError> {
    let distances = peer::difference_in_differences(&case.tables("window"), &case.tables("baseline"))?;
    case.close_all("D", &distances, case.tolerance(&["rel"]));
    Ok(())
}

fn divergences(case: &Case) -> Result<(), StatisticsError> {
    let (p, q) = (case.floats("p"), case.floats("q"));
    let tolerance = case.tolerance(&["rel", "abs"]);
    let divergence_nats = divergence::jensen_shannon(&p, &q)?;
    let bits = divergence_nats / std::f64::consts::LN_2;
    case.close("kl_pq_nats", divergence::kullback_leibler(&p, &q)?, tolerance);
    case.close("kl_qp_nats", divergence::kullback_leibler(&q, &p)?, tolerance);
    case.close("js_divergence_nats", divergence_nats, tolerance);
    case.close("js_divergence_bits", bits, tolerance);
    case.close("js_distance_bits", bits.sqrt(), tolerance);
    Ok(())
}

fn e_bh(case: &Case) -> Result<(), StatisticsError> {
    let e = case.floats("e");
    let rejections = fdr::e_benjamini_hochberg(e.len(), &e, case.number("alpha"))?;
    let positions: Vec<usize> =
        rejections.rejected.iter().enumerate().filter(|&(_, &rejected)| rejected).map(|(index, _)| index).collect();
    case.equal("k", &rejections.count.into());
    case.equal("rejected", &positions.into());
    Ok(())
}

fn e_process(case: &Case) -> Result<(), StatisticsError> {
    let whole = |name| case.body["params"][name].as_u64().and_then(|value| u32::try_from(value).ok()).unwrap();
    let cap = case.parameter("cap");
    assert!((cap - driftglass_aggregator::evidence::process::LARGEST_E).abs() < 1.0, "{}: cap {cap}", case.id);
    let mut process = EvidenceProcess::interleaved(whole("T"), whole("L"))?;
    let (mut evidence, mut suprema, mut anytime) = (Vec::new(), Vec::new(), Vec::new());
    for (at, p) in case.floats("p").into_iter().enumerate() {
        evidence.push(process.observe(p, at as u64));
        suprema.push(process.supremum().value());
        anytime.push(process.supremum().anytime_p());
    }
    let tolerance = case.tolerance(&["rel"]);
    case.close_all("M", &evidence, tolerance);
    case.close_all("sup", &suprema, tolerance);
    case.close_all("p_any", &anytime, tolerance);
    Ok(())
}

fn ecdf(case: &Case) -> Result<(), StatisticsError> {
    let ecdf = Ecdf::new(&case.floats("sample"))?;
    let query = case.floats("query");
    let right: Vec<f64> = query.iter().map(|&x| ecdf.at(x)).collect::<Result<_, _>>()?;
    let left: Vec<f64> = query.iter().map(|&x| ecdf.below(x)).collect::<Result<_, _>>()?;
    case.close_all("right", &right, case.tolerance(&["abs"]));
    case.close_all("left", &left, case.tolerance(&["abs"]));
    Ok(())
}

fn ess(case: &Case) -> Result<(), StatisticsError> {
    let memory = effective_sample_size::measure(&case.floats("x"))?;
    let tolerance = case.tolerance(&["rel"]);
    case.close("mean", memory.mean, tolerance);
    case.close("var_pop", memory.variance, tolerance);
    case.close("n_eff_ar1", memory.effective_size, tolerance);
    match (case.expected("r1"), memory.lag_one) {
        (Some(want), Some(got)) => case.compare("r1", got, float(want), tolerance),
        (None, None) => {}
        (want, got) => case.fail(&format!("r1 is {got:?} instead of {want:?}")),
    }
    if let Some(levels) = case.expected("dyadic").and_then(Value::as_array) {
        if levels.len() != memory.levels.len() {
            case.fail(&format!("{} levels instead of {}", memory.levels.len(), levels.len()));
        }
        for (want, got) in levels.iter().zip(&memory.levels) {
            if want["block"] != got.block || want["blocks"] != got.blocks {
                case.fail(&format!("level {got:?} instead of {want}"));
            }
            case.compare("variance of blocks", got.variance, float(&want["var_ddof1"]), tolerance);
            case.compare("squared error", got.squared_error, float(&want["se2_of_mean"]), tolerance);
        }
    }
    Ok(())
}

fn indicator_ladder(case: &Case) -> Result<(), StatisticsError> {
    let mut ladder = IndicatorLadder::new();
    for bit in case.input("bits").as_str().unwrap().bytes() {
        ladder.push(bit == b'1');
    }
    let tolerance = case.tolerance(&["rel"]);
    let single = ladder.rungs()[0];
    let p = single.sum as f64 / single.blocks as f64;
    let levels = case.expected("levels").and_then(Value::as_array).expect("levels");
    for want in levels {
        let level = usize::try_from(want["level"].as_u64().unwrap()).unwrap();
        let rung = ladder.rungs()[level];
        if want["m"] != rung.blocks || want["S1"] != rung.sum || want["S2"] != rung.squares {
            case.fail(&format!("level {level} is {rung:?} instead of {want}"));
        }
        if let Some(tau) = want.get("tau") {
            case.compare("tau of a level", rung.tau(level, p).unwrap_or(f64::NAN), float(tau), tolerance);
        }
    }
    let tau = ladder.tau()?;
    case.close("tau", tau, tolerance);
    case.close("n_eff", ladder.frames() as f64 / tau, tolerance);
    Ok(())
}

fn kolmogorov_isf(case: &Case) -> Result<(), StatisticsError> {
    case.close("x", kolmogorov::inverse_survival(case.number("p"))?, case.tolerance(&["x_rel"]));
    Ok(())
}

fn kolmogorov_sf(case: &Case) -> Result<(), StatisticsError> {
    let x = case.number("x");
    case.close("sf", kolmogorov::survival(x), case.tolerance(&["sf_rel"]));
    case.close("cdf", kolmogorov::cumulative(x), case.tolerance(&["cdf_rel"]));
    Ok(())
}

fn kstwo_sf(case: &Case) -> Result<(), StatisticsError> {
    let n = case.input("n").as_u64().unwrap();
    case.close("sf", kolmogorov::finite_survival(n, case.number("d"))?, case.tolerance(&["sf_rel"]));
    Ok(())
}

fn ks_2samp(case: &Case) -> Result<(), StatisticsError> {
    let pair = TwoSample::new(&case.floats("a"), &case.floats("b"))?;
    case.close("D", pair.distance(), Tolerance { relative: 0.0, absolute: case.tolerance(&["D"]).relative });
    let one_sample = pair.one_sample_p().unwrap_or(f64::NAN);
    case.close("p_asymp_scipy", one_sample, case.tolerance(&["p_asymp_scipy"]));
    case.close("p_kolmogorov_plain", pair.plain_p(), case.tolerance(&["p_kolmogorov_plain"]));
    case.close("p_kolmogorov_stephens", pair.stephens_p(), case.tolerance(&["p_kolmogorov_stephens"]));
    case.close("p_exact", pair.exact_p()?, case.tolerance(&["p_exact_rel"]));
    Ok(())
}

fn ks_2samp_conditional_exact(case: &Case) -> Result<(), StatisticsError> {
    let pair = TwoSample::new(&case.floats("a"), &case.floats("b"))?;
    case.close("D", pair.distance(), case.tolerance(&["D"]));
    case.close("p", pair.conditional_exact_p()?, case.tolerance(&["p"]));
    // The reference gives no tolerance of its own for this one.
    let same = Tolerance { relative: 1e-7, absolute: 0.0 };
    case.close("p_exact_ignoring_ties", pair.exact_p()?, same);
    Ok(())
}

fn kuiper_two(case: &Case) -> Result<(), StatisticsError> {
    let pair = Kuiper::new(&case.floats("a"), &case.floats("b"))?;
    case.close("V", pair.distance, case.tolerance(&["V"]));
    case.close("p_stephens", pair.stephens_p(), case.tolerance(&["p_stephens_rel"]));
    // Another approximation, given without a tolerance and for orientation only: the same order of magnitude.
    let rough = Tolerance { relative: 0.5, absolute: 0.0 };
    case.close("p_astropy", pair.stephens_p(), rough);
    Ok(())
}

fn multipletests(case: &Case) -> Result<(), StatisticsError> {
    let p = case.floats("p");
    let adjusted = Tolerance { relative: case.tolerance_or_zero("adj"), absolute: 0.0 };
    let benjamini_hochberg = fdr::benjamini_hochberg(&p)?;
    let benjamini_yekutieli = fdr::benjamini_yekutieli(&p)?;
    case.close_all("bh", &benjamini_hochberg, adjusted);
    case.close_all("by", &benjamini_yekutieli, adjusted);
    case.close_all("holm", &family_wise::holm(&p)?, adjusted);
    case.close_all("hochberg", &family_wise::hochberg(&p)?, adjusted);
    case.close_all("hommel", &family_wise::hommel(&p)?, adjusted);
    case.close_all("bonferroni", &family_wise::bonferroni(&p)?, adjusted);
    case.close_all("storey_q", &fdr::storey(&p)?, adjusted);
    case.close("storey_pi0_lambda0.5_plus1", fdr::storey_null_share(&p)?, adjusted);
    case.equal("reject_bh_0.05", &fdr::benjamini_hochberg_of(p.len(), &p, 0.05)?.rejected.into());
    let by_dependence: Vec<bool> = benjamini_yekutieli.iter().map(|&adjusted| adjusted <= 0.05).collect();
    case.equal("reject_by_0.05", &by_dependence.into());
    case.equal("tsbh_reject_0.05", &fdr::two_stage(&p, 0.05)?.rejected.into());
    let global = Tolerance { relative: case.tolerance_or_zero("global_rel"), absolute: 0.0 };
    // The reference evaluates ½ − atan(mean tan((½−p)π))/π literally: every ½−p and the last subtraction are rounded at 2⁻⁵³,
    // so below about 10⁻⁸ its own digits are lost (4 remain at 10⁻¹³). Ours are not; allow for what the reference lacks.
    let rounding = p.len() as f64 * f64::EPSILON;
    for (name, combined, tolerance) in [
        ("simes_global_p", combination::simes(&p)?, global),
        ("fisher_global_p", combination::fisher(&p)?, global),
        ("cauchy_global_p", combination::cauchy(&p)?, Tolerance { absolute: rounding, ..global }),
    ] {
        case.probability(name, combined);
        case.close(name, combined, tolerance);
    }
    Ok(())
}

fn p_to_e(case: &Case) -> Result<(), StatisticsError> {
    let p = case.number("p");
    case.close("e_half", calibrator::half_power(p), case.tolerance(&["rel"]));
    case.close("e_mix", calibrator::mixture(p), case.tolerance(&["rel"]));
    Ok(())
}

fn psi_counts(case: &Case) -> Result<(), StatisticsError> {
    let psi = divergence::psi(&case.counts("ref"), &case.counts("cur"), case.parameter("floor"))?;
    case.close("psi", psi, case.tolerance(&["psi_rel"]));
    Ok(())
}

fn psi_quantile(case: &Case) -> Result<(), StatisticsError> {
    let (reference, current) = (case.floats("reference"), case.floats("current"));
    let bins = usize::try_from(case.body["params"]["bins"].as_u64().unwrap()).unwrap();
    let edges = divergence::quantile_edges(&reference, bins)?;
    let (before, now) =
        (divergence::count_by_edges(&reference, &edges)?, divergence::count_by_edges(&current, &edges)?);
    let tolerance = case.tolerance(&["edges"]);
    case.close_all("edges", &edges, Tolerance { absolute: tolerance.relative, ..tolerance });
    case.equal("ref_counts", &before.clone().into());
    case.equal("cur_counts", &now.clone().into());
    case.close("psi", divergence::psi(&before, &now, case.parameter("floor"))?, case.tolerance(&["psi_rel"]));
    Ok(())
}

fn shannon_entropy(case: &Case) -> Result<(), StatisticsError> {
    let entropy = entropy::shannon(&case.floats("p"))?;
    let tolerance = case.tolerance(&["abs"]);
    case.close("nats", entropy.nats, tolerance);
    case.close("bits", entropy.bits, tolerance);
    case.close("normalised", entropy.normalised, tolerance);
    Ok(())
}

fn wasserstein_energy(case: &Case) -> Result<(), StatisticsError> {
    let transport = wasserstein::samples(&case.floats("a"), &case.floats("b"))?;
    case.close("w1", transport.wasserstein, case.tolerance(&["rel", "abs"]));
    case.close("energy", transport.energy, case.tolerance(&["rel", "abs"]));
    Ok(())
}

fn wasserstein_energy_binned(case: &Case) -> Result<(), StatisticsError> {
    let (a, b) = (case.counts("a_counts"), case.counts("b_counts"));
    let transport = wasserstein::histograms(&case.floats("centres"), &a, &b)?;
    let tolerance = case.tolerance(&["rel", "abs"]);
    case.close("w1", transport.wasserstein, tolerance);
    case.close("energy", transport.energy, tolerance);
    case.close("ks", binned::kolmogorov_smirnov(&a, &b, 0)?, tolerance);
    Ok(())
}

/// Runs one case and returns what is wrong with it.
fn run(id: &str, body: &Value, run: Run) -> Vec<String> {
    let case = Case { id, body, seen: RefCell::default(), failures: RefCell::default() };
    let result = run(&case);
    let mut failures = case.failures.into_inner();
    let expectations = body["expect"].as_object().expect("expectations");
    match (expectations.contains_key("error"), result) {
        (true, Ok(())) => failures = vec![format!("{id}: bad input was accepted")],
        (true, Err(_)) => failures.clear(),
        (false, Err(error)) => failures.push(format!("{id}: {error}")),
        (false, Ok(())) => {
            if expectations.is_empty() {
                failures.push(format!("{id}: nothing is expected"));
            }
            let seen = case.seen.into_inner();
            failures.extend(
                expectations
                    .keys()
                    .filter(|key| !seen.contains(*key))
                    .map(|key| format!("{id}: nobody looked at {key}")),
            );
        }
    }
    failures
}

#[expect(clippy::disallowed_methods, reason = "the variable is how other vectors are run through these tests")]
fn folder() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package lies inside the project");
    let named = std::env::var("DRIFTGLASS_VECTORS").unwrap_or_else(|_| "../shared/vectors".to_owned());
    root.join(named)
}

fn files() -> Vec<PathBuf> {
    let folder = folder();
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| {
        panic!("no reference vectors in {}: {error}. Set DRIFTGLASS_VECTORS to their folder.", folder.display())
    });
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    files.sort();
    assert!(!files.is_empty(), "no *.json in {}", folder.display());
    files
}

#[test]
fn every_reference_vector_is_reproduced_within_its_tolerance() {
    let mut failures = Vec::new();
    let mut ran: BTreeMap<String, usize> = BTreeMap::new();
    for path in files() {
        let text = std::fs::read_to_string(&path).unwrap();
        let file: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let cases = file["cases"].as_array().unwrap_or_else(|| panic!("{} has no cases", path.display()));
        assert!(!cases.is_empty(), "{} has no cases", path.display());
        for body in cases {
            let id = body["id"].as_str().unwrap_or("a case without an id");
            let name = body["fn"].as_str().unwrap_or("");
            if RUN_BY_THE_AGENT.contains(&name) {
                continue;
            }
            match function(name) {
                Some(known) => {
                    *ran.entry(name.to_owned()).or_default() += 1;
                    failures.extend(run(id, body, known));
                }
                None => failures.push(format!("{id}: unknown fn {name:?}")),
            }
        }
    }
    println!("{ran:#?}");
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn a_wrong_expectation_an_overlooked_one_and_accepted_nonsense_are_failures() {
    let known = function("kolmogorov_sf").unwrap();
    let case = |expect: &str| -> Value {
        serde_json::from_str(&format!(
            r#"{{"input": {{"x": 1.0}}, "expect": {expect}, "tol": {{"sf_rel": 1e-10, "cdf_rel": 1e-9}}}}"#
        ))
        .unwrap()
    };
    let failures = |expect: &str| run("made up", &case(expect), known).len();
    assert_eq!(failures(r#"{"sf": 0.26999967167735456}"#), 0);
    assert_eq!(failures(r#"{"sf": 0.26999967177735456}"#), 1);
    assert_eq!(failures(r#"{"sf": "NaN"}"#), 1);
    assert_eq!(failures(r#"{"sf": 0.26999967167735456, "pdf": 1.0}"#), 1);
    assert_eq!(failures(r#"{"error": "invalid_input"}"#), 1);
    assert_eq!(failures(r#"{"sf": "Infinity"}"#), 1);
    assert_eq!(failures("{}"), 1);
    assert!(function("no such function").is_none());
}
