//! Small charts as SVG. Colours and type come from the page, so that they follow its light and dark.

use std::fmt::Write;

use super::ask::{Estimate, number};
use super::axis::Axis;
use crate::print::escaped;

/// Width of a panel; a page lays out as many side by side as it has room for.
const WIDTH: f64 = 340.0;
/// Height of a panel of curves or points.
const HEIGHT: f64 = 210.0;
/// Room for the numbers of the vertical axis, above, at the right, and for those of the horizontal axis.
const MARGIN: (f64, f64, f64, f64) = (46.0, 10.0, 12.0, 36.0);
/// Characters of a row's name that are shown.
const NAME: usize = 42;
/// The height of a row of a strip.
const ROW: f64 = 24.0;

/// A curve. `style` is its place in the legend, from 0.
pub(super) struct Curve {
    /// Its points, from left to right.
    pub points: Vec<(f64, f64)>,
    /// Its place in the legend.
    pub style: usize,
}

/// So few points are marked each: they are far apart, and a single one would be no line at all.
const FEW: usize = 12;

/// Curves over one axis. Each is drawn thin as it is and thick as its running mean over `window` points.
pub(super) fn curves(title: &str, x_name: &str, curves: &[Curve], window: usize) -> String {
    let points = || curves.iter().flat_map(|curve| curve.points.iter());
    let x = Axis::around(points().map(|point| point.0), 4);
    let y = Axis::around(points().map(|point| point.1), 4);
    let mut svg = begin(title, HEIGHT);
    frame(&mut svg, &x, &y, x_name);
    for curve in curves {
        let class = format!("s{}", curve.style % 6);
        let _ = write!(svg, "<path class=\"raw {class}\" d=\"{}\"/>", line(&x, &y, &curve.points));
        let _ =
            write!(svg, "<path class=\"curve {class}\" d=\"{}\"/>", line(&x, &y, &running_mean(&curve.points, window)));
        if curve.points.len() <= FEW {
            let marks: String = curve.points.iter().map(|point| line(&x, &y, &[*point]) + "h0").collect();
            let _ = write!(svg, "<path class=\"few {class}\" d=\"{marks}\"/>");
        }
    }
    svg.push_str("</svg>");
    svg
}

/// Points, and the mean of those at about one place.
pub(super) fn points(
    title: &str,
    (x, x_name): (&Axis, &str),
    (y, y_name): (&Axis, &str),
    points: &[(f64, f64)],
    means: &[(f64, f64)],
) -> String {
    let mut svg = begin(title, HEIGHT + 20.0);
    frame_of(&mut svg, (x, x_name), (y, y_name), HEIGHT + 20.0);
    let (right, bottom) = (WIDTH - MARGIN.2, HEIGHT + 20.0 - MARGIN.3);
    let at = |point: &(f64, f64)| (x.place(point.0, MARGIN.0, right), y.place(point.1, bottom, MARGIN.1));
    let mut dots = String::new();
    for point in points {
        let (x, y) = at(point);
        let _ = write!(dots, "M{x:.1} {y:.1}h0");
    }
    let _ = write!(svg, "<path class=\"dots\" d=\"{dots}\"/>");
    let mut path = String::new();
    for (i, point) in means.iter().enumerate() {
        let (x, y) = at(point);
        let _ = write!(path, "{}{x:.1} {y:.1}", if i == 0 { "M" } else { "L" });
        let _ = write!(svg, "<circle class=\"mean\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.2\"/>");
    }
    let _ = write!(svg, "<path class=\"means\" d=\"{path}\"/></svg>");
    svg
}

/// Counts in bins of equal width.
pub(super) fn bars(title: &str, (x, x_name): (&Axis, &str), y: &Axis, bins: &[(f64, u64)], width: f64) -> String {
    let height = HEIGHT - 40.0;
    let mut svg = begin(title, height);
    frame_of(&mut svg, (x, x_name), (y, ""), height);
    let (right, bottom) = (WIDTH - MARGIN.2, height - MARGIN.3);
    for &(start, count) in bins {
        let (from, to) = (x.place(start, MARGIN.0, right), x.place(start + width, MARGIN.0, right));
        let top = y.place(count as f64, bottom, MARGIN.1);
        let _ = write!(
            svg,
            "<rect class=\"bar\" x=\"{:.1}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{:.1}\"/>",
            from + 0.5,
            (to - from - 1.0).max(0.5),
            bottom - top
        );
    }
    svg.push_str("</svg>");
    svg
}

/// A row of a strip: a name, and a mark with its interval for each style.
pub(super) struct Row {
    /// Its name.
    pub name: String,
    /// Marks; the first is full, the second hollow.
    pub marks: Vec<Estimate>,
}

/// Values with their intervals, one row below the other, with a line at `line`.
pub(super) fn strip(title: &str, x: &Axis, line: f64, rows: &[Row], digits: usize) -> String {
    let names = rows.iter().map(|row| row.name.chars().count()).max().unwrap_or(0).min(NAME) as f64;
    let left = 14.0 + names * 6.6;
    let width = WIDTH.max(left + 200.0);
    let right = width - 46.0;
    let bottom = 8.0 + ROW * rows.len() as f64;
    let mut svg = begin_of(title, width, bottom + 24.0);
    for (value, text) in &x.ticks {
        let x = x.place(*value, left, right);
        let _ = write!(
            svg,
            "<path class=\"grid\" d=\"M{x:.1} 4V{bottom:.1}\"/><text class=\"tick\" x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{text}</text>",
            bottom + 15.0
        );
    }
    let zero = x.place(line, left, right);
    let _ = write!(svg, "<path class=\"zero\" d=\"M{zero:.1} 4V{bottom:.1}\"/>");
    for (i, row) in rows.iter().enumerate() {
        let middle = 8.0 + ROW * (i as f64 + 0.5);
        let name: String = row.name.chars().take(NAME).collect();
        let _ = write!(
            svg,
            "<text class=\"name\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            left - 8.0,
            middle + 4.0,
            escaped(&name)
        );
        let apart = if row.marks.len() > 1 { 7.0 } else { 0.0 };
        for (k, mark) in row.marks.iter().enumerate() {
            let y = middle + apart * (k as f64 - (row.marks.len() as f64 - 1.0) / 2.0);
            if let (Some(low), Some(high)) = (mark.low, mark.high) {
                let (from, to) = (x.place(low, left, right), x.place(high, left, right));
                let _ = write!(svg, "<path class=\"whisker\" d=\"M{from:.1} {y:.1}H{to:.1}\"/>");
            }
            if let Some(value) = mark.value {
                let class = if k == 0 { "mark" } else { "mark hollow" };
                let _ = write!(
                    svg,
                    "<circle class=\"{class}\" cx=\"{:.1}\" cy=\"{y:.1}\" r=\"3.6\"/>",
                    x.place(value, left, right)
                );
            }
        }
        if let Some(value) = row.marks.first().and_then(|mark| mark.value) {
            let _ = write!(
                svg,
                "<text class=\"value\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                width - 2.0,
                middle + 4.0,
                number(value, digits)
            );
        }
    }
    svg.push_str("</svg>");
    svg
}

fn begin(title: &str, height: f64) -> String {
    begin_of(title, WIDTH, height)
}

fn begin_of(title: &str, width: f64, height: f64) -> String {
    let title = escaped(title);
    format!(
        "<svg class=\"chart\" style=\"max-width:{:.1}rem\" role=\"img\" aria-label=\"{title}\" \
         viewBox=\"0 0 {width:.0} {height:.0}\"><title>{title}</title>",
        width * 1.15 / 16.0
    )
}

fn frame(svg: &mut String, x: &Axis, y: &Axis, x_name: &str) {
    frame_of(svg, (x, x_name), (y, ""), HEIGHT);
}

/// Lines at the ticks of both axes, their numbers, and their names.
fn frame_of(svg: &mut String, (x, x_name): (&Axis, &str), (y, y_name): (&Axis, &str), height: f64) {
    let (right, bottom) = (WIDTH - MARGIN.2, height - MARGIN.3);
    for (value, text) in &y.ticks {
        let at = y.place(*value, bottom, MARGIN.1);
        let _ = write!(
            svg,
            "<path class=\"grid\" d=\"M{} {at:.1}H{right}\"/><text class=\"tick\" x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{text}</text>",
            MARGIN.0,
            MARGIN.0 - 6.0,
            at + 3.5
        );
    }
    for (value, text) in &x.ticks {
        let at = x.place(*value, MARGIN.0, right);
        let _ = write!(
            svg,
            "<path class=\"tickmark\" d=\"M{at:.1} {bottom}v4\"/><text class=\"tick\" x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{text}</text>",
            bottom + 16.0
        );
    }
    let _ = write!(
        svg,
        "<text class=\"axis\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
        f64::midpoint(MARGIN.0, right),
        height - 4.0,
        escaped(x_name)
    );
    if !y_name.is_empty() {
        let middle = f64::midpoint(MARGIN.1, bottom);
        let _ = write!(
            svg,
            "<text class=\"axis\" transform=\"translate(12 {middle:.1}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
            escaped(y_name)
        );
    }
}

fn line(x: &Axis, y: &Axis, points: &[(f64, f64)]) -> String {
    let (right, bottom) = (WIDTH - MARGIN.2, HEIGHT - MARGIN.3);
    let mut path = String::new();
    for (i, point) in points.iter().enumerate() {
        let (x, y) = (x.place(point.0, MARGIN.0, right), y.place(point.1, bottom, MARGIN.1));
        let _ = write!(path, "{}{x:.1} {y:.1}", if i == 0 { "M" } else { "L" });
    }
    path
}

/// The mean of each point and its neighbours, `window` in all, fewer at the ends.
fn running_mean(points: &[(f64, f64)], window: usize) -> Vec<(f64, f64)> {
    let reach = window / 2;
    let mean = |i: usize| {
        let near = &points[i.saturating_sub(reach)..(i + reach + 1).min(points.len())];
        (points[i].0, near.iter().map(|point| point.1).sum::<f64>() / near.len() as f64)
    };
    (0..points.len()).map(mean).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_strip_has_a_mark_and_an_interval_for_each_value_and_says_the_first() {
        let full = Estimate { value: Some(0.5), low: Some(0.4), high: Some(0.6) };
        let row =
            Row { name: "a <b>".to_owned(), marks: vec![full, Estimate { low: None, ..full }, Estimate::default()] };
        let svg = strip("t", &Axis::fixed(0.0, 1.0, 4), 0.0, &[row], 2);
        assert_eq!((svg.matches("<circle").count(), svg.matches("whisker").count()), (2, 1));
        assert!(svg.contains("a &lt;b&gt;") && svg.contains(">0.50</text>"), "{svg}");
    }

    #[test]
    fn a_running_mean_keeps_its_places_and_the_sum_of_a_line() {
        let points: Vec<(f64, f64)> = (0..7).map(|i| (f64::from(i), 2.0 * f64::from(i))).collect();
        let mean = running_mean(&points, 3);
        assert_eq!(mean[3], (3.0, 6.0));
        assert_eq!(mean[0], (0.0, 1.0));
        assert_eq!(running_mean(&points, 1), points);
    }

    #[test]
    fn a_curve_of_few_points_has_a_mark_at_each() {
        let drawn = |count: i32| {
            let points = (0..count).map(|i| (f64::from(i), 1.0)).collect();
            let svg = curves("t", "x", &[Curve { points, style: 0 }], 1);
            svg.matches("h0").count()
        };
        assert_eq!([1, 2, 12, 13].map(drawn), [1, 2, 12, 0]);
    }

    #[test]
    fn charts_of_nothing_are_empty_frames() {
        assert!(curves("t", "x", &[], 5).ends_with("</svg>"));
        assert!(bars("t", (&Axis::fixed(0.5, 1.0, 5), "x"), &Axis::fixed(0.0, 1.0, 2), &[], 0.05).ends_with("</svg>"));
    }
}
