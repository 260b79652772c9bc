from pathlib import Path

from sklearn.linear_model import LogisticRegression
from transformers import pipeline

extract = pipeline("image-feature-extraction", "encoder", pool=True)


def features(folder):
    paths = sorted(Path(folder).rglob("*.png"))
    rows = [feature for (feature,) in extract([str(path) for path in paths], batch_size=64)]
    return rows, [path.parent.name for path in paths]


probe = LogisticRegression(max_iter=1000).fit(*features("pictures/train"))
print(probe.score(*features("pictures/val")))
