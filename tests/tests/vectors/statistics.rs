//! The functions of the centre: tests, effect sizes, evidence.

use driftglass_aggregator::evidence::design_effect::{DesignEffect, octile_bins};
use driftglass_aggregator::evidence::indicator_ladder::IndicatorLadder;
use driftglass_aggregator::evidence::process::EvidenceProcess;
use driftglass_aggregator::evidence::{calibrator, combination, difference_in_differences, family_wise, fdr};
use driftglass_aggregator::stats::ecdf::Ecdf;
use driftglass_aggregator::stats::ks::TwoSample;
use driftglass_aggregator::stats::kuiper::Kuiper;
use driftglass_aggregator::stats::{
    binned, chi_square, divergence, effective_sample_size, entropy, kolmogorov, wasserstein,
};
use serde_json::Value;

use crate::case::{Case, Outcome, Run, Tolerance, float};

/// Entry by entry: the function's name in the vectors and what runs it.
pub(crate) const FUNCTIONS: [(&str, Run); 26] = [
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

fn adjuster_sqrt(case: &Case) -> Outcome {
    case.close("a", calibrator::square_root_adjuster(case.number("m")), case.tolerance(&["rel"]));
    Ok(())
}

fn binned_ks_margin(case: &Case) -> Outcome {
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

fn chi2_sf(case: &Case) -> Outcome {
    case.close("sf", chi_square::survival(case.number("x"), case.number("df"))?, case.tolerance(&["sf_rel"]));
    Ok(())
}

fn chi2_two_sample(case: &Case) -> Outcome {
    check_chi_square(case, chi_square::two_sample(&case.counts("a"), &case.counts("b"))?)
}

fn chisquare_gof(case: &Case) -> Outcome {
    check_chi_square(case, chi_square::goodness_of_fit(&case.floats("obs"), &case.floats("exp"))?)
}

fn check_chi_square(case: &Case, result: chi_square::ChiSquare) -> Outcome {
    case.close("stat", result.statistic, case.tolerance(&["stat_rel"]));
    case.equal("df", &result.degrees_of_freedom.into());
    case.close("p", result.p(1.0)?, case.tolerance(&["p_rel"]));
    Ok(())
}

fn design_effect(case: &Case) -> Outcome {
    let windows = case.tables("windows");
    case.equal("idx", &octile_bins(&windows)?.into());
    case.close("deff", DesignEffect::point_estimate(&windows)?.value, case.tolerance(&["rel"]));
    Ok(())
}

fn did_peer(case: &Case) -> Outcome {
    let distances =
        difference_in_differences::difference_in_differences(&case.tables("window"), &case.tables("baseline"))?;
    case.close_all("D", &distances, case.tolerance(&["rel"]));
    Ok(())
}

fn divergences(case: &Case) -> Outcome {
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

fn e_bh(case: &Case) -> Outcome {
    let e = case.floats("e");
    let rejections = fdr::e_benjamini_hochberg(e.len(), &e, case.number("alpha"))?;
    let positions: Vec<usize> =
        rejections.rejected.iter().enumerate().filter(|&(_, &rejected)| rejected).map(|(index, _)| index).collect();
    case.equal("k", &rejections.count.into());
    case.equal("rejected", &positions.into());
    Ok(())
}

fn e_process(case: &Case) -> Outcome {
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

fn ecdf(case: &Case) -> Outcome {
    let ecdf = Ecdf::new(&case.floats("sample"))?;
    let query = case.floats("query");
    let right: Vec<f64> = query.iter().map(|&x| ecdf.at(x)).collect::<Result<_, _>>()?;
    let left: Vec<f64> = query.iter().map(|&x| ecdf.below(x)).collect::<Result<_, _>>()?;
    case.close_all("right", &right, case.tolerance(&["abs"]));
    case.close_all("left", &left, case.tolerance(&["abs"]));
    Ok(())
}

fn ess(case: &Case) -> Outcome {
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

fn indicator_ladder(case: &Case) -> Outcome {
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

fn kolmogorov_isf(case: &Case) -> Outcome {
    case.close("x", kolmogorov::inverse_survival(case.number("p"))?, case.tolerance(&["x_rel"]));
    Ok(())
}

fn kolmogorov_sf(case: &Case) -> Outcome {
    let x = case.number("x");
    case.close("sf", kolmogorov::survival(x), case.tolerance(&["sf_rel"]));
    case.close("cdf", kolmogorov::cumulative(x), case.tolerance(&["cdf_rel"]));
    Ok(())
}

fn kstwo_sf(case: &Case) -> Outcome {
    let n = case.input("n").as_u64().unwrap();
    case.close("sf", kolmogorov::finite_survival(n, case.number("d"))?, case.tolerance(&["sf_rel"]));
    Ok(())
}

fn ks_2samp(case: &Case) -> Outcome {
    let pair = TwoSample::new(&case.floats("a"), &case.floats("b"))?;
    case.close("D", pair.distance(), Tolerance { relative: 0.0, absolute: case.tolerance(&["D"]).relative });
    let one_sample = pair.one_sample_p().unwrap_or(f64::NAN);
    case.close("p_asymp_scipy", one_sample, case.tolerance(&["p_asymp_scipy"]));
    case.close("p_kolmogorov_plain", pair.plain_p(), case.tolerance(&["p_kolmogorov_plain"]));
    case.close("p_kolmogorov_stephens", pair.stephens_p(), case.tolerance(&["p_kolmogorov_stephens"]));
    case.close("p_exact", pair.exact_p()?, case.tolerance(&["p_exact_rel"]));
    Ok(())
}

fn ks_2samp_conditional_exact(case: &Case) -> Outcome {
    let pair = TwoSample::new(&case.floats("a"), &case.floats("b"))?;
    case.close("D", pair.distance(), case.tolerance(&["D"]));
    case.close("p", pair.conditional_exact_p()?, case.tolerance(&["p"]));
    // The reference gives no tolerance of its own for this one.
    let same = Tolerance { relative: 1e-7, absolute: 0.0 };
    case.close("p_exact_ignoring_ties", pair.exact_p()?, same);
    Ok(())
}

fn kuiper_two(case: &Case) -> Outcome {
    let pair = Kuiper::new(&case.floats("a"), &case.floats("b"))?;
    case.close("V", pair.distance, case.tolerance(&["V"]));
    case.close("p_stephens", pair.stephens_p(), case.tolerance(&["p_stephens_rel"]));
    // Another approximation, given without a tolerance and for orientation only: the same order of magnitude.
    let rough = Tolerance { relative: 0.5, absolute: 0.0 };
    case.close("p_astropy", pair.stephens_p(), rough);
    Ok(())
}

fn multipletests(case: &Case) -> Outcome {
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

fn p_to_e(case: &Case) -> Outcome {
    let p = case.number("p");
    case.close("e_half", calibrator::half_power(p), case.tolerance(&["rel"]));
    case.close("e_mix", calibrator::mixture(p), case.tolerance(&["rel"]));
    Ok(())
}

fn psi_counts(case: &Case) -> Outcome {
    let psi = divergence::psi(&case.counts("ref"), &case.counts("cur"), case.parameter("floor"))?;
    case.close("psi", psi, case.tolerance(&["psi_rel"]));
    Ok(())
}

fn psi_quantile(case: &Case) -> Outcome {
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

fn shannon_entropy(case: &Case) -> Outcome {
    let entropy = entropy::shannon(&case.floats("p"))?;
    let tolerance = case.tolerance(&["abs"]);
    case.close("nats", entropy.nats, tolerance);
    case.close("bits", entropy.bits, tolerance);
    case.close("normalised", entropy.normalised, tolerance);
    Ok(())
}

fn wasserstein_energy(case: &Case) -> Outcome {
    let transport = wasserstein::samples(&case.floats("a"), &case.floats("b"))?;
    case.close("w1", transport.wasserstein, case.tolerance(&["rel", "abs"]));
    case.close("energy", transport.energy, case.tolerance(&["rel", "abs"]));
    Ok(())
}

fn wasserstein_energy_binned(case: &Case) -> Outcome {
    let (a, b) = (case.counts("a_counts"), case.counts("b_counts"));
    let transport = wasserstein::histograms(&case.floats("centres"), &a, &b)?;
    let tolerance = case.tolerance(&["rel", "abs"]);
    case.close("w1", transport.wasserstein, tolerance);
    case.close("energy", transport.energy, tolerance);
    case.close("ks", binned::kolmogorov_smirnov(&a, &b, 0)?, tolerance);
    Ok(())
}
