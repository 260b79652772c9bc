lightly-train embed out=features.csv data=pictures checkpoint=out/pretrained/checkpoints/last.ckpt format=csv image_size=56 num_workers=0 accelerator=cpu
