//! The throw-away probe: from a picture's pooled vision features to its distortion and severity. It is never saved.

use std::collections::{BTreeMap, HashMap};

use candle_core::{D, DType, Device, Tensor, Var};
use candle_nn::ops::log_softmax;
use evoq_policy::train::Probe;
use evoq_schemas::draws::key;
use evoq_schemas::{Image, ImageId};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Severities 0 to 5.
const SEVERITIES: usize = 6;

/// What is known of the flaws of pictures: the class of the distortion (0 is clean) and the severity.
#[derive(Debug)]
pub(crate) struct Flaws {
    ids: Vec<ImageId>,
    classes: HashMap<ImageId, (u32, u32)>,
    kinds: usize,
}

impl Flaws {
    /// The flaws of the variants among `rows`; classes are numbered by the distortions' names.
    pub(crate) fn new(rows: &[Image]) -> Self {
        let mut kinds = BTreeMap::new();
        for row in rows {
            if let Some(distortion) = &row.distortion {
                kinds.insert(distortion.as_str(), 0);
            }
        }
        for (number, class) in kinds.values_mut().enumerate() {
            *class = number as u32 + 1;
        }
        let (mut ids, mut classes) = (Vec::new(), HashMap::new());
        for row in rows {
            if let (Some(distortion), Some(severity)) = (&row.distortion, row.severity) {
                let kind = if severity == 0 { 0 } else { kinds[distortion.as_str()] };
                ids.push(row.image_id.clone());
                classes.insert(row.image_id.clone(), (kind, u32::from(severity)));
            }
        }
        Self { ids, classes, kinds: kinds.len() + 1 }
    }

    /// The pictures whose flaw is known, in the order of the table.
    pub(crate) fn pictures(&self) -> &[ImageId] {
        &self.ids
    }
}

/// The probe's two linear heads, on features `[n, hidden]`.
pub(crate) struct FlawProbe<'a> {
    flaws: &'a Flaws,
    kind: Var,
    kind_bias: Var,
    severity: Var,
    severity_bias: Var,
}

impl<'a> FlawProbe<'a> {
    /// Fresh heads for features of `hidden` numbers.
    pub(crate) fn new(flaws: &'a Flaws, hidden: usize, seed: u64) -> candle_core::Result<Self> {
        let matrix = |name: &str, rows: usize| {
            let mut draws = ChaCha8Rng::from_seed(key(seed, "probe weights", &[name]));
            let bound = 1.0 / (hidden as f32).sqrt();
            let values: Vec<f32> = (0..rows * hidden).map(|_| draws.random_range(-bound..bound)).collect();
            Var::from_vec(values, (rows, hidden), &Device::Cpu)
        };
        let bias = |rows: usize| Var::zeros(rows, DType::F32, &Device::Cpu);
        Ok(Self {
            flaws,
            kind: matrix("kind", flaws.kinds)?,
            kind_bias: bias(flaws.kinds)?,
            severity: matrix("severity", SEVERITIES)?,
            severity_bias: bias(SEVERITIES)?,
        })
    }

    /// The heads' variables by name.
    pub(crate) fn vars(&self) -> Vec<(String, Var)> {
        vec![
            ("probe.kind.weight".to_owned(), self.kind.clone()),
            ("probe.kind.bias".to_owned(), self.kind_bias.clone()),
            ("probe.severity.weight".to_owned(), self.severity.clone()),
            ("probe.severity.bias".to_owned(), self.severity_bias.clone()),
        ]
    }

    /// The probe of one step's pictures; those whose flaw is not known take no part.
    pub(crate) fn with(&self, pictures: &[ImageId], weight: f64) -> StepProbe<'_> {
        let classes: Vec<_> = pictures.iter().map(|id| self.flaws.classes.get(id).copied()).collect();
        let known = classes.iter().flatten().count().max(1);
        StepProbe { heads: self, classes, scale: weight / known as f64 }
    }
}

/// The probe on the pictures of one step.
pub(crate) struct StepProbe<'a> {
    heads: &'a FlawProbe<'a>,
    classes: Vec<Option<(u32, u32)>>,
    scale: f64,
}

impl Probe for StepProbe<'_> {
    fn vars(&self) -> Vec<(String, Var)> {
        self.heads.vars()
    }

    /// Cross-entropy of the distortion's class plus that of the severity, summed over the pictures and scaled.
    fn loss(&self, first_picture: usize, pooled: &Tensor) -> candle_core::Result<Tensor> {
        let classes = &self.classes[first_picture..first_picture + pooled.dim(0)?];
        let entropy = |head: &Var, bias: &Var, class: fn((u32, u32)) -> u32| {
            let logits = pooled.matmul(&head.t()?)?.broadcast_add(bias)?;
            let logprobs = log_softmax(&logits, D::Minus1)?;
            let targets: Vec<u32> = classes.iter().map(|it| it.map_or(0, class)).collect();
            let known: Vec<f32> = classes.iter().map(|it| if it.is_some() { 1.0 } else { 0.0 }).collect();
            let targets = Tensor::from_vec(targets, (classes.len(), 1), pooled.device())?;
            let known = Tensor::from_vec(known, classes.len(), pooled.device())?;
            (logprobs.gather(&targets, 1)?.squeeze(1)? * known)?.sum_all()
        };
        let kinds = entropy(&self.heads.kind, &self.heads.kind_bias, |it| it.0)?;
        let severities = entropy(&self.heads.severity, &self.heads.severity_bias, |it| it.1)?;
        (kinds + severities)? * -self.scale
    }
}
