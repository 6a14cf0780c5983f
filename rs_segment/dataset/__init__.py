"""What is a training set, and is it sound? Images with labels: found, read by window, split, described."""

from .dataset import Dataset, Examined, examine, open_dataset
from .description import describe, refuse_untrainable
from .pair import Pair, Part, Sample
from .picture import sample_picture
from .spec import FILE_NAME, ClassSpec, DatasetSpec, ImageSpec, LabelSpec, PairSpec, SplitSpec, read_spec, to_toml
from .split import SPLITS, Split, make_split, parse_split
from .survey import Moments, PairSurvey, Survey

__all__ = [
    "FILE_NAME",
    "SPLITS",
    "ClassSpec",
    "Dataset",
    "DatasetSpec",
    "Examined",
    "ImageSpec",
    "LabelSpec",
    "Moments",
    "Pair",
    "PairSpec",
    "PairSurvey",
    "Part",
    "Sample",
    "Split",
    "SplitSpec",
    "Survey",
    "describe",
    "examine",
    "make_split",
    "open_dataset",
    "parse_split",
    "read_spec",
    "refuse_untrainable",
    "sample_picture",
    "to_toml",
]
