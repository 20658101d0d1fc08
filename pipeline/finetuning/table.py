"""Settings of the commands whose examples and labels stand in a table."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pipeline.finetuning.settings import DATA
from pipeline.foundation.errors import SpeechkdError
from pipeline.foundation.settings import Settings, setting

if TYPE_CHECKING:
    from pipeline.tasks.labelled import Labelled
    from pipeline.tasks.labelled_rows import LabelColumns, Source
    from pipeline.tasks.task import Question


@dataclass(frozen=True, kw_only=True)
class TableData(Settings):
    """A table of examples with one label each, and how it is divided."""

    data: list[str] = setting(
        help=(
            "The table: CSV, TSV, JSON lines, Parquet, or JSON (a list of objects, or an object "
            "of objects, whose keys become the column id). Several files make one table; "
            "train=FILE, valid=FILE and test=FILE say which split each is."
        ),
        argument=True,
    )
    text_column: str = setting("text", help="Column of the texts.", panel=DATA)
    label_column: str = setting("label", help="Column of the labels.", panel=DATA)
    id_column: str = setting("", help="Column that names each row.", panel=DATA)
    group_column: str = setting(
        "",
        help="Column of what must stay together in one split, such as the speaker.",
        panel=DATA,
    )
    group_per_file: bool = setting(
        False,
        help="Each file has groups of its own: what is called alike in --group-column in two files "
        "(dialogue 0 of train and of test) are two groups.",
        panel=DATA,
    )
    split_column: str = setting(
        "",
        help="Column of the split (train, valid, test); without it a split of 70/10/20 % is made.",
        panel=DATA,
    )
    split_seed: int = setting(
        0, help="Seed of a made split, and of dealing to --folds.", minimum=0, panel=DATA
    )
    fold_column: str = setting(
        "",
        help="Column whose values are left out in turn, such as the session or the speaker: one "
        "fold per value, in which that value is the test. It takes the place of a split.",
        panel=DATA,
    )
    folds: int = setting(
        0,
        help="Deal the values of --fold-column (without it, of --group-column, or the rows) to "
        "this many folds; 0 for one fold per value.",
        unit="folds",
        minimum=0,
        panel=DATA,
    )
    fold_validation: Literal["none", "next"] = setting(
        "none",
        help="What of a fold validates: nothing, or the part that the next fold tests. It is never "
        "the test; --selection best-valid needs next.",
        panel=DATA,
    )
    drop_duplicates: bool = setting(
        False,
        help="Leave out all but one of the texts that differ in case and punctuation at most; one "
        "in the test stays rather than one in training.",
        panel=DATA,
    )
    kind: Literal["classes", "value", "words", "speaker"] = setting(
        "classes", help="Whether the labels are classes or numbers.", panel=DATA
    )

    def check(self) -> None:
        """Refuse an empty table, and validation by what does not validate."""
        super().check()
        if not self.data:
            raise SpeechkdError("DATA is empty; name at least one file.")
        if self.fold_validation != "none" and not (self.fold_column or self.folds):
            raise SpeechkdError("--fold-validation needs --fold-column or --folds.")

    @property
    def has_folds(self) -> bool:
        """Whether each question is asked once per fold."""
        return bool(self.fold_column or self.folds)

    def read(
        self, reserved: Collection[str] = (), only: Collection[str] | None = None
    ) -> "Labelled":
        """The table's examples and labels in their splits or folds.

        Args:
            reserved: names that the task must not have.
            only: ids of the rows that can be used, such as those of clips in a cache; None for all.

        Raises:
            SpeechkdError: a column or a value is missing or wrong.
        """
        from pipeline.tasks.labelled import Division, read_labelled

        if self.kind == "speaker":
            raise ValueError("speakers are read by pipeline.tasks.speakers")
        division = Division(
            seed=self.split_seed,
            folds=self.folds,
            validation=self.fold_validation,
            drop_duplicates=self.drop_duplicates,
            groups_per_file=self.group_per_file,
        )
        sources = self.sources()
        return read_labelled(sources, self.columns(), self.kind, division, reserved, only)

    def check_selection(self, selection: str, questions: "Sequence[Question]") -> None:
        """Refuse epochs chosen by validation where a question has nothing to validate on.

        Raises:
            SpeechkdError: a question has no row in the split valid.
        """
        without = [question.title for question in questions if not question.counts["valid"]]
        if selection != "best-valid" or not without:
            return
        cure = "give some rows the split valid"
        if self.has_folds and self.fold_validation == "none":
            cure = "add --fold-validation next"
        raise SpeechkdError(
            f"{self.title}: --selection best-valid chooses an epoch by the split valid, and "
            f"{without[0]} has no row there that can be used. Either {cure}, or write --selection "
            "last."
        )

    def sources(self) -> "list[Source]":
        """The files of the table."""
        from pipeline.tasks.labelled_rows import Source

        return [Source.of(written) for written in self.data]

    def columns(self) -> "LabelColumns":
        """Which column is what."""
        from pipeline.tasks.labelled_rows import LabelColumns

        return LabelColumns(
            text=self.text_column,
            label=self.label_column,
            id=self.id_column,
            group=self.group_column,
            split=self.split_column,
            fold=self.fold_column,
        )

    def split(self) -> dict[str, Any]:
        """How the rows are divided, as results record it."""
        if self.has_folds:
            return {
                "origin": "folds",
                "seed": self.split_seed,
                "of": self.fold_column or self.group_column or "row",
                "validation": self.fold_validation,
            }
        if self.split_column or any(source.split for source in self.sources()):
            return {"origin": "given", "seed": None}
        return {"origin": "made", "seed": self.split_seed}

    @property
    def title(self) -> str:
        """The table's name in results: those of its files."""
        return " + ".join(Path(written).name for written in self.data)
