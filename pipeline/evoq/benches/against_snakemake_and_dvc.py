# /// script
# requires-python = ">=3.10"
# dependencies = ["snakemake==9.27.1", "dvc==3.67.1", "pyarrow"]
# ///
"""Times plans and runs of `evoq` against Snakemake's and DVC's, in one run.

    uv run pipeline/evoq/benches/against_snakemake_and_dvc.py [--evoq target/release/evoq] [--repeat N]

or with `pip install snakemake dvc pyarrow` and `python`. Everything is made and run in a temporary folder.

Two flows, the same for all three:
 - a chain of 100 steps, each a copy of what the step before made; the first copies a Parquet file of three rows;
 - a fan-out: one step, and 1,000 that each copy what it made.
Three questions: how long a plan takes with nothing made (fan-out), how long a run takes in which all is made already (chain),
and how long each of the 100 trivial steps of the chain takes in a first run. Snakemake plans with `--dry-run`, DVC with
`status` (its `repro --dry` stops where an input is not made yet). The shortest of several is taken for plans and runs without work, one first run for the chain; programs take turns.

What is not alike: `evoq` reads each copy back, checks every row against its table's schema and commits it with digests; DVC
computes MD5 sums and links into its cache; Snakemake looks at times. DVC's stages stand in one dvc.yaml and have no cache of runs.

Each line has wall seconds and, in brackets, CPU seconds of the program and all it starts, which a busy machine stretches less.
"""

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

CHAIN, FAN = 100, 1000
QUIET = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}


def table(path):
    """Three rows of the smallest table that `evoq` knows."""
    text = lambda word: pa.array([f"{word}{i}" for i in range(3)])
    columns = {name: text(name) for name in ("source", "name", "reason", "detail")}
    pq.write_table(pa.table(columns | {"line": pa.nulls(3, pa.uint64())}), path)


class Evoq:
    name = "evoq"

    def __init__(self, folder, program):
        self.folder, self.program = folder, program

    def write(self, flow):
        step = lambda name, source: (
            f"  {name}: {{ run: [cp, -r, '{{in.rejects}}/.', '{{out.rejects}}'], in: {{ rejects: {source} }}, out: [rejects] }}"
        )
        first = "  s0: { run: [cp, ./first.parquet, '{out.rejects}'], out: [rejects] }"
        rest = [step(f"s{i}", f"s{i - 1}") for i in range(1, CHAIN)]
        if flow == "fan":
            rest = [step(f"s{i + 1}", "s0") for i in range(FAN)]
        lines = ["evoq: 1", f"name: {flow}", "steps:", first, *rest]
        (self.folder / "flow.yaml").write_text("\n".join(lines) + "\n")

    def plan(self):
        return [self.program, "plan", "flow.yaml", "--root", "root"]

    def run(self):
        return [self.program, "run", "flow.yaml", "--root", "root"]

    def is_made(self):
        return len(list((self.folder / "root").glob("s*/*/manifest.json")))


class Snakemake:
    name = "snakemake"

    def __init__(self, folder, python):
        self.folder, self.python = folder, python

    def write(self, flow):
        last = CHAIN - 1
        targets = f'"s{last}.parquet"' if flow == "chain" else f'expand("s{{i}}.parquet", i=range(1, {FAN + 1}))'
        rules = [f"rule all:\n    input: {targets}\n"]
        rules.append('rule s0:\n    input: "first.parquet"\n    output: "s0.parquet"\n    shell: "cp {input} {output}"\n')
        if flow == "chain":
            for i in range(1, CHAIN):
                rules.append(
                    f'rule s{i}:\n    input: "s{i - 1}.parquet"\n    output: "s{i}.parquet"\n    shell: "cp {{input}} {{output}}"\n'
                )
        else:
            rules.append(
                'rule fan:\n    input: "s0.parquet"\n    output: "s{i,[1-9][0-9]*}.parquet"\n    shell: "cp {input} {output}"\n'
            )
        (self.folder / "Snakefile").write_text("\n".join(rules))

    def plan(self):
        return [self.python, "-m", "snakemake", "--cores", "1", "--dry-run", "--quiet", "all"]

    def run(self):
        return [self.python, "-m", "snakemake", "--cores", "1", "--quiet", "all"]

    def is_made(self):
        return len(list(self.folder.glob("s*.parquet")))


class Dvc:
    name = "dvc"

    def __init__(self, folder, python):
        self.folder, self.python = folder, python
        command = [python, "-m", "dvc"]
        subprocess.run([*command, "init", "--no-scm", "-q"], cwd=folder, check=True, **QUIET)
        subprocess.run([*command, "config", "core.analytics", "false"], cwd=folder, check=True, **QUIET)

    def write(self, flow):
        stage = lambda name, source: (
            f"  {name}:\n    cmd: cp {source}.parquet {name}.parquet\n    deps: [{source}.parquet]\n    outs: [{name}.parquet]"
        )
        rest = [stage(f"s{i}", f"s{i - 1}") for i in range(1, CHAIN)]
        if flow == "fan":
            rest = [stage(f"s{i + 1}", "s0") for i in range(FAN)]
        (self.folder / "dvc.yaml").write_text("\n".join(["stages:", stage("s0", "first"), *rest]) + "\n")

    def plan(self):
        return [self.python, "-m", "dvc", "status"]

    def run(self):
        return [self.python, "-m", "dvc", "repro", "-q"]

    def is_made(self):
        return len(list(self.folder.glob("s*.parquet")))


def cpu():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def seconds(tool, command):
    """Wall and CPU seconds of one call."""
    begun, used = time.perf_counter(), cpu()
    done = subprocess.run(command, cwd=tool.folder, **QUIET)
    spent = (time.perf_counter() - begun, cpu() - used)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}: {done.stderr.decode()[-2000:]}")
    return spent


def shortest(tools, command_of, repeat):
    """The shortest times of each tool; they take turns, so that a busy moment meets all."""
    spent = {tool.name: [] for tool in tools}
    for _ in range(repeat):
        for tool in tools:
            spent[tool.name].append(seconds(tool, command_of(tool)))
    return {name: tuple(map(min, zip(*times))) for name, times in spent.items()}


def tools_in(folder, program, python, flow):
    made = []
    for kind, how in ((Evoq, program), (Snakemake, python), (Dvc, python)):
        place = folder / flow / kind.name
        place.mkdir(parents=True)
        table(place / "first.parquet")
        tool = kind(place, how)
        tool.write(flow)
        made.append(tool)
    return made


def told(what, times, bars=()):
    wall, used = times["evoq"]
    print(f"{what}\n  {'evoq':10} {wall * 1000:10.1f} ms ({used * 1000:9.1f})")
    for name, spent in times.items():
        if name != "evoq":
            ratios = f"{spent[0] / wall:.1f}x ({spent[1] / used:.1f}x)"
            print(f"  {name:10} {spent[0] * 1000:10.1f} ms ({spent[1] * 1000:9.1f})  {ratios}")
    for name, bar in bars:
        if times[name][0] < bar * wall:
            print(f"  short of the bar: {name} takes {times[name][0] / wall:.1f} times as long, expected {bar}")
    sys.stdout.flush()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--evoq", default="target/release/evoq", help="the program")
    parser.add_argument("--repeat", type=int, default=3, help="how often plans and runs without work are timed")
    arguments = parser.parse_args()
    program, python = str(Path(arguments.evoq).absolute()), sys.executable
    # One of the tools waits for the terminal's size, one for the network.
    os.environ.update({"DVC_NO_ANALYTICS": "true", "COLUMNS": "120", "NO_COLOR": "1"})
    folder = Path(tempfile.mkdtemp(prefix="against-"))
    try:
        fan = tools_in(folder, program, python, "fan")
        plans = shortest(fan, lambda tool: tool.plan(), arguments.repeat)
        told(f"plan of a fan-out of {FAN}", plans, (("snakemake", 10), ("dvc", 10)))
        chain = tools_in(folder, program, python, "chain")
        first = {tool.name: seconds(tool, tool.run()) for tool in chain}
        for tool in chain:
            if tool.is_made() != CHAIN:
                sys.exit(f"{tool.name} made {tool.is_made()} of {CHAIN} steps")
        again = shortest(chain, lambda tool: tool.run(), arguments.repeat)
        told(f"run of a chain of {CHAIN} that is made", again, (("snakemake", 10), ("dvc", 10)))
        # What starting the program costs is not a step's: a run without work is taken off.
        each = {name: tuple((a - b) / CHAIN for a, b in zip(first[name], again[name])) for name in first}
        told(f"each of {CHAIN} trivial steps, first run", each, (("snakemake", 5), ("dvc", 20)))
        told("the whole first run", first)
        wall, used = map(min, zip(*(seconds(chain[0], [program, "--help"]) for _ in range(10))))
        print(f"evoq --help\n  {'evoq':10} {wall * 1000:10.1f} ms ({used * 1000:9.1f})")
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
