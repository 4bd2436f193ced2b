//! Variants as recipes: rows that say all that their pixels depend on.

use evoq_distortions::{Distortion, SHORTEST_SIDE, fitted_size};
use evoq_pictures::{RECIPE, recipe_digest};
use evoq_schemas::Image;
use evoq_stage::bad_input;

use crate::Args;

/// The recipe of a variant of `original`. Whether it is grey is taken from the original: no pixel is made here.
pub(crate) fn recipe(args: &Args, original: &Image, distortion: Distortion, severity: u8) -> anyhow::Result<Image> {
    let (width, height) = fitted_size(original.width, original.height, args.short_side, args.crop);
    if width.min(height) < SHORTEST_SIDE {
        return Err(bad_input(format!(
            "picture `{}` is {width} x {height} pixels; expected at least {SHORTEST_SIDE} a side: leave it out, or enlarge \
             with --short-side and --crop",
            original.image_id
        )));
    }
    let suffix = format!("#{distortion}-{severity}");
    let mut row = Image {
        image_id: format!("{}{suffix}", original.image_id).into(),
        dataset: original.dataset.clone(),
        name: format!("{}{suffix}", original.name),
        image: None,
        width,
        height,
        format: RECIPE.to_owned(),
        digest: String::new(),
        split: original.split,
        grey: original.grey,
        reference_id: Some(original.image_id.clone()),
        distortion: Some(distortion.name().to_owned()),
        severity: Some(severity),
        distortion_seed: Some(args.seed),
        short_side: args.short_side,
        crop: Some(args.crop),
    };
    row.digest = recipe_digest(&row, &original.digest);
    Ok(row)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use evoq_schemas::Split;

    /// The stage's flags as they stand on a command line.
    pub(crate) fn args(flags: &[&str]) -> Args {
        use clap::{Args as _, FromArgMatches};
        let command = Args::augment_args(clap::Command::new("distort"));
        let matches = command.try_get_matches_from(std::iter::once(&"distort").chain(flags)).unwrap();
        Args::from_arg_matches(&matches).unwrap()
    }

    /// The row of a picture of 300 x 200 pixels.
    pub(crate) fn original(name: &str, grey: bool) -> Image {
        Image {
            image_id: format!("set/{name}").into(),
            dataset: "set".to_owned(),
            name: name.to_owned(),
            image: None,
            width: 300,
            height: 200,
            format: "png".to_owned(),
            digest: "d".to_owned(),
            split: Some(Split::Test),
            grey,
            reference_id: None,
            distortion: None,
            severity: None,
            distortion_seed: None,
            short_side: None,
            crop: None,
        }
    }

    #[test]
    fn a_recipe_says_all_that_its_pixels_depend_on() {
        let args = args(&["--short-side", "112", "--seed", "9"]);
        let row = recipe(&args, &original("a.png", false), Distortion::BlurLens, 0).unwrap();
        assert_eq!(row.image_id.as_str(), "set/a.png#blur_lens-0");
        assert_eq!((row.width, row.height), (168, 112));
        assert_eq!(row.reference_id, Some("set/a.png".into()));
        assert_eq!((row.severity, row.distortion_seed), (Some(0), Some(9)));
        assert_eq!((row.short_side, row.crop, row.split), (Some(112), Some(false), Some(Split::Test)));
        assert_eq!(row.digest, recipe_digest(&row, "d"));
    }

    #[test]
    fn a_picture_that_is_too_small_is_refused_before_anything_is_written() {
        let mut small = original("a.png", false);
        small.height = 20;
        let error = recipe(&args(&[]), &small, Distortion::BlurLens, 1).unwrap_err();
        assert!(error.to_string().contains("300 x 20"), "{error}");
        assert!(recipe(&args(&["--short-side", "40", "--crop"]), &small, Distortion::BlurLens, 1).is_ok());
    }

    #[test]
    fn more_variants_than_there_are_is_refused() {
        let flags = ["--types", "pixelate", "--severities", "2-3", "--variants"];
        assert!(args(&[&flags[..], &["2"]].concat()).check().is_ok());
        for count in ["3", "0"] {
            let error = args(&[&flags[..], &[count]].concat()).check().unwrap_err();
            assert!(error.to_string().contains("expected 1 to 2"), "{error}");
        }
    }

    #[test]
    fn a_type_that_is_named_twice_is_refused() {
        let twice = args(&["--types", "pixelate,blur_lens,pixelate", "--variants", "1"]);
        assert!(twice.check().unwrap_err().to_string().contains("pixelate is named twice"));
    }

    #[test]
    fn parameters_are_written_as_they_are_given() {
        let args = args(&["--types", "brightness_darken_shift_RGB", "--severities", "0-5", "--as", "png"]);
        let json = serde_json::to_value(&args).unwrap();
        assert_eq!(json["types"], serde_json::json!(["brightness_darken_shfit_RGB"]));
        assert_eq!((json["severities"].as_str(), json["as"].as_str()), (Some("0-5"), Some("png")));
    }
}
