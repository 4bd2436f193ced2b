//! Why pairs cannot be drawn: each a one-line fault of the flags or of the tables given.

use evoq_schemas::{Design, ImageId};

/// Why pairs cannot be drawn.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    /// A picture stands twice in the tables.
    #[error("--images: the picture `{0}` is there twice; ids are unique: give each table once")]
    Duplicate(ImageId),
    /// There are fewer pairs than were asked for.
    #[error(
        "--count {asked}: the {pictures} pictures given make {found} different pairs by --design {design}; ask for no more \
         than that, or give more {what}"
    )]
    TooFew {
        /// How many were asked for.
        asked: u32,
        /// How many there are.
        found: u64,
        /// How many pictures there are.
        pictures: usize,
        /// The design.
        design: Design,
        /// What would make more pairs.
        what: &'static str,
    },
    /// Triangles are asked of a design that plants none.
    #[error("--triangles {asked}: --design {design} plants none; add --design balanced, or leave --triangles out")]
    NoTriangles {
        /// How many were asked for.
        asked: u32,
        /// The design.
        design: Design,
    },
    /// There are not enough pictures for that many triangles.
    #[error(
        "--triangles {asked}: the {pictures} pictures given make at most {most} triangles without a common picture; ask for \
         no more than that"
    )]
    TooManyTriangles {
        /// How many were asked for.
        asked: u32,
        /// How many pictures there are.
        pictures: usize,
        /// How many triangles they make.
        most: usize,
    },
    /// There are not enough pairs for that many triangles.
    #[error(
        "--count {count}: with --triangles {triangles}, {pictures} pictures need at least {needed} pairs to be connected and \
         in equally many pairs, up to one; ask for as many, or for fewer triangles"
    )]
    TooFewForTriangles {
        /// How many pairs were asked for.
        count: u32,
        /// How many triangles were asked for.
        triangles: u32,
        /// How many pictures there are.
        pictures: usize,
        /// How many pairs would do.
        needed: usize,
    },
    /// The triangles do not fit in beside the other pairs.
    #[error(
        "--triangles {asked}: only {planted} triangles fit into {count} pairs of {pictures} pictures; ask for no more than \
         that, or for another number of pairs"
    )]
    NotPlanted {
        /// How many were asked for.
        asked: u32,
        /// How many fit.
        planted: usize,
        /// How many pairs were asked for.
        count: u32,
        /// How many pictures there are.
        pictures: usize,
    },
    /// So many pictures are equal that they cannot be kept apart.
    #[error(
        "--count {count}: the pictures with the pixels of `{picture}` cannot be kept from being compared with one another in \
         that many balanced pairs; leave the copies out of the tables, or ask for fewer pairs"
    )]
    EqualPixels {
        /// How many pairs were asked for.
        count: u32,
        /// A picture that would be compared with its equal.
        picture: ImageId,
    },
}
