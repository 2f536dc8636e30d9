"""A person's own pairs of texts: two columns of texts, and how alike people find them where a third says it."""

from dataclasses import dataclass

import torch

from layerwise.core.config import Fraction
from layerwise.core.errors import DataError
from layerwise.data.examples import Splits
from layerwise.data.rows import no_column
from layerwise.data.source import DataConfig
from layerwise.data.table import Table
from layerwise.data.table_parts import Kinds, read_parts
from layerwise.data.text_table import SUFFIXES, TextFile, read_rows
from layerwise.data.texts import TextExamples

_KINDS = Kinds(
    suffixes=SUFFIXES,
    names="CSV, JSON Lines or Parquet",
    wanted="a CSV, JSON Lines or Parquet file with pairs of texts",
    needed="one file, or one named train,",
)


@dataclass(frozen=True, kw_only=True)
class SentencePairsConfig(DataConfig):
    """A file with two texts in every row: CSV with a header, JSON Lines (`.jsonl`) or Parquet; or a folder or zip with
    such files named train, val, test.

    Args:
        text, pair: the columns with the texts.
        score: the column with numbers that say how alike they are; None: the two of a row belong together.
        test: test data: a share of train (0: none), or a path to a file of the same columns; None takes the file named
            test, else a tenth of train.
        columns: names of the columns, for CSV files without a header line.
        delimiter: between cells of CSV files; None finds out.
        encoding: of the text in CSV and JSON Lines.
    """

    text: str = "text"
    pair: str = "pair"
    score: str | None = None
    test: Fraction | str | None = None
    columns: tuple[str, ...] = ()
    delimiter: str | None = None
    encoding: str = "utf-8-sig"


class SentencePairs:
    """`text`, `pair`, and `scores` float64 [N] where there are scores."""

    def __init__(self, config: SentencePairsConfig) -> None:
        self.config = config
        self.file = TextFile(
            text=config.text,
            label=config.score or "",
            pair=config.pair,
            columns=config.columns,
            delimiter=config.delimiter,
            encoding=config.encoding,
        )

    def splits(self) -> Splits:
        """Read the files.

        Raises:
            DataError: no such file or column, damaged lines, an empty text, a score that is no number.
        """
        asked = {"val": self.config.val, "test": self.config.test}
        warnings: list[str] = []
        made = {
            part: self._examples(table, warnings)
            for part, table in read_parts(self.config.root, asked, _KINDS, self._table).items()
        }
        return Splits(
            train=made["train"],
            val=made.get("val"),
            test=made.get("test"),
            extras={"text_file": self.file.to_json()},
            warnings=warnings,
        )

    def _table(self, data: bytes, name: str) -> Table:
        table = read_rows(data, name, self.file)
        named = {"text": self.config.text, "pair": self.config.pair, "score": self.config.score}
        for option, column in named.items():
            if column is not None and column not in table.columns:
                raise no_column(name, table.columns, column, option)
        return table

    def _examples(self, table: Table, warnings: list[str]) -> TextExamples:
        first, second = table.columns[self.config.text], table.columns[self.config.pair]
        kept = [i for i in range(len(table)) if first[i] and second[i]]
        if len(kept) < len(table):
            warnings.append(
                f"{table.name}: {len(table) - len(kept)} of {len(table)} rows lack a text and are left out."
            )
        if not kept:
            raise DataError(f"{table.name}: no row has two texts.")
        columns = {}
        if self.config.score is not None:
            cells = table.columns[self.config.score]
            try:
                columns["scores"] = torch.tensor([float(cells[i]) for i in kept], dtype=torch.float64)
            except ValueError:
                wrong = next(i for i in kept if not _is_number(cells[i]))
                raise DataError(
                    f"{table.name}, line {table.lines[wrong]}: the score {cells[wrong]!r} is no number."
                ) from None
        try:
            return TextExamples([first[i] for i in kept], columns, [second[i] for i in kept])
        except DataError as error:
            raise DataError(f"{table.name}: {error}") from error


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


DATASETS = {"sentence_pairs": SentencePairsConfig()}
