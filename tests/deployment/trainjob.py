"""What Kubernetes takes of the objects that we make: written from the documentation of Kubeflow Trainer 2's v1alpha1
types, JobSet and pods, as far as our objects use them; fields that are not here are refused, as a cluster does."""

from __future__ import annotations

from typing import Any


def closed(required: tuple[str, ...] = (), **fields: Any) -> dict[str, Any]:
    """An object with these fields and no others."""
    return {"type": "object", "properties": fields, "required": list(required), "additionalProperties": False}


def several(items: dict[str, Any], most: int = 128) -> dict[str, Any]:
    return {"type": "array", "items": items, "minItems": 1, "maxItems": most}


TEXT: dict[str, Any] = {"type": "string", "minLength": 1}
COUNT: dict[str, Any] = {"type": "integer", "minimum": 0, "maximum": 2**31 - 1}
LABEL = {"type": "string", "pattern": r"^[a-z]([-a-z0-9]*[a-z0-9])?$", "maxLength": 63}
QUANTITY = {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?(m|k|Ki|M|Mi|G|Gi|T|Ti)?$"}
QUANTITIES = {"type": "object", "additionalProperties": QUANTITY}
LABELS = {"type": "object", "additionalProperties": {"type": "string", "maxLength": 63}}
METADATA = closed(("name",), name=LABEL, namespace=LABEL, labels=LABELS)
RESOURCES = closed(limits=QUANTITIES, requests=QUANTITIES)
VARIABLES = several(closed(("name",), name=TEXT, value={"type": "string"}))
VOLUME = {
    **closed(
        ("name",),
        name=LABEL,
        persistentVolumeClaim=closed(("claimName",), claimName=TEXT, readOnly={"type": "boolean"}),
        configMap=closed(("name",), name=LABEL),
        emptyDir=closed(medium={"enum": ["", "Memory"]}, sizeLimit=QUANTITY),
    ),
    "minProperties": 2,
    "maxProperties": 2,
}
CONTAINER = closed(
    ("name", "image"),
    name=LABEL,
    image=TEXT,
    workingDir=TEXT,
    command=several({"type": "string", "maxLength": 65536}),
    args=several({"type": "string", "maxLength": 65536}),
    env=VARIABLES,
    volumeMounts=several(closed(("name", "mountPath"), name=LABEL, mountPath={"type": "string", "pattern": "^/"})),
    resources=RESOURCES,
)
POD = closed(
    ("containers",),
    restartPolicy={"enum": ["Never", "OnFailure"]},
    terminationGracePeriodSeconds=COUNT,
    containers=several(CONTAINER),
    volumes=several(VOLUME),
)
EXIT_CODES = closed(
    ("operator", "values"),
    containerName=LABEL,
    operator={"enum": ["In", "NotIn"]},
    values={**several({"type": "integer", "minimum": 1, "maximum": 255}, 255), "uniqueItems": True},
)
CONDITIONS = several(closed(("type",), type=TEXT, status={"enum": ["True", "False", "Unknown"]}), 20)
RULE = {
    **closed(
        ("action",),
        action={"enum": ["FailJob", "Ignore", "Count", "FailIndex"]},
        onExitCodes=EXIT_CODES,
        onPodConditions=CONDITIONS,
    ),
    "oneOf": [{"required": ["onExitCodes"]}, {"required": ["onPodConditions"]}],
}
WORK = {
    **closed(
        ("template",),
        backoffLimit=COUNT,
        podFailurePolicy=closed(("rules",), rules=several(RULE, 20)),
        template=closed(("spec",), metadata=closed(labels=LABELS), spec=POD),
    ),
    # A policy for failed pods is only for pods that are not restarted in place.
    "if": {"required": ["podFailurePolicy"]},
    "then": {
        "properties": {"template": {"properties": {"spec": {"properties": {"restartPolicy": {"const": "Never"}}}}}}
    },
}
REPLICATED = closed(
    ("name", "template"),
    name=LABEL,
    replicas=COUNT,
    template=closed(("spec",), metadata=closed(labels=LABELS), spec=WORK),
)
RUNTIME = closed(
    ("template",),
    mlPolicy=closed(numNodes={**COUNT, "minimum": 1}, torch=closed(numProcPerNode={"type": ["integer", "string"]})),
    template=closed(("spec",), spec=closed(("replicatedJobs",), replicatedJobs=several(REPLICATED))),
)
TRAINER = closed(
    image={"type": "string", "maxLength": 500},
    command=several(TEXT),
    args=several(TEXT),
    env=VARIABLES,
    numNodes={**COUNT, "minimum": 1},
    resourcesPerNode=RESOURCES,
    numProcPerNode={**COUNT, "minimum": 1},
)
REFERENCE = closed(
    ("name",), name=TEXT, apiGroup={"type": "string"}, kind={"enum": ["TrainingRuntime", "ClusterTrainingRuntime"]}
)


def kind(name: str, version: str, **fields: Any) -> dict[str, Any]:
    given = {"apiVersion": {"const": version}, "kind": {"const": name}, "metadata": METADATA, **fields}
    return closed(tuple(given), **given)


TRAINER_VERSION = "trainer.kubeflow.org/v1alpha1"
SCHEMAS = {
    "ConfigMap": kind("ConfigMap", "v1", data={"type": "object", "additionalProperties": {"type": "string"}}),
    "TrainingRuntime": kind("TrainingRuntime", TRAINER_VERSION, spec=RUNTIME),
    "TrainJob": kind("TrainJob", TRAINER_VERSION, spec=closed(("runtimeRef",), runtimeRef=REFERENCE, trainer=TRAINER)),
}
