from transformers import AutoModel

AutoModel.from_pretrained("out/pretrained").save_pretrained("exported")
