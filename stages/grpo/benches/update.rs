//! What an update of the tiny policy costs by phase, in processor seconds, so that its speed can be followed.
//!
//! `cargo bench --workspace --bench update -- [UPDATES]`, with `--profile dev` for what `cargo build` makes. An update is of the
//! quickstart's kind: 8 pairs of pictures of 112 x 112 pixels, 32 completions of up to 14 tokens each; on one thread.

use std::ffi::OsString;
use std::path::Path;

use cpu_time::ProcessTime;
use evoq_schemas::{Image, Label, Update};
use evoq_test_support::{Folder, Meter, label, rows, stored, texture};
use tracing::{Dispatch, dispatcher};

const PHASES: [&str; 4] = ["sampling", "reference", "gradients", "step"];
const PAIRS: usize = 8;

/// The tables `images` and `labels` of as many pairs as `updates` updates show, no picture in two of them.
fn tables(folder: &Folder, updates: usize) -> [String; 2] {
    let pictures: Vec<Image> =
        (0..2 * PAIRS * updates).map(|it| stored(&format!("{it:04}.png"), &texture(112, 112, it as u32))).collect();
    let labels: Vec<Label> = pictures.chunks_exact(2).map(|pair| label(&pair[0], &pair[1])).collect();
    [folder.table("images", &pictures), folder.table("labels", &labels)]
}

fn main() {
    // cargo adds `--bench`.
    let updates =
        std::env::args().skip(1).find(|it| it != "--bench").map_or(10, |it| it.parse().expect("UPDATES is a number"));
    rayon::ThreadPoolBuilder::new().num_threads(1).build_global().expect("nothing ran before");
    let (folder, meter) = (Folder::new(), Meter::of("evoq_grpo"));
    let [images, labels] = tables(&folder, updates);
    let seconds = meter.seconds();
    let (pairs, out) = (PAIRS.to_string(), folder.at("out"));
    let policy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../workflows/tiny-policy").display().to_string();
    let inputs = ["--images", &images, "--labels", &labels, "--policy", &policy, "--out", &out];
    // A learning rate at which the policy stays what it is: replies, and with them the work, hardly depend on the code's rounding.
    let flags = ["--pairs-per-update", &pairs, "--max-tokens", "14", "--check-pairs", "0", "--learning-rate", "1e-6"];
    let arguments = std::iter::once("evoq-grpo").chain(inputs).chain(flags).map(OsString::from);
    let all = ProcessTime::now();
    dispatcher::with_default(&Dispatch::new(meter), || evoq_stage::main_from::<evoq_grpo::Args>(arguments));
    let all = all.elapsed().as_secs_f64();

    let done: Vec<Update> = rows(&out);
    assert_eq!(done.len(), updates, "the run failed");
    let tokens: u64 = done.iter().map(|it| it.tokens).sum();
    let seconds = seconds.lock().expect("nobody panics with it");
    let known: f64 = PHASES.iter().map(|phase| seconds[phase]).sum();
    println!("{updates} updates, {tokens} tokens of completions; processor milliseconds an update:");
    let each = |name: &str, seconds: f64| {
        println!("{name:<16}{:>9.1}{:>6.1} %", 1e3 * seconds / updates as f64, 100.0 * seconds / all);
    };
    for phase in PHASES {
        each(phase, seconds[phase]);
    }
    each("around them", all - known);
    each("all", all);
}
