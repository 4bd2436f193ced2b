//! `evoq-benchmark report ARTIFACT --to FOLDER`: what the stage wrote, as a page of Markdown and a plot for each policy and set.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Parser;
use evoq_artifacts::{Artifact, write_file};
use evoq_schemas::{Correlation, Decoding, Difference, Grouping, Prediction};

use crate::markdown::{fitted, page, short, with_interval};
use crate::plot::plot;
use crate::subset::ALL;

/// Writes report.md and a plot (SVG) for each policy and set; what is there by these names is replaced.
#[derive(Debug, Parser)]
#[command(name = "evoq-benchmark report", bin_name = "evoq-benchmark report")]
struct Report {
    /// What the stage wrote: a folder or a bucket's prefix
    #[arg(value_name = "ARTIFACT")]
    artifact: String,
    /// The folder that the files go to
    #[arg(long, value_name = "FOLDER")]
    to: PathBuf,
}

/// Writes what `arguments`, the command's name first, ask for, and gives the names of the files.
pub(crate) fn text(arguments: &[OsString]) -> anyhow::Result<String> {
    let report = Report::try_parse_from(arguments)?;
    let artifact = Artifact::open(&report.artifact)?;
    let correlations: Vec<Correlation> = artifact.rows()?;
    let differences: Vec<Difference> = artifact.rows()?;
    let predictions: Vec<Prediction> = artifact.rows()?;
    let mut written = String::new();
    let mut write = |name: &str, text: &str| {
        let file = report.to.join(name);
        written.extend([file.display().to_string(), "\n".to_owned()]);
        write_file(&file, text.as_bytes())
    };
    let mut plots = Vec::new();
    let whole = |it: &&Correlation| it.subset == ALL && it.grouping == Grouping::All;
    for row in correlations.iter().filter(whole) {
        let of_row =
            |it: &&Prediction| (&it.policy, &it.dataset, it.decoding) == (&row.policy, &row.dataset, row.decoding);
        let points = predictions.iter().filter(of_row).filter_map(|it| Some((it.score?, it.quality)));
        let (scores, truths): (Vec<f64>, Vec<f64>) = points.unzip();
        // The mean over sets has no pictures of its own.
        if scores.is_empty() {
            continue;
        }
        let caption = caption(row);
        let name = format!("{:03}-{}.svg", plots.len() + 1, file_name(row));
        write(&name, &plot(&caption, &scores, &truths)?)?;
        plots.push((caption.join("; "), name));
    }
    write("report.md", &page(&artifact.manifest, &correlations, &differences, &plots))?;
    Ok(written)
}

/// The lines above a plot.
fn caption(row: &Correlation) -> Vec<String> {
    let replies = match row.decoding {
        Decoding::Sampled => format!("mean of {} sampled replies", row.samples),
        Decoding::Greedy => "greedy reply".to_owned(),
    };
    vec![
        format!("{}: policy {}, {replies}, against {}", row.dataset, short(&row.policy), row.truth),
        format!("{} pictures, {} without a valid reply; brackets: 95 % intervals", row.n, row.n_invalid),
        format!(
            "SRCC {}, PLCC {}",
            with_interval(row.srcc, row.srcc_low, row.srcc_high),
            with_interval(row.plcc, row.plcc_low, row.plcc_high)
        ),
        format!(
            "KRCC {}, RMSE {}",
            with_interval(row.krcc, row.krcc_low, row.krcc_high),
            with_interval(row.rmse, row.rmse_low, row.rmse_high)
        ),
        format!("curve: 5-parameter logistic, PLCC after it {}", fitted(row.plcc_fit5, row.fit5_converged)),
    ]
}

/// Set, policy and decoding in letters that every file system takes.
fn file_name(row: &Correlation) -> String {
    let plain = |it: char| if it.is_ascii_alphanumeric() { it } else { '-' };
    [&row.dataset, &short(&row.policy), row.decoding.as_str()]
        .map(|it| it.chars().map(plain).collect::<String>())
        .join("-")
}
