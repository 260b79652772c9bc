import numpy as np
from datasets import load_dataset
from transformers import AutoImageProcessor, AutoModelForImageClassification, Trainer, TrainingArguments

pictures = load_dataset("imagefolder", data_dir="pictures")
names = pictures["train"].features["label"].names
processor = AutoImageProcessor.from_pretrained("encoder")
model = AutoModelForImageClassification.from_pretrained("encoder", id2label=dict(enumerate(names)))


def transform(batch):
    images = processor([image.convert("RGB") for image in batch["image"]], return_tensors="pt")
    return {**images, "labels": batch["label"]}


def accuracy(predicted):
    return {"accuracy": np.mean(predicted.predictions.argmax(1) == predicted.label_ids)}


pictures = pictures.with_transform(transform)
arguments = TrainingArguments("out/finetuned", num_train_epochs=2, remove_unused_columns=False, report_to="none")
trainer = Trainer(
    model,
    arguments,
    train_dataset=pictures["train"],
    eval_dataset=pictures["validation"],
    compute_metrics=accuracy,
)
trainer.train()
print(trainer.evaluate()["eval_accuracy"])
trainer.save_model()
processor.save_pretrained("out/finetuned")
