"""What a hospital finds out before it joins."""

import json
import socket
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from rich.console import Console

from clients.data.errors import DataError
from experiments.deployment import site_check
from experiments.deployment.checks import clock as clock_check
from experiments.deployment.checks import disk, machine, training
from experiments.deployment.checks.certificate import check_certificate
from experiments.deployment.checks.clock import check_clock, judge_offset
from experiments.deployment.checks.finding import Finding, find
from experiments.deployment.checks.key import check_key
from experiments.deployment.checks.network import check_dns, check_port, split_address
from experiments.deployment.node_keys import make_node_key, read_public_key
from experiments.deployment.site_check import (
    report_of,
    run_checks,
    show_findings,
    write_report,
)
from strategies.settings import RunSettings, SettingsError, SettingValue
from tests.experiments.deployment.site_trial import DAY, centre, make_kit, make_pair

MARKER = "Doe-Jane"


@pytest.mark.parametrize(
    ("ahead", "level"),
    [
        (0.0, "ok"),
        (-30.0, "ok"),
        (3.0, "warning"),
        (-90.0, "warning"),
        (7.0, "failed"),
        (-400.0, "failed"),
    ],
)
def test_a_clock_is_judged_as_flower_judges_it(ahead: float, level: str) -> None:
    assert judge_offset(ahead, 0.5).level == level


def test_the_tolerances_are_those_of_the_installed_flower() -> None:
    from flwr.common import constant

    assert constant.SYSTEM_TIME_TOLERANCE == clock_check.AHEAD_S
    assert constant.TIMESTAMP_TOLERANCE == clock_check.BEHIND_S


def test_a_doubtful_clock_is_not_called_wrong() -> None:
    assert judge_offset(6.0, 2.0).level == "warning"


def test_a_clock_is_compared_with_the_centres_whatever_its_certificate(
    tmp_path: Path,
) -> None:
    _, expired = make_pair(start=-30 * DAY, end=-DAY)
    with centre(tmp_path, expired, clock_ahead=timedelta(hours=1)) as port:
        found = check_clock("127.0.0.1", port)
    assert found.level == "failed"
    assert float(found.numbers["ahead-s"]) == pytest.approx(-3600, abs=2)
    assert "behind" in found.says


def test_without_an_answer_there_is_no_clock_to_compare_with(
    closed_port: int,
) -> None:
    assert check_clock("127.0.0.1", closed_port).level == "skipped"


def test_a_name_that_nobody_knows_is_a_failed_look_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, f"{MARKER} not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    found = check_dns(f"{MARKER}.example.org")
    assert found.level == "failed"
    assert MARKER not in found.says + found.advice
    assert check_dns("10.0.0.5").level == check_dns("::1").level == "ok"


def test_an_address_may_be_a_name_or_of_either_version() -> None:
    assert split_address("fl.example.org:8000") == ("fl.example.org", 8000)
    assert split_address("[fd00::5]:443") == ("fd00::5", 443)


def test_a_port_is_open_refused_or_silent(
    tmp_path: Path, closed_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with centre(tmp_path, None) as port:
        assert check_port("127.0.0.1", port).level == "ok"
    refused = check_port("127.0.0.1", closed_port)
    assert (refused.level, "refuses" in refused.says) == ("failed", True)

    def silent(*_: object, **__: object) -> None:
        raise TimeoutError

    monkeypatch.setattr(socket, "create_connection", silent)
    dropped = check_port("127.0.0.1", 8000)
    assert (dropped.level, "firewall" in dropped.advice) == ("failed", True)


def test_the_centre_is_known_by_the_authority_in_the_kit(tmp_path: Path) -> None:
    authority, server = make_pair()
    (tmp_path / "ca.crt").write_bytes(authority.certificate)
    with centre(tmp_path, server) as port:
        found = check_certificate("127.0.0.1", port, tmp_path / "ca.crt")
    assert found.level == "ok"
    assert found.numbers["server-days"] == 89


def test_a_certificate_that_ends_soon_is_a_warning(tmp_path: Path) -> None:
    authority, server = make_pair(end=10 * DAY)
    (tmp_path / "ca.crt").write_bytes(authority.certificate)
    with centre(tmp_path, server) as port:
        found = check_certificate("127.0.0.1", port, tmp_path / "ca.crt")
    assert (found.level, found.numbers["server-days"]) == ("warning", 9)


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        ({"start": -30 * DAY, "end": -DAY}, "expired"),
        ({"start": 2 * DAY}, "not valid yet"),
        ({"names": ("elsewhere.example.org",)}, "does not name"),
    ],
)
def test_each_fault_of_a_certificate_is_told_apart(
    tmp_path: Path, wrong: dict[str, timedelta], word: str
) -> None:
    authority, server = make_pair(**wrong)
    (tmp_path / "ca.crt").write_bytes(authority.certificate)
    host = "127.0.0.2" if "names" in wrong else "127.0.0.1"  # always in: 127.0.0.1
    with centre(tmp_path, server) as port:
        if host != "127.0.0.1":
            found = _as_other_host(tmp_path, port)
        else:
            found = check_certificate(host, port, tmp_path / "ca.crt")
    assert found.level == "failed"
    assert word in found.says


def _as_other_host(folder: Path, port: int) -> Finding:
    """Connect to loopback by a name that the certificate does not hold."""
    connect = socket.create_connection

    def to_loopback(_: object, **kwargs: float) -> socket.socket:
        return connect(("127.0.0.1", port), **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "create_connection", to_loopback)
        return check_certificate("fl.example.org", port, folder / "ca.crt")


def test_a_centre_of_another_authority_is_not_to_be_joined(tmp_path: Path) -> None:
    _, server = make_pair()
    other, _ = make_pair()
    (tmp_path / "ca.crt").write_bytes(other.certificate)
    with centre(tmp_path, server) as port:
        found = check_certificate("127.0.0.1", port, tmp_path / "ca.crt")
    assert found.level == "failed"
    assert "Do not join" in found.advice


def test_a_port_without_tls_and_a_kit_without_certificate_fail(
    tmp_path: Path,
) -> None:
    authority, _ = make_pair()
    with centre(tmp_path, None) as port:
        nothing = check_certificate("127.0.0.1", port, tmp_path / "ca.crt")
        (tmp_path / "ca.crt").write_bytes(authority.certificate)
        plain = check_certificate("127.0.0.1", port, tmp_path / "ca.crt")
    assert (nothing.level, "ca.crt" in nothing.says) == ("failed", True)
    assert (plain.level, "does not speak TLS" in plain.says) == ("failed", True)


def test_a_good_key_is_named_by_its_fingerprint(tmp_path: Path) -> None:
    kit = make_kit(tmp_path, 8000)
    found = check_key(kit / "supernode.key", kit / "supernode.pub")
    public = read_public_key((kit / "supernode.pub").read_text())
    assert (found.level, found.numbers["fingerprint"]) == ("ok", public.fingerprint)


@pytest.mark.parametrize(
    ("spoil", "word"),
    [
        (lambda key: key.unlink(), "has no supernode.key"),
        (lambda key: key.chmod(0o644), "mode 644"),
        (lambda key: key.write_bytes(b"-----BEGIN EC PRIVATE KEY-----\n"), "OpenSSH"),
        (lambda key: key.write_bytes(make_node_key().private), "not the public half"),
    ],
)
def test_each_fault_of_a_key_is_told_apart(
    tmp_path: Path, spoil: Callable[[Path], object], word: str
) -> None:
    kit = make_kit(tmp_path, 8000)
    spoil(kit / "supernode.key")
    found = check_key(kit / "supernode.key", kit / "supernode.pub")
    assert (found.level, word in found.says) == ("failed", True)


def test_too_little_memory_is_said_with_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert machine.check_memory(1.0).level == "failed"
    assert machine.check_memory(100_000.0).level == "warning"
    limit = tmp_path / "memory.max"
    limit.write_text(f"{2**30}\n")
    monkeypatch.setattr(machine, "CONTAINER_LIMIT", limit)
    found = machine.check_memory(8.0)
    assert (found.level, found.numbers["memory-gib"]) == ("failed", 1.0)
    limit.write_text("max\n")
    assert float(machine.check_memory(8.0).numbers["memory-gib"]) > 1


def test_a_gpu_that_is_asked_for_must_be_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert machine.check_gpu("cuda", 0).level == "failed"
    assert machine.check_gpu("auto", 1).level == "failed"
    assert machine.check_gpu("auto", 0).level == "ok"


def test_a_full_disk_and_a_folder_of_others_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = tmp_path / "not" / "made" / "yet"
    usage = type("Usage", (), {"free": 2**28})
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda _: usage)
    assert disk.check_disk("disk: state", state).level == "failed"
    monkeypatch.setattr(disk.os, "access", lambda *_: False)
    found = disk.check_disk("disk: state", state)
    assert (found.level, "cannot be written" in found.says) == ("failed", True)
    assert not state.exists()


def test_the_smallest_allowed_network_is_tried_within_the_limits() -> None:
    from clients.site_file import Bound, Limits

    limits = Limits(
        models=("unet", "fga-net-small"),
        settings={
            "train.batch-size": Bound(most=2),
            "wire": Bound(allowed=("bfloat16",)),
        },
    )
    run_config = training.smallest_run(limits)
    assert run_config["model.name"] == "fga-net-small"
    assert (run_config["train.batch-size"], run_config["wire"]) == (2, "bfloat16")
    RunSettings.from_run_config(run_config)
    with pytest.raises(SettingsError, match="no network"):
        training.smallest_run(Limits(models=("resnet",)))


def test_a_step_is_taken_on_the_sites_own_frames(
    tmp_path: Path, run_config: dict[str, SettingValue]
) -> None:
    kit = make_kit(tmp_path, 8000)
    small = {**run_config, "model.image-size": 32, "train.batch-size": 2}
    settings = RunSettings.from_run_config(small)
    step = training.measure_step(kit / "site.toml", settings)
    assert (step.model, step.device, step.frames) == ("sam-tiny", "cpu", 1)
    assert 0 < step.seconds < 60
    assert 0.1 < step.peak_gib < 64
    found = training.judge_step(step, promised_gib=step.peak_gib)
    assert found.level == "warning"  # more than eight tenths of what is promised


def test_the_time_of_a_round_says_what_it_assumes(run_settings: RunSettings) -> None:
    step = training.Step("sam-tiny", "cpu", 8, seconds=3.0, peak_gib=1.0, frames=40)
    found = training.estimate_round(step, run_settings)
    # 8 own steps, each a third longer by a teacher's answer, and 2 of a visitor.
    assert found.numbers["round-s"] == pytest.approx(3 * (8 * 4 / 3 + 2), abs=0.1)
    assert "8 own steps" in found.says


def test_a_check_that_breaks_down_is_a_finding_without_the_errors_text() -> None:
    def broken() -> Finding:
        raise KeyError(f"/data/{MARKER}")

    def refused() -> Finding:
        raise DataError(f"label '{MARKER}'")

    for check, word in ((broken, "KeyError"), (refused, "cannot be used")):
        found = find("data", check)
        assert (found.level, word in found.says) == ("failed", True)
        assert MARKER not in found.says + found.advice


def test_a_site_that_is_ready_passes_and_the_names_never_change(
    tmp_path: Path,
) -> None:
    authority, server = make_pair()
    with centre(tmp_path, server) as port:
        kit = make_kit(tmp_path / "kit", port, authority.certificate)
        findings = list(run_checks(kit, quick=True))
    levels = {one.name: one.level for one in findings}
    assert [name for name, level in levels.items() if level == "failed"] == []
    assert levels["certificate"] == levels["clock"] == levels["key"] == "ok"
    assert levels["app"] == "warning"  # "any"
    assert [levels[name] for name in ("data", "training", "time per round")] == [
        "skipped"
    ] * 3


def test_the_report_that_is_sent_back_names_nobody(
    tmp_path: Path, closed_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    import cv2
    import numpy as np

    frames = tmp_path / MARKER / "data" / f"patient-{MARKER}"
    for folder in ("images", "masks"):
        (frames / folder).mkdir(parents=True)
    noise = np.random.default_rng(0).integers(0, 255, (32, 32), dtype=np.uint8)
    cv2.imwrite(str(frames / "images" / f"{MARKER}.png"), noise)
    (frames / "images" / f"{MARKER}-2.png").write_bytes(b"no picture")
    monkeypatch.setattr(
        training, "measure_step", lambda *_: (_ for _ in ()).throw(DataError(MARKER))
    )
    monkeypatch.setattr(site_check.platform, "node", lambda: MARKER, raising=False)
    kit = make_kit(tmp_path / MARKER / "kit", closed_port)
    site = (kit / "site.toml").read_text()
    site = site.replace('domain = "human"', f'data = "{frames.parent}"')
    site = site.replace("patients = 3\nframes-per-patient = 1\n", "")
    site = site.replace('name = "hillside"', f'name = "{MARKER}"')
    site = site.replace("127.0.0.1:", f"{MARKER}.invalid:")
    (kit / "site.toml").write_text(site)
    findings = list(run_checks(kit, quick=False))
    state = tmp_path / MARKER / "kit" / "state"
    path = write_report(state, report_of(findings, datetime.now(UTC)))
    sent = path.read_text()
    assert MARKER not in sent
    assert str(tmp_path) not in sent
    report = json.loads(sent)
    assert report["failed"] >= 4  # DNS, port, certificate, data, training
    assert report["version-flwr"]
    assert {"patients", "errors"} <= next(
        one for one in report["findings"] if one["name"] == "data"
    ).keys()


def test_all_findings_stand_in_one_table_with_what_to_do() -> None:
    console = Console(record=True, width=100)
    findings = [
        Finding("key", "failed", "It is [not] there.", "Make one."),
        Finding("data", "ok", "3 patient(s)."),
    ]
    show_findings(console, findings)
    shown = console.export_text()
    assert "It is [not] there." in shown
    assert "→ Make one." in shown
    assert len(shown.splitlines()) < 10


def test_a_report_that_cannot_be_written_says_which_folder_to_mend(
    tmp_path: Path,
) -> None:
    (tmp_path / "state").write_text("a file in the way")
    with pytest.raises(DataError, match=r"site\.toml"):
        write_report(tmp_path / "state", {})


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
