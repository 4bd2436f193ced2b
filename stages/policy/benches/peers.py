"""Votes of this project's policy beside those of transformers and mistral.rs, in turn on one machine.

    pip install torch==2.15.0 torchvision==0.29.2 transformers==5.23.0 pillow==12.0.0 numpy==2.4.6 mistralrs==0.9.5
    cargo build -p evoq-policy --bench policy
    python stages/policy/benches/peers.py target/debug/deps/policy-… FOLDER [--threads 1 2] [--only ours,generate,…]

FOLDER gets a random checkpoint of 126 million parameters (505 MB) and two pictures of 512x384, once. The workload is 32
replies of 32 tokens about the two pictures, in f32, with end tokens banned. Every run is a process of its own, so that
its peak memory is its own; runs alternate, and the best of `--rounds` counts. Times are of vision tower, prompt and
replies, without loading the weights and without preparing the pictures.

    ours        one prompt, 32 lanes that share it
    generate    transformers, generate(num_return_sequences=32)
    shared      transformers with a cache that is read once and repeated for 32 rows
    matmul      torch's rates of products in the shapes of the model, and ours
    greedy      the greedy reply of ours, transformers and mistral.rs; the three must be equal
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

QUESTION = ("You are performing an image quality assessment task. Compare the two images and decide which one has better perceptual quality. "
            "Answer strictly with the index of the better image: 0 if the first image is better, or 1 if the second image is better.")
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

    def __init__(self, folder: Path, threads: int):
        import torch
        from PIL import Image
        from transformers import AutoProcessor, Qwen2_5_VLForConditionalGeneration
        torch.set_num_threads(threads)
        self.torch = torch
        self.model = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder / "checkpoint", dtype=torch.float32, attn_implementation="sdpa").eval()
        processor = AutoProcessor.from_pretrained(folder / "checkpoint")
        content = [{"type": "image"}, {"type": "image"}, {"type": "text", "text": QUESTION}]
        text = processor.apply_chat_template([{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True)
        images = [Image.open(folder / f"{name}.png").convert("RGB") for name in ("one", "two")]
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

    def shared(self) -> float:
        """All replies from one reading of the prompt, whose cache is repeated. Gives the seconds of that reading."""
        torch, start = self.torch, time.perf_counter()
        banned = torch.tensor(self.never + self.ends)
        with torch.inference_mode():
            out = self.model(**self.inputs, use_cache=True, logits_to_keep=1)
            prefill = time.perf_counter() - start
            after = self.length + int(self.model.model.rope_deltas)
            out.past_key_values.batch_repeat_interleave(K)
            logits = out.logits[:, -1].repeat(K, 1)
            for step in range(NEW):
                drawn = torch.multinomial(logits.index_fill(1, banned, float("-inf")).softmax(-1), 1)
                if step + 1 < NEW:
                    at = torch.full((3, K, 1), after + step)
                    logits = self.model(input_ids=drawn, past_key_values=out.past_key_values, position_ids=at, use_cache=True).logits[:, -1]
        return prefill

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
            x, best = torch.randn(rows, inner), 1e9
            for _ in range(5):
                repeats = max(1, round(4e9 / (20 * rows * output * inner)))
                start = time.perf_counter()
                for _ in range(repeats):
                    for weight in weights:
                        torch.nn.functional.linear(x, weight)
                best = min(best, (time.perf_counter() - start) / repeats / 10)
            print(json.dumps(dict(what="matmul", kernel="torch", rows=rows, out=output, **{"in": inner}, gflops=2e-9 * rows * output * inner / best)))


def child(mode: str, folder: Path, threads: int) -> None:
    """One peer's run in this process."""
    if mode == "mistralrs":
        return mistralrs(folder)
    peer = Peer(folder, threads)
    if mode == "matmul":
        return peer.matmul()
    if mode == "greedy":
        return print(json.dumps(dict(what="greedy", ids=peer.greedy())))
    wall, cpu = time.perf_counter(), time.process_time()
    prefill = getattr(peer, mode)()
    line = dict(what="vote", prompt=peer.length, wall=time.perf_counter() - wall, cpu=time.process_time() - cpu)
    print(json.dumps(line if prefill is None else line | dict(prefill=prefill)))


def run(command: list, threads: int) -> tuple[list, float]:
    """What a process printed, line by line, and its peak memory in MiB."""
    environment = os.environ | {name: str(threads) for name in ("RAYON_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True)
    lines = [json.loads(line) for line in process.stdout if line.startswith("{")]
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        sys.exit(f"{command} failed")
    return lines, usage.ru_maxrss / 1024


def main() -> None:
    """All runs, and a table of the best of each."""
    parser = argparse.ArgumentParser()
    parser.add_argument("program", help="the benchmark program of this crate")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--only", default="ours,shared,generate,matmul,greedy")
    parser.add_argument("--child")
    options = parser.parse_args()
    folder = options.folder.resolve()
    if options.child:
        return child(options.child, folder, options.threads[0])
    folder.mkdir(parents=True, exist_ok=True)
    prepare(folder)
    checkpoint, pictures = str(folder / "checkpoint"), [str(folder / "one.png"), str(folder / "two.png")]
    peer = lambda mode, threads: [sys.executable, __file__, options.program, str(folder), "--child", mode, "--threads", str(threads)]
    wanted = options.only.split(",")
    for threads in options.threads:
        best = {}
        for _ in range(options.rounds):
            for mode in [mode for mode in ("ours", "shared", "generate") if mode in wanted]:
                command = [options.program, "vote", checkpoint, *pictures, str(K), str(NEW)] if mode == "ours" else peer(mode, threads)
                lines, memory = run(command, threads)
                found = {line["what"]: line for line in lines}
                vote = found["vote"] | dict(memory=memory, load=os.getloadavg()[0])
                if mode == "ours":
                    vote |= dict(prefill=found["vision"]["wall"] + found["prefill"]["wall"], step=found["decode step"])
                if mode not in best or vote["wall"] < best[mode]["wall"]:
                    best[mode] = vote
        for mode, vote in best.items():
            print(f"{threads} threads, {mode:9}: {vote['wall']:6.2f} s by the wall, {vote['cpu']:6.2f} s of CPU, prefill {vote.get('prefill', float('nan')):.2f} s, "
                  f"{vote['memory']:5.0f} MiB at most, {K * NEW / vote['wall']:6.1f} tokens/s, prompt {vote['prompt']}, load {vote['load']:.1f}")
        if "ours" in best:
            print(f"  ours decodes at {best['ours']['step']['gflops']:.1f} GFLOP/s, a step {1000 * best['ours']['step']['wall']:.1f} ms; "
                  + ", ".join(f"{best[mode]['wall'] / best['ours']['wall']:.1f} times less than {mode}" for mode in best if mode != "ours"))
        if "matmul" in wanted:
            rates = {}
            for name, command in (("ours", [options.program, "matmul"]), ("torch", peer("matmul", threads))):
                for line in run(command, threads)[0]:
                    rates.setdefault((line["rows"], line["out"], line["in"]), {})[line["kernel"]] = round(line["gflops"], 1)
            for shape, found in rates.items():
                print(f"  {threads} threads, {'x'.join(map(str, shape)):14} GFLOP/s: {found}")
    if "greedy" in wanted:
        found = {"ours": run([options.program, "greedy", checkpoint, *pictures, str(NEW)], 2)[0][-1],
                 "transformers": run(peer("greedy", 2), 2)[0][-1]}
        same = found["ours"]["ids"] == found["transformers"]["ids"]
        print(f"greedy tokens of ours and transformers are {'equal' if same else 'NOT equal'}: {found['ours']['ids']}")


if __name__ == "__main__":
    main()
