"""Which columns of Parquet files hold images and their labels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from dltrain.data.shards.labels import LABELS
from dltrain.data.shards.packed import Packed
from dltrain.data.tables.raw import usable
from dltrain.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa


def packed_of(column: Any) -> Packed:
    """The content of each image of a column, as ``datasets`` keeps it or as it is; else empty."""
    import pyarrow.types as kinds

    return Packed.of(
        column.flatten()[_bytes_at(column)] if kinds.is_struct(column.type) else column
    )


def _bytes_at(column: Any) -> int:
    return int(column.type.get_field_index("bytes"))


def require_images(field: pa.Field, file: Path) -> None:
    """Raise :class:`UserError` for a column that holds no images."""
    if not _is_image(field):
        raise UserError(
            f"data.image: the column {field.name!r} of {file} holds {field.type}; images are bytes "
            "of files (binary, or datasets' struct of bytes and path)."
        )


def require_labels(field: pa.Field, file: Path) -> None:
    """Raise :class:`UserError` for a column whose values are no names or numbers of classes."""
    import pyarrow as pa

    _, left_out = usable([field.name], [pa.chunked_array([], field.type)])
    if left_out:
        raise UserError(
            f"data.label: the column {field.name!r} of {file} cannot be the labels: "
            f"{left_out[field.name]}."
        )


def require_bytes(rows: pa.RecordBatch | None, name: str) -> None:
    """Raise :class:`UserError` for images that are told by their paths alone."""
    import pyarrow.types as kinds

    if rows is None:
        return
    kind = rows.schema.field(0).type
    if not kinds.is_struct(kind) or kind.get_field_index("path") < 0:
        return
    content, paths = (rows.column(0).field(part) for part in ("bytes", "path"))
    if content.null_count == len(rows) > paths.null_count:
        raise UserError(
            f"data.image: {name}: the column {rows.schema.names[0]!r} has paths of images and not "
            "their bytes; data=hub reads such files where they are."
        )


def _is_image(field: pa.Field) -> bool:
    import pyarrow.types as kinds

    kind = field.type
    if kinds.is_struct(kind):
        return kind.get_field_index("bytes") >= 0
    return bool(kinds.is_binary(kind) or kinds.is_large_binary(kind))


def only_image(schema: pa.Schema, file: Path) -> str:
    """The column of images. Raises :class:`UserError` where there is none, or several are."""
    found = [field.name for field in schema if _is_image(field)]
    if len(found) != 1:
        columns = ", ".join(f"{field.name} ({field.type})" for field in schema)
        several = f"several columns of images: {', '.join(found)}. Choose one by data.image=COLUMN."
        none = f"no column of images' bytes; it has {columns}. data=table_shards reads tables."
        raise UserError(f"data.path: {file} has {several if found else none}")
    return found[0]


def label_of(schema: pa.Schema, file: Path, needed: bool) -> str | None:
    """The column of labels, by its name; None where there is none, and none is ``needed``.

    Raises :class:`UserError` where one is needed, and for several.
    """
    found = [name for name in schema.names if name.lower() in LABELS]
    if len(found) == 1:
        return str(found[0])
    if not found and not needed:
        return None
    raise UserError(
        f"data.label: {file} has {'several columns' if found else 'no column'} that may be the "
        f"labels; choose one by data.label=COLUMN. It has {', '.join(schema.names)}."
    )
