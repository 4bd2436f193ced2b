//! Predicted against true quality as a picture (SVG), with the fitted 5-parameter curve. Equal points make equal bytes.

use plotters::prelude::*;

use crate::fit::{logistic5, value5};

/// Width and height in pixels.
const SIZE: (u32, u32) = (640, 600);
/// The height of a line of the caption.
const LINE: i32 = 19;
/// Places at which the curve is drawn.
const PLACES: u32 = 200;

/// A plot of the points `scores` and `truths` under the lines of `caption`. The curve is left out where there is none: too few
/// pictures, or one value for all.
pub fn plot(caption: &[String], scores: &[f64], truths: &[f64]) -> anyhow::Result<String> {
    let mut svg = String::new();
    let whole = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
    whole.fill(&WHITE)?;
    let (head, body) = whole.split_vertically(LINE * caption.len() as i32 + 14);
    for (line, text) in caption.iter().enumerate() {
        let style = ("sans-serif", if line == 0 { 15 } else { 13 }).into_font().color(&BLACK);
        head.draw_text(text, &style, (16, 12 + LINE * line as i32))?;
    }
    let (x, y) = (range(scores), range(truths));
    let mut chart = ChartBuilder::on(&body)
        .margin(12)
        .x_label_area_size(42)
        .y_label_area_size(48)
        .build_cartesian_2d(x.0..x.1, y.0..y.1)?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(BLACK.mix(0.1))
        .label_style(("sans-serif", 12))
        .axis_desc_style(("sans-serif", 13))
        .x_desc("predicted (mean of the valid replies)")
        .y_desc("truth")
        .draw()?;
    let points = scores.iter().zip(truths).map(|(x, y)| Circle::new((*x, *y), 2, BLUE.mix(0.35).filled()));
    chart.draw_series(points)?;
    if let Some(fit) = logistic5(scores, truths) {
        let places = (0..=PLACES).map(|step| x.0 + (x.1 - x.0) * f64::from(step) / f64::from(PLACES));
        // Beyond the points a curve may leave the plot.
        let within =
            places.map(|place| (place, value5(place, fit.parameters))).filter(|it| (y.0..=y.1).contains(&it.1));
        chart.draw_series(LineSeries::new(within, RED.stroke_width(2)))?;
    }
    whole.present()?;
    drop(chart);
    drop((head, body, whole));
    Ok(svg)
}

/// The axis that `values` need: theirs with a margin of a twentieth; of some width even for one value.
fn range(values: &[f64]) -> (f64, f64) {
    let low = values.iter().copied().fold(f64::INFINITY, f64::min);
    let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if !(low.is_finite() && high.is_finite()) {
        return (1.0, 5.0);
    }
    let margin = ((high - low) / 20.0).max(0.05);
    (low - margin, high + margin)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lists() -> (Vec<f64>, Vec<f64>) {
        (0..60).map(|i| (1.0 + f64::from(i) / 15.0, 1.5 + f64::from((i * 7) % 60) / 50.0 + f64::from(i) / 30.0)).unzip()
    }

    #[test]
    fn a_plot_has_every_picture_a_curve_and_its_caption_and_the_same_bytes_again() {
        let (scores, truths) = lists();
        let svg = plot(&["a set & <more>".to_owned()], &scores, &truths).unwrap();
        assert_eq!(svg.matches("<circle").count(), 60);
        assert!(svg.contains("#FF0000") && svg.contains("a set &amp; &lt;more&gt;"), "{svg}");
        assert_eq!(svg, plot(&["a set & <more>".to_owned()], &scores, &truths).unwrap());
    }

    #[test]
    fn pictures_without_a_curve_are_drawn_without_one() {
        for (scores, truths) in [(vec![3.0; 5], vec![1.0, 2.0, 3.0, 4.0, 5.0]), (Vec::new(), Vec::new())] {
            let svg = plot(&[], &scores, &truths).unwrap();
            assert_eq!((svg.matches("<circle").count(), svg.contains("#FF0000")), (scores.len(), false));
        }
    }
}
