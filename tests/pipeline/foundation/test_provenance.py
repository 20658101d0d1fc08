"""A record of versions, commit and hardware, as plain JSON."""

import json
import subprocess

from pipeline.foundation import provenance


def test_a_record_is_plain_json_and_names_what_decides_results():
    record = provenance.record()
    assert json.loads(json.dumps(record)) == record
    assert {"python", "torch", "transformers", "zarr", "speechkd"} <= set(record["versions"])
    assert record["versions"]["torch"] != "not installed"


def test_the_commit_is_gits_own_or_none():
    found = provenance.git_commit()
    done = subprocess.run(
        ["git", "rev-parse", "HEAD"],
        capture_output=True,
        text=True,
        check=False,
        cwd=provenance.__file__.rpartition("/pipeline/")[0],
    )
    if done.returncode:
        assert found is None
    else:
        assert done.stdout.startswith(found.removesuffix("-dirty"))
