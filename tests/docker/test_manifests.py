"""The Kubernetes manifests and the Slurm script, as far as they can be read."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.docker.files import DOCKER, ROOT, pod_specs, read_manifests

SLURM = DOCKER / "slurm" / "simulate.sbatch"
Pod = dict[str, Any]
every_pod = pytest.mark.parametrize(
    "pod", [pytest.param(one, id=one["containers"][0]["name"]) for one in pod_specs()]
)


def program(name: str) -> str:
    beside = str(Path(sys.executable).parent)
    found = shutil.which(name, path=beside) or shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


@every_pod
def test_a_pod_is_as_locked_up_as_a_container(pod: Pod) -> None:
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == 10001
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    (container,) = pod["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {"cpu", "memory"} <= container["resources"]["limits"].keys()
    mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
    assert mounts["/data"]["readOnly"] is True
    assert {"/tmp", "/dev/shm", "/state"} <= mounts.keys()
    assert {mount["name"] for mount in mounts.values()} == {
        volume["name"] for volume in pod["volumes"]
    }
    assert not any("hostPath" in volume for volume in pod["volumes"])


def test_ray_has_the_version_that_the_image_has() -> None:
    (cluster,) = (one for one in read_manifests() if one["kind"] == "RayCluster")
    pinned = re.search(r"^ray==(.*)$", (ROOT / "constraints.txt").read_text(), 8)
    assert pinned is not None
    assert cluster["spec"]["rayVersion"] == pinned[1]


def test_hospitals_work_on_workers_and_the_job_joins_without_a_core() -> None:
    cluster, job = (
        next(one for one in read_manifests() if one["kind"] == kind)
        for kind in ("RayCluster", "Job")
    )
    assert cluster["spec"]["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    (workers,) = cluster["spec"]["workerGroupSpecs"]
    (container,) = workers["template"]["spec"]["containers"]
    limit = container["resources"]["limits"]["cpu"]
    assert workers["rayStartParams"]["num-cpus"] == limit
    (simulate,) = job["spec"]["template"]["spec"]["containers"]
    script = simulate["args"][0]
    assert "ray start" in script and "--num-cpus 0" in script
    address = next(one for one in simulate["env"] if one["name"] == "RAY_ADDRESS")
    # KubeRay calls the head's service after the cluster.
    assert address["value"] == f"{cluster['metadata']['name']}-head-svc:6379"
    done = subprocess.run(["bash", "-n"], input=script, text=True, timeout=10)
    assert done.returncode == 0


def test_the_probes_need_no_program_that_the_image_lacks() -> None:
    (cluster,) = (one for one in read_manifests() if one["kind"] == "RayCluster")
    spec = cluster["spec"]
    ports = {"ray-head": 6379}
    (workers,) = spec["workerGroupSpecs"]
    ports["ray-worker"] = int(workers["rayStartParams"]["node-manager-port"])
    for group in (spec["headGroupSpec"], workers):
        (container,) = group["template"]["spec"]["containers"]
        for probe in ("livenessProbe", "readinessProbe"):
            assert container[probe]["tcpSocket"] == {"port": ports[container["name"]]}


def test_only_pods_of_the_federation_reach_ray() -> None:
    (policy,) = (one for one in read_manifests() if one["kind"] == "NetworkPolicy")
    label = policy["spec"]["podSelector"]["matchLabels"]
    assert policy["spec"]["ingress"] == [
        {"from": [{"podSelector": {"matchLabels": label}}]}
    ]
    (cluster,) = (one for one in read_manifests() if one["kind"] == "RayCluster")
    groups = [cluster["spec"]["headGroupSpec"], *cluster["spec"]["workerGroupSpecs"]]
    for group in groups:
        assert group["template"]["metadata"]["labels"] == label


def test_every_claim_that_is_mounted_is_made() -> None:
    made = {
        one["metadata"]["name"]
        for one in read_manifests()
        if one["kind"] == "PersistentVolumeClaim"
    }
    mounted = {
        volume["persistentVolumeClaim"]["claimName"]
        for pod in pod_specs()
        for volume in pod["volumes"]
        if "persistentVolumeClaim" in volume
    }
    assert mounted == made


@pytest.mark.parametrize("name", ["raycluster.yaml", "simulate-job.yaml"])
def test_kubernetes_knows_every_key(name: str) -> None:
    done = subprocess.run(
        [program("kubernetes-validate"), "--strict", str(DOCKER / "kubernetes" / name)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_bash_and_shellcheck_find_nothing_in_the_slurm_script() -> None:
    assert subprocess.run(["bash", "-n", str(SLURM)], timeout=10).returncode == 0
    done = subprocess.run(
        [program("shellcheck"), str(SLURM)], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (0, "")
