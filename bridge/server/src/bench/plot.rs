//! Draws latencies: over the time of a run, and over the number of calls. Reads no files, measures nothing.

use plotters::coord::Shift;
use plotters::prelude::*;

use super::search::Found;
use super::{Figures, Percentiles};

const WIDTH: u32 = 1_200;
const PANEL: u32 = 420;
const TITLE: u32 = 40;
/// Beside the lines, where it hides none.
const LEGEND: u32 = 240;
const INK: RGBColor = RGBColor(0x22, 0x22, 0x22);
const FAINT: RGBColor = RGBColor(0x99, 0x99, 0x99);
/// Told apart by those who do not tell red from green, too (Okabe and Ito).
const COLOURS: [RGBColor; 7] = [
    RGBColor(0x00, 0x72, 0xb2),
    RGBColor(0xd5, 0x5e, 0x00),
    RGBColor(0x00, 0x9e, 0x73),
    RGBColor(0xcc, 0x79, 0xa7),
    RGBColor(0xe6, 0x9f, 0x00),
    RGBColor(0x56, 0xb4, 0xe9),
    RGBColor(0x55, 0x55, 0x55),
];

/// A line of a panel: milliseconds over seconds or calls.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    name: String,
    colour: usize,
    width: u32,
    points: Vec<(f64, f64)>,
}

impl Line {
    fn style(&self) -> ShapeStyle {
        COLOURS[self.colour % COLOURS.len()].stroke_width(self.width)
    }
}

/// A coordinate system with its lines.
#[derive(Debug, Clone, PartialEq)]
pub struct Panel {
    title: String,
    across: &'static str,
    lines: Vec<Line>,
    /// What the 99th percentile is held to, in milliseconds.
    bound: Option<f64>,
}

type Point = (&'static str, fn(&Percentiles) -> u32, u32);
const POINTS: [Point; 3] = [("p50", |p| p.p50, 3), ("p99", |p| p.p99, 1), ("max", |p| p.max, 1)];

impl Panel {
    /// Latency over the time of runs: of a single one its median, 99th percentile and maximum, of several the first two.
    #[must_use]
    pub fn over_time<'a>(runs: impl IntoIterator<Item = (&'a str, &'a Figures)>) -> Self {
        let runs: Vec<_> = runs.into_iter().collect();
        let several = runs.len() > 1;
        let points = if several { &POINTS[..2] } else { &POINTS[..] };
        let line = |(index, (name, run)): (usize, &(&str, &Figures))| {
            points
                .iter()
                .enumerate()
                .map(move |(nth, (point, of, width))| {
                    let moments = run.moments.iter();
                    let points = moments.map(|m| (m.at, f64::from(of(&m.latency)) / 1e3)).collect();
                    let name =
                        if several { format!("{name} {point}") } else { (*point).to_owned() };
                    let colour = if several { index } else { nth };
                    Line { name, colour, width: *width, points }
                })
                .collect::<Vec<_>>()
        };
        let lines = runs.iter().enumerate().flat_map(line).collect();
        Self { title: "latency over time".into(), across: "seconds", lines, bound: None }
    }

    /// Latency over the number of calls.
    #[must_use]
    pub fn over_calls(found: &Found) -> Self {
        let line = |(nth, (name, of, width)): (usize, &Point)| {
            let trials = found.trials.iter();
            let points = trials.filter_map(|(calls, trial)| {
                let latency = trial.figures()?.latency;
                Some((*calls as f64, f64::from(of(&latency)) / 1e3))
            });
            Line { name: (*name).into(), colour: nth, width: *width, points: points.collect() }
        };
        Self {
            title: format!("latency over calls; {} carried", found.calls),
            across: "calls",
            lines: POINTS.iter().enumerate().map(line).collect(),
            bound: Some(f64::from(found.p99_us) / 1e3),
        }
    }

    /// The least and the greatest of both axes, with room around.
    fn extent(&self) -> [(f64, f64); 2] {
        let points = || self.lines.iter().flat_map(|line| &line.points);
        let span = |values: &mut dyn Iterator<Item = f64>| {
            values.fold((f64::MAX, f64::MIN), |(low, high), v| (low.min(v), high.max(v)))
        };
        let (left, right) = span(&mut points().map(|point| point.0));
        let (low, high) = span(&mut points().map(|point| point.1).chain(self.bound));
        if left > right || low > high {
            return [(0.0, 1.0), (0.01, 10.0)];
        }
        // Neither time nor calls begin at what was measured first; a logarithm has no zero.
        [(left.min(0.0), right.max(1.0)), (low.max(0.01) / 1.5, high.max(0.02) * 1.5)]
    }
}

/// Draws panels, one below the other, as SVG.
///
/// # Errors
/// Only if the drawing library fails.
pub fn svg(title: &str, panels: &[Panel]) -> Result<String, String> {
    let mut out = String::new();
    {
        let size = (WIDTH, TITLE + PANEL * panels.len().max(1) as u32);
        let root = SVGBackend::with_string(&mut out, size).into_drawing_area();
        root.fill(&WHITE).map_err(failed)?;
        let font = ("sans-serif", 24).into_font().color(&INK);
        let root = root.titled(title, font).map_err(failed)?;
        for (area, panel) in root.split_evenly((panels.len().max(1), 1)).iter().zip(panels) {
            draw(area, panel)?;
        }
        root.present().map_err(failed)?;
    }
    Ok(out)
}

fn failed(error: impl std::fmt::Display) -> String {
    format!("cannot draw the plot: {error}")
}

fn draw(area: &DrawingArea<SVGBackend<'_>, Shift>, panel: &Panel) -> Result<(), String> {
    let (area, legend) = area.split_horizontally(WIDTH - LEGEND);
    draw_legend(&legend, panel)?;
    let [(left, right), (low, high)] = panel.extent();
    let mut chart = ChartBuilder::on(&area)
        .caption(&panel.title, ("sans-serif", 18).into_font().color(&INK))
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(60)
        .build_cartesian_2d(left..right, (low..high).log_scale())
        .map_err(failed)?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(FAINT.mix(0.3))
        .x_desc(panel.across)
        .y_desc("ms")
        .label_style(("sans-serif", 14).into_font().color(&INK))
        .y_label_formatter(&|ms| format!("{ms}"))
        .draw()
        .map_err(failed)?;
    if let Some(bound) = panel.bound {
        let path = PathElement::new(vec![(left, bound), (right, bound)], FAINT.stroke_width(2));
        chart.draw_series([path]).map_err(failed)?;
        let font = ("sans-serif", 14).into_font().color(&FAINT);
        let words = Text::new(format!("{bound} ms"), (4, -16), font);
        let words = EmptyElement::at((left, bound)) + words;
        chart.draw_series([words]).map_err(failed)?;
    }
    for line in &panel.lines {
        let path = PathElement::new(line.points.clone(), line.style());
        chart.draw_series([path]).map_err(failed)?;
        if panel.across == "calls" {
            let style = line.style().color.filled();
            let dots = line.points.iter().map(|point| Circle::new(*point, 3, style));
            chart.draw_series(dots).map_err(failed)?;
        }
    }
    Ok(())
}

fn draw_legend(area: &DrawingArea<SVGBackend<'_>, Shift>, panel: &Panel) -> Result<(), String> {
    for (nth, line) in panel.lines.iter().enumerate() {
        let y = 48 + 20 * nth as i32;
        area.draw(&PathElement::new(vec![(4, y), (28, y)], line.style())).map_err(failed)?;
        let font = ("sans-serif", 14).into_font().color(&INK);
        area.draw(&Text::new(line.name.clone(), (36, y - 6), font)).map_err(failed)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::compare::made_up;
    use super::super::search::{Range, search};
    use super::*;

    #[test]
    fn a_run_and_a_search_are_drawn_with_their_legends() {
        let run = made_up(10, 300, 0, false);
        let range = Range { first: 100, most: 800, step: 100, tries: 4 };
        let found = search(range, 20_000, |calls| Ok(made_up(calls, calls as u32 * 60, 0, false)));
        let panels = [Panel::over_time([("one", &run)]), Panel::over_calls(&found)];
        let svg = svg("a < plot", &panels).expect("drawing into memory works");
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
        for text in
            ["a &lt; plot", "latency over time", "seconds", "calls", "p50", "p99", "max", "20 ms"]
        {
            assert!(svg.contains(text), "{text}");
        }
    }

    #[test]
    fn trials_that_were_made_again_are_drawn_as_well() {
        let mut lost = [1, 0].into_iter();
        let range = Range { first: 8, most: 8, step: 1, tries: 4 };
        let found = search(range, 20_000, |calls| {
            Ok(made_up(calls, 900, lost.next().unwrap_or_default(), false))
        });
        let points = &Panel::over_calls(&found).lines[0].points;
        assert_eq!(points[..], [(8.0, 0.9), (8.0, 0.9)]);
    }

    #[test]
    fn several_runs_are_told_apart_by_name() {
        let (one, two) = (made_up(10, 300, 0, false), made_up(10, 500, 0, false));
        let panel = Panel::over_time([("bridge", &one), ("tcp-echo", &two)]);
        let names: Vec<_> = panel.lines.iter().map(|line| line.name.as_str()).collect();
        assert_eq!(names, ["bridge p50", "bridge p99", "tcp-echo p50", "tcp-echo p99"]);
    }

    #[test]
    fn nothing_can_be_drawn_too() {
        let silent = made_up(0, 0, 0, false);
        assert!(svg("", &[Panel::over_time([("", &silent)])]).is_ok());
        assert!(svg("", &[]).is_ok());
    }
}
