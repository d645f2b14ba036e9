"""Question: how do item2vec, als and item-knn compare with gensim's and implicit's?

policies.py RIFFLE_BENCH FILE [--core N] [--threads N] [--runs N]

RIFFLE_BENCH is the built program `policy-bench`. Needs numpy, scipy, gensim and implicit. Both sides
train on the same histories with the same settings and threads; both are judged by the same ranking:
leave-one-out, all items, seen ones removed, ties against the model. They train by turns, run i with seed i.
Prints one line of JSON for each pair: every run's seconds, Recall@10 and NDCG@10, the median time, the
mean quality, and the ratio of the median training times.
"""
import argparse
import gzip
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter

parser = argparse.ArgumentParser()
parser.add_argument("bench")
parser.add_argument("file")
parser.add_argument("--core", type=int, default=0)
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--runs", type=int, default=3)
parser.add_argument("--only", default="item2vec-skip-gram,item2vec-cbow,als,item-knn")
options = parser.parse_args()
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"

import numpy as np  # noqa: E402  (after the thread counts are set)
import scipy.sparse as sp  # noqa: E402


def load(path, core):
    opener = gzip.open if path.endswith(".gz") else open
    with opener(path, "rt") as file:
        next(file)
        rows = [tuple(map(int, line.split("\t")[:2])) for line in file]
    while core:
        items = Counter(item for _, item in rows)
        users = Counter(user for user, _ in rows)
        kept = [row for row in rows if items[row[1]] >= core and users[row[0]] >= core]
        if len(kept) == len(rows):
            break
        rows = kept
    numbers = {item: i for i, item in enumerate(sorted({item for _, item in rows}))}
    histories = {}
    for user, item in rows:
        histories.setdefault(user, []).append(numbers[item])
    return rows, [h for h in histories.values() if len(h) >= 3], len(numbers)


ROWS, HISTORIES, ITEMS = load(options.file, options.core)
TRAIN = [h[:-2] for h in HISTORIES]
KNOWN = [h[:-1] for h in HISTORIES]
TARGETS = [h[-1] for h in HISTORIES]


def judge(scores_of):
    """Recall@10 and NDCG@10 of a function from a list of histories to scores, one row for each."""
    ranks = []
    for start in range(0, len(KNOWN), 256):
        known = KNOWN[start : start + 256]
        scores = np.array(scores_of(known), dtype=np.float64)
        for row, seen, target in zip(scores, known, TARGETS[start : start + 256]):
            right = row[target]
            row[seen] = -np.inf
            row[target] = right
            ranks.append(int((row >= right).sum()) - 1)
    ranks = np.array(ranks)
    return float((ranks < 10).mean()), float(np.where(ranks < 10, 1 / np.log2(ranks + 2), 0).mean())


def riffle(policy, settings, plain):
    """The training time and the quality of a policy of Riffle."""
    words = [f"{key}={value}" for key, value in settings.items()]
    out = subprocess.run(
        [options.bench, plain, "--core", str(options.core), "--threads", str(options.threads), policy] + words,
        check=True, capture_output=True, text=True).stdout
    line = json.loads(out)
    return line["seconds"], line["recall@10"], line["ndcg@10"]


def compare(name, other, settings, extra, train, quality, plain, seeds):
    """Trains both by turns, with another seed each time where there are seeds, and reports both.

    `train(seed)` gives the other side's model, `quality(model)` its Recall@10 and NDCG@10.
    """
    ours, theirs = [], []
    for seed in range(1, options.runs + 1):
        ours.append(riffle(name.split()[0], settings | extra | ({"seed": seed} if seeds else {}), plain))
        start = time.perf_counter()
        model = train(seed)
        seconds = time.perf_counter() - start
        theirs.append((seconds, *quality(model)))

    def summary(runs):
        return {
            "seconds": statistics.median(run[0] for run in runs),
            "recall@10": statistics.mean(run[1] for run in runs), "ndcg@10": statistics.mean(run[2] for run in runs),
            "runs": [[round(value, 4) for value in run] for run in runs],
        }

    print(json.dumps({
        "policy": name, "settings": settings, "users": len(HISTORIES), "items": ITEMS,
        "threads": options.threads, "riffle": summary(ours), other: summary(theirs),
        "times_as_fast": summary(theirs)["seconds"] / summary(ours)["seconds"],
    }), flush=True)


def item2vec(algorithm, plain):
    from gensim.models import Word2Vec

    settings = dict(
        algorithm=algorithm, embedding_size=64, window_size=5, negative=5, ns_exponent=0.75,
        sample=0.001, n_epochs=5, learning_rate=0.025, min_count=1, dynamic_windows="true")
    sentences = [[str(item) for item in history] for history in TRAIN]

    def train(seed):
        return Word2Vec(
            sentences, vector_size=64, window=5, min_count=1, sg=int(algorithm == "skip-gram"), hs=0,
            negative=5, ns_exponent=0.75, sample=0.001, epochs=5, alpha=0.025, min_alpha=0.0001,
            workers=options.threads, seed=seed)

    def quality(model):
        vectors = np.zeros((ITEMS, 64), np.float32)
        for item in range(ITEMS):
            if str(item) in model.wv:
                vectors[item] = model.wv[str(item)]
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True) + 1e-9
        return judge(lambda known: np.stack([vectors[h].mean(0) for h in known]) @ vectors.T)

    compare(
        f"item2vec {algorithm}", "gensim", settings, {"history_length": 100000, "decay": 1}, train, quality, plain,
        seeds=True)


def matrix(histories):
    rows = np.repeat(np.arange(len(histories)), [len(set(h)) for h in histories])
    columns = np.concatenate([sorted(set(h)) for h in histories])
    ones = np.ones(len(rows), np.float32)
    return sp.csr_matrix((ones, (rows, columns)), shape=(len(histories), ITEMS))


def als(plain):
    from implicit.cpu.als import AlternatingLeastSquares

    settings = dict(factors=64, regularization=0.05, alpha=1, iterations=15, cg_steps=3)
    data = matrix(TRAIN)

    def train(seed):
        model = AlternatingLeastSquares(
            factors=64, regularization=0.05, alpha=1.0, iterations=15,
            num_threads=options.threads, random_state=seed)
        model.fit(data, show_progress=False)
        return model

    def quality(model):
        return judge(
            lambda known: model.recalculate_user(np.arange(len(known)), matrix(known)) @ model.item_factors.T)

    compare("als", "implicit", settings, {}, train, quality, plain, seeds=True)


def item_knn(plain):
    from implicit.nearest_neighbours import CosineRecommender

    for neighbours in (20, 200):
        settings = dict(neighbours=neighbours, similarity="cosine")
        data = matrix(TRAIN)

        def train(seed):
            # Theirs counts an item among its own neighbours.
            model = CosineRecommender(K=neighbours + 1, num_threads=options.threads)
            model.fit(data, show_progress=False)
            return model

        def quality(model):
            similarity = model.similarity.tolil()
            similarity.setdiag(0)
            similarity = similarity.tocsr()
            return judge(lambda known: (matrix(known) @ similarity).toarray())

        compare(
            f"item-knn {neighbours}", "implicit", settings, {"history_length": 100000, "decay": 1}, train, quality,
            plain, seeds=False)


with tempfile.NamedTemporaryFile("w", suffix=".tsv") as plain:
    plain.write("user\titem\n")
    for user, item in ROWS:
        plain.write(f"{user}\t{item}\n")
    plain.flush()
    for name in options.only.split(","):
        print(f"{name} ...", file=sys.stderr)
        if name.startswith("item2vec-"):
            item2vec(name.removeprefix("item2vec-"), plain.name)
        elif name == "als":
            als(plain.name)
        elif name == "item-knn":
            item_knn(plain.name)
