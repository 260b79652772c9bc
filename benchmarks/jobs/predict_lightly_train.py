import csv
from pathlib import Path

import lightly_train

model = lightly_train.load_model("out/finetuned/exported_models/exported_last.pt")
paths = sorted(Path("pictures").rglob("*.png"))
with open("predictions.csv", "w", newline="") as file:
    for path in paths:
        found = model.predict(path)
        csv.writer(file).writerow([path, model.classes[found["labels"].item()], found["scores"].item()])
