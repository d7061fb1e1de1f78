"""What a process says about itself at /metrics."""

import httpx
from prometheus_client.parser import text_string_to_metric_families

from infra.local.supervisor import Process


async def metric(process: Process, name: str, **labels: str) -> float:
    """The sum of a metric's samples of that name that have these labels; 0 where there is none yet."""
    async with httpx.AsyncClient(trust_env=False, timeout=10) as http:
        text = (await http.get(f"{process.url}/metrics")).raise_for_status().text
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )
