"""The files of docker/ as their readers see them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
DOCKER = ROOT / "docker"
COMPOSE_FILES = ("compose.site.yaml", "compose.server.yaml", "compose.local.yaml")
MANIFESTS = ("raycluster.yaml", "simulate-job.yaml")
SITE_ENVIRONMENT = {"ENDOFED_IMAGE": "endofed-site:0.1.0", "ENDOFED_DATA": "/frames"}
"""What a kit says at least."""
LOCAL_ENVIRONMENT = {
    "ENDOFED_FEDERATION": "/federation-folder",
    **{f"ENDOFED_DATA_{name}": f"/frames/{name}" for name in ("ONE", "TWO", "THREE")},
}
_VARIABLE = re.compile(r"\$\{(?P<name>\w+)(?::(?P<kind>[-?])(?P<text>[^}]*))?\}")


class UnsetVariable(Exception):
    """A compose file needs a variable that is not there."""


@dataclass
class Stage:
    """One stage of the Dockerfile: what it builds on and its instructions."""

    base: str
    instructions: list[tuple[str, str]] = field(default_factory=list)

    def all(self, word: str) -> list[str]:
        """Return the arguments of every such instruction, in order."""
        return [rest for name, rest in self.instructions if name == word]


def read_stages() -> dict[str, Stage]:
    """Return the stages of the Dockerfile by name."""
    text = (DOCKER / "Dockerfile").read_text()
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    stages: dict[str, Stage] = {}
    current = Stage("")
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        if not line.strip():
            continue
        word, rest = line.split(maxsplit=1)
        if word == "FROM":
            base, _, name = rest.split()
            current = stages.setdefault(name, Stage(base))
        else:
            current.instructions.append((word, " ".join(rest.split())))
    return stages


def lineage(stages: Mapping[str, Stage], name: str) -> list[Stage]:
    """Return a stage after all stages that it builds on, oldest first."""
    chain: list[Stage] = []
    while name in stages:
        chain.insert(0, stages[name])
        name = stages[name].base
    return chain


def environment_of(stages: Mapping[str, Stage], name: str) -> dict[str, str]:
    """Return the variables that an image sets."""
    pairs = {}
    for stage in lineage(stages, name):
        for line in stage.all("ENV"):
            pairs.update(re.findall(r"(\w+)=(\S+)", line))
    return pairs


def read_compose(name: str, environment: Mapping[str, str]) -> dict[str, Any]:
    """Return a compose file with its variables put in, as compose does."""

    def put_in(found: re.Match[str]) -> str:
        value = environment.get(found["name"], "")
        if value or found["kind"] is None:
            return value
        if found["kind"] == "?":
            raise UnsetVariable(found["name"])
        return str(found["text"])

    text = (DOCKER / name).read_text()
    lines = [
        line if line.lstrip().startswith("#") else _VARIABLE.sub(put_in, line)
        for line in text.splitlines()
    ]
    return dict(yaml.safe_load("\n".join(lines)))


def read_services(name: str) -> dict[str, dict[str, Any]]:
    """Return the services of a compose file with the variables of its users."""
    environment = {**SITE_ENVIRONMENT, **LOCAL_ENVIRONMENT}
    return dict(read_compose(name, environment)["services"])


def read_manifests() -> list[dict[str, Any]]:
    """Return every Kubernetes object of docker/kubernetes."""
    return [
        one
        for name in MANIFESTS
        for one in yaml.safe_load_all((DOCKER / "kubernetes" / name).read_text())
    ]


def pod_specs() -> list[dict[str, Any]]:
    """Return the specification of every pod that the manifests start."""
    specs = []
    for one in read_manifests():
        spec = one["spec"]
        if one["kind"] == "Job":
            specs.append(spec["template"]["spec"])
        if one["kind"] == "RayCluster":
            groups = [spec["headGroupSpec"], *spec["workerGroupSpecs"]]
            specs.extend(group["template"]["spec"] for group in groups)
    return specs
