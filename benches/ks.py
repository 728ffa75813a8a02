"""Prints how often the two-sample tests on other libraries' sketches reject, in the rows of aggregator/examples/ks_table.rs.

Apache DataSketches has `ks_test` on KLL sketches; whylogs computes Kolmogorov-Smirnov's distance and p-value from the quantiles of the
KLL sketches in two profiles. Both at their defaults. They are slow beside ours, so the rows have fewer pairs where n is large.
"""

import sys
import warnings

import numpy
import pandas
import datasketches

warnings.filterwarnings("ignore")

import whylogs  # noqa: E402
from whylogs.viz.drift.column_drift_algorithms import KS  # noqa: E402

ALPHA = 0.05
ROWS = [(100, 400), (1_000, 400), (10_000, 200), (100_000, 60), (1_000_000, 12)]


def kll(values):
    sketch = datasketches.kll_doubles_sketch(200)
    sketch.update(values)
    return sketch


def by_datasketches(a, b):
    return bool(datasketches.ks_test(kll(a), kll(b), ALPHA))


def column(values):
    return whylogs.log(pandas.DataFrame({"x": values})).view().get_column("x")


def by_whylogs(a, b):
    score = KS().calculate(column(b), column(a))
    return bool(score.pvalue <= ALPHA)


def main():
    for n, pairs in ROWS:
        random = numpy.random.default_rng(n)
        shift = 2.4 * (2.0 / n) ** 0.5
        for name, test in [("DataSketches KLL ks_test", by_datasketches), ("whylogs KS", by_whylogs)]:
            shares = []
            for moved in (0.0, shift):
                rejected = sum(test(random.normal(size=n), moved + random.normal(size=n)) for _ in range(pairs))
                shares.append(rejected / pairs)
            print(f"{name:<28} {n:>10} {pairs:>6} {shares[0]:>12.3f} {shares[1]:>8.3f}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
