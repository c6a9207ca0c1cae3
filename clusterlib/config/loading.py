"""YAML + key=value overrides + ${env:NAME} -> a validated Config, or the keys that are wrong."""

from __future__ import annotations

import difflib
import json
import os
import re
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from clusterlib.config.sections import Config
from clusterlib.errors import ConfigError

_ENV = re.compile(r"\$\{env:([A-Za-z_][A-Za-z0-9_]*)\}")


def load_config(path: str, *, overrides: Sequence[str] = ()) -> Config:
    """Read `path`, apply `key=value` overrides, expand ${env:NAME}, validate.

    Raises:
        ConfigError: the file cannot be read, or any key or value is wrong; all are named at once.
    """
    raw = _read_yaml(path)
    for override in overrides:
        _apply_override(raw, override)
    return validate_config(raw, origin=path)


def validate_config(raw: dict[str, Any], *, origin: str = "config") -> Config:
    """Validate a plain tree. Raises ConfigError naming every wrong key."""
    placeholders: dict[tuple[str, ...], str] = {}
    problems: list[str] = []
    expanded = _expand(raw, (), placeholders, problems)
    try:
        config = Config.model_validate(expanded)
    except ValidationError as error:
        problems += [_explain(item, placeholders) for item in error.errors()]
    if problems:
        raise ConfigError(f"{origin}: " + f"\n{origin}: ".join(problems))
    config._placeholders.update(placeholders)
    return config


def dump_yaml(config: Config) -> str:
    """The resolved configuration as YAML text."""
    return yaml.safe_dump(config.dump(), sort_keys=False, allow_unicode=True)


def json_schema() -> str:
    """JSON Schema of the configuration, for editors."""
    return json.dumps(Config.model_json_schema(), indent=2) + "\n"


def _read_yaml(path: str) -> dict[str, Any]:
    try:
        raw = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(
            f"{path}: no such configuration file; see configs/ for examples"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(raw, dict):
        raise ConfigError(f"{path}: expected a mapping of settings, got {type(raw).__name__}")
    return raw


def _apply_override(raw: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise ConfigError(f"'{override}': expected key=value, for example clustering.k=40")
    try:
        value = yaml.safe_load(text)
        if isinstance(value, (int, float)) and not isinstance(value, bool) and str(value) != text:
            value = text  # '007' is a name; a number field still reads it as 7
    except (yaml.YAMLError, ValueError):  # ValueError: it looks like a date, but is none
        value = text
    node = raw
    *parents, last = key.split(".")
    for parent in parents:
        child = node.setdefault(parent, {})
        if child is None:
            child = node[parent] = {}
        if not isinstance(child, dict):
            raise ConfigError(f"{key}: '{parent}' is a value, not a section")
        node = child
    node[last] = value


def _expand(
    node: Any,
    path: tuple[str, ...],
    placeholders: dict[tuple[str, ...], str],
    problems: list[str],
) -> Any:
    if isinstance(node, dict):
        return {k: _expand(v, (*path, str(k)), placeholders, problems) for k, v in node.items()}
    if isinstance(node, list):
        return [_expand(v, (*path, str(i)), placeholders, problems) for i, v in enumerate(node)]
    if not isinstance(node, str) or not _ENV.search(node):
        return node
    placeholders[path] = node

    def value(match: re.Match[str]) -> str:
        if match[1] not in os.environ:
            problems.append(f"{'.'.join(path)}: the environment variable {match[1]} is not set")
        return os.environ.get(match[1], "unset")

    return _ENV.sub(value, node)


def _explain(item: Any, placeholders: Collection[tuple[str, ...]]) -> str:
    location = tuple(str(part) for part in item["loc"])
    path = ".".join(location)
    if item["type"] == "extra_forbidden":
        known = sorted(_known_keys(location[:-1]))
        near = difflib.get_close_matches(location[-1], known, n=1, cutoff=0.5)
        hint = f"did you mean '{near[0]}'?" if near else f"known here: {', '.join(known)}"
        return f"{path}: unknown key - {hint}"
    if item["type"] == "missing":
        return f"{path}: required, but not given"
    message = item["msg"].removeprefix("Value error, ")
    # A union reports one line a member; the member's name is not part of the key path.
    key = _strip_union(location)
    # A list may hold an expanded value further down.
    is_secret = any(hidden[: len(key)] == key for hidden in placeholders)
    got = "" if is_secret or isinstance(item["input"], dict) else f" (got {item['input']!r})"
    return f"{'.'.join(key)}: {message}{got}" if path else f"{message}"


def _strip_union(location: tuple[str, ...]) -> tuple[str, ...]:
    parts: list[str] = []
    for part in location:
        if parts and part not in _known_keys(tuple(parts)) and not part.isdigit():
            break
        parts.append(part)
    return tuple(parts)


def _known_keys(path: tuple[str, ...]) -> set[str]:
    model: type[BaseModel] = Config
    for name in path:
        field = model.model_fields.get(name)
        inner = field.annotation if field else None
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            return set()
        model = inner
    return set(model.model_fields)


def result_settings(config: Config) -> Iterator[tuple[str, Any]]:
    """Every setting that decides results, as (dotted key, plain value)."""
    yield from _flatten(config.result_tree(), "")


def _flatten(node: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    if isinstance(node, dict):
        for key, value in node.items():
            yield from _flatten(value, f"{prefix}.{key}" if prefix else key)
    else:
        yield prefix, node
