//! The report as one HTML page: no script, nothing loaded from elsewhere, both distributions drawn.

use super::report::{FeatureEntry, Report};

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1b2330}\
h1{font-size:1.4rem}p.verdict{padding:.8rem 1rem;border-left:.4rem solid;background:#f4f6f9;white-space:pre-line}\
p.drift{border-color:#c2410c}p.none{border-color:#15803d}table{border-collapse:collapse;width:100%}\
td,th{padding:.25rem .6rem;text-align:right;border-bottom:1px solid #e3e8ef}td:first-child,th:first-child{text-align:left}\
tr.moved td{background:#fff4ed}svg{display:block}.key span{display:inline-block;width:.8rem;height:.8rem;margin:0 .3rem 0 1rem}";

/// Draws the page.
pub(super) fn render(report: &Report) -> String {
    let mut page = String::with_capacity(64 * 1024);
    let class = if report.drift { "drift" } else { "none" };
    let mut write = |arguments: std::fmt::Arguments<'_>| page.push_str(&arguments.to_string());
    write(format_args!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Driftglass comparison</title><style>{STYLE}</style>\
         <h1>Driftglass comparison</h1><p class=\"verdict {class}\">{}</p>\
         <p class=\"key\"><span style=\"background:#2563eb\"></span>reference<span style=\"background:#ea580c\"></span>current</p>\
         <table><tr><th>feature<th>unit<th>reference<th>current<th>distance<th>adjusted p<th>distributions</tr>",
        escape(&report.verdict())
    ));
    for feature in &report.features {
        let row = if feature.drift { " class=\"moved\"" } else { "" };
        write(format_args!(
            "<tr{row}><td>{}<td>{}<td>{:.3}<td>{:.3}<td>{:.3}<td>{:.1e}<td>{}</tr>",
            feature.name,
            feature.unit,
            feature.reference.mean,
            feature.current.mean,
            feature.distance,
            feature.p_adjusted,
            drawing(feature)
        ));
    }
    write(format_args!("</table></html>\n"));
    page
}

/// Both histograms as outlines over the occupied part of the axis, scaled to the higher one.
fn drawing(feature: &FeatureEntry) -> String {
    const WIDTH: usize = 220;
    const HEIGHT: f64 = 44.0;
    let occupied: Vec<usize> =
        (0..256).filter(|&bin| feature.shares.iter().any(|shares| shares.get(bin).is_some_and(|&s| s > 0.0))).collect();
    let first = occupied.first().copied().unwrap_or(0).saturating_sub(2);
    let last = (occupied.last().copied().unwrap_or(255) + 2).min(255);
    let highest = feature.shares.iter().flatten().copied().fold(f64::MIN_POSITIVE, f64::max);
    let mut svg = format!("<svg width=\"{WIDTH}\" height=\"{HEIGHT}\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\">");
    for (shares, colour) in feature.shares.iter().zip(["#2563eb", "#ea580c"]) {
        let mut path = format!("M0,{HEIGHT}");
        for (index, bin) in (first..=last).enumerate() {
            let (left, right) = (index * WIDTH / (last - first + 1), (index + 1) * WIDTH / (last - first + 1));
            let top = HEIGHT * (1.0 - shares.get(bin).copied().unwrap_or(0.0) / highest);
            path.push_str(&format!("L{left},{top:.1}L{right},{top:.1}"));
        }
        svg.push_str(&format!(
            "<path d=\"{path}L{WIDTH},{HEIGHT}Z\" fill=\"{colour}\" fill-opacity=\".35\" stroke=\"{colour}\"/>"
        ));
    }
    svg.push_str("</svg>");
    svg
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
