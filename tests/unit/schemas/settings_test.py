"""Settings: from YAML and the environment; a typo is an error that names the key."""

from pathlib import Path

import pytest

from driftloop.schemas.settings import Settings, SettingsError


@pytest.fixture
def written(tmp_path: Path) -> Path:
    return tmp_path / "driftloop.yaml"


def test_defaults_need_no_file() -> None:
    assert Settings.load().rollout.steps == (10, 50)


def test_a_typo_names_the_key_and_the_nearest_right_one(written: Path) -> None:
    written.write_text("drift:\n  open_severty: 0.3\n")
    with pytest.raises(SettingsError, match="unknown key 'drift.open_severty'; did you mean 'open_severity'"):
        Settings.load(written)


def test_a_key_like_no_other_is_told_what_is_possible(written: Path) -> None:
    written.write_text("xyz: 1\n")
    with pytest.raises(SettingsError, match="unknown key 'xyz'; possible here: dashboard, drift"):
        Settings.load(written)


def test_a_wrong_value_is_shown_with_its_key(written: Path) -> None:
    written.write_text("drift: {delta: 2}\n")
    with pytest.raises(SettingsError, match="drift.delta: .*less than 1.*got 2"):
        Settings.load(written)


def test_the_environment_goes_before_the_file(written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written.write_text("drift: {delta: 0.001, open_severity: 0.5}\n")
    monkeypatch.setenv("DRIFTLOOP_DRIFT__DELTA", "0.01")
    drift = Settings.load(written).drift
    assert (drift.delta, drift.open_severity) == (0.01, 0.5)


def test_kafka_bootstrap_servers_alone_points_everything_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "kafka-1:9092,kafka-2:9092")
    assert Settings.load().kafka.bootstrap == "kafka-1:9092,kafka-2:9092"


def test_arguments_go_before_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "kafka-1:9092")
    assert Settings.load(kafka={"bootstrap": "here:1"}).kafka.bootstrap == "here:1"


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no settings file at .*nowhere.yaml"):
        Settings.load(tmp_path / "nowhere.yaml")


def test_settings_survive_the_way_through_a_file(written: Path) -> None:
    settings = Settings.load(rollout={"steps": (20, 40)})
    written.write_text(settings.model_dump_json())
    assert Settings.load(written).rollout.steps == (20, 40)


@pytest.mark.parametrize("text", ["drift: {", "drift", "- drift", "1: 2", "\t: 1"])
def test_a_file_that_is_no_mapping_of_groups_is_an_error_that_names_it(text: str, written: Path) -> None:
    written.write_text(text)
    with pytest.raises(SettingsError, match="driftloop.yaml"):
        Settings.load(written)


def test_a_variable_of_a_group_that_does_not_exist_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRIFTLOOP_SERVICE_HOST", "10.0.0.1")  # Kubernetes: of a service called driftloop
    assert Settings.load().drift.season is None
    monkeypatch.setenv("DRIFTLOOP_DRFT__SEASON", "day")
    with pytest.raises(SettingsError, match="DRIFTLOOP_DRFT__SEASON sets nothing: did you mean 'drift'"):
        Settings.load()


def test_a_list_in_a_variable_that_is_no_json_is_told_what_was_possible(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DRIFTLOOP_DRIFT__SEGMENTS", "country")
    with pytest.raises(SettingsError, match=r"DRIFTLOOP_DRIFT__SEGMENTS: JSON was expected.*got 'country'"):
        Settings.load()
    monkeypatch.setenv("DRIFTLOOP_DRIFT__SEGMENTS", '["country"]')
    assert Settings.load().drift.segments == ("country",)


@pytest.mark.parametrize(
    ("drift", "said"),
    [
        ("season: dya", "drift.season: Input should be 'day' or 'week'; or .* number.* [(]got 'dya'[)]$"),
        ("season: .inf", "drift.season: .*finite number"),
        ("season: 9000", "drift.season: .*less than or equal to 8784"),
        ("season: true", "drift.season: .*'day' or 'week'; or a number was expected.*got True"),
        ("season: 0.001", "drift.season: .*greater than or equal to 1 "),
        ("window_rows: 1000", "drift.window_rows: .*multiple of 256"),
        ("confirm: 5 of 3", "drift.confirm: say `m of n` with 1 <= m <= n <= 16"),
        ("confirm: two", "drift.confirm: say `m of n` with 1 <= m <= n <= 16"),
        ("open_severity: 0.05", "drift: close_severity 0.075 must be less than open_severity 0.05"),
        ("false_alarms: 3", "drift.false_alarms: Input should be a valid string; or .*dictionary"),
        (
            "false_alarms: never",
            "drift.false_alarms: 'never' is no budget of false alarms; say `1 in 30 days",
        ),
        ("segments: country", "drift.segments: .*got 'country'"),
    ],
)
def test_a_value_that_cannot_be_is_one_line_that_says_what_can(drift: str, said: str, written: Path) -> None:
    written.write_text(f"drift: {{{drift}}}\n")
    with pytest.raises(SettingsError, match=said) as caught:
        Settings.load(written)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("group", "said"),
    [
        ("rollout: {steps: []}", "rollout.steps: rising percents were expected.*as `.10, 50.`.*got .."),
        ("rollout: {steps: [50, 10]}", "rollout.steps: rising percents were expected.*got .50, 10."),
        ("rollout: {steps: [10, 10]}", "rollout.steps: rising percents were expected"),
        ("rollout: {steps: [100]}", "rollout.steps: .*the first below 100"),
        ("rollout: {steps: [10, 101]}", "rollout.steps.1: .*less than or equal to 100 .got 101."),
        ("rollout: {steps: [true, 50]}", "rollout.steps.0: a number was expected, not true or false"),
        ("rollout: {alpha: 0}", "rollout.alpha: .*greater than or equal to 0.0*1 "),
        ("drift: {open_severity: .inf}", "drift.open_severity: Input should be a finite number"),
        ("drift: {open_severity: .nan}", "drift.open_severity: Input should be a finite number"),
        (
            "drift: {segments: [country, country]}",
            "drift.segments: distinct values were expected; one is repeated",
        ),
        (
            "drift: {reference: rolling, rolling_rows: 9}",
            "drift: rolling_rows 9 must be at least window_rows",
        ),
        ("kafka: {session_timeout: 0}", "kafka.session_timeout: .*greater than or equal to 1 "),
        ("kafka: {bootstrap: kafka}", "kafka.bootstrap: servers were expected, as `kafka-1:9092"),
        ("publisher: {delivery_timeout: 0.001}", "linger_ms 5 must be less than delivery_timeout 0.001 s"),
        ("retraining: {windows: [10]}", "retraining.windows.0: .*greater than or equal to 500"),
        ("retraining: {windows: []}", "retraining.windows: .*at least 1 item"),
        ("retraining: {window_rows: 5000}", "retraining.window_rows.*windows"),
        (
            "training: {holdout: 0.01}\nretraining: {windows: [500, 60000]}",
            "the gate needs; 10,000 rows were poss",
        ),
        ("training: {trainers: {mine: nope}}", "training.trainers: `module:class` was expected"),
        ("training: {threads: yes}", "training.threads: a number was expected, not true or false"),
        ("registry: {tracking_uri: mlflow}", "registry.tracking_uri: a registry was expected, as `http://"),
        ("store: {folder: ''}", "store.folder: a folder was expected"),
        ("store: {segment_hours: 0}", "store.segment_hours: .*greater than or equal to 0.001"),
    ],
)
def test_what_no_part_could_work_with_is_refused_where_it_is_read(
    group: str, said: str, written: Path
) -> None:
    written.write_text(group)
    with pytest.raises(SettingsError, match=said):
        Settings.load(written)
