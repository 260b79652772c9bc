underpaint embed runs/mae ./pictures --out features.parquet
