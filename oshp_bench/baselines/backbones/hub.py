"""Any backbone of the transformers library that gives feature maps, such as DINOv2, ConvNeXt V2 or Swin.

It comes from a folder as the library writes it (config.json, model.safetensors, and preprocessor_config.json with the
mean and deviation of its photos), or by its name on the Hugging Face hub where there is a network.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn import functional

from oshp_bench.baselines.backbones import HUB, HUB_WIDTH
from oshp_bench.baselines.backbones.layers import IMAGENET, Level, NeckedBackbone
from oshp_bench.errors import MissingPackage, OshpError, raise_problems, shortened
from oshp_bench.files import parse_json, read_bounded
from oshp_bench.untrusted import shown

# A side that every usual stride divides: 2, 4, 8, 14, 16, 32.
_SIDE = 224
# Mid-level features carry over to novel classes better than deeper ones (paper, Table 7).
_DEEPEST = 16
_MOST_PARAMETERS = 1 << 30
_MOST_LAYERS = 512
# Norms that only backbones have, and that no pretrained weights hold: they start as the identity.
_OWN_NORMS = "hidden_states_norms."
# Members of a configuration that decide what code runs or how numbers are stored, not what the network is.
_NOT_OURS = ("auto_map", "attn_implementation", "experts_implementation", "dtype", "torch_dtype", "quantization_config")

# What the library raises for configurations and folders that are wrong in one way or another.
_LIBRARY = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    OSError,
    RuntimeError,
    SafetensorError,
    TypeError,
    ValueError,
)


class Hub(NeckedBackbone):
    """A backbone of transformers.

    Its levels are the last stage at each of its strides. `forward` gives the deepest level up to stride 16, and brings
    it to the first level's stride where it has more than one.

    Args:
        architecture: the configuration, and mean and deviation of photos; see `architecture_of`.
        width: the channels of its features.

    Attributes:
        architecture: as above; what a checkpoint needs to build the same network again.

    Raises:
        OshpError: the configuration is of no such backbone, or too large; or transformers is not installed.
    """

    architecture: Mapping[str, Any]

    def __init__(self, architecture: Mapping[str, Any], width: int = HUB_WIDTH) -> None:
        super().__init__()
        self.architecture = architecture
        self.width = width
        with _told():
            config, shell = _shell(architecture["config"])
            self.levels = _levels(config, shell)
            config.set_output_features_output_indices(list(self.levels), None)
            self.model = _auto("AutoBackbone").from_config(config)
        low, *_ = self.levels.values()
        deep = [level for level in self.levels.values() if level.stride <= _DEEPEST] or [low]
        self._deep = next(name for name, level in self.levels.items() if level is deep[-1])
        self.add_neck(low if deep[-1].stride > low.stride else None, deep[-1])

    def forward(self, images: Tensor) -> Tensor:
        first = next(iter(self.levels))
        found = self.level_features(images, {first, self._deep})
        return self.through_neck(found[first], found[self._deep])

    def normalised(self, images: Tensor) -> Tensor:
        mean, deviation = images.new_tensor((self.architecture["mean"], self.architecture["deviation"]))[
            :, :, None, None
        ]
        normalised: Tensor = (images - mean) / deviation
        return normalised

    def stage(self, name: str) -> nn.Module:  # noqa: ARG002
        raise OshpError(
            "a backbone of the hub is one piece: its stages cannot be run on other features; take resnet50 for this"
            " method"
        )

    def layers(self, name: str) -> Sequence[nn.Module]:  # noqa: ARG002
        return (self.model,)

    def level_features(self, images: Tensor, names: Collection[str]) -> dict[str, Tensor]:
        height, width = images.shape[2:]
        # Every stride divides the sides then; what the padding adds is cut off again.
        whole = math.lcm(*(level.stride for level in self.levels.values()))
        padded = functional.pad(self.normalised(images), (0, -width % whole, 0, -height % whole))
        maps = self.model(padded).feature_maps
        return {
            name: found[:, :, : -(-height // level.stride), : -(-width // level.stride)]
            for (name, level), found in zip(self.levels.items(), maps, strict=True)
            if name in names
        }

    def load_pretrained(self, where: str) -> None:
        """Takes the weights of a folder or a name on the hub.

        Raises:
            OshpError: they cannot be read, or do not fit.
        """
        origin = HUB + where
        with _told(origin):
            model, found = type(self.model).from_pretrained(
                where,
                config=self.model.config,
                dtype=torch.float32,
                output_loading_info=True,
                ignore_mismatched_sizes=True,
            )
        lacking = [name for name in sorted(found["missing_keys"]) if not name.startswith(_OWN_NORMS)]
        problems = [f"{origin}: lacks the tensor {name}; it is of another architecture" for name in lacking]
        problems += [f"{origin}: {name[0]} has another shape" for name in sorted(found["mismatched_keys"])]
        raise_problems(shortened(problems, most=5))
        self.model.load_state_dict(model.state_dict())


def architecture_of(where: str) -> dict[str, Any]:
    """What a folder, or a name on the hub, says of its network: "config", and "mean" and "deviation" of photos.

    Raises:
        OshpError: it cannot be read, or transformers is not installed.
    """
    origin = HUB + where
    with _told(origin):
        config = _auto("AutoConfig").from_pretrained(where, trust_remote_code=False).to_dict()
        photos = _photos(where, origin)
    mean, deviation = (
        photos.get(name, usual) for name, usual in zip(("image_mean", "image_std"), IMAGENET, strict=True)
    )
    return {"config": config, "mean": mean, "deviation": deviation}


def _photos(where: str, origin: str) -> Mapping[str, Any]:
    """preprocessor_config.json, or nothing where there is none."""
    from transformers.utils import cached_file

    path = cached_file(where, "preprocessor_config.json", _raise_exceptions_for_missing_entries=False)
    document = (
        {} if path is None else parse_json(read_bounded(Path(path), 1 << 20), f"{origin}: preprocessor_config.json")
    )
    return document if isinstance(document, dict) else {}


def _shell(table: Mapping[str, Any]) -> tuple[Any, Any]:
    """A configuration, and its network without memory for weights, which gives the maps of all of its stages."""
    kept = {name: value for name, value in table.items() if not name.startswith("_") and name not in _NOT_OURS}
    deepest = max([0, *(value for name, value in _numbers(kept) if "layers" in name or "depths" in name)])
    if deepest > _MOST_LAYERS:
        raise OshpError(f"the configuration has {deepest} layers; {_MOST_LAYERS} at most work")
    kind = kept.pop("model_type", None)
    config = _auto("AutoConfig").for_model(kind, **copy.deepcopy(kept))
    config.set_output_features_output_indices(config.stage_names[1:], None)
    with torch.device("meta"):
        shell = _auto("AutoBackbone").from_config(config, trust_remote_code=False).eval()
    parameters = sum(parameter.numel() for parameter in shell.parameters())
    if parameters > _MOST_PARAMETERS:
        raise OshpError(f"the configuration has {parameters:,} parameters; {_MOST_PARAMETERS:,} at most work")
    return config, shell


def _levels(config: Any, shell: Any) -> dict[str, Level]:
    """The last stage at each stride."""
    strides: dict[int, tuple[str, Level]] = {}
    maps = [shell(torch.zeros(1, 3, side, _SIDE, device="meta")).feature_maps for side in (_SIDE, 2 * _SIDE)]
    for name, one, other in zip(config.stage_names[1:], *maps, strict=True):
        stride = _SIDE // one.shape[3]
        if one.shape[2:] != (_SIDE // stride, _SIDE // stride) or other.shape[2] != 2 * one.shape[2] or _SIDE % stride:
            raise OshpError(f"{name} gives no map with a whole stride for photos of any size")
        strides[stride] = name, Level(one.shape[1], stride)
    return dict(strides[stride] for stride in sorted(strides))


def _numbers(table: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    for name, value in table.items():
        values = value if isinstance(value, list | tuple) else [value]
        yield from ((name, number) for number in values if isinstance(number, int))


def _auto(name: str) -> Any:
    """A class of transformers, which is quiet from here on."""
    try:
        import transformers
    except ImportError as error:
        raise MissingPackage("a backbone of the hub", "transformers", "hub") from error
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    return getattr(transformers, name)


@contextmanager
def _told(origin: str = "a backbone of the hub") -> Iterator[None]:
    """What the library says of a wrong configuration or folder, as one line; it raises nearly anything."""
    try:
        yield
    except OshpError as error:
        raise OshpError(
            *(problem if problem.startswith(origin) else f"{origin}: {problem}" for problem in error.problems)
        ) from error
    except _LIBRARY as error:
        why = shown(str(error).strip().partition("\n")[0])
        raise OshpError(f"{origin}: no backbone of transformers with feature maps could be read ({why})") from error
