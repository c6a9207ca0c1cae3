"""How right are all labels after n answers? On the digits, and on any folder of labelled images.

    python -m benchmarks.label_yield [--images FOLDER] [--run NAME=FOLDER ...]

FOLDER's top-level folders are the true labels; the example is Debian's tuxpaint-stamps-default.
`--run` takes local runs of labelled catalogues that are embedded already instead. An answer is the
true label of one shown image, or the majority of a shown sheet of nine. Every seed is a catalogue
of its own: a random nine tenths of the images. Writes benchmarks/label_yield.md and .svg.
"""

from __future__ import annotations

import argparse
import csv
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
import pyarrow.parquet as pq
import yaml
from sklearn.linear_model import LogisticRegression

from clusterlib.clustering.space import fit_space
from clusterlib.config import ClusteringConfig
from clusterlib.labels.diffusion import Diffusion, choose_images, fit_diffusion
from clusterlib.labels.learn import UNKNOWN, Evidence, fit_on_answers

matplotlib.use("Agg")
from matplotlib import pyplot as plt

BUDGETS = (10, 20, 50, 100, 200, 500)
SEEDS = 5
KEPT = 0.9
SHEET = 9
NONE = np.empty(0, dtype=np.intp)


@dataclass(frozen=True)
class Images:
    """Rows in the space of the fit, and their true classes."""

    name: str
    z_NP: np.ndarray
    truth_N: np.ndarray
    classes: tuple[str, ...]


Method = Callable[[Images, Diffusion, np.ndarray, int], float]


def by_image(images: Images, diffusion: Diffusion, asked: np.ndarray, seed: int) -> float:
    """Ask for one image at a time, the most telling first."""
    predicted = _learnt(images, diffusion, asked, images.truth_N[asked])
    predicted[asked] = images.truth_N[asked]
    return float((predicted == images.truth_N).mean())


def by_sheet(images: Images, diffusion: Diffusion, asked: np.ndarray, seed: int) -> float:
    """Show the nine images nearest to each asked one, of those nearer to it than to others."""
    near_LA = diffusion.nearness_LL[:, asked]
    cell_L = near_LA.argmax(axis=1)
    said = []
    for n in range(len(asked)):
        members = np.flatnonzero(cell_L == n)
        sheet = members[np.argsort(-near_LA[members, n], kind="stable")][:SHEET]
        said.append(np.bincount(images.truth_N[sheet]).argmax())
    predicted = _learnt(images, diffusion, asked, np.array(said))
    return float((predicted == images.truth_N).mean())


def by_chance(images: Images, diffusion: Diffusion, asked: np.ndarray, seed: int) -> float:
    """Random images and logistic regression: what this is measured against."""
    asked = np.random.default_rng(seed).permutation(len(images.truth_N))[: len(asked)]
    if len(np.unique(images.truth_N[asked])) < 2:
        return float((images.truth_N == images.truth_N[asked[0]]).mean())
    found = LogisticRegression(C=10, max_iter=300).fit(images.z_NP[asked], images.truth_N[asked])
    return float((found.predict(images.z_NP) == images.truth_N).mean())


METHODS: dict[str, Method] = {
    "chosen images": by_image,
    "sheets of nine": by_sheet,
    "random images, logistic regression": by_chance,
}


def _learnt(
    images: Images, diffusion: Diffusion, asked: np.ndarray, said: np.ndarray
) -> np.ndarray:
    said_L = np.full(len(images.truth_N), UNKNOWN, dtype=np.intp)
    said_L[asked] = said
    unnamed = np.full(len(images.truth_N), UNKNOWN, dtype=np.intp)
    evidence = Evidence(images.z_NP, said_L, unnamed, images.classes)
    # As apply_labels does it, but for the calibration, which changes no label.
    probe = fit_on_answers(evidence, diffusion, said_L)
    predicted: np.ndarray = probe.probabilities(images.z_NP).argmax(axis=1)
    return predicted


def measure(images: Images) -> dict[str, np.ndarray]:
    """Accuracy of all labels by method: (budgets, seeds), NaN where there are too few images."""
    found = {name: np.full((len(BUDGETS), SEEDS), np.nan) for name in METHODS}
    for seed in range(SEEDS):
        total = len(images.truth_N)
        kept = np.sort(np.random.default_rng(seed).permutation(total)[: int(KEPT * total)])
        part = Images(images.name, images.z_NP[kept], images.truth_N[kept], images.classes)
        diffusion = fit_diffusion(part.z_NP)
        most = max(b for b in BUDGETS if b <= 0.75 * len(kept))
        order = choose_images(diffusion, most, answered=NONE)  # greedy: its start is the choice
        for b, budget in enumerate(BUDGETS):
            if budget > most:
                continue
            for name, method in METHODS.items():
                found[name][b, seed] = method(part, diffusion, order[:budget], seed)
        print(f"{images.name}: seed {seed} done", flush=True)
    return found


def embed(name: str, catalog: dict[str, str], folder: Path) -> Path:
    """A run of the catalogue with the pipeline's own defaults, embedded."""
    run = folder / f"run-{name}"
    config = folder / f"{name}.yaml"
    config.write_text(yaml.safe_dump({"run_uri": str(run), "catalog": catalog}))
    for job in ("build_catalog", "embed_images"):
        subprocess.run([sys.executable, "-m", f"jobs.{job}", "--config", str(config)], check=True)
    return run


def read(name: str, run: Path) -> Images:
    """Labelled rows of a finished run, in the space that fit_clusters makes by default."""
    parts = [pq.read_table(path) for path in sorted((run / "embeddings").glob("*.parquet"))]
    rows = {}
    for part in parts:
        vectors = part["embedding"].combine_chunks()
        x_ND = vectors.flatten().to_numpy().reshape(len(part), -1)
        rows |= dict(zip(part["row_id"].to_pylist(), x_ND, strict=True))
    frozen = [pq.read_table(path) for path in sorted((run / "catalog").glob("*.parquet"))]
    labels = {
        row["row_id"]: row["label"]
        for part in frozen
        for row in part.select(["row_id", "label"]).to_pylist()
        if row["row_id"] in rows
    }
    ids = sorted(labels)
    classes, truth_N = np.unique([labels[row] for row in ids], return_inverse=True)
    x_ND = np.stack([rows[row] for row in ids]).astype(np.float32)
    defaults = ClusteringConfig()
    space = fit_space(x_ND, dim=defaults.pca_dim, scaling=defaults.scaling)
    z_NP = space.transform(x_ND)
    return Images(name, z_NP, truth_N, tuple(str(c) for c in classes))


def labelled_folder(images: Path, table: Path) -> dict[str, str]:
    """A table of the images below a folder, each with its top-level folder as label."""
    with table.open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(["uri", "kind"])
        for path in sorted(images.rglob("*")):
            if path.suffix.lower() in (".png", ".jpg", ".jpeg"):
                writer.writerow([path, path.relative_to(images).parts[0]])
    return {"source": str(table), "label_column": "kind"}


def _lines(images: Images, found: dict[str, np.ndarray]) -> Iterator[str]:
    yield f"## {images.name}: {len(images.truth_N):,} images, {len(images.classes)} classes\n"
    yield "| answers | " + " | ".join(METHODS) + " |"
    yield "|---" * (len(METHODS) + 1) + "|"
    for b, budget in enumerate(BUDGETS):
        cells = []
        for name in METHODS:
            values = found[name][b]
            cell = f"{np.median(values):.3f} ({values.min():.3f}–{values.max():.3f})"
            cells.append("–" if np.isnan(values).any() else cell)
        yield f"| {budget} | " + " | ".join(cells) + " |"
    yield ""


def main() -> None:
    """Measure, print, and write the page and the plot."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=Path, help="folder whose top-level folders are labels")
    parser.add_argument("--run", action="append", default=[], metavar="NAME=FOLDER")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        runs = dict(item.split("=", 1) for item in args.run)
        if not runs:
            digits = {"source": f"digits:{folder / 'digits'}", "label_column": "digit"}
            runs["digits"] = str(embed("digits", digits, folder))
            if args.images:
                catalog = labelled_folder(args.images, folder / "images.csv")
                runs[args.images.name] = str(embed(args.images.name, catalog, folder))
        sets = [read(name, Path(run)) for name, run in runs.items()]
    figure, axes = plt.subplots(1, len(sets), figsize=(5 * len(sets), 4), squeeze=False)
    text = [
        "# Accuracy of all labels after n answers\n",
        "`make bench-labels`. Median over five seeds (least–most); a seed is a random nine tenths",
        "of the images. In the space that fit_clusters makes with its defaults.\n",
    ]
    for axis, images in zip(axes[0], sets, strict=True):
        found = measure(images)
        text += _lines(images, found)
        for name, values in found.items():
            axis.plot(BUDGETS, np.median(values, axis=1), marker="o", label=name)
            axis.fill_between(BUDGETS, values.min(axis=1), values.max(axis=1), alpha=0.2)
        axis.set(xscale="log", xlabel="answers", ylabel="accuracy of all labels", title=images.name)
        axis.grid(alpha=0.3)
    axes[0, 0].legend()
    figure.tight_layout()
    here = Path(__file__).with_suffix("")
    figure.savefig(here.with_suffix(".svg"), metadata={"Date": None})
    text.append("![Accuracy by answers](label_yield.svg)\n")
    here.with_suffix(".md").write_text("\n".join(text))
    print("\n".join(text))


if __name__ == "__main__":
    main()
