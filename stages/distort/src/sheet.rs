//! `evoq-distort sheet`: one picture and all its types at a severity, side by side, for people to look at.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use evoq_distortions::resize::bicubic;
use evoq_distortions::{Distortion, Group};
use evoq_pictures::distorted;
use evoq_stage::bad_input;
use image::{Rgb, RgbImage, imageops};
use rayon::prelude::*;

use crate::{by_hand, label};

/// Pixels between two cells, and around the sheet.
const GAP: u32 = 8;
/// What lies between the cells.
const PAPER: Rgb<u8> = Rgb([255; 3]);
/// The colour of the labels.
const INK: Rgb<u8> = Rgb([0; 3]);

/// Draws a sheet of one picture: itself, then every type at a severity, the types of a group side by side. The picture is
/// brought down to the width of a cell before it is distorted, so that each pixel of the sheet is one of a variant.
#[derive(Debug, Parser)]
#[command(name = "evoq-distort sheet")]
struct Sheet {
    /// The severity, 1 to 5.
    #[arg(long, value_name = "S", value_parser = clap::value_parser!(u8).range(1..=5))]
    severity: u8,
    /// How many pictures stand side by side.
    #[arg(long, value_name = "N", default_value_t = 6, value_parser = clap::value_parser!(u32).range(1..=64))]
    columns: u32,
    /// The width of a picture on the sheet, in pixels.
    #[arg(long, value_name = "PIXELS", default_value_t = 320, value_parser = clap::value_parser!(u32).range(32..=2048))]
    width: u32,
    /// The seed of the draws.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// The picture: PNG, JPEG, WebP, TIFF or BMP.
    #[arg(value_name = "IN")]
    input: PathBuf,
    /// Where the PNG file goes; what is there is replaced.
    #[arg(value_name = "OUT.png")]
    output: PathBuf,
}

/// Runs the command; exit codes as for stages.
pub(crate) fn main(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    by_hand::main(arguments, run)
}

fn run(sheet: &Sheet) -> anyhow::Result<()> {
    let fitted = narrowed(by_hand::read(&sheet.input, &sheet.output)?, sheet.width);
    let lines = lines(sheet.columns as usize);
    let drawn = lines.par_iter().map(|line| {
        let picture = |it: &Option<Distortion>| match it {
            Some(it) => distorted(&fitted, *it, sheet.severity, (sheet.seed, ""), None),
            None => Ok(fitted.clone()),
        };
        line.par_iter().map(picture).collect::<Result<Vec<_>, _>>()
    });
    let drawn: Vec<Vec<RgbImage>> = drawn
        .collect::<Result<_, _>>()
        .map_err(|error| bad_input(format!("{} at a width of {}: {error}", sheet.input.display(), fitted.width())))?;
    by_hand::write(&sheet.output, &paper(&lines, &drawn, sheet))
}

/// `picture`, brought down to at most `width` pixels across.
fn narrowed(picture: RgbImage, width: u32) -> RgbImage {
    if picture.width() <= width {
        return picture;
    }
    let height = f64::from(picture.height()) * f64::from(width) / f64::from(picture.width());
    bicubic(&picture, width, height.round() as u32)
}

/// What stands on each line of a sheet: the picture itself (`None`) first, then the types. A group is put on the first line
/// that has room for all of it; one that is longer than a line has lines of its own.
fn lines(columns: usize) -> Vec<Vec<Option<Distortion>>> {
    let mut lines = vec![vec![None]];
    for group in Group::ALL {
        let types: Vec<_> = Distortion::ALL.into_iter().filter(|it| it.group() == group).map(Some).collect();
        for piece in types.chunks(columns) {
            match lines.iter_mut().find(|line| line.len() + types.len() <= columns) {
                Some(line) => line.extend_from_slice(piece),
                None => lines.push(piece.to_vec()),
            }
        }
    }
    lines
}

/// The pictures of all lines, which are of one size, on one sheet with their labels above them.
fn paper(lines: &[Vec<Option<Distortion>>], drawn: &[Vec<RgbImage>], sheet: &Sheet) -> RgbImage {
    let name = |it: &Option<Distortion>| match it {
        Some(it) => format!("{it} {}", sheet.severity),
        None => "original".to_owned(),
    };
    let (width, height) = drawn[0][0].dimensions();
    let widest = lines.iter().flatten().map(|it| label::width(&name(it))).max().unwrap_or_default();
    let (across, down) = (width.max(widest) + GAP, label::HEIGHT + height + GAP);
    let columns = lines.iter().map(Vec::len).max().unwrap_or_default() as u32;
    let mut paper = RgbImage::from_pixel(columns * across + GAP, lines.len() as u32 * down + GAP, PAPER);
    for (y, (line, pictures)) in (GAP..).step_by(down as usize).zip(lines.iter().zip(drawn)) {
        for (x, (it, picture)) in (GAP..).step_by(across as usize).zip(line.iter().zip(pictures)) {
            label::draw(&mut paper, &name(it), x, y, INK);
            imageops::replace(&mut paper, picture, i64::from(x), i64::from(y + label::HEIGHT));
        }
    }
    paper
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_type_stands_on_a_sheet_once_and_the_picture_first() {
        for columns in [1, 4, 6, 64] {
            let lines = lines(columns);
            assert_eq!(lines[0][0], None);
            assert!(lines.iter().all(|line| line.len() <= columns), "{lines:?}");
            let types: Vec<_> = lines.iter().flatten().flatten().collect();
            assert_eq!(types.len(), Distortion::ALL.len());
            assert_eq!(types.iter().collect::<BTreeSet<_>>().len(), types.len());
        }
    }

    #[test]
    fn the_types_of_a_group_stand_side_by_side_on_one_line() {
        let lines = lines(6);
        for group in Group::ALL {
            let is_member = |it: &Option<Distortion>| it.is_some_and(|it| it.group() == group);
            let with: Vec<_> = lines.iter().filter(|line| line.iter().any(is_member)).collect();
            let [line] = with[..] else { panic!("{group} is on {} lines", with.len()) };
            let runs = line.chunk_by(|a, b| is_member(a) == is_member(b)).filter(|run| is_member(&run[0])).count();
            assert_eq!(runs, 1, "{group}");
        }
    }

    #[test]
    fn a_wide_picture_is_narrowed_and_a_small_one_stays() {
        assert_eq!(narrowed(RgbImage::new(1024, 768), 320).dimensions(), (320, 240));
        assert_eq!(narrowed(RgbImage::new(300, 900), 320).dimensions(), (300, 900));
    }
}
