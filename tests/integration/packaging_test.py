"""What a user installs: one import name that nothing shadows, from the wheel and from the sdist."""

import os
import shutil
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from driftloop.infra.processes.child import Child, free_port, python_command
from tests.support.paths import ROOT

SDK = "from driftloop import FeatureRow, KafkaSettings, Label, Prediction, Publisher; print(Publisher)"
NEIGHBOUR = "openai-agents"
"""Its import name is `agents`, as that of one of our folders."""
NO_INDEX = ("dns error", "Failed to fetch", "error sending request", "Connection refused", "timed out")


def run(*command: str | Path, cwd: Path, env: dict[str, str] | None = None) -> str:
    """Output of a command that has to succeed, in a folder that isn't ours."""
    ended = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=env,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def build(kind: str, source: Path, target: Path) -> Path:
    """A wheel or sdist of `source`, built by the hatchling that is installed here."""
    run(sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", target, cwd=source)
    return next(target.iterdir())


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that is built from the sdist, as an index or a distribution would."""
    sdist = build("sdist", ROOT, tmp_path_factory.mktemp("sdist"))
    unpacked = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(sdist) as archive:
        archive.extractall(unpacked, filter="data")
    (source,) = unpacked.iterdir()
    found = build("wheel", source, tmp_path_factory.mktemp("wheel"))
    shutil.rmtree(source)
    return found


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of commands of a fresh environment with the light install and the neighbour."""
    place = tmp_path_factory.mktemp("fresh") / "venv"
    uv = shutil.which("uv", path=Path(sys.executable).parent) or shutil.which("uv")
    if uv is None:
        pytest.skip("uv is not installed")
    run(uv, "venv", "--quiet", "--python", sys.executable, place, cwd=place.parent)
    ended = subprocess.run(
        [uv, "pip", "install", "--quiet", str(wheel), NEIGHBOUR],
        env={**os.environ, "VIRTUAL_ENV": str(place)},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    if ended.returncode and any(sign in ended.stderr for sign in NO_INDEX):
        pytest.skip(f"no package index can be reached: {ended.stderr.strip().splitlines()[-1]}")
    assert ended.returncode == 0, ended.stderr
    return place / "bin"


@pytest.fixture
def shadows(tmp_path: Path) -> Path:
    """A user's folder with modules and packages that are named like our folders."""
    for name in ("schemas", "streams"):
        (tmp_path / f"{name}.py").write_text(f"raise AssertionError('the {name}.py of the user')")
    for name in ("agents", "infra", "demo", "mlops_core", "benchmarks", "docs"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(f"raise AssertionError('the {name} of the user')")
    return tmp_path


def outside(folder: Path) -> dict[str, str]:
    """Environment of a user's shell in `folder`: nothing of ours on the path."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"PWD": str(folder)}


@pytest.mark.parametrize("command", [("-c", SDK), ("-m", "service"), ("service.py",)])
def test_the_sdk_runs_in_a_folder_with_modules_named_like_ours(shadows: Path, command: Sequence[str]) -> None:
    (shadows / "service.py").write_text(SDK)
    assert "Publisher" in run(sys.executable, *command, cwd=shadows, env=outside(shadows))


def test_the_command_runs_in_a_folder_with_modules_named_like_ours(shadows: Path) -> None:
    script = Path(sys.executable).with_name("driftloop")
    assert "rollout" in run(script, "--help", cwd=shadows, env=outside(shadows))


def test_children_run_in_a_folder_with_modules_named_like_ours(
    shadows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(shadows)
    for module in (
        "driftloop.infra.serving.host",
        "driftloop.infra.serving.replica",
        "driftloop.infra.cli.app",
    ):
        child = Child.start(module, python_command(module, "--help"), shadows / f"{module}.log")
        deadline = time.monotonic() + 60
        while child.alive and time.monotonic() < deadline:
            time.sleep(0.05)
        assert child.exit_code == 0, child.tail()
        assert "usage" in child.tail(100).lower()


def test_one_name_is_installed_and_nothing_that_only_we_need(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        paths = [Path(name) for name in archive.namelist()]
    assert {path.parts[0] for path in paths if not path.parts[0].endswith(".dist-info")} == {"driftloop"}
    folders = {path.parts[1] for path in paths if len(path.parts) > 2 and path.parts[0] == "driftloop"}
    assert folders == {"agents", "demo", "infra", "mlops_core", "schemas", "streams"}
    assert Path("driftloop/py.typed") in paths
    for file in ("infra/dashboard/static/index.html", "infra/kafka/server.properties"):
        assert Path("driftloop") / file in paths


def test_the_wheel_of_the_sources_is_the_wheel_of_the_sdist(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(build("wheel", ROOT, tmp_path)) as ours, zipfile.ZipFile(wheel) as theirs:
        assert sorted(ours.namelist()) == sorted(theirs.namelist())


def test_it_is_used_beside_a_package_whose_import_name_is_a_folder_of_ours(
    installed: Path, tmp_path: Path
) -> None:
    both = f"from agents import Agent; print(Agent.__module__); {SDK}"
    printed = run(installed / "python", "-c", both, cwd=tmp_path, env=outside(tmp_path))
    assert printed.startswith("agents.")
    assert "driftloop.streams" in printed


def test_the_installed_command_runs_with_the_sources_away(installed: Path, shadows: Path) -> None:
    assert "rollout" in run(installed / "driftloop", "--help", cwd=shadows, env=outside(shadows))


@pytest.mark.parametrize(
    ("command", "extra"),
    [
        ("demo", "demo"),
        ("up", "agents,training,serving,dashboard,server,embedded"),
        ("broker", "embedded"),
        ("serve", "serving"),
        ("dashboard", "dashboard"),
        ("agents run drift", "agents"),
        ("agents run scoring", "agents,training"),
        ("deploy churn 3", "agents"),
        ("store show", "agents"),
    ],
)
def test_a_command_names_the_extra_that_is_missing(
    installed: Path, tmp_path: Path, command: str, extra: str
) -> None:
    ended = subprocess.run(
        [str(installed / "driftloop"), *command.split()],
        cwd=tmp_path,
        env=outside(tmp_path),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 1
    assert f"pip install 'driftloop[{extra}]'" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


@pytest.mark.parametrize("command", ["lineage", "retrain churn"])
def test_other_commands_need_the_light_install_alone(installed: Path, tmp_path: Path, command: str) -> None:
    no_kafka = outside(tmp_path) | {
        "KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{free_port()}",
        "DRIFTLOOP_PUBLISHER__DELIVERY_TIMEOUT": "1",
    }
    ended = subprocess.run(
        [str(installed / "driftloop"), *command.split()],
        cwd=tmp_path,
        env=no_kafka,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert ended.stderr.splitlines()[-1].startswith("error: ")
    assert "Traceback" not in ended.stderr
