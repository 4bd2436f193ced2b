"""Exports labelled pairs with export.py, loads the file with the loader of verl or EasyR1 and compares every row.

    python -m venv loaders && . loaders/bin/activate      # an environment of its own
    pip install -r workflows/trl/requirements.txt
    pip install --no-deps verl==0.9.1 -r workflows/trl/loaders.txt      # verl names older transformers; its loader runs in these
    python workflows/trl/check_export.py --to verl --policy workflows/tiny-policy --images …/images --labels …/labels

EasyR1 is not on PyPI and calls its package verl as well. With a clone of github.com/hiyouga/EasyR1, and transformers 4.57, which it
is written for:

    pip install --no-deps --target old transformers==4.57.6 tokenizers==0.22.2 huggingface_hub==0.36.2 numpy==2.2.6 \\
        datasets==4.0.0 fsspec==2025.3.0 dill==0.3.8
    PYTHONPATH=EasyR1:old python workflows/trl/check_export.py --to easyr1 …

Each row's picture must come out with the pixels of the table, and its prompt as the tokens that grpo.py trains on.
"""

import argparse
import io
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ |= {"HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}

import numpy as np
import pyarrow.parquet as pq
from PIL import Image
from transformers import AutoProcessor

import tables

HERE = Path(__file__).parent


def tokens(processor, picture: Image.Image) -> list:
    """The prompt as grpo.py gives it to the policy."""
    content = [dict(type="image"), dict(type="text", text=tables.QUESTION)]
    text = processor.apply_chat_template([dict(role="user", content=content)], add_generation_prompt=True, tokenize=False)
    return processor(text=[text], images=[picture], return_tensors="pt")["input_ids"][0].tolist()


def verl(file: Path, processor) -> list:
    """What verl hands to a rollout: id, picture, tokens of the prompt, truth."""
    from omegaconf import OmegaConf
    from verl.utils.dataset.rl_dataset import RLHFDataset

    settings = OmegaConf.create(dict(cache_dir=str(file.parent), max_prompt_length=2048, filter_overlong_prompts_workers=1))
    data = RLHFDataset([str(file)], processor.tokenizer, settings, processor=processor)
    found = []
    for row in (data[i] for i in range(len(data))):
        text = processor.apply_chat_template(row["raw_prompt"], add_generation_prompt=True, tokenize=False)
        pictures, _, _ = data._process_multi_modal_info(row["raw_prompt"], data.image_patch_size, settings)
        ids = processor(text=[text], images=pictures, return_tensors="pt")["input_ids"][0].tolist()
        found.append((row["extra_info"]["image_id"], pictures[0], ids, row["reward_model"]["ground_truth"]))
    return found


def easyr1(file: Path, processor) -> list:
    """The same of EasyR1."""
    from verl.utils.dataset import RLHFDataset, process_image

    data = RLHFDataset(str(file), processor.tokenizer, processor, prompt_key="problem", max_prompt_length=2048,
                       filter_overlong_prompts_workers=1)
    found = []
    for row in (data[i] for i in range(len(data))):
        ids = row["input_ids"][row["attention_mask"].bool()].tolist()
        # A rollout is handed the column's own cells, and reads them by the same function.
        picture = process_image(row["multi_modal_data"]["images"][0], None, None)
        found.append((json.loads(row["ground_truth"])["image_id"], picture, ids, row["ground_truth"]))
    return found


def main() -> None:
    """Exports, loads and compares every row."""
    flags = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    flags.add_argument("--to", choices=["verl", "easyr1"], required=True, help="whose format and loader")
    flags.add_argument("--policy", type=Path, required=True, help="checkpoint folder")
    flags.add_argument("--images", type=Path, required=True, help="folder of the table images, with pixels")
    flags.add_argument("--labels", type=Path, required=True, help="folder of the table labels")
    given = flags.parse_args()
    processor = AutoProcessor.from_pretrained(given.policy)
    files = {row["image_id"]: row["image"]["bytes"] for row in pq.read_table(given.images, columns=["image_id", "image"]).to_pylist()}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "train.parquet"
        subprocess.run([sys.executable, HERE / "export.py", "--images", given.images, "--labels", given.labels, "--to", given.to,
                        "--pairs-per-update", "8", file], check=True)
        written = pq.read_table(file).num_rows
        found = {"verl": verl, "easyr1": easyr1}[given.to](file, processor)
    assert len(found) == written, f"{len(found)} rows were loaded of {written}"
    for image_id, picture, ids, truth in found:
        expected = Image.open(io.BytesIO(files[image_id])).convert("RGB")
        assert json.loads(truth)["image_id"] == image_id, f"{image_id} has the truth of another picture"
        assert np.array_equal(np.asarray(picture), np.asarray(expected)), f"{image_id} has other pixels"
        assert ids == tokens(processor, expected), f"{image_id} has another prompt"
    print(f"{given.to}: all {written} rows loaded; pixels and prompts are those of the tables")


if __name__ == "__main__":
    main()
