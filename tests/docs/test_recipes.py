"""Recipes for containers and Kubernetes: they fit the schemas of these; what they run exists.

They are not tried on a cluster here, and no base image can be had.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import typer
import yaml

from flows.hosting.runner import TERMINATE_GRACE_SECONDS
from flows.hosting.runners import TURN_LIMIT
from flows.hosting.service import RUNNER_STOP_SECONDS
from nightmill.cli import app
from tests.support.requirements import ROOT

RECIPES = ROOT / "deployments"
COMPOSE = RECIPES / "docker" / "compose.yaml"
DOCKERFILE = RECIPES / "docker" / "Dockerfile"
KUBERNETES = RECIPES / "kubernetes" / "runner.yaml"
OLDEST = "1.28"


def documents() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(KUBERNETES.read_text()))


def pod() -> dict[str, Any]:
    [found] = [each for each in documents() if each["kind"] == "StatefulSet"]
    spec: dict[str, Any] = found["spec"]["template"]["spec"]
    return spec


def typed(words: list[str]) -> None:
    """Make sure that nightmill takes a command line, without doing it."""
    command: Any = typer.main.get_command(app)
    rest = list(words)
    while hasattr(command, "get_command"):
        context = command.make_context("nightmill", rest, resilient_parsing=True)
        found = command.get_command(context, rest.pop(0))
        assert found is not None, words
        command = found
    command.make_context(words[0], rest)


@pytest.mark.parametrize("version", [OLDEST, kubernetes_validate.latest_version()])
def test_manifests_are_what_kubernetes_knows(version: str) -> None:
    for document in documents():
        kubernetes_validate.validate(document, version, strict=True)


def test_a_mistake_in_a_manifest_would_be_seen() -> None:
    [wrong] = [each for each in documents() if each["kind"] == "StatefulSet"]
    wrong["spec"]["template"]["spec"]["terminationGracePeriod"] = 60
    with pytest.raises(kubernetes_validate.ValidationError, match="terminationGracePeriod"):
        kubernetes_validate.validate(wrong, OLDEST, strict=True)


def test_a_pod_is_no_more_than_it_needs_to_be() -> None:
    [container] = pod()["containers"]
    assert pod()["securityContext"]["runAsNonRoot"]
    assert "fsGroup" not in pod()["securityContext"]
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    [secret] = [each["secret"] for each in pod()["volumes"] if each["name"] == "secret"]
    assert secret["defaultMode"] == 0o440
    mounted = {each["name"] for each in container["volumeMounts"]}
    assert mounted == {each["name"] for each in pod()["volumes"]}


def test_there_is_time_to_end() -> None:
    longest = max(TERMINATE_GRACE_SECONDS, RUNNER_STOP_SECONDS)
    assert pod()["terminationGracePeriodSeconds"] > longest
    assert int(yaml.safe_load(COMPOSE.read_text())["services"]["runner"]["stop_grace_period"].rstrip("s")) > longest
    probe = pod()["containers"][0]["livenessProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] >= TURN_LIMIT.total_seconds()


def test_the_compose_file_is_what_compose_knows(tmp_path: Path) -> None:
    def check(file: Path) -> subprocess.CompletedProcess[str]:
        words = [str(Path(sys.executable).parent / "check-jsonschema"), "--builtin-schema", "vendor.compose-spec"]
        return subprocess.run([*words, str(file)], capture_output=True, text=True, check=False)

    done = check(COMPOSE)
    assert done.returncode == 0, done.stdout
    wrong = tmp_path / "compose.yaml"
    wrong.write_text(COMPOSE.read_text().replace("cap_drop:", "cap_drops:"))
    assert "cap_drops" in check(wrong).stdout


def test_what_recipes_run_exists() -> None:
    [container] = pod()["containers"]
    typed(container["args"])
    for probe in ("startupProbe", "livenessProbe"):
        program, *words = container[probe]["exec"]["command"]
        assert program == "nightmill"
        typed(words)
    typed(yaml.safe_load(COMPOSE.read_text())["services"]["runner"]["command"])
    instructions = re.findall(r"^(ENTRYPOINT|CMD|HEALTHCHECK)\b.*?(\[.*\])$", DOCKERFILE.read_text(), re.MULTILINE)
    said = {name: json.loads(words) for name, words in instructions}
    assert said["ENTRYPOINT"] == ["tini", "--", "nightmill"]
    typed(said["CMD"])
    typed(said["HEALTHCHECK"][1:])
    with pytest.raises(Exception, match="--alon"):
        typed(["runner", "start", "--alon"])


def test_shell_lines_of_the_dockerfile_are_shell() -> None:
    text = DOCKERFILE.read_text().replace("\\\n", " ")
    for line in re.findall(r"^RUN (.*)$", text, re.MULTILINE):
        done = subprocess.run(["sh", "-n", "-c", line], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert shlex.split(line)


def test_the_wheel_is_installed_with_its_extra(tmp_path: Path) -> None:
    (tmp_path / "nightmill-0.3.0-py3-none-any.whl").touch()
    told = subprocess.run(
        ["sh", "-c", f'echo "$(echo {tmp_path}/*.whl)[postgres]"'], capture_output=True, text=True, check=True
    )
    assert told.stdout == f"{tmp_path}/nightmill-0.3.0-py3-none-any.whl[postgres]{os.linesep}"
