from __future__ import annotations

import pytest
import timm
import torchvision.models  # type: ignore[import-untyped]
from timm.models import get_pretrained_cfg

from automl import backbones
from automl.backbones import catalog
from automl.errors import ConfigError, UnknownBackboneError


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("timm/resnet50.a1_in1k", "timm/resnet50.a1_in1k"),
        ("resnet50.a1_in1k", "timm/resnet50.a1_in1k"),
        ("timm/convnext_tiny", "timm/convnext_tiny.in12k_ft_in1k"),
        (" tf_efficientnet_lite0 ", "timm/tf_efficientnet_lite0.in1k"),
        ("torchvision/vgg16_bn.IMAGENET1K_V1", "torchvision/vgg16_bn.IMAGENET1K_V1"),
        ("torchvision/resnet50", "torchvision/resnet50.IMAGENET1K_V2"),
        ("torchvision/resnet50.DEFAULT", "torchvision/resnet50.IMAGENET1K_V2"),
        ("torchvision/vgg16", "torchvision/vgg16.IMAGENET1K_V1"),
    ],
)
def test_find_completes_provider_and_tag(given: str, name: str) -> None:
    assert backbones.find(given).name == name


def test_every_listed_name_is_found_under_its_own_name() -> None:
    listed = backbones.names()
    assert len(listed) > 1500
    assert [name for name in listed if backbones.find(name).name != name] == []


def test_names_takes_a_pattern_with_or_without_the_provider() -> None:
    assert backbones.names("*efficientnet_lite0*") == [
        "timm/efficientnet_lite0.ra_in1k",
        "timm/tf_efficientnet_lite0.in1k",
    ]
    torchvision_resnets = backbones.names("torchvision/resnet50*")
    assert torchvision_resnets == ["torchvision/resnet50.IMAGENET1K_V1", "torchvision/resnet50.IMAGENET1K_V2"]
    assert "torchvision/vgg16.IMAGENET1K_FEATURES" not in backbones.names("*")


def test_vgg_resnet_and_inception_come_from_both_providers() -> None:
    for family in ("vgg16", "vgg16_bn", "resnet50", "inception_v3"):
        providers = {backbones.find(name).provider for name in backbones.names(f"{family}.*")}
        assert providers == {"timm", "torchvision"}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("resnet5O", 'did you mean "resnet50"?'),
        ("timm/resnet5O", 'did you mean "timm/resnet50"?'),
        ("timm/convnext_tinny.fb_in1k", 'did you mean "timm/convnext_tiny.fb_in1k"?'),
        ("timm/resnet50.a1_in2k", 'did you mean "a1_in1k"?'),
        ("torchvision/resnet5O", 'did you mean "torchvision/resnet50"?'),
        ("torchvision/resnet50.IMAGENET1K_V3", 'did you mean "IMAGENET1K_V'),
        ("torchvision/vgg16.IMAGENET1K_FEATURES", "torchvision/vgg16 has IMAGENET1K_V1"),
        ("tim/resnet50.a1_in1k", 'unknown provider "tim"'),
        ("tv_resnet50", 'use "timm/resnet50.tv_in1k"'),
        ("torchvision/vit_b_16", 'use "timm/vit_base_patch16_224.'),
        ("levit_128", "not one linear layer"),
        ("deit_tiny_distilled_patch16_224", "not one linear layer"),
        ("poolformer_s12", "no layer groups"),
        ("zzzz", "timm has no such model"),
    ],
)
def test_a_name_that_cannot_be_used_is_one_line_with_the_remedy(given: str, expected: str) -> None:
    with pytest.raises(UnknownBackboneError) as caught:
        backbones.find(given)
    message = str(caught.value)
    assert expected in message
    assert given in message or given.rpartition(".")[2] in message
    assert "\n" not in message
    assert isinstance(caught.value, ConfigError)
    assert caught.value.exit_code == 2


def test_every_torchvision_classifier_is_in_the_catalogue_or_names_a_usable_timm_backbone() -> None:
    for model in torchvision.models.list_models(module=torchvision.models):
        try:
            backbones.find(f"torchvision/{model}")
        except UnknownBackboneError as error:
            instead = str(error).split('use "')[1].split('"')[0]
            assert backbones.find(instead).provider == "timm"


@pytest.mark.parametrize("name", backbones.names("torchvision/*"))
def test_torchvision_preprocessing_is_that_of_its_own_transforms(name: str) -> None:
    backbone = backbones.find(name)
    preset = catalog.torchvision_weights(backbone).transforms()
    assert backbone.native_resolution == preset.crop_size[0]
    assert backbone.interpolation == preset.interpolation.value
    if backbone.architecture == "inception_v3":  # torchvision's model itself maps ImageNet's mean and std to 0.5
        assert (backbone.mean, backbone.std) == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    else:
        assert (backbone.mean, backbone.std) == (tuple(preset.mean), tuple(preset.std))


def test_timm_preprocessing_is_that_of_its_pretrained_cfg() -> None:
    backbone = backbones.find("tf_efficientnet_lite0")
    cfg = get_pretrained_cfg("tf_efficientnet_lite0.in1k")
    assert cfg is not None
    assert (backbone.mean, backbone.std) == (cfg.mean, cfg.std) == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    assert backbone.interpolation == cfg.interpolation
    assert backbone.native_resolution == cfg.input_size[-1] == 224


@pytest.mark.parametrize(
    ("name", "family", "rate"),
    [
        ("resnet50", "cnn", 1e-3),
        ("tf_efficientnet_lite0", "cnn", 2e-3),
        ("vgg16_bn", "cnn", 1e-3),
        ("vgg16", "cnn", 1e-4),
        ("convnext_tiny", "cnn", 2e-4),
        ("vit_base_patch16_224", "transformer", 2e-4),
        ("deit3_small_patch16_224", "transformer", 2e-4),
        ("swin_tiny_patch4_window7_224", "transformer", 2e-4),
        ("vit_base_patch16_dinov3", "transformer", 2e-4),
    ],
)
def test_default_params_follow_the_kind_of_backbone(name: str, family: str, rate: float) -> None:
    backbone = backbones.find(name)
    params = backbones.default_params(backbone)
    assert backbone.family == family
    assert params["learning_rate"] == rate
    assert params["layer_decay"] == (0.75 if rate == 2e-4 else 1.0)


@pytest.mark.parametrize(
    ("name", "resolution", "problem"),
    [
        ("resnet50", 97, ""),
        ("resnet50", 16, "at least 32"),
        ("torchvision/inception_v3", 64, "at least 75"),
        ("vit_small_patch14_dinov2", 224, ""),
        ("vit_small_patch14_dinov2", 160, "154 or 168"),
        ("vit_base_patch16_224", 24, "at least 32"),
        ("swin_tiny_patch4_window7_224", 224, ""),
        ("mixer_b16_224", 192, "224 only"),
        ("hiera_tiny_224", 224, ""),
        ("hiera_tiny_224", 256, "224 only"),
    ],
)
def test_a_resolution_fits_or_the_line_says_which_ones_do(name: str, resolution: int, problem: str) -> None:
    found = backbones.resolution_problem(backbones.find(name), resolution)
    assert problem in found
    assert bool(problem) == bool(found)


def test_an_architecture_without_weights_is_found_but_not_listed() -> None:
    bare = next(name for name in timm.list_models("resnet*") if not timm.list_pretrained(f"{name}*"))
    assert backbones.find(bare).architecture == bare
    assert backbones.names(f"timm/{bare}*") == []
