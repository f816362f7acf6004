"""A dataset's split, features and a graph as arrays, cell by cell as in a notebook.

python examples/features_in_a_notebook.py data sample                    # after `make demo`
python examples/features_in_a_notebook.py data sample vgg16 cooccurrence  # another encoder, another graph of items
"""

import sys
from pathlib import Path

import numpy as np

from mmprep.pipeline.features.reader import FeatureSet
from mmprep.pipeline.graphs.reader import read_graph
from mmprep.pipeline.layout import Layout
from mmprep.pipeline.tables.interactions import read_splits
from mmprep.pipeline.tables.schemas import ITEMS

root, dataset, *chosen = sys.argv[1:]
encoder, graph = chosen or ("minilm", "knn/minilm")
layout = Layout(Path(root), dataset)

# A polars table. Row n is item n in all arrays below; `item_id` is the id as published.
items = ITEMS.read(layout.items)

# SciPy matrices of ones, [n_users, n_items] each.
splits = read_splits(layout)
print(f"train {splits.train.shape}: {splits.train.nnz} interactions; val {splits.val.nnz}, test {splits.test.nnz}")

# Raises DataError if `filter` has kept other items since. The matrix is float32 [n_items, dimension]; an item without a
# photo or text has the mean of the others or zeros, by extract.missing. `features.provenance` records their origin.
features = FeatureSet.of(layout, encoder).vectors()
matrix = features.matrix(splits.n_items)
print(f"{encoder} {matrix.shape}: {len(features.items)} items with a vector")

# A SciPy matrix of weights, [n_items, n_items]. Raises DataError if the graph's inputs have changed since.
weights = read_graph(layout, graph)
print(f"{graph} {weights.shape}: {weights.nnz} edges")

popular = int(np.argmax(splits.train.sum(axis=0)))
row = weights[[popular]]
print(f"neighbours of {items['item_id'][popular]} {items['title'][popular]}:")
for place in np.argsort(-row.data, kind="stable")[:5]:
    neighbour = int(row.indices[place])
    print(f"  {row.data[place]:.3f} {items['item_id'][neighbour]} {items['title'][neighbour]}")
