//! The roofline as an SVG picture (Williams, Waterman and Patterson 2009): rate over arithmetic intensity, both
//! logarithmic, under the measured ceilings.

use plotters::coord::combinators::LogCoord;
use plotters::prelude::*;

use super::report::Report;
use crate::error::{Error, Result};

/// Width, and least height: a long list makes the picture taller.
const SIZE: (u32, u32) = (1200, 760);
/// Pixels at the right for the numbered list.
const LIST: i32 = 430;
/// Pixels above the list, and of a line of it.
const TOP: i32 = 24;
const LINE: i32 = 15;
/// Cases under the roofs of memory, of registers, of cooperative matrices: colours that people with any colour vision can tell
/// apart.
const COLOURS: [RGBColor; 3] = [RGBColor(0, 114, 178), RGBColor(213, 94, 0), RGBColor(0, 158, 115)];

/// A case in the picture.
struct Point {
    number: usize,
    name: String,
    x: f64,
    y: f64,
    colour: RGBColor,
}

/// Draws every timed case of a report.
///
/// # Errors
/// `Error::Check` when the report has no ceilings, or the drawing library refuses.
pub fn roofline(report: &Report) -> Result<String> {
    let refused = |detail: String| Error::Check { what: "drawing the roofline".into(), detail };
    let ceilings = report.ceilings.as_ref().ok_or_else(|| refused("the run measured no ceilings".into()))?;
    let timed = report.cases.iter().filter_map(|row| Some((row, row.times.as_ref()?)));
    // Work without arithmetic has no place on this picture.
    let points: Vec<_> = timed
        .filter(|(_, t)| t.gflops > 0.0 && t.intensity > 0.0)
        .enumerate()
        .map(|(i, (row, t))| {
            let text = if row.text == "mmae" { String::new() } else { format!(" [{}]", row.text) };
            let half = if row.storage == "f16" { " f16" } else { "" };
            Point {
                number: i + 1,
                name: format!("{} {}{text}{half} {:.0}%", row.kernel, row.case, 100.0 * t.roof),
                x: t.intensity,
                y: t.gflops,
                colour: COLOURS[match t.bound.as_str() {
                    "arithmetic" => 1,
                    "matrix" => 2,
                    _ => 0,
                }],
            }
        })
        .collect();
    let mut svg = String::new();
    let title = format!("{}, {}", report.device.adapter, report.device.driver);
    let roofs = Roofs {
        registers: ceilings.fma * 1e-9,
        matrices: ceilings.matrix.map(|rate| rate * 1e-9),
        memory: ceilings.copy() * 1e-9,
    };
    draw(&mut svg, &title, &roofs, &points).map_err(refused)?;
    Ok(svg)
}

fn label(value: &f64) -> String {
    let text = super::text::short(*value);
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// The ceilings that are drawn, in GFLOP/s and GB/s.
struct Roofs {
    registers: f64,
    matrices: Option<f64>,
    memory: f64,
}

impl Roofs {
    /// Each roof of arithmetic with its name and colour.
    fn arithmetic(&self) -> Vec<(f64, &'static str, RGBColor)> {
        let matrices = self.matrices.map(|rate| (rate, "in cooperative matrices", COLOURS[2]));
        std::iter::once((self.registers, "in registers", BLACK)).chain(matrices).collect()
    }
}

fn draw(svg: &mut String, title: &str, roofs: &Roofs, points: &[Point]) -> Result<(), String> {
    let text = |e: DrawingAreaErrorKind<_>| e.to_string();
    let low = points.iter().map(|p| p.y).fold(roofs.registers / 10.0, f64::min) / 2.0;
    let high = roofs.arithmetic().iter().map(|roof| roof.0).fold(0.0, f64::max);
    let (left, right) = points.iter().fold((0.1f64, 100.0f64), |(l, r), p| (l.min(p.x / 2.0), r.max(p.x * 2.0)));
    let height = SIZE.1.max((TOP + LINE) as u32 + LINE as u32 * points.len() as u32);
    let area = SVGBackend::with_string(svg, (SIZE.0, height)).into_drawing_area();
    area.fill(&WHITE).map_err(text)?;
    let (plot, list) = area.split_horizontally(SIZE.0 as i32 - LIST);
    let mut chart = ChartBuilder::on(&plot)
        .caption(title, ("sans-serif", 17))
        .margin(14)
        .x_label_area_size(46)
        .y_label_area_size(66)
        .build_cartesian_2d((left..right).log_scale(), (low..high * 2.0).log_scale())
        .map_err(text)?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(BLACK.mix(0.12))
        .label_style(("sans-serif", 13))
        .x_desc("arithmetic intensity, FLOP for each byte")
        .y_desc("GFLOP/s")
        .x_label_formatter(&label)
        .y_label_formatter(&label)
        .draw()
        .map_err(text)?;
    ceilings(&mut chart, roofs, (low, left, right)).map_err(text)?;
    for p in points {
        chart.draw_series([Circle::new((p.x, p.y), 4, p.colour.filled())]).map_err(text)?;
        let number = Text::new(p.number.to_string(), (p.x * 1.04, p.y * 1.06), ("sans-serif", 13).into_font());
        chart.draw_series([number]).map_err(text)?;
    }
    for (line, p) in points.iter().enumerate() {
        let style = ("sans-serif", 12).into_font().color(&p.colour);
        let place = (4, TOP + LINE * line as i32);
        list.draw(&Text::new(format!("{:>2}  {}", p.number, p.name), place, style)).map_err(text)?;
    }
    area.present().map_err(text)
}

type Chart<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<LogCoord<f64>, LogCoord<f64>>>;

/// Memory up to the ridge, arithmetic from there on: one line for each unit that does arithmetic.
fn ceilings(
    chart: &mut Chart<'_, '_>,
    roofs: &Roofs,
    (low, left, right): (f64, f64, f64),
) -> Result<(), DrawingAreaErrorKind<std::io::Error>> {
    let at = |x, y, words: String| Text::new(words, (x, y), ("sans-serif", 13).into_font());
    let memory = roofs.memory.max(1e-12);
    let start = (low / memory).max(left);
    for (rate, name, colour) in roofs.arithmetic() {
        let ridge = (rate / memory).clamp(left, right);
        let corners = [(start, start * memory), (ridge, rate), (right, rate)];
        chart.draw_series(LineSeries::new(corners, colour.stroke_width(2)))?;
        let words = format!("{} GFLOP/s {name}", super::text::short(rate));
        chart.draw_series([at(ridge, rate * 1.25, words)])?;
    }
    let words = format!("{} GB/s copied", super::text::short(roofs.memory));
    chart.draw_series([at(start * 1.1, start * memory * 7.0, words)]).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_roof_of_matrices_is_drawn_where_there_is_one() {
        let drawn = |matrices: Option<f64>| {
            let mut svg = String::new();
            let point = Point { number: 1, name: "a product".into(), x: 50.0, y: 900.0, colour: COLOURS[2] };
            draw(&mut svg, "title", &Roofs { registers: 100.0, matrices, memory: 10.0 }, &[point]).unwrap();
            svg
        };
        let (with, without) = (drawn(Some(1234.0)), drawn(None));
        assert!(with.contains("1234 GFLOP/s in cooperative matrices") && with.contains("100 GFLOP/s in registers"));
        assert!(!without.contains("matrices") && without.contains("in registers"));
        // The roofs are the lines of width 2; axes have others.
        let roofs = |svg: &str| svg.matches("stroke-width=\"2\"").count();
        assert_eq!((roofs(&with), roofs(&without)), (2, 1));
    }

    #[test]
    fn ticks_keep_their_zeros() {
        assert_eq!([0.01, 0.1, 1.0, 10.0, 100.0, 1000.0].map(|x| label(&x)), ["0.01", "0.1", "1", "10", "100", "1000"]);
    }
}
