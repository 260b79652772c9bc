import csv
from pathlib import Path

from transformers import pipeline

classify = pipeline("image-classification", "out/finetuned", top_k=1)
paths = sorted(map(str, Path("pictures").rglob("*.png")))
with open("predictions.csv", "w", newline="") as file:
    for path, (best,) in zip(paths, classify(paths, batch_size=64)):
        csv.writer(file).writerow([path, best["label"], best["score"]])
