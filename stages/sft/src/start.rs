//! The policy that training starts from: a given one, or one made from a shape.

use anyhow::Context;
use candle_core::Device;
use evoq_policy::init::{Shape, fixed_pieces, init};
use evoq_policy::{Policy, Tokenizer};
use evoq_schemas::Demonstration;
use evoq_stage::Job;

use crate::{Args, bad_input};

/// The policy of `--policy`, or the one that `--init` makes with a tokenizer trained on the demonstrations' replies.
pub(crate) fn policy(args: &Args, job: &Job, demonstrations: &[Demonstration]) -> anyhow::Result<Policy> {
    match (&args.init, job.has("policy")) {
        (Some(_), true) => Err(bad_input("--init and --policy were both given; choose one")),
        (None, false) => Err(bad_input("neither --policy nor --init was given; choose one")),
        (None, true) => Policy::load(&job.policy("policy")?.folder, &Device::Cpu)
            .map_err(|error| bad_input(format!("--policy: {error}"))),
        (Some(path), false) => {
            let shown = path.display();
            let text = String::from_utf8(evoq_artifacts::read_file(path)?)
                .map_err(|_| bad_input(format!("{shown}: is not UTF-8 text; expected a shape in YAML")))?;
            let shape: Shape = serde_saphyr::from_str(&text).map_err(|error| bad_input(format!("{shown}: {error}")))?;
            let replies = demonstrations.iter().map(|it| it.reply.clone());
            let tokenizer = Tokenizer::train(replies, &fixed_pieces(), shape.merges)?;
            let (config, weights, tokenizer, template, processor) =
                init(&shape, tokenizer, args.seed, &Device::Cpu).with_context(|| shown.to_string())?;
            Ok(Policy::new(config, weights, tokenizer, template, processor)?)
        }
    }
}
