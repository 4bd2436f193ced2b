//! The weight of a data set in the mean over sets.

use evoq_stage::bad_input;

/// How sets are weighted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Weights {
    /// By the pictures that have a truth and a score.
    Pictures,
    /// By the sizes of the eight sets' test parts in the paper's tables.
    Paper,
}

/// Pictures of each set with which all averages of the paper's Tables 2 to 5 come out.
const PAPER: [(&[&str], u32); 8] = [
    (&["koniq10k"], 2010),
    (&["spaq"], 2224),
    (&["agiqa3k"], 2982),
    (&["livec", "livew"], 1162),
    (&["kadid10k"], 2000),
    (&["pipal"], 4640),
    (&["tid2013"], 3000),
    (&["csiq"], 866),
];

impl Weights {
    /// The weight of the set `dataset`, of which `pictures` pictures have a score.
    pub fn of(self, dataset: &str, pictures: usize) -> anyhow::Result<f64> {
        match self {
            Self::Pictures => Ok(pictures as f64),
            Self::Paper => {
                let found = PAPER.iter().find(|(names, _)| names.contains(&dataset));
                found.map(|(_, pictures)| f64::from(*pictures)).ok_or_else(|| {
                    let known: Vec<&str> = PAPER.iter().map(|(names, _)| names[0]).collect();
                    bad_input(format!(
                        "--weights paper: the paper has no set `{dataset}`; expected {}: name it so when it is ingested, or \
                         take --weights pictures",
                        known.join(", ")
                    ))
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_weighs_as_many_pictures_as_it_has_or_as_the_paper_has() {
        assert_eq!(Weights::Pictures.of("mine", 7).unwrap(), 7.0);
        assert_eq!(Weights::Paper.of("pipal", 7).unwrap(), 4640.0);
        assert_eq!(Weights::Paper.of("livew", 7).unwrap(), Weights::Paper.of("livec", 7).unwrap());
        assert!(Weights::Paper.of("mine", 7).unwrap_err().to_string().contains("`mine`"));
    }
}
