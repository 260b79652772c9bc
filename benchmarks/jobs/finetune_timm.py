import timm
import torch
from timm.optim import create_optimizer_v2
from torch.utils.data import DataLoader

model = timm.create_model("test_vit", num_classes=4)
config = timm.data.resolve_model_data_config(model)
train = timm.data.create_dataset("", "pictures/train", transform=timm.data.create_transform(**config, is_training=True))
val = timm.data.create_dataset("", "pictures/val", transform=timm.data.create_transform(**config))
optimizer = create_optimizer_v2(model, opt="adamw", lr=1e-3)
for epoch in range(2):
    model.train()
    for images, labels in DataLoader(train, batch_size=32, shuffle=True):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()
model.eval()
with torch.inference_mode():
    right = sum((model(images).argmax(1) == labels).sum().item() for images, labels in DataLoader(val, batch_size=64))
print(right / len(val))
torch.save(model.state_dict(), "finetuned.pth")
