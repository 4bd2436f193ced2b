"""The `grpo` step by TRL: GRPOTrainer learns from evoq's labels and writes a policy, `rollouts` and `updates`.

usage: grpo.py --help; workflows/trl-grpo.yaml calls it. Its environment: requirements.txt (run.sh makes one).

The objective is evoq's own default (Eq. 2 to 4, loss over tokens and then completions, k3 against the policy at the start of the
round, one step on each batch), said in TRL's words in `settings`. What a policy never says (vision tokens, rows of the vocabulary
without a token) is ruled out by a frozen bias in the output layer, in sampling and in log-probabilities alike; it is taken off
before the weights are written.
"""

import argparse
import io
import os
import shutil
import statistics
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from datasets import Dataset
from PIL import Image
from transformers import AutoProcessor, Qwen2_5_VLForConditionalGeneration
from trl import GRPOConfig, GRPOTrainer

import reward
import tables

NEVER = -1e30


def arguments() -> argparse.Namespace:
    """The flags; their defaults are those of `evoq grpo`."""
    flags = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, about in [("images", "folder of the table images, with pixels"), ("labels", "folder of the table labels"),
                        ("policy", "checkpoint folder to start from"), ("to-policy", "folder for the trained checkpoint"),
                        ("to-rollouts", "folder for the table rollouts"), ("to-updates", "folder for the table updates")]:
        flags.add_argument(f"--{name}", type=Path, required=True, help=about)
    for name, kind, value, about in [
            ("seed", int, 1, "of the order of pairs and of sampling"), ("samples", int, 32, "completions a picture, K"),
            ("pairs-per-update", int, 32, "labelled pairs an update"), ("most-updates", int, 0, "stop after so many; 0: all"),
            ("learning-rate", float, 3e-7, "at the start; it falls linearly to 0"), ("max-tokens", int, 512, "most tokens a completion"),
            ("beta", float, 0.05, "weight of the divergence"), ("epsilon", float, 0.2, "of the clipped ratio"),
            ("micro-batch", int, 32, "completions that pass through the model together")]:
        flags.add_argument(f"--{name}", type=kind, default=value, help=f"{about} [default: {value}]")
    return flags.parse_args()


def settings(given: argparse.Namespace, updates: int, scratch: str) -> GRPOConfig:
    """evoq's objective in TRL's words. All completions of an update are drawn at once and used for one optimizer step."""
    drawn = 2 * given.pairs_per_update * given.samples
    if drawn % given.micro_batch:
        raise SystemExit(f"error: --micro-batch {given.micro_batch}: expected a divisor of the {drawn} completions of an update")
    return GRPOConfig(
        output_dir=scratch, max_steps=updates, per_device_train_batch_size=given.micro_batch,
        gradient_accumulation_steps=drawn // given.micro_batch, num_generations=given.samples, num_iterations=1,
        max_completion_length=given.max_tokens, temperature=1.0, top_p=1.0, top_k=0, repetition_penalty=1.0,
        mask_truncated_completions=False, loss_type="grpo", scale_rewards="group", beta=given.beta, epsilon=given.epsilon,
        # TRL 1.16 multiplies the divergence by the ratio otherwise, which Eq. 5 and 6 do not.
        use_bias_correction_kl=False,
        learning_rate=given.learning_rate, lr_scheduler_type="linear", warmup_steps=0, weight_decay=0.0, max_grad_norm=1.0,
        # The rows stand in the order of the updates, each pair's pictures side by side.
        shuffle_dataset=False, seed=given.seed % 2**32, bf16=False, gradient_checkpointing=False,
        use_cpu=not torch.cuda.is_available(), report_to=[], save_strategy="no", logging_steps=1, disable_tqdm=True)


def rows(updates: list, files: dict) -> Dataset:
    """A row a picture, in the order of the updates: the question, the pixels, the partner and p*."""
    question = [dict(role="user", content=tables.QUESTION)]
    picture = lambda name: Image.open(io.BytesIO(files[name])).convert("RGB")
    return Dataset.from_list([
        dict(prompt=question, image=picture(name), image_id=name, partner=partner, preference=preference)
        for pairs in updates for name, partner, preference in tables.pictures_of(pairs)])


def rule_out(model: torch.nn.Module, tokenizer) -> None:
    """A frozen bias of minus infinity, nearly, on what the policy never says."""
    names = ["vision_start", "vision_end", "vision_pad", "image_pad", "video_pad"]
    never = [tokenizer.convert_tokens_to_ids(f"<|{name}|>") for name in names] + list(range(len(tokenizer), model.lm_head.out_features))
    bias = torch.zeros(model.lm_head.out_features, dtype=model.lm_head.weight.dtype)
    model.lm_head.bias = torch.nn.Parameter(bias.index_fill(0, torch.tensor(never), NEVER), requires_grad=False)


class Recorded(GRPOTrainer):
    """The trainer, which keeps of each update what evoq's tables tell of it."""

    def __init__(self, *positional, **named):
        super().__init__(*positional, reward_funcs=self.rewards, **named)
        self.rollouts, self.updates, self.drawn, self.loss_parts = [], [], [], []

    def rewards(self, completion_ids: list, image_id: list, partner: list, preference: list, **_) -> list:
        """The reward of each completion of an update: TRL's custom reward function. Each picture's stand side by side."""
        K = self.num_generations
        replies = [self.reply(ids) for ids in completion_ids]
        scores = [reward.score(text) for text, _ in replies]
        of = {image_id[i]: [value for value, _ in scores[i:i + K]] for i in range(0, len(scores), K)}
        self.drawn = []
        for i in range(0, len(scores), K):
            for k, (p, r) in enumerate(reward.earned(of[image_id[i]], of[partner[i]], preference[i])):
                (text, finish), (value, why) = replies[i + k], scores[i + k]
                compared = [dict(image_id=partner[i], preference=preference[i], probability=p)] if p is not None else []
                self.drawn.append(dict(
                    update_index=self.state.global_step, image_id=image_id[i], completion=k, reply=text, score=value,
                    invalid_reason=why, partners=compared, reward=r, tokens=len(completion_ids[i + k]), finish=finish))
        return [row["reward"] for row in self.drawn]

    def reply(self, ids: list) -> tuple[str, str]:
        """A completion's text without its end of turn, and why it ended."""
        ended = ids[-1] in self.eos_token_ids
        return self._tokenizer.decode(ids[:-1] if ended else ids), "stop" if ended else "length"

    def _generate_and_score_completions(self, inputs):
        """Numbers the completions before TRL shuffles them over the micro-batches."""
        found = super()._generate_and_score_completions(inputs)
        for row, advantage in zip(self.drawn, found["advantages"].tolist(), strict=True):
            row["advantage"] = advantage
        return found | dict(row=torch.arange(len(self.drawn)))

    def _get_per_token_logps_and_entropies(self, *positional, **named):
        """Keeps the log-probs: the last ones asked for before a loss are the policy's."""
        found = super()._get_per_token_logps_and_entropies(*positional, **named)
        self.logprobs = found[0].detach()
        return found

    def _compute_loss(self, model, inputs):
        """Adds to each completion what its log-probs under both policies say."""
        loss = super()._compute_loss(model, inputs)
        self.loss_parts.append(loss.item())
        parts = inputs["row"].tolist(), self.logprobs, inputs["ref_per_token_logps"], inputs["completion_mask"].bool()
        for row, own, reference, mask in zip(*parts):
            own, reference = own[mask].double(), reference[mask].double()
            k3 = torch.expm1(reference - own) - (reference - own)
            self.drawn[row] |= dict(logprob=own.sum().item(), reference_logprob=reference.sum().item(), kl=k3.mean().item())
        return loss

    def log(self, logs: dict, *positional) -> None:
        """An optimizer step is done: its rows are whole. (TRL logs once a step, and once at the end without a gradient.)"""
        if "grad_norm" in logs:
            self.updates.append(self.summary(logs))
            self.rollouts += self.drawn
        super().log(logs, *positional)

    def summary(self, logs: dict) -> dict:
        """The update's row."""
        drawn, K = self.drawn, self.num_generations
        groups = [drawn[i:i + K] for i in range(0, len(drawn), K)]
        # A picture was left out where no rating of it was compared with its partner's.
        skipped = [not any(row["partners"] for row in group) for group in groups]
        spreads = [statistics.stdev(row["reward"] for row in group) for group in groups]
        mean = lambda name: statistics.fmean(row[name] for row in drawn)
        loss, self.loss_parts = sum(self.loss_parts), []
        return dict(
            update_index=len(self.updates), loss=loss, policy_loss=-mean("advantage"), kl=mean("kl"), reward_mean=mean("reward"),
            reward_std=statistics.fmean(spreads), invalid_rate=statistics.fmean(row["score"] is None for row in drawn),
            zero_spread_groups=sum(spread == 0 and not out for spread, out in zip(spreads, skipped)),
            skipped_groups=sum(skipped), clip_share=0.0, gradient_norm=float(logs["grad_norm"]),
            clipped=float(logs["grad_norm"]) > self.args.max_grad_norm,
            learning_rate=logs["learning_rate"],
            groups=len(groups), completions=len(drawn), tokens=sum(row["tokens"] for row in drawn))


def write_policy(model: torch.nn.Module, start: Path, folder: Path) -> None:
    """The trained weights, with the tokenizer, template, processor and generation settings of the start as they are."""
    model.lm_head.bias = None
    model.save_pretrained(folder)
    for file in start.iterdir():
        # The configuration is written with the weights, as they are f32 now whatever they were.
        if file.suffix in (".json", ".jinja", ".txt") and file.name not in ("config.json", "model.safetensors.index.json"):
            shutil.copyfile(file, folder / file.name)


def main() -> None:
    """Trains and writes the three outputs."""
    given = arguments()
    # On a CPU one thread: the same bytes on any number of cores, and a workflow's command is given one.
    torch.set_num_threads(1)
    updates = tables.updates_of(given.labels, given.pairs_per_update, given.seed)
    if 0 < given.most_updates < len(updates):
        print(f"the first {given.most_updates} of them are made (--most-updates)", file=sys.stderr)
        updates = updates[:given.most_updates]
    files = tables.pixels(given.images, {name for pairs in updates for pair in pairs for name in pair[:2]})
    processor = AutoProcessor.from_pretrained(given.policy, padding_side="left")
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(given.policy, dtype=torch.float32)
    rule_out(model, processor.tokenizer)
    with tempfile.TemporaryDirectory() as scratch:
        trainer = Recorded(model, args=settings(given, len(updates), scratch), train_dataset=rows(updates, files),
                           processing_class=processor)
        rule_out(trainer.ref_model, processor.tokenizer)
        trainer.train()
    write_policy(trainer.accelerator.unwrap_model(trainer.model), given.policy, given.to_policy)
    tables.write(given.to_rollouts, "rollouts", trainer.rollouts, tables.ROLLOUTS)
    tables.write(given.to_updates, "updates", trainer.updates, tables.UPDATES)


if __name__ == "__main__":
    main()
