//! Where the nodes of a graph stand in a drawing from top to bottom: layers, few crossings, short lines. Equal graphs are
//! drawn alike.

/// How often the order within layers is improved, and then the places.
const SWEEPS: usize = 12;
/// Room that a line needs beside a node, as a part of a node's width.
const LINE: f64 = 0.3;

/// Places in units of a column and a layer.
#[derive(Debug)]
pub struct Layout {
    /// The centre of each node.
    pub places: Vec<(f64, f64)>,
    /// The points that each edge goes through between its nodes, one in each layer that it crosses.
    pub routes: Vec<Vec<(f64, f64)>>,
    /// Columns and layers in all.
    pub size: (f64, f64),
}

/// A node, or the place where an edge crosses a layer.
#[derive(Debug, Clone)]
struct Stop {
    layer: usize,
    is_node: bool,
    above: Vec<usize>,
    below: Vec<usize>,
}

/// The places of `count` nodes; each edge goes from a smaller number to a larger one.
pub fn layout(count: usize, edges: &[(usize, usize)]) -> Layout {
    let layers = layers(count, edges);
    let mut stops: Vec<Stop> =
        layers.iter().map(|&layer| Stop { layer, is_node: true, above: Vec::new(), below: Vec::new() }).collect();
    let mut chains = Vec::new();
    for &(from, to) in edges {
        let (mut last, mut chain) = (from, Vec::new());
        for layer in layers[from] + 1..layers[to] {
            stops.push(Stop { layer, is_node: false, above: Vec::new(), below: Vec::new() });
            chain.push(stops.len() - 1);
            connect(&mut stops, last, *chain.last().unwrap_or(&last));
            last = stops.len() - 1;
        }
        connect(&mut stops, last, to);
        chains.push(chain);
    }
    let mut rows = vec![Vec::new(); layers.iter().max().map_or(0, |last| last + 1)];
    for (i, stop) in stops.iter().enumerate() {
        rows[stop.layer].push(i);
    }
    untangle(&stops, &mut rows);
    let columns = columns(&stops, &rows);
    let place = |stop: usize| (columns[stop], stops[stop].layer as f64);
    Layout {
        places: (0..count).map(place).collect(),
        routes: chains.iter().map(|chain| chain.iter().map(|&stop| place(stop)).collect()).collect(),
        size: (columns.iter().copied().fold(0.0, f64::max) + 1.0, rows.len() as f64),
    }
}

fn connect(stops: &mut [Stop], upper: usize, lower: usize) {
    stops[upper].below.push(lower);
    stops[lower].above.push(upper);
}

/// Each node below all that it reads, and close above what reads it.
fn layers(count: usize, edges: &[(usize, usize)]) -> Vec<usize> {
    let mut layers = vec![0; count];
    for node in 0..count {
        let above = edges.iter().filter(|edge| edge.1 == node).map(|edge| layers[edge.0] + 1);
        layers[node] = above.max().unwrap_or(0);
    }
    for node in (0..count).rev() {
        let below = edges.iter().filter(|edge| edge.0 == node).map(|edge| layers[edge.1] - 1);
        layers[node] = below.min().unwrap_or(layers[node]);
    }
    layers
}

/// Orders each row by the mean place of its neighbours in the row before, down and up again.
fn untangle(stops: &[Stop], rows: &mut [Vec<usize>]) {
    let mut place = vec![0.0; stops.len()];
    let note = |row: &[usize], place: &mut [f64]| {
        for (i, &stop) in row.iter().enumerate() {
            place[stop] = i as f64;
        }
    };
    for row in rows.iter() {
        note(row, &mut place);
    }
    for sweep in 0..SWEEPS {
        let is_down = sweep % 2 == 0;
        let order: Vec<usize> = if is_down { (0..rows.len()).collect() } else { (0..rows.len()).rev().collect() };
        for at in order {
            let wish = |stop: &usize| {
                let near = if is_down { &stops[*stop].above } else { &stops[*stop].below };
                mean(near, &place).unwrap_or(place[*stop])
            };
            let mut wishes: Vec<(f64, usize)> = rows[at].iter().map(|stop| (wish(stop), *stop)).collect();
            wishes.sort_by(|a, b| a.0.total_cmp(&b.0));
            rows[at] = wishes.into_iter().map(|(_, stop)| stop).collect();
            note(&rows[at], &mut place);
        }
    }
}

/// The column of each stop: near its neighbours, in the order of its row, with room between.
fn columns(stops: &[Stop], rows: &[Vec<usize>]) -> Vec<f64> {
    let width = |stop: usize| if stops[stop].is_node { 1.0 } else { LINE };
    let apart = |a: usize, b: usize| f64::midpoint(width(a), width(b));
    let mut column = vec![0.0; stops.len()];
    for row in rows {
        for pair in row.windows(2) {
            column[pair[1]] = column[pair[0]] + apart(pair[0], pair[1]);
        }
    }
    for sweep in 0..2 * SWEEPS {
        let order: Vec<&Vec<usize>> = if sweep % 2 == 0 { rows.iter().collect() } else { rows.iter().rev().collect() };
        for row in order {
            let near = |stop: &Stop| [stop.above.as_slice(), &stop.below].concat();
            let wish: Vec<f64> =
                row.iter().map(|&stop| mean(&near(&stops[stop]), &column).unwrap_or(column[stop])).collect();
            // As far left and as far right as the wishes go; the middle keeps the room as both ends do.
            let (mut left, mut right) = (wish.clone(), wish);
            for i in 1..row.len() {
                left[i] = left[i].max(left[i - 1] + apart(row[i - 1], row[i]));
            }
            for i in (1..row.len()).rev() {
                right[i - 1] = right[i - 1].min(right[i] - apart(row[i - 1], row[i]));
            }
            for (i, &stop) in row.iter().enumerate() {
                column[stop] = f64::midpoint(left[i], right[i]);
            }
        }
    }
    let first = column.iter().copied().fold(f64::INFINITY, f64::min);
    column.iter().map(|it| it - first).collect()
}

fn mean(stops: &[usize], values: &[f64]) -> Option<f64> {
    (!stops.is_empty()).then(|| stops.iter().map(|&stop| values[stop]).sum::<f64>() / stops.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_stands_below_what_it_reads_and_close_above_what_reads_it() {
        // 0 → 1 → 2 → 4, 3 → 4: the fourth is needed at the end only.
        let layout = layout(5, &[(0, 1), (1, 2), (2, 4), (3, 4)]);
        let layers: Vec<f64> = layout.places.iter().map(|place| place.1).collect();
        assert_eq!(layers, [0.0, 1.0, 2.0, 2.0, 3.0]);
    }

    #[test]
    fn nodes_of_one_layer_never_overlap_and_long_edges_have_a_point_in_each_layer() {
        let edges: Vec<(usize, usize)> =
            (1..8).map(|to| (0, to)).chain((1..8).map(|from| (from, 8))).chain([(0, 8)]).collect();
        let layout = layout(9, &edges);
        let mut middle: Vec<f64> = layout.places[1..8].iter().map(|place| place.0).collect();
        middle.sort_by(f64::total_cmp);
        assert!(middle.windows(2).all(|pair| pair[1] - pair[0] > 0.999), "{middle:?}");
        assert_eq!(layout.routes[14].len(), 1);
        assert!(layout.places.iter().all(|place| place.0 >= 0.0 && place.0 <= layout.size.0 - 1.0));
    }

    #[test]
    fn edges_that_need_not_cross_do_not() {
        // Two chains, named crosswise.
        let layout = layout(4, &[(0, 3), (1, 2)]);
        let left = |a: usize, b: usize| layout.places[a].0 < layout.places[b].0;
        assert_eq!(left(0, 1), left(3, 2));
    }

    #[test]
    fn nothing_is_drawn_as_nothing() {
        assert_eq!(layout(0, &[]).size, (1.0, 0.0));
    }
}
