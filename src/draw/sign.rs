//! The sign across the last picture of a live input that is lost.

use std::time::Duration;

use crate::Result;
use crate::frame::{Colour, I420Mut, Range};

use super::canvas::{Canvas, Rect, Sprite};
use super::colour::encode;
use super::text::{Font, Weight};

/// "No signal" and for how long.
#[derive(Debug)]
pub(super) struct Sign {
    font: Font,
    canvas: Canvas,
    sprite: Sprite,
    /// The inputs of `sprite`.
    shown: Option<(u64, usize, Colour)>,
}

impl Sign {
    pub fn new() -> Result<Self> {
        Ok(Self { font: Font::new()?, canvas: Canvas::default(), sprite: Sprite::default(), shown: None })
    }

    /// Halves the contrast of `picture` and blends the sign onto its middle; a picture too small for it is only
    /// darkened.
    pub fn draw(&mut self, picture: &mut I420Mut<'_>, age: Duration) {
        darken(picture);
        // Sixteen ems fit the width of the words with room around them.
        let em = (picture.width() as f32 / 16.0).min(picture.height() as f32 / 6.0).min(64.0);
        if em < 8.0 {
            return;
        }
        let key = (age.as_secs(), (em * 4.0) as usize, picture.colour);
        if self.shown != Some(key) {
            self.compose(em, &for_people(age.as_secs()), picture.colour);
            self.shown = Some(key);
        }
        let at = |whole: usize, part: usize| (whole.saturating_sub(part) / 2) & !1;
        let (x, y) = (at(picture.width(), self.canvas.width), at(picture.height(), self.canvas.height));
        self.sprite.lay(picture, x, y);
    }

    fn compose(&mut self, em: f32, age: &str, colour: Colour) {
        let (white, grey, black) = (encode([255; 3], colour), encode([205; 3], colour), encode([0; 3], colour));
        let (width, height) = (10.0 * em, 3.4 * em);
        self.canvas.clear(width.ceil() as usize, height.ceil() as usize);
        self.canvas.fill(Rect { x: 0.0, y: 0.0, width, height, radius: 0.4 * em }, |_| (black, 0.75));
        for (text, weight, size, line, ink) in
            [("NO SIGNAL", Weight::Bold, 1.3 * em, 1.55 * em, white), (age, Weight::Regular, 0.8 * em, 2.75 * em, grey)]
        {
            let x = (width - self.font.width(weight, size, text)) / 2.0;
            self.canvas.text(&mut self.font, weight, size, text, (x, line), (ink, 1.0));
        }
        self.sprite.set(&self.canvas);
    }
}

/// `for 7 s`, `for 3 min`, `for 2 h`.
fn for_people(seconds: u64) -> String {
    match seconds {
        0..120 => format!("for {seconds} s"),
        120..7200 => format!("for {} min", seconds / 60),
        _ => format!("for {} h", seconds / 3600),
    }
}

/// Luma halfway to black, chroma halfway to grey.
fn darken(picture: &mut I420Mut<'_>) {
    let black = if picture.colour.range == Range::Full { 0 } else { 16 };
    for (plane, rest) in [(&mut picture.y, black), (&mut picture.u, 128), (&mut picture.v, 128)] {
        for y in 0..plane.rows {
            for value in plane.row_mut(y) {
                *value = ((u16::from(*value) + rest) / 2) as u8;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{Matrix, PlaneMut};

    fn with_picture(width: usize, height: usize, draw: impl FnOnce(&mut I420Mut<'_>)) -> Vec<u8> {
        let (cw, ch) = (width.div_ceil(2), height.div_ceil(2));
        let (mut y, mut u, mut v) = (vec![180; width * height], vec![90; cw * ch], vec![160; cw * ch]);
        let plane = |data, columns, rows| PlaneMut { data, stride: columns, columns, rows };
        let colour = Colour { matrix: Matrix::Bt709, range: Range::Limited };
        draw(&mut I420Mut {
            y: plane(&mut y, width, height),
            u: plane(&mut u, cw, ch),
            v: plane(&mut v, cw, ch),
            colour,
        });
        y
    }

    #[test]
    fn the_sign_is_in_the_middle_of_a_darkened_picture() {
        let mut sign = Sign::new().unwrap();
        let (width, height) = (641, 359);
        let luma = with_picture(width, height, |picture| sign.draw(picture, Duration::from_secs(75)));
        assert_eq!(luma[0], (180 + 16) / 2);
        let (rows, columns) = (height / 2 - 50..height / 2 + 10, width / 2 - 130..width / 2 + 130);
        let inside: Vec<u8> = rows.flat_map(|y| luma[y * width..][columns.clone()].iter().copied()).collect();
        assert!(inside.iter().any(|&value| value > 200), "white letters");
        assert!(inside.iter().any(|&value| value < 60), "a dark panel");
        for (width, height) in [(2, 2), (33, 500), (1, 1)] {
            with_picture(width, height, |picture| sign.draw(picture, Duration::from_secs(9000)));
        }
    }

    #[test]
    fn times_are_for_people() {
        assert_eq!([7, 180, 7300].map(for_people), ["for 7 s", "for 3 min", "for 2 h"]);
    }
}
