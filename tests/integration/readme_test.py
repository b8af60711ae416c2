"""What the README says works as it stands."""

import re

import pytest

from driftloop.schemas import topics
from driftloop.schemas.records import Label, Prediction
from driftloop.schemas.settings import KafkaSettings
from driftloop.streams import admin
from driftloop.streams.wire import codec
from tests.integration.publisher_test import read
from tests.support.paths import ROOT

README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_the_readmes_way_to_publish_puts_a_prediction_and_its_label_on_kafka(
    kafka_settings: KafkaSettings,
) -> None:
    unprefixed = kafka_settings.model_copy(update={"prefix": "readme-"})
    admin.create_topics(unprefixed)
    code = blocks("python")[0].replace(
        'KafkaSettings(bootstrap="127.0.0.1:9092")',
        f'KafkaSettings(bootstrap="{unprefixed.bootstrap}", prefix="readme-")',
    )
    exec(compile(code, "README.md", "exec"), {})  # noqa: S102 - our own README
    [(_, key, prediction)] = read(unprefixed, topics.PREDICTIONS, 1)
    assert key == b"tx-1"
    assert isinstance(codec.decode_record(prediction), Prediction)
    [(_, _, label)] = read(unprefixed, topics.LABELS, 1)
    assert isinstance(codec.decode_record(label), Label)


def test_the_readmes_fog_is_found(capsys: pytest.CaptureFixture[str]) -> None:
    [code] = [block for block in blocks("python") if "OnlineDrift" in block]
    exec(compile(code, "README.md", "exec"), {})  # noqa: S102 - our own README
    [said] = capsys.readouterr().out.splitlines()
    assert said.startswith("visib moved down by 1.")


def test_the_readmes_line_for_kcat_is_a_readable_label() -> None:
    (line,) = [line for block in blocks("console") for line in block.splitlines() if "kcat" in line]
    key, _, value = line.removeprefix("echo '").partition("' |")[0].partition(":")
    label = codec.decode_record(value.encode())
    assert isinstance(label, Label)
    assert label.id == key


@pytest.mark.parametrize("link", re.findall(r"\]\(([^)#]+)\)", README))
def test_a_link_leads_to_a_file(link: str) -> None:
    assert (ROOT / link).exists()
