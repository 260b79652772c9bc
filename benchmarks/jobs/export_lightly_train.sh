lightly-train export out=exported.pt checkpoint=out/pretrained/checkpoints/last.ckpt format=torch_state_dict
