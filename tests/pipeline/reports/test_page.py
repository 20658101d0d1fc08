"""A page aligns figures, folds details and needs no script."""

from pipeline.reports.page import Section, as_html, as_markdown

GRID = (("model", "a", "a (paper)", "told"), ("x", "1.0 ± 0.1 (2 of 5)", "", "y < 0"))


def test_figures_stand_to_the_right_and_words_to_the_left():
    text = as_markdown([Section("t", grid=GRID, chapter="C")])
    assert text.splitlines()[0] == "# C"
    assert "| --- | ---: | ---: | --- |" in text
    page = as_html([Section("t", grid=GRID, chapter="C")])
    assert '<th class="figure paper">a (paper)</th>' in page
    assert '<td class="figure">1.0 ± 0.1<small>(2 of 5)</small></td>' in page
    assert '<td class="">y &lt; 0</td>' in page


def test_what_is_folded_opens_without_a_script():
    page = as_html([Section("t", ("p",), folded=True), Section("u")])
    assert "<details><summary>t</summary>\n<p>p</p>\n</details>\n<h2>u</h2>" in page


def test_a_missing_count_is_split_from_its_mean_only_at_the_end():
    page = as_html([Section("t", grid=(("m",), ("x (CONTROL: shuffled teacher)",)))])
    assert "<small>" not in page
