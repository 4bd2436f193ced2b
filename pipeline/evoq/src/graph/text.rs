//! The graph in the languages of Mermaid and Graphviz.

use std::fmt::Write;

use super::Graph;

/// A flowchart for Mermaid.
pub fn mermaid(graph: &Graph) -> String {
    let mut text = "flowchart TD\n".to_owned();
    for (i, node) in graph.nodes.iter().enumerate() {
        // Mermaid has no other way to say a quote or a bracket inside a label.
        let word =
            |text: &str| text.replace('#', "#35;").replace('"', "#quot;").replace('<', "#lt;").replace('>', "#gt;");
        let _ = writeln!(text, "  s{i}[\"{}<br/>{}\"]", word(&node.name), word(&node.detail));
    }
    for edge in &graph.edges {
        let _ = writeln!(text, "  s{} --> s{}", edge.from, edge.to);
    }
    text
}

/// A digraph for Graphviz.
pub fn dot(graph: &Graph) -> String {
    let mut text = "digraph workflow {\n  node [shape=box, style=rounded, fontname=\"sans-serif\"];\n".to_owned();
    let word = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
    for (i, node) in graph.nodes.iter().enumerate() {
        let _ = writeln!(text, "  s{i} [label=\"{}\\n{}\"];", word(&node.name), word(&node.detail));
    }
    for edge in &graph.edges {
        let _ = writeln!(text, "  s{} -> s{} [tooltip=\"{}\"];", edge.from, edge.to, word(&edge.input));
    }
    text.push_str("}\n");
    text
}
