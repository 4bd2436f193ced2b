//! The graph as a drawing, on its own or inside a page: it takes the page's colours where there are some.

use std::fmt::Write;

use super::layout::layout;
use super::{Graph, Node, duration};
use crate::print::escaped;

/// Width and height of a box, and from the middle of one to the next.
const BOX: (f64, f64) = (168.0, 46.0);
const STEP: (f64, f64) = (184.0, 76.0);
/// Characters of a name that fit into a box.
const FITS: (usize, usize) = (21, 30);

const STYLE: &str = "\
.graph{color:var(--ink,#1d1d1f);background:var(--paper,#fff);font:13px system-ui,sans-serif}\
.graph .edge{fill:none;stroke:currentColor;stroke-opacity:.3;stroke-width:1.2}\
.graph rect{fill:var(--card,#f4f3ef);stroke:currentColor;stroke-opacity:.35}\
.graph text{fill:currentColor;text-anchor:middle}\
.graph .small{font-size:11px;opacity:.72}\
.graph .outside rect{stroke-dasharray:3 3}\
.graph .failed rect{stroke:var(--bad,#b3261e);stroke-opacity:1;stroke-width:2}\
@media (prefers-color-scheme:dark){.graph{color:var(--ink,#ececec);background:var(--paper,#161618)}.graph rect{fill:var(--card,#232326)}}";

/// Draws the graph. An input that is read through another step as well has no line of its own: it would hide the others.
pub fn svg(graph: &Graph) -> String {
    let shown = graph.without_detours();
    let edges: Vec<(usize, usize)> = shown.iter().map(|edge| (edge.from, edge.to)).collect();
    let plan = layout(graph.nodes.len(), &edges);
    let at = |(column, layer): (f64, f64)| (12.0 + BOX.0 / 2.0 + column * STEP.0, 12.0 + BOX.1 / 2.0 + layer * STEP.1);
    let width = 24.0 + BOX.0 + (plan.size.0 - 1.0) * STEP.0;
    let height = 24.0 + BOX.1 + (plan.size.1 - 1.0).max(0.0) * STEP.1;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"graph\" role=\"img\" width=\"{width:.0}\" height=\"{height:.0}\" \
         viewBox=\"0 0 {width:.0} {height:.0}\"><title>{} steps and what they read</title><style>{STYLE}</style>\n",
        graph.nodes.len()
    );
    for (edge, route) in shown.iter().zip(&plan.routes) {
        let mut points = vec![at(plan.places[edge.from])];
        points[0].1 += BOX.1 / 2.0;
        points.extend(route.iter().map(|point| at(*point)));
        let (x, y) = at(plan.places[edge.to]);
        points.push((x, y - BOX.1 / 2.0));
        let _ = writeln!(
            out,
            "<path class=\"edge\" d=\"{}\"><title>{}</title></path>",
            curve(&points),
            escaped(&edge.input)
        );
    }
    for (node, place) in graph.nodes.iter().zip(&plan.places) {
        out.push_str(&boxed(node, at(*place)));
    }
    out.push_str("</svg>\n");
    out
}

/// A line through `points` that leaves and arrives from above.
fn curve(points: &[(f64, f64)]) -> String {
    let mut path = String::new();
    for (i, &(x, y)) in points.iter().enumerate() {
        let _ = match i.checked_sub(1).and_then(|before| points.get(before)) {
            None => write!(path, "M{x:.1} {y:.1}"),
            Some(&(from, above)) => {
                let middle = f64::midpoint(above, y);
                write!(path, "C{from:.1} {middle:.1} {x:.1} {middle:.1} {x:.1} {y:.1}")
            }
        };
    }
    path
}

fn boxed(node: &Node, (x, y): (f64, f64)) -> String {
    let (class, time) = match &node.end {
        None if node.detail == "from outside" => (" outside", String::new()),
        None => ("", String::new()),
        Some(end) if end.outcome != "done" => (" failed", format!("{} after {}", end.outcome, duration(end.seconds))),
        Some(end) if end.cached => ("", "found".to_owned()),
        Some(end) => ("", duration(end.seconds)),
    };
    let detail = [node.detail.as_str(), &time].into_iter().filter(|it| !it.is_empty()).collect::<Vec<_>>().join(" · ");
    format!(
        "<g class=\"node{class}\"><title>{} {}</title><rect x=\"{:.1}\" y=\"{:.1}\" width=\"{}\" height=\"{}\" rx=\"5\"/>\
         <text x=\"{x:.1}\" y=\"{:.1}\">{}</text><text class=\"small\" x=\"{x:.1}\" y=\"{:.1}\">{}</text></g>\n",
        escaped(&node.name),
        escaped(&detail),
        x - BOX.0 / 2.0,
        y - BOX.1 / 2.0,
        BOX.0,
        BOX.1,
        y - 3.0,
        escaped(&cut(&node.name, FITS.0)),
        y + 13.0,
        escaped(&cut(&detail, FITS.1)),
    )
}

/// The text, or its beginning where it does not fit.
fn cut(text: &str, fits: usize) -> String {
    if text.chars().count() <= fits {
        return text.to_owned();
    }
    text.chars().take(fits - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_any_kind_are_text_in_the_drawing() {
        let name = "<script>\"&".to_owned();
        let graph = Graph { nodes: vec![Node { name, detail: String::new(), end: None }], edges: Vec::new() };
        let drawn = svg(&graph);
        assert!(drawn.contains("&lt;script&gt;&quot;&amp;") && !drawn.contains("<script>"));
    }

    #[test]
    fn a_long_name_is_cut_and_stands_whole_in_the_title() {
        assert_eq!(cut("test-variants", 19), "test-variants");
        assert_eq!(cut("a-very-long-name-of-a-step", 10), "a-very-lo…");
    }
}
