"""Fine-tuning with its table at the end, as every `speechkd finetune` does it."""

from pipeline.finetuning.grid import Grid, dry_run, finetune
from pipeline.finetuning.settings import CellSettings
from pipeline.reports.cells import whole_tests
from pipeline.reports.tables import summary


def finetune_and_show(settings: CellSettings, grid: Grid, *, has_folds: bool = False) -> None:
    """Run the cells that are asked for and print what they gave; of a dry run, their names.

    Args:
        settings: of the command.
        grid: what is asked of which encoders.
        has_folds: whether each question is asked once per fold; the folds are then put together.

    Raises:
        SpeechkdError: a cell cannot be run or read.
    """
    if settings.dry_run:
        for name in dry_run(settings, grid):
            print(name)
    else:
        cells = finetune(settings, grid)
        print(summary(whole_tests(settings.out) if has_folds else cells), end="")
