"""Features from any PyTorch network; through the row cache, each photo is encoded only once.

Models of timm and sentence-transformers need no code, even with your own weights (docs/encoders.md). For another
network replace `network` and `transform`, and describe them in `made_by`. Run it after `mmprep filter`:

    python examples/own_encoder.py data sample && mmprep graph --graph knn/own
"""

import os
import sys
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch

from mmprep.pipeline.cache.row_cache import RowCache, cache_place
from mmprep.pipeline.features.vectors import PACKED_SCHEMA, FeatureSpec, VectorBatch, concatenate, unpack
from mmprep.pipeline.features.writer import write_features
from mmprep.pipeline.layout import Layout
from mmprep.pipeline.params import Params
from mmprep.pipeline.photos.decode import decode_photo
from mmprep.pipeline.photos.folder import PhotoFiles
from mmprep.pipeline.tables.provenance import record
from mmprep.pipeline.tables.schemas import ITEMS

torch.manual_seed(0)
network = torch.nn.Sequential(torch.nn.Conv2d(3, 48, 8, stride=8), torch.nn.AdaptiveMaxPool2d(1), torch.nn.Flatten())


def transform(content: bytes) -> torch.Tensor:
    """Decode the bytes of a photo to [3, 64, 64]."""
    return torch.from_numpy(np.asarray(decode_photo(content).resize((64, 64)), np.float32) / 255).permute(2, 0, 1)


# The fingerprint: everything that a vector depends on besides the photo's bytes. Each has its own folder in the cache.
made_by = {"encoder": "own", "library": "torch", "transform": "64 x 64", "precision": "fp32", "stored_as": "f32"}
made_by["weights"] = sha256(b"".join(value.numpy().tobytes() for value in network.state_dict().values())).hexdigest()

root, dataset = sys.argv[1:]
layout = Layout(Path(root), dataset)
items, names = ITEMS.read(layout.items, ["item", "image"]).drop_nulls()
with PhotoFiles(layout.raw) as photos, RowCache(cache_place(os.environ), made_by, PACKED_SCHEMA) as cache:
    keys = [sha256(photos.read(name)).digest() for name in names]
    cache.refresh()
    missing = [(key, name) for key, name in dict(zip(keys, names, strict=True)).items() if key not in cache]
    for chunk in (missing[start : start + 32] for start in range(0, len(missing), 32)):
        with torch.inference_mode():
            vectors = network(torch.stack([transform(photos.read(name)) for _, name in chunk]))
        cache.add([key for key, _ in chunk], VectorBatch(vectors.numpy()).cast_checked("f32", chunk).pack())
    cache.compact()  # merges the small shards that batches made
    features = concatenate([unpack(batch, "f32") for batch in cache.gather(keys)])
contents = sha256(b"".join(item.to_bytes(4, "little") + key for item, key in zip(items, keys, strict=True))).hexdigest()
form = {"pretrained": False, "seed": 0, "form": "vector", "dimension": features.dimension}
notes = {"encoder": {**made_by, **form}, "contents_sha256": contents, "missing": "mean", "replaced_by_noise": 0}
provenance = record("extract", layout, Params(), [layout.items], ["torch"], **notes)
with write_features(layout.features("own"), FeatureSpec("vector", features.dimension), provenance) as writer:
    writer.append(items.to_numpy(), features)
print(f"{len(keys)} photos, {len(missing)} of them through the network")
