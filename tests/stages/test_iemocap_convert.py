"""`speechkd iemocap convert` on a small copy of the corpus, and the shards made of its table."""

from stages.iemocap_convert import IemocapSettings, run
from stages.shard import ShardSettings
from stages.shard import run as shard
from tests.helpers.iemocap import make_iemocap


def test_the_table_says_what_it_holds_and_shards_can_be_made_of_it(tmp_path, capsys):
    release = make_iemocap(tmp_path, sessions=2, seconds=0.2)
    table = release / "iemocap.csv"
    run(IemocapSettings(root=tmp_path, out=table))
    told = capsys.readouterr().out
    assert "36 turns; excited turns: merge" in told
    assert (
        "session 2: 18, 9 of them improvised; angry 4, happy or excited 8, neutral 4, sad 2" in told
    )
    assert "turns labelled fru, left out: 8" in told
    shard(ShardSettings(source=str(table), out=tmp_path / "shards"))
    manifest = (tmp_path / "shards" / "manifest.jsonl").read_text()
    assert '"samples": 36' in manifest
