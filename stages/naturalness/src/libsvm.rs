//! LIBSVM's text files: a model (`svm-train`) and the ranges that features were scaled by (`svm-scale -s`).

use crate::svr::{Machine, checked_ranges};
use crate::{FEATURES, Features, quoted};

/// Reads a model. Errors name the line.
pub(crate) fn machine(text: &str) -> Result<Machine, String> {
    let mut lines = (1..).zip(text.lines());
    let (mut gamma, mut rho, mut total, mut is_regression, mut is_gaussian) = (None, None, None, false, false);
    for (number, line) in lines.by_ref() {
        let (key, value) = line.trim().split_once(' ').unwrap_or((line.trim(), ""));
        match key {
            "svm_type" => is_regression = ["epsilon_svr", "nu_svr"].contains(&value),
            "kernel_type" => is_gaussian = value == "rbf",
            "gamma" => gamma = Some(finite(number, value)?),
            "rho" => rho = Some(finite(number, value)?),
            "total_sv" => total = value.parse::<usize>().ok(),
            "nr_class" | "probA" => {}
            "SV" => break,
            _ => return Err(format!("has {} in line {number}; expected a LIBSVM model", quoted(line))),
        }
    }
    if !is_regression || !is_gaussian {
        return Err("is no regression with a Gaussian kernel (svm_type epsilon_svr, kernel_type rbf)".to_owned());
    }
    let missing = |what: &str| format!("has no line `{what}` with a number before its support vectors");
    let gamma = gamma.ok_or_else(|| missing("gamma"))?;
    let rho = rho.ok_or_else(|| missing("rho"))?;
    let total = total.ok_or_else(|| missing("total_sv"))?;
    let vectors = lines.map(|(number, line)| vector(number, line)).collect::<Result<Vec<_>, _>>()?;
    if vectors.len() != total || total == 0 {
        return Err(format!("has {} support vectors; expected {total} (total_sv)", vectors.len()));
    }
    Ok(Machine { gamma, rho, vectors })
}

/// A support vector: its coefficient, then `feature:value`; what is not named is 0.
fn vector(number: usize, line: &str) -> Result<(f64, Features), String> {
    let mut words = line.split_ascii_whitespace();
    let coefficient = finite(number, words.next().unwrap_or_default())?;
    let mut vector = [0.0; FEATURES];
    for word in words {
        let (feature, value) = word.split_once(':').unwrap_or((word, ""));
        let at = feature.parse::<usize>().ok().and_then(|it| vector.get_mut(it.checked_sub(1)?));
        let at = at
            .ok_or_else(|| format!("has {} in line {number}; expected a feature from 1 to {FEATURES}", quoted(word)))?;
        *at = finite(number, value)?;
    }
    Ok((coefficient, vector))
}

/// Reads ranges: a line `x`, a line `-1 1`, and a line for each feature with its number, its low and its high end.
pub(crate) fn ranges(text: &str) -> Result<[(f64, f64); FEATURES], String> {
    let mut lines = (1..).zip(text.lines());
    let head = [lines.next(), lines.next()].map(|it| it.map_or("", |(_, line)| line.trim()));
    if head != ["x", "-1 1"] {
        return Err(format!(
            "begins with {}, {}; expected `x`, `-1 1`, as svm-scale writes ranges",
            quoted(head[0]),
            quoted(head[1])
        ));
    }
    let mut ranges = Vec::new();
    for (number, line) in lines {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let &[feature, low, high] = &words[..] else {
            return Err(format!("has {} in line {number}; expected a feature, its low and its high end", quoted(line)));
        };
        if feature.parse() != Ok(ranges.len() + 1) {
            return Err(format!("has feature {} in line {number}; expected {}", quoted(feature), ranges.len() + 1));
        }
        ranges.push((finite(number, low)?, finite(number, high)?));
    }
    checked_ranges(&ranges)
}

fn finite(number: usize, word: &str) -> Result<f64, String> {
    let value = word.parse::<f64>().ok().filter(|it| it.is_finite());
    value.ok_or_else(|| format!("has {} in line {number}; expected a number", quoted(word)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str =
        "svm_type epsilon_svr\nkernel_type rbf\ngamma 0.05\nnr_class 2\ntotal_sv 2\nrho -153.5\nprobA 5.7\nSV\n";

    #[test]
    fn features_that_are_not_named_are_0() {
        let machine = machine(&format!("{HEAD}-1024 1:-0.5 36:0.25 \n7.5 2:1e-2 \n")).unwrap();
        assert_eq!((machine.gamma, machine.rho), (0.05, -153.5));
        let mut first = [0.0; FEATURES];
        (first[0], first[35]) = (-0.5, 0.25);
        assert_eq!(machine.vectors[0], (-1024.0, first));
        assert_eq!(machine.vectors[1].1[1], 0.01);
    }

    #[test]
    fn damaged_models_are_refused_with_their_line() {
        for (rows, expected) in [
            ("1 1:2\n", "has 1 support vectors; expected 2"),
            ("1 1:2\n2 37:1\n", "`37:1` in line 10; expected a feature from 1 to 36"),
            ("1 1:2\n2 0:1\n", "`0:1` in line 10"),
            ("1 1:2\n2 1:nan\n", "`nan` in line 10; expected a number"),
            ("1 1:2\n\n", "`` in line 10; expected a number"),
        ] {
            let error = machine(&format!("{HEAD}{rows}")).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
        assert!(machine("x\n-1 1\n").unwrap_err().contains("`x` in line 1; expected a LIBSVM model"));
        assert!(machine(&HEAD.replace("rbf", "linear")).unwrap_err().contains("Gaussian kernel"));
        assert!(machine(&HEAD.replace("gamma 0.05\n", "")).unwrap_err().contains("no line `gamma`"));
    }

    #[test]
    fn ranges_name_each_feature_in_turn() {
        let file = |from: usize| {
            (from..=FEATURES).fold("x\n-1 1\n".to_owned(), |text, at| text + &format!("{at} 0 1.5e-005\n"))
        };
        assert_eq!(ranges(&file(1)).unwrap()[35], (0.0, 1.5e-5));
        assert!(ranges(&file(2)).unwrap_err().contains("feature `2` in line 3; expected 1"));
        assert!(ranges("y\n").unwrap_err().contains("begins with `y`"));
        assert!(ranges("x\n-1 1\n1 2\n").unwrap_err().contains("in line 3"));
    }
}
