"""Whole CLIP and SigLIP models of a few thousand random weights, as save_pretrained leaves them."""

from __future__ import annotations

from pathlib import Path

import torch

SIDE = 32
_LENGTH, _SPACE = 16, 24
_TOWER = {
    "hidden_size": 32,
    "intermediate_size": 37,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}


def save_clip(folder: Path) -> Path:
    """A CLIP with a byte-level tokenizer, saved below `folder`."""
    import transformers as hf

    letters = [*_byte_letters(), *(letter + "</w>" for letter in _byte_letters())]
    vocabulary = {
        token: n for n, token in enumerate([*letters, "<|startoftext|>", "<|endoftext|>"])
    }
    tokenizer = hf.CLIPTokenizer(vocab=vocabulary, merges=[])
    end = vocabulary["<|endoftext|>"]
    text = _TOWER | {
        "vocab_size": len(vocabulary),
        "max_position_embeddings": _LENGTH,
        "bos_token_id": end - 1,
        "eos_token_id": end,
        "pad_token_id": end,
        "projection_dim": _SPACE,
    }
    vision = _TOWER | {"image_size": SIDE, "patch_size": 8, "projection_dim": _SPACE}
    torch.manual_seed(0)
    config = hf.CLIPConfig(text_config=text, vision_config=vision, projection_dim=_SPACE)
    _spread(hf.CLIPModel(config)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    size = {"height": SIDE, "width": SIDE}
    hf.CLIPImageProcessor(size={"shortest_edge": SIDE}, crop_size=size).save_pretrained(folder)
    return folder


def save_siglip(folder: Path) -> Path:
    """A SigLIP with a tokenizer of single characters, saved below `folder`."""
    import transformers as hf
    from tokenizers import Regex, Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Split

    letters = ["<pad>", "</s>", "<unk>", *map(chr, range(32, 127))]
    model = Tokenizer(WordLevel({t: n for n, t in enumerate(letters)}, unk_token="<unk>"))
    model.pre_tokenizer = Split(Regex("."), "isolated")
    tokenizer = hf.PreTrainedTokenizerFast(
        tokenizer_object=model,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        model_input_names=["input_ids"],
    )
    text = _TOWER | {
        "vocab_size": len(letters),
        "max_position_embeddings": _LENGTH,
        "projection_size": 32,
    }
    vision = _TOWER | {"image_size": SIDE, "patch_size": 8}
    torch.manual_seed(0)
    config = hf.SiglipConfig(text_config=text, vision_config=vision)
    _spread(hf.SiglipModel(config)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    hf.SiglipImageProcessor(size={"height": SIDE, "width": SIDE}).save_pretrained(folder)
    return folder


def _spread(network: torch.nn.Module) -> torch.nn.Module:
    """Larger weights than the usual ones, so that different inputs give different vectors."""
    with torch.no_grad():
        for weights in network.parameters():
            if weights.ndim > 1:
                weights.normal_(std=0.25)
    return network


def _byte_letters() -> list[str]:
    """The 256 letters that byte-level tokenizers write bytes as."""
    from tokenizers.pre_tokenizers import ByteLevel

    return sorted(ByteLevel.alphabet())
