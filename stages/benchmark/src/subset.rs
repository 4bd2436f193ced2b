//! Named subsets of distortion types, from the flag `--subset NAME=TYPE,TYPE,…`.

use std::fmt;
use std::str::FromStr;

use evoq_distortions::Distortion;

/// The name of the subset that holds every picture.
pub const ALL: &str = "all";

/// One piece of the flag between commas: a type, and the name of the subset that starts with it.
///
/// The flag may be given several times or as one list; either way the pieces come in one row, and a piece with a name starts the
/// next subset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    name: Option<String>,
    distortion: Distortion,
}

impl FromStr for Piece {
    type Err = evoq_distortions::Error;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, distortion) = match text.split_once('=') {
            Some((name, distortion)) => (Some(name.trim().to_owned()), distortion),
            None => (None, text),
        };
        Ok(Self { name, distortion: distortion.trim().parse()? })
    }
}

impl fmt::Display for Piece {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{name}={}", self.distortion.name()),
            None => f.write_str(self.distortion.name()),
        }
    }
}

impl serde::Serialize for Piece {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A subset of the pictures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subset {
    /// Its name.
    pub name: String,
    /// Its distortion types; `None` for all pictures.
    pub types: Option<Vec<Distortion>>,
}

impl Subset {
    /// Whether a picture with this distortion (`None` for an original) is in the subset.
    pub fn has(&self, distortion: Option<&str>) -> bool {
        self.types.as_ref().is_none_or(|types| types.iter().any(|it| Some(it.name()) == distortion))
    }
}

/// The subsets that `pieces` name, after [`ALL`]. `Err` says what is wrong with them.
pub fn subsets(pieces: &[Piece]) -> Result<Vec<Subset>, String> {
    let mut subsets = vec![Subset { name: ALL.to_owned(), types: None }];
    for piece in pieces {
        if let Some(name) = &piece.name {
            if name.is_empty() || subsets.iter().any(|subset| subset.name == *name) {
                return Err(format!(
                    "the name `{name}` is empty or taken; give each subset a name of its own (`{ALL}` is always there)"
                ));
            }
            subsets.push(Subset { name: name.clone(), types: Some(Vec::new()) });
        }
        let types = subsets.last_mut().and_then(|subset| subset.types.as_mut());
        let Some(types) = types else {
            return Err(format!("`{piece}` stands before any name; write NAME=TYPE,TYPE"));
        };
        if types.contains(&piece.distortion) {
            return Err(format!("`{}` stands twice in one subset; name it once", piece.distortion.name()));
        }
        types.push(piece.distortion);
    }
    Ok(subsets)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<Subset>, String> {
        let pieces: Result<Vec<Piece>, _> = text.split(',').map(str::parse).collect();
        subsets(&pieces.map_err(|error| error.to_string())?)
    }

    #[test]
    fn a_name_starts_a_subset_and_all_is_always_there() {
        let subsets = read("blurs=blur_lens,blur_motion,noises=noise_poisson").unwrap();
        let names: Vec<_> = subsets.iter().map(|it| (it.name.as_str(), it.types.as_ref().map(Vec::len))).collect();
        assert_eq!(names, [("all", None), ("blurs", Some(2)), ("noises", Some(1))]);
        assert!(subsets[1].has(Some("blur_motion")) && !subsets[1].has(Some("noise_poisson")) && !subsets[1].has(None));
        assert!(subsets[0].has(None) && subsets[0].has(Some("noise_poisson")));
    }

    #[test]
    fn a_piece_reads_back_as_it_was_written() {
        for text in ["blurs=blur_lens", "blur_motion"] {
            assert_eq!(text.parse::<Piece>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_name() {
        for (text, named) in [
            ("blur_lens", "blur_lens"),
            ("x=blur_lense", "blur_lens"),
            ("all=blur_lens", "`all`"),
            ("x=blur_lens,x=blur_motion", "`x`"),
            ("x=blur_lens,blur_lens", "twice"),
        ] {
            assert!(read(text).unwrap_err().contains(named), "{text}");
        }
    }
}
