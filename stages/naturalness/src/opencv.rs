//! OpenCV's YAML files: a support vector machine of its `ml` module, and the matrix of ranges that goes with it.

use serde::Deserialize;

use crate::svr::{Machine, checked_ranges};
use crate::{FEATURES, Features, quoted};

#[derive(Deserialize)]
struct ModelFile {
    opencv_ml_svm: Svm,
}

#[derive(Deserialize)]
struct Svm {
    #[serde(rename = "svmType")]
    kind: String,
    kernel: Kernel,
    support_vectors: Vec<Vec<f64>>,
    decision_functions: Vec<Decision>,
}

#[derive(Deserialize)]
struct Kernel {
    r#type: String,
    gamma: f64,
}

#[derive(Deserialize)]
struct Decision {
    rho: f64,
    alpha: Vec<f64>,
}

#[derive(Deserialize)]
struct RangeFile {
    range: Matrix,
}

#[derive(Deserialize)]
struct Matrix {
    rows: usize,
    cols: usize,
    data: Vec<f64>,
}

/// Reads a model.
pub(crate) fn machine(text: &str) -> Result<Machine, String> {
    let Svm { kind, kernel, support_vectors, decision_functions } = document::<ModelFile>(text)?.opencv_ml_svm;
    if !["EPS_SVR", "NU_SVR"].contains(&kind.as_str()) || kernel.r#type != "RBF" {
        return Err(format!(
            "is {} with the kernel {}; expected a regression with a Gaussian kernel (EPS_SVR, RBF)",
            quoted(&kind),
            quoted(&kernel.r#type)
        ));
    }
    let Ok([Decision { rho, alpha }]) = <[Decision; 1]>::try_from(decision_functions) else {
        return Err("does not have one decision function, as a regression has".to_owned());
    };
    if alpha.len() != support_vectors.len() || alpha.is_empty() {
        return Err(format!("has {} coefficients for {} support vectors", alpha.len(), support_vectors.len()));
    }
    let vectors: Vec<(f64, Features)> = alpha.into_iter().zip(support_vectors).map(vector).collect::<Result<_, _>>()?;
    let numbers = vectors.iter().flat_map(|(coefficient, vector)| vector.iter().chain([coefficient]));
    if numbers.chain([&kernel.gamma, &rho]).all(|it| it.is_finite()) {
        Ok(Machine { gamma: kernel.gamma, rho, vectors })
    } else {
        Err("has a number that is not finite".to_owned())
    }
}

fn vector((coefficient, vector): (f64, Vec<f64>)) -> Result<(f64, Features), String> {
    let count = vector.len();
    let vector =
        vector.try_into().map_err(|_| format!("has a support vector of {count} features; expected {FEATURES}"))?;
    Ok((coefficient, vector))
}

/// Reads ranges: a matrix of two rows, the low ends and the high ends.
pub(crate) fn ranges(text: &str) -> Result<[(f64, f64); FEATURES], String> {
    let Matrix { rows, cols, data } = document::<RangeFile>(text)?.range;
    if (rows, cols, data.len()) != (2, FEATURES, 2 * FEATURES) {
        return Err(format!("has a matrix of {rows} by {cols} with {} numbers; expected 2 by {FEATURES}", data.len()));
    }
    let (low, high) = data.split_at(FEATURES);
    checked_ranges(&low.iter().copied().zip(high.iter().copied()).collect::<Vec<_>>())
}

/// The document in a file, whose first line, `%YAML:1.0`, is of OpenCV's own making.
fn document<T: for<'a> Deserialize<'a>>(text: &str) -> Result<T, String> {
    let (_, document) = text.split_once('\n').unwrap_or_default();
    serde_saphyr::from_str(document).map_err(|error| {
        // Its first line; what it quotes of the file can be anything.
        let line: String =
            error.to_string().chars().take_while(|it| *it != '\n').filter(|it| !it.is_control()).collect();
        let line: String = line.chars().take(200).collect();
        format!("is not as OpenCV writes it: {line}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(vector: &str, alpha: &str) -> String {
        format!(
            "%YAML:1.0\n---\nopencv_ml_svm:\n   format: 3\n   svmType: EPS_SVR\n   kernel:\n      type: RBF\n      gamma: 5.0e-02\n   \
             C: 1024.\n   term_criteria: {{ epsilon:1.0e-03 }}\n   support_vectors:\n      - {vector}\n   decision_functions:\n      \
             -\n         sv_count: 1\n         rho: -1.5e+02\n         alpha: {alpha}\n"
        )
    }

    fn numbers(count: usize) -> String {
        format!("[ {} ]", vec!["-5.5e-01"; count].join(", "))
    }

    #[test]
    fn a_model_is_read_as_opencv_writes_it() {
        let machine = machine(&model(&numbers(36), "[ -1024. ]")).unwrap();
        let expected = Machine { gamma: 0.05, rho: -150.0, vectors: vec![(-1024.0, [-0.55; FEATURES])] };
        assert_eq!(machine, expected);
    }

    #[test]
    fn damaged_models_are_refused() {
        for (model, expected) in [
            (model(&numbers(35), "[ 1. ]"), "support vector of 35 features; expected 36"),
            (model(&numbers(36), "[ 1., 2. ]"), "2 coefficients for 1 support vectors"),
            (model(&numbers(36), "[ .nan ]"), "not finite"),
            (model(&numbers(36), "[ 1. ]").replace("RBF", "LINEAR"), "the kernel `LINEAR`"),
            (model(&numbers(36), "[ one ]"), "not as OpenCV writes it"),
            ("%YAML:1.0\n---\nrange: 5\n".to_owned(), "not as OpenCV writes it"),
        ] {
            let error = machine(&model).unwrap_err();
            assert!(error.contains(expected), "{error}");
            assert_eq!(error.lines().count(), 1);
        }
    }

    #[test]
    fn ranges_are_a_matrix_of_two_rows() {
        let file = |low: usize| {
            let data = vec!["0."; low].into_iter().chain(vec!["1.5"; 36]).collect::<Vec<_>>().join(", ");
            format!("%YAML:1.0\n---\nrange: !!opencv-matrix\n   rows: 2\n   cols: 36\n   dt: f\n   data: [ {data} ]\n")
        };
        assert_eq!(ranges(&file(36)).unwrap(), [(0.0, 1.5); FEATURES]);
        assert!(ranges(&file(35)).unwrap_err().contains("with 71 numbers; expected 2 by 36"));
    }
}
