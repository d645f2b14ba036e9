"""Filtered search of Riffle, FAISS and hnswlib on the same vectors and filters: see search.sh."""
import argparse
import json
import os
import subprocess
import sys
import time

import faiss
import numpy as np

import search_data

WIDTH, COUNT, TARGET = 64, 100, 0.98
faiss.omp_set_num_threads(1)


def main():
    parse = argparse.ArgumentParser()
    parse.add_argument("bench")
    parse.add_argument("work")
    parse.add_argument("--rows", type=int, required=True)
    parse.add_argument("--noise", type=float, required=True)
    parse.add_argument("--graphs", default="faiss,hnswlib")
    options = parse.parse_args()
    graphs = [graph for graph in options.graphs.split(",") if graph]
    rows, noise = options.rows, options.noise
    folder = f"{options.work}/{rows}-{noise}"
    os.makedirs(folder, exist_ok=True)
    if not os.path.exists(f"{folder}/mask-0.001.u64"):
        search_data.main(folder, rows, noise)
    vectors = np.fromfile(f"{folder}/rows.f32", dtype=np.float32).reshape(-1, WIDTH)
    queries = np.fromfile(f"{folder}/queries.f32", dtype=np.float32).reshape(-1, WIDTH)
    print(f"\n## {rows:,} x {WIDTH}, noise {noise}, top {COUNT}, one core\n", flush=True)

    results = {share: [] for share in search_data.SHARES}

    def riffle():
        # Without a partition below half a million rows, as Riffle itself has it.
        ways = "bytes,searcher" if rows >= 500_000 else "bytes"
        out = subprocess.run(
            [options.bench, folder, "--ways", ways, "--rounds", "2"], check=True,
            capture_output=True, text=True).stdout
        for line in map(json.loads, out.splitlines()):
            if "share" in line:
                name = "Riffle " + ("exact" if line["way"] == "bytes" else line["method"])
                results[f"{line['share']:g}"].append(
                    (name, line["p50_ms"], line["recall"], len(queries)))
            else:
                print("- Riffle " + line["way"] + ": " + json.dumps(line), flush=True)

    def build(name, make):
        start = time.process_time()
        index = make()
        print(f"- {name}: built in {time.process_time() - start:.1f} s", flush=True)
        return index

    riffle()
    flat = build("FAISS flat", lambda: added(faiss.IndexFlatIP(WIDTH), vectors))
    lists = round(rows ** 0.5)

    def make_lists():
        index = faiss.IndexIVFFlat(
            faiss.IndexFlatIP(WIDTH), WIDTH, lists, faiss.METRIC_INNER_PRODUCT)
        index.train(vectors[np.random.default_rng(5).permutation(rows)[:64 * lists]])
        return added(index, vectors)

    ivf = build(f"FAISS IVF{lists}", make_lists)
    hnsw = None
    if "faiss" in graphs:
        def make_graph():
            index = faiss.IndexHNSWFlat(WIDTH, 16, faiss.METRIC_INNER_PRODUCT)
            index.hnsw.efConstruction = 100
            return added(index, vectors)
        hnsw = build("FAISS HNSW16", make_graph)
    other = None
    if "hnswlib" in graphs:
        import hnswlib

        def make_other():
            index = hnswlib.Index(space="ip", dim=WIDTH)
            index.init_index(max_elements=rows, ef_construction=100, M=16)
            index.set_num_threads(1)
            index.add_items(vectors, num_threads=1)
            return index
        other = build("hnswlib", make_other)

    for share in search_data.SHARES:
        words = np.fromfile(f"{folder}/mask-{share}.u64", dtype=np.uint8)
        allowed = np.unpackbits(words, bitorder="little")[:rows].astype(bool)
        selector = faiss.IDSelectorBitmap(words)
        few = queries[:64] if rows >= 1_000_000 else queries
        parameters = faiss.SearchParameters(sel=selector) if share != "1" else None
        wanted = min(COUNT, int(allowed.sum()))
        truth = [flat.search(query[None], COUNT, params=parameters)[1][0][:wanted] for query in few]

        def measure(name, search, few=few):
            times, found, total = [], 0, 0
            for query, expected in zip(few, truth):
                start = time.process_time()
                ids = search(query[None])
                times.append(time.process_time() - start)
                found += len(np.intersect1d(ids, expected))
                total += len(expected)
            return name, float(np.median(times)) * 1e3, found / max(1, total), len(few)

        def sweep(name, settings, search, few=few):
            """The quickest setting that reaches the recall, or the best there is."""
            best = None
            for setting in settings:
                result = measure(f"{name} {setting}", lambda query: search(query, setting), few)
                if best is None or result[2] > best[2]:
                    best = result
                if result[2] >= TARGET or result[1] > 60:
                    break
            results[share].append(best)

        results[share].append(
            measure("FAISS flat", lambda query: flat.search(query, COUNT, params=parameters)[1]))
        probes = [p for p in (1, 2, 4, 8, 16, 32, 64, 96, 128, 192, 256, 512) if p < lists] + [lists]
        chosen = {"sel": selector} if share != "1" else {}
        sweep("FAISS IVF nprobe", probes, lambda query, probe: ivf.search(
            query, COUNT, params=faiss.SearchParametersIVF(nprobe=probe, **chosen))[1])
        efforts = [100, 150, 200, 300, 400, 600, 800, 1200, 1600, 2400, 4800]
        if hnsw is not None:
            sweep("FAISS HNSW ef", efforts, lambda query, effort: hnsw.search(
                query, COUNT, params=faiss.SearchParametersHNSW(efSearch=effort, **chosen))[1])
        if other is not None:
            def search_other(query, effort):
                other.set_ef(effort)
                accepts = None if share == "1" else lambda label: allowed[label]
                try:
                    return other.knn_query(query, COUNT, num_threads=1, filter=accepts)[0]
                except RuntimeError:
                    # It found fewer than it was asked for, and then gives none.
                    return np.empty(0, dtype=np.int64)
            # A Python function for every row it meets: 8 queries are enough to wait for.
            sweep("hnswlib ef", efforts, search_other, few if share == "1" else few[:8])

    riffle()
    for share in search_data.SHARES:
        merged = {}
        for name, milliseconds, recall, asked in results[share]:
            merged.setdefault(name, []).append((milliseconds, recall, asked))
        ours = min(
            min(run[0] for run in runs) for name, runs in merged.items()
            if name.startswith("Riffle"))
        print(f"\n{float(share):.1%} allowed\n\n| search | ms | recall@{COUNT} | times Riffle's |\n|---|---|---|---|")
        for name, runs in merged.items():
            best = min(run[0] for run in runs)
            print(f"| {name} | {best:.3f} | {runs[0][1]:.4f} | {best / ours:.1f} |")
    sys.stdout.flush()


def added(index, vectors):
    index.add(vectors)
    return index


if __name__ == "__main__":
    main()
