//! The training step's forward and backward pass: exact gradients of any loss on completions' log-probabilities, and
//! of a probe on the vision tower's features.
//!
//! The backward pass of the model is written out by hand (see `ops`); candle's graph serves the caller's loss alone,
//! from a leaf that holds the log-probabilities. Work is cut into chunks by position and summed in their order, so
//! results do not depend on the number of threads.

use std::collections::BTreeMap;
use std::ops::Range;

use candle_core::backprop::GradStore;
use candle_core::{Device, Tensor, Var};
use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::model::{Model, Pack, Sequence, chunks};
use crate::ops::linear::Sums;
use crate::ops::{Floats, tensor};
use crate::policy::{Features, Policy};
use crate::processor::Pixels;
use crate::prompt::Prompt;
use crate::sample::Asked;
use crate::vision::VisionState;

/// A prompt with its pictures and completions.
#[derive(Debug, Clone)]
pub struct Group {
    /// The prompt.
    pub prompt: Prompt,
    /// Its pictures, as indices into the batch's pictures.
    pub pictures: Vec<usize>,
    /// Completions of at least one token each, the end token included.
    pub completions: Vec<Vec<u32>>,
}

/// Something learnt beside the language model from the vision tower's features.
pub trait Probe: Sync {
    /// What the probe learns, by name; names must differ from the weights'.
    fn vars(&self) -> Vec<(String, Var)>;

    /// The loss, already scaled, of consecutive pictures from `first_picture` on; `pooled [n, hidden]` holds the mean
    /// of each picture's merged tokens. The batch's loss is the sum over such runs of pictures.
    fn loss(&self, first_picture: usize, pooled: &Tensor) -> candle_core::Result<Tensor>;
}

/// Gradients of a batch.
#[derive(Debug)]
pub struct Gradients {
    /// By the weights' release names and the probe's names. What no loss reaches is absent.
    pub by_name: BTreeMap<String, Tensor>,
    /// Each group's loss.
    pub losses: Vec<f32>,
    /// The probe's loss; 0 without a probe.
    pub probe_loss: f32,
}

impl Policy {
    /// Log-probabilities of all completion tokens: by group, completion and token. Banned tokens have probability 0,
    /// as in sampling.
    ///
    /// # Errors
    /// A batch whose pieces do not fit together; see [`Error::Batch`].
    pub fn logprobs(&self, pictures: &[Pixels], groups: &[Group]) -> Result<Vec<Vec<Vec<f32>>>> {
        let looked = pictures.par_iter().map(|pixels| self.look(pixels));
        let features: Vec<Features> = looked.collect::<Result<_>>()?;
        let asked = groups.iter().map(|group| {
            let features = group.pictures.iter().map(|&picture| at(&features, picture)).collect::<Result<_>>()?;
            Ok(Asked { prompt: &group.prompt, features })
        });
        let completions: Vec<&[Vec<u32>]> = groups.iter().map(|group| group.completions.as_slice()).collect();
        self.completion_logprobs(&asked.collect::<Result<Vec<_>>>()?, &completions)
    }

    /// Gradients of `Σ loss` over groups, plus the probe's loss.
    ///
    /// `loss` gets a group's index, its log-probabilities `[K, T]` (0 where a completion is shorter) and the mask of
    /// real tokens `[K, T]`, and gives a scalar, already scaled. With no groups only the vision tower and the probe get
    /// gradients.
    ///
    /// # Errors
    /// A batch whose pieces do not fit together (see [`Error::Batch`]), or an error of `loss`.
    pub fn gradients<L>(
        &self,
        pictures: &[Pixels],
        groups: &[Group],
        loss: &L,
        probe: Option<&dyn Probe>,
    ) -> Result<Gradients>
    where
        L: Fn(usize, &Tensor, &Tensor) -> candle_core::Result<Tensor> + Sync,
    {
        let model = self.model();
        let looks = look(model, pictures)?;
        let features = features(&looks, pictures.len())?;
        let chunks = group_chunks(groups);
        let from_text = chunks
            .par_iter()
            .map(|range| text_chunk(model, &features, groups, range.clone(), loss))
            .collect::<Result<Vec<_>>>()?;
        let mut sums = Sums::default();
        let mut losses = Vec::with_capacity(groups.len());
        let mut dfeatures: BTreeMap<usize, Vec<f32>> = BTreeMap::new();
        for chunk in from_text {
            sums.merge(chunk.sums)?;
            losses.extend(chunk.losses);
            for (picture, gradient) in chunk.features {
                add_features(&mut dfeatures, picture, gradient);
            }
        }
        let from_vision = looks
            .par_iter()
            .map(|look| vision_chunk(model, look, &features, &dfeatures, probe))
            .collect::<Result<Vec<_>>>()?;
        let mut probe_loss = 0.0;
        for (chunk, loss) in from_vision {
            sums.merge(chunk)?;
            probe_loss += loss;
        }
        Ok(Gradients { by_name: sums.into_map()?, losses, probe_loss })
    }
}

/// Consecutive pictures that went through the vision tower together.
struct Look {
    range: Range<usize>,
    features: Tensor,
    state: VisionState,
}

/// All pictures through the vision tower.
fn look(model: &Model, pictures: &[Pixels]) -> Result<Vec<Look>> {
    let rows = pictures.iter().map(|pixels| pixels.grid.height * pixels.grid.width);
    let look = |range: Range<usize>| {
        let pictures: Vec<&Pixels> = pictures[range.clone()].iter().collect();
        let (features, state) = model.vision.forward(&pictures)?;
        Ok(Look { range, features, state })
    };
    chunks(rows).into_par_iter().map(look).collect()
}

/// Each picture's merged tokens, `[tokens, H]`.
fn features(looks: &[Look], pictures: usize) -> Result<Vec<Tensor>> {
    let mut features = Vec::with_capacity(pictures);
    for look in looks {
        let mut start = 0;
        for &tokens in look.state.tokens() {
            features.push(look.features.narrow(0, start, tokens)?);
            start += tokens;
        }
    }
    Ok(features)
}

fn group_chunks(groups: &[Group]) -> Vec<Range<usize>> {
    let rows = |group: &Group| {
        let longest = group.completions.iter().map(Vec::len).max().unwrap_or(0);
        group.prompt.ids.len() + group.completions.len() * longest
    };
    chunks(groups.iter().map(rows))
}

/// What a batch holds of one of its pictures.
fn at<T>(pictures: &[T], picture: usize) -> Result<&T> {
    pictures.get(picture).ok_or_else(|| Error::Batch {
        problem: format!("a group names picture {picture} of a batch of {}", pictures.len()),
    })
}

/// Packs groups as rows.
fn pack<'a>(model: &Model, groups: &'a [Group], features: &'a [Tensor]) -> Result<Pack<'a>> {
    let sequence = |group: &'a Group| {
        if group.completions.is_empty() {
            return Err(Error::Batch { problem: "a group has no completions".to_owned() });
        }
        let features = group.pictures.iter().map(|&picture| at(features, picture)).collect::<Result<_>>()?;
        Ok(Sequence { prompt: &group.prompt, features, completions: &group.completions })
    };
    let sequences = groups.iter().map(sequence).collect::<Result<Vec<_>>>()?;
    Pack::new(&model.config, &model.text, &model.banned, &sequences)
}

struct TextChunk {
    sums: Sums,
    losses: Vec<f32>,
    /// Picture and gradient of its features, in the order of use.
    features: Vec<(usize, Vec<f32>)>,
}

/// Forward and backward of the groups in `range`.
fn text_chunk<L>(
    model: &Model,
    features: &[Tensor],
    groups: &[Group],
    range: Range<usize>,
    loss: &L,
) -> Result<TextChunk>
where
    L: Fn(usize, &Tensor, &Tensor) -> candle_core::Result<Tensor>,
{
    let here = &groups[range.clone()];
    let pack = pack(model, here, features)?;
    let (picked, state) = model.forward(&pack)?;
    let (mut losses, mut dpicked, mut reached) = (Vec::with_capacity(here.len()), Vec::new(), false);
    for (index, group) in range.zip(here) {
        let count = group.completions.iter().map(Vec::len).sum::<usize>();
        let (value, gradient) = group_loss(index, group, &picked[dpicked.len()..][..count], loss)?;
        losses.push(value);
        reached |= gradient.is_some();
        dpicked.extend(gradient.unwrap_or_else(|| vec![0.0; count]));
    }
    let mut sums = Sums::default();
    if !reached {
        return Ok(TextChunk { sums, losses, features: Vec::new() });
    }
    let drows = model.backward(&pack, &state, &dpicked, &mut sums)?;
    let pictures = here.iter().flat_map(|group| group.pictures.iter().copied());
    let features = pictures.zip(pack.features_backward(&drows)?).collect();
    Ok(TextChunk { sums, losses, features })
}

/// A group's loss, and the gradient of its log-probabilities if the loss depends on them.
fn group_loss<L>(index: usize, group: &Group, picked: &[f32], loss: &L) -> Result<(f32, Option<Vec<f32>>)>
where
    L: Fn(usize, &Tensor, &Tensor) -> candle_core::Result<Tensor>,
{
    let shape = (group.completions.len(), group.completions.iter().map(Vec::len).max().unwrap_or(0));
    let (mut padded, mut mask) = (vec![0.0_f32; shape.0 * shape.1], vec![0.0_f32; shape.0 * shape.1]);
    let (mut places, mut picked) = (Vec::with_capacity(picked.len()), picked.iter());
    for (lane, ids) in group.completions.iter().enumerate() {
        for (place, value) in (lane * shape.1..).zip(picked.by_ref().take(ids.len())) {
            (padded[place], mask[place]) = (*value, 1.0);
            places.push(place);
        }
    }
    let leaf = Var::from_vec(padded, shape, &Device::Cpu)?;
    let value = loss(index, leaf.as_tensor(), &tensor(mask, shape)?)?;
    let store = value.backward()?;
    let Some(gradient) = store.get(&leaf) else { return Ok((value.to_scalar()?, None)) };
    let gradient = gradient.contiguous()?;
    let gradient = Floats::of(&gradient)?;
    Ok((value.to_scalar()?, Some(places.into_iter().map(|place| gradient[place]).collect())))
}

/// Backward of pictures that went through the tower together, with the probe's part.
fn vision_chunk(
    model: &Model,
    look: &Look,
    features: &[Tensor],
    dfeatures: &BTreeMap<usize, Vec<f32>>,
    probe: Option<&dyn Probe>,
) -> Result<(Sums, f32)> {
    let mut sums = Sums::default();
    let (mut gradient, mut reached) = (Vec::with_capacity(look.features.elem_count()), false);
    for picture in look.range.clone() {
        match dfeatures.get(&picture) {
            Some(from_text) => {
                gradient.extend_from_slice(from_text);
                reached = true;
            }
            None => gradient.resize(gradient.len() + features[picture].elem_count(), 0.0),
        }
    }
    let mut probe_loss = 0.0;
    if let Some(probe) = probe {
        let (value, dpooled) = probe_chunk(probe, look.range.start, &features[look.range.clone()], &mut sums)?;
        probe_loss = value;
        if let Some(dpooled) = dpooled {
            add_pooled(&mut gradient, &dpooled, &features[look.range.clone()])?;
            reached = true;
        }
    }
    if reached {
        model.vision.backward(&look.state, &tensor(gradient, look.features.shape())?, &mut sums)?;
    }
    Ok((sums, probe_loss))
}

/// The probe's loss on these pictures, and the gradient of their pooled features; the probe's own go to `sums`.
fn probe_chunk(probe: &dyn Probe, first: usize, features: &[Tensor], sums: &mut Sums) -> Result<(f32, Option<Tensor>)> {
    let means = features.iter().map(|features| features.mean(0)).collect::<candle_core::Result<Vec<_>>>()?;
    let pooled = Var::from_tensor(&Tensor::stack(&means, 0)?)?;
    let value = probe.loss(first, pooled.as_tensor())?;
    let store: GradStore = value.backward()?;
    for (name, var) in probe.vars() {
        if let Some(gradient) = store.get(&var) {
            sums.add(&name, gradient.contiguous()?)?;
        }
    }
    let dpooled = store.get(&pooled).map(Tensor::contiguous).transpose()?;
    Ok((value.to_scalar()?, dpooled))
}

/// Spreads the gradient of each picture's mean over its tokens.
fn add_pooled(gradient: &mut [f32], dpooled: &Tensor, features: &[Tensor]) -> Result<()> {
    let (_, width) = dpooled.dims2()?;
    let (dpooled, mut rows) = (Floats::of(dpooled)?, gradient.chunks_exact_mut(width));
    for (features, mean) in features.iter().zip(dpooled.chunks_exact(width)) {
        let tokens = features.dim(0)?;
        for row in rows.by_ref().take(tokens) {
            row.iter_mut().zip(mean).for_each(|(sum, mean)| *sum += mean / tokens as f32);
        }
    }
    Ok(())
}

fn add_features(sums: &mut BTreeMap<usize, Vec<f32>>, picture: usize, gradient: Vec<f32>) {
    match sums.get_mut(&picture) {
        Some(sum) => sum.iter_mut().zip(gradient).for_each(|(sum, value)| *sum += value),
        None => {
            sums.insert(picture, gradient);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use candle_core::DType;

    use super::*;
    use crate::processor::Grid;

    fn policy() -> Policy {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/policy/checkpoint");
        Policy::load(&folder, &Device::Cpu).unwrap()
    }

    fn pictures(policy: &Policy) -> Vec<Pixels> {
        let picture = |n: usize, grid: Grid| {
            let count = grid.height * grid.width * policy.config.vision.patch_dim();
            let area = policy.config.vision.patch_size.pow(2);
            // Both frames of a still picture are equal.
            let value = |i: usize| ((i / (2 * area) * area + i % area + n * 91) as f32 * 0.61).sin();
            Pixels { grid, patches: (0..count).map(value).collect() }
        };
        vec![
            picture(0, Grid { height: 4, width: 6 }),
            picture(1, Grid { height: 10, width: 8 }),
            picture(2, Grid { height: 28, width: 20 }),
        ]
    }

    /// Two prompts that share a picture, each with completions of different lengths.
    fn groups(policy: &Policy, pictures: &[Pixels]) -> Vec<Group> {
        let image = policy.config.image_token_id;
        let group = |of: &[usize], completions: Vec<Vec<u32>>| {
            let grids: Vec<Grid> = of.iter().map(|&picture| pictures[picture].grid).collect();
            let mut ids = vec![40, 41];
            for grid in &grids {
                ids.extend(vec![image; grid.height * grid.width / 4]);
                ids.push(42);
            }
            Group { prompt: Prompt { ids, grids }, pictures: of.to_vec(), completions }
        };
        vec![
            group(&[0, 1], vec![vec![50, 51, 52], vec![53], vec![54, 55, 56, 57]]),
            group(&[1], vec![vec![58, 59], vec![60, 61]]),
            group(&[2], vec![vec![62, 63]]),
        ]
    }

    /// A different weight for every token, so that no two errors cancel.
    fn loss(group: usize, logprobs: &Tensor, mask: &Tensor) -> candle_core::Result<Tensor> {
        let count = logprobs.elem_count();
        let weights = (0..count).map(|i| ((i + 3 * group) as f32).sin()).collect::<Vec<f32>>();
        ((logprobs * Tensor::from_vec(weights, logprobs.shape(), &Device::Cpu)?)? * mask)?.sum_all()
    }

    struct Linear(Var);

    impl Probe for Linear {
        fn vars(&self) -> Vec<(String, Var)> {
            vec![("probe".to_owned(), self.0.clone())]
        }

        fn loss(&self, first_picture: usize, pooled: &Tensor) -> candle_core::Result<Tensor> {
            pooled.matmul(&self.0)?.sqr()?.sum_all()? * (1.0 + first_picture as f64)
        }
    }

    fn probe(policy: &Policy) -> Linear {
        Linear(Var::ones((policy.config.text.hidden_size, 2), DType::F32, &Device::Cpu).unwrap())
    }

    fn values(tensor: &Tensor) -> Vec<f32> {
        Floats::of(tensor).unwrap().to_vec()
    }

    #[test]
    fn results_do_not_depend_on_the_number_of_threads() {
        let policy = policy();
        let pictures = pictures(&policy);
        let groups = groups(&policy, &pictures);
        let probe = probe(&policy);
        let with_threads = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| policy.gradients(&pictures, &groups, &loss, Some(&probe)).unwrap())
        };
        let (one, three) = (with_threads(1), with_threads(3));
        assert_eq!((&one.losses, one.probe_loss), (&three.losses, three.probe_loss));
        for (name, gradient) in &one.by_name {
            assert_eq!(values(gradient), values(&three.by_name[name]), "{name}");
        }
    }

    #[test]
    fn packed_completions_have_the_gradients_of_separate_sequences() {
        let policy = policy();
        let pictures = pictures(&policy);
        let groups = groups(&policy, &pictures);
        let packed = policy.gradients(&pictures, &groups, &loss, None).unwrap();
        // One group a completion; its loss picks the row of weights that it had in the pack.
        let places: Vec<(usize, usize)> = (0..groups.len())
            .flat_map(|group| (0..groups[group].completions.len()).map(move |lane| (group, lane)))
            .collect();
        let longest = |group: usize| groups[group].completions.iter().map(Vec::len).max().unwrap();
        let alone: Vec<Group> = places
            .iter()
            .map(|&(group, lane)| Group {
                completions: vec![groups[group].completions[lane].clone()],
                ..groups[group].clone()
            })
            .collect();
        let loss_of_one = |index: usize, logprobs: &Tensor, mask: &Tensor| {
            let (group, lane) = places[index];
            let pad = |row: &Tensor| row.pad_with_zeros(1, 0, longest(group) - row.dim(1)?);
            let rows = |row: &Tensor| pad(row)?.pad_with_zeros(0, lane, groups[group].completions.len() - lane - 1);
            loss(group, &rows(logprobs)?, &rows(mask)?)
        };
        let separate = policy.gradients(&pictures, &alone, &loss_of_one, None).unwrap();
        assert_eq!(packed.by_name.len(), policy.weights.iter().count());
        for (name, packed) in &packed.by_name {
            let (packed, separate) = (values(packed), values(&separate.by_name[name]));
            let size = separate.iter().fold(0.0_f32, |size, value| size.max(value.abs()));
            for (packed, separate) in packed.iter().zip(&separate) {
                assert!((packed - separate).abs() <= 1e-4 * size, "{name}: {packed} and {separate}, largest {size}");
            }
        }
    }

    #[test]
    fn without_groups_the_probe_trains_the_vision_tower_alone() {
        let policy = policy();
        let (pictures, probe) = (pictures(&policy), probe(&policy));
        let found = policy.gradients(&pictures, &[], &loss, Some(&probe)).unwrap();
        let vision = policy.weights.iter().filter(|(name, _)| name.starts_with("visual.")).count();
        assert_eq!(found.by_name.len(), vision + 1);
        assert!(found.by_name.keys().all(|name| name.starts_with("visual.") || name == "probe"));
    }

    #[test]
    fn the_probes_gradient_is_that_of_finite_differences() {
        let policy = policy();
        let (pictures, probe) = (pictures(&policy), probe(&policy));
        let exact = policy.gradients(&pictures, &[], &loss, Some(&probe)).unwrap();
        for name in ["visual.merger.mlp.2.bias", "visual.blocks.0.norm1.weight"] {
            let var = policy.weights.get(name).unwrap();
            let original = values(var.as_tensor());
            let at = |step: f32| {
                let mut moved = original.clone();
                moved[1] += step;
                var.set(&tensor(moved, original.len()).unwrap()).unwrap();
                f64::from(policy.gradients(&pictures, &[], &loss, Some(&probe)).unwrap().probe_loss)
            };
            let numeric = (at(1e-2) - at(-1e-2)) / 2e-2;
            var.set(&tensor(original.clone(), original.len()).unwrap()).unwrap();
            let exact = f64::from(values(&exact.by_name[name])[1]);
            assert!((numeric - exact).abs() < 1e-2 * exact.abs(), "{name}: {exact} but differences say {numeric}");
        }
    }

    #[test]
    fn a_loss_that_depends_on_nothing_gives_no_gradients() {
        let policy = policy();
        let pictures = pictures(&policy);
        let nothing = |_: usize, _: &Tensor, _: &Tensor| Tensor::new(1.5_f32, &Device::Cpu);
        let found = policy.gradients(&pictures, &groups(&policy, &pictures), &nothing, None).unwrap();
        assert!(found.by_name.is_empty());
        assert_eq!(found.losses, [1.5; 3]);
    }

    #[test]
    fn a_batch_whose_pieces_do_not_fit_is_refused() {
        let policy = policy();
        let pictures = pictures(&policy);
        let broken = |change: &dyn Fn(&mut Group)| {
            let mut groups = groups(&policy, &pictures);
            change(&mut groups[1]);
            policy.logprobs(&pictures, &groups).unwrap_err().to_string()
        };
        assert!(broken(&|group| group.pictures = vec![7]).contains("picture 7 of a batch of 3"));
        assert!(broken(&|group| group.pictures = vec![0]).contains("a picture of grid"));
        assert!(broken(&|group| group.completions = Vec::new()).contains("no completions"));
        assert!(broken(&|group| group.completions[0] = Vec::new()).contains("no tokens"));
        assert!(broken(&|group| group.completions[0] = vec![1 << 30]).contains("outside the vocabulary"));
        let banned = policy.config.image_token_id;
        assert!(broken(&|group| group.completions[0] = vec![banned]).contains("never sampled"));
    }
}
