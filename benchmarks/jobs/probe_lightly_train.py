import lightly_train

if __name__ == "__main__":
    names = {0: "black", 1: "blue", 2: "green", 3: "red"}
    data = {"train": "pictures/train", "val": "pictures/val", "classes": names}
    short = {"steps": 10, "batch_size": 32, "num_workers": 0, "transform_args": {"image_size": (56, 56)}}
    frozen = {"backbone_freeze": True}
    lightly_train.train_image_classification(
        out="out/probe", data=data, model="dinov2/_vittest14", model_args=frozen, **short
    )
