from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision.models  # type: ignore[import-untyped]
from safetensors.torch import save_file
from timm.layers.drop import DropPath
from timm.models import save_for_hf
from timm.optim._param_groups import param_groups_layer_decay
from torch import Tensor, nn

from automl import backbones
from automl.errors import ConfigError

torch.set_num_threads(1)

TINY = ("test_resnet", "test_efficientnet", "test_convnext", "test_vit", "test_byobnet", "test_nfnet")
# A convolution as classifier, a convolution after the pooling, windows, register tokens.
OTHERS = (
    "resnetv2_18",
    "mobilenetv4_conv_small",
    "swin_tiny_patch4_window7_224",
    "vit_small_patch14_reg4_dinov2",
)


def make(name: str, *, resolution: int = 64, **arguments: Any) -> nn.Module:
    torch.manual_seed(0)
    arguments = {"weights": None, **arguments}
    return backbones.build(backbones.find(name), 3, resolution=resolution, **arguments)


def outline(name: str, **arguments: Any) -> nn.Module:
    """The same model without memory: shapes only."""
    with torch.device("meta"):
        return make(name, **arguments)


def images(count: int = 2, resolution: int = 64) -> Tensor:
    return torch.randn(count, 3, resolution, resolution, generator=torch.Generator().manual_seed(1))


def side(name: str) -> int:
    return {"vit_small_patch14_reg4_dinov2": 56, "swin_tiny_patch4_window7_224": 224}.get(name, 64)


def head_names(model: nn.Module) -> set[str]:
    prefix = backbones.classifier_name(model) + "."
    return {name for name, _ in model.named_parameters() if name.startswith(prefix)}


def inception_options(name: str) -> dict[str, bool]:
    """What torchvision sets when it loads its Inception weights (init_weights only silences a warning)."""
    return {"transform_input": True, "init_weights": False} if "inception" in name else {}


def random_like(key: str, value: Tensor) -> Tensor:
    """Random weights whose activations keep their size; norms that are not the identity."""
    if not value.is_floating_point():
        return torch.zeros(value.shape, dtype=value.dtype)
    if value.ndim > 1:
        return torch.empty(value.shape).uniform_(-1, 1).mul_((6 / value[0].numel()) ** 0.5)
    return (
        torch.empty(value.shape).uniform_(0.5, 1.5) if "bias" not in key else torch.empty(value.shape).uniform_(-1, 1)
    )


@pytest.mark.parametrize(
    ("architecture", "resolution"),
    [
        ("vgg11_bn", 224),
        ("resnet18", 64),
        ("resnet50", 64),
        ("resnext50_32x4d", 64),
        ("wide_resnet50_2", 64),
        ("densenet121", 64),
        ("inception_v3", 107),
    ],
)
@torch.no_grad()
def test_a_torchvision_backbone_gives_torchvisions_own_logits(
    tmp_path: Path, architecture: str, resolution: int
) -> None:
    torch.manual_seed(0)
    with torch.device("meta"):
        original = torchvision.models.get_model(architecture, weights=None, **inception_options(architecture)).eval()
    original.load_state_dict(
        {key: random_like(key, value) for key, value in original.state_dict().items()}, assign=True
    )
    torch.save(original.state_dict(), tmp_path / "weights.pth")
    backbone = backbones.find(f"torchvision/{architecture}")
    twin = backbones.build_pretrained(backbone, resolution=resolution, weights=tmp_path / "weights.pth").eval()
    pixels = torch.rand(2, 3, resolution, resolution)

    def normalise(mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
        return (pixels - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)

    theirs = original(normalise((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    ours = twin(normalise(backbone.mean, backbone.std))
    assert theirs.std() > 0.01
    assert torch.equal(backbones.head_of(twin)(backbones.features(twin, normalise(backbone.mean, backbone.std))), ours)
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4 * float(theirs.abs().max()))


@pytest.mark.parametrize("name", backbones.names("torchvision/*"))
def test_every_torchvision_state_dict_fills_its_twin(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = backbones.find(name)
    with torch.device("meta"):
        original = torchvision.models.get_model(backbone.architecture, weights=None, **inception_options(name))
        monkeypatch.setattr(sys.modules["automl.backbones.build"], "load_state_dict", lambda _: original.state_dict())
        twin = backbones.build_pretrained(backbone, resolution=224, weights=Path("weights.pth"))
    auxiliary = sum(p.numel() for key, p in original.named_parameters() if key.startswith("AuxLogits"))
    assert sum(p.numel() for p in twin.parameters()) == sum(p.numel() for p in original.parameters()) - auxiliary


@pytest.mark.parametrize(
    ("name", "head"), [*((name, "linear") for name in TINY + OTHERS), *((name, "mlp") for name in TINY)]
)
@torch.no_grad()
def test_the_head_on_the_features_is_the_model(name: str, head: str) -> None:
    model = make(name, resolution=side(name), head=head, dropout=0.5).eval()
    batch = images(resolution=side(name))
    found = backbones.features(model, batch)
    assert found.ndim == 2
    logits = model(batch)
    assert logits.shape == (2, 3)
    assert torch.equal(backbones.head_of(model)(found), logits)


@pytest.mark.parametrize("name", TINY + OTHERS)
def test_groups_and_head_hold_every_parameter_once(name: str) -> None:
    model = outline(name, resolution=side(name))
    groups = backbones.layer_groups(model)
    grouped = [parameter for group in groups for parameter in group]
    assert len(grouped) == len(set(grouped))
    assert set(grouped) | head_names(model) == {parameter for parameter, _ in model.named_parameters()}
    assert not set(grouped) & head_names(model)
    shapes = {parameter: tensor.ndim for parameter, tensor in model.named_parameters()}
    assert all(any(shapes[parameter] > 1 for parameter in group) for group in groups)


@pytest.mark.parametrize("name", TINY + OTHERS)
@torch.no_grad()
def test_groups_are_in_the_order_in_which_they_see_the_data(name: str) -> None:
    model = outline(name, resolution=side(name)).eval()
    group_of = {parameter: i for i, group in enumerate(backbones.layer_groups(model)) for parameter in group}
    seen: list[int] = []
    for module_name, module in model.named_modules():
        own = [group_of.get(f"{module_name}.{key}") for key, _ in module.named_parameters(recurse=False)]
        groups = [group for group in own if group is not None]
        if groups:
            module.register_forward_pre_hook(lambda *_, group=groups[0]: seen.append(group))
    model(images(1, side(name)).to("meta"))
    assert seen == sorted(seen)
    assert seen[-1] == len(backbones.layer_groups(model)) - 1


def test_a_vgg_block_is_a_convolution_with_its_batchnorm() -> None:
    groups = backbones.layer_groups(outline("vgg11_bn"))
    assert len(groups) == 8 + 1  # eight convolutions, then the two hidden layers of the classifier
    assert groups[0] == ["features.0.weight", "features.0.bias", "features.1.weight", "features.1.bias"]
    assert {name.split(".")[0] for name in groups[-1]} == {"pre_logits"}


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "test_convnext", "vgg11"])
def test_freezing_takes_the_given_fraction_of_the_blocks_from_below(name: str) -> None:
    model = outline(name)
    groups = backbones.layer_groups(model)
    for depth in (1.0, 0.0, 0.5, 0.25):
        count = backbones.freeze(model, depth)
        assert abs(count - depth * len(groups)) <= 0.5
        frozen = {parameter for parameter, tensor in model.named_parameters() if not tensor.requires_grad}
        assert frozen == {parameter for group in groups[:count] for parameter in group}
        assert not frozen & head_names(model)


@pytest.mark.parametrize("depth", [-0.1, 1.1, float("nan")])
def test_a_depth_outside_its_range_is_refused(depth: float) -> None:
    with pytest.raises(ConfigError, match="freeze depth"):
        backbones.freeze(outline("test_resnet"), depth)


@pytest.mark.parametrize("name", TINY)
@pytest.mark.parametrize("depth", [0.0, 0.5, 1.0])
def test_a_training_step_moves_what_trains_and_leaves_what_is_frozen(name: str, depth: float) -> None:
    model = make(name)
    backbones.freeze(model, depth)
    backbones.set_train_mode(model)
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    frozen = {parameter for parameter, tensor in model.named_parameters() if not tensor.requires_grad}
    frozen_modules = {parameter.rpartition(".")[0] for parameter in frozen}
    groups = backbones.parameter_groups(model, learning_rate=0.1, weight_decay=0.1, layer_decay=0.9)
    optimizer = torch.optim.AdamW(groups)
    nn.functional.cross_entropy(model(images(8)), torch.arange(8) % 3).backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    after = model.state_dict()
    for key in frozen:
        assert torch.equal(before[key], after[key]), f"{key} is frozen and moved"
    statistics = {key: key.rpartition(".")[0] in frozen_modules for key in before if key.endswith("running_mean")}
    for key, stands_still in statistics.items():
        assert torch.equal(before[key], after[key]) == stands_still, key
    trained = {parameter for parameter, tensor in model.named_parameters() if tensor.requires_grad}
    assert all(not torch.equal(before[key], after[key]) for key in head_names(model))
    if depth < 1.0:
        assert any(not torch.equal(before[key], after[key]) for key in trained - head_names(model))


def test_fully_frozen_features_are_constants_while_the_head_keeps_its_dropout() -> None:
    model = make("test_vit", drop_path=0.9, dropout=0.5)
    backbones.freeze(model, 1.0)
    backbones.set_train_mode(model)
    batch = images(4)
    assert torch.equal(backbones.features(model, batch), backbones.features(model, batch))
    assert not torch.equal(model(batch), model(batch))
    backbones.freeze(model, 0.0)
    backbones.set_train_mode(model)
    assert not torch.equal(backbones.features(model, batch), backbones.features(model, batch))


def test_a_part_thawed_again_trains_again() -> None:
    model = make("test_resnet")
    backbones.freeze(model, 1.0)
    backbones.set_train_mode(model)
    backbones.freeze(model, 0.0)
    backbones.set_train_mode(model)
    assert all(module.training for module in model.modules())


@pytest.mark.parametrize("name", ["test_vit", "test_resnet", "test_efficientnet"])
def test_rates_and_decay_are_those_of_timms_layer_decay(name: str) -> None:
    model = make(name)
    timm_model: Any = model
    own = backbones.parameter_groups(model, learning_rate=1.0, weight_decay=0.3, layer_decay=0.7)
    undecayed = timm_model.no_weight_decay() if hasattr(timm_model, "no_weight_decay") else ()
    timms = param_groups_layer_decay(model, weight_decay=0.3, no_weight_decay_list=undecayed, layer_decay=0.7)
    expected = {id(p): (group["lr_scale"], group["weight_decay"]) for group in timms for p in group["params"]}
    found = {id(p): (group["lr"], group["weight_decay"]) for group in own for p in group["params"]}
    assert sum(len(group["params"]) for group in own) == len(found) == len(expected)
    for key, (rate, decay) in expected.items():
        assert found[key] == (pytest.approx(rate), decay)


def test_parameter_groups_hold_only_what_trains_and_the_head_has_the_full_rate() -> None:
    model = make("test_convnext")
    backbones.freeze(model, 0.5)
    groups = backbones.parameter_groups(model, learning_rate=0.2, weight_decay=0.1, layer_decay=0.5)
    held = [id(parameter) for group in groups for parameter in group["params"]]
    assert len(held) == len(set(held))
    assert set(held) == {id(parameter) for parameter in model.parameters() if parameter.requires_grad}
    in_head = {id(parameter) for parameter in backbones.head_of(model).parameters()}
    assert {group["lr"] for group in groups if in_head & {id(p) for p in group["params"]}} == {0.2}
    assert max(group["lr"] for group in groups if not in_head & {id(p) for p in group["params"]}) == 0.1


@pytest.mark.parametrize("name", [*TINY, "resnetv2_18", "torchvision/resnet18"])
def test_a_linear_head_is_packed_and_loaded_by_timm_alone(name: str, tmp_path: Path) -> None:
    model = make(name, dropout=0.3, drop_path=0.1).eval()
    save_for_hf(model, str(tmp_path / "model"), safe_serialization=True)
    loaded = timm.create_model(f"local-dir:{tmp_path / 'model'}", pretrained=True).eval()
    batch = images(2)
    with torch.no_grad():
        assert torch.equal(loaded(batch), model(batch))


def test_position_embeddings_are_resampled_to_the_resolution(tmp_path: Path) -> None:
    backbone = backbones.find("test_vit")
    native = backbones.build(backbone, 7, resolution=160, weights=None)
    save_file(native.state_dict(), tmp_path / "weights.safetensors")
    model = backbones.build(backbone, 3, resolution=64, weights=tmp_path / "weights.safetensors").eval()
    assert dict(model.named_parameters())["pos_embed"].shape[1] < dict(native.named_parameters())["pos_embed"].shape[1]
    assert model(images()).shape == (2, 3)
    key = "blocks.0.attn.qkv.weight"
    assert torch.equal(model.state_dict()[key], native.state_dict()[key])


@pytest.mark.parametrize("head", ["own classes", "none"])
def test_weights_may_come_with_another_head_or_without_one(tmp_path: Path, head: str) -> None:
    backbone = backbones.find("test_resnet")
    state = timm.create_model("test_resnet", num_classes=17 if head == "own classes" else 0).state_dict()
    save_file(state, tmp_path / "weights.safetensors")
    model = backbones.build(backbone, 3, resolution=64, weights=tmp_path / "weights.safetensors")
    own = model.state_dict()
    assert all(torch.equal(own[key], state[key]) for key in state if not key.startswith("fc."))
    assert own["fc.weight"].shape[0] == 3


def test_inputs_without_a_classifier_of_their_own_get_one(tmp_path: Path) -> None:
    backbone = backbones.find("vit_small_patch14_reg4_dinov2")
    with torch.device("meta"):
        assert backbones.build_pretrained(backbone, resolution=56, weights=None).num_classes == 0
        assert backbones.build(backbone, 5, resolution=56, weights=None).num_classes == 5


@pytest.mark.parametrize("damage", ["other architecture", "tensor missing"])
def test_weights_of_something_else_are_refused_in_one_line(tmp_path: Path, damage: str) -> None:
    state = timm.create_model("test_vit" if damage == "other architecture" else "test_resnet").state_dict()
    if damage == "tensor missing":
        del state["layer1.0.conv1.weight"]
    save_file(state, tmp_path / "weights.safetensors")
    with pytest.raises(ConfigError, match="does not hold weights of timm/test_resnet") as caught:
        backbones.build(backbones.find("test_resnet"), 3, resolution=64, weights=tmp_path / "weights.safetensors")
    assert "\n" not in str(caught.value)


def test_a_resolution_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ConfigError, match="multiple of 14"):
        make("vit_small_patch14_dinov2", resolution=100)


def test_stochastic_depth_is_set_where_the_architecture_has_it() -> None:
    def rates(model: nn.Module) -> list[float]:
        return [module.drop_prob for module in model.modules() if isinstance(module, DropPath)]

    assert max(rates(outline("test_vit", drop_path=0.2))) == pytest.approx(0.2)
    assert rates(outline("vgg11", drop_path=0.2)) == []


def test_the_new_head_starts_near_the_loss_of_a_guess_and_follows_the_seed() -> None:
    first, second = make("test_resnet"), make("test_resnet")
    own, again = (backbones.head_of(model).state_dict() for model in (first, second))
    assert torch.equal(own["weight"], again["weight"])
    assert not own["bias"].any()
    with torch.no_grad():
        loss = nn.functional.cross_entropy(first.eval()(images(8)), torch.arange(8) % 3)
    assert float(loss) == pytest.approx(float(torch.tensor(3.0).log()), abs=0.1)


def test_the_mlp_head_is_one_hidden_layer_of_1024() -> None:
    model = make("test_resnet", head="mlp", dropout=0.5)
    width = backbones.features(model.eval(), images()).shape[1]
    shapes = [tuple(parameter.shape) for parameter in backbones.head_of(model).parameters()]
    assert shapes == [(1024, width), (1024,), (3, 1024), (3,)]
