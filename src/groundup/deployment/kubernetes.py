"""A job -> objects for Kubernetes with Kubeflow Trainer 2: the recipe, how machines run it, and the job itself.

    ConfigMap          the resolved recipe
    TrainingRuntime    a pod a machine: volumes, time to save, which ends are final      (trainer.kubeflow.org/v1alpha1)
    TrainJob           how many machines, with how many devices each

Trainer tells each pod by PET_MASTER_ADDR and PET_MASTER_PORT where the first one is. A runtime of our own holds the
volumes since a TrainJob's own way to add them has changed between releases.
"""

from __future__ import annotations

from typing import Any

import yaml

from groundup.deployment.job import GRACE_SECONDS, OFFLINE, Cluster, Job, recipe_on

GROUP = "trainer.kubeflow.org"
VERSION = f"{GROUP}/v1alpha1"
SHARED, RECIPE = "/shared", "/recipe"
FINAL_CODES = (2, 3, 4, 7, 8)
"""Ends that another pod cannot mend: recipe, data, checkpoint, diverged, crash loop."""
STEP_LABEL = f"{GROUP}/trainjob-ancestor-step"
FAILED_PODS_A_NODE = 100
"""Pods that may fail over a run of weeks. What is hopeless ends by its exit code, and loops of crashes by code 8."""
CONTAINER = "node"
"""Name that Trainer looks for."""


def objects(job: Job, cluster: Cluster) -> str:
    """The objects as one YAML file; `kubectl apply -f FILE` creates them."""
    about = {"name": job.label, "namespace": cluster.namespace}
    recipe = recipe_on(job, {"workdir": f"{SHARED}/work", "rendezvous": ""})
    parts: list[dict[str, Any]] = [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": about, "data": {"recipe.yaml": recipe}},
        {"apiVersion": VERSION, "kind": "TrainingRuntime", "metadata": about, "spec": _runtime(job, cluster)},
        {"apiVersion": VERSION, "kind": "TrainJob", "metadata": about, "spec": _train_job(job)},
    ]
    head = (
        "# Written by `groundup deploy --for kubernetes`, for Kubeflow Trainer 2. Create: kubectl apply -f THIS_FILE\n"
        f"# Volume claim {cluster.claim} (ReadWriteMany) holds data and {SHARED}/work; paths of the recipe must lead\n"
        f"# there, relative ones are looked for below {SHARED}.\n"
    )
    return head + yaml.safe_dump_all(parts, sort_keys=False, width=120)


def _runtime(job: Job, cluster: Cluster) -> dict[str, Any]:
    mounts = [("shared", SHARED), ("recipe", RECIPE), ("memory", "/dev/shm")]  # noqa: S108 - NCCL's, in the container
    container = {
        "name": CONTAINER,
        "image": cluster.image,
        "workingDir": SHARED,
        "command": ["/bin/bash", "-c", _command(job)],
        "env": [{"name": name, "value": value} for name, value in OFFLINE.items()],
        "volumeMounts": [{"name": name, "mountPath": path} for name, path in mounts],
    }
    volumes = [
        {"name": "shared", "persistentVolumeClaim": {"claimName": cluster.claim}},
        {"name": "recipe", "configMap": {"name": job.label}},
        {"name": "memory", "emptyDir": {"medium": "Memory"}},
    ]
    pod = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "containers": [container],
        "volumes": volumes,
    }
    final = {"containerName": CONTAINER, "operator": "In", "values": list(FINAL_CODES)}
    policy = {
        "rules": [
            {"action": "FailJob", "onExitCodes": final},
            {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
        ]
    }
    work = {"backoffLimit": FAILED_PODS_A_NODE * job.nodes, "podFailurePolicy": policy, "template": {"spec": pod}}
    replicated = {"name": CONTAINER, "template": {"metadata": {"labels": {STEP_LABEL: "trainer"}}, "spec": work}}
    return {"mlPolicy": {"numNodes": job.nodes, "torch": {}}, "template": {"spec": {"replicatedJobs": [replicated]}}}


def _command(job: Job) -> str:
    verb = job.command[3]
    meeting = ' runtime.rendezvous="$PET_MASTER_ADDR:$PET_MASTER_PORT"' if job.nodes > 1 else ""
    return f"exec python -m groundup {verb} {RECIPE}/recipe.yaml{meeting}"


def _train_job(job: Job) -> dict[str, Any]:
    resources: dict[str, Any] = {
        **({"requests": {"cpu": str(job.cpus)}} if job.cpus else {}),
        **({"limits": {"nvidia.com/gpu": str(job.devices)}} if job.gpu else {}),
    }
    trainer = {"numNodes": job.nodes, "numProcPerNode": job.devices, "resourcesPerNode": resources}
    return {"runtimeRef": {"apiGroup": GROUP, "kind": "TrainingRuntime", "name": job.label}, "trainer": trainer}
