"""Adult, the census income data: 32,561 people of the United States in 1994, whether one earns over 50,000 dollars a
year.

Six numbers, eight categories, 4,262 missing cells; 7,841 earn more. R. Kohavi, "Scaling up the accuracy of naive-Bayes
classifiers", KDD 1996; UCI Machine Learning Repository, https://archive.ics.uci.edu/dataset/2/adult (CC BY 4.0).
Published errors on the set's own test file, which is not used here: 14.1 % (NBTree), 15.5 % (C4.5).
"""

from dataclasses import dataclass

import torch

from layerwise.data.csv_table import CSV, CSVConfig
from layerwise.data.download import RemoteFile, locate
from layerwise.data.examples import Splits, Subset
from layerwise.data.source import DataConfig

FILE = RemoteFile(
    path="tabular/adult/adult.data",
    url="https://archive.ics.uci.edu/ml/machine-learning-databases/adult/adult.data",
    sha256="5b00264637dbfec36bdeaab5676b0b309ff9eb788d63554ca0a249491c86603d",
    bytes=3_974_305,
)
COLUMNS = (
    "age", "workclass", "fnlwgt", "education", "education-num", "marital-status", "occupation", "relationship", "race",
    "sex", "capital-gain", "capital-loss", "hours-per-week", "native-country", "income",
)  # fmt: skip
TEST_SHARE = 0.2


@dataclass(frozen=True, kw_only=True)
class AdultConfig(DataConfig):
    """Options of every data set; `root` is the folder that holds `adult.data`, or that file."""


class Adult:
    """The data set `adult`: the last fifth of the rows is the test part."""

    def __init__(self, config: AdultConfig) -> None:
        self.config = config

    def splits(self) -> Splits:
        """Read the file."""
        path = locate("adult", (FILE,), self.config.root)[FILE.path]
        table = CSV(CSVConfig(root=str(path), columns=COLUMNS, target="income", decimal=".", delimiter=","))
        splits = table.splits()
        assert splits.train is not None
        kept = len(splits.train) - round(TEST_SHARE * len(splits.train))
        splits.test = Subset(splits.train, torch.arange(kept, len(splits.train)))
        splits.train = Subset(splits.train, torch.arange(kept))
        return splits


DATASETS = {"adult": AdultConfig()}
