"""Every setting, and every key of a public configuration, is read by shipped code."""

import ast
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import pytest
from pydantic import BaseModel

from driftloop.schemas.configs import DataConfig, DeploymentConfig, ModelConfig, MonitoringSpecs
from driftloop.schemas.settings import Settings

ROOT = Path(__file__).parents[3]
SHIPPED = ("agents", "demo", "infra", "mlops_core", "schemas", "streams")
Reads = Iterable[tuple[str, str]]
"""(owner, attribute) of each `owner.attribute` that is read; the owner is its last name."""


def reads(folders: Iterable[str]) -> Iterator[tuple[str, str]]:
    for path in (path for folder in folders for path in (ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
                owner = node.value
                name = owner.attr if isinstance(owner, ast.Attribute) else getattr(owner, "id", "")
                yield name.strip("_"), node.attr


def unread(groups: Mapping[str, Iterable[str]], read: Reads) -> list[str]:
    """Settings of which no `settings.key` or `group.key` is read; a group's own methods (`self`) count."""
    known = set(read)
    return [
        f"{group}.{key}"
        for group, keys in groups.items()
        for key in keys
        if not known & {("settings", key), (group, key), ("self", key)}
    ]


def keys(config: type[BaseModel]) -> Iterable[str]:
    return config.model_fields


def test_every_setting_is_read() -> None:
    groups = {name: keys(type(field.default)) for name, field in Settings.model_fields.items()}
    assert unread(groups, reads(SHIPPED)) == []


@pytest.mark.parametrize("config", [ModelConfig, DataConfig, DeploymentConfig, MonitoringSpecs])
def test_every_key_of_a_configuration_is_read(config: type[BaseModel]) -> None:
    read = {attribute for _, attribute in reads(SHIPPED)}
    assert set(keys(config)) - read == set()


def test_a_setting_that_nobody_reads_is_named() -> None:
    assert unread({"rollout": ["ready_timeout", "proof"]}, [("rollout", "proof")]) == [
        "rollout.ready_timeout"
    ]
