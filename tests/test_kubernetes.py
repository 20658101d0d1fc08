"""The Kubernetes example: its shape, and that its command is one."""

from pathlib import Path

import pytest
import yaml

from pipeline.cluster.shares import array_task
from stages.extract_teacher import ExtractSettings
from stages.options import parse

EXAMPLE = Path(__file__).parent.parent / "docs" / "kubernetes.yaml"


@pytest.fixture(scope="module")
def job():
    return yaml.safe_load(EXAMPLE.read_text())


def test_it_has_the_shape_that_kubernetes_publishes(job):
    published = pytest.importorskip(
        "kubernetes_validate", reason="needs the schemas: pip install kubernetes-validate"
    )
    version = published.latest_version()
    assert published.validate(job, version, strict=True)
    job = {**job, "spec": {**job["spec"], "completion": 3}}
    with pytest.raises(published.ValidationError):
        published.validate(job, version, strict=True)


def test_each_index_is_a_share(job):
    (container,) = job["spec"]["template"]["spec"]["containers"]
    command, *words = container["args"]
    settings = parse(command, ExtractSettings, words)
    count = job["spec"]["completions"]
    environment = {variable["name"]: variable["value"] for variable in container["env"]}
    places = [
        array_task(settings.array_task, {**environment, "JOB_COMPLETION_INDEX": str(index)})
        for index in range(count)
    ]
    assert [(place.index, place.count) for place in places] == [(i, count) for i in range(count)]
