//! Edit lists of MP4 and MOV files: the shown parts of a track, and their times.
//!
//! GStreamer's demuxer clips audio at the edges of an edit, ignores encoder priming, and loses frames at the
//! boundaries. So it is given lists that show everything ([`super::index`]), and media times are mapped to movie times
//! here, for all kinds of tracks alike.

/// Audio up to this long before the first edit is kept, hidden: decoders need the samples before the first audible one,
/// and a cut that copies packets leaves the rest of a group of pictures. Nanoseconds.
const PREROLL: i64 = 10_000_000_000;
/// Tolerance for rounding to ticks of two timescales, in nanoseconds.
const ROUNDING: i64 = 2_000;

/// The edits of a track in presentation order. Times in nanoseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EditList(Vec<Edit>);

/// A shown part of the media.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Edit {
    /// Start in the movie.
    pub movie: i64,
    /// Start in the media.
    pub media: i64,
    /// Duration; none: to the end of the track.
    pub duration: Option<i64>,
}

impl EditList {
    /// Converts the entries of an `elst` box (duration in ticks of the movie, start in ticks of the media or -1 for an
    /// empty edit, rate in 16.16) with the timescales of movie and media.
    ///
    /// None for a part shown twice, out of order or at another speed: such lists are left to the demuxer.
    pub fn new(entries: &[(u64, i64, u32)], movie_scale: u32, media_scale: u32) -> Option<Self> {
        let nanoseconds = |ticks: i128, scale: u32| {
            i64::try_from(ticks * 1_000_000_000 / i128::from(scale.max(1))).ok().filter(|t| t.abs() < i64::MAX / 4)
        };
        let mut edits: Vec<Edit> = Vec::new();
        let mut movie = 0i128;
        for (duration, media, rate) in entries {
            let open = *duration == 0 && *media >= 0;
            if *media >= 0 {
                // Some programs write 1 instead of 1.0.
                if *rate > 1 && *rate != 0x0001_0000 {
                    return None;
                }
                let edit = Edit {
                    movie: nanoseconds(movie, movie_scale)?,
                    media: nanoseconds(i128::from(*media), media_scale)?,
                    duration: if open { None } else { Some(nanoseconds(i128::from(*duration), movie_scale)?) },
                };
                if let Some(before) = edits.last()
                    && before.end().is_none_or(|end| edit.media < end - 1_000_000)
                {
                    return None;
                }
                edits.push(edit);
            }
            movie += i128::from(*duration);
            if open {
                break;
            }
        }
        (!edits.is_empty()).then_some(Self(edits))
    }

    /// Movie time of the frame at `media`; none if it is hidden.
    pub fn frame(&self, media: i64) -> Option<i64> {
        self.0.iter().find(|edit| edit.holds(media)).map(|edit| edit.movie + media - edit.media)
    }

    /// Movie time of an audio or text packet: before the start of its edit if only its end is shown. None if no part of
    /// it is shown.
    pub fn packet(&self, media: i64, duration: i64) -> Option<i64> {
        for (number, edit) in self.0.iter().enumerate() {
            let time = edit.movie + media - edit.media;
            let middle = media + duration / 2;
            if edit.holds(media) || (number > 0 && edit.holds(middle)) {
                return (number == 0 || edit.holds(middle)).then_some(time);
            }
            if number == 0 && media < edit.media && media >= edit.media - PREROLL {
                return Some(time);
            }
        }
        None
    }

    /// The end of the last edit; none if it lasts to the end of the track.
    #[cfg(test)]
    fn end(&self) -> Option<i64> {
        let last = self.0.last()?;
        Some(last.movie + last.duration?)
    }
}

impl Edit {
    fn end(&self) -> Option<i64> {
        Some(self.media + self.duration?)
    }

    fn holds(&self, media: i64) -> bool {
        media + ROUNDING >= self.media && self.end().is_none_or(|end| media + ROUNDING < end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: u32 = 0x0001_0000;
    const SECOND: i64 = 1_000_000_000;

    #[test]
    fn gaps_offsets_and_several_parts() {
        // An empty edit of half a second, one second from 0.08 s on, then the third second.
        let list = EditList::new(&[(500, -1, ONE), (1000, 1024, ONE), (1000, 25_600, ONE)], 1000, 12_800).unwrap();
        assert_eq!(list.frame(0), None);
        assert_eq!(list.frame(80_000_000), Some(SECOND / 2));
        assert_eq!(list.frame(1_040_000_000), Some(SECOND / 2 + 960_000_000));
        assert_eq!(list.frame(1_080_000_000), None);
        assert_eq!(list.frame(2 * SECOND), Some(3 * SECOND / 2));
        assert_eq!(list.frame(3 * SECOND), None);
        assert_eq!(list.end(), Some(5 * SECOND / 2));
    }

    #[test]
    fn sound_keeps_what_its_decoder_needs_first() {
        let list = EditList::new(&[(2000, 1024, ONE)], 1000, 48_000).unwrap();
        let packet = 21_333_333;
        assert_eq!(list.packet(0, packet), Some(-21_333_333));
        assert_eq!(list.packet(2 * SECOND, packet), Some(2 * SECOND - 21_333_333));
        assert_eq!(list.packet(2 * SECOND + 2 * packet, packet), None);
    }

    #[test]
    fn an_open_end_and_what_is_not_modelled() {
        let list = EditList::new(&[(0, 0, ONE)], 1000, 12_800).unwrap();
        assert_eq!((list.frame(1 << 50), list.end()), (Some(1 << 50), None));
        assert_eq!(EditList::new(&[(1000, 25_600, ONE), (1000, 0, ONE)], 1000, 12_800), None);
        assert_eq!(EditList::new(&[(1000, 0, ONE / 2)], 1000, 12_800), None);
        assert_eq!(EditList::new(&[], 1000, 12_800), None);
    }
}
