//! A model's raw scores as a prediction.
//!
//! Classes exclude each other: their scores are a distribution, or become one by softmax. Detections don't: each confidence stands for
//! itself, and the entropy is that of the most confident one (see [`Prediction::entropy`]).
//!
//! Must hold: what is no finite number makes no prediction; nothing allocates.

use driftglass_protocol::unit::Fixed;

use super::{Prediction, fixed_share};

/// How far the sum of probabilities may be from 1: half precision, and quantised models.
const SUM_TOLERANCE: f64 = 0.02;

/// What the scores of classes are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Activation {
    /// Probabilities where they are a distribution (none outside 0..=1, sum within 0.02 of 1), logits otherwise.
    #[default]
    Auto,
    /// Logits, always.
    Softmax,
    /// Confidences as they are, whatever their sum; the entropy is that of their shares.
    None,
}

/// A prediction and which of the scores is its first choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Confidences and entropy.
    pub prediction: Prediction,
    /// Position of the highest score; for one score of two classes 1 where it says yes.
    pub first: usize,
}

/// The scores of classes that exclude each other; one score alone is that of the second of two. `None` where there are none, or one of
/// them is no finite number.
#[must_use]
pub fn classes(scores: &[f32], activation: Activation) -> Option<Choice> {
    if !scores.iter().all(|score| score.is_finite()) {
        return None;
    }
    if let &[score] = scores {
        return Some(binary(f64::from(score), activation));
    }
    let (first, highest, second) = two_highest(scores)?;
    let sum: f64 = scores.iter().map(|&score| f64::from(score)).sum();
    let shares = scores.iter().all(|score| (0.0..=1.0 + SUM_TOLERANCE).contains(&f64::from(*score)));
    let distribution = shares && libm::fabs(sum - 1.0) <= SUM_TOLERANCE;
    let softmax = match activation {
        Activation::Auto => !distribution,
        Activation::Softmax => true,
        Activation::None => false,
    };
    let weight = |score: f64| if softmax { libm::exp(score - highest) } else { score.max(0.0) };
    let (mut total, mut weighted) = (0.0, 0.0);
    for score in scores {
        let weight = weight(f64::from(*score));
        if weight > 0.0 {
            total += weight;
            weighted += weight * libm::log(weight);
        }
    }
    #[expect(clippy::cast_precision_loss, reason = "a number of classes is exact far beyond any model")]
    let most = libm::log(scores.len() as f64);
    let entropy = if total > 0.0 { (libm::log(total) - weighted / total) / most } else { 1.0 };
    let confidence = |score: f64| fixed_share(if softmax { weight(score) / total } else { score });
    Some(Choice {
        prediction: Prediction {
            confidence: confidence(highest),
            second_confidence: Some(confidence(second)),
            entropy: Some(fixed_share(entropy)),
            ..Prediction::default()
        },
        first,
    })
}

/// Confidences of detections that do not exclude each other. `None` where there are none, or one of them is no finite number.
#[must_use]
pub fn detections(confidences: &[f32]) -> Option<Choice> {
    if !confidences.iter().all(|confidence| confidence.is_finite()) {
        return None;
    }
    let (first, highest, second) = match confidences {
        &[only] => (0, f64::from(only), None),
        _ => two_highest(confidences).map(|(first, highest, second)| (first, highest, Some(second)))?,
    };
    let prediction = Prediction {
        confidence: fixed_share(highest),
        second_confidence: second.map(fixed_share),
        ..Prediction::default()
    };
    Some(Choice { prediction, first })
}

fn binary(score: f64, activation: Activation) -> Choice {
    let share = match activation {
        Activation::Auto if (0.0..=1.0).contains(&score) => score,
        Activation::None => score.clamp(0.0, 1.0),
        Activation::Auto | Activation::Softmax => 1.0 / (1.0 + libm::exp(-score)),
    };
    let yes = share >= 0.5;
    let confidence = fixed_share(if yes { share } else { 1.0 - share });
    let second = Fixed::from_raw(Fixed::ONE.raw() - confidence.raw());
    Choice {
        prediction: Prediction { confidence, second_confidence: Some(second), ..Prediction::default() },
        first: usize::from(yes),
    }
}

/// Position of the highest, it, and the second highest.
fn two_highest(scores: &[f32]) -> Option<(usize, f64, f64)> {
    let mut places = scores.iter().map(|&score| f64::from(score)).enumerate();
    let (mut first, mut highest) = places.next()?;
    let mut second = f64::NEG_INFINITY;
    for (place, score) in places {
        if score > highest {
            second = highest;
            (first, highest) = (place, score);
        } else if score > second {
            second = score;
        }
    }
    Some((first, highest, if second.is_finite() { second } else { highest }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(choice: Option<Choice>) -> (usize, f64, f64, f64) {
        let Choice { prediction, first } = choice.expect("a prediction");
        let second = prediction.second_confidence.expect("a second");
        let round = |value: Fixed| (value.to_f64() * 1000.0).round() / 1000.0;
        (first, round(prediction.confidence), round(second), round(prediction.entropy()))
    }

    #[test]
    fn a_distribution_is_taken_as_it_is_and_logits_by_softmax() {
        // Entropy of (0.7, 0.2, 0.1) is 0.8018 nat of ln 3 = 1.0986.
        assert_eq!(told(classes(&[0.2, 0.7, 0.1], Activation::Auto)), (1, 0.7, 0.2, 0.73));
        // Softmax of (2, 1, 0) is (0.665, 0.245, 0.090), entropy 0.8324 nat.
        assert_eq!(told(classes(&[2.0, 1.0, 0.0], Activation::Auto)), (0, 0.665, 0.245, 0.758));
        assert_eq!(told(classes(&[1002.0, 1001.0, 1000.0], Activation::Auto)), (0, 0.665, 0.245, 0.758));
        assert_eq!(told(classes(&[0.25; 4], Activation::Auto)), (0, 0.25, 0.25, 1.0));
        // A distribution that is forced to be logits.
        assert_eq!(told(classes(&[1.0, 0.0], Activation::Softmax)), (0, 0.731, 0.269, 0.84));
        // Independent sigmoids: the entropy is that of their shares (0.9, 0.6, 0) / 1.5.
        assert_eq!(told(classes(&[0.9, 0.6, 0.0], Activation::None)), (0, 0.9, 0.6, 0.613));
        assert_eq!(told(classes(&[0.0, 0.0], Activation::None)), (0, 0.0, 0.0, 1.0));
    }

    #[test]
    fn one_score_is_that_of_two_classes() {
        assert_eq!(told(classes(&[0.75], Activation::Auto)), (1, 0.75, 0.25, 0.811));
        assert_eq!(told(classes(&[0.25], Activation::Auto)), (0, 0.75, 0.25, 0.811));
        assert_eq!(told(classes(&[-4.0], Activation::Auto)), (0, 0.982, 0.018, 0.13));
    }

    #[test]
    fn detections_keep_their_confidences() {
        let choice = detections(&[0.5, 0.75, 0.25]).expect("some");
        assert_eq!((choice.first, choice.prediction.confidence), (1, fixed_share(0.75)));
        assert_eq!((choice.prediction.second_confidence, choice.prediction.entropy), (Some(fixed_share(0.5)), None));
        assert_eq!(detections(&[0.5]).expect("one").prediction.second_confidence, None);
    }

    #[test]
    fn what_is_no_number_is_no_prediction() {
        for scores in [&[][..], &[f32::NAN], &[0.5, f32::INFINITY], &[f32::NEG_INFINITY, 1.0]] {
            assert_eq!(classes(scores, Activation::Auto), None);
            assert_eq!(detections(scores), None);
        }
        let huge = classes(&[f32::MAX, f32::MIN], Activation::Auto).expect("finite");
        assert_eq!((huge.prediction.confidence, huge.prediction.entropy), (Fixed::ONE, Some(Fixed::ZERO)));
    }
}
