"""Private names of Faust and aiokafka that `streams/processing/faust_transport.py` uses exist."""

import ast
from pathlib import Path

import aiokafka
import faust
import pytest
from faust.transport import consumer
from faust.transport.drivers import aiokafka as driver

from driftloop.streams.processing import app, faust_transport

METHODS = {
    "_add_gap": driver.Consumer,
    "_create_worker_consumer": driver.AIOKafkaConsumerThread,
    "_getmany": driver.Consumer,
    "_new_consumer_thread": driver.Consumer,
    "_new_offset": driver.Consumer,
    "_to_message": driver.Consumer,
}
FIELDS = {
    "_acked": consumer.Consumer,
    "_acked_index": consumer.Consumer,
    "_committed_offset": consumer.Consumer,
    "_read_offset": consumer.Consumer,
    "_thread": consumer.ThreadDelegateConsumer,
}
SETTINGS = {"_fetch_max_wait_ms", "_fetch_min_bytes"}
"""Of aiokafka's consumer."""
OURS = {"_cut", "_delivered", "_forget_progress", "_unacknowledged_chunks", "_fields"}
"""Our own, and what a named tuple documents."""
UNPROMISED = {
    driver.Consumer: [
        "perform_seek",
        "seek_wait",
        "on_partitions_revoked",
        "sleep",
        "highwater",
    ],
    driver.AIOKafkaConsumerThread: ["seek_to_beginning"],
    driver: ["ensure_aiokafka_TP", "Consumer", "Transport"],
    faust.App: ["transport", "consumer_generation_id", "on_partitions_revoked"],
}
"""Public by their names, and not documented."""


def private_names(module: Path) -> set[str]:
    """Private attributes and methods that a module uses or overrides, without those of its own functions."""
    tree = ast.parse(module.read_text())
    used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    methods = (node.body for node in ast.walk(tree) if isinstance(node, ast.ClassDef))
    defined = {
        item.name
        for body in methods
        for item in body
        if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    return {name for name in used | defined if name.startswith("_") and not name.startswith("__")}


def test_the_list_of_private_names_is_complete() -> None:
    used = private_names(Path(faust_transport.__file__))
    assert used - OURS == METHODS.keys() | FIELDS.keys() | SETTINGS


@pytest.mark.parametrize(("name", "owner"), METHODS.items())
def test_a_method_that_is_overridden_exists(name: str, owner: type) -> None:
    assert callable(getattr(owner, name))


@pytest.mark.parametrize(("name", "owner"), FIELDS.items())
def test_a_field_exists(name: str, owner: type) -> None:
    assert name in owner.__annotations__


@pytest.mark.parametrize(
    ("owner", "name"), [(owner, name) for owner, names in UNPROMISED.items() for name in names]
)
def test_an_undocumented_name_exists(owner: type, name: str) -> None:
    assert hasattr(owner, name)


async def test_aiokafka_has_the_settings_of_a_fetch() -> None:
    client = aiokafka.AIOKafkaConsumer(
        bootstrap_servers="127.0.0.1:1", fetch_max_wait_ms=7, fetch_min_bytes=8
    )
    assert [getattr(client, name) for name in sorted(SETTINGS)] == [7, 8]


def test_no_other_module_imports_faust() -> None:
    root = Path(faust_transport.__file__).parents[2]
    importing = {
        path.relative_to(root).as_posix()
        for room in ("agents", "infra", "mlops_core", "schemas", "streams")
        for path in (root / room).rglob("*.py")
        if any(_imports_faust(node) for node in ast.walk(ast.parse(path.read_text())))
    }
    assert importing == {"streams/processing/app.py", "streams/processing/faust_transport.py"}


def test_the_app_uses_no_private_part_of_faust() -> None:
    tree = ast.parse(Path(app.__file__).read_text())
    private = [
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and node.attr.startswith("_")
        and not (isinstance(node.value, ast.Name) and node.value.id == "self")
    ]
    assert private == []


def _imports_faust(node: ast.AST) -> bool:
    names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
    names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
    return any(name.split(".")[0] in ("faust", "mode", "aiokafka") for name in names)
