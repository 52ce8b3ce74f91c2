//! The loss curve as an SVG picture: every logged value thin, a smoothed line over it.

use plotters::coord::ranged1d::{AsRangedCoord, ValueFormatter};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::metrics::Record;
use crate::error::{Error, Result};

/// Size of the picture in pixels.
const SIZE: (u32, u32) = (960, 540);
/// Colours that people with any colour vision can tell apart (Okabe and Ito 2008); black first, for the total.
const COLOURS: [RGBColor; 7] = [
    RGBColor(0, 0, 0),
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(230, 159, 0),
];
/// Width of the column that names the lines. It stands beside the curves: inside, it would cover some of them.
const LEGEND: u32 = 190;
/// Largest over smallest value from which the vertical axis is logarithmic.
const LOG_FROM: f64 = 20.0;

/// One line of the picture.
struct Line {
    name: String,
    raw: Vec<(f64, f64)>,
    smooth: Vec<(f64, f64)>,
}

/// Draws the metrics called `names` (the first one is the total) against the step. Values that are not finite leave a
/// gap. The vertical axis is logarithmic when all values are positive and span more than a factor of 20.
///
/// # Errors
/// [`Error::Check`] when the drawing library refuses.
pub fn loss_curve(title: &str, records: &[Record], names: &[&str]) -> Result<String> {
    let lines: Vec<_> = names.iter().map(|name| line(name, records)).filter(|line| !line.raw.is_empty()).collect();
    let last = records.iter().map(|record| record.step).max().unwrap_or(1).max(1) as f64;
    let values = || lines.iter().flat_map(|line| &line.raw).map(|(_, y)| *y);
    let (low, high) = values().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), y| (l.min(y), h.max(y)));
    let mut svg = String::new();
    let drawn = if low > 0.0 && high / low > LOG_FROM {
        draw(&mut svg, title, &lines, last, (low * 0.8..high * 1.25).log_scale(), &logarithmic_label)
    } else {
        let (low, high) = if low <= high { (low.min(0.0), high.max(0.0)) } else { (0.0, 1.0) };
        let room = if high > low { (high - low) * 0.05 } else { 1.0 };
        draw(&mut svg, title, &lines, last, low..high + room, &|y| linear_label(*y, high - low))
    };
    drawn.map_err(|detail| Error::Check { what: "drawing the loss curve".into(), detail })?;
    Ok(svg)
}

fn line(name: &str, records: &[Record]) -> Line {
    let points = records.iter().filter_map(|record| Some((record.step as f64, record.get(name)?)));
    let raw: Vec<_> = points.filter(|(_, y)| y.is_finite()).collect();
    Line { name: name.into(), smooth: smoothed(&raw), raw }
}

/// The mean over a window around each point, a fiftieth of all points wide. Unlike a moving average of the past it does not
/// lag behind a falling curve.
fn smoothed(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let half = points.len() / 100;
    let mean = |at: usize| {
        let window = points.iter().take(at + half + 1).skip(at.saturating_sub(half));
        let (sum, count) = window.fold((0.0, 0.0), |(sum, count), (_, y)| (sum + y, count + 1.0));
        sum / count
    };
    points.iter().enumerate().map(|(at, (x, _))| (*x, mean(at))).collect()
}

/// Short labels for the ticks of a logarithmic axis: 0.001, 0.01, 0.1, 1, 10, 1e6.
fn logarithmic_label(y: &f64) -> String {
    if (1e-4..1e5).contains(y) { format!("{}", (y * 1e6).round() / 1e6) } else { format!("{y:.0e}") }
}

fn linear_label(y: f64, span: f64) -> String {
    let decimals = (1.5 - span.max(1e-9).log10()).ceil().clamp(0.0, 9.0) as usize;
    format!("{y:.decimals$}")
}

fn draw<Y>(
    svg: &mut String,
    title: &str,
    lines: &[Line],
    last: f64,
    vertical: Y,
    label: &dyn Fn(&f64) -> String,
) -> Result<(), String>
where
    Y: AsRangedCoord<Value = f64>,
    Y::CoordDescType: Ranged<ValueType = f64> + ValueFormatter<f64>,
{
    let text = |e: DrawingAreaErrorKind<_>| e.to_string();
    let area = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    area.fill(&WHITE).map_err(text)?;
    let (curves, legend) = area.split_horizontally(SIZE.0 - LEGEND);
    let mut chart = ChartBuilder::on(&curves)
        .caption(title, ("sans-serif", 20))
        .margin(16)
        .x_label_area_size(44)
        .y_label_area_size(64)
        .build_cartesian_2d(0.0..last, vertical)
        .map_err(text)?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(BLACK.mix(0.12))
        .label_style(("sans-serif", 14))
        .x_desc("step")
        .y_desc("loss")
        .x_label_formatter(&|x| format!("{x:.0}"))
        .y_label_formatter(&label)
        .draw()
        .map_err(text)?;
    for (line, colour) in lines.iter().zip(COLOURS.iter().cycle()) {
        let raw = LineSeries::new(line.raw.iter().copied(), colour.mix(0.25).stroke_width(1));
        chart.draw_series(raw).map_err(text)?;
    }
    // Smoothed lines after all raw ones, which would hide them.
    for (line, colour) in lines.iter().zip(COLOURS.iter().cycle()) {
        let series = LineSeries::new(line.smooth.iter().copied(), colour.stroke_width(2));
        chart.draw_series(series).map_err(text)?;
    }
    let font = ("sans-serif", 14).into_font().color(&BLACK).pos(Pos::new(HPos::Left, VPos::Center));
    for (at, (line, colour)) in lines.iter().zip(COLOURS.iter().cycle()).enumerate() {
        let y = 60 + 24 * at as i32;
        let value = line.smooth.last().map_or(f64::NAN, |(_, y)| *y);
        legend.draw(&PathElement::new([(0, y), (24, y)], colour.stroke_width(2))).map_err(text)?;
        let label = format!("{} ({value:.4})", line.name);
        legend.draw(&Text::new(label, (32, y), font.clone())).map_err(text)?;
    }
    area.present().map_err(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(steps: u64, value: impl Fn(f64) -> f64) -> Vec<Record> {
        let record = |step| {
            let y = value(step as f64);
            Record { step, values: vec![("loss".into(), y), ("jepa".into(), y / 2.0)] }
        };
        (1..=steps).map(record).collect()
    }

    #[test]
    fn curves_are_drawn_for_any_values() {
        let cases: [(&str, Vec<Record>); 9] = [
            ("falling", records(200, |x| 100.0 / x)),
            ("flat", records(20, |_| 0.5)),
            ("zero", records(20, |_| 0.0)),
            ("negative", records(20, |x| -x)),
            ("one point", records(1, |_| 3.0)),
            ("nothing", Vec::new()),
            ("NaN", records(20, |_| f64::NAN)),
            ("huge", records(20, |x| 10f64.powf(x * 15.0))),
            ("tiny", records(20, |x| 1e-300 * x)),
        ];
        let mut failed = Vec::new();
        for (name, records) in &cases {
            let svg = loss_curve(name, records, &["loss", "jepa", "absent"]);
            let drawn = svg.as_ref().is_ok_and(|svg| svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
            let lines = svg.map_or(0, |svg| svg.matches("<polyline").count());
            let want = !matches!(*name, "nothing" | "NaN");
            if !drawn || (want && lines < 4) {
                failed.push((name, drawn, lines));
            }
        }
        assert!(failed.is_empty(), "(case, drawn, lines): {failed:?}");
    }

    #[test]
    fn the_legend_names_lines_and_last_values() {
        let svg = loss_curve("run", &records(10, |_| 0.5), &["loss", "jepa", "absent"]).unwrap();
        assert!(svg.contains("loss (0.5000)") && svg.contains("jepa (0.2500)"), "{svg}");
        assert!(!svg.contains("absent"));
        let title = loss_curve("<&> run", &[], &[]).unwrap();
        assert!(title.contains("&lt;&amp;&gt; run"), "{title}");
    }

    #[test]
    fn smoothing_keeps_straight_lines_and_calms_noise() {
        let line: Vec<_> = (0..500).map(|i| (f64::from(i), 2.0 - f64::from(i) / 500.0)).collect();
        let inside = line.iter().zip(smoothed(&line)).skip(5).take(490);
        let worst = inside.map(|((_, y), (_, smooth))| (y - smooth).abs()).fold(0.0, f64::max);
        assert!(worst < 1e-12, "{worst}");
        let noise: Vec<_> = (0..500).map(|i| (f64::from(i), f64::from(i % 2))).collect();
        let worst = smoothed(&noise).iter().map(|(_, y)| (y - 0.5).abs()).fold(0.0, f64::max);
        assert!(worst < 0.1, "{worst}");
        assert_eq!(smoothed(&line[..1]), line[..1]);
        assert!(smoothed(&[]).is_empty());
    }

    #[test]
    fn labels_are_short() {
        let cases = [(0.001, "0.001"), (0.1, "0.1"), (1.0, "1"), (20.0, "20"), (1e7, "1e7"), (1e-9, "1e-9")];
        let failed: Vec<_> =
            cases.iter().map(|(y, want)| (want, logarithmic_label(y))).filter(|(want, got)| *want != got).collect();
        assert!(failed.is_empty(), "(want, got): {failed:?}");
        assert_eq!(
            [linear_label(0.5, 2.0), linear_label(30.0, 100.0), linear_label(0.02, 0.05)],
            ["0.50", "30", "0.020"]
        );
    }
}
