"""What each column of a table is: numbers, truth values, dates, categories, classes."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from dltrain.config.quoting import override
from dltrain.data.tables.dates import date_features, date_format, parse_dates
from dltrain.data.tables.features import Encoding
from dltrain.data.tables.parse import Numbers, Texts, parse, parse_affixed
from dltrain.data.tables.raw import RawTable
from dltrain.data.tables.values import (
    CellFormat,
    are_booleans,
    clean,
    common_affix,
    looks_numeric,
    merged,
    sorted_levels,
)

logger = logging.getLogger(__name__)

FEW = 20
"""So many classes are never too many, and so few different values say nothing of a column."""
SHOWN = 3
EMBEDDED = "category (embedded)"
READINGS = {
    "a decimal point: set data.decimal=.": CellFormat(),
    "a decimal comma: set data.decimal=,": CellFormat(","),
    "commas between thousands: set data.thousands=,": CellFormat(".", ","),
    "decimal commas, and points between thousands: set data.decimal=, data.thousands=.": CellFormat(
        ",", "."
    ),
    "apostrophes between thousands: set data.thousands=apostrophe": CellFormat(".", "'"),
    "blanks between thousands: set data.thousands=blank": CellFormat(".", " "),
    "decimal commas, and blanks between thousands: set data.decimal=, data.thousands=blank": (
        CellFormat(",", " ")
    ),
}
"""Other ways to write numbers, and how to say so."""


class Deciding:
    """Decides, and remembers: ``types`` says of each column, in words, what it is taken for.

    The arguments are those of :class:`~dltrain.data.tables.columns.ColumnsTable`.
    """

    def __init__(
        self,
        target: str,
        kind: Literal["classification", "regression"] | None,
        categorical: set[str],
        max_levels: int,
        format: CellFormat,
        date_format: str | None,
        merge_spellings: bool,
        case: Literal["refuse", "merge", "keep"],
        embed: set[str],
    ) -> None:
        self.format, self.class_names = format, ()
        self.types: dict[str, str] = {}
        self._target, self._kind, self._categorical = target, kind, categorical
        self._max_levels, self._date_format = max_levels, date_format
        self._merges, self._case, self._embed = merge_spellings, case, embed
        self._booleans: list[str] = []
        self._dates: dict[str, str] = {}
        self._affixes: dict[str, str] = {}

    class_names: Sequence[str]

    def feature(self, table: RawTable, name: str) -> Numbers | Texts:
        """The cells of a feature column, once it is decided what they are."""
        named = name in self._categorical or name in self._embed
        column = self._parsed(table, name, named)
        if isinstance(column, Numbers) and self._are_digits_of_dates(column):
            column = self._parsed(table, name, True)
        if isinstance(column, Numbers):
            self.types[name] = "number"
        elif named:
            self.types[name] = EMBEDDED if name in self._embed else "category"
            column = self._as_levels(table, name, column)
        else:
            column = self._feature_of_texts(table, name, column)
        return column

    def dividing_column(self, table: RawTable, name: str, ordered: bool) -> Numbers | Texts:
        """A column that splits the rows: numbers or days where ``ordered``, else texts.

        Raises ``ValueError`` for what cannot be ordered, and for a missing cell.
        """
        column = self._parsed(table, name, not ordered)
        if column.missing.any():
            place = table.place(int(column.missing.argmax()), name)
            raise ValueError(f"{place}: there is no value, and the rows are split by it")
        if not ordered or isinstance(column, Numbers):
            return column
        levels = [clean(level) for level in column.levels]
        format = self._format_of_dates(table, name, levels)
        if format is None:
            raise ValueError(f"order: column {name!r} holds neither numbers nor dates")
        return Numbers(date_features(parse_dates(levels, format), format)[column.codes, 3])

    def target_column(self, table: RawTable) -> Numbers | Texts:
        """The cells of the target, once it is decided whether they are numbers or classes."""
        name = self._target
        column = self._parsed(table, name, self._kind == "classification")
        if isinstance(column, Texts) and self._kind != "classification":
            column = self._target_of_texts(table, column)
        if isinstance(column, Numbers):
            if self._kind is None:
                logger.info(
                    "the target %r holds numbers: regression "
                    "(data.kind=classification makes each value a class).",
                    name,
                )
            self.types.setdefault(name, "number")
            return column
        if self._kind is None:
            logger.info("the target %r holds texts: classification.", name)
        column = self._as_levels(table, name, column)
        self.types[name] = "class"
        self.class_names = tuple(sorted_levels(column.levels, self.format))
        return column

    def check_target(self, table: RawTable, column: Numbers | Texts) -> None:
        """Raise ``ValueError`` where there is nothing to learn, or where classes are none."""
        self._require_two(table, column)
        if isinstance(column, Texts):
            self._require_classes(table, column)

    def second_target(self, table: RawTable) -> Numbers | Texts:
        """The cells of the target in a table of its own."""
        name = self._target
        place = partial(table.place, column=name)
        affix = self._affixes.get(name)
        as_text = bool(self.class_names) or affix is not None
        column = parse(table.columns[name], self.format, place, as_text)
        if isinstance(column, Numbers):
            return column
        if affix is not None:
            return parse_affixed(column, affix, self.format, place)
        if not self.class_names:
            return self._no_number(table, name, column)
        encoding = self.encoding([name], {name: self.class_names})
        return column.renamed(encoding.spelled(name, column))

    def levels(
        self, table: RawTable, columns: Mapping[str, Numbers | Texts], rows: NDArray[Any]
    ) -> dict[str, list[str]]:
        """The levels that each category has in the training ``rows``."""
        found = {}
        for name, column in columns.items():
            if not isinstance(column, Texts) or self.types[name] not in ("category", EMBEDDED):
                continue
            found[name] = sorted_levels(column.counts(rows), self.format)
            if len(found[name]) > self._max_levels and name not in self._embed:
                raise ValueError(
                    f"{table.name}: column {name!r} has {len(found[name]):,} different texts, "
                    f"such as {found[name][0]!r}, and may have {self._max_levels:,} "
                    "(data.max_levels). Leave it out with data.exclude, raise that, or have "
                    f"a vector learned for each: model=tabular {override('data.embed', [name])}"
                )
        return found

    def encoding(self, columns: Sequence[str], levels: Mapping[str, Sequence[str]]) -> Encoding:
        """What was decided of these columns."""
        return Encoding(
            columns,
            self.format,
            {name: own for name, own in levels.items() if name not in self._embed},
            [name for name in self._booleans if name in columns],
            {name: format for name, format in self._dates.items() if name in columns},
            {name: affix for name, affix in self._affixes.items() if name in columns},
            self._merges,
            self._case == "merge",
            {name: own for name, own in levels.items() if name in self._embed},
        )

    def _parsed(self, table: RawTable, name: str, as_text: bool) -> Numbers | Texts:
        place = partial(table.place, column=name)
        return parse(table.columns[name], self.format, place, as_text)

    def _are_digits_of_dates(self, column: Numbers) -> bool:
        """Whether numbers are all dates in the format that was given, such as %Y%m%d."""
        if self._date_format is None or re.fullmatch(r"(?:%\w)+", self._date_format) is None:
            return False
        known = column.values[~column.missing]
        if not len(known) or (known % 1).any():
            return False
        texts = [f"{value:.0f}" for value in np.unique(known)]
        return not np.isnat(parse_dates(texts, self._date_format)).any()

    def _feature_of_texts(self, table: RawTable, name: str, column: Texts) -> Numbers | Texts:
        levels = [clean(level) for level in column.levels]
        if are_booleans(levels):
            self.types[name] = "true or false"
            self._booleans.append(name)
            return column
        format = self._format_of_dates(table, name, levels)
        if format is not None:
            self.types[name] = f"date ({format})"
            self._dates[name] = format
            return column
        affixed = self._affixed(table, name, column, levels)
        if affixed is not None:
            return affixed
        self._refuse_likely_numbers(table, name, column, levels)
        self.types[name] = "category"
        return self._as_levels(table, name, column)

    def _target_of_texts(self, table: RawTable, column: Texts) -> Numbers | Texts:
        name = self._target
        levels = [clean(level) for level in column.levels]
        affixed = self._affixed(table, name, column, levels)
        if affixed is not None:
            return affixed
        if not are_booleans(levels):
            format = self._format_of_dates(table, name, levels)
            if format is not None:
                raise ValueError(
                    f"{table.name}: the target {name!r} holds dates, such as {levels[0]!r}: turn "
                    "them into the number to predict, such as days, or say "
                    "data.kind=classification to make each date a class"
                )
            self._refuse_likely_numbers(table, name, column, levels)
        return self._no_number(table, name, column) if self._kind == "regression" else column

    def _no_number(self, table: RawTable, name: str, column: Texts) -> Texts:
        bad = {level for level in column.levels if self.format.number(clean(level)) is None}
        row = column.first(bad)
        raise ValueError(
            f"{table.place(row, name)}: {column.levels[column.codes[row]]!r} is not a number, "
            "which a regression needs"
        )

    def _format_of_dates(self, table: RawTable, name: str, levels: Sequence[str]) -> str | None:
        if self._date_format is not None and levels:
            # The first tells most columns apart, and costs nothing.
            first = parse_dates(levels[:1], self._date_format)
            if (
                not np.isnat(first).any()
                and not np.isnat(parse_dates(levels, self._date_format)).any()
            ):
                return self._date_format
        try:
            return date_format(levels)
        except ValueError as error:
            raise ValueError(f"{table.name}, column {name!r}: {error}") from error

    def _affixed(
        self, table: RawTable, name: str, column: Texts, levels: Sequence[str]
    ) -> Numbers | None:
        affix = common_affix(levels, self.format)
        if affix is None:
            return None
        self.types[name] = f"number ({affix})"
        self._affixes[name] = affix
        logger.info(
            "%s: %r is read as numbers of %s, such as %s of %r (if they are names, %s).",
            *(table.name, name, affix, f"{self._value(levels[0], affix):g}", levels[0]),
            self._as_names(name),
        )
        return parse_affixed(column, affix, self.format, partial(table.place, column=name))

    def _value(self, text: str, affix: str) -> float:
        found = parse_affixed(Texts(np.zeros(1, np.int32), [text]), affix, self.format, str)
        return float(found.values[0])

    def _refuse_likely_numbers(
        self, table: RawTable, name: str, column: Texts, levels: Sequence[str]
    ) -> None:
        """Raise ValueError for numbers in another country's way, or with texts among them."""
        if levels and all(map(looks_numeric, levels)):
            marked = next(level for level in levels if self.format.number(level) is None)
            raise ValueError(
                f"{table.place(column.first({self._spelling(column, levels, marked)}), name)}: "
                f"{marked!r} looks like a number written with {self._reason(levels, marked)}; or, "
                f"if the column holds names, {self._as_names(name)}."
            )
        numbers = {
            spelling
            for spelling, level in zip(column.levels, levels, strict=True)
            if self.format.number(level) is not None
        }
        if not numbers:
            return
        counts = column.counts()
        total = sum(counts.values())
        row = column.first(set(column.levels) - numbers)
        raise ValueError(
            f"{table.place(row, name)}: {column.levels[column.codes[row]]!r} is not a number, but "
            f"{sum(counts[level] for level in numbers):,} of {total:,} cells of that column are. "
            f"Mend it, {self._as_names(name)}, or, if it means "
            "that there is no value, list it in data.missing_values."
        )

    def _as_names(self, name: str) -> str:
        """What makes names of what would be numbers."""
        if name == self._target:
            return "set data.kind=classification"
        return f"add {name!r} to data.categorical"

    @staticmethod
    def _spelling(column: Texts, levels: Sequence[str], level: str) -> str:
        return column.levels[list(levels).index(level)]

    def _reason(self, levels: Sequence[str], marked: str) -> str:
        """In which way all ``levels`` would be numbers, and how to say so."""
        right = [
            said
            for said, format in READINGS.items()
            if format.uses_its_marks(levels)
            and (
                all(format.number(level) is not None for level in levels)
                or common_affix(levels, format) is not None
            )
        ]
        simple = [one for one in right if " and " not in one]
        if right:
            return " or, if that is what they are, ".join(simple or right)
        return "marks or units that are not the same in all of the column: mend it"

    def _as_levels(self, table: RawTable, name: str, column: Texts) -> Texts:
        """With one spelling of each level, said where there were several."""
        counts = column.counts()
        if not self._merges:
            return column
        booleans = are_booleans(map(clean, counts))
        names = merged(counts, self.format, booleans, self._case == "merge")
        spellings = Counter(names.values())
        changed = {old: new for old, new in names.items() if old != new and spellings[new] > 1}
        if changed:
            shown = [f"{old!r} as {new!r}" for old, new in changed.items()]
            logger.warning(
                "%s: %d cells of %r are other spellings of a level, and count as it: %s%s "
                "(data.merge_spellings=false keeps them apart).",
                *(table.name, sum(counts[old] for old in changed), name),
                *(", ".join(shown[:SHOWN]), ", …" if len(shown) > SHOWN else ""),
            )
        column = column.renamed(names)
        if self._case == "refuse":
            self._refuse_case(table, name, column)
        return column

    def _refuse_case(self, table: RawTable, name: str, column: Texts) -> None:
        seen: dict[str, str] = {}
        for level in column.levels:
            other = seen.setdefault(level.casefold(), level)
            if other != level:
                raise ValueError(
                    f"{table.place(column.first({level}), name)}: {level!r} differs from {other!r} "
                    "only in case: say data.case=merge if they are one level, or data.case=keep"
                )

    def _require_two(self, table: RawTable, column: Numbers | Texts) -> None:
        known = column.values[~column.missing] if isinstance(column, Numbers) else column.levels
        if len(known) and all(value == known[0] for value in known):
            value = f"{known[0]:g}" if isinstance(column, Numbers) else known[0]
            raise ValueError(
                f"{table.name}: the target {self._target!r} has one value, {value!r}: there is "
                "nothing to learn"
            )

    def _require_classes(self, table: RawTable, column: Texts) -> None:
        """Refuse, or doubt, what is likely no class."""
        rows = int((~column.missing).sum())
        example = column.levels[0]
        if len(column.levels) > max(FEW, rows / 2):
            raise ValueError(
                f"{table.name}: the target {self._target!r} has {len(column.levels):,} different "
                f"values in {rows:,} rows, such as {example[:40]!r}: these are no classes"
            )
        values = [self.format.number(level) for level in column.levels]
        fractions = [v for v in values if v is not None and v % 1]
        if fractions:
            logger.warning(
                "%s: the classes of %r are numbers with fractions, such as %g: "
                "data.kind=regression would predict the number.",
                *(table.name, self._target, fractions[0]),
            )
