"""Stages before the trials: what they hand on has to work where it is used."""

from __future__ import annotations

from pathlib import Path

import safetensors.torch
import timm

from automl.backbones import load_state_dict
from automl.config import parse_config
from automl.stages import locate_weights

NAME = "timm/test_resnet.r160_in1k"


def test_weights_that_a_hub_cache_links_to_can_be_read(tmp_path: Path) -> None:
    blob, link = tmp_path / "blobs" / "0af3", tmp_path / "snapshots" / "main" / "model.safetensors"
    for path in (blob, link):
        path.parent.mkdir(parents=True)
    state = timm.create_model(NAME.partition("/")[2], pretrained=False).state_dict()
    safetensors.torch.save_file(state, blob)
    link.symlink_to(blob)
    config = parse_config(f"backbones: [{{name: {NAME}, weights: {link}}}]", "test")
    found = Path(locate_weights(config, None)[NAME])
    assert found.is_absolute()
    assert load_state_dict(found).keys() == state.keys()
