"""Fine-tuning without any search: one pretrained backbone, one sound setting, all cores.

    python -m benchmarks.peers.fixed FOLDER --weights-dir DIR --out OUT [--freeze 0.75]

EfficientNet-Lite0 at 224 px, 8 epochs of AdamW at its own default learning rate with the one-cycle schedule, a light
augmentation. There is no budget. The best epoch on the images set aside for validation is handed over, as
`handwritten.py` hands over its best checkpoint.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import torch

from benchmarks.peers.training import FIXED, Incumbents, fit, save

SETTING = {
    **FIXED,
    "backbone": "tf_efficientnet_lite0.in1k",
    "resolution": 224,
    "learning_rate": 1e-3,
    "augmentation": "light",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--weights-dir", type=Path, required=True, help="holds NAME.safetensors, as timm names them")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--freeze", type=float, default=0.0, help="part of the blocks that stands still, 0 to 1")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--cpus", type=int, default=2, help="cores of this machine to use")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    torch.set_num_threads(given.cpus)
    incumbents = Incumbents(given.out.resolve())
    config = {**SETTING, "freeze": given.freeze, "epochs": given.epochs}
    for accuracy, state in fit(config, given.data.resolve(), given.weights_dir.resolve(), given.seed):
        print(f"epoch {state['config']['epoch']}/{given.epochs}: {accuracy:.4f}", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            save(Path(folder), state)
            incumbents.offer(Path(folder))


if __name__ == "__main__":
    main()
