//! Does a camera move against its peers? The leave-one-out difference in differences.
//!
//! `D_i = max_x |(G_i − mean_{j≠i} G_j) − (B_i − mean_{j≠i} B_j)|`, with `G` the distribution of the window and `B` of the
//! baseline at bin edges. What all cameras of a site see (weather, dusk) cancels; what one camera sees does not.

use crate::stats::error::{StatisticsError, total};

/// `D_i` of every camera, 0..=2, in the order of the input. Windows and baselines are histograms over the same bins.
///
/// # Errors
/// `TooFew` below 2 cameras, `Length` if there are not as many baselines as windows or bins differ, `Empty` or `Overflow` for a
/// histogram without a usable total.
#[expect(clippy::cast_precision_loss, reason = "a number of cameras")]
pub fn difference_in_differences<W, B, C, E>(windows: &[W], baselines: &[B]) -> Result<Vec<f64>, StatisticsError>
where
    W: AsRef<[C]>,
    B: AsRef<[E]>,
    C: Copy + Into<u64>,
    E: Copy + Into<u64>,
{
    let cameras = windows.len();
    if cameras != baselines.len() {
        return Err(StatisticsError::Length { left: cameras, right: baselines.len() });
    }
    if cameras < 2 {
        return Err(StatisticsError::TooFew { what: "cameras", count: cameras, needed: 2 });
    }
    let mut changes = Vec::with_capacity(cameras);
    for (window, baseline) in windows.iter().zip(baselines) {
        let (window, baseline) = (cumulative("window", window.as_ref())?, cumulative("baseline", baseline.as_ref())?);
        if window.len() != baseline.len() {
            return Err(StatisticsError::Length { left: window.len(), right: baseline.len() });
        }
        changes.push(window.iter().zip(&baseline).map(|(g, b)| g - b).collect::<Vec<f64>>());
    }
    let bins = changes.first().map_or(0, Vec::len);
    let mut sums = vec![0.0; bins];
    for change in &changes {
        if change.len() != bins {
            return Err(StatisticsError::Length { left: bins, right: change.len() });
        }
        for (sum, value) in sums.iter_mut().zip(change) {
            *sum += value;
        }
    }
    let others = (cameras - 1) as f64;
    let residual = |change: &Vec<f64>| {
        change.iter().zip(&sums).map(|(own, sum)| (own - (sum - own) / others).abs()).fold(0.0, f64::max)
    };
    Ok(changes.iter().map(residual).collect())
}

#[expect(clippy::cast_precision_loss, reason = "counts of frames stay far below 2⁵³")]
fn cumulative<C: Copy + Into<u64>>(what: &'static str, counts: &[C]) -> Result<Vec<f64>, StatisticsError> {
    let all = total(what, counts)? as f64;
    let mut below = 0_u64;
    Ok(counts
        .iter()
        .map(|&count| {
            below += count.into();
            below as f64 / all
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_whole_site_sees_is_no_fault_of_a_camera() {
        let baselines = vec![[500_u32, 300, 200]; 6];
        let mut windows = vec![[20_u32, 30, 50]; 6];
        for distance in difference_in_differences(&windows, &baselines).unwrap() {
            assert!(distance < 1e-12);
        }
        windows[2] = [60, 30, 10];
        let distances = difference_in_differences(&windows, &baselines).unwrap();
        assert!((distances[2] - 0.4).abs() < 1e-12);
        assert!((distances[0] - 0.08).abs() < 1e-12, "the faulty camera is a fifth of everybody else's peers");
    }

    #[test]
    fn a_camera_without_peers_cannot_be_compared() {
        assert!(matches!(
            difference_in_differences(&[[1_u32]], &[[1_u32]]),
            Err(StatisticsError::TooFew { count: 1, needed: 2, .. })
        ));
        assert!(difference_in_differences(&[vec![1_u32], vec![1, 1]], &[vec![1_u32], vec![1, 1]]).is_err());
        assert!(difference_in_differences(&[[1_u32], [0]], &[[1_u32], [1]]).is_err());
    }
}
