"""A history as a Parquet file: a row a run, figures in columns for whoever analyses them, and the whole entry as JSON."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from speedgate import extras
from speedgate.files import replacing
from speedgate.store import schema
from speedgate.store.entries import Entry, from_document
from speedgate.strict_json import parsed

_ROWS = 5000  # in a row group: what is in memory at a time


def write(path: Path, entries: Iterable[Entry]) -> int:
    """Write entries as one file, under a temporary name until it is whole; how many there were. A `ValueError` for none."""
    arrow = _arrow()
    columns, count, left = _columns(arrow), 0, iter(entries)
    with replacing(path) as temporary:
        with arrow.parquet.ParquetWriter(temporary, columns, compression="zstd") as writer:
            while rows := [_row(entry) for entry in itertools.islice(left, _ROWS)]:
                writer.write_table(arrow.Table.from_pylist(rows, schema=columns))
                count += len(rows)
        if not count:
            raise ValueError(f"{path}: the history holds no such run; nothing was written")
    return count


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rows:
    """The entries of a file, each time that they are asked for; a `ValueError` names the file and the row."""

    path: Path

    def __iter__(self) -> Iterator[Entry]:
        arrow = _arrow()
        try:
            with arrow.parquet.ParquetFile(self.path) as file:
                for index, row in enumerate(_batches(file)):
                    yield self._entry(row, where=f"{self.path}: row {index}")
        except (arrow.ArrowException, OSError, KeyError) as error:
            said = " ".join(str(error).split())
            raise ValueError(f"{self.path}: not a whole Parquet file of a history ({said})") from error

    def _entry(self, row: Any, *, where: str) -> Entry:
        if not isinstance(row["document"], str) or not isinstance(row["run_id"], str):
            raise ValueError(f"{where}: document and run_id: expected texts")
        entry = from_document(parsed(row["document"].encode(), path=Path(where)), where=where)
        if entry.run_id != row["run_id"]:
            raise ValueError(f"{where}: run_id is not the digest of its document; it was edited")
        return entry


def _batches(file: Any) -> Iterator[dict[str, Any]]:
    for batch in file.iter_batches(batch_size=_ROWS, columns=["run_id", "document"]):
        yield from batch.to_pylist()


def _row(entry: Entry) -> dict[str, Any]:
    run = entry.case.run
    return {
        **entry.columns(),
        "seconds": [list(process.seconds) for process in run.processes] if run else [],
        "versions": json.dumps(entry.versions, sort_keys=True),
        "document": schema.canonical(entry.document()),
    }


def _columns(arrow: Any) -> Any:
    texts = ("run_id", "gpu_key", "case_key", "commit_id", "measured_at", "source", "cache", "fingerprint", "outcome")
    return arrow.schema(
        [
            *((name, arrow.string()) for name in texts),
            ("dirty", arrow.bool_()),
            ("process_medians_s", arrow.list_(arrow.float64())),
            ("seconds", arrow.list_(arrow.list_(arrow.float64()))),
            ("peak_bytes", arrow.int64()),
            ("ssim", arrow.float64()),
            ("first_image_s", arrow.float64()),
            ("versions", arrow.string()),
            ("document", arrow.string()),
        ]
    )


def _arrow() -> Any:
    extras.need("history", what="Parquet", packages=("pyarrow",))
    import pyarrow
    import pyarrow.parquet

    return pyarrow
