//! Without any folder at hand: against fingerprints of an implementation in `NumPy`, `SciPy` and Pillow
//! (`independent.py`), and the laws that all types keep.

use evoq_distortions::{Distortion, Error, Group, Severity, distort, fit, resize};
use image::{Rgb, RgbImage};
use serde_json::Value;

/// The picture that `independent.py` makes.
fn picture() -> RgbImage {
    let (width, height) = (59, 46);
    RgbImage::from_fn(width, height, |x, y| {
        if x < 12 && y < 12 {
            return Rgb([40, 130, 200]);
        }
        if y >= height - 8 && x < 8 {
            return Rgb([0; 3]);
        }
        if y >= height - 8 && x >= width - 8 {
            return Rgb([255; 3]);
        }
        let (x, y) = (i64::from(x), i64::from(y));
        let texture = (x * x * 7 + y * y * 11 + x * y * 13) % 61;
        Rgb([x * 3 + texture, y * 4 + texture * 2, 255 - x * 2 - y - texture].map(|level| level.clamp(0, 255) as u8))
    })
}

/// FNV-1a of the samples, 64 bits.
fn fingerprint(picture: &RgbImage) -> String {
    let step = |number: u64, byte: &u8| (number ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    format!("{:016x}", picture.iter().fold(0xcbf2_9ce4_8422_2325, step))
}

fn expected() -> Value {
    serde_json::from_str(include_str!("independent.json")).unwrap()
}

fn distorted(picture: &RgbImage, distortion: Distortion, severity: Severity, key: u8) -> RgbImage {
    distort(picture, distortion, severity, &[key; 32], None).unwrap()
}

fn psnr(a: &RgbImage, b: &RgbImage) -> f64 {
    let squares: f64 = a.iter().zip(b.iter()).map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2)).sum();
    10.0 * (255.0 * 255.0 * a.len() as f64 / squares).log10()
}

#[test]
fn types_without_draws_give_the_samples_of_another_implementation() {
    let (picture, expected) = (picture(), expected());
    assert_eq!(expected["picture"], fingerprint(&picture), "the pictures differ already");
    let types = expected["types"].as_object().unwrap();
    let directed = |distortion: Distortion| (distortion == Distortion::BlurMotion).then_some(30.0);
    let fixed = Distortion::ALL.into_iter().filter(|&d| !d.random() || directed(d).is_some());
    let mut compared = 0;
    for distortion in fixed {
        for (severity, expected) in Severity::ALL.into_iter().zip(types[distortion.name()].as_array().unwrap()) {
            let made = distort(&picture, distortion, severity, &[0; 32], directed(distortion)).unwrap();
            assert_eq!(*expected, fingerprint(&made), "{distortion} at {severity}");
            compared += 1;
        }
    }
    assert_eq!(compared, 5 * types.len());
}

#[test]
fn bicubic_gives_pillows_samples() {
    let picture = picture();
    for (size, expected) in expected()["bicubic"].as_object().unwrap() {
        let (width, height) = size.split_once('x').unwrap();
        let resized = resize::bicubic(&picture, width.parse().unwrap(), height.parse().unwrap());
        assert_eq!(*expected, fingerprint(&resized), "{size}");
    }
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

/// A picture with detail at every scale, as photographs have: noise of 4, 8, ... 128 pixels a side, enlarged and added.
fn fractal() -> RgbImage {
    let mut number = 1_u32;
    let mut noise = |side| {
        RgbImage::from_fn(side, side, |_, _| {
            number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            Rgb([number >> 24, number >> 16, number >> 8].map(|bits| bits as u8))
        })
    };
    let octaves = [4, 8, 16, 32, 64, 128].map(|side| resize::bicubic(&noise(side), 192, 160));
    let mut sum = RgbImage::new(192, 160);
    for (i, sample) in sum.iter_mut().enumerate() {
        let weighted = (1..).zip(&octaves).map(|(octave, picture)| u32::from(picture.as_raw()[i]) >> octave);
        *sample = weighted.sum::<u32>() as u8;
    }
    sum
}

#[test]
fn psnr_falls_with_severity() {
    let picture = fractal();
    for distortion in Distortion::ALL {
        // The mean over keys, for a motion's direction counts for more than its length on a small picture.
        let strength = |severity| {
            let of_key = |key| psnr(&distorted(&picture, distortion, severity, key), &picture);
            (0..16).map(of_key).sum::<f64>() / 16.0
        };
        let strengths = Severity::ALL.map(strength);
        assert!(strengths.is_sorted_by(|mild, strong| mild > strong), "{distortion}: {strengths:?}");
    }
}

#[test]
fn saturation_types_alone_leave_grey_as_it_is() {
    let mut grey = picture();
    for pixel in grey.pixels_mut() {
        pixel.0 = [pixel.0[1]; 3];
    }
    for distortion in Distortion::ALL {
        let changed = distorted(&grey, distortion, Severity::ALL[4], 1) != grey;
        assert_eq!(changed, distortion.changes_grey(), "{distortion}");
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
    let names = |group: Group| Distortion::ALL.into_iter().filter(move |d| d.group() == group).map(Distortion::name);
    assert_eq!(
        names(Group::Darken).collect::<Vec<_>>(),
        ["brightness_darken_shfit_RGB", "brightness_darken_gamma_RGB"]
    );
    assert_eq!(names(Group::Noise).count(), 6);
}
