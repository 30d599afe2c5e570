"""See that a process does not grow: over many steps of every family, and over the jobs of a sweep.

    python scripts/flat_memory.py                                # 20,000 steps each, 50 jobs
    python scripts/flat_memory.py --only gru lstm --steps 5000
    python scripts/flat_memory.py --only gru --trace             # and which lines of Python hold it
    python scripts/flat_memory.py --only ngrams --without-tcache # is it glibc's?

Each run is a process of its own, with figures and TensorBoard, and evaluates 20 times. Its resident
memory is sampled every 100 steps; flat is where the median of the last fifth is at most 2 % above
that of the second fifth. Of a sweep the samples are the ends of its jobs, of ``dltrain predict`` on
a long table the time. The last result of a full run is in scripts/reliability.json.

glibc before 2.39 leaves what remains of an aligned piece in its tcache, where it keeps free pieces
apart (its bug 30723): large pieces that are taken and freed in turn then move through the heap.
``--without-tcache`` turns that cache off, and tells what is left to explain.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from baseline_commands import make_files
from dltrain.engine.malloc import KEPT, LARGEST
from reliability import write_result
from resident import own_bytes

SCRIPTS = Path(__file__).resolve().parent
BOUND = 0.02
STEPS, JOBS, ROWS = 20_000, 50, 2_000_000
EVALUATIONS = 20
WITHOUT_TCACHE = (
    "glibc.malloc.tcache_count=0"
    f":glibc.malloc.mmap_threshold={LARGEST}:glibc.malloc.trim_threshold={KEPT}"
)
"""And what dltrain sets where the user has set nothing."""

COMMON = (
    "seed=0 device=cpu trainer.log_every=50 trainer.checkpoint_seconds=5 "
    "'+callbacks.resident={_target_: resident.Resident}'"
)
TEXTS = "data=toy_reviews data.limit=800 data.test_examples=100 data.batch_size=8"
IMAGES = (
    "data=image_folder data.path={made}/many data.root={made}/cache data.size=16 data.batch_size=8"
)
PHOTOS = 3000
FAMILIES = {
    "perceptron": "model=perceptron data=gates",
    "linear": "model=linreg data=diabetes",
    "mlp": "model=mlp data=moons callbacks=[default,weights,decision_boundary]",
    "tabular": "model=tabular data=csv data.path={made}/table.csv data.missing=mean "
    "data.target=kind data.embed=[color] data.batch_size=16",
    "cnn": "model=cnn model.channels=[4,8] data.batch_size=16 data.augment.shift=1",
    "lenet5 bfloat16": "model=lenet5 data.batch_size=16 trainer.precision=bfloat16 "
    "trainer.accumulate=2 modifier=ema",
    "image folder": f"model=cnn model.channels=[4] {IMAGES}",
    "image folder, streamed": f"model=cnn model.channels=[4] {IMAGES} data.memory_limit=0",
    "gru": f"model=gru model.hidden_size=16 {TEXTS}",
    "lstm": f"model=lstm model.hidden_size=16 {TEXTS} regularizer=word_dropout",
    "lstm, bfloat16": f"model=lstm model.hidden_size=16 {TEXTS} trainer.precision=bfloat16",
    "rnn, numbers": "model=rnn model.hidden_size=16 data=adding data.length=20 data.examples=2000 "
    "data.test_examples=100 data.batch_size=16",
    "attention": f"model=attention {TEXTS}",
    "ngrams": f"model=ngrams {TEXTS}",
    "ngrams, ragged": "model=ngrams data=text_csv data.path={made}/texts.csv data.text=says "
    "data.label=mood data.root={made}/cache data.tokens_per_batch=60",
    "autoencoder": "model=autoencoder model.hidden=[32] data.batch_size=16",
    "vae": "model=vae model.hidden=[32] data.batch_size=16 task.importance_samples=5",
    "gan": "model=gan data.batch_size=16 callbacks=[default,samples]",
    "dcgan": "model=dcgan model.generator_width=4 model.discriminator_width=4 data.batch_size=16",
}
SWEEP = "model=mlp data=moons trainer.steps=40 trainer.evaluate_every=1"
TABLE = "model=mlp data=csv data.path={made}/table.csv data.missing=mean data.target=kind"


def main() -> None:
    kinds = [*FAMILIES, "sweep", "predict"]
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=STEPS, help="of each family")
    parser.add_argument("--count", type=int, default=JOBS, help="jobs of the sweep")
    parser.add_argument("--rows", type=int, default=ROWS, help="of the table for predict")
    parser.add_argument("--only", nargs="+", choices=kinds, default=kinds)
    parser.add_argument("--also", nargs="+", default=[], help="settings of every run")
    parser.add_argument("--without-tcache", action="store_true", help="in glibc's malloc")
    parser.add_argument("--trace", action="store_true", help="which lines of Python hold more")
    parser.add_argument("--keep", type=Path, help="a folder for the samples, one file a run")
    asked = parser.parse_args()
    found = {}
    with tempfile.TemporaryDirectory() as name:
        os.chdir(name)
        made = Path(name) / "made"
        make_files(made)
        write_images(made)
        for kind in asked.only:
            started = time.time()
            samples = sampled(kind, asked, made)
            if asked.keep:
                asked.keep.mkdir(exist_ok=True)
                lines = "".join(json.dumps(sample) + "\n" for sample in samples)
                (asked.keep / f"{kind.replace(' ', '_')}.jsonl").write_text(lines)
            found[kind] = verdict(samples)
            print(line(kind, found[kind], time.time() - started), flush=True)
    grown = [kind for kind, one in found.items() if one["growth"] > BOUND]
    highest = max(found, key=lambda kind: found[kind]["growth"])
    print(
        f"{len(found)} kinds, {len(grown)} grew by more than {BOUND:.0%}; the most: {highest}, "
        f"{found[highest]['growth']:+.2%}"
    )
    full = (asked.steps, asked.count, asked.rows) == (STEPS, JOBS, ROWS)
    if full and not asked.also and not asked.trace:
        result = {"steps": STEPS, "jobs": JOBS, "rows": ROWS, "grown": grown, "kinds": found}
        if asked.without_tcache:
            write_result("flat_memory_without_tcache", result)
        elif asked.only == kinds:
            write_result("flat_memory", result)
    sys.exit(1 if grown else 0)


def sampled(kind: str, asked: argparse.Namespace, made: Path) -> list[dict[str, int]]:
    """The samples of one process."""
    if kind == "predict":
        return predicted(asked.rows, made)
    if kind == "sweep":
        command = ["-m", *shlex.split(f"{COMMON} {SWEEP}"), f"seed=range({asked.count})"]
    else:
        text = FAMILIES[kind].replace("{made}", str(made))
        every = max(asked.steps // EVALUATIONS, 1)
        ends = [f"trainer.steps={asked.steps}", f"trainer.evaluate_steps={every}"]
        command = [*shlex.split(COMMON), *shlex.split(text), *ends]
    command += [*asked.also, f"output_dir={kind.replace(' ', '_').replace(',', '')}"]
    places = os.pathsep.join([str(SCRIPTS), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    told = Path(f"{len(list(Path.cwd().glob('*.jsonl')))}.jsonl")
    environment = {**os.environ, "PYTHONPATH": places, "RESIDENT": str(told.resolve())}
    if "callbacks=none" not in command:
        command.append("callbacks.tensorboard.figure_seconds=0")
    if asked.trace:
        environment["RESIDENT_TRACE"] = "1"
    if asked.without_tcache:
        environment["GLIBC_TUNABLES"] = WITHOUT_TCACHE
    done = subprocess.run(
        [sys.executable, "-m", "dltrain", *command], env=environment, capture_output=True, text=True
    )
    if done.returncode:
        sys.exit(f"{kind}: {shlex.join(command)}\n{done.stderr}")
    if asked.trace:
        print(done.stdout.partition("tracemalloc")[0][-6000:])
    samples = [json.loads(text) for text in told.read_text().splitlines()]
    ended = [sample for sample in samples if sample["step"] < 0]
    return ended if kind == "sweep" else [sample for sample in samples if sample["step"] >= 0]


def write_images(made: Path) -> None:
    """So many images that an epoch is long: each starts the processes that read streamed ones."""
    files = sorted((made / "images").glob("*/*.png"))
    for number in range(PHOTOS):
        file = files[number % len(files)]
        there = made / "many" / file.parent.name / f"{number}.png"
        there.parent.mkdir(parents=True, exist_ok=True)
        there.write_bytes(file.read_bytes())


def predicted(rows: int, made: Path) -> list[dict[str, int]]:
    """Memory of ``dltrain predict`` on a long table, ten times a second."""
    run = [sys.executable, "-m", "dltrain"]
    text = TABLE.replace("{made}", str(made))
    trained = [*shlex.split(text), "trainer.steps=20", "callbacks=none", "output_dir=table"]
    subprocess.run([*run, *trained], check=True, capture_output=True)
    head, *lines = (made / "table.csv").read_text().splitlines(keepends=True)
    long = made / "long.csv"
    with long.open("w") as file:
        file.write(head)
        for start in range(0, rows, len(lines)):
            file.writelines(lines[: rows - start])
    command = [*run, "predict", "latest", str(long), "--out", "answers.csv", "output_dir=table"]
    called = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    samples = []
    while called.poll() is None:
        samples.append({"step": len(samples), "resident": own_bytes(called.pid)})
        time.sleep(0.1)
    assert called.stderr is not None
    if called.returncode:
        sys.exit(f"predict: {shlex.join(command)}\n{called.stderr.read()}")
    return samples


def verdict(samples: list[dict[str, int]]) -> dict[str, float]:
    """Medians of the second fifth and of the last, in bytes, and how much more that is."""
    fifth = max(len(samples) // 5, 1)
    early, late = samples[fifth : 2 * fifth], samples[-fifth:]
    names = [name for name in ("resident", "objects", "used", "free") if name in samples[0]]
    medians = {
        f"{name} {when}": statistics.median(sample[name] for sample in part)
        for name in names
        for when, part in (("early", early), ("late", late))
    }
    growth = medians["resident late"] / medians["resident early"] - 1
    return {"growth": round(growth, 5), **medians}


def line(kind: str, found: dict[str, float], seconds: float) -> str:
    """A row of the report, in MiB."""
    early, late = (found[f"resident {when}"] / 2**20 for when in ("early", "late"))
    more = ""
    if "used early" in found:
        used, free = (
            (found[f"{name} late"] - found[f"{name} early"]) / 2**20 for name in ("used", "free")
        )
        objects = found["objects late"] - found["objects early"]
        more = f"  heap {used:+.1f} used {free:+.1f} free, {objects:+,.0f} objects"
    bad = "  GROWS" if found["growth"] > BOUND else ""
    return (
        f"{kind:<24}{early:7.1f} -> {late:7.1f} MiB {found['growth']:+.2%}{more}  "
        f"({seconds:.0f} s){bad}"
    )


if __name__ == "__main__":
    main()
