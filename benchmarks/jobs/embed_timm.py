import pyarrow as pa
import pyarrow.parquet as pq
import timm
import torch
from torch.utils.data import DataLoader

model = timm.create_model("test_vit", num_classes=0).eval()
transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
dataset = timm.data.create_dataset("", "pictures", transform=transform)
with torch.inference_mode():
    features = torch.cat([model(images) for images, _ in DataLoader(dataset, batch_size=64)])
table = pa.table({"path": dataset.filenames(), "embedding": features.tolist()})
pq.write_table(table, "features.parquet")
