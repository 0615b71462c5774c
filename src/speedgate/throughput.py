"""A published throughput table as one document per GPU family: its source names no SKU and no power limit."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from speedgate import families, publication
from speedgate.families import FamilyFigure

NAME = "0001_published_throughput.json"
_COLUMNS = ("gpu", "batch", "pipeline", "torch_build", "mode", "value", "unit", "outcome", "note")
_REQUIRED = {"software": dict, "builds": dict, "stages": dict, "pipelines": dict, "workloads": dict}
_PER_SECOND, _PER_ITERATION = "it/s", "s/it"


def family_documents(csv_path: Path) -> dict[str, dict[str, Any]]:
    """The document of each GPU family in `csv_path`, every row in one of them."""
    origin = publication.origin(csv_path, required=_REQUIRED)
    found: dict[str, list[FamilyFigure]] = {}
    for where, row in publication.rows(csv_path, _COLUMNS):
        figure = _figure(row, origin=origin, where=where)
        found.setdefault(figure.family, []).append(figure)
    return {
        family: families.document(
            figures,
            family=family,
            source_file=csv_path.name,
            origin=origin,
            imprint=publication.imprint(origin),
        )
        for family, figures in found.items()
    }


def _figure(row: Mapping[str, str], *, origin: Mapping[str, Any], where: str) -> FamilyFigure:
    def listed(table: str, column: str) -> str:
        return publication.listed(origin[table], row[column], where=f"{where}: {column}")

    family = families.of(row["gpu"])
    if family is None:
        raise ValueError(f"{where}: gpu: expected the name of a GPU family, such as A100, found {row['gpu']!r}")
    if not re.fullmatch(r"[1-9][0-9]{0,3}", row["batch"]):
        raise ValueError(f"{where}: batch: expected a whole number above zero, found {row['batch']!r}")
    if row["outcome"] not in families.OUTCOMES:
        raise ValueError(f"{where}: outcome: expected {', '.join(families.OUTCOMES)}, found {row['outcome']!r}")
    pipeline, stage = listed("pipelines", "pipeline"), listed("stages", "mode")
    workload = f"{listed('workloads', 'pipeline')}-b{row['batch']}"
    converted = f"printed as {row['value']} {_PER_ITERATION}" if row["unit"] == _PER_ITERATION else ""
    return FamilyFigure(
        family=family,
        case_key=f"{pipeline}/{stage}/{workload}",
        build=listed("builds", "torch_build"),
        mode=row["mode"],
        outcome=row["outcome"],
        iterations_per_s=_iterations_per_s(row, where=where),
        note="; ".join(said for said in (converted, row["note"]) if said),
    )


def _iterations_per_s(row: Mapping[str, str], *, where: str) -> float | None:
    """The value in one unit. A long iteration is printed in seconds, a short one as iterations, in the same table."""
    if row["outcome"] != families.OK:
        if row["value"] or row["unit"]:
            raise ValueError(f"{where}: value: expected none with outcome {row['outcome']}, found {row['value']!r}")
        return None
    value = publication.number(row["value"], where=f"{where}: value")
    if row["unit"] not in (_PER_SECOND, _PER_ITERATION):
        raise ValueError(f"{where}: unit: expected {_PER_SECOND} or {_PER_ITERATION}, found {row['unit']!r}")
    return value if row["unit"] == _PER_SECOND else 1 / value
