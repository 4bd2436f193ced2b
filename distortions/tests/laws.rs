//! The laws that all types keep.

mod made;

use std::collections::HashSet;

use evoq_distortions::{Distortion, Error, Severity, distort, fit, fitted_size};
use image::{Rgb, RgbImage};
use made::{fractal, noise, picture, psnr};
use rayon::ThreadPoolBuilder;

fn distorted(picture: &RgbImage, distortion: Distortion, severity: Severity, key: u8) -> RgbImage {
    distort(picture, distortion, severity, &[key; 32], None).unwrap()
}

#[test]
fn a_random_type_follows_its_key_and_no_other_does() {
    let picture = picture();
    for distortion in Distortion::ALL {
        let made = |key| distorted(&picture, distortion, Severity::ALL[2], key);
        assert!(made(1) == made(1), "{distortion}");
        assert_eq!(made(1) != made(2), distortion.random(), "{distortion}");
    }
}

#[test]
fn the_number_of_threads_changes_nothing() {
    // Some bands and blocks of rows, the last ones not full.
    let picture = noise(331, 173);
    let on_threads = |threads: usize| {
        let pool = ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let made = |distortion| Severity::ALL.map(|severity| distorted(&picture, distortion, severity, 1));
        pool.install(|| Distortion::ALL.map(made))
    };
    let [one, two, five] = [1, 2, 5].map(on_threads);
    for (i, distortion) in Distortion::ALL.into_iter().enumerate() {
        assert!(one[i] == two[i] && one[i] == five[i], "{distortion}");
    }
}

#[test]
fn psnr_falls_with_severity() {
    let picture = fractal();
    for distortion in Distortion::ALL {
        // The mean over keys, for a motion's direction counts for more than its length on a small picture.
        let keys = if distortion.random() { 16 } else { 1 };
        let strength = |severity| {
            let of_key = |key| psnr(&distorted(&picture, distortion, severity, key), &picture);
            (0..keys).map(of_key).sum::<f64>() / f64::from(keys)
        };
        let strengths = Severity::ALL.map(strength);
        for (i, pair) in strengths.windows(2).enumerate() {
            // Otsu's 8 classes may lie nearer to the picture than its 11, for a class is put on its lower bound.
            let exempt = distortion == Distortion::QuantizationOtsu && i == 1;
            assert!(pair[0] > pair[1] || exempt, "{distortion}: {strengths:?}");
        }
    }
}

#[test]
fn quantised_channels_have_no_more_levels_than_the_severity_allows() {
    let levels = |samples: &mut dyn Iterator<Item = &u8>| samples.collect::<HashSet<_>>().len();
    for picture in [fractal(), picture(), noise(64, 48)] {
        for (severity, [classes, colours, bins]) in
            Severity::ALL.into_iter().zip([[15, 20, 24], [11, 15, 16], [8, 10, 8], [5, 6, 6], [3, 3, 4]])
        {
            let [otsu, median, hist] =
                [Distortion::QuantizationOtsu, Distortion::QuantizationMedian, Distortion::QuantizationHist]
                    .map(|distortion| distorted(&picture, distortion, severity, 0));
            for channel in 0..3 {
                assert_eq!(levels(&mut otsu.iter().skip(channel).step_by(3)), classes, "otsu at {severity}");
                assert!(levels(&mut median.iter().skip(channel).step_by(3)) <= colours, "median at {severity}");
            }
            assert!(levels(&mut hist.iter()) <= bins, "hist at {severity}");
        }
    }
}

#[test]
fn saturation_types_alone_leave_grey_as_it_is() {
    let mut grey = picture();
    for pixel in grey.pixels_mut() {
        pixel.0 = [pixel.0[1]; 3];
    }
    for distortion in Distortion::ALL {
        for severity in Severity::ALL {
            let changed = distorted(&grey, distortion, severity, 1) != grey;
            assert_eq!(changed, distortion.changes_grey(), "{distortion} at {severity}");
        }
    }
}

#[test]
fn weakest_saturation_is_grey() {
    let is_grey = |picture: &RgbImage| picture.pixels().all(|pixel| pixel.0 == [pixel.0[0]; 3]);
    for distortion in [Distortion::SaturateWeakenHsv, Distortion::SaturateWeakenYcrcb] {
        assert!(is_grey(&distorted(&picture(), distortion, Severity::ALL[4], 0)), "{distortion}");
        assert!(!is_grey(&distorted(&picture(), distortion, Severity::ALL[3], 0)), "{distortion}");
    }
}

#[test]
fn no_type_fails_on_a_picture_of_one_level() {
    for level in [0, 1, 128, 254, 255] {
        let flat = RgbImage::from_pixel(40, 33, Rgb([level; 3]));
        for distortion in Distortion::ALL {
            for severity in Severity::ALL {
                assert_eq!(distorted(&flat, distortion, severity, 3).dimensions(), (40, 33));
            }
        }
    }
}

#[test]
fn a_motion_without_an_angle_draws_one_from_its_key() {
    let picture = picture();
    let made = |key: u8| distorted(&picture, Distortion::BlurMotion, Severity::ALL[4], key);
    let directions: Vec<RgbImage> = (0..4).map(made).collect();
    assert!((1..4).all(|i| directions[i] != directions[0]));
}

#[test]
fn what_cannot_be_distorted_is_an_error_that_says_so() {
    let (key, severity) = ([0; 32], Severity::ALL[0]);
    let narrow = RgbImage::new(31, 64);
    let error = distort(&narrow, Distortion::Pixelate, severity, &key, None).unwrap_err();
    assert_eq!(error, Error::TooSmall { width: 31, height: 64 });
    assert_eq!(error.to_string(), "picture is 31x64 pixels, expected at least 32 a side: leave it out or enlarge it");
    let error = distort(&picture(), Distortion::BlurLens, severity, &key, Some(3.0)).unwrap_err();
    assert_eq!(error, Error::AngleNotTaken(Distortion::BlurLens));
    let error = distort(&picture(), Distortion::BlurMotion, severity, &key, Some(f64::INFINITY)).unwrap_err();
    assert_eq!(error, Error::AngleNotFinite(f64::INFINITY));
}

#[test]
fn the_smallest_picture_can_be_distorted_by_every_type() {
    let small = RgbImage::from_fn(32, 32, |x, y| Rgb([(x * 8) as u8, (y * 8) as u8, ((x * y) % 256) as u8]));
    for distortion in Distortion::ALL {
        for severity in Severity::ALL {
            assert_eq!(distorted(&small, distortion, severity, 3).dimensions(), (32, 32));
        }
    }
}

#[test]
fn fit_shrinks_to_the_short_side_and_crops_to_the_square() {
    let picture = picture();
    let size = |short_side, crop| fit(&picture, short_side, crop).dimensions();
    assert_eq!(size(None, false), (59, 46));
    assert_eq!(size(Some(46), false), (59, 46));
    assert_eq!(size(Some(40), false), (51, 40));
    assert_eq!(size(Some(64), false), (59, 46));
    assert_eq!(size(Some(64), true), (64, 64));
    assert_eq!(size(Some(40), true), (40, 40));
    // The square lies in the middle: 5 columns are cut on the left and 6 on the right.
    let (resized, cut) = (fit(&picture, Some(40), false), fit(&picture, Some(40), true));
    assert_eq!(cut.get_pixel(0, 7), resized.get_pixel(5, 7));
}

#[test]
fn groups_hold_kindred_types() {
    for distortion in Distortion::ALL {
        let (name, group) = (distortion.name(), distortion.group().name());
        assert!(name.contains(group), "{name} is in the group {group}");
    }
}

#[test]
fn the_fitted_size_is_the_size_that_fit_gives() {
    for (width, height) in [(64, 48), (48, 64), (75, 33), (40, 40), (33, 101)] {
        let picture = noise(width, height);
        for (side, crop) in [(None, false), (Some(33), false), (Some(40), false), (Some(50), true), (Some(37), true)] {
            let size = fit(&picture, side, crop).dimensions();
            assert_eq!(fitted_size(width, height, side, crop), size, "{width} {height} {side:?} {crop}");
        }
    }
}
