from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from transformers import pipeline

extract = pipeline("image-feature-extraction", "encoder", pool=True)
paths = sorted(map(str, Path("pictures").rglob("*.png")))
features = [feature for (feature,) in extract(paths, batch_size=64)]
pq.write_table(pa.table({"path": paths, "embedding": features}), "features.parquet")
