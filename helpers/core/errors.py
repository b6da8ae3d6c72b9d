"""What can go wrong, as errors that name the file, the fault and the remedy."""


class UNetError(Exception):
    """Base of every error that this package raises on purpose: message = fault, then remedy."""

    def _render_traceback_(self) -> list[str]:
        """What a notebook shows of it: the message. Its traceback would only lead into helpers/."""
        return [f"{type(self).__name__}: {self}"]


class DataError(UNetError):
    """A release, a split, a label file or an array is not what it should be."""


class CheckpointError(UNetError):
    """A checkpoint or an export cannot be read, or belongs to other data or another network."""


class TrainingError(UNetError):
    """Training cannot go on as asked."""
