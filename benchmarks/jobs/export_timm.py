import timm
from safetensors.torch import save_file

model = timm.create_model("test_vit", num_classes=0)
save_file(model.state_dict(), "exported.safetensors")
