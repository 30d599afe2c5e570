"""How fast a large csv file is read, beside pandas, and in how much memory.

    python scripts/table_speed.py [--rows 1000000] [--read]

Makes a file of 20 columns (16 of numbers with six digits, two of integers, two of words) in a
temporary folder, and reads it by ``pandas.read_csv`` and by ``data=csv`` up to the columns'
numbers, each in a process of its own; with ``--read`` also up to the feature vectors of all splits.
Prints seconds, those of the processors, and the largest resident memory beyond that of the imports,
beside pandas' and the file's size. Each is the best of ``--repeat``; a busy machine tells little.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv

CHUNK = 100_000

CHILD = """
import json, resource, sys, time
path, way = sys.argv[1:]
import pandas, pyarrow.csv, pyarrow.compute, torch
from functools import partial
from dltrain.data.tables.csv_file import CsvTable
from dltrain.data.tables.files import read_table
from dltrain.data.tables.parse import parse
from dltrain.data.tables.values import CellFormat
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
before, start, busy = peak(), time.perf_counter(), time.process_time()
if way == "pandas":
    found = pandas.read_csv(path)
elif way == "parse":
    table = read_table(__import__("pathlib").Path(path), format=CellFormat())
    found = {}
    for name in list(table.columns):
        cells = table.columns.pop(name)
        found[name] = parse(cells, CellFormat(), partial(table.place, column=name), False)
else:
    found = CsvTable(path, target="c0", max_levels=1000)
    found.read(0)
seconds, cpu = time.perf_counter() - start, time.process_time() - busy
print(json.dumps({"seconds": seconds, "cpu": cpu, "bytes": peak() - before}))
"""


def make(path: Path, rows: int) -> None:
    generator = np.random.default_rng(0)
    words = np.array(["red", "green", "blue", "violet"])
    writer = None
    for start in range(0, rows, CHUNK):
        count = min(CHUNK, rows - start)
        columns = [generator.normal(size=count).round(6) for _ in range(16)]
        columns += [generator.integers(0, 10_000, count) for _ in range(2)]
        columns += [words[generator.integers(0, 4, count)] for _ in range(2)]
        table = pa.table({f"c{i}": column for i, column in enumerate(columns)})
        if writer is None:
            options = pa.csv.WriteOptions(quoting_style="needed")
            writer = pa.csv.CSVWriter(path, table.schema, write_options=options)
        writer.write_table(table)
    assert writer is not None
    writer.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--read", action="store_true", help="also up to the feature vectors")
    parser.add_argument("--repeat", type=int, default=2)
    asked = parser.parse_args()
    ways = ["pandas", "parse", *(["read"] if asked.read else [])]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "table.csv"
        make(path, asked.rows)
        size = path.stat().st_size
        print(f"{asked.rows:,} rows, {size / 1e6:,.0f} MB")
        best: dict[str, dict[str, float]] = {}
        for way in ways * asked.repeat:
            command = [sys.executable, "-c", CHILD, str(path), way]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            found = json.loads(done.stdout)
            kept = best.setdefault(way, found)
            best[way] = {key: min(kept[key], found[key]) for key in found}
        for way, found in best.items():
            speed = best["pandas"]["seconds"] / found["seconds"]
            print(
                f"{way:7} {found['seconds']:7.2f} s, {speed:5.2f} of pandas' speed; "
                f"{found['cpu']:.2f} s of processors; "
                f"{found['bytes'] / 1e6:7,.0f} MB, {found['bytes'] / size:.2f} of the file"
            )


if __name__ == "__main__":
    main()
