"""The resources of KEDA and of RabbitMQ's cluster operator, as far as we use them: strict, so that a typo is found.

Written by hand from their documentation (KEDA 2.20: ScaledObject, TriggerAuthentication and the scalers `rabbitmq`,
`prometheus` and `cpu`; cluster operator 2: RabbitmqCluster), because no package was found that carries what they define
and refuses what it does not know. What is Kubernetes' own within them refers to its schemas.
"""

from typing import Any

Schema = dict[str, Any]

#: Where Kubernetes' own schemas name themselves.
KUBERNETES = "https://kubernetes.io/api/_definitions.json"


def core(name: str) -> Schema:
    """A type of Kubernetes itself."""
    return {"$ref": f"{KUBERNETES}#/$defs/io.k8s.api.{name}"}


def fields(properties: dict[str, Schema], *required: str) -> Schema:
    """An object with these fields and no others."""
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


def items(of: Schema) -> Schema:
    """A list of one thing or more."""
    return {"type": "array", "items": of, "minItems": 1}


def one_of(*values: str) -> Schema:
    """One of these strings."""
    return {"enum": list(values)}


def part(name: str, *known: str) -> Schema:
    """Some fields of a type of Kubernetes, where what it requires is somebody else's to give."""
    definition = {"$ref": f"{KUBERNETES}#/$defs/io.k8s.api.{name}"}
    return fields({field: {"$ref": f"{definition['$ref']}/properties/{field}"} for field in known})


TEXT: Schema = {"type": "string", "minLength": 1}
#: KEDA's metadata are strings all of them, numbers and booleans too.
NUMBER: Schema = {"type": "string", "pattern": r"^\d+(\.\d+)?$"}
QUANTITY: Schema = {"type": "string", "pattern": r"^\d+(\.\d+)?(m|[KMGT]i?)?$"}
BOOLEAN: Schema = one_of("true", "false")
COUNT: Schema = {"type": "integer", "minimum": 0}
METADATA: Schema = fields(
    {
        "name": TEXT,
        "namespace": TEXT,
        "labels": {"type": "object", "additionalProperties": TEXT},
        "annotations": {"type": "object", "additionalProperties": TEXT},
    },
    "name",
    "namespace",
)


def resource(version: str, kind: str, spec: Schema) -> Schema:
    """A whole resource."""
    given = {"apiVersion": {"const": version}, "kind": {"const": kind}, "metadata": METADATA, "spec": spec}
    return fields(given, *given)


def trigger(kind: str, metadata: Schema, **more: Schema) -> Schema:
    """One trigger of a ScaledObject."""
    usual = {"type": {"const": kind}, "name": TEXT, "metricType": one_of("AverageValue", "Value"), "metadata": metadata}
    return fields(usual | more, "type", "metadata")


RABBITMQ_TRIGGER = trigger(
    "rabbitmq",
    fields(
        {
            "protocol": one_of("auto", "amqp", "http"),
            "queueName": TEXT,
            "vhostName": TEXT,
            "mode": one_of("QueueLength", "MessageRate", "DeliverGetRate", "ExpectedQueueConsumptionTime"),
            "value": NUMBER,
            "activationValue": NUMBER,
            "excludeUnacknowledged": BOOLEAN,
        },
        "queueName",
        "mode",
        "value",
    ),
    authenticationRef=fields({"name": TEXT}, "name"),
)
PROMETHEUS_TRIGGER = trigger(
    "prometheus",
    fields(
        {
            "serverAddress": {"type": "string", "pattern": r"^https?://[\w.-]+(:\d+)?(/.*)?$"},
            "query": TEXT,
            "threshold": NUMBER,
            "activationThreshold": NUMBER,
            "ignoreNullValues": BOOLEAN,
        },
        "serverAddress",
        "query",
        "threshold",
    ),
)
CPU_TRIGGER = trigger(
    "cpu", fields({"value": QUANTITY, "containerName": TEXT}, "value"), metricType=one_of("Utilization", "AverageValue")
)

SCALED_OBJECT = resource(
    "keda.sh/v1alpha1",
    "ScaledObject",
    fields(
        {
            "scaleTargetRef": fields({"name": TEXT, "kind": TEXT, "apiVersion": TEXT}, "name"),
            "pollingInterval": COUNT,
            "cooldownPeriod": COUNT,
            "minReplicaCount": COUNT,
            "maxReplicaCount": COUNT,
            "advanced": fields(
                {
                    "horizontalPodAutoscalerConfig": fields(
                        {"name": TEXT, "behavior": core("autoscaling.v2.HorizontalPodAutoscalerBehavior")}
                    )
                }
            ),
            "triggers": items({"oneOf": [RABBITMQ_TRIGGER, PROMETHEUS_TRIGGER, CPU_TRIGGER]}),
        },
        "scaleTargetRef",
        "triggers",
    ),
)
TRIGGER_AUTHENTICATION = resource(
    "keda.sh/v1alpha1",
    "TriggerAuthentication",
    fields(
        {"secretTargetRef": items(fields({"parameter": TEXT, "name": TEXT, "key": TEXT}, "parameter", "name", "key"))}
    ),
)

RABBITMQ_CLUSTER = resource(
    "rabbitmq.com/v1beta1",
    "RabbitmqCluster",
    fields(
        {
            "replicas": COUNT,
            "image": TEXT,
            "persistence": fields({"storage": QUANTITY, "storageClassName": TEXT}),
            "resources": core("core.v1.ResourceRequirements"),
            "affinity": core("core.v1.Affinity"),
            "tolerations": items(core("core.v1.Toleration")),
            "terminationGracePeriodSeconds": COUNT,
            "rabbitmq": fields(
                {"additionalConfig": TEXT, "additionalPlugins": items(TEXT), "advancedConfig": TEXT, "envConfig": TEXT}
            ),
            "override": fields(
                {
                    "statefulSet": fields(
                        {
                            "spec": fields(
                                {
                                    "template": fields(
                                        {
                                            "spec": part(
                                                "core.v1.PodSpec",
                                                "containers",
                                                "volumes",
                                                "topologySpreadConstraints",
                                                "priorityClassName",
                                            )
                                        }
                                    )
                                }
                            )
                        }
                    )
                }
            ),
        }
    ),
)

#: By kind.
SCHEMAS = {
    "ScaledObject": SCALED_OBJECT,
    "TriggerAuthentication": TRIGGER_AUTHENTICATION,
    "RabbitmqCluster": RABBITMQ_CLUSTER,
}
