from datasets import load_dataset
from transformers import AutoImageProcessor, Trainer, TrainingArguments, ViTMAEForPreTraining

processor = AutoImageProcessor.from_pretrained("mae")
model = ViTMAEForPreTraining.from_pretrained("mae")
pictures = load_dataset("imagefolder", data_dir="pictures", split="train")
pictures.set_transform(lambda batch: processor([image.convert("RGB") for image in batch["image"]], return_tensors="pt"))
arguments = TrainingArguments("out/pretrained", num_train_epochs=1, remove_unused_columns=False, report_to="none")
trainer = Trainer(model, arguments, train_dataset=pictures)
trainer.train()
trainer.save_model()
processor.save_pretrained("out/pretrained")
