//! The training step on a small checkpoint.

use std::path::Path;

use candle_core::DType;

use super::*;
use crate::ops::block::Keep;
use crate::ops::sums::adapter_names;
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

/// All gradients, with a choice of how many chunks are worked on at once.
fn gradients_of(policy: &Policy, learnt: &Learnt, at_once: usize) -> Gradients {
    let pictures = pictures(policy);
    let mut sum = GradientSum::new(learnt);
    accumulate(policy.model(), &mut sum, &pictures, &groups(policy, &pictures), &loss, None, at_once).unwrap();
    sum.finish().unwrap()
}

/// Asserts that both have the same gradients, up to rounding.
fn assert_close(a: &BTreeMap<String, Tensor>, b: &BTreeMap<String, Tensor>) {
    assert_eq!(a.keys().collect::<Vec<_>>(), b.keys().collect::<Vec<_>>());
    for (name, a) in a {
        let (a, b) = (values(a), values(&b[name]));
        let size = b.iter().fold(0.0_f32, |size, value| size.max(value.abs()));
        for (a, b) in a.iter().zip(&b) {
            assert!((a - b).abs() <= 1e-5 * size, "{name}: {a} and {b}, largest {size}");
        }
    }
}

#[test]
fn layers_that_are_made_again_give_the_bits_of_layers_that_were_kept() {
    let policy = policy();
    let (pictures, model) = (pictures(&policy), policy.model());
    let looked = pictures.iter().map(|pixels| policy.look(pixels).unwrap().tensor).collect::<Vec<_>>();
    let groups = groups(&policy, &pictures);
    let pack = pack(model, &groups, &looked).unwrap();
    let run = |keep: Keep| {
        let mut sums = Sums::default();
        let embedded = pack.embed(&model.text).unwrap();
        let (rows, state) = model.text.forward_keeping(embedded, &pack.plan, keep).unwrap();
        let dx = model.text.backward(state, &pack.plan, values(&rows), true, &mut sums).unwrap().unwrap();
        let all: Vec<&Pixels> = pictures.iter().collect();
        let (features, state) = model.vision.forward_keeping(&all, keep).unwrap();
        model.vision.backward(state, &values(&features), &mut sums).unwrap();
        let sums = sums.into_map().unwrap().into_iter().map(|(name, sum)| (name, values(&sum)));
        (values(&rows), dx, values(&features), sums.collect::<BTreeMap<_, _>>())
    };
    let (kept, again) = (run(Keep::States), run(Keep::Inputs));
    assert!(kept.3.len() > 20);
    assert_eq!(kept, again);
}

#[test]
fn chunks_one_after_the_other_give_the_gradients_of_chunks_side_by_side_on_any_number_of_threads() {
    let (policy, learnt) = (policy(), Learnt::all());
    let with_threads = |threads: usize, at_once: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| gradients_of(&policy, &learnt, at_once).by_name)
    };
    let in_turn = with_threads(1, 1);
    assert_close(&in_turn, &with_threads(1, 2));
    for (name, gradient) in with_threads(3, 1) {
        assert_eq!(values(&gradient), values(&in_turn[&name]), "{name}");
    }
    let in_pairs = with_threads(3, 2);
    for (name, gradient) in with_threads(2, 9) {
        assert_eq!(values(&gradient), values(&in_pairs[&name]), "{name}");
    }
}

#[test]
fn micro_batches_add_up_to_the_batch() {
    let (policy, learnt) = (policy(), Learnt::all());
    let pictures = pictures(&policy);
    let groups = groups(&policy, &pictures);
    let whole = policy.gradients(&pictures, &groups, &loss, None).unwrap();
    let mut sum = GradientSum::new(&learnt);
    // Their pictures: two and one.
    policy.accumulate(&mut sum, &pictures[..2], &groups[..2], &loss, None).unwrap();
    let last = Group { pictures: vec![0], ..groups[2].clone() };
    let shifted = |group: usize, logprobs: &Tensor, mask: &Tensor| loss(group + 2, logprobs, mask);
    policy.accumulate(&mut sum, &pictures[2..], &[last], &shifted, None).unwrap();
    let parts = sum.finish().unwrap();
    assert_eq!(parts.losses, whole.losses);
    assert_close(&parts.by_name, &whole.by_name);
}

#[test]
fn each_tensor_that_is_trained_gets_its_gradient_and_no_other_gets_one() {
    let policy = policy();
    let all = gradients_of(&policy, &Learnt::all(), 2).by_name;
    let lora = Trainable::Lora { rank: 2, alpha: 4.0 };
    for trainable in [Trainable::All, Trainable::Text, Trainable::Vision, Trainable::Merger, lora] {
        let learnt = Learnt::new(&policy, trainable, 7).unwrap();
        let variables = learnt.variables(&policy);
        for (name, var) in &variables {
            if name.ends_with("lora_B.weight") {
                // At 0, where it begins, `A` has no gradient.
                var.set(&var.ones_like().unwrap()).unwrap();
            }
        }
        let found = gradients_of(&policy, &learnt, 2).by_name;
        assert_eq!(variables.iter().map(|(name, _)| name).collect::<Vec<_>>(), found.keys().collect::<Vec<_>>());
        let numbers = variables.iter().map(|(_, var)| var.elem_count()).sum::<usize>();
        assert_eq!(numbers, trainable.numbers(&policy.config), "{trainable:?}");
        for (name, gradient) in &found {
            assert!(values(gradient).iter().any(|value| value.abs() > 1e-9), "{trainable:?}: {name}");
            if let Some(whole) = all.get(name) {
                assert_eq!(values(gradient), values(whole), "{trainable:?}: {name}");
            }
        }
    }
}

#[test]
fn the_gradient_of_a_low_rank_matrix_is_that_of_finite_differences() {
    let policy = policy();
    let base = policy.weights.copy().unwrap();
    let learnt = Learnt::new(&policy, Trainable::Lora { rank: 2, alpha: 4.0 }, 7).unwrap();
    let variables: BTreeMap<String, Var> = learnt.variables(&policy).into_iter().collect();
    for (name, var) in variables.iter().filter(|(name, _)| name.ends_with("lora_B.weight")) {
        let count = var.elem_count();
        let drawn = (0..count).map(|i| ((i + name.len()) as f32).sin() * 0.05).collect();
        var.set(&tensor(drawn, var.shape()).unwrap()).unwrap();
    }
    learnt.merge(&policy, &base).unwrap();
    let exact = gradients_of(&policy, &learnt, 2).by_name;
    let names = ["model.layers.0.self_attn.q_proj", "model.layers.1.mlp.down_proj"].map(adapter_names);
    for name in names.iter().flatten() {
        let (var, exact) = (&variables[name], values(&exact[name]));
        let original = values(var.as_tensor());
        // The element with the largest gradient: the differences are of f32 losses.
        let at = (0..exact.len()).max_by(|a, b| exact[*a].abs().total_cmp(&exact[*b].abs())).unwrap();
        let value = |step: f32| {
            let mut moved = original.clone();
            moved[at] += step;
            var.set(&tensor(moved, var.shape()).unwrap()).unwrap();
            learnt.merge(&policy, &base).unwrap();
            gradients_of(&policy, &learnt, 2).losses.iter().map(|loss| f64::from(*loss)).sum::<f64>()
        };
        let numeric = (value(1e-2) - value(-1e-2)) / 2e-2;
        value(0.0);
        let exact = f64::from(exact[at]);
        assert!((numeric - exact).abs() < 2e-2 * exact.abs(), "{name}: {exact} but differences say {numeric}");
    }
}

#[test]
fn merged_weights_are_the_base_and_the_product_of_both_matrices() {
    let policy = policy();
    let base = policy.weights.copy().unwrap();
    let learnt = Learnt::new(&policy, Trainable::Lora { rank: 3, alpha: 1.5 }, 7).unwrap();
    learnt.merge(&policy, &base).unwrap();
    for (name, weight) in policy.weights.iter() {
        assert_eq!(values(weight), values(base.get(name).unwrap()), "{name}: at first nothing is added");
    }
    let variables: BTreeMap<String, Var> = learnt.variables(&policy).into_iter().collect();
    let layer = "model.layers.0.mlp.up_proj";
    let [a, b] = adapter_names(layer).map(|name| variables[&name].clone());
    b.set(&tensor((0..b.elem_count()).map(|i| (i as f32).cos()).collect(), b.shape()).unwrap()).unwrap();
    learnt.merge(&policy, &base).unwrap();
    learnt.merge(&policy, &base).unwrap();
    let added = (b.matmul(&a).unwrap() * 0.5).unwrap();
    let expected = values(&(base.get(&format!("{layer}.weight")).unwrap().as_tensor() + added).unwrap());
    let found = values(policy.weights.get(&format!("{layer}.weight")).unwrap());
    assert!(found.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-6));
    assert!(found != values(base.get(&format!("{layer}.weight")).unwrap()));
}

#[test]
fn a_low_rank_matrix_of_no_rank_is_refused() {
    let error = Learnt::new(&policy(), Trainable::Lora { rank: 0, alpha: 1.0 }, 1).unwrap_err().to_string();
    assert!(error.contains("`rank`"), "{error}");
}
