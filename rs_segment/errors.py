"""What can go wrong: one root, one class a situation, each also the builtin that it is.

A message says what, where, which values and what now. The edges (``rs_segment_cli``, the worker) turn
``exit_code`` into the status of the process; nothing in the engine prints.
"""

from __future__ import annotations


class RsSegmentError(Exception):
    """Root of all errors that rs-segment raises on purpose."""

    exit_code = 1


class OptionError(RsSegmentError, ValueError):
    """An option has a value that cannot work, or two options contradict each other."""

    exit_code = 2


class SceneError(RsSegmentError, OSError):
    """A scene cannot be opened or read."""

    exit_code = 4


class BandError(RsSegmentError, ValueError):
    """A scene's bands are not those that the model reads."""

    exit_code = 4


class PixelTypeError(RsSegmentError, TypeError):
    """A scene's pixel values are not of the kind that the model was made for."""

    exit_code = 4


class GridError(RsSegmentError, ValueError):
    """A scene's grid cannot be used: no affine transform, or no ground resolution where one is needed."""

    exit_code = 4


class AreaError(RsSegmentError, ValueError):
    """An area of interest cannot be read, or does not meet the scene."""

    exit_code = 4


class ModelError(RsSegmentError, ValueError):
    """A model folder is not valid, or promises something that its weights do not hold."""

    exit_code = 4


class ModelNotFoundError(RsSegmentError, LookupError):
    """No model has this name, and no folder lies at this path."""

    exit_code = 4


class DatasetError(RsSegmentError, ValueError):
    """A training set is not whole: a mask without its image, sizes that differ, labels that no class has."""

    exit_code = 4


class TrainingError(RsSegmentError, ArithmeticError):
    """A training cannot go on: its loss is no number, or it has nothing to learn from."""

    exit_code = 1


class OutputExistsError(RsSegmentError, FileExistsError):
    """A result is already there, or another process is making it."""

    exit_code = 4


class OutputError(RsSegmentError, OSError):
    """A result cannot be written, or what was written does not read back the same."""

    exit_code = 1


class DiskFullError(OutputError):
    """The disk that takes the results is full."""

    exit_code = 5


class DeviceError(RsSegmentError, RuntimeError):
    """The device is not there, or has too little memory for a single tile."""

    exit_code = 5


class CancelledError(RsSegmentError):
    """The run was cancelled from outside; a ``Track`` raises it."""

    exit_code = 130
