//! Draws a call: what both sides sounded like, what was understood and how long it took. Reads no files, knows no calls.

use plotters::coord::Shift;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;

const SIZE: (u32, u32) = (1_400, 640);
const CALLER: RGBColor = RGBColor(0x1f, 0x6f, 0xb5);
const AGENT: RGBColor = RGBColor(0xc7, 0x5b, 0x12);
const INK: RGBColor = RGBColor(0x22, 0x22, 0x22);
const FAINT: RGBColor = RGBColor(0x99, 0x99, 0x99);
/// Points of a waveform; more than the picture has pixels would show nothing more.
const COLUMNS: usize = 1_200;

/// One utterance understood.
#[derive(Debug, Clone, PartialEq)]
pub struct Caption {
    /// Begin of the speech, seconds into the call.
    pub start: f64,
    /// End of the speech.
    pub end: f64,
    /// When its final text came.
    pub shown: f64,
    /// The words.
    pub text: String,
}

/// A call to be drawn.
#[derive(Debug, Clone, PartialEq)]
pub struct CallPicture<'a> {
    /// Headline.
    pub title: &'a str,
    /// Samples per second of both sides.
    pub rate: u32,
    /// What the caller said.
    pub caller: &'a [i16],
    /// What the caller heard.
    pub agent: &'a [i16],
    /// What was understood.
    pub captions: &'a [Caption],
}

type Chart<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

/// Why a picture could not be drawn.
#[derive(Debug, thiserror::Error)]
#[error("cannot draw the picture: {0}")]
pub struct DrawError(String);

fn failed(error: impl std::fmt::Display) -> DrawError {
    DrawError(error.to_string())
}

/// Draws the call as SVG.
///
/// # Errors
/// Only if the drawing library fails.
pub fn svg(picture: &CallPicture<'_>) -> Result<String, DrawError> {
    let mut out = String::new();
    {
        let root = SVGBackend::with_string(&mut out, SIZE).into_drawing_area();
        root.fill(&WHITE).map_err(failed)?;
        let root = root
            .titled(picture.title, ("sans-serif", 22).into_font().color(&INK))
            .map_err(failed)?;
        let seconds =
            picture.caller.len().max(picture.agent.len()) as f64 / f64::from(picture.rate.max(1));
        let areas = root.split_evenly((2, 1));
        let caller = (&areas[0], "caller", picture.caller, CALLER);
        let agent = (&areas[1], "agent (what the caller heard)", picture.agent, AGENT);
        for (area, name, samples, colour) in [caller, agent] {
            let mut chart = waveform(area, name, samples, picture.rate, seconds.max(0.1), colour)?;
            if colour == CALLER {
                captions(&mut chart, picture.captions)?;
            }
        }
        root.present().map_err(failed)?;
    }
    Ok(out)
}

fn waveform<'a, 'b>(
    area: &'a DrawingArea<SVGBackend<'b>, Shift>,
    name: &str,
    samples: &[i16],
    rate: u32,
    seconds: f64,
    colour: RGBColor,
) -> Result<Chart<'a, 'b>, DrawError> {
    let mut chart = ChartBuilder::on(area)
        .caption(name, ("sans-serif", 15).into_font().color(&colour))
        .margin(10)
        .x_label_area_size(28)
        .y_label_area_size(36)
        .build_cartesian_2d(0.0..seconds, -1.0..1.0)
        .map_err(failed)?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .x_desc("seconds")
        .y_labels(3)
        .light_line_style(TRANSPARENT)
        .draw()
        .map_err(failed)?;
    let peaks = peaks(samples, rate);
    chart
        .draw_series(peaks.into_iter().map(|(at, low, high)| {
            PathElement::new(vec![(at, low), (at, high)], colour.stroke_width(1))
        }))
        .map_err(failed)?;
    Ok(chart)
}

/// Lowest and highest sample of each column, with its time.
fn peaks(samples: &[i16], rate: u32) -> Vec<(f64, f64, f64)> {
    let width = samples.len().div_ceil(COLUMNS).max(1);
    let column = |(index, part): (usize, &[i16])| {
        let low = part.iter().copied().min().unwrap_or(0);
        let high = part.iter().copied().max().unwrap_or(0);
        let at = (index * width) as f64 / f64::from(rate.max(1));
        (at, f64::from(low) / 32_768.0, f64::from(high) / 32_768.0)
    };
    samples.chunks(width).enumerate().map(column).collect()
}

/// Words over the speech they were understood from, and an arrow's length of latency behind its end.
fn captions(chart: &mut Chart<'_, '_>, captions: &[Caption]) -> Result<(), DrawError> {
    for (index, caption) in captions.iter().enumerate() {
        let y = if index % 2 == 0 { 0.94 } else { 0.76 };
        let words = Text::new(
            caption.text.clone(),
            (caption.start, y),
            ("sans-serif", 13).into_font().color(&INK),
        );
        chart.draw_series([words]).map_err(failed)?;
        let span = |from, to, colour: RGBColor, width| {
            PathElement::new(vec![(from, -0.85), (to, -0.85)], colour.stroke_width(width))
        };
        chart
            .draw_series([
                span(caption.start, caption.end, CALLER, 5),
                span(caption.end, caption.shown, FAINT, 2),
            ])
            .map_err(failed)?;
        let latency = format!("+{:.0} ms", (caption.shown - caption.end).max(0.0) * 1_000.0);
        let label =
            Text::new(latency, (caption.end, -0.78), ("sans-serif", 11).into_font().color(&FAINT));
        chart.draw_series([label]).map_err(failed)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_drawn_with_its_words_and_latency() {
        let caller: Vec<i16> = (0..16_000).map(|i| ((i % 80) * 300 - 12_000) as i16).collect();
        let captions = [Caption { start: 0.2, end: 1.0, shown: 1.4, text: "one < two".into() }];
        let picture = CallPicture {
            title: "a call",
            rate: 8_000,
            caller: &caller,
            agent: &[],
            captions: &captions,
        };
        let svg = svg(&picture).expect("drawing into memory works");
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
        assert!(svg.contains("one &lt; two") && svg.contains("+400 ms") && svg.contains("a call"));
    }

    #[test]
    fn a_call_without_sound_can_be_drawn() {
        let picture =
            CallPicture { title: "", rate: 8_000, caller: &[], agent: &[], captions: &[] };
        assert!(svg(&picture).is_ok());
    }

    #[test]
    fn peaks_keep_the_extremes_of_each_column() {
        let mut samples = vec![0_i16; 4_800];
        samples[4] = 16_384;
        samples[4_796] = -16_384;
        let peaks = peaks(&samples, 8_000);
        assert_eq!(peaks.len(), 1_200);
        assert_eq!((peaks[1].2, peaks[1_199].1), (0.5, -0.5));
    }
}
