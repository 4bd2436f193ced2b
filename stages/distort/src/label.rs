//! Short texts on pictures, in a bitmap font of 8 x 8 pixels that is drawn at double height.

use font8x8::legacy::BASIC_LEGACY;
use image::{Rgb, RgbImage};

/// Width of a letter in pixels.
const LETTER: u32 = 8;
/// Height of a line of text in pixels, with a little space around the letters.
pub(crate) const HEIGHT: u32 = 20;

/// The width of `text` in pixels.
pub(crate) fn width(text: &str) -> u32 {
    text.len() as u32 * LETTER
}

/// Draws `text`, of ASCII letters, with its upper left corner at (`x`, `y`). What does not fit on the picture is left out.
pub(crate) fn draw(picture: &mut RgbImage, text: &str, x: u32, y: u32, ink: Rgb<u8>) {
    for (letter, left) in text.bytes().zip((x..).step_by(LETTER as usize)) {
        let rows = BASIC_LEGACY.get(usize::from(letter)).copied().unwrap_or_default();
        for (row, top) in rows.into_iter().zip((y + 2..).step_by(2)) {
            // The lowest bit is the leftmost pixel.
            for bit in (0..LETTER).filter(|bit| row >> bit & 1 == 1) {
                for down in 0..2 {
                    if let Some(pixel) = picture.get_pixel_mut_checked(left + bit, top + down) {
                        *pixel = ink;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_letter_is_drawn_upright_and_nothing_leaves_its_box() {
        let mut picture = RgbImage::new(30, 30);
        draw(&mut picture, "L", 4, 3, Rgb([9; 3]));
        let inked: Vec<_> = picture.enumerate_pixels().filter(|it| it.2.0 == [9; 3]).map(|it| (it.0, it.1)).collect();
        assert!(inked.iter().all(|(x, y)| (4..4 + LETTER).contains(x) && (3..3 + HEIGHT).contains(y)), "{inked:?}");
        // An L has its foot at the bottom and its stem on the left.
        let on_row = |y: u32| inked.iter().filter(|it| it.1 == y).count();
        let (top, bottom) = (inked[0].1, inked[inked.len() - 1].1);
        assert!(on_row(bottom) > on_row(top), "{inked:?}");
        assert!(inked[0].0 < 4 + LETTER / 2);
    }

    #[test]
    fn text_that_does_not_fit_is_cut() {
        let mut picture = RgbImage::new(10, 10);
        draw(&mut picture, "A long text, with Ω", 5, 5, Rgb([255; 3]));
        assert!(picture.pixels().any(|it| it.0 == [255; 3]));
    }
}
