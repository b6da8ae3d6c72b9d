"""What a run has recorded: a row an epoch and a row for each change by hand, and the loss every few steps."""

import csv
import io
import math
from pathlib import Path

from ..catalog import Dataset
from ..settings import Settings

FULL_SIZE = "full size"  # the note where the early epochs of half size end


class History:
    """`rows`: one dict an epoch (note "") or change (note says what)."""

    def __init__(self, dataset: Dataset, settings: Settings):
        self.dataset, self.settings = dataset, settings
        self.rows: list[dict] = []
        self.half_size_epochs = int(settings.half_size_fraction * settings.epochs)  # so many, the first

    def note(self, text: str, epoch: float, step: int, lr: float) -> None:
        """A row of its own for a change at this very place."""
        columns = self.rows[-1] if self.rows else {self.dataset.column(self.dataset.primary_metric): 0}
        blank = dict.fromkeys(columns, math.nan)
        self.rows.append(blank | {"epoch": epoch, "step": step, "lr": lr, "loss": math.nan, "note": text})

    def monitored_score(self, row: dict) -> float:
        """The validation score that selects the best epoch; just below 0 where it is undefined.

        An epoch at full size beats every early one, whose score is of images of half the size.
        """
        score = row[self.dataset.column(self.dataset.primary_metric)]
        return (-0.5 if math.isnan(score) else score) - (row["epoch"] <= self.half_size_epochs)

    @property
    def best_epoch(self) -> int:
        """The epoch with the best monitored score; 0 before the first."""
        epochs = [row for row in self.rows if not row["note"]]
        return int(max(epochs, key=self.monitored_score)["epoch"]) if epochs else 0

    def ends_early(self, epoch: int) -> bool:
        """Whether no epoch has been better for as many as settings.patience says."""
        patience = self.settings.patience
        return patience > 0 and epoch - self.best_epoch >= patience and epoch > self.half_size_epochs

    def line(self, row: dict, last_epoch: int, seconds_left: float) -> str:
        """An epoch's row as the line that is printed; it names the weakest of the small classes."""
        dataset = self.dataset
        metric = dataset.primary_metric
        named = "F1" if metric in dataset.rows else metric.replace("_", " ")
        f1 = {dataset.classes[i]: row[f"f1_{dataset.classes[i]}"] for i in dataset.small_classes}
        weakest = min(f1, key=lambda name: -1.0 if math.isnan(f1[name]) else f1[name])
        speed = "" if math.isnan(row["images_per_s"]) else f"  {row['images_per_s']:.0f} images/s"
        left = "" if math.isnan(seconds_left) else "  {}:{:02} left".format(*divmod(round(seconds_left), 60))
        score = row[dataset.column(metric)]
        return (
            f"epoch {row['epoch']:3}/{last_epoch}  loss {row['loss']:.3f}  val loss {row['val_loss']:.3f}  "
            f"val {named} {score:.3f} (weakest {weakest} {f1[weakest]:.2f})  lr {row['lr']:.1e}{speed}{left}"
        )

    def to_csv(self) -> str:
        """All rows, a column for every key that any of them has."""
        text = io.StringIO()
        columns = list(dict.fromkeys(key for row in self.rows for key in row))
        writer = csv.DictWriter(text, columns or ["epoch"], lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        return text.getvalue()


def read_history(path: Path) -> dict[str, list[dict]]:
    """A history.csv, or several in one file told apart by a column `run` -> run name -> rows as Trainer.history."""
    runs: dict[str, list[dict]] = {}
    with open(path, newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            name, note = row.pop("run", ""), row.pop("note", "")
            runs.setdefault(name, []).append({k: float(v or "nan") for k, v in row.items()} | {"note": note})
    return runs
