"""Votes and updates of this project's policy beside those of transformers and mistral.rs, in turn on one machine.

    pip install torch==2.15.0 torchvision==0.29.2 transformers==5.23.0 pillow==12.0.0 numpy==2.4.6 mistralrs==0.9.5
    cargo build -p evoq-policy --bench policy
    python stages/policy/benches/peers.py target/debug/deps/policy-… FOLDER [--threads 1 2] [--only ours,generate,…]

FOLDER gets a random checkpoint of 126 million parameters (505 MB) and two pictures of 512x384, once. The workload is 32
replies of 32 tokens about the two pictures, in f32, with end tokens banned. Every run is a process of its own, so that
its peak memory is its own; runs alternate, and the best of `--rounds` by CPU seconds counts, for those suffer least from
what else the machine does. Times are of vision tower, prompt and replies, without loading the weights, and for all but
mistral.rs without preparing the pictures.

    ours        one prompt, 32 lanes that share it
    shared      transformers with a cache that is read once and repeated for 32 rows
    generate    transformers, generate(num_return_sequences=32)
    mistralrs   mistral.rs, asked 32 times: it keeps pictures and prompt in its caches (n_choices=32 takes over 18 GB)
    matmul      rates of products in the shapes of the model, torch's and ours
    greedy      the greedy reply of ours, transformers and mistral.rs; the three must be equal
    train       an update by GRPO: 32 given completions of 32 tokens about one picture, forward, backward, clip and AdamW.
                Ours packs them behind one prompt; transformers takes them as 32 sequences with gradient checkpointing
    separate    the same in transformers one sequence after another, which takes the least memory

For the last two, memory is the peak of the update above what stays from one to the next: weights, reference policy and
AdamW's moments, four times the weights in f32, which are their own master. All above that is counted, with what
allocators keep; only what either process holds before it loads the model (Python, torch, our program) is taken off.
"""

import argparse
import base64
import copy
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

QUESTION = ("You are performing an image quality assessment task. Compare the two images and decide which one has better perceptual quality. "
            "Answer strictly with the index of the better image: 0 if the first image is better, or 1 if the second image is better.")
RATING = ("You are doing the image quality assessment task. Here is the question: What is your overall rating on the quality of this picture? "
          "The rating should be a float between 1 and 5, rounded to two decimal places, with 1 representing very poor quality and 5 representing "
          "excellent quality.")
K, NEW = 32, 32


def prepare(folder: Path) -> None:
    """The checkpoint and the pictures."""
    sys.path.insert(0, str(Path(__file__).parents[3] / "tests/fixtures"))
    import numpy as np
    from PIL import Image
    from policy_checkpoint import checkpoint
    if not (folder / "checkpoint/model.safetensors").exists():
        checkpoint(folder / "checkpoint", 5,
                   dict(hidden_size=768, intermediate_size=4096, num_hidden_layers=10, num_attention_heads=6, num_key_value_heads=2,
                        max_window_layers=10, vocab_size=2048, rope_scaling=dict(type="mrope", mrope_section=[16, 24, 24])),
                   dict(depth=8, hidden_size=320, intermediate_size=856, num_heads=4, out_hidden_size=768, fullatt_block_indexes=[1, 3, 5, 7]))
    for n, name in enumerate(("one", "two")):
        y, x = np.mgrid[0:384, 0:512]
        layers = [120 + 80 * np.sin(0.05 * (n + 1) * x + c) * np.cos(0.03 * y) + 40 * (x * (1 + n) > 2 * y) for c in range(3)]
        Image.fromarray(np.clip(np.stack(layers, -1), 0, 255).astype(np.uint8)).save(folder / f"{name}.png")


class Peer:
    """transformers on the checkpoint, with the prompt's inputs."""

    def __init__(self, folder: Path, threads: int, pictures: tuple = ("one", "two"), question: str = QUESTION):
        import torch
        from PIL import Image
        from transformers import AutoProcessor, Qwen2_5_VLForConditionalGeneration
        torch.set_num_threads(threads)
        self.torch = torch
        self.model = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder / "checkpoint", dtype=torch.float32, attn_implementation="sdpa").eval()
        processor = AutoProcessor.from_pretrained(folder / "checkpoint")
        content = [{"type": "image"} for _ in pictures] + [{"type": "text", "text": question}]
        text = processor.apply_chat_template([{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True)
        images = [Image.open(folder / f"{name}.png").convert("RGB") for name in pictures]
        self.inputs = processor(text=[text], images=images, return_tensors="pt")
        self.length = self.inputs["input_ids"].shape[1]
        tokenizer, config = processor.tokenizer, self.model.config
        names = "vision_start vision_end vision_pad image_pad video_pad".split()
        self.never = [tokenizer.convert_tokens_to_ids(f"<|{name}|>") for name in names] + list(range(len(tokenizer), config.text_config.vocab_size))
        self.ends = list(self.model.generation_config.eos_token_id)

    def generate(self) -> None:
        """All replies by `generate`, which reads the prompt once for each."""
        with self.torch.inference_mode():
            out = self.model.generate(**self.inputs, max_new_tokens=NEW, min_new_tokens=NEW, num_return_sequences=K, do_sample=True,
                                      temperature=1.0, top_p=1.0, top_k=0, repetition_penalty=1.0, suppress_tokens=self.never)
        assert out.shape == (K, self.length + NEW)

    def shared(self) -> dict:
        """All replies from one reading of the prompt, whose cache is repeated. Gives the seconds of that reading."""
        torch, start = self.torch, Clock()
        banned = torch.tensor(self.never + self.ends)
        with torch.inference_mode():
            out = self.model(**self.inputs, use_cache=True, logits_to_keep=1)
            prefill = start.stop()
            after = self.length + int(self.model.model.rope_deltas)
            out.past_key_values.batch_repeat_interleave(K)
            logits = out.logits[:, -1].repeat(K, 1)
            for step in range(NEW):
                drawn = torch.multinomial(logits.index_fill(1, banned, float("-inf")).softmax(-1), 1)
                if step + 1 < NEW:
                    at = torch.full((3, K, 1), after + step)
                    logits = self.model(input_ids=drawn, past_key_values=out.past_key_values, position_ids=at, use_cache=True).logits[:, -1]
        return dict(prefill=prefill["wall"], prefill_cpu=prefill["cpu"])

    def greedy(self) -> list:
        """The greedy reply."""
        with self.torch.inference_mode():
            out = self.model.generate(**self.inputs, max_new_tokens=NEW, do_sample=False, temperature=None, top_p=None, top_k=None,
                                      repetition_penalty=1.0, suppress_tokens=self.never)
        return out[0, self.length:].tolist()

    def matmul(self) -> None:
        """Rates in the shapes of the model, and of one large product."""
        torch = self.torch
        for rows, output, inner in [(2048, 2048, 2048)] + [(rows, *shape) for rows in (K, 590) for shape in ((768, 768), (256, 768), (4096, 768), (768, 4096), (2048, 768))]:
            weights = [torch.randn(output, inner) for _ in range(10)]
            x, wall, cpu = torch.randn(rows, inner), 1e9, 1e9
            for _ in range(5):
                repeats = max(1, round(2e10 / (20 * rows * output * inner)))
                clock = Clock()
                for _ in range(repeats):
                    for weight in weights:
                        torch.nn.functional.linear(x, weight)
                took = clock.stop()
                wall, cpu = min(wall, took["wall"] / repeats / 10), min(cpu, took["cpu"] / repeats / 10)
            work = 2e-9 * rows * output * inner
            print(json.dumps(dict(what="matmul", kernel="torch", rows=rows, out=output, gflops=work / wall, gflops_a_cpu=work / cpu) | {"in": inner}))


class Clock:
    """Seconds by the wall and of all CPUs."""

    def __init__(self):
        self.wall, self.cpu = time.perf_counter(), time.process_time()

    def stop(self) -> dict:
        """Since it was made."""
        return dict(wall=time.perf_counter() - self.wall, cpu=time.process_time() - self.cpu)


class Learner(Peer):
    """transformers with torch's AdamW, all that stays from update to update in memory."""

    def __init__(self, folder: Path, threads: int):
        import transformers.models.qwen2_5_vl.modeling_qwen2_5_vl  # noqa: F401, to be there before memory is counted
        self.program = held("VmRSS")
        super().__init__(folder, threads, ("one",), RATING)
        torch = self.torch
        self.reference = copy.deepcopy(self.model)
        self.model.train().gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        self.weights = list(self.model.parameters())
        self.optimizer = torch.optim.AdamW(self.weights, lr=3e-7, weight_decay=0.0, fused=True)
        for weight in self.weights:
            moments = {name: torch.empty_like(weight).zero_() for name in ("exp_avg", "exp_avg_sq")}
            self.optimizer.state[weight] = dict(step=torch.zeros(())) | moments
        draw = torch.Generator().manual_seed(1)
        allowed = torch.tensor(sorted(set(range(self.model.config.text_config.vocab_size)) - set(self.never) - set(self.ends)))
        self.completions = allowed[torch.randint(len(allowed), (K, NEW), generator=draw)]
        self.advantages, self.ahead = torch.randn(K, 1, generator=draw), 0.1 * torch.randn(K, NEW, generator=draw)

    def loss(self, rows: slice):
        """The GRPO loss (token form) of some of the completions, as sequences of their own in one batch."""
        torch, completions, inputs = self.torch, self.completions[rows], self.inputs
        count = len(completions)
        ids = torch.cat([inputs["input_ids"].expand(count, -1), completions], 1)
        types = torch.cat([inputs["mm_token_type_ids"].expand(count, -1), torch.zeros_like(completions)], 1)
        logits = self.model(input_ids=ids, attention_mask=torch.ones_like(ids), mm_token_type_ids=types, use_cache=False, logits_to_keep=NEW + 1,
                            pixel_values=inputs["pixel_values"].repeat(count, 1), image_grid_thw=inputs["image_grid_thw"].repeat(count, 1)).logits
        logits = logits[:, :-1].index_fill(-1, torch.tensor(self.never), float("-inf"))
        now = torch.log_softmax(logits, -1).gather(-1, completions[..., None])[..., 0]
        ratio, ahead = torch.exp(now - now.detach()), now.detach() + self.ahead[rows] - now
        gain = torch.minimum(ratio * self.advantages[rows], ratio.clamp(0.8, 1.2) * self.advantages[rows])
        return -(gain - 0.05 * (torch.exp(ahead) - ahead - 1)).mean() * count / K

    def update(self, rows: int) -> dict:
        """One update, `rows` sequences at a time, after one sequence's forward and backward pass to warm up."""
        self.loss(slice(0, 1)).backward()
        self.optimizer.zero_grad(set_to_none=True)
        Path("/proc/self/clear_refs").write_text("5")  # the peak is that of the update
        clock = Clock()
        for start in range(0, K, rows):
            self.loss(slice(start, start + rows)).backward()
        self.torch.nn.utils.clip_grad_norm_(self.weights, 1.0)
        self.optimizer.step()
        parameters = sum(weight.numel() for weight in self.weights)
        return dict(what="train", prompt=self.length, parameters=parameters, program_mib=self.program, peak_mib=held("VmHWM")) | clock.stop()


def held(field: str) -> float:
    """A field of this process's memory in MiB: what it holds, or the most that it held."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field + ":"))
    return int(line.split()[1]) / 1024


class Mistral:
    """mistral.rs on the checkpoint. It holds keys and values in f16 unless told otherwise, and puts no pictures' places
    into the text of a template that it does not know, so they are written out."""

    def __init__(self, folder: Path):
        os.environ["MISTRALRS_CPU_KV_F32"] = "1"
        import mistralrs
        from transformers import AutoConfig, AutoTokenizer
        self.library = mistralrs
        which = mistralrs.Which.MultimodalPlain(model_id=str(folder / "checkpoint"), arch=mistralrs.MultimodalArchitecture.Qwen2_5VL,
                                                dtype=mistralrs.ModelDType.F32)
        self.runner = mistralrs.Runner(which=which, max_seqs=1)
        tokenizer, config = AutoTokenizer.from_pretrained(folder / "checkpoint"), AutoConfig.from_pretrained(folder / "checkpoint")
        names = "vision_start vision_end vision_pad image_pad video_pad im_end".split()
        never = [tokenizer.convert_tokens_to_ids(f"<|{name}|>") for name in names] + [tokenizer.convert_tokens_to_ids("<|endoftext|>")]
        self.never = {token: -1e9 for token in never + list(range(len(tokenizer), config.text_config.vocab_size))}
        url = lambda name: "data:image/png;base64," + base64.b64encode((folder / f"{name}.png").read_bytes()).decode()
        pictures = [{"type": "image_url", "image_url": {"url": url(name)}} for name in ("one", "two")]
        self.content = pictures + [{"type": "text", "text": "<|vision_start|><|image_pad|><|vision_end|>" * 2 + QUESTION}]

    def ask(self, temperature: float):
        """A reply of NEW tokens."""
        request = self.library.ChatCompletionRequest(
            messages=[{"role": "user", "content": self.content}], model="default", max_tokens=NEW, temperature=temperature,
            top_p=1.0, repetition_penalty=1.0, logit_bias=self.never, ignore_eos=True, logprobs=True, top_logprobs=1)
        return self.runner.send_chat_completion_request(request)

    def vote(self) -> None:
        """All replies."""
        clock = Clock()
        usages = [self.ask(1.0).usage for _ in range(K)]
        took = clock.stop()
        assert all(usage.completion_tokens == NEW for usage in usages), usages
        print(json.dumps(dict(what="vote", prompt=usages[0].prompt_tokens) | took))

    def greedy(self) -> None:
        """The greedy reply."""
        tokens = self.ask(0.0).choices[0].logprobs.content
        print(json.dumps(dict(what="greedy", ids=[token.top_logprobs[0].token for token in tokens])))


def child(mode: str, folder: Path, threads: int) -> None:
    """One peer's run in this process."""
    if mode.startswith("mistralrs"):
        mistral = Mistral(folder)
        return mistral.greedy() if mode == "mistralrs greedy" else mistral.vote()
    if mode in ("train", "separate"):
        return print(json.dumps(Learner(folder, threads).update(K if mode == "train" else 1)))
    peer = Peer(folder, threads)
    if mode == "matmul":
        return peer.matmul()
    if mode == "greedy":
        return print(json.dumps(dict(what="greedy", ids=peer.greedy())))
    clock = Clock()
    prefill = getattr(peer, mode)()
    print(json.dumps(dict(what="vote", prompt=peer.length) | clock.stop() | (prefill or {})))


def run(command: list, threads: int) -> tuple[list, float]:
    """What a process printed, line by line, and its peak memory in MiB."""
    environment = os.environ | {name: str(threads) for name in ("RAYON_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True)
    lines = [json.loads(line) for line in process.stdout if line.startswith("{")]
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0 or not lines:
        code = os.waitstatus_to_exitcode(status)
        print(f"FAILED with {code} after {usage.ru_utime + usage.ru_stime:.0f} s of CPU and {usage.ru_maxrss / 1024:.0f} MiB: {' '.join(command)}", flush=True)
        return [], usage.ru_maxrss / 1024
    return lines, usage.ru_maxrss / 1024


def decoding_share(step: dict, rates: dict, measure: str) -> float:
    """What share of the machine's rate of products, the better of the kernels' for each shape, our decoding reaches."""
    layers = [((768, 768), 20), ((256, 768), 20), ((4096, 768), 20), ((768, 4096), 10), ((2048, 768), 1)]
    work = lambda shape: shape[0] * shape[1]
    seconds = sum(count * work(shape) / max(rates[(K, *shape)][measure].values()) for shape, count in layers)
    return step[measure] * seconds / sum(count * work(shape) for shape, count in layers)


def bars(best: dict, rates: dict) -> None:
    """Each bar with what was found, by CPU seconds and by the wall."""
    ours = best["ours"]
    found = [(f"times less than {mode}", wanted, *(best[mode][of] / ours[of] for of in ("cpu", "wall")))
             for mode, wanted in (("generate", ">= 7"), ("shared", ">= 2"), ("mistralrs", "> 1")) if mode in best]
    if "shared" in best:
        found.append(("prefill to torch's", "<= 1.2", *(ours[of] / best["shared"][of] for of in ("prefill_cpu", "prefill"))))
    if rates:
        found.append(("share of products' rate", ">= 0.6", *(decoding_share(ours["step"], rates, of) for of in ("gflops_a_cpu", "gflops"))))
    for name, wanted, cpu, wall in found:
        print(f"  {name:24} {wanted:7} {cpu:6.2f} by CPU seconds, {wall:6.2f} by the wall")
    print(f"  {'peak memory':24} <= 1.1 GB {ours['memory'] * 1.048576e-3:.2f}")


def learning(program: str, checkpoint: str, picture: str, peer, wanted: list, threads: int, rounds: int) -> None:
    """Updates of ours and of transformers in turn: the best of each, and how many times less ours takes."""
    best = {}
    modes = ["ours"] + [mode for mode in ("train", "separate") if mode in wanted]
    for mode in modes * rounds:
        command = [program, "train", checkpoint, picture, str(K), str(NEW)] if mode == "ours" else peer(mode, threads)
        lines = run(command, threads)[0]
        if not lines:
            continue
        found = lines[-1]
        stays = 4 * 4 * lines[0]["parameters"] / 2 ** 20
        above = found["peak_mib"] - stays - found["program_mib"]
        print(f"{threads} threads, update, {mode:8}: {found['cpu']:6.2f} s of CPU, {found['wall']:6.2f} s by the wall, {above:5.0f} MiB above the "
              f"{stays:.0f} that stay, prompt {found['prompt']}, load {os.getloadavg()[0]:.1f}", flush=True)
        if mode not in best or found["cpu"] < best[mode]["cpu"]:
            best[mode] = found | dict(above=above)
    for mode in [mode for mode in modes[1:] if mode in best and "ours" in best]:
        assert best[mode]["prompt"] == best["ours"]["prompt"], "the prompts differ"
        cpu, wall, above = (best[mode][of] / best["ours"][of] for of in ("cpu", "wall", "above"))
        print(f"  update, times less than {mode:8}  >= 5 {cpu:6.2f} by CPU seconds, {wall:6.2f} by the wall;  >= 6 {above:6.2f} by memory", flush=True)


def main() -> None:
    """All runs, and for each number of threads a table of the best of each, the rates of products and the bars."""
    parser = argparse.ArgumentParser()
    parser.add_argument("program", type=Path, help="the benchmark program of this crate")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--only", default="ours,shared,generate,mistralrs,matmul,greedy,train,separate")
    parser.add_argument("--child")
    options = parser.parse_args()
    folder, program = options.folder.resolve(), str(options.program.resolve())
    if options.child:
        return child(options.child, folder, options.threads[0])
    folder.mkdir(parents=True, exist_ok=True)
    prepare(folder)
    checkpoint, pictures = str(folder / "checkpoint"), [str(folder / "one.png"), str(folder / "two.png")]
    peer = lambda mode, threads: [sys.executable, __file__, program, str(folder), "--child", mode, "--threads", str(threads)]
    wanted = options.only.split(",")
    for threads in options.threads:
        best, rates = {}, {}
        for _ in range(options.rounds):
            for mode in [mode for mode in ("ours", "shared", "generate", "mistralrs") if mode in wanted]:
                command = [program, "vote", checkpoint, *pictures, str(K), str(NEW)] if mode == "ours" else peer(mode, threads)
                lines, memory = run(command, threads)
                found = {line["what"]: line for line in lines}
                if "vote" not in found:
                    continue
                vote = found["vote"] | dict(memory=memory, load=os.getloadavg()[0])
                if mode == "ours":
                    vote |= {name: found["vision"][of] + found["prefill"][of] for name, of in (("prefill", "wall"), ("prefill_cpu", "cpu"))}
                    vote |= dict(step=found["decode step"])
                prefill = f"prefill {vote['prefill_cpu']:.2f} s of CPU, {vote['prefill']:.2f} s by the wall, " if "prefill" in vote else ""
                print(f"{threads} threads, {mode:9}: {vote['cpu']:6.2f} s of CPU, {vote['wall']:6.2f} s by the wall, {prefill}"
                      f"{vote['memory']:5.0f} MiB at most, {K * NEW / vote['wall']:6.1f} tokens/s, prompt {vote['prompt']}, load {vote['load']:.1f}", flush=True)
                if mode not in best or vote["cpu"] < best[mode]["cpu"]:
                    best[mode] = vote
        if "matmul" in wanted:
            for command in ([program, "matmul"], peer("matmul", threads)):
                for line in run(command, threads)[0]:
                    at = rates.setdefault((line["rows"], line["out"], line["in"]), dict(gflops={}, gflops_a_cpu={}))
                    for measure in at:
                        at[measure][line["kernel"]] = round(line[measure], 1)
            for shape, found in rates.items():
                print(f"  {threads} threads, {'x'.join(map(str, shape)):14} GFLOP a second of CPU {found['gflops_a_cpu']}, by the wall {found['gflops']}")
        if "ours" in best:
            step = best["ours"]["step"]
            print(f"  ours decodes at {step['gflops_a_cpu']:.1f} GFLOP a second of CPU, {step['gflops']:.1f} by the wall; a step takes "
                  f"{1000 * step['cpu']:.0f} ms of CPU, {1000 * step['wall']:.0f} ms by the wall")
            bars(best, rates)
        if "train" in wanted or "separate" in wanted:
            learning(program, checkpoint, pictures[0], peer, wanted, threads, options.rounds)
    if "greedy" in wanted:
        commands = {"ours": [program, "greedy", checkpoint, *pictures, str(NEW)], "transformers": peer("greedy", 2),
                    "mistral.rs": peer("mistralrs greedy", 2)}
        found = {name: [line["ids"] for line in run(command, 2)[0] if line["what"] == "greedy"] for name, command in commands.items()}
        same = all(ids and ids == found["ours"] for ids in found.values())
        print(f"greedy tokens of all three are equal: {found['ours'][0]}" if same else f"greedy tokens are NOT equal: {json.dumps(found)}")


if __name__ == "__main__":
    main()
