//! Without any folder at hand: against fingerprints of an implementation in `NumPy`, `SciPy`, scikit-image, `OpenCV` and
//! Pillow (`independent.py`).

#[expect(dead_code, reason = "the fractal is for the laws")]
mod made;

use evoq_distortions::{Distortion, Severity, distort, resize};
use image::{Rgb, RgbImage};
use made::{bytes, noise, picture, psnr};
use serde_json::Value;

/// The other pictures that `independent.py` makes: noise, strong and faint, ramps, and pictures of few levels, down to one.
fn others() -> [(&'static str, RgbImage); 9] {
    let mapped = |width, height, f: fn(u8) -> u8| {
        let mut picture = noise(width, height);
        picture.iter_mut().for_each(|level| *level = f(*level));
        picture
    };
    let ramp = |at: u32, length: u32| (at * 255 / (length - 1)) as u8;
    let mut greys = bytes();
    [
        ("noise", noise(101, 67)),
        ("faint", mapped(33, 57, |level| 100 + level / 32)),
        ("ramps", RgbImage::from_fn(57, 33, |x, y| Rgb([ramp(x, 57), ramp(y, 33), ramp(x + y, 89)]))),
        ("grey", RgbImage::from_fn(33, 64, |_, _| Rgb([greys.next().unwrap(); 3]))),
        ("two levels", mapped(64, 48, |level| 85 + level / 128 * 85)),
        ("six levels", mapped(45, 40, |level| level / 51 * 51)),
        ("flat", RgbImage::from_pixel(45, 40, Rgb([10, 200, 90]))),
        ("black", RgbImage::new(32, 32)),
        ("white", RgbImage::from_pixel(32, 32, Rgb([255; 3]))),
    ]
}

/// FNV-1a of samples, 64 bits.
fn fingerprint<'a>(samples: impl IntoIterator<Item = &'a u8>) -> String {
    let step = |number: u64, byte: &u8| (number ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    format!("{:016x}", samples.into_iter().fold(0xcbf2_9ce4_8422_2325, step))
}

fn expected() -> Value {
    serde_json::from_str(include_str!("independent.json")).unwrap()
}

#[test]
fn types_without_draws_give_the_samples_of_another_implementation() {
    let (picture, expected) = (picture(), expected());
    assert_eq!(expected["picture"], fingerprint(picture.iter()), "the pictures differ already");
    let types = expected["types"].as_object().unwrap();
    let directed = |distortion: Distortion| (distortion == Distortion::BlurMotion).then_some(30.0);
    let fixed = Distortion::ALL.into_iter().filter(|&d| !d.random() || directed(d).is_some());
    let mut compared = 0;
    for distortion in fixed {
        for (severity, expected) in Severity::ALL.into_iter().zip(types[distortion.name()].as_array().unwrap()) {
            let made = distort(&picture, distortion, severity, &[0; 32], directed(distortion)).unwrap();
            assert_eq!(*expected, fingerprint(made.iter()), "{distortion} at {severity}");
            compared += 1;
        }
    }
    assert_eq!(compared, 5 * types.len());
}

#[test]
fn pictures_of_noise_and_of_few_levels_are_no_exception() {
    let expected = expected();
    for (name, picture) in others() {
        let expected = &expected["pictures"][name];
        assert_eq!(expected["picture"], fingerprint(picture.iter()), "the pictures named {name} differ already");
        for (distortion, expected) in expected["types"].as_object().unwrap() {
            let distortion = distortion.parse().unwrap();
            let made = Severity::ALL.map(|severity| distort(&picture, distortion, severity, &[0; 32], None).unwrap());
            assert_eq!(*expected, fingerprint(made.iter().flat_map(|made| made.iter())), "{distortion} of {name}");
        }
    }
}

#[test]
fn shuffled_pixels_are_as_far_off_as_in_another_implementation() {
    let picture = picture();
    for (distortion, expected) in expected()["strengths"].as_object().unwrap() {
        let distortion: Distortion = distortion.parse().unwrap();
        for (severity, expected) in Severity::ALL.into_iter().zip(expected.as_array().unwrap()) {
            let of_key = |key| psnr(&distort(&picture, distortion, severity, &[key; 32], None).unwrap(), &picture);
            let mean = (0..20).map(of_key).sum::<f64>() / 20.0;
            // Each is the mean of 20 numbers that spread by up to 0.15 dB.
            assert!(
                (mean - expected.as_f64().unwrap()).abs() < 0.15,
                "{distortion} at {severity}: {mean}, not {expected}"
            );
        }
    }
}

#[test]
fn bicubic_gives_pillows_samples() {
    let picture = picture();
    for (size, expected) in expected()["bicubic"].as_object().unwrap() {
        let (width, height) = size.split_once('x').unwrap();
        let resized = resize::bicubic(&picture, width.parse().unwrap(), height.parse().unwrap());
        assert_eq!(*expected, fingerprint(resized.iter()), "{size}");
    }
}
