"""What the rows of a hearing's picture are called."""

from pipeline.reports.hearing.picture import bare


def test_names_go_without_brackets_where_they_differ_without_them():
    titles = ["word counts", "untrained (5.3 M)", "crd (3 pre-training seeds)",
              "crd-shuffled (3 pre-training seeds) (CONTROL: shuffled teacher)"]  # fmt: skip
    assert bare(titles) == ["word counts", "untrained", "crd", "crd-shuffled"]
    assert bare(["x (small)", "x (large)"]) == ["x (small)", "x (large)"]
