"""Text towers of CLIP-like models: phrases in the space of the pictures' embeddings.

CLIP (Radford et al., "Learning transferable visual models from natural language supervision", 2021)
and SigLIP (Zhai et al., "Sigmoid loss for language image pre-training", 2023).
T: phrases, D: dimensions.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from clusterlib.encoders.network import first_line
from clusterlib.errors import ConfigError, InputError

PREFIX = "hf:"


@dataclass(frozen=True)
class _Family:
    """How a family's text tower is loaded and read.

    `pooling` is the one by which its pictures lie in the space of its texts.
    """

    pooling: str
    network: str  # class of transformers
    output: str  # its field with the embeddings
    padding: str  # as the family was trained


_FAMILIES = {
    "clip": _Family("projection", "CLIPTextModelWithProjection", "text_embeds", "longest"),
    "siglip": _Family("pooler", "SiglipTextModel", "pooler_output", "max_length"),
    "siglip2": _Family("pooler", "Siglip2TextModel", "pooler_output", "max_length"),
}


def check_text_tower(model: str, *, pooling: str) -> None:
    """Refuse an encoder whose vectors are not in the space of a text tower of its own.

    Args:
        model: Of the configuration, `hf:<id or folder>[@revision]`.
        pooling: That the pictures were embedded with.

    Raises:
        ConfigError: no such tower, or pictures were pooled outside its space.
        InputError: the model's description cannot be read.
    """
    if not model.startswith(PREFIX):
        raise ConfigError(
            f"manifests.vocabulary: names are proposed with a CLIP or SigLIP encoder only, and "
            f"encoder.model is '{model}'; embed with hf:<CLIP model> or leave the vocabulary out"
        )
    _family(_description(model), model, pooling=pooling)


def encode_texts(
    model: str, texts: Sequence[str], *, pooling: str, batch_size: int = 64
) -> NDArray[np.float32]:
    """Unit rows (T, D), comparable by dot product with the model's unit picture vectors.

    Args:
        model: Of the configuration, `hf:<id or folder>[@revision]`.
        texts: Phrases; longer ones than the model takes are cut.
        pooling: That the pictures were embedded with.
        batch_size: Phrases in one forward pass.

    Raises:
        ConfigError: the model has no text tower in the space of its pictures.
        InputError: its weights or its tokenizer cannot be loaded.
    """
    config = _description(model)
    family = _family(config, model, pooling=pooling)
    tokenizer, network = _load(model, family)
    longest = int(config.text_config.max_position_embeddings)
    parts = []
    for start in range(0, len(texts), batch_size):
        tokens = tokenizer(
            list(texts[start : start + batch_size]),
            padding=family.padding,
            truncation=True,
            max_length=longest,
            return_tensors="pt",
        )
        with torch.inference_mode():
            found = getattr(network(**tokens), family.output).float()
        parts.append(torch.nn.functional.normalize(found, dim=1).numpy())
    return np.concatenate(parts)


def _family(config: Any, model: str, *, pooling: str) -> _Family:
    family = _FAMILIES.get(str(config.model_type))
    if family is None or not hasattr(config, "text_config"):
        raise ConfigError(
            f"manifests.vocabulary: encoder.model '{model}' has no text tower (it is "
            f"{config.model_type}); embed with a whole CLIP or SigLIP model or leave the "
            "vocabulary out"
        )
    if pooling != family.pooling:
        raise ConfigError(
            f"manifests.vocabulary: images were embedded with encoder.pooling '{pooling}', but the "
            f"texts of {config.model_type} lie in the space of '{family.pooling}'; embed with that "
            "or leave the vocabulary out"
        )
    return family


def _load(model: str, family: _Family) -> tuple[Any, Any]:
    import transformers
    from safetensors import SafetensorError

    name, revision = _name(model)
    options = {"revision": revision, "trust_remote_code": False}
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(name, **options)
        network, loaded = getattr(transformers, family.network).from_pretrained(
            name, output_loading_info=True, use_safetensors=True, dtype=torch.float32, **options
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise InputError(f"{model}: its text tower cannot be loaded: {first_line(error)}") from None
    if loaded["missing_keys"]:
        raise InputError(
            f"{model}: the weights lack {len(loaded['missing_keys'])} tensors of the text tower, "
            f"such as {min(loaded['missing_keys'])}; choose another model"
        )
    known, wanted = len(tokenizer), int(network.config.vocab_size)
    # transformers makes an empty tokenizer where a model comes without one.
    if not 0.9 * wanted <= known <= wanted:
        raise InputError(
            f"{model}: its tokenizer has {known:,} tokens for a text tower of {wanted:,}; the "
            "tokenizer's files are missing or of another model"
        )
    return tokenizer, network.eval()


def _description(model: str) -> Any:
    from transformers import AutoConfig

    name, revision = _name(model)
    try:
        return AutoConfig.from_pretrained(name, revision=revision, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise InputError(f"encoder.model: {model} cannot be read: {first_line(error)}") from None


def _name(model: str) -> tuple[str, str | None]:
    folder = os.path.expanduser(model.removeprefix(PREFIX))
    if os.path.isdir(folder):
        return folder, None
    name, _, revision = model.removeprefix(PREFIX).partition("@")
    return name, revision or None
