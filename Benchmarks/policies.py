"""Question: how do item2vec, als and item-knn compare with gensim's and implicit's?

policies.py RIFFLE_BENCH FILE [--core N] [--threads N] [--runs N]

RIFFLE_BENCH is the built program `policy-bench`. Needs numpy, scipy, gensim and implicit. Both sides
train on the same histories with the same settings and threads; both are judged by the same ranking:
leave-one-out, all items, seen ones removed, ties against the model. Prints one line of JSON for each
pair, with the ratio of the median training times.
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
    """The median training time and the quality of a policy of Riffle."""
    words = [f"{key}={value}" for key, value in settings.items()]
    lines = []
    for _ in range(options.runs):
        out = subprocess.run(
            [options.bench, plain, "--core", str(options.core), "--threads", str(options.threads), policy] + words,
            check=True, capture_output=True, text=True).stdout
        lines.append(json.loads(out))
    seconds = statistics.median(line["seconds"] for line in lines)
    return seconds, lines[0]["recall@10"], lines[0]["ndcg@10"]


def report(name, settings, other, theirs, ours):
    print(json.dumps({
        "policy": name, "settings": settings, "users": len(HISTORIES), "items": ITEMS,
        "threads": options.threads, "runs": options.runs,
        "riffle": dict(zip(("seconds", "recall@10", "ndcg@10"), ours)),
        other: dict(zip(("seconds", "recall@10", "ndcg@10"), theirs)),
        "times_as_fast": theirs[0] / ours[0],
    }), flush=True)


def timed(train):
    """The median time of some trainings, and the last one's result."""
    times = []
    for _ in range(options.runs):
        start = time.perf_counter()
        result = train()
        times.append(time.perf_counter() - start)
    return statistics.median(times), result


def item2vec(algorithm, plain):
    from gensim.models import Word2Vec

    settings = dict(
        algorithm=algorithm, embedding_size=64, window_size=5, negative=5, ns_exponent=0.75,
        sample=0.001, n_epochs=5, learning_rate=0.025, min_count=1, dynamic_windows="true")
    ours = riffle("item2vec", settings | {"history_length": 100000, "decay": 1}, plain)
    sentences = [[str(item) for item in history] for history in TRAIN]
    seconds, model = timed(lambda: Word2Vec(
        sentences, vector_size=64, window=5, min_count=1, sg=int(algorithm == "skip-gram"), hs=0,
        negative=5, ns_exponent=0.75, sample=0.001, epochs=5, alpha=0.025, min_alpha=0.0001,
        workers=options.threads, seed=1))
    vectors = np.zeros((ITEMS, 64), np.float32)
    for item in range(ITEMS):
        if str(item) in model.wv:
            vectors[item] = model.wv[str(item)]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True) + 1e-9
    quality = judge(lambda known: np.stack([vectors[h].mean(0) for h in known]) @ vectors.T)
    report(f"item2vec {algorithm}", settings, "gensim", (seconds, *quality), ours)


def matrix(histories):
    rows = np.repeat(np.arange(len(histories)), [len(set(h)) for h in histories])
    columns = np.concatenate([sorted(set(h)) for h in histories])
    ones = np.ones(len(rows), np.float32)
    return sp.csr_matrix((ones, (rows, columns)), shape=(len(histories), ITEMS))


def als(plain):
    from implicit.cpu.als import AlternatingLeastSquares

    settings = dict(factors=64, regularization=0.05, alpha=1, iterations=15, cg_steps=3)
    ours = riffle("als", settings, plain)
    data = matrix(TRAIN)

    def train():
        model = AlternatingLeastSquares(
            factors=64, regularization=0.05, alpha=1.0, iterations=15,
            num_threads=options.threads, random_state=1)
        model.fit(data, show_progress=False)
        return model

    seconds, model = timed(train)
    folded = lambda known: model.recalculate_user(np.arange(len(known)), matrix(known)) @ model.item_factors.T
    report("als", settings, "implicit", (seconds, *judge(folded)), ours)


def item_knn(plain):
    from implicit.nearest_neighbours import CosineRecommender

    for neighbours in (20, 200):
        settings = dict(neighbours=neighbours, similarity="cosine")
        ours = riffle("item-knn", settings | {"history_length": 100000, "decay": 1}, plain)
        data = matrix(TRAIN)

        def train():
            # Theirs counts an item among its own neighbours.
            model = CosineRecommender(K=neighbours + 1, num_threads=options.threads)
            model.fit(data, show_progress=False)
            return model

        seconds, model = timed(train)
        similarity = model.similarity.tolil()
        similarity.setdiag(0)
        similarity = similarity.tocsr()
        quality = judge(lambda known: (matrix(known) @ similarity).toarray())
        report(f"item-knn {neighbours}", settings, "implicit", (seconds, *quality), ours)


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
